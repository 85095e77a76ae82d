//! The handshake, from the first byte until both endpoints know that they use TCPLS, and its failures.

use std::time::Duration;

use rustls::CipherSuite;
use tcpls_core::connection::{State, TimeoutReason};
use tcpls_core::error::{CloseReason, HandshakeErrorKind, OpenStreamError, OpenTcpError, TcpFault};
use tcpls_core::event::{Established, Event};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::tls::{ClientCertificate, SUITES, client_certificate, start_client};
use crate::support::{Client, Pair, Role, Server, Setup, Side, Tls, discarded, joined};

fn with_tls(tls: Tls) -> Setup {
    Setup { tls: Some(tls), ..Setup::default() }
}

/// Asserts that both endpoints failed, and that `judge` has the error of the TLS library.
fn assert_failed(pair: &mut Pair, judge: Side) {
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Closed, "{side:?}");
        assert_eq!(pair.tcp_events(side), [discarded(ConnectionId::FIRST)], "{side:?}");
    }
    let Some(CloseReason::Handshake(_)) = pair.close_reason(judge) else {
        panic!("{:?}", pair.close_reason(judge));
    };
}

/// The last record that `side` has sent is a fatal alert in plaintext or protected, or the peer would not know.
fn assert_peer_was_told(pair: &mut Pair, side: Side) {
    let Some(CloseReason::Handshake(error)) = pair.close_reason(side) else {
        panic!("{:?}", pair.close_reason(side));
    };
    assert!(matches!(error.kind(), HandshakeErrorKind::PeerAlert(_)), "{error}");
}

#[test]
fn every_suite_carries_a_session() {
    for suite in SUITES {
        let mut pair = with_tls(Tls { suites: vec![suite], ..Tls::default() }).established();
        for side in [Client, Server] {
            assert_eq!(pair.conn(side).cipher_suite(), Some(u16::from(suite)));
        }
        pair.transfer(Client, b"question");
        pair.transfer(Server, b"answer");
    }
}

// draft E08
#[test]
fn both_endpoints_report_joined_and_established() {
    let mut pair = Pair::established();
    for side in [Client, Server] {
        assert_eq!(pair.tcp_events(side), [joined(ConnectionId::FIRST)]);
        let mut established = Established::default();
        established.tcpls = true;
        let told = pair.events(side).iter().filter(|event| **event == Event::Established(established.clone()));
        assert_eq!(told.count(), 1);
        assert_eq!(pair.conn(side).server_name(), Some("server.test"));
    }
}

#[test]
fn the_application_protocol_is_agreed_along_with_tcpls() {
    let tls =
        Tls { client_protocols: vec![b"h3", b"h2"], server_protocols: vec![b"http/1.1", b"h2"], ..Tls::default() };
    let mut pair = with_tls(tls).established();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).application_protocol(), Some(&b"h2"[..]));
    }
    pair.join();
}

#[test]
fn without_a_common_application_protocol_there_is_no_session() {
    let tls = Tls { client_protocols: vec![b"h3"], server_protocols: vec![b"h2"], ..Tls::default() };
    let mut pair = with_tls(tls).start();
    pair.drive();
    assert_failed(&mut pair, Server);
    assert_peer_was_told(&mut pair, Client);
}

#[test]
fn the_client_has_tokens_and_may_send_as_soon_as_its_own_handshake_ends() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    pair.deliver_all(); // one round trip; the client's Finished has not been sent
    assert_eq!(pair.client().state(), State::Established);
    assert_eq!(pair.server().state(), State::Handshaking);
    assert!(pair.client().tokens() >= 2, "the server's first flight has tokens (draft, 5.1.3)");
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"in the flight of the Finished");
    pair.step(Client);
    pair.deliver_all();
    assert_eq!(pair.read_all(Server, stream), b"in the flight of the Finished");
}

#[test]
fn a_client_certificate_is_shown_to_the_application_and_tokens_wait_for_it() {
    let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..Tls::default() };
    let mut pair = with_tls(tls).start();
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    pair.deliver_all();
    assert_eq!(pair.client().tokens(), 0, "nothing goes to a client that has not shown who it is");
    pair.drive();
    assert_eq!(pair.server().peer_certificates(), [client_certificate()]);
    assert!(pair.client().tokens() >= 2);
    pair.join();
    pair.transfer(Server, b"for you alone");
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_refused() {
    let mut pair = with_tls(Tls { client_auth: true, ..Tls::default() }).start();
    pair.drive();
    assert_eq!(pair.server().state(), State::Closed);
    assert!(matches!(pair.close_reason(Server), Some(CloseReason::Handshake(_))));
    let refusal = "the peer refused it with alert 116 (certificate_required): it requires a client certificate";
    assert_client_was_refused(&mut pair, refusal);
}

/// The client is notified that its handshake failed, and why, and never of a session.
fn assert_client_was_refused(pair: &mut Pair, refusal: &str) {
    let Some(CloseReason::Handshake(error)) = pair.close_reason(Client) else {
        panic!("{:?}", pair.close_reason(Client));
    };
    assert_eq!(error.to_string(), refusal);
    assert!(!pair.events(Client).iter().any(|event| matches!(event, Event::Established(_))));
}

#[test]
fn a_client_certificate_that_is_not_accepted_fails_the_handshake_on_both_sides() {
    // The server trusts one certificate; the client shows another, which fails to verify.
    let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..Tls::default() };
    let stranger = Tls { client_certificate: Some(ClientCertificate::Untrusted), ..tls.clone() };
    let client = stranger.start_client(1);
    let mut pair = Pair::new(with_tls(tls.clone()), client, tls.start_server(1));
    pair.drive();
    assert!(matches!(pair.close_reason(Server), Some(CloseReason::Handshake(_))));
    let Some(CloseReason::Handshake(error)) = pair.close_reason(Client) else {
        panic!("{:?}", pair.close_reason(Client));
    };
    assert!(error.to_string().contains("this endpoint's certificate"), "{error}");
    assert!(!pair.events(Client).iter().any(|event| matches!(event, Event::Established(_))));
}

/// A session whose client, or server, has a chain of this many certificates.
fn with_chain(owner: Side, certificates: usize) -> Pair {
    let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..Tls::default() };
    let tls = match owner {
        Client => Tls { client_chain: certificates, ..tls },
        Server => Tls { server_chain: certificates, ..tls },
    };
    with_tls(tls).start()
}

#[test]
fn certificate_chain_is_taken_or_refused_by_its_owner_at_one_limit_near_64_kib() {
    for owner in [Client, Server] {
        let mut accepted = 0;
        // Each has about 280 bytes in the Certificate message: 61 to 69 KiB.
        for certificates in 225..255 {
            let mut pair = with_chain(owner, certificates);
            pair.drive();
            if pair.live(owner).len() == 1 {
                assert_eq!(pair.live(owner.peer()), [ConnectionId::FIRST], "{owner:?}: {certificates}");
                assert_eq!(pair.conn(owner.peer()).peer_certificates().len(), certificates);
                assert_eq!(accepted, certificates.checked_sub(225).unwrap(), "{owner:?}: a shorter one was refused");
                accepted += 1;
                continue;
            }
            for (side, message) in [
                (owner, "this endpoint's certificate chain exceeds the 64 KiB that the peer accepts"),
                (owner.peer(), "the peer refused it with alert 80 (internal_error)"),
            ] {
                let Some(CloseReason::Handshake(error)) = pair.close_reason(side) else {
                    panic!("{owner:?}, {side:?}, {certificates}: {:?}", pair.close_reason(side));
                };
                assert_eq!(error.to_string(), message, "{owner:?}, {certificates}");
            }
        }
        assert!((5..15).contains(&accepted), "{owner:?}: {accepted} of them are shorter than 64 KiB");
    }
}

#[test]
fn certificates_of_the_peer_count_as_memory_of_the_session() {
    for owner in [Client, Server] {
        let mut memory = [1, 220].map(|certificates| {
            let mut pair = with_chain(owner, certificates);
            pair.drive();
            pair.conn(owner.peer()).memory()
        });
        memory[0] += 219 * 270;
        assert!(memory[1] >= memory[0], "{owner:?}: {memory:?}");
    }
}

#[test]
fn untrusted_server_gets_an_alert() {
    let mut pair = with_tls(Tls { trusted: false, ..Tls::default() }).start();
    pair.drive();
    assert_failed(&mut pair, Client);
    assert_peer_was_told(&mut pair, Server);
}

#[test]
fn server_without_tls_1_3_is_refused() {
    // Such a server is no user of this crate: it is made of its records. A ServerHello of TLS 1.2 says no more than this.
    let mut pair = Setup::default().start();
    pair.step(Client);
    let hello_len = 2 + 32 + 1 + 2 + 1;
    let mut hello = vec![22, 3, 3, 0, 4 + hello_len, 2, 0, 0, hello_len, 3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.push(0);
    hello.extend_from_slice(&u16::from(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256).to_be_bytes());
    hello.push(0);
    pair.flow(ConnectionId::FIRST, Client).send(&hello);
    pair.deliver(ConnectionId::FIRST, Client, usize::MAX);
    assert!(matches!(pair.close_reason(Client), Some(CloseReason::Handshake(_))));
    let sent = pair.wire()[0].0.to_vec();
    assert!(matches!(sent[sent.len() - 7..], [21, 3, _, 0, 2, 2, _]), "a fatal alert goes out");
}

#[test]
fn handshake_timeout_ends_the_session_at_both_endpoints() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.stall(ConnectionId::FIRST);
    pair.drive_for(Duration::from_secs(9));
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Handshaking);
        assert_eq!(pair.conn(side).timeout_reason(), Some(TimeoutReason::Handshake));
    }
    pair.drive_for(Duration::from_secs(2));
    for side in [Client, Server] {
        assert_eq!(pair.close_reason(side), Some(CloseReason::HandshakeTimeout), "{side:?}");
    }
}

#[test]
fn a_tcp_connection_that_ends_during_the_handshake_ends_the_session() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.cut(ConnectionId::FIRST);
    for side in [Client, Server] {
        assert_eq!(pair.close_reason(side), Some(CloseReason::LostInHandshake(TcpFault::Reset)));
        assert_eq!(pair.tcp_events(side), [discarded(ConnectionId::FIRST)]);
    }
}

#[test]
fn the_handshake_may_be_cut_into_single_bytes() {
    let mut pair = Setup::default().start();
    for _ in 0..4 {
        pair.step(Client);
        while pair.deliver(ConnectionId::FIRST, Server, 1) > 0 {}
        pair.step(Server);
        while pair.deliver(ConnectionId::FIRST, Client, 1) > 0 {}
    }
    assert_eq!(pair.client().state(), State::Established);
    assert_eq!(pair.server().state(), State::Established);
    pair.transfer(Client, b"whole again");
}

#[test]
fn the_handshake_may_be_split_anywhere() {
    let flight = {
        let mut pair = Setup::default().start();
        pair.step(Client);
        pair.flow(ConnectionId::FIRST, Server).in_flight.len()
    };
    for split in 1..flight {
        let mut pair = Setup::default().start();
        pair.step(Client);
        pair.deliver(ConnectionId::FIRST, Server, split);
        pair.drive();
        assert_eq!(pair.client().state(), State::Established, "split at {split}");
        assert_eq!(pair.server().state(), State::Established, "split at {split}");
    }
}

#[test]
fn calls_before_the_handshake_fail_with_too_early() {
    let mut pair = Setup::default().start();
    let now = pair.now;
    assert_eq!(pair.client().open_tcp(now), Err(OpenTcpError::TooEarly));
    assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Limit));
    assert_eq!(pair.client().state(), State::Handshaking);
    assert_eq!(pair.client().cipher_suite(), None);
}

#[test]
fn a_second_session_resumes_from_a_ticket_of_the_first() {
    let tls = Tls::default();
    let (client, server) = (tls.client(1), tls.server(1));
    let flight = |seed| {
        let setup = Setup { seed, ..Setup::default() };
        let mut pair = Pair::new(setup, start_client(&client), server.handshake().unwrap());
        pair.drive();
        assert_eq!(pair.client().state(), State::Established);
        pair.transfer(Client, b"hello");
        pair.join();
        pair.transfer(Server, b"over two");
        pair.close(Client, 0, b"");
        pair.drive();
        pair.wire()[0].1.iter().take(4_000).count()
    };
    let (full, resumed) = (flight(1), flight(2));
    assert!(resumed < full, "no certificate is sent again: {resumed} of {full}");
}

#[test]
fn non_tls_client_gets_an_alert_and_no_session() {
    let mut pair = Pair::established();
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, b"GET / HTTP/1.1\r\n\r\n");
    pair.drive();
    let (answer, closed) = pair.stranger_has(stranger);
    assert_eq!((answer.first(), answer.len(), closed), (Some(&21), 7, true));
    assert_eq!(pair.role(ConnectionId::FIRST, Client), Role::Tcp(ConnectionId::FIRST));
    pair.transfer(Client, b"unharmed");
}
