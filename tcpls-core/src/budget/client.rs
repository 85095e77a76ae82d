//! Whose share a holder is part of.

use std::net::IpAddr;

use super::HolderId;

/// The client that a holder is charged to: an address prefix, because addresses below it cost nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(Option<Prefix>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Prefix {
    /// All 32 bits of an IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl Client {
    /// A holder that shares with no other, because its address does not identify its client. The addresses of trusted
    /// proxies do not, and neither do unknown ones.
    pub const ALONE: Self = Self(None);

    /// The client at `address`: an IPv4 address, or the /64 that an IPv6 address is in. An IPv4-mapped IPv6 address is the
    /// IPv4 address that it maps.
    pub fn at(address: IpAddr) -> Self {
        Self(Some(match address.to_canonical() {
            IpAddr::V4(address) => Prefix::V4(address.to_bits()),
            IpAddr::V6(address) => Prefix::V6((address.to_bits() >> 64) as u64),
        }))
    }

    /// Returns the first 64 bits of the client's IPv6 address; `None` for other clients. Sites have shorter prefixes, such as
    /// its first 48.
    pub fn ipv6_prefix(self) -> Option<u64> {
        match self.0? {
            Prefix::V4(_) => None,
            Prefix::V6(prefix) => Some(prefix),
        }
    }

    /// Holders that are compared with each other: those of one prefix, authenticated ones apart.
    pub(super) fn group(self, authenticated: bool, holder: HolderId) -> Group {
        Group { authenticated, share: self.0.map_or(Share::Of(holder), Share::Prefix) }
    }
}

/// Holders that are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    authenticated: bool,
    share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    Prefix(Prefix),
    Of(HolderId),
}

impl Group {
    pub(super) fn is_authenticated(self) -> bool {
        self.authenticated
    }
}
