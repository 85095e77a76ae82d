//! What each provider of TLS handshakes does, whatever library it uses. `pairs` makes a pair for each way of having the provider at
//! one end or both, the other end by the provider for rustls.

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tcpls_core::connection::State;
use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::{AlertDescription, HandshakeErrorKind as Kind};

use super::tls::{ClientCertificate, SERVER_NAME, SUITES, client_certificate};
use super::{Client, Pair, Server, Side, Tls};

pub const SERVER_CERTIFICATE: &[u8] = include_bytes!("../../../src/testing/server.der");

const FIRST: ConnectionId = ConnectionId::FIRST;

/// Trust in this certificate alone.
pub fn roots(certificate: Vec<u8>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate)).unwrap();
    roots
}

/// The key of a certificate of the test kit: 32 equal bytes.
pub fn key(secret: u8) -> PrivateKeyDer<'static> {
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
    PrivatePkcs8KeyDer::from([&prefix[..], &[secret; 32]].concat()).into()
}

/// The pair that the handshake has led to a session.
pub fn established(mut pair: Pair) -> Pair {
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established, "{:?}", pair.close_reason(side));
    }
    pair
}

/// Asserts that `judge` failed the handshake with such an error, and that its alert reached the other end.
pub fn assert_failed(pair: &mut Pair, judge: Side, expected: &[Kind]) {
    let kind = |reason| match reason {
        Some(CloseReason::Handshake(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    let judged = kind(pair.close_reason(judge));
    assert!(expected.contains(&judged), "{judged:?}");
    let other = kind(pair.close_reason(judge.peer()));
    assert!(matches!(other, Kind::PeerAlert(AlertDescription(40..=120))), "{other:?}");
}

pub fn carries_sessions_with_every_suite_over_joins_and_key_updates(pairs: impl Fn(&Tls) -> [Pair; 3]) {
    for suite in SUITES {
        let protocols = vec![&b"h2"[..]];
        let tls = Tls {
            suites: vec![suite],
            client_protocols: protocols.clone(),
            server_protocols: protocols,
            ..Tls::default()
        };
        for mut pair in pairs(&tls).map(established) {
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

/// The client has the server's flight, and has not answered.
fn with_the_servers_flight(mut pair: Pair) -> Pair {
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX);
    pair.step(Server);
    pair.deliver(FIRST, Client, usize::MAX);
    pair
}

pub fn sends_the_first_tokens_as_half_rtt_data(pairs: impl Fn(&Tls) -> [Pair; 3]) {
    for mut pair in pairs(&Tls::default()).map(with_the_servers_flight) {
        assert_eq!(pair.server().state(), State::Handshaking, "the client's Finished has not arrived");
        assert!(pair.client().tokens() > 0);
        established(pair).transfer(Server, b"in the right order");
    }
}

pub fn sends_no_half_rtt_data_to_clients_without_a_certificate(pairs: impl Fn(&Tls) -> [Pair; 3]) {
    let certificate = Some(ClientCertificate::Trusted);
    let tls = Tls { client_auth: true, client_certificate: certificate, ..Tls::default() };
    for mut pair in pairs(&tls).map(with_the_servers_flight) {
        assert_eq!(pair.client().tokens(), 0, "the client has not shown its certificate");
        let mut pair = established(pair);
        assert_eq!(pair.server().peer_certificates(), [client_certificate()]);
        pair.transfer(Server, b"authenticated");
    }
    for mut pair in pairs(&Tls { client_auth: true, ..Tls::default() }) {
        pair.drive();
        assert_failed(&mut pair, Server, &[Kind::NoCertificate]);
    }
}

pub fn counts_its_tickets_as_records(pairs: impl Fn(&Tls) -> [Pair; 3]) {
    for tickets in [0, 1, 4] {
        for pair in pairs(&Tls { tickets, ..Tls::default() }) {
            established(pair).transfer(Server, b"behind the tickets");
        }
    }
}

pub fn fails_with_an_alert_that_reaches_the_peer(pairs: impl Fn(&Tls) -> [Pair; 3]) {
    for mut pair in pairs(&Tls { trusted: false, ..Tls::default() }) {
        pair.drive();
        assert_failed(&mut pair, Client, &[Kind::UnknownIssuer, Kind::BadCertificate]);
    }
    let strangers = Tls { client_protocols: vec![b"a"], server_protocols: vec![b"b"], ..Tls::default() };
    for mut pair in pairs(&strangers) {
        pair.drive();
        assert_failed(&mut pair, Server, &[Kind::NoApplicationProtocol]);
    }
}
