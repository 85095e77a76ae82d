//! Which hosts can be reached at an address (RFC 6890 and the registry that it began).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which hosts can be reached at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// None: it is unspecified, multicast, broadcast or reserved.
    None,
    /// This host.
    Host,
    /// Hosts on the same link.
    Link,
    /// Hosts of private networks.
    Private,
    /// All hosts.
    Public,
}

impl Reach {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => embedded(v6).map_or_else(|| of_v6(v6), of_v4),
        }
    }

    /// Whether an address of this kind may be advertised between a client and a server that reach each other at an address of
    /// kind `other`: link-local addresses never, loopback on the same host alone, private ones unless `other` is public.
    pub(crate) fn is_for(self, other: Self) -> bool {
        match self {
            Self::None | Self::Link => false,
            Self::Host => other == Self::Host,
            Self::Private => other != Self::Public,
            Self::Public => true,
        }
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [127, ..] => Reach::Host,
        [169, 254, ..] => Reach::Link,
        [0, ..] | [192, 0, 0, _] | [224..=255, ..] => Reach::None,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Host,
        [0xfe80..=0xfebf, ..] => Reach::Link,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Reach::Private,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::None,
    }
}

/// The IPv4 address that is meant: mapped (RFC 4291), 6to4 (RFC 3056), translated (RFC 6052 and RFC 8215).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        [0x0064, 0xff9b, 0 | 1, .., high, low] => Some(from(high, low)),
        _ => None,
    }
}
