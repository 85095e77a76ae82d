//! A second provider of TLS handshakes, written from the documentation of `tcpls_core::crypto` and with public items alone. It shows
//! that another library, or another version of rustls, needs no change outside of its provider: sessions between it and the
//! crate's own provider use 0.5-RTT data, tickets, key updates and alerts as others do.

mod keys;
mod provider;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, ServerConfig};
use tcpls_core::connection::State;
use tcpls_core::crypto::{Handshake, alpn};

use self::provider::Buffered;
use crate::support::provider::{self as contract, SERVER_CERTIFICATE, established, key, roots};
use crate::support::tls::{SERVER_NAME, client_certificate, start_client};
use crate::support::{Client, Pair, Server, Setup, Side, Tls};

fn provider(suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    Arc::new(provider)
}

/// How the ends of a session are configured: as [`Tls`] says for the crate's own provider, and the same for the second.
#[derive(Clone)]
struct Ends {
    tls: Tls,
    client: ClientConfig,
    server: ServerConfig,
}

impl Ends {
    fn new(tls: Tls) -> Self {
        let provider = provider(tls.suites[0]);
        let trusted = if tls.trusted { SERVER_CERTIFICATE.to_vec() } else { client_certificate() };
        let client =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots(trusted));
        let mut client = match tls.client_certificate {
            Some(_) => client.with_client_auth_cert(vec![client_certificate().into()], key(2)).unwrap(),
            None => client.with_no_client_auth(),
        };
        client.resumption = Resumption::in_memory_sessions(8);
        client.alpn_protocols = alpn::names(&tls.client_protocols).unwrap();
        let server =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let server = if tls.client_auth {
            let roots = Arc::new(roots(client_certificate()));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            server.with_client_cert_verifier(verifier)
        } else {
            server.with_no_client_auth()
        };
        let mut server = server.with_single_cert(vec![SERVER_CERTIFICATE.into()], key(1)).unwrap();
        server.alpn_protocols = alpn::names(&tls.server_protocols).unwrap();
        server.send_tls13_tickets = tls.tickets;
        Self { tls, client, server }
    }

    /// A handshake of this endpoint by the second provider.
    fn second(&self, side: Side) -> Box<dyn Handshake> {
        match side {
            Client => Box::new(Buffered::client(&self.client, SERVER_NAME)),
            Server => Box::new(Buffered::server(&self.server, self.tls.client_auth)),
        }
    }

    /// A handshake of this endpoint by the crate's own provider.
    fn first(&self, side: Side) -> Box<dyn Handshake> {
        match side {
            Client => start_client(&self.tls.client(1)),
            Server => self.tls.server(1).handshake().unwrap(),
        }
    }

    /// Each way of putting the second provider on one side or both.
    fn pairs(&self) -> [Pair; 3] {
        [
            (self.second(Client), self.first(Server)),
            (self.first(Client), self.second(Server)),
            (self.second(Client), self.second(Server)),
        ]
        .map(|(client, server)| Pair::new(Setup::default(), client, server))
    }
}

fn pairs(tls: &Tls) -> [Pair; 3] {
    Ends::new(tls.clone()).pairs()
}

#[test]
fn a_second_provider_carries_sessions_over_joins_and_key_updates() {
    contract::carries_sessions_with_every_suite_over_joins_and_key_updates(pairs);
}

#[test]
fn a_second_provider_sends_the_first_tokens_as_half_rtt_data() {
    contract::sends_the_first_tokens_as_half_rtt_data(pairs);
}

#[test]
fn a_second_provider_sends_no_half_rtt_data_to_clients_without_a_certificate() {
    contract::sends_no_half_rtt_data_to_clients_without_a_certificate(pairs);
}

#[test]
fn tickets_that_come_through_the_session_let_a_second_provider_resume() {
    let ends = Ends::new(Tls::default());
    let server = ends.tls.server(1);
    let with_own = || server.handshake().unwrap();
    let with_second = || ends.second(Server);
    let servers: [&dyn Fn() -> Box<dyn Handshake>; 2] = [&with_own, &with_second];
    for server in servers {
        let client = Ends::new(Tls::default()); // tickets of one server are no use at another
        let flight = || {
            let mut pair = established(Pair::new(Setup::default(), client.second(Client), server()));
            pair.transfer(Server, b"behind the tickets");
            pair.wire()[0].1.len()
        };
        let (full, resumed) = (flight(), flight());
        assert!(resumed + SERVER_CERTIFICATE.len() < full, "the certificate is sent again: {resumed} of {full} bytes");
    }
}

#[test]
fn tickets_of_a_second_provider_count_in_its_record_numbers() {
    contract::counts_its_tickets_as_records(pairs);
}

#[test]
fn handshakes_of_a_second_provider_fail_with_an_alert_that_reaches_the_peer() {
    contract::fails_with_an_alert_that_reaches_the_peer(pairs);
}

#[test]
fn a_second_provider_falls_back_to_plain_tls() {
    let protocols = vec![&b"h2"[..]];
    let tls = Tls { client_protocols: protocols.clone(), server_protocols: protocols.clone(), ..Tls::default() };
    let mut ends = Ends::new(tls);
    ends.server.alpn_protocols = vec![b"h2".to_vec()];
    for client in [ends.first(Client), ends.second(Client)] {
        let mut pair = Pair::new(Setup::default(), client, ends.second(Server));
        pair.drive();
        assert_eq!([pair.client().state(), pair.server().state()], [State::Plain; 2]);
        pair.transfer(Client, b"plain");
    }
}
