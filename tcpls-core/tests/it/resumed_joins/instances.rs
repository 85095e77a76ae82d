//! Joins that another instance of the server answers (decision D151): which of them end the session, and which do not.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tcpls_core::connection::State;
use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::event::Event;
use tcpls_core::wire::ids::ConnectionId;

use super::{Elsewhere, FIRST, client_end, established, first_flight, resuming, server_end};
use crate::support::tls::{self, ClientCertificate};
use crate::support::{Client, Pair, Server, Setup, Tls, bytes};

/// The number of the instance that has the session: see [`Elsewhere::with`].
const SAME: u64 = 1 ^ 0xe4d;
const OTHER: u64 = 90;

/// A session whose TCP connections have ended.
fn stranded(tls: Tls) -> Pair {
    let mut pair = established(tls);
    pair.cut(FIRST);
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair
}

/// The client joins and reaches this server instead; returns its TCP connection.
fn join_elsewhere(pair: &mut Pair, tls: Box<dyn Handshake>, number: u64) -> (ConnectionId, Elsewhere) {
    let tcp = pair.open_tcp_slowly();
    let server = reach(pair, tcp, tls, number);
    (tcp, server)
}

/// What the client sends on `tcp` reaches this server, and the answers reach the client.
fn reach(pair: &mut Pair, tcp: ConnectionId, tls: Box<dyn Handshake>, number: u64) -> Elsewhere {
    let flight = first_flight(pair, tcp);
    pair.flow(tcp, Server).in_flight.clear();
    let mut server = Elsewhere::with(pair, &flight, tls, number);
    let mut sent = Vec::new();
    for _ in 0..4 {
        let answer = server.exchange(pair, &sent);
        pair.flow(tcp, Client).send(&answer);
        pair.deliver(tcp, Client, usize::MAX);
        pair.step(Client);
        sent = pair.flow(tcp, Server).in_flight.drain(..).collect();
    }
    assert!(sent.is_empty());
    server
}

fn elsewhere() -> Box<dyn Handshake> {
    server_end(&resuming())
}

#[test]
fn stranded_session_ends_at_once_when_another_instance_of_the_server_answers() {
    for zero_rtt in [false, true] {
        let mut pair = established(resuming());
        let stream = pair.open_stream(Client);
        pair.cut(FIRST);
        pair.write(Client, stream, b"not delivered");
        let tcp = if zero_rtt { pair.open_tcp() } else { pair.open_tcp_slowly() };
        let server = reach(&mut pair, tcp, elsewhere(), OTHER);
        assert_eq!(pair.close_reason(Client), Some(CloseReason::LostByServer));
        assert_eq!(pair.events(Client).last(), Some(&Event::Closed { reason: CloseReason::LostByServer }));
        assert_eq!(server.conn.state(), State::Closed, "it gets close_notify: {:?}", server.conn.close_reason());
        assert_eq!(pair.client().undelivered(), 13);
    }
}

#[test]
fn join_that_the_same_instance_does_not_resume_leaves_the_session_stranded() {
    let mut pair = stranded(resuming());
    let (tcp, server) = join_elsewhere(&mut pair, elsewhere(), SAME);
    assert_eq!(pair.fault(Client, tcp), Some(TcpFault::JoinRefused));
    assert_eq!(server.conn.state(), State::Closed);
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.join();
    pair.transfer(Server, b"it recovers");
}

#[test]
fn another_instance_costs_a_join_while_the_session_answers_and_ends_nothing_later() {
    let mut pair = established(resuming());
    let (tcp, _) = join_elsewhere(&mut pair, elsewhere(), OTHER);
    assert_eq!(pair.fault(Client, tcp), Some(TcpFault::JoinRefused));
    pair.drive_for(Duration::from_millis(100));
    pair.transfer(Server, b"from the server that has the session");
    pair.cut(FIRST);
    let (tcp, _) = join_elsewhere(&mut pair, elsewhere(), OTHER);
    assert_eq!(pair.fault(Client, tcp), Some(TcpFault::JoinRefused), "several servers share the name");
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.join();
    pair.transfer(Client, b"it recovers");
}

#[test]
fn another_instance_ends_a_session_whose_tcp_connections_are_all_stalled() {
    let mut pair = established(resuming());
    let stream = pair.open_stream(Client);
    pair.stall(FIRST);
    pair.write(Client, stream, &bytes(1000));
    pair.drive_for(Duration::from_secs(3));
    assert!(pair.client().tcp_stats(FIRST).unwrap().stalled);
    join_elsewhere(&mut pair, elsewhere(), OTHER);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::LostByServer));
}

#[test]
fn another_instance_ends_no_session_whose_tcp_connection_has_just_stalled() {
    let mut pair = established(resuming());
    let stream = pair.open_stream(Client);
    pair.stall(FIRST);
    pair.write(Client, stream, &bytes(1000));
    let is_stalled = |pair: &mut Pair| {
        pair.drive_for(Duration::from_millis(10));
        pair.client().tcp_stats(FIRST).unwrap().stalled
    };
    assert!((0..300).any(|_| is_stalled(&mut pair)));
    let (tcp, _) = join_elsewhere(&mut pair, elsewhere(), OTHER);
    assert_eq!(pair.close_reason(Client), None);
    assert!(pair.client().tcp_stats(tcp).is_none(), "it costs this TCP connection");
    // It answers, and no other instance ends the session any more.
    pair.unstall(FIRST);
    pair.drive();
    pair.stall(FIRST);
    pair.write(Client, stream, &bytes(1000));
    pair.drive_for(Duration::from_secs(3));
    join_elsewhere(&mut pair, elsewhere(), OTHER);
    assert_eq!(pair.close_reason(Client), None);
}

#[test]
fn another_instance_at_an_address_where_the_session_never_was_ends_nothing() {
    let address = |host: u8| Some(format!("192.0.2.{host}:443").parse().unwrap());
    for (host, ends) in [(1, true), (2, false)] {
        let mut pair = established(resuming());
        pair.client().set_tcp_addresses(FIRST, None, address(1));
        pair.cut(FIRST);
        let tcp = pair.open_tcp();
        pair.client().set_tcp_addresses(tcp, None, address(host));
        reach(&mut pair, tcp, elsewhere(), OTHER);
        assert_eq!(pair.close_reason(Client), ends.then_some(CloseReason::LostByServer), "host {host}");
    }
    // The server advertises the second one.
    let mut pair = established(resuming());
    pair.client().set_tcp_addresses(FIRST, None, address(1));
    pair.server().advertise(address(2).unwrap()).unwrap();
    pair.drive();
    pair.cut(FIRST);
    let tcp = pair.open_tcp();
    pair.client().set_tcp_addresses(tcp, None, address(2));
    reach(&mut pair, tcp, elsewhere(), OTHER);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::LostByServer));
}

#[test]
fn address_where_the_session_began_counts_however_many_tcp_connections_were_lost() {
    let address = |host: u8| Some(format!("192.0.2.{host}:443").parse().unwrap());
    let mut pair = established(resuming());
    pair.client().set_tcp_addresses(FIRST, None, address(1));
    let mut last = FIRST;
    for _ in 0..70 {
        let next = pair.join();
        pair.client().set_tcp_addresses(next, None, address(2));
        pair.cut(last);
        pair.drive();
        last = next;
    }
    pair.cut(last);
    assert!(pair.client().learns_of_loss());
    let tcp = pair.open_tcp();
    pair.client().set_tcp_addresses(tcp, None, address(1));
    reach(&mut pair, tcp, elsewhere(), OTHER);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::LostByServer));
}

#[test]
fn client_whose_joins_have_the_form_of_the_draft_learns_of_no_loss() {
    assert!(established(resuming()).client().learns_of_loss());
    assert!(!Pair::established().client().learns_of_loss());
}

#[test]
fn instance_is_read_behind_a_client_certificate_too() {
    let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..resuming() };
    let mut pair = stranded(tls.clone());
    join_elsewhere(&mut pair, server_end(&tls), OTHER);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::LostByServer));
}

#[test]
fn answers_whose_certificate_is_not_verified_end_nothing() {
    let made = rcgen::generate_simple_self_signed([tls::SERVER_NAME.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let tls = RustlsServer::new(Arc::new(config), &[]).unwrap().handshake().unwrap();
    let mut pair = stranded(resuming());
    let (tcp, _) = join_elsewhere(&mut pair, tls, OTHER);
    assert!(pair.fault(Client, tcp).is_some());
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.join();
}

#[test]
fn changed_or_endless_answers_of_another_instance_end_nothing() {
    // The record with the Session Parameters is changed, or cut off.
    for is_cut in [false, true] {
        let mut pair = stranded(resuming());
        let tcp = pair.open_tcp_slowly();
        let flight = first_flight(&mut pair, tcp);
        pair.flow(tcp, Server).in_flight.clear();
        let mut answer = Elsewhere::with(&pair, &flight, elsewhere(), OTHER).exchange(&mut pair, &[]);
        if is_cut {
            answer.pop();
        } else {
            *answer.last_mut().unwrap() ^= 1;
        }
        pair.stall_towards(tcp, Server); // nothing reaches the server of the session
        pair.flow(tcp, Client).send(&answer);
        pair.deliver(tcp, Client, usize::MAX);
        pair.drive_for(Duration::from_secs(6));
        let fault = if is_cut { TcpFault::JoinTimeout } else { TcpFault::JoinRefused };
        assert_eq!(pair.fault(Client, tcp), Some(fault));
        assert!(matches!(pair.client().state(), State::Stranded { .. }));
        pair.join();
    }
    // Tickets precede them without end.
    let certificate = Some(ClientCertificate::Trusted);
    let tls = Tls { client_auth: true, client_certificate: certificate, tickets: 250, ..resuming() };
    let mut pair = stranded(Tls { tickets: 2, ..tls.clone() });
    let (tcp, _) = join_elsewhere(&mut pair, server_end(&tls), OTHER);
    assert_eq!(pair.fault(Client, tcp), Some(TcpFault::JoinRefused));
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
}

#[test]
fn nothing_of_the_session_is_sent_to_another_instance() {
    let mut pair = Pair::new(Setup::default(), client_end(&resuming()), elsewhere());
    pair.drive();
    let stream = pair.open_stream(Client);
    pair.cut(FIRST);
    let tcp = pair.open_tcp();
    let flight = first_flight(&mut pair, tcp);
    pair.flow(tcp, Server).in_flight.clear();
    let mut server = Elsewhere::with(&pair, &flight, elsewhere(), OTHER);
    let answer = server.exchange(&mut pair, &[]);
    // All but the last record, which has the Session Parameters.
    let last = super::records(&answer).last().unwrap().1;
    pair.flow(tcp, Client).send(&answer[..answer.len() - last]);
    pair.deliver(tcp, Client, usize::MAX);
    pair.write(Client, stream, &bytes(5000));
    pair.step(Client);
    let sent: Vec<u8> = pair.flow(tcp, Server).in_flight.drain(..).collect();
    let expected = super::records(&sent);
    assert!(expected.len() <= 2 && sent.len() < 150, "{expected:?}: ChangeCipherSpec and Finished");
    server.exchange(&mut pair, &sent);
    assert_eq!(server.conn.state(), State::Handshaking, "{:?}", server.conn.close_reason());
}
