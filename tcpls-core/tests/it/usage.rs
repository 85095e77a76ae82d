//! What a session reports that it holds and has delivered, and its end when a server's account evicts it.

use tcpls_core::connection::State;
use tcpls_core::error::{CloseReason, ReadError, WriteError, code};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::tls::ClientCertificate;
use crate::support::{Client, Pair, Server, Setup, Tls, bytes, joined};

const FIRST: ConnectionId = ConnectionId::FIRST;
const KIB: usize = 1024;

#[test]
fn memory_follows_what_is_written_and_not_acknowledged() {
    let mut pair = Pair::established();
    let idle = pair.server().memory();
    assert!(idle < 32 * KIB, "{idle}");
    let stream = pair.open_stream(Server);
    pair.write(Server, stream, &bytes(300 * KIB));
    let held = pair.server().memory();
    assert!(held >= idle + 300 * KIB && held < idle + 330 * KIB, "{held} after {idle}");
    pair.drive();
    let rest = pair.server().memory();
    assert!(rest < idle + 16 * KIB, "{rest} after {idle}");
}

#[test]
fn memory_follows_received_unread_data() {
    let mut pair = Pair::established();
    let idle = pair.server().memory();
    let stream = pair.open_stream(Client);
    pair.end(Server).reads = false;
    pair.submit(Client, stream, &bytes(300 * KIB));
    pair.drive();
    let held = pair.server().memory();
    assert!(held >= idle + 300 * KIB, "{held} after {idle}");
}

#[test]
fn memory_counts_what_is_noted_of_records_of_lost_tcp_connections() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Server);
    pair.stall(FIRST);
    pair.write(Server, stream, &bytes(100 * KIB));
    pair.step(Server);
    pair.cut(FIRST);
    let with = pair.server().memory();
    pair.drive();
    assert!(pair.server().memory() < with);
}

#[test]
fn a_handshake_counts_more_than_an_idle_session() {
    let mut pair = Setup::default().start();
    let shaking = pair.client().memory();
    pair.drive();
    assert!(pair.client().memory() < shaking);
}

#[test]
fn incomplete_certificates_count_as_handshake_memory() {
    let tls = Tls {
        client_auth: true,
        client_certificate: Some(ClientCertificate::Trusted),
        client_chain: 220,
        ..Tls::default()
    };
    let mut pair = Setup { tls: Some(tls), ..Setup::default() }.start();
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    let before = pair.server().memory();
    pair.deliver(FIRST, Client, usize::MAX);
    pair.step(Client);
    let flight = pair.flow(FIRST, Server).in_flight.len();
    assert!(flight > 60 * KIB, "{flight}");
    // Four records of the flight are whole, and the message in them is not.
    pair.deliver(FIRST, Server, flight - 12 * KIB);
    let held = pair.server().memory();
    assert!(held >= 32 * KIB + flight - 16 * KIB && held > before, "{held} after {before}");
    pair.drive();
    assert_eq!(pair.server().peer_certificates().len(), 220);
}

#[test]
fn delivered_is_what_the_peer_acknowledged_and_what_the_application_read() {
    let mut pair = Pair::with_tcp_connections(2);
    let before = pair.server().delivered();
    pair.transfer(Server, &bytes(100_000));
    assert_eq!(pair.server().delivered(), before + 100_000);
    pair.transfer(Client, &bytes(50_000));
    assert_eq!(pair.server().delivered(), before + 150_000);
    assert_eq!(pair.client().delivered(), before + 150_000);
}

#[test]
fn reinjected_data_is_delivered_once() {
    let mut pair = Pair::with_tcp_connections(2);
    let before = pair.server().delivered();
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(100_000));
    pair.step(Server);
    pair.cut(FIRST);
    pair.drive();
    pair.assert_received(Client, stream, &bytes(100_000));
    assert_eq!(pair.server().delivered(), before + 100_000);
}

#[test]
fn unused_memory_can_be_freed_at_any_time() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.spread();
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(2000 * KIB));
    let shrink = |pair: &mut Pair| [Client, Server].into_iter().for_each(|side| pair.conn(side).shrink_to_fit());
    for _ in 0..20 {
        pair.round();
        shrink(&mut pair);
    }
    let third = pair.join();
    shrink(&mut pair);
    assert_eq!(pair.tcp_events(Client).last(), Some(&joined(third)), "events are kept");
    pair.drive();
    pair.assert_received(Client, stream, &bytes(2000 * KIB));
    let second = pair.open_stream(Server);
    pair.submit(Server, second, &bytes(200 * KIB));
    pair.drive();
    pair.assert_received(Client, second, &bytes(200 * KIB));
    let before = pair.server().memory();
    shrink(&mut pair);
    assert!(pair.server().memory() < before);
}

#[test]
fn reset_data_is_not_delivered() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Server);
    pair.write(Server, stream, &bytes(10_000));
    pair.server().stream(stream).reset(tcpls_core::ErrorCode(7)).unwrap();
    pair.drive();
    assert_eq!(pair.server().delivered(), 0);
}

#[test]
fn an_evicted_session_ends_at_once_and_the_peer_learns_why() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Server);
    pair.write(Server, stream, &bytes(500 * KIB));
    pair.step(Server);
    let now = pair.now;
    pair.server().evict(now);
    assert_eq!(pair.server().state(), State::Closed);
    assert_eq!(pair.close_reason(Server), Some(CloseReason::Evicted));
    let rest = pair.server().memory();
    assert!(rest < 32 * KIB, "{rest}");
    assert_eq!(pair.server().stream(stream).write(b"x"), Err(WriteError::Closed));
    pair.drive();
    let reason = pair.close_reason(Client);
    assert!(matches!(reason, Some(CloseReason::Peer { error: code::OVERLOADED, .. })), "{reason:?}");
    assert_eq!(pair.stream_end(Client, stream), Some(Err(ReadError::Truncated)));
}

#[test]
fn a_stranded_session_and_one_in_its_handshake_can_be_evicted() {
    let mut pair = Pair::established();
    pair.cut(FIRST);
    let now = pair.now;
    assert!(matches!(pair.server().state(), State::Stranded { .. }));
    pair.server().evict(now);
    assert_eq!(pair.close_reason(Server), Some(CloseReason::Evicted));

    let mut pair = Setup::default().start();
    pair.client().evict(now);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Evicted));
    pair.client().evict(now);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Evicted));
}
