//! Failures of the table in `docs/failures.md` that belong to no other file: joins that are cut, processes that hang,
//! clocks that jump, paths dark in one direction, several failures, and key updates meanwhile.

use std::time::Duration;

use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::connection::{State, TcpEnd};
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::peer::{FIRST, SECOND};
use crate::support::{Client, Pair, Server, Setup, Side, bytes};

#[test]
fn a_join_that_is_cut_after_any_number_of_bytes_loses_nothing() {
    let data = bytes(30_000);
    let flight = |pair: &mut Pair, to: Side, tcp: ConnectionId| pair.flow(tcp, to).in_flight.len();
    let mut cut_at = 0;
    loop {
        let mut pair = Pair::established();
        let stream = pair.open_stream(Client);
        pair.submit(Client, stream, &data);
        let tcp = pair.open_tcp();
        pair.step(Client);
        let len = flight(&mut pair, Server, tcp);
        pair.deliver(tcp, Server, cut_at.min(len));
        pair.step(Server);
        if cut_at % 2 == 1 {
            pair.deliver(tcp, Client, usize::MAX);
        }
        pair.cut(tcp);
        pair.drive();
        pair.assert_received(Server, stream, &data);
        assert_eq!(pair.live(Client), [FIRST]);
        assert_eq!(pair.live(Server), [FIRST]);
        assert!(pair.client().tokens() >= 1, "a token replaces the one that was spent");
        pair.join();
        if cut_at >= len {
            return;
        }
        cut_at += 97;
    }
}

#[test]
fn hanging_peer_is_lost_within_the_user_timeout_and_found_when_it_wakes() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(100_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.step(Client);
    [FIRST, SECOND].into_iter().for_each(|tcp| pair.stall(tcp)); // nothing is taken out of the receive buffers
    pair.drive_for(Duration::from_secs(11));
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::UserTimeout));
    pair.heal();
    let back = pair.open_tcp();
    pair.drive();
    assert!(pair.live(Client).contains(&back));
    pair.assert_received(Server, stream, &data);
}

#[test]
fn clock_jump_triggers_only_expired_timeouts() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.transfer(Client, &bytes(10_000));
    pair.advance(Duration::from_secs(30)); // a laptop slept; nothing was owed
    pair.transfer(Client, &bytes(10_000));
    pair.advance(Duration::from_secs(3_600));
    for side in [Client, Server] {
        assert_eq!(pair.close_reason(side), Some(CloseReason::IdleTimeout), "{side:?}");
    }
}

#[test]
fn a_path_that_is_dark_in_one_direction_loses_nothing_in_either() {
    for dark in [Client, Server] {
        let mut pair = Pair::with_tcp_connections(2);
        [Client, Server].into_iter().for_each(|side| pair.conn(side).set_scheduler(Box::new(Aggregate)));
        let data = bytes(400_000);
        let streams = [Client, Server].map(|side| (side, pair.open_stream(side)));
        for (side, id) in streams {
            pair.submit(side, id, &data);
        }
        pair.round();
        pair.flow(FIRST, dark).stalled = true;
        pair.drive_for(Duration::from_secs(3));
        for (side, id) in streams {
            pair.assert_received(side.peer(), id, &data);
        }
        assert_eq!(pair.close_reason(Client), None);
    }
}

#[test]
fn keys_change_again_and_again_while_tcp_connections_join_and_fail() {
    let mut pair = Setup::default().both(|config| config.confidentiality_limit = Some(40)).established();
    [Client, Server].into_iter().for_each(|side| pair.conn(side).set_scheduler(Box::new(Aggregate)));
    let mut spare = pair.join();
    let data = bytes(900_000);
    for turn in 0..12 {
        let streams = [Client, Server].map(|side| (side, pair.open_stream(side)));
        streams.into_iter().for_each(|(side, id)| pair.submit(side, id, &data));
        (0..turn).for_each(|_| _ = pair.round());
        let why = [Client, Server].map(|side| pair.close_reason(side));
        assert_eq!(why, [None, None], "turn {turn}");
        let joining = pair.open_tcp();
        pair.step(Client);
        let failing = if turn % 3 == 0 { joining } else { spare };
        if turn % 2 == 0 {
            pair.cut(failing);
        } else {
            pair.flow(failing, Server).in_flight.clear();
            pair.flow(failing, Server).send(b"spoilt");
        }
        pair.drive();
        for (side, id) in streams {
            pair.assert_received(side.peer(), id, &data);
        }
        spare = if turn % 3 == 0 { spare } else { joining };
        assert_eq!(pair.live(Client).len(), 2, "turn {turn}");
        pair.drive_for(Duration::from_secs(1)); // 32 KeyUpdates a second are allowed
    }
    for side in [Client, Server] {
        let updates = pair.conn(side).stats().key_updates.0;
        assert!(updates >= 12, "{side:?} has renewed its keys {updates} times");
    }
}

#[test]
fn each_byte_is_requeued_at_most_once_for_each_failure() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_scheduler(Box::new(Aggregate));
    let data = bytes(600_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    let mut failures = 0;
    while pair.stream_end(Server, stream).is_none() {
        pair.round();
        if failures < 6 {
            let live = pair.live(Client);
            let victim = live[failures % live.len()];
            // One end hears of it at once, the other only by a bad record.
            if failures % 2 == 0 {
                let now = pair.now;
                pair.client().handle_tcp_end(now, victim, TcpEnd::Reset);
                pair.settle();
            } else {
                pair.cut(victim);
            }
            failures += 1;
            pair.join();
        }
    }
    pair.drive();
    pair.assert_received(Server, stream, &data);
    let stats = pair.client().stats();
    let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
    let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
    assert!(again <= failures as u64 * data.len() as u64);
    assert!(sent <= data.len() as u64 + again, "{sent} bytes were sent, {again} of them were requeued");
    assert_eq!(stats.bytes_to_send, 0);
}
