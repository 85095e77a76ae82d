//! Connection Status: what the session sends and probes when a TCP connection becomes a backup, is stalled or is retired.

use tcpls_core::event::TcpEvent;
use tcpls_core::wire::frame::Frame;
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::peer::frames::{PING, ack, connection_reset, connection_status, stream};
use crate::support::peer::{FIRST, Peer, SECOND, frames_of};

const NONE: [bool; 0] = [];

/// A session with three TCP connections, with round trips of 20 ms and nothing outstanding.
fn rested() -> (Peer, ConnectionId) {
    let mut peer = Peer::client();
    peer.join();
    let third = peer.join();
    peer.rest();
    for tcp in [FIRST, SECOND, third] {
        peer.conn.ping(tcp).unwrap();
        peer.recv(tcp);
        peer.sleep(20);
        acknowledge(&mut peer, tcp);
    }
    (peer, third)
}

/// The same with an open stream of the peer's.
fn with_stream() -> (Peer, ConnectionId) {
    let (mut peer, third) = rested();
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.rest();
    (peer, third)
}

/// Whether the session pings the second TCP connection now, and no other.
fn pings_second(peer: &mut Peer) -> bool {
    let records = [FIRST, SECOND].map(|tcp| peer.recv(tcp));
    let [first, second] = records.map(|records| frames_of(&records).contains(&PING));
    assert!(!first);
    second
}

fn acknowledge(peer: &mut Peer, tcp: ConnectionId) {
    let last = peer.received(tcp) - 1;
    peer.send(tcp, &[ack(tcp, last)]);
}

/// The Connection Statuses about `about` among what the session sends on `tcp` now: backup or not.
fn statuses(peer: &mut Peer, tcp: ConnectionId, about: ConnectionId) -> Vec<bool> {
    let records = peer.recv(tcp);
    let status = |frame| match frame {
        Frame::ConnectionStatus(status) if status.tcp == about => Some(status.backup),
        _ => None,
    };
    frames_of(&records).into_iter().filter_map(status).collect()
}

#[test]
fn tcp_connection_that_the_peer_makes_a_backup_is_pinged_once() {
    let (mut peer, _) = with_stream();
    let mut pings = |backup| {
        peer.send(FIRST, &[connection_status(SECOND, backup)]);
        let pings = pings_second(&mut peer);
        peer.rest();
        pings
    };
    assert!(pings(true), "does the peer receive nothing there?");
    assert!(!pings(true), "nothing has changed");
    assert!(!pings(false), "it is wanted");
    assert!(pings(true));
}

#[test]
fn backup_is_pinged_when_a_stream_opens_if_none_is_open() {
    let (mut peer, _) = rested();
    peer.send(FIRST, &[connection_status(SECOND, true)]);
    assert!(!pings_second(&mut peer), "nothing waits for the answer");
    peer.sleep(1000);
    assert!(!pings_second(&mut peer));
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.sleep(0);
    assert!(pings_second(&mut peer));
}

#[test]
fn backup_is_not_pinged_before_an_outstanding_answer_arrives() {
    let (mut peer, _) = with_stream();
    peer.conn.stream(StreamId(0)).attach(SECOND).unwrap();
    peer.conn.stream(StreamId(0)).write(b"y").unwrap();
    peer.recv(SECOND);
    peer.send(FIRST, &[connection_status(SECOND, true)]);
    assert!(!pings_second(&mut peer), "the answer, or its absence, shows the same");
    acknowledge(&mut peer, SECOND);
    peer.sleep(0);
    assert!(pings_second(&mut peer), "the answer may have been sent before the status");
}

#[test]
fn backup_that_is_wanted_again_before_a_stream_opens_is_not_pinged() {
    let (mut peer, _) = rested();
    peer.send(FIRST, &[connection_status(SECOND, true)]);
    peer.send(FIRST, &[connection_status(SECOND, false)]);
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.sleep(0);
    assert!(!pings_second(&mut peer));
}

#[test]
fn retiring_tcp_connection_is_not_pinged_when_the_peer_makes_it_a_backup() {
    let (mut peer, _) = with_stream();
    peer.conn.retire_tcp(peer.now, SECOND).unwrap();
    peer.send(FIRST, &[connection_status(SECOND, true)]);
    assert!(!pings_second(&mut peer), "it ends in any case");
}

/// The second TCP connection stalls with a Ping outstanding.
fn stall_second(peer: &mut Peer) {
    peer.conn.ping(SECOND).unwrap();
    peer.recv(SECOND);
    peer.sleep(500);
    assert!(peer.conn.is_stalled(SECOND));
}

#[test]
fn stall_is_reported_although_a_status_is_in_flight_on_the_stalled_tcp_connection() {
    let (mut peer, _) = rested();
    stall_second(&mut peer);
    assert_eq!(statuses(&mut peer, FIRST, SECOND), [true]);
    acknowledge(&mut peer, FIRST);
    peer.recv(SECOND);
    acknowledge(&mut peer, SECOND);
    assert_eq!(statuses(&mut peer, SECOND, SECOND), [false], "it answers");
    // And answers no more.
    stall_second(&mut peer);
    assert_eq!(statuses(&mut peer, FIRST, SECOND), [true]);
    acknowledge(&mut peer, FIRST);
    // The status from before the stall arrives last.
    acknowledge(&mut peer, SECOND);
    assert_eq!(peer.tcp_events().last(), Some(&TcpEvent::Resumed { tcp: SECOND }));
    assert_eq!(statuses(&mut peer, FIRST, SECOND), [false]);
}

#[test]
fn status_is_sent_again_when_an_older_one_arrives_after_it() {
    let (mut peer, third) = rested();
    peer.conn.set_backup(third, true).unwrap();
    assert_eq!(statuses(&mut peer, SECOND, third), [true]);
    peer.conn.set_backup(third, false).unwrap();
    assert_eq!(statuses(&mut peer, FIRST, third), NONE, "the two could arrive in either order");
    stall_second(&mut peer);
    assert_eq!(statuses(&mut peer, FIRST, third), [false]);
    acknowledge(&mut peer, FIRST);
    peer.sleep(10);
    assert_eq!(statuses(&mut peer, FIRST, third), NONE);
    let old = peer.received(SECOND) - 2;
    peer.send(SECOND, &[ack(SECOND, old)]);
    assert_eq!(statuses(&mut peer, FIRST, third), [false]);
    acknowledge(&mut peer, FIRST);
    peer.sleep(10);
    assert_eq!(statuses(&mut peer, FIRST, third), NONE, "the peer has it");
}

#[test]
fn status_is_sent_again_when_the_tcp_connection_of_an_older_one_is_lost() {
    let (mut peer, third) = rested();
    peer.conn.set_backup(third, true).unwrap();
    assert_eq!(statuses(&mut peer, SECOND, third), [true]);
    stall_second(&mut peer);
    assert_eq!(statuses(&mut peer, FIRST, third), [true]);
    acknowledge(&mut peer, FIRST);
    peer.send(FIRST, &[connection_reset(SECOND)]);
    assert_eq!(statuses(&mut peer, FIRST, third), [true], "the older one may have arrived last");
}
