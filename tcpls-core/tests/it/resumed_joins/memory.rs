//! What a session counts as its memory for the ticket that its joins resume.

use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tcpls_core::wire::ids::Side;

use super::established;
use crate::support::tls::ClientCertificate;
use crate::support::{Client, Server, Tls};

/// A store that notes the length of the first value.
#[derive(Debug)]
struct Noted {
    store: Arc<ServerSessionMemoryCache>,
    first: Mutex<Option<usize>>,
}

impl Noted {
    fn new() -> Arc<Self> {
        Arc::new(Self { store: ServerSessionMemoryCache::new(8), first: Mutex::default() })
    }
}

impl StoresServerSessions for Noted {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.first.lock().unwrap().get_or_insert(value.len());
        self.store.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.store.take(key)
    }

    fn can_cache(&self) -> bool {
        self.store.can_cache()
    }
}

/// The memory of one end of an idle session.
fn memory(tls: &Tls, side: Side) -> usize {
    let mut pair = established(tls.clone());
    pair.conn(side).shrink_to_fit();
    pair.conn(side).memory()
}

#[test]
fn server_counts_the_ticket_that_it_keeps_for_joins_with_all_certificates_in_it() {
    let mut lengths = Vec::new();
    for client_chain in [1, 30] {
        let certificate = Some(ClientCertificate::Trusted);
        let plain = Tls { client_auth: true, client_certificate: certificate, client_chain, ..Tls::default() };
        let store = Noted::new();
        let resuming = Tls { resumed_joins: true, sessions: Some(store.clone()), ..plain.clone() };
        let more = memory(&resuming, Server) - memory(&plain, Server);
        let len = store.first.lock().unwrap().expect("a ticket");
        assert!((len..len + 2048).contains(&more), "{more} for a ticket of {len} bytes");
        lengths.push(len);
    }
    assert!(lengths[1] > lengths[0] + 5000, "{lengths:?}: the value has the client's certificates");
}

#[test]
fn client_counts_the_configuration_and_the_ticket_that_it_keeps_for_joins() {
    let resuming = Tls { resumed_joins: true, ..Tls::default() };
    let more = memory(&resuming, Client) - memory(&Tls::default(), Client);
    let least = size_of::<ClientConfig>() + 32; // the nonce
    assert!((least..least + 2048).contains(&more), "{more} bytes");
}

#[test]
fn memory_for_joins_is_the_same_however_many_tickets_and_joins_there_were() {
    let tls = Tls { resumed_joins: true, ..Tls::default() };
    for side in [Client, Server] {
        assert_eq!(memory(&Tls { tickets: 4, ..tls.clone() }, side), memory(&Tls { tickets: 1, ..tls.clone() }, side));
        let mut pair = established(tls.clone());
        pair.conn(side).shrink_to_fit();
        let before = pair.conn(side).memory();
        for _ in 0..3 {
            let tcp = pair.join();
            pair.cut(tcp);
            pair.drive();
        }
        pair.conn(side).shrink_to_fit();
        let after = pair.conn(side).memory();
        assert!(after < before + 4096, "{side:?}: {after} after {before}");
    }
}
