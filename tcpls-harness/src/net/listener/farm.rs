//! A server farm: the servers that know each other's tokens, and the header in front of a join that one passes on to another.
//! Without sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::{ServerId, SessionId};

use crate::net::proxy_protocol::{self, Ends, octets};

/// The type of the header's field that authenticates it: one of those that are free for applications.
pub(super) const TAG: u8 = 0xe5;

/// This server's place in a farm behind a load balancer, whose servers pass joins on to the one that has the session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Farm {
    /// The ID of this server, which no other one has at the same time.
    pub server: ServerId,
    /// Where the others pass joins on to this server: an address of the farm's own network; port 0 selects a free one.
    pub listen: SocketAddr,
    /// Where the others listen for that. Their addresses are the only ones from which joins are accepted that were passed on.
    pub peers: BTreeMap<ServerId, SocketAddr>,
}

impl Farm {
    /// A farm of which no other server is known.
    pub fn new(server: ServerId, listen: SocketAddr) -> Self {
        Self { server, listen, peers: BTreeMap::new() }
    }

    /// Returns the same with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A token that a client presented: it is passed on once.
#[derive(Clone, Copy)]
pub(super) struct Presented {
    pub(super) session: SessionId,
    pub(super) sequence: u32,
}

/// Returns the header in front of a join that is passed on. It is for this token alone: seen in the farm's network, it is
/// of no use for another.
pub(super) fn header(secrets: &TokenSecrets, ends: Option<Ends>, token: Presented) -> Vec<u8> {
    let tag = signed(ends, token, |message| secrets.sealing().sign(message));
    proxy_protocol::encode(ends, TAG, &tag)
}

/// Whether a server of the farm wrote the header with this tag.
pub(super) fn is_authentic(secrets: &TokenSecrets, ends: Option<Ends>, token: Presented, tag: &[u8]) -> bool {
    signed(ends, token, |message| secrets.verify(message, tag))
}

/// Signs or verifies ends and token; all parts have a fixed length.
fn signed<R>(ends: Option<Ends>, token: Presented, by: impl FnOnce(&[&[u8]]) -> R) -> R {
    let part = |address: SocketAddr| (octets(address.ip()), address.port().to_be_bytes());
    let (session, sequence) = (token.session.0, token.sequence.to_be_bytes());
    match ends {
        None => by(&[&[0], &session, &sequence]),
        Some(Ends { client, server }) => {
            let ((client, from), (server, to)) = (part(client), part(server));
            by(&[&[1], &session, &sequence, &client, &from, &server, &to])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::proxy_protocol::Header;

    const TOKEN: Presented = Presented { session: SessionId([7; 12]), sequence: 3 };

    fn ends(client: &str) -> Option<Ends> {
        Some(Ends { client: client.parse().unwrap(), server: "198.51.100.1:443".parse().unwrap() })
    }

    #[test]
    fn header_is_authentic_for_its_client_and_token_alone() {
        let secrets = TokenSecrets::new([1; 32]);
        let (client, other) = (ends("192.0.2.1:5000"), ends("192.0.2.1:5001"));
        for written in [client, None, ends("[2001:db8::1]:5000")] {
            let bytes = header(&secrets, written, TOKEN);
            let read = Header::parse(&bytes).unwrap().unwrap().ends;
            let tag = proxy_protocol::field(&bytes, TAG).unwrap();
            assert!(is_authentic(&secrets, read, TOKEN, tag));
            assert!(!is_authentic(&secrets, other, TOKEN, tag));
            assert!(!is_authentic(&secrets, read, Presented { sequence: 4, ..TOKEN }, tag));
            assert!(!is_authentic(&secrets, read, Presented { session: SessionId([8; 12]), ..TOKEN }, tag));
            assert!(!is_authentic(&TokenSecrets::new([2; 32]), read, TOKEN, tag));
            assert!(is_authentic(&TokenSecrets::new([2; 32]).accepting([1; 32]), read, TOKEN, tag));
        }
        let tag = signed(client, TOKEN, |message| secrets.sealing().sign(message));
        assert!(!is_authentic(&secrets, None, TOKEN, &tag) && !is_authentic(&secrets, client, TOKEN, &[]));
    }
}
