//! Acknowledgments that arrive on another TCP connection than the records they name: they may have been due for any time,
//! and show nothing about the path as it is now.

use std::time::Duration;

use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::peer::Peer;
use crate::support::peer::frames::ack;
use crate::support::{Client, Pair, Server, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SECOND: ConnectionId = ConnectionId(1);

/// A session with two TCP connections and nothing outstanding.
fn rested() -> Peer {
    let mut peer = Peer::client();
    peer.join();
    peer.rest();
    peer
}

/// Pings the first TCP connection; returns the number of the record.
fn ping(peer: &mut Peer) -> u64 {
    peer.conn.ping(FIRST).unwrap();
    peer.recv(FIRST);
    peer.received(FIRST) - 1
}

#[test]
fn an_old_record_acknowledged_on_another_tcp_connection_does_not_end_a_stall() {
    let mut peer = rested();
    let before = ping(&mut peer);
    peer.sleep(500);
    peer.recv(FIRST);
    let since = peer.received(FIRST) - 1;
    assert!(peer.conn.is_stalled(FIRST) && since > before, "a Ping follows the stall");
    peer.take_events();
    let rtt = |peer: &Peer| peer.conn.tcp_stats(FIRST).unwrap().smoothed_rtt;
    let known = rtt(&peer);
    peer.send(SECOND, &[ack(FIRST, before)]);
    assert!(peer.conn.is_stalled(FIRST), "the record may have arrived before the path was dark");
    assert_eq!((peer.tcp_events(), rtt(&peer)), (vec![], known));
    peer.send(SECOND, &[ack(FIRST, since)]);
    assert_eq!(peer.tcp_events(), [TcpEvent::Resumed { tcp: FIRST }], "the path carried the Ping");
}

#[test]
fn an_old_record_acknowledged_on_its_own_tcp_connection_ends_the_stall() {
    let mut peer = rested();
    let before = ping(&mut peer);
    peer.sleep(500);
    assert!(peer.conn.is_stalled(FIRST));
    peer.recv(FIRST);
    peer.sleep(5);
    peer.send(FIRST, &[ack(FIRST, before)]);
    assert!(!peer.conn.is_stalled(FIRST), "the acknowledgment itself came over the path");
    let rtt = |peer: &Peer| peer.conn.tcp_stats(FIRST).unwrap().smoothed_rtt;
    let (known, during) = (rtt(&peer), before + 1);
    peer.sleep(10);
    peer.send(SECOND, &[ack(FIRST, during)]);
    assert_eq!(rtt(&peer), known, "the Ping of the stall gives no sample after it");
}

#[test]
fn on_another_tcp_connection_the_next_answer_is_due_since_its_record_was_sent() {
    let stalled_after = |on| {
        let mut peer = rested();
        let first = ping(&mut peer);
        peer.sleep(10);
        ping(&mut peer);
        peer.sleep(10);
        peer.send(on, &[ack(FIRST, first)]);
        (0..1000).find(|_| {
            peer.sleep(1);
            peer.conn.is_stalled(FIRST)
        })
    };
    assert_eq!(stalled_after(FIRST), stalled_after(SECOND).map(|after| after + 10));
}

#[test]
fn a_dark_path_stays_stalled_however_late_its_last_records_are_acknowledged() {
    let mut pair = Pair::with_tcp_connections(2);
    for tcp in [FIRST, SECOND] {
        pair.client().ping(tcp).unwrap();
        pair.server().ping(tcp).unwrap();
    }
    pair.drive();
    // The server receives the client's last record, but its answer, and every later record, meets a dark path.
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, &bytes(1000));
    pair.step(Client);
    assert!(pair.deliver(FIRST, Server, 10_000) > 1000);
    pair.stall(FIRST);
    // Once its own Ping is overdue, the server acknowledges on the other what arrived long ago.
    pair.drive_for(Duration::from_secs(3));
    assert!(pair.client().is_stalled(FIRST) && pair.server().is_stalled(FIRST));
    assert!(pair.client().tcp_stats(FIRST).unwrap().bytes_in_flight < 1000, "the test is about nothing");
    let resumed = |pair: &mut Pair, side: Side| {
        let resumed = Event::Tcp(TcpEvent::Resumed { tcp: FIRST });
        pair.events(side).iter().filter(|event| **event == resumed).count()
    };
    assert_eq!([Client, Server].map(|side| resumed(&mut pair, side)), [0, 0]);
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!([Client, Server].map(|side| resumed(&mut pair, side)), [1, 1]);
}
