//! TCP connections whose ClientHello has not come: where they are from, and their place in the account.

use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::budget::{Client, Resource};
use tcpls_core::time::Time;
use tokio::sync::oneshot;

use crate::net::account::{Account, Holding, Place, reports};
use crate::net::os::now;
use crate::net::proxy_protocol::Ends;
use crate::net::socket::{Splice, canonical};

/// Where a TCP connection came from, and when.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// Whose share of the account it is part of.
    pub(super) client: Client,
    pub(super) accepted: Time,
    /// It is a load balancer's.
    pub(super) splice: Option<Splice>,
}

/// A TCP connection whose ClientHello has not come, in the account.
pub(in crate::net::listener) struct Newcomer {
    pub(super) origin: Origin,
    /// What is short, if it has to give way.
    pub(super) in_the_way: oneshot::Receiver<Resource>,
    _place: Place,
}

impl Origin {
    /// The same TCP connection, for the client that a load balancer names. One without a name counts for itself.
    pub(super) fn named(self, account: &Account, ends: Option<Ends>) -> Self {
        // A header with one address of IPv4 and one of IPv6 has the former as `::ffff:192.0.2.1`.
        let ends = ends.map(|ends| Ends { client: canonical(ends.client), server: canonical(ends.server) });
        let client = ends.map_or(Client::ALONE, |ends| account.client(ends.client.ip()));
        let address = ends.map_or(self.address, |ends| ends.client);
        Self { address, client, splice: Some(Splice { ends }), ..self }
    }
}

impl Newcomer {
    pub(super) fn enter(account: &Arc<Account>, address: SocketAddr, client: Client, splice: Option<Splice>) -> Self {
        Self::hold(account, Origin { address, client, accepted: now(), splice })
    }

    fn hold(account: &Arc<Account>, origin: Origin) -> Self {
        let (give_way, in_the_way) = oneshot::channel();
        let held = [(Resource::Pending, 1), (Resource::Descriptors, 1), (Resource::Memory, reports::PENDING_MEMORY)];
        Self { origin, in_the_way, _place: account.enter(origin.client, Holding::Pending(give_way), &held) }
    }

    /// The same, for the client that a load balancer names.
    pub(super) fn named(self, account: &Arc<Account>, ends: Option<Ends>) -> Self {
        let origin = self.origin.named(account, ends);
        drop(self); // its place, which is another client's now
        Self::hold(account, origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::ServerOptions;
    use crate::tls::Identity;

    #[test]
    fn the_time_for_a_client_hello_begins_before_the_header_of_a_load_balancer() {
        let tls = Identity::self_signed(&["localhost".to_owned()]).unwrap().server(&[b"test"]).unwrap();
        let account = Account::new(ServerOptions::new(tls).limits(), Vec::new());
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let mut newcomer = Newcomer::enter(&account, address, Client::ALONE, Some(Splice { ends: None }));
        newcomer.origin.accepted = Time::ZERO;
        let ends = Ends { client: "198.51.100.7:5000".parse().unwrap(), server: address };
        let named = newcomer.named(&account, Some(ends)).origin;
        assert_eq!((named.address, named.accepted), (ends.client, Time::ZERO));
        assert_eq!(named.client, account.client(ends.client.ip()), "its share is that of the client");
        assert_ne!(named.client, account.client(address.ip()));
    }
}
