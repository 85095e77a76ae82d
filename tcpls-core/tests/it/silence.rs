//! Stalled TCP connections: their data is hedged on others before it is known whether they are lost, and at most once.

use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::{TcpEnd, TcpInfo, TimeoutReason};
use tcpls_core::error::TcpFault;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::peer::frames::{PING, ack, stream};
use crate::support::peer::joins::answer_bytes;
use crate::support::peer::{Peer, frames_of};
use crate::support::{Client, Pair, Server, Setup, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SECOND: ConnectionId = ConnectionId(1);

fn tcp_stats(pair: &mut Pair, side: Side, tcp: ConnectionId) -> (u64, u64) {
    let counters = pair.conn(side).tcp_stats(tcp).unwrap().counters;
    (counters.stream_bytes_sent, counters.requeued_bytes)
}

fn said(pair: &mut Pair, side: Side, event: TcpEvent) -> usize {
    pair.events(side).iter().filter(|other| **other == Event::Tcp(event)).count()
}

/// Two TCP connections with an estimate of their round trips, the first of which swallows what it is given.
fn dark_first() -> Pair {
    let mut pair = Pair::with_tcp_connections(2);
    pair.spread();
    for tcp in [FIRST, SECOND] {
        pair.client().ping(tcp).unwrap();
        pair.server().ping(tcp).unwrap();
    }
    pair.drive();
    pair.stall(FIRST);
    pair
}

/// `side` has sent data of a stream, of which the dark TCP connection carries as many bytes as returned.
fn sent_into_the_dark(side: Side) -> (Pair, StreamId, u64) {
    let mut pair = dark_first();
    let stream = pair.open_stream(side);
    pair.submit(side, stream, &bytes(50_000));
    pair.step(side);
    let (carried, _) = tcp_stats(&mut pair, side, FIRST);
    assert!(carried > 0, "the test is about nothing");
    (pair, stream, carried)
}

#[test]
fn data_of_a_stalled_tcp_connection_is_reinjected_in_a_probe_timeout() {
    let (mut pair, stream, carried) = sent_into_the_dark(Server);
    assert_eq!(pair.server().timeout_reason(), Some(TimeoutReason::Silence));
    pair.drive_for(Duration::from_millis(60));
    pair.assert_received(Client, stream, &bytes(50_000));
    assert_eq!(tcp_stats(&mut pair, Server, FIRST), (carried, carried));
    assert_eq!(said(&mut pair, Server, TcpEvent::Stalled { tcp: FIRST }), 1);
    assert_eq!(pair.fault(Server, FIRST), None, "it is not given up for that");
}

#[test]
fn tcp_connection_without_a_link_stalls_at_once_and_its_data_is_reinjected() {
    let (mut pair, stream, carried) = sent_into_the_dark(Client);
    let now = pair.now;
    for _ in 0..2 {
        pair.client().handle_path_down(now, FIRST);
    }
    assert!(pair.client().is_stalled(FIRST));
    pair.drive_for(Duration::from_millis(1));
    pair.assert_received(Server, stream, &bytes(50_000));
    assert_eq!(tcp_stats(&mut pair, Client, FIRST), (carried, carried));
    assert_eq!(said(&mut pair, Client, TcpEvent::Stalled { tcp: FIRST }), 1);
    let status = TcpEvent::Status { tcp: FIRST, backup: true };
    assert_eq!(said(&mut pair, Server, status), 1, "the peer sends nothing on it either");
    assert_eq!(pair.fault(Client, FIRST), None, "it may come back");
    let now = pair.now;
    pair.client().handle_tcp_end(now, FIRST, TcpEnd::PathDown);
    pair.drive_for(Duration::from_millis(1));
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::PathDown));
    assert_eq!(pair.fault(Server, FIRST), Some(TcpFault::PeerReset(6)), "both ends name the cause");
}

#[test]
fn only_tcp_connections_that_have_joined_stall_without_a_link() {
    let mut pair = Pair::established();
    let joining = pair.open_tcp();
    let now = pair.now;
    for tcp in [joining, ConnectionId(77)] {
        pair.client().handle_path_down(now, tcp);
        assert!(!pair.client().is_stalled(tcp), "{tcp}");
    }
    pair.client().handle_path_down(now, FIRST);
    assert!(pair.client().is_stalled(FIRST), "also the only one");
    pair.drive_for(Duration::from_millis(100));
    assert_eq!(said(&mut pair, Client, TcpEvent::Resumed { tcp: FIRST }), 1, "the report was wrong: it answers");
}

#[test]
fn stalled_tcp_connection_is_reported_to_the_peer() {
    let mut pair = dark_first();
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(50_000));
    pair.drive();
    assert_eq!(said(&mut pair, Client, TcpEvent::Status { tcp: FIRST, backup: true }), 1);
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!(said(&mut pair, Client, TcpEvent::Status { tcp: FIRST, backup: false }), 1);
}

#[test]
fn stalled_tcp_connection_gets_no_new_data_until_it_answers() {
    let mut pair = dark_first();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &bytes(40_000));
    pair.drive();
    let (before, _) = tcp_stats(&mut pair, Client, FIRST);
    pair.transfer(Client, &bytes(200_000));
    assert_eq!(tcp_stats(&mut pair, Client, FIRST).0, before);
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!(said(&mut pair, Client, TcpEvent::Resumed { tcp: FIRST }), 1);
    pair.transfer(Client, &bytes(200_000));
    assert!(tcp_stats(&mut pair, Client, FIRST).0 > before, "it is used again");
}

#[test]
fn hedged_data_is_not_requeued_when_the_stalled_tcp_connection_is_lost() {
    let mut pair = dark_first();
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(50_000));
    pair.drive();
    let (sent, _) = tcp_stats(&mut pair, Client, SECOND);
    pair.cut(FIRST);
    pair.drive();
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::Reset));
    assert_eq!(tcp_stats(&mut pair, Client, SECOND).0, sent);
    pair.assert_received(Server, stream, &bytes(50_000));
}

#[test]
fn stall_of_the_only_tcp_connection_is_reported_without_reinjection() {
    let mut pair = Pair::established();
    pair.stall(FIRST);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(50_000));
    pair.drive_for(Duration::from_secs(5));
    assert_eq!(said(&mut pair, Client, TcpEvent::Stalled { tcp: FIRST }), 1);
    pair.unstall(FIRST);
    pair.drive();
    pair.assert_received(Server, stream, &bytes(50_000));
    assert_eq!(tcp_stats(&mut pair, Client, FIRST), (50_000, 0));
    assert_eq!(said(&mut pair, Client, TcpEvent::Resumed { tcp: FIRST }), 1);
    assert_eq!(said(&mut pair, Server, TcpEvent::Status { tcp: FIRST, backup: true }), 0, "there is no other to use");
}

#[test]
fn data_of_the_only_stalled_tcp_connection_is_reinjected_after_a_join() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        pair.client().ping(FIRST).unwrap();
        pair.server().ping(FIRST).unwrap();
        pair.drive();
        pair.stall(FIRST);
        let stream = pair.open_stream(side);
        pair.submit(side, stream, &bytes(50_000));
        pair.drive_for(Duration::from_secs(1));
        assert!(pair.conn(side).is_stalled(FIRST));
        assert!(pair.conn(side).tcp_stats(FIRST).unwrap().stalled);
        pair.open_tcp();
        pair.drive_for(Duration::from_millis(10));
        pair.assert_received(side.peer(), stream, &bytes(50_000));
    }
}

/// Two TCP connections, the first of them dark, whose acknowledgments may take 200 ms.
fn patient() -> Pair {
    let mut pair = Setup::default().both(|config| config.max_ack_delay = Duration::from_millis(200)).established();
    pair.join();
    pair.spread();
    pair.stall(FIRST);
    pair
}

/// The report of a TCP stack that last received a segment `ago` and expects more, on a path with a queue.
fn info(now: Time, ago: Duration) -> TcpInfo {
    let heard = Time::from_nanos(now.as_nanos() - ago.as_nanos() as u64);
    TcpInfo::default().with(|info| {
        info.heard = heard;
        info.unacked = 20;
        info.rtt = Duration::from_millis(60);
        info.min_rtt = Duration::from_millis(10);
    })
}

#[test]
fn tcp_stack_that_receives_nothing_shows_a_dark_path_before_an_ack_is_late() {
    let mut pair = patient();
    let (now, started) = (pair.now, pair.now);
    pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO));
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(50_000));
    pair.drive_for(Duration::from_millis(70));
    assert!(tcp_stats(&mut pair, Server, FIRST).0 > 0, "the test is about nothing");
    assert_eq!(said(&mut pair, Server, TcpEvent::Stalled { tcp: FIRST }), 0, "TCP's round trip is not over");
    pair.drive_for(Duration::from_millis(20));
    assert_eq!(said(&mut pair, Server, TcpEvent::Stalled { tcp: FIRST }), 1);
    pair.assert_received(Client, stream, &bytes(50_000));
    assert!(pair.now - started < Duration::from_millis(200), "it would have stalled anyway");
}

#[test]
fn endpoint_without_data_expects_no_answer_of_the_peers_tcp_stack() {
    let mut pair = Pair::with_tcp_connections(2);
    let now = pair.now;
    pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO).with(|info| info.unacked = 0));
    let before = pair.server().poll_timeout();
    assert_eq!(pair.server().poll_transmit(now, FIRST, 10_000, &mut Vec::new()), 0);
    assert_eq!(pair.server().poll_timeout(), before);
}

#[test]
fn a_wrong_stall_ends_with_the_answer_to_a_ping_and_the_next_takes_longer() {
    let mut pair = patient();
    pair.unstall(FIRST);
    for patience in [76, 152] {
        let now = pair.now;
        pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO));
        pair.flow(FIRST, Client).stalled = true;
        pair.server().ping(FIRST).unwrap();
        pair.drive_for(Duration::from_millis(patience - 2));
        assert!(!pair.server().is_stalled(FIRST), "{patience}");
        pair.drive_for(Duration::from_millis(4));
        assert!(pair.server().is_stalled(FIRST), "{patience}");
        pair.unstall(FIRST);
        pair.drive_for(Duration::from_millis(10));
        assert!(!pair.server().is_stalled(FIRST), "{patience}");
        let now = pair.now;
        pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO).with(|info| info.unacked = 0));
    }
    assert_eq!(said(&mut pair, Server, TcpEvent::Resumed { tcp: FIRST }), 2);
}

#[test]
fn a_stalled_tcp_connection_without_records_in_flight_is_pinged_and_resumes() {
    let mut pair = patient();
    pair.unstall(FIRST);
    let now = pair.now;
    pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO));
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.flow(FIRST, Client).stalled = true;
    pair.submit(Client, stream, b"a question");
    pair.drive_for(Duration::from_millis(300));
    assert!(pair.server().is_stalled(FIRST), "its acknowledgment did not get through");
    pair.unstall(FIRST);
    pair.drive_for(Duration::from_millis(10));
    assert!(!pair.server().is_stalled(FIRST));
}

#[test]
fn acks_sent_on_a_lost_or_stalled_tcp_connection_are_repeated_on_others() {
    for lost in [false, true] {
        let mut peer = Peer::client();
        peer.join();
        peer.rest();
        let seen = peer.send(FIRST, &[stream(0, 0, b"x")]);
        peer.conn.stream(StreamId(0)).write(b"y").unwrap();
        peer.conn.handle_full(peer.now, FIRST); // others acknowledge for it
        peer.sleep(30);
        assert!(frames_of(&peer.recv(SECOND)).contains(&ack(FIRST, seen)));
        if lost {
            peer.conn.handle_tcp_end(peer.now, SECOND, TcpEnd::Reset);
        } else {
            peer.conn.ping(SECOND).unwrap();
            peer.recv(SECOND);
            peer.sleep(4_000);
            assert!(peer.conn.is_stalled(SECOND));
        }
        assert!(frames_of(&peer.recv(FIRST)).contains(&ack(FIRST, seen)), "lost: {lost}");
    }
}

#[test]
fn a_tcp_connection_whose_kernel_answers_while_its_process_hangs_stays_stalled() {
    let mut pair = dark_first();
    let stream = pair.open_stream(Server);
    pair.submit(Server, stream, &bytes(50_000));
    for _ in 0..100 {
        let now = pair.now;
        pair.server().handle_tcp_info(FIRST, info(now, Duration::ZERO));
        pair.drive_for(Duration::from_millis(5));
    }
    assert_eq!(said(&mut pair, Server, TcpEvent::Stalled { tcp: FIRST }), 1);
    assert_eq!(said(&mut pair, Server, TcpEvent::Resumed { tcp: FIRST }), 0);
    pair.assert_received(Client, stream, &bytes(50_000));
}

#[test]
fn when_all_are_silent_the_first_to_answer_carries_everything() {
    let mut pair = dark_first();
    pair.stall(SECOND);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(500_000));
    pair.drive_for(Duration::from_secs(2));
    pair.unstall(FIRST);
    pair.drive_for(Duration::from_secs(2));
    pair.assert_received(Server, stream, &bytes(500_000));
}

#[test]
fn records_of_a_stalled_tcp_connection_are_acknowledged_on_others() {
    let mut pair = dark_first();
    // Only the way from the client is dark: what the server sends on the first still comes.
    pair.flow(FIRST, Client).stalled = false;
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &bytes(40_000));
    pair.drive();
    assert!(pair.client().is_stalled(FIRST));
    let (before, _) = tcp_stats(&mut pair, Server, FIRST);
    let answer = pair.open_stream(Server);
    pair.server().stream(answer).attach(FIRST).unwrap();
    pair.submit(Server, answer, &bytes(40_000));
    pair.drive();
    pair.assert_received(Client, answer, &bytes(40_000));
    assert_eq!(
        tcp_stats(&mut pair, Server, FIRST),
        (before + 40_000, 0),
        "all went on it, and nothing had to go out again"
    );
    assert_eq!(said(&mut pair, Server, TcpEvent::Stalled { tcp: FIRST }), 0);
}

#[test]
fn retiring_tcp_connection_that_stalls_is_discarded() {
    let mut pair = dark_first();
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(50_000));
    pair.step(Client);
    let now = pair.now;
    pair.client().retire_tcp(now, FIRST).unwrap();
    pair.drive();
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::Retired));
    pair.assert_received(Server, stream, &bytes(50_000));
}

#[test]
fn a_side_that_only_waits_asks_for_a_sign_of_life_and_notices_that_a_path_is_dark() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, b"a question");
    pair.drive_for(Duration::from_secs(1));
    assert_eq!(pair.client().timeout_reason(), Some(TimeoutReason::Probe));
    [FIRST, SECOND].into_iter().for_each(|tcp| pair.stall(tcp));
    pair.drive_for(Duration::from_secs(2));
    for tcp in [FIRST, SECOND] {
        assert_eq!(said(&mut pair, Client, TcpEvent::Stalled { tcp }), 1);
    }
}

#[test]
fn session_without_open_streams_is_not_probed() {
    for (config, has_stream) in
        [(Config::default(), false), (Config::default().with(|config| config.probe_after = None), true)]
    {
        let mut pair = Setup::default().both(|both| *both = config.clone()).established();
        if has_stream {
            let stream = pair.open_stream(Client);
            pair.submit(Client, stream, b"a question");
        }
        pair.drive_for(Duration::from_secs(1));
        let before = pair.client().stats().tcp[0].counters.records_sent;
        pair.drive_for(Duration::from_secs(30));
        assert_eq!(pair.client().stats().tcp[0].counters.records_sent, before);
    }
}

#[test]
fn join_without_an_acknowledgment_shows_how_long_an_answer_takes() {
    let mut peer = Peer::server();
    let (hello, _) = peer.let_open(1, true);
    peer.sleep(200);
    peer.send_bytes(SECOND, &answer_bytes(&peer.answer(&hello)));
    peer.send(SECOND, &[PING]);
    assert!(peer.tcp_events().contains(&TcpEvent::Joined { tcp: SECOND }));
    // Twice the time that the join took, and a margin: not the 3.5 s of a path about which nothing is known.
    peer.sleep(239);
    assert!(!peer.conn.is_stalled(SECOND));
    peer.sleep(1);
    assert!(peer.conn.is_stalled(SECOND));
}
