//! Lanes beside a TCP connection that stalls, beside backups, and with policies that treat TCP connections alike.

use std::time::Duration;

use tcpls_core::connection::JoinOptions;
use tcpls_core::connection::schedule::Redundant;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

use crate::support::{Client, Pair, Server, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const TENTH: Duration = Duration::from_millis(100);

fn lane(pair: &mut Pair) -> ConnectionId {
    let lane = pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
    pair.drive();
    lane
}

fn request(pair: &mut Pair, len: usize) -> StreamId {
    let id = pair.open_stream(Client);
    pair.client().stream(id).set_priority(1).unwrap();
    pair.submit(Client, id, &bytes(len));
    id
}

fn carried(pair: &mut Pair, side: Side, tcp: ConnectionId) -> u64 {
    pair.conn(side).tcp_stats(tcp).unwrap().counters.stream_bytes_sent
}

/// Lets `time` pass in steps of 10 ms.
fn pass(pair: &mut Pair, time: Duration) {
    for _ in 0..time.as_millis() / 10 {
        pair.advance(Duration::from_millis(10));
        pair.drive();
    }
}

/// A session whose first TCP connection has stalled with bulk data of `side` that ended long ago, and its lane.
fn beside_a_stalled_one(side: Side) -> (Pair, ConnectionId) {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    request(&mut pair, 100);
    pair.drive();
    let bulk = pair.open_stream(side);
    pair.stall(FIRST);
    pair.submit(side, bulk, &bytes(5_000));
    pass(&mut pair, Duration::from_millis(1500));
    assert!(pair.conn(side).is_stalled(FIRST) && !pair.conn(side).is_stalled(lane));
    (pair, lane)
}

#[test]
fn control_frames_use_the_lane_beside_a_stalled_tcp_connection() {
    let (mut pair, _) = beside_a_stalled_one(Client);
    let id = pair.open_stream(Client);
    pair.write(Client, id, &bytes(1000));
    pair.drive();
    pair.client().stream(id).reset(ErrorCode(7)).unwrap();
    pass(&mut pair, TENTH);
    assert!(pair.stream_end(Server, id).is_some());
}

#[test]
fn windows_of_streams_on_a_lane_grow_beside_a_stalled_tcp_connection() {
    let (mut pair, _) = beside_a_stalled_one(Client);
    let id = pair.open_stream(Server);
    pair.server().stream(id).set_class(tcpls_core::StreamClass::Interactive).unwrap();
    pair.submit(Server, id, &bytes(5_000_000));
    pass(&mut pair, TENTH * 3);
    pair.assert_received(Client, id, &bytes(5_000_000));
}

#[test]
fn requests_and_answers_use_the_lane_beside_a_stalled_tcp_connection() {
    for stalled_by in [Client, Server] {
        let (mut pair, lane) = beside_a_stalled_one(stalled_by);
        let before = [Client, Server].map(|side| carried(&mut pair, side, lane));
        for _ in 0..5 {
            let id = request(&mut pair, 1000);
            pass(&mut pair, TENTH);
            pair.assert_received(Server, id, &bytes(1000));
            pair.submit(Server, id, &bytes(2000));
            pass(&mut pair, TENTH);
            pair.assert_received(Client, id, &bytes(2000));
        }
        let after = [Client, Server].map(|side| carried(&mut pair, side, lane));
        assert_eq!([after[0] - before[0], after[1] - before[1]], [5_000, 10_000], "stalled for {stalled_by:?}");
    }
}

#[test]
fn lane_takes_over_interactive_data_alone_once_and_the_rest_after_the_loss() {
    let mut pair = Pair::established();
    let bulk = pair.open_stream(Client);
    pair.client().stream(bulk).set_priority(-1).unwrap();
    let lane = lane(&mut pair);
    request(&mut pair, 100);
    pair.drive();
    pair.stall(FIRST);
    let id = pair.open_stream(Client);
    pair.client().stream(id).set_class(tcpls_core::StreamClass::Interactive).unwrap();
    pair.client().stream(id).attach(FIRST).unwrap();
    pair.submit(Client, id, &bytes(1000));
    pair.submit(Client, bulk, &bytes(5_000));
    pair.round();
    pair.client().stream(id).detach(FIRST).unwrap();
    let before = carried(&mut pair, Client, lane);
    pass(&mut pair, Duration::from_secs(2));
    pair.assert_received(Server, id, &bytes(1000));
    let again = |pair: &mut Pair, tcp| {
        let stats = pair.client().stats();
        stats.tcp.iter().find(|stats| stats.tcp == tcp).unwrap().counters.requeued_bytes
    };
    assert_eq!((carried(&mut pair, Client, lane) - before, again(&mut pair, FIRST)), (1000, 1000));
    pair.cut(FIRST);
    pair.drive();
    pair.assert_received(Server, bulk, &bytes(5_000));
    assert_eq!((carried(&mut pair, Client, lane) - before, again(&mut pair, FIRST)), (6000, 6000));
}

#[test]
fn data_that_a_lane_took_over_is_not_reinjected_again_after_the_loss() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    pair.drive();
    pair.stall(FIRST);
    pair.stall_towards(lane, Client);
    let id = pair.open_stream(Client);
    pair.client().stream(id).set_class(tcpls_core::StreamClass::Interactive).unwrap();
    pair.client().stream(id).attach(FIRST).unwrap();
    pair.submit(Client, id, &bytes(1000));
    pair.round();
    pair.client().stream(id).detach(FIRST).unwrap();
    for _ in 0..5000 {
        if carried(&mut pair, Client, lane) > 0 {
            break;
        }
        pair.advance(Duration::from_millis(1));
        pair.round();
    }
    assert!(!pair.client().is_stalled(lane));
    pair.cut(FIRST);
    pair.unstall(lane);
    pair.drive();
    pair.assert_received(Server, id, &bytes(1000));
    assert_eq!(carried(&mut pair, Client, lane), 1000);
}

#[test]
fn backup_carries_bulk_data_as_if_there_were_no_lane() {
    for is_stalled in [false, true] {
        let mut pair = Pair::established();
        let backup = pair.join();
        pair.client().set_backup(backup, true).unwrap();
        let lane = lane(&mut pair);
        let bulk = pair.open_stream(Client);
        pair.submit(Client, bulk, &bytes(500_000));
        if is_stalled {
            pair.stall(FIRST);
            pass(&mut pair, Duration::from_secs(2));
        } else {
            pair.cut(FIRST);
        }
        pair.drive();
        pair.assert_received(Server, bulk, &bytes(500_000));
        assert_eq!(carried(&mut pair, Client, lane), 0);
        let id = request(&mut pair, 1000);
        pass(&mut pair, TENTH);
        pair.assert_received(Server, id, &bytes(1000));
        assert_eq!(carried(&mut pair, Client, lane), 1000, "requests use no backup");
    }
}

#[test]
fn redundant_policy_sends_all_data_on_lanes_too() {
    let mut pair = Pair::established();
    pair.client().set_scheduler(Box::new(Redundant));
    let second = pair.join();
    let lane = lane(&mut pair);
    for (len, is_interactive) in [(50_000, false), (1000, true)] {
        let before = [FIRST, second, lane].map(|tcp| carried(&mut pair, Client, tcp));
        let id = pair.open_stream(Client);
        pair.client().stream(id).set_priority(i8::from(is_interactive)).unwrap();
        pair.submit(Client, id, &bytes(len));
        pair.drive();
        let after = [FIRST, second, lane].map(|tcp| carried(&mut pair, Client, tcp));
        let each = [0, 1, 2].map(|n| after[n] - before[n]);
        assert_eq!(each, [len as u64; 3]);
    }
}
