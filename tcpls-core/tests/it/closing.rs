//! The end of a session: orderly, with an error, by both endpoints at once, by timeouts.

use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::{SendProgress, State, TcpInfo};
use tcpls_core::error::{CloseReason, OpenStreamError, OpenTcpError, ReadError, TcpError, WriteError};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::peer::frames::ack;
use crate::support::peer::{ALERT, Peer, Record};
use crate::support::{Client, Pair, Server, Setup, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn local(error: u32) -> Option<CloseReason> {
    Some(CloseReason::Local { error: ErrorCode(error) })
}

fn by_peer(error: u32, reason: &[u8]) -> Option<CloseReason> {
    Some(CloseReason::Peer { error: ErrorCode(error), reason: reason.to_vec() })
}

#[test]
fn closing_delivers_all_that_was_written() {
    for (closer, n) in [(Client, 1), (Server, 1), (Client, 3), (Server, 3)] {
        let mut pair = Pair::with_tcp_connections(n);
        let data = bytes(900_000);
        let stream = pair.open_stream(closer);
        pair.write(closer, stream, &data);
        pair.finish(closer, stream);
        pair.close(closer, 0, b"done");
        pair.drive();
        pair.assert_received(closer.peer(), stream, &data);
        assert_eq!(pair.close_reason(closer), local(0));
        assert_eq!(pair.close_reason(closer.peer()), by_peer(0, b"done"));
        assert_eq!(pair.conn(closer).undelivered(), 0);
    }
}

#[test]
fn a_status_that_waits_for_one_on_a_dark_tcp_connection_does_not_delay_closing() {
    let mut pair = Pair::with_tcp_connections(2);
    let second = ConnectionId(1);
    pair.stall(FIRST);
    pair.client().set_backup(second, true).unwrap();
    pair.step(Client); // the status goes out on the first, which is asked first
    pair.client().set_backup(second, false).unwrap();
    pair.close(Client, 0, b"");
    pair.drive();
    assert_eq!(pair.close_reason(Client), local(0));
    assert_eq!(pair.close_reason(Server), by_peer(0, b""));
}

// draft E04
#[test]
fn peer_receives_the_code_and_the_reason() {
    for closer in [Client, Server] {
        let mut pair = Pair::with_tcp_connections(2);
        pair.close(closer, 42, b"enough");
        pair.drive();
        assert_eq!(pair.close_reason(closer.peer()), by_peer(42, b"enough"));
        assert!(pair.events(closer.peer()).contains(&Event::PeerClosing { error: ErrorCode(42) }));
        assert_eq!(pair.close_reason(closer), local(42));
        for side in [Client, Server] {
            let discarded = pair.tcp_events(side).iter().filter(|e| matches!(e, TcpEvent::Discarded { .. })).count();
            assert_eq!(discarded, 2, "{side:?}");
        }
    }
}

#[test]
fn closing_with_an_error_drops_what_was_not_sent() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &bytes(1_000_000));
    pair.close(Client, 7, b"");
    pair.drive();
    assert_eq!(pair.close_reason(Server), by_peer(7, b""));
    let (read, undelivered) = (pair.read_all(Server, stream).len() as u64, pair.client().undelivered());
    assert!(read < 1_000_000 && undelivered >= 1_000_000 - read, "{undelivered} and {read} bytes");
    assert!(matches!(pair.stream_end(Server, stream), None | Some(Err(ReadError::Truncated))));
}

// draft I29
#[test]
fn both_may_close_at_once() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.close(Client, 1, b"mine");
    pair.close(Server, 2, b"mine too");
    pair.drive();
    assert_eq!(pair.close_reason(Client), local(1));
    assert_eq!(pair.close_reason(Server), local(2));
}

#[test]
fn of_two_that_close_at_once_both_deliver_what_they_have_written() {
    for (n, turns) in [(1, 0), (2, 0), (2, 1), (2, 3)] {
        let mut pair = Pair::with_tcp_connections(n);
        let data = bytes(300_000);
        let streams = [Client, Server].map(|side| (side, pair.open_stream(side)));
        for (side, id) in streams {
            pair.write(side, id, if side == Client { &data } else { &data[..5_000] });
            pair.finish(side, id);
        }
        (0..turns).for_each(|_| _ = pair.round());
        pair.close(Client, 0, b"");
        pair.close(Server, 0, b"");
        pair.drive();
        for (side, id) in streams {
            pair.assert_received(side.peer(), id, if side == Client { &data } else { &data[..5_000] });
        }
        assert_eq!(pair.close_reason(Client), local(0));
        assert_eq!(pair.close_reason(Server), local(0));
    }
}

#[test]
fn endpoints_closing_at_once_wait_for_data_on_a_slower_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(2);
    let slow = ConnectionId(1);
    let id = pair.open_stream(Server);
    pair.server().stream(id).attach(slow).unwrap();
    pair.write(Server, id, &bytes(5_000));
    pair.finish(Server, id);
    pair.flow(slow, Client).stalled = true;
    pair.step(Server);
    pair.close(Client, 0, b"");
    pair.close(Server, 0, b"");
    (0..10).for_each(|_| _ = pair.round());
    assert_eq!(pair.client().state(), State::Closing, "it has heard the end on one of two");
    pair.flow(slow, Client).stalled = false;
    pair.drive();
    pair.assert_received(Client, id, &bytes(5_000));
    assert_eq!(pair.close_reason(Client), local(0));
}

#[test]
fn of_two_that_close_at_once_neither_waits_for_a_window_that_never_opens() {
    let mut pair = Setup::default().both(|config| config.initial_stream_window = 1024).established();
    pair.end(Client).reads = false;
    let id = pair.open_stream(Server);
    pair.write(Server, id, &bytes(50_000));
    pair.finish(Server, id);
    pair.close(Client, 0, b"");
    pair.close(Server, 0, b"");
    pair.drive();
    assert_eq!(pair.close_reason(Client), local(0));
    assert_eq!(pair.close_reason(Server), local(0));
    pair.end(Client).reads = true;
    pair.step(Client);
    assert_eq!(pair.stream_end(Client, id), Some(Err(ReadError::Truncated)), "and it does not look complete");
}

#[test]
fn closing_twice_changes_nothing() {
    let mut pair = Pair::established();
    pair.close(Client, 0, b"first");
    pair.close(Client, 9, b"second");
    pair.drive();
    pair.close(Client, 9, b"third");
    pair.close(Server, 9, b"fourth");
    pair.drive();
    assert_eq!(pair.close_reason(Client), local(0));
    assert_eq!(pair.close_reason(Server), by_peer(0, b"first"));
}

#[test]
fn a_session_that_never_carried_anything_closes_within_two_round_trips() {
    let mut pair = Pair::established();
    pair.close(Client, 0, b"");
    (0..3).for_each(|_| _ = pair.round());
    assert_eq!(pair.client().state(), State::Closed);
    assert_eq!(pair.server().state(), State::Closed);
    assert!(!pair.has_socket(FIRST));
}

#[test]
fn client_that_closes_during_the_handshake_sends_user_canceled() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.close(Client, 3, b"changed my mind");
    pair.drive();
    assert_eq!(pair.close_reason(Client), local(3));
    assert_eq!(pair.server().state(), State::Closed);
}

#[test]
fn a_stream_without_an_end_is_reported_as_cut_short() {
    let mut pair = Pair::with_tcp_connections(2);
    let (whole, half) = (pair.open_stream(Client), pair.open_stream(Client));
    pair.submit(Client, whole, b"whole");
    pair.write(Client, half, b"half");
    pair.drive();
    pair.close(Client, 0, b"");
    pair.drive();
    pair.assert_received(Server, whole, b"whole");
    assert_eq!(pair.read_all(Server, half), b"half");
    assert_eq!(pair.stream_end(Server, half), Some(Err(ReadError::Truncated)), "draft, 4.5");
}

#[test]
fn data_before_the_end_is_readable_after_it() {
    let mut pair = Pair::established();
    pair.end(Server).reads = false;
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &[9; 100_000]);
    pair.drive();
    pair.close(Client, 0, b"");
    pair.drive();
    assert_eq!(pair.server().state(), State::Closed);
    pair.end(Server).reads = true;
    pair.assert_received(Server, stream, &[9; 100_000]);
}

#[test]
fn an_idle_session_ends_on_both_sides() {
    let setup = Setup::default().both(|config| config.idle_timeout = Some(Duration::from_secs(20)));
    let mut pair = setup.established();
    pair.drive_for(Duration::from_secs(15));
    pair.client().ping(FIRST).unwrap();
    pair.drive_for(Duration::from_secs(15));
    assert_eq!(pair.client().state(), State::Established, "a ping keeps it alive");
    pair.drive_for(Duration::from_secs(10));
    let reasons = [Client, Server].map(|side| pair.close_reason(side));
    assert!(reasons.contains(&Some(CloseReason::IdleTimeout)), "{reasons:?}");
    assert!(reasons.iter().all(Option::is_some), "{reasons:?}");
}

#[test]
fn session_with_keep_alive_is_idle_only_after_it_is_disabled() {
    let setup = Setup::default().both(|config| config.idle_timeout = Some(Duration::from_secs(20)));
    for (side, interval) in [(Client, 5), (Server, 5), (Client, 1_000)] {
        let mut pair = setup.clone().established();
        pair.conn(side).set_keep_alive(Some(Duration::from_secs(interval)));
        let pings = |pair: &mut Pair| pair.conn(side).stats().frames_sent.get(0x01);
        let before = pings(&mut pair);
        pair.drive_for(Duration::from_secs(200));
        let ends = [Client, Server].map(|side| (pair.conn(side).state(), pair.close_reason(side)));
        assert!(ends.iter().all(|(state, _)| *state == State::Established), "{side:?}, {interval} s: {ends:?}");
        // After each interval, or half of the idle timeout.
        let expected = 200 / interval.min(10);
        assert!((expected - 1..=expected).contains(&(pings(&mut pair) - before)), "{} Pings", pings(&mut pair));
        pair.conn(side).set_keep_alive(None);
        pair.drive_for(Duration::from_secs(21));
        let reasons = [Client, Server].map(|side| pair.close_reason(side));
        assert!(reasons.contains(&Some(CloseReason::IdleTimeout)), "{reasons:?}");
    }
}

#[test]
fn the_shorter_idle_timeout_of_both_ends_counts_on_both() {
    for (client, server) in [(20, 60), (60, 20)] {
        let mut setup = Setup::default();
        setup.client.idle_timeout = Some(Duration::from_secs(client));
        setup.server.idle_timeout = Some(Duration::from_secs(server));
        let mut pair = setup.established();
        pair.stall(FIRST);
        pair.drive_for(Duration::from_secs(30));
        let reasons = [Client, Server].map(|side| pair.close_reason(side));
        assert_eq!(reasons, [Some(CloseReason::IdleTimeout), Some(CloseReason::IdleTimeout)]);
    }
}

#[test]
fn without_an_idle_timeout_silence_is_no_end() {
    let mut pair = Setup::default().both(|config| config.idle_timeout = None).established();
    assert_eq!((pair.client().poll_timeout(), pair.server().poll_timeout()), (None, None));
    pair.drive_for(Duration::from_secs(100_000));
    pair.transfer(Client, b"good morning");
}

#[test]
fn a_silent_peer_does_not_keep_a_session_from_closing() {
    let mut pair = Pair::established();
    pair.stall(FIRST);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &[1; 200_000]);
    pair.close(Client, 0, b"");
    pair.drive_for(Duration::from_secs(4));
    assert_eq!(pair.client().state(), State::Closing);
    pair.drive_for(Duration::from_secs(2));
    assert_eq!(pair.close_reason(Client), local(0));
}

#[test]
fn a_stranded_session_can_be_closed() {
    let mut pair = Pair::established();
    pair.cut(FIRST);
    pair.close(Client, 5, b"");
    pair.drive_for(Duration::from_secs(6));
    assert_eq!(pair.close_reason(Client), local(5));
}

#[test]
fn a_join_under_way_does_not_delay_closing() {
    let mut pair = Pair::established();
    let second = pair.open_tcp_slowly();
    pair.stall(second);
    pair.drive();
    pair.close(Client, 0, b"");
    pair.drive();
    assert_eq!(pair.client().state(), State::Closed);
    assert_eq!(pair.server().state(), State::Closed);
}

#[test]
fn every_call_returns_an_error_after_the_end() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"x");
    pair.close(Client, 1, b"");
    pair.drive();
    let now = pair.now;
    let conn = pair.client();
    assert_eq!(conn.open_stream(), Err(OpenStreamError::Closed));
    assert_eq!(conn.open_tcp(now), Err(OpenTcpError::Closed));
    assert_eq!(conn.retire_tcp(now, FIRST), Err(TcpError::Closed));
    assert_eq!(conn.ping(FIRST), Err(TcpError::Closed));
    assert_eq!(conn.stream(stream).write(b"y"), Err(WriteError::Closed));
    assert!(conn.stream(StreamId(8)).write(b"y").is_err());
    assert_eq!(conn.poll_timeout(), None);
    conn.handle_timeout(now);
    conn.update_keys(now);
    assert_eq!(conn.poll_transmit(now, FIRST, 100_000, &mut Vec::new()), 0);
    assert_eq!(conn.poll_event(), None);
}

#[test]
fn long_reason_is_truncated_to_the_room() {
    for room in [256, 300, 700, 1100, 1200] {
        let mut pair = Pair::established();
        let now = pair.now;
        pair.client().close(now, ErrorCode(3), &[b'x'; 1024]);
        let (now, mut out) = (pair.now, Vec::new());
        while pair.client().wants_write(FIRST) {
            let written = pair.client().poll_transmit(now, FIRST, room, &mut out);
            assert!(written <= room, "{written} bytes for a room of {room}");
        }
        pair.flow(FIRST, Server).send(&out);
        pair.drive();
        let Some(CloseReason::Peer { error: ErrorCode(3), reason }) = pair.close_reason(Server) else {
            panic!("the server must hear the reason");
        };
        assert!(reason.len() == 1024 || room < 1200 && reason.len() >= 80, "{} of it in {room}", reason.len());
    }
}

#[test]
fn a_session_without_tcp_connections_that_is_closed_is_over() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        pair.cut(FIRST);
        pair.close(side, 0, b"no peer receives this");
        assert_eq!(pair.conn(side).state(), State::Closed, "{side:?} can't be joined any more");
    }
}

/// A session that has sent ten records of 1,000 bytes, the last with the end of their stream, and is closing; and the
/// numbers of those records.
fn closing_with_ten_records(config: Config) -> (Peer, Vec<u64>) {
    let (mut peer, numbers) = sent_ten_records(config);
    peer.conn.close(peer.now, ErrorCode(0), b"");
    (peer, numbers)
}

fn sent_ten_records(config: Config) -> (Peer, Vec<u64>) {
    let mut peer = Peer::with(Client, config);
    let id = peer.conn.open_stream().unwrap();
    let mut numbers = Vec::new();
    for index in 0..10 {
        peer.conn.stream(id).write(&[index; 1_000]).unwrap();
        if index == 9 {
            peer.conn.stream(id).finish().unwrap();
        }
        numbers.extend(peer.recv(FIRST).last().and_then(|record| record.number));
    }
    assert_eq!(numbers.len(), 10);
    (peer, numbers)
}

#[test]
fn closing_continues_while_the_peer_makes_progress() {
    let (mut peer, numbers) = closing_with_ten_records(Config::default());
    for number in numbers {
        peer.sleep(4_000);
        assert_eq!(peer.conn.state(), State::Closing);
        peer.send(FIRST, &[ack(FIRST, number)]);
    }
    assert_eq!(peer.recv(FIRST).last().and_then(Record::alert), Some(0));
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert_eq!(peer.conn.close_reason(), local(0).as_ref());
    assert_eq!(peer.conn.undelivered(), 0);
}

#[test]
fn close_that_is_cut_short_reports_undelivered_bytes() {
    let (mut peer, numbers) = closing_with_ten_records(Config::default());
    peer.sleep(1_000);
    peer.send(FIRST, &[ack(FIRST, numbers[2])]);
    peer.sleep(4_900);
    assert_eq!(peer.conn.state(), State::Closing);
    peer.sleep(200);
    assert_eq!(peer.conn.close_reason(), local(0).as_ref());
    assert_eq!(peer.conn.undelivered(), 7_001, "seven records, and the end of the stream");
}

#[test]
fn closing_ends_at_its_limit_for_any_slow_peer() {
    let limit = Duration::from_secs(20);
    let (mut peer, numbers) = closing_with_ten_records(Config::default().with(|config| config.close_limit = limit));
    let began = peer.now;
    for number in numbers {
        peer.sleep(3_000);
        if peer.conn.close_reason().is_some() {
            break;
        }
        peer.send(FIRST, &[ack(FIRST, number)]);
    }
    assert!(peer.now - began <= limit + Duration::from_secs(3));
    assert_eq!(peer.conn.undelivered(), 4_001);
}

#[test]
fn bytes_that_the_peers_kernel_acknowledges_keep_a_close_going() {
    let (mut peer, _) =
        closing_with_ten_records(Config::default().with(|config| config.user_timeout = Duration::from_secs(60)));
    for acked in 0..10 {
        peer.sleep(if acked == 0 { 0 } else { 4_000 });
        let rtt = Duration::from_millis(10);
        peer.conn.handle_tcp_info(
            FIRST,
            TcpInfo::default().with(|info| {
                info.heard = peer.now;
                info.unacked = 9;
                info.rtt = rtt;
                info.min_rtt = rtt;
                info.acked = acked;
            }),
        );
    }
    assert_eq!(peer.conn.state(), State::Closing);
    peer.sleep(5_000);
    assert_eq!(peer.conn.undelivered(), 10_001);
}

#[test]
fn data_dropped_intentionally_does_not_count_as_undelivered() {
    let mut pair = Pair::established();
    pair.stall(FIRST);
    let (reset, unfinished, finished) = (pair.open_stream(Client), pair.open_stream(Client), pair.open_stream(Client));
    for stream in [reset, unfinished, finished] {
        pair.write(Client, stream, &[1; 100]);
    }
    pair.client().stream(reset).reset(ErrorCode(1)).unwrap();
    pair.finish(Client, finished);
    pair.close(Client, 7, b"");
    pair.drive_for(Duration::from_secs(6));
    assert_eq!(pair.client().undelivered(), 201);
}

#[test]
fn close_that_reports_nothing_undelivered_has_delivered_all() {
    let (data, mut whole, mut cut) = (bytes(400_000), 0, 0);
    for (before, after, all) in (0..8).flat_map(|before| (0..12).map(move |after| (before, after, after % 2 == 0))) {
        let mut pair = Pair::with_tcp_connections(2);
        pair.socket_buffer = 20_000;
        let id = pair.open_stream(Client);
        pair.submit(Client, id, b"GET /");
        pair.drive();
        pair.submit(Server, id, &data);
        (0..before).for_each(|_| _ = pair.round());
        pair.close(Server, 0, b"");
        (0..after).for_each(|_| _ = pair.round());
        for tcp in if all { &[FIRST, ConnectionId(1)][..] } else { &[FIRST] } {
            if pair.has_socket(*tcp) {
                pair.cut(*tcp);
            }
        }
        pair.drive_for(Duration::from_secs(120));
        assert!(pair.close_reason(Server).is_some() && pair.close_reason(Client).is_some());
        let has_all = pair.read_all(Client, id).len() == data.len() && pair.stream_end(Client, id) == Some(Ok(()));
        if pair.server().undelivered() == 0 && pair.server().stream(id).sending() == SendProgress::Over {
            assert!(has_all, "after {before} and {after} rounds");
            whole += 1;
        } else {
            cut += 1;
        }
    }
    assert!(whole > 5 && cut > 5, "{whole} and {cut}");
}

#[test]
fn closing_with_an_error_has_nothing_to_wait_for() {
    let (mut peer, numbers) = sent_ten_records(Config::default());
    peer.conn.close(peer.now, ErrorCode(7), b"");
    // The socket is full; the peer takes a little now and then.
    for number in &numbers[..2] {
        assert_eq!(peer.conn.state(), State::Closing);
        peer.sleep(2_400);
        peer.send(FIRST, &[ack(FIRST, *number)]);
    }
    peer.sleep(300);
    assert_eq!(peer.conn.close_reason(), local(7).as_ref());
}
