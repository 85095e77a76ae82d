//! A second provider of TLS handshakes, written from the documentation of `tcpls_core::crypto` and with public items alone. It shows
//! that another library, or another version of rustls, needs no change outside of its provider: sessions between it and the
//! crate's own provider use 0.5-RTT data, tickets, key updates and alerts as others do.

mod keys;
mod provider;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};
use tcpls_core::connection::State;
use tcpls_core::crypto::{Handshake, alpn};
use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::{AlertDescription, HandshakeErrorKind as Kind};

use self::provider::Buffered;
use crate::support::tls::{SERVER_NAME, SUITES, client_certificate, start_client};
use crate::support::{Client, Pair, Server, Setup, Side, Tls};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SERVER_CERTIFICATE: &[u8] = include_bytes!("../../../src/testing/server.der");

fn provider(suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    Arc::new(provider)
}

fn roots(certificate: Vec<u8>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    roots
}

/// The key of a certificate of the test kit: 32 equal bytes.
fn key(secret: u8) -> PrivateKeyDer<'static> {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    PrivatePkcs8KeyDer::from([&prefix[..], &[secret; 32]].concat()).into()
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

/// The pair that the handshake has led to a session.
fn established(mut pair: Pair) -> Pair {
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established, "{:?}", pair.close_reason(side));
    }
    pair
}

#[test]
fn a_second_provider_carries_sessions_over_joins_and_key_updates() {
    for suite in SUITES {
        let protocols = vec![&b"h2"[..]];
        let ends = Ends::new(Tls {
            suites: vec![suite],
            client_protocols: protocols.clone(),
            server_protocols: protocols,
            ..Tls::default()
        });
        for mut pair in ends.pairs().map(established) {
            for side in [Client, Server] {
                assert_eq!(pair.conn(side).cipher_suite(), Some(u16::from(suite)));
                assert_eq!(pair.conn(side).application_protocol(), Some(&b"h2"[..]));
                assert_eq!(pair.conn(side).server_name(), Some(SERVER_NAME));
            }
            assert_eq!(pair.client().peer_certificates(), [SERVER_CERTIFICATE]);
            let second = pair.join();
            for generation in 1..=3 {
                pair.transfer(Client, b"question");
                pair.transfer(Server, b"answer");
                [Client, Server].into_iter().for_each(|side| pair.update_keys(side));
                pair.drive();
                assert_eq!(pair.client().stats().key_updates, (generation, generation));
            }
            pair.cut(FIRST);
            pair.drive();
            pair.transfer(Server, b"over what is left");
            assert_eq!(pair.live(Client), [second]);
            pair.close(Client, 0, b"");
            pair.drive();
            assert_eq!(pair.conn(Server).state(), State::Closed);
        }
    }
}

#[test]
fn a_second_provider_sends_the_first_tokens_as_half_rtt_data() {
    for mut pair in Ends::new(Tls::default()).pairs() {
        pair.step(Client);
        pair.deliver(FIRST, Server, usize::MAX);
        pair.step(Server);
        pair.deliver(FIRST, Client, usize::MAX);
        assert_eq!(pair.server().state(), State::Handshaking, "the client's Finished has not come");
        assert!(pair.client().tokens() > 0);
        established(pair).transfer(Server, b"in the right order");
    }
}

#[test]
fn a_second_provider_sends_no_half_rtt_data_to_clients_without_a_certificate() {
    let certificate = Some(crate::support::tls::ClientCertificate::Trusted);
    let ends = Ends::new(Tls { client_auth: true, client_certificate: certificate, ..Tls::default() });
    for mut pair in ends.pairs().map(established) {
        assert_eq!(pair.server().peer_certificates(), [client_certificate()]);
        pair.transfer(Server, b"authenticated");
    }
    for mut pair in Ends::new(Tls { client_auth: true, ..Tls::default() }).pairs() {
        pair.drive();
        assert_failed(&mut pair, Server, Kind::NoCertificate);
    }
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
    for tickets in [0, 1, 4] {
        for pair in Ends::new(Tls { tickets, ..Tls::default() }).pairs() {
            established(pair).transfer(Server, b"behind the tickets");
        }
    }
}

/// Asserts that `judge` failed the handshake with this error, and that its alert reached the other end.
fn assert_failed(pair: &mut Pair, judge: Side, expected: Kind) {
    let kind = |reason| match reason {
        Some(CloseReason::Handshake(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(pair.close_reason(judge)), expected);
    let other = kind(pair.close_reason(judge.peer()));
    assert!(matches!(other, Kind::PeerAlert(AlertDescription(40..=120))), "{other:?}");
}

#[test]
fn handshakes_of_a_second_provider_fail_with_an_alert_that_reaches_the_peer() {
    let untrusted = Ends::new(Tls { trusted: false, ..Tls::default() });
    for mut pair in untrusted.pairs() {
        pair.drive();
        let Some(CloseReason::Handshake(error)) = pair.close_reason(Client) else { panic!() };
        assert!([Kind::UnknownIssuer, Kind::BadCertificate].contains(&error.kind()), "{error}");
        assert_failed(&mut pair, Client, error.kind());
    }
    let strangers = Tls { client_protocols: vec![b"a"], server_protocols: vec![b"b"], ..Tls::default() };
    for mut pair in Ends::new(strangers).pairs() {
        pair.drive();
        assert_failed(&mut pair, Server, Kind::NoApplicationProtocol);
    }
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
