//! Backups carry nothing while another TCP connection works, and are found dark when they are needed.

use std::time::Duration;

use tcpls_core::event::TcpEvent;
use tcpls_core::wire::frame::Frame;
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::peer::frames::{PING, ack, connection_reset, socket_address, stream};
use crate::support::peer::{FIRST, Peer, SECOND, frames_of};
use crate::support::{Client, Pair, Server, Side, bytes};

/// What both ends have sent on a TCP connection, in records.
fn records(pair: &mut Pair, tcp: ConnectionId) -> [u64; 2] {
    [Client, Server].map(|side| pair.conn(side).tcp_stats(tcp).unwrap().counters.records_sent)
}

/// A session in which the client has made `backup`, one of two TCP connections, a backup, and the answers have arrived.
fn with_backup(backup: ConnectionId) -> Pair {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_backup(backup, true).unwrap();
    pair.drive_for(Duration::from_secs(10));
    pair
}

#[test]
fn backup_carries_nothing_while_another_tcp_connection_works() {
    for backup in [FIRST, SECOND] {
        let mut pair = with_backup(backup);
        let stream = pair.open_stream(Client);
        pair.write(Client, stream, &[1]);
        pair.drive_for(Duration::from_secs(10)); // it is pinged once, because it became a backup
        let before = records(&mut pair, backup);
        // An idle session with a stream.
        pair.drive_for(Duration::from_secs(600));
        assert_eq!(records(&mut pair, backup), before, "{backup}: no stream data");
        // Data in both directions, and the frames that go with it.
        for side in [Client, Server] {
            let bulk = pair.open_stream(side);
            pair.submit(side, bulk, &bytes(10_000_000));
        }
        pair.drive_for(Duration::from_secs(600));
        assert!(pair.conn(Client).stats().frames_sent.get(0x02) > 500, "the test is about nothing");
        assert_eq!(records(&mut pair, backup), before, "{backup}: 20 MB");
        // A session without streams, with a keep-alive that the idle timeout shortens.
        pair.finish(Client, stream);
        pair.finish(Server, stream);
        pair.client().set_keep_alive(Some(Duration::from_secs(300)));
        pair.server().set_keep_alive(Some(Duration::from_secs(1)));
        pair.drive_for(Duration::from_secs(600));
        assert_eq!(records(&mut pair, backup), before, "{backup}: a keep-alive");
        assert!([Client, Server].iter().all(|side| pair.close_reason(*side).is_none()), "{backup}: it lives");
    }
}

#[test]
fn keep_alives_are_sent_on_backups_if_all_are_backups() {
    let mut pair = with_backup(FIRST);
    pair.client().set_backup(SECOND, true).unwrap();
    pair.client().set_keep_alive(Some(Duration::from_secs(10)));
    pair.drive_for(Duration::from_secs(10));
    let before = records(&mut pair, FIRST);
    pair.drive_for(Duration::from_secs(95));
    let after = records(&mut pair, FIRST);
    assert_eq!([0, 1].map(|side| after[side] - before[side]), [10, 10], "Pings, and answers to them");
}

/// The times, from now on, after which `side` notes that each TCP connection is stalled.
fn stalls_after(pair: &mut Pair, side: Side, longest: Duration) -> [Duration; 2] {
    let start = pair.now;
    [FIRST, SECOND].map(|tcp| {
        let is_stalled = |pair: &mut Pair| pair.conn(side).is_stalled(tcp);
        while !is_stalled(pair) && pair.now - start < longest {
            pair.drive_for(Duration::from_millis(1));
        }
        assert!(is_stalled(pair), "{side:?}: {tcp}");
        pair.now - start
    })
}

#[test]
fn backup_that_failed_unnoticed_stalls_soon_after_it_is_needed() {
    for side in [Client, Server] {
        let mut pair = with_backup(SECOND);
        let stream = pair.open_stream(side);
        pair.write(side, stream, b"x");
        pair.drive_for(Duration::from_secs(100));
        pair.stall(SECOND);
        pair.drive_for(Duration::from_secs(1000));
        assert!(!pair.conn(side).is_stalled(SECOND), "nothing was sent there");
        pair.stall(FIRST);
        pair.write(side, stream, b"y");
        let [first, second] = stalls_after(&mut pair, side, Duration::from_secs(1));
        assert!(first < second && second < Duration::from_millis(200), "{side:?}: {first:?}, {second:?}");
        pair.join();
        pair.drive_for(Duration::from_millis(100));
        assert_eq!(pair.read_all(side.peer(), stream), b"xy", "the data follows");
    }
}

#[test]
fn backup_is_probed_at_once_when_the_used_tcp_connection_stalls() {
    let mut pair = with_backup(SECOND);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"a question");
    pair.drive_for(Duration::from_secs(100));
    pair.stall(SECOND);
    pair.stall(FIRST);
    // Neither has anything to send: only a probe of the one that is used, after 32 s at most, shows that it is dark.
    let [first, second] = stalls_after(&mut pair, Client, Duration::from_secs(33));
    assert!(second - first < Duration::from_millis(200), "{first:?}, {second:?}");
}

#[test]
fn control_frames_and_acks_wait_for_a_full_socket_rather_than_use_a_backup() {
    for is_backup in [false, true] {
        let mut peer = Peer::client();
        peer.join();
        peer.rest();
        peer.conn.set_backup(SECOND, is_backup).unwrap();
        peer.rest();
        let seen = peer.send(FIRST, &[stream(0, 0, b"x")]);
        peer.conn.stream(StreamId(0)).write(b"y").unwrap();
        peer.conn.handle_full(peer.now, FIRST);
        peer.sleep(30);
        peer.conn.advertise(socket_address(1)).unwrap();
        let is_new = |frame: &Frame<'_>| matches!(frame, Frame::NewAddress(_));
        let records = peer.recv(SECOND);
        let frames = frames_of(&records);
        assert_eq!(frames.contains(&ack(FIRST, seen)), !is_backup, "{frames:?}");
        assert_eq!(frames.iter().any(is_new), !is_backup, "{frames:?}");
        let records = peer.recv(FIRST);
        let frames = frames_of(&records);
        assert_eq!(frames.contains(&ack(FIRST, seen)), is_backup, "{frames:?}");
        assert_eq!(frames.iter().any(is_new), is_backup, "{frames:?}");
    }
}

#[test]
fn final_ack_of_a_lost_tcp_connection_does_not_go_along_on_a_backup() {
    const LOST: ConnectionId = ConnectionId(2);
    for is_backup in [false, true] {
        let mut peer = Peer::client();
        peer.join();
        peer.join();
        peer.rest();
        peer.conn.set_backup(SECOND, is_backup).unwrap();
        peer.rest();
        let seen = peer.send(LOST, &[stream(0, 0, b"x")]);
        peer.conn.handle_full(peer.now, FIRST);
        peer.send(FIRST, &[connection_reset(LOST)]);
        let asked = peer.send(SECOND, &[PING]);
        peer.sleep(30);
        let records = peer.recv(SECOND);
        let frames = frames_of(&records);
        assert!(frames.contains(&ack(SECOND, asked)), "{frames:?}");
        assert_eq!(frames.contains(&ack(LOST, seen)), !is_backup, "{frames:?}");
        let records = peer.recv(FIRST);
        assert_eq!(frames_of(&records).contains(&ack(LOST, seen)), is_backup, "{records:?}");
    }
}

#[test]
fn backup_carries_control_frames_and_acks_while_the_others_are_stalled() {
    let mut peer = Peer::client();
    peer.join();
    peer.rest();
    peer.conn.set_backup(SECOND, true).unwrap();
    peer.rest();
    let seen = peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.conn.ping(FIRST).unwrap();
    peer.recv(FIRST);
    peer.sleep(4_000);
    assert!(peer.conn.is_stalled(FIRST));
    assert!(peer.tcp_events().contains(&TcpEvent::Stalled { tcp: FIRST }));
    peer.conn.advertise(socket_address(1)).unwrap();
    let records = peer.recv(SECOND);
    let frames = frames_of(&records);
    assert!(frames.contains(&ack(FIRST, seen)), "{frames:?}");
    assert!(frames.contains(&PING), "{frames:?}");
    assert!(frames.iter().any(|frame| matches!(frame, Frame::NewAddress(_))), "{frames:?}");
}
