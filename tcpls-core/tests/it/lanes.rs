//! Lanes: interactive streams and bulk data on different TCP connections.

use std::time::Duration;

use tcpls_core::connection::JoinOptions;
use tcpls_core::connection::schedule::RoundRobin;
use tcpls_core::wire::frame::ty;
use tcpls_core::wire::ids::{ConnectionId, Side, StreamId};
use tcpls_core::{Config, Lanes, StreamClass, Time};

use crate::support::{Client, Pair, Server, Setup, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
/// More than an interactive stream may have under way.
const MUCH: usize = 65 * 1024;

fn lane(pair: &mut Pair) -> ConnectionId {
    let lane = pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
    pair.drive();
    lane
}

fn carried(pair: &mut Pair, side: Side, tcp: ConnectionId) -> u64 {
    pair.conn(side).tcp_stats(tcp).unwrap().counters.stream_bytes_sent
}

/// Four, in which some of a transfer moves and its acknowledgments come back.
fn rounds(pair: &mut Pair) {
    (0..4).for_each(|_| _ = pair.round());
}

/// Begins a transfer of `len` bytes from `side` that is under way afterwards.
fn begin_bulk(pair: &mut Pair, side: Side, len: usize) -> StreamId {
    let bulk = pair.open_stream(side);
    pair.submit(side, bulk, &bytes(len));
    rounds(pair);
    bulk
}

fn request(pair: &mut Pair, side: Side, len: usize) -> StreamId {
    let id = pair.open_stream(side);
    pair.conn(side).stream(id).set_priority(1).unwrap();
    pair.submit(side, id, &bytes(len));
    id
}

fn with_lanes(client: Lanes, server: Lanes) -> Pair {
    let config = |lanes| Config::default().with(|config| config.lanes = lanes);
    Setup { client: config(client), server: config(server), ..Setup::default() }.established()
}

#[test]
fn request_and_answer_use_the_lane_and_bulk_data_does_not() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        let lane = lane(&mut pair);
        assert!([Client, Server].iter().all(|side| pair.conn(*side).tcp_stats(lane).unwrap().lane));
        let bulk = begin_bulk(&mut pair, side, 3_000_000);
        let id = request(&mut pair, Client, 1000);
        rounds(&mut pair);
        // The server's application sets no priority: the answer goes where the request came from.
        pair.submit(Server, id, &bytes(2000));
        pair.drive();
        pair.assert_received(Server, id, &bytes(1000));
        pair.assert_received(Client, id, &bytes(2000));
        pair.assert_received(side.peer(), bulk, &bytes(3_000_000));
        assert_eq!([Client, Server].map(|side| carried(&mut pair, side, lane)), [1000, 2000], "bulk of {side:?}");
        assert_eq!(carried(&mut pair, side, FIRST), 3_000_000);
    }
}

#[test]
fn lane_is_declared_once_by_the_client_in_its_first_record() {
    let mut pair = Pair::established();
    lane(&mut pair);
    pair.transfer(Client, &bytes(100_000));
    assert_eq!(pair.client().stats().frames_sent.get(ty::LANE), 1);
    assert_eq!(pair.server().stats().frames_sent.get(ty::LANE), 0);
}

#[test]
fn bulk_data_uses_the_lane_once_every_other_tcp_connection_is_lost() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    let bulk = begin_bulk(&mut pair, Client, 1_000_000);
    pair.cut(FIRST);
    pair.drive();
    pair.assert_received(Server, bulk, &bytes(1_000_000));
    assert!(carried(&mut pair, Client, lane) > 500_000);
    assert!(pair.client().stats().tcp.iter().any(|tcp| tcp.tcp == lane && tcp.lane));
}

#[test]
fn interactive_streams_use_the_others_once_the_lane_is_lost() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    begin_bulk(&mut pair, Client, 1_000_000);
    pair.stall(lane);
    let id = request(&mut pair, Client, 1000);
    pair.round();
    pair.cut(lane);
    pair.drive();
    pair.assert_received(Server, id, &bytes(1000));
}

#[test]
fn lane_relieves_no_stalled_tcp_connection_of_its_bulk_data() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    let bulk = begin_bulk(&mut pair, Client, 1_000_000);
    pair.stall(FIRST);
    for _ in 0..200 {
        pair.advance(Duration::from_millis(10));
        pair.drive();
    }
    assert!(pair.client().is_stalled(FIRST));
    assert_eq!(carried(&mut pair, Client, lane), 0);
    pair.unstall(FIRST);
    pair.drive();
    pair.assert_received(Server, bulk, &bytes(1_000_000));
    assert_eq!(carried(&mut pair, Client, FIRST), 1_000_000, "nothing was sent twice");
}

#[test]
fn stream_with_priority_and_much_to_send_is_bulk() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    begin_bulk(&mut pair, Client, 3_000_000);
    let id = request(&mut pair, Client, 1_000_000);
    pair.drive();
    pair.assert_received(Server, id, &bytes(1_000_000));
    assert!(carried(&mut pair, Client, lane) < MUCH as u64, "only its end may use the lane");
}

#[test]
fn application_decides_by_class_if_it_does_not_by_priority() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    begin_bulk(&mut pair, Client, 3_000_000);
    let [wanted, unwanted] = [StreamClass::Interactive, StreamClass::Bulk].map(|class| {
        let id = pair.open_stream(Client);
        pair.client().stream(id).set_class(class).unwrap();
        pair.client().stream(id).set_priority(1).unwrap();
        id
    });
    pair.submit(Client, unwanted, &bytes(1000));
    pair.round();
    assert_eq!(carried(&mut pair, Client, lane), 0);
    pair.submit(Client, wanted, &bytes(200_000));
    pair.drive();
    assert_eq!(carried(&mut pair, Client, lane), 200_000);
}

#[test]
fn stream_of_priority_zero_is_interactive_beside_one_below() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    let bulk = pair.open_stream(Client);
    pair.client().stream(bulk).set_priority(-1).unwrap();
    pair.submit(Client, bulk, &bytes(3_000_000));
    rounds(&mut pair);
    let id = pair.open_stream(Client);
    pair.submit(Client, id, &bytes(1000));
    pair.drive();
    assert_eq!(carried(&mut pair, Client, lane), 1000);
}

#[test]
fn interactive_streams_avoid_a_tcp_connection_with_bulk_data_without_any_lane() {
    let mut pair = Pair::with_tcp_connections(2);
    let second = ConnectionId(1);
    let bulk = pair.open_stream(Client);
    pair.client().stream(bulk).attach(FIRST).unwrap();
    pair.client().stream(bulk).set_priority(-1).unwrap();
    pair.submit(Client, bulk, &bytes(3_000_000));
    rounds(&mut pair);
    let before = carried(&mut pair, Client, second);
    for _ in 0..10 {
        request(&mut pair, Client, 1000);
        pair.round();
    }
    assert_eq!(carried(&mut pair, Client, second) - before, 10_000);
}

#[test]
fn lane_is_wanted_while_interactive_streams_and_bulk_data_move_side_by_side() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        begin_bulk(&mut pair, side, 3_000_000);
        assert_eq!((pair.client().wants_lane(), pair.client().lanes_until()), (None, None), "no interactive stream");
        request(&mut pair, Client, 1000);
        rounds(&mut pair);
        assert_eq!(pair.client().wants_lane(), Some(FIRST), "bulk of {side:?}");
        assert_eq!(pair.server().wants_lane(), None, "it cannot open one");
        pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
        assert_eq!(pair.client().wants_lane(), None, "there is one");
        pair.drive();
        let until = pair.client().lanes_until().unwrap();
        assert!(until > pair.now && until <= pair.now + Duration::from_secs(10));
    }
}

#[test]
fn little_data_of_other_streams_wants_no_lane() {
    let mut pair = Pair::established();
    for _ in 0..20 {
        request(&mut pair, Client, 1000);
        pair.transfer(Client, &bytes(5_000));
        pair.advance(Duration::from_millis(500));
    }
    assert_eq!(pair.client().wants_lane(), None);
}

#[test]
fn lane_is_wanted_on_each_path() {
    let mut pair = with_lanes(Lanes::Always, Lanes::Auto);
    let second = pair.join();
    let address = |n: u8| Some(([10, 0, 0, n], 443).into());
    pair.client().set_tcp_addresses(FIRST, address(1), address(9));
    pair.client().set_tcp_addresses(second, address(2), address(9));
    assert_eq!(pair.client().wants_lane(), Some(FIRST));
    let lane = lane(&mut pair);
    pair.client().set_tcp_addresses(lane, address(1), address(9));
    assert_eq!(pair.client().wants_lane(), Some(second));
    pair.client().set_backup(second, true).unwrap();
    assert_eq!(pair.client().wants_lane(), None, "a metered path");
    assert_eq!(pair.client().lanes_until(), Some(Time::MAX));
}

#[test]
fn peer_without_lanes_gets_ordinary_tcp_connections() {
    for lanes in [(Lanes::Auto, Lanes::Off), (Lanes::Off, Lanes::Auto)] {
        let mut pair = with_lanes(lanes.0, lanes.1);
        begin_bulk(&mut pair, Client, 3_000_000);
        request(&mut pair, Client, 1000);
        rounds(&mut pair);
        assert_eq!(pair.client().wants_lane(), None);
        let second = lane(&mut pair);
        assert!(!pair.client().tcp_stats(second).unwrap().lane && !pair.server().tcp_stats(second).unwrap().lane);
        assert_eq!(pair.client().stats().frames_sent.get(ty::LANE), 0);
    }
}

#[test]
fn marked_transfer_is_bulk_even_if_the_send_buffer_leaves_it_little() {
    let config = Config::default().with(|config| (config.send_buffer, config.stream_send_buffer) = (1 << 20, 1 << 20));
    let mut pair = Setup { client: config, ..Setup::default() }.established();
    let lane = lane(&mut pair);
    begin_bulk(&mut pair, Client, 30_000_000);
    let id = request(&mut pair, Client, 1_500_000);
    pair.drive();
    pair.assert_received(Server, id, &bytes(1_500_000));
    let on_lane = carried(&mut pair, Client, lane);
    assert!(on_lane < 2 * MUCH as u64, "{on_lane} bytes on the lane");
}

#[test]
fn stream_that_writes_little_at_a_time_stays_interactive() {
    let mut pair = Pair::established();
    let lane = lane(&mut pair);
    let id = pair.open_stream(Client);
    pair.client().stream(id).set_priority(1).unwrap();
    for _ in 0..100 {
        pair.write(Client, id, &bytes(5_000));
        pair.drive();
        pair.advance(Duration::from_millis(100));
        pair.round();
    }
    begin_bulk(&mut pair, Client, 3_000_000);
    let before = carried(&mut pair, Client, lane);
    pair.write(Client, id, &bytes(5_000));
    pair.drive();
    assert_eq!(carried(&mut pair, Client, lane) - before, 5_000);
}

#[test]
fn marked_download_counts_as_bulk_at_the_receiver() {
    let mut pair = Pair::established();
    let id = request(&mut pair, Client, 1000);
    rounds(&mut pair);
    assert_eq!(pair.client().wants_lane(), None);
    pair.submit(Server, id, &bytes(3_000_000));
    rounds(&mut pair);
    assert_eq!(pair.client().wants_lane(), Some(FIRST));
}

#[test]
fn no_lane_is_wanted_at_the_limit_of_tcp_connections() {
    let config = Config::default().with(|config| (config.lanes, config.max_tcp_connections) = (Lanes::Always, 1));
    let mut pair = Setup { client: config.clone(), server: config, ..Setup::default() }.established();
    assert_eq!(pair.client().wants_lane(), None);
}

#[test]
fn no_second_lane_is_wanted_before_the_addresses_of_the_first_are_known() {
    let mut pair = with_lanes(Lanes::Always, Lanes::Auto);
    let address = |n: u8| Some(([10, 0, 0, n], 443).into());
    pair.client().set_tcp_addresses(FIRST, address(1), address(9));
    pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
    assert_eq!(pair.client().wants_lane(), None);
}

#[test]
fn join_beside_a_lane_gets_an_equal_share_of_bulk_data() {
    let mut pair = Pair::established();
    pair.client().set_scheduler(Box::new(RoundRobin));
    lane(&mut pair);
    pair.transfer(Client, &bytes(3_000_000));
    pair.join();
    let before = carried(&mut pair, Client, FIRST);
    (0..30).for_each(|_| pair.transfer(Client, &bytes(10_000)));
    assert!(carried(&mut pair, Client, FIRST) - before >= 100_000);
}
