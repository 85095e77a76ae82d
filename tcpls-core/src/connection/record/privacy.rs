//! Pseudonyms: what a recording has in place of tokens, names, session IDs and addresses.
//!
//! A pseudonym is as long as the value, and the same for the same value within a file: a session treats them alike. It is
//! computed with a key that is made for the file and never written.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::crypto::aead::Prf;
use crate::crypto::alpn;
use crate::crypto::rng::Seed;
use crate::wire::hello::{ClientHello, Cover};
use crate::wire::ids::{SessionId, Token};

/// What a recording hides.
#[derive(Clone)]
pub struct Privacy {
    /// `None` in a replay, whose values are pseudonyms already.
    key: Option<Arc<Prf>>,
    is_full: bool,
}

impl fmt::Debug for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Privacy").field("is_full", &self.is_full).finish_non_exhaustive()
    }
}

impl Privacy {
    /// Hides stream data, texts, option values, names, addresses, session IDs and tokens. All sessions of one file use the
    /// same `seed`, which must be unpredictable and is used for nothing else.
    pub fn redacted(seed: &Seed) -> Self {
        Self { key: Some(Arc::new(Prf::new(&seed.0))), is_full: false }
    }

    /// Hides only session IDs and tokens. The file contains all data of the session.
    pub fn full(seed: &Seed) -> Self {
        Self { is_full: true, ..Self::redacted(seed) }
    }

    pub(super) const fn replaying(is_full: bool) -> Self {
        Self { key: None, is_full }
    }

    /// Whether data, texts, names and addresses are kept.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    fn hash(&self, label: &[u8], value: &[u8]) -> Option<[u8; 32]> {
        let key = self.key.as_ref()?;
        Some(key.sign(&[label, &[0], value]))
    }

    pub(super) fn token(&self, token: Token) -> Token {
        self.hash(b"token", &token.0).map_or(token, Token)
    }

    pub(in crate::connection) fn session(&self, id: SessionId) -> SessionId {
        let hash = self.hash(b"session", &id.0);
        hash.and_then(|hash| hash.first_chunk().copied()).map_or(id, SessionId)
    }

    /// The number of a server's instance, which each of its clients gets. 0, which is none, is kept.
    pub(in crate::connection) fn instance(&self, number: u64) -> u64 {
        let hash = self.hash(b"instance", &number.to_be_bytes()).filter(|_| number != 0);
        let first = hash.and_then(|hash| hash.first_chunk().copied());
        first.map_or(number, |bytes| u64::from_be_bytes(bytes).max(1))
    }

    /// A name of as many letters. Equality of letter case is not kept.
    pub(in crate::connection) fn name(&self, name: &[u8]) -> Vec<u8> {
        if self.is_full || self.key.is_none() {
            return name.to_vec();
        }
        let mut letters = Vec::with_capacity(name.len());
        for counter in 0u32.. {
            if letters.len() >= name.len() {
                break;
            }
            let label = [b"name".as_slice(), &counter.to_be_bytes()].concat();
            letters.extend(self.hash(&label, name).unwrap_or_default().iter().map(|byte| b'a' + byte % 26));
        }
        letters.truncate(name.len());
        letters
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.name(name.as_bytes())).into_owned()
    }

    /// The name of an application protocol. The prefix that says TCPLS is kept.
    pub(super) fn protocol(&self, name: &[u8]) -> Vec<u8> {
        if !alpn::is_tcpls(name) {
            return self.name(name);
        }
        let protocol = alpn::application_protocol(name).unwrap_or_default();
        let prefix = name.len().saturating_sub(protocol.len());
        [name.get(..prefix).unwrap_or_default(), &self.name(protocol)].concat()
    }

    /// What a client may show in joins.
    pub(in crate::connection) fn cover(&self, cover: &Cover) -> Cover {
        match cover {
            Cover::Name(Some(name)) => Cover::Name(Some(self.text(name))),
            other => other.clone(),
        }
    }

    /// What a session looks at in a hello.
    pub(in crate::connection) fn hello(&self, hello: &ClientHello) -> ClientHello {
        ClientHello {
            session_id: hello.session_id.iter().map(|_| 0).collect(),
            suites: hello.suites.clone(),
            server_name: hello.server_name.as_deref().map(|name| self.text(name)),
            alpn: hello.alpn.iter().map(|name| self.protocol(name)).collect(),
            supports_tls13: hello.supports_tls13,
            tcpls: hello.tcpls,
            early_data: hello.early_data,
            psk: hello.psk,
            ..ClientHello::default()
        }
    }

    /// An address of the same family, in ranges that no host has. A port of 0 means any port, and is kept.
    pub(in crate::connection) fn address(&self, address: SocketAddr) -> SocketAddr {
        if self.is_full {
            return address;
        }
        let ip = match address.ip() {
            IpAddr::V4(ip) => self.hash(b"ipv4", &ip.octets()).map(|hash| ipv4(&hash)),
            IpAddr::V6(ip) => self.hash(b"ipv6", &ip.octets()).map(|hash| ipv6(&hash)),
        };
        let port = self.hash(b"port", &address.port().to_be_bytes()).filter(|_| address.port() != 0);
        let port = port.map_or(address.port(), |hash| u16::from_be_bytes([hash[0], hash[1]]).max(1));
        SocketAddr::new(ip.unwrap_or_else(|| address.ip()), port)
    }
}

/// In 240.0.0.0/4 (RFC 1112, 4).
const fn ipv4(hash: &[u8; 32]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(hash[0] | 0xf0, hash[1], hash[2], hash[3]))
}

/// In 2001:db8::/32 (RFC 3849).
fn ipv6(hash: &[u8; 32]) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&hash[..16]);
    octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudonyms_are_as_long_and_the_same_for_the_same_value() {
        let (one, other) = (Privacy::redacted(&Seed([1; 32])), Privacy::redacted(&Seed([2; 32])));
        let name = "a-rather-long-name-of-a-server-somewhere.example";
        assert_eq!(one.text(name), one.text(name));
        assert_eq!(one.text(name).len(), name.len());
        assert_ne!(one.text(name), other.text(name), "another file has other pseudonyms");
        assert_ne!(one.text("a"), "a.example");
        assert!(one.protocol(b"tcpls+echo").starts_with(b"tcpls+"));
        assert_eq!(one.protocol(b"tcpls+echo")[6..], one.name(b"echo"), "the protocol alone has the same pseudonym");
        assert_eq!(one.protocol(b"tcpls"), b"tcpls");
        assert_ne!(one.token(Token([3; 32])), Token([3; 32]));
    }

    #[test]
    fn address_keeps_its_family_and_a_missing_port() {
        let one = Privacy::redacted(&Seed([1; 32]));
        let v4 = SocketAddr::from(([192, 0, 2, 1], 0));
        assert!(one.address(v4).is_ipv4() && one.address(v4).port() == 0 && one.address(v4) != v4);
        let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443));
        assert!(one.address(v6).is_ipv6() && one.address(v6) != v6);
        assert_eq!(one.address(SocketAddr::new(v6.ip(), 1)).ip(), one.address(v6).ip());
        assert_eq!(Privacy::full(&Seed([1; 32])).address(v6), v6);
        assert_eq!(Privacy::replaying(false).address(v6), v6, "it is a pseudonym already");
    }
}
