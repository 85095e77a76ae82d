//! Key updates over several TCP connections, each of which steps on its own.

use std::time::Duration;

use tcpls_core::connection::{State, TimeoutReason};
use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ConnectionId;

use crate::support::peer::{Peer, SECOND};
use crate::support::{Client, Pair, Server, Setup, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn assert_updates(pair: &mut Pair, side: Side, own: u32, peers: u32) {
    assert_eq!(pair.conn(side).stats().key_updates, (own, peers), "{side:?}");
}

#[test]
fn an_update_reaches_every_tcp_connection_and_counts_once() {
    // More than there are generations of keys at once.
    let mut pair = Pair::with_tcp_connections(6);
    pair.update_keys(Client);
    pair.drive();
    assert_updates(&mut pair, Client, 1, 0);
    assert_updates(&mut pair, Server, 0, 1);
    for tcp in pair.live(Client) {
        let stream = pair.open_stream(Client);
        pair.client().stream(stream).attach(tcp).unwrap();
        pair.submit(Client, stream, b"under new keys");
        pair.drive();
        pair.assert_received(Server, stream, b"under new keys");
    }
}

#[test]
fn many_updates_in_the_middle_of_bulk_lose_nothing() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(2_000_000);
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &data);
    pair.submit(Server, down, &data);
    for _ in 0..10 {
        pair.update_keys(Client);
        pair.update_keys(Server);
        pair.advance(Duration::from_millis(40));
        pair.round();
    }
    pair.drive();
    pair.assert_received(Server, up, &data);
    pair.assert_received(Client, down, &data);
    let (own, peers) = pair.client().stats().key_updates;
    assert!(own >= 5 && peers >= 5, "{own} and {peers}");
    assert_eq!(pair.server().stats().key_updates, (peers, own));
}

#[test]
fn both_ends_may_update_at_the_same_time() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.update_keys(Client);
    pair.update_keys(Server);
    pair.step(Client);
    pair.step(Server);
    pair.drive();
    for side in [Client, Server] {
        assert_updates(&mut pair, side, 1, 1);
        pair.transfer(side, &[1; 100_000]);
    }
}

#[test]
fn slow_tcp_connection_may_lag_behind_in_key_updates() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, &[1; 30_000]);
    pair.step(Client);
    pair.stall(FIRST);
    pair.update_keys(Client);
    pair.drive();
    let other = pair.open_stream(Client);
    pair.client().stream(other).attach(ConnectionId(1)).unwrap();
    pair.submit(Client, other, &[2; 30_000]);
    pair.drive();
    pair.assert_received(Server, other, &[2; 30_000]);
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!(pair.read_all(Server, stream), [1; 30_000]);
    assert_eq!(pair.live(Server), [FIRST, ConnectionId(1)]);
}

/// The peer keeps keys for what may still come on the slowest, and few generations of them.
#[test]
fn updates_wait_for_a_tcp_connection_that_lags() {
    let mut pair = Pair::with_tcp_connections(3);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, &[1; 30_000]);
    pair.step(Client);
    pair.stall(FIRST);
    let other = pair.open_stream(Client);
    pair.client().stream(other).attach(ConnectionId(1)).unwrap();
    for _ in 0..8 {
        pair.update_keys(Client);
        pair.write(Client, other, &[2; 1000]);
        pair.drive();
    }
    assert_updates(&mut pair, Server, 0, 1);
    assert_eq!(pair.read_all(Server, other), [2; 8000]);
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!(pair.read_all(Server, stream), [1; 30_000]);
    assert_updates(&mut pair, Server, 0, 2);
    for _ in 0..8 {
        pair.update_keys(Client);
        pair.drive();
    }
    assert_updates(&mut pair, Server, 0, 2 + 8);
    assert_eq!(pair.live(Server), [FIRST, ConnectionId(1), ConnectionId(2)]);
}

#[test]
fn renewing_keys_without_pause_stays_within_what_the_peer_allows() {
    let mut pair = Pair::with_tcp_connections(8);
    let (start, mut asked) = (pair.now, 0);
    while pair.now < start + Duration::from_secs(3) {
        pair.update_keys(Client);
        asked += 1;
        pair.now += Duration::from_millis(1);
        pair.round();
    }
    pair.drive();
    let (started, _) = pair.client().stats().key_updates;
    assert!(asked > 1000 && (40..=76).contains(&started), "{asked} asked for, {started} started");
    assert_updates(&mut pair, Server, 0, started);
    assert_eq!(pair.live(Server).len(), 8);
}

#[test]
fn early_key_update_waits_and_starts_by_itself() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.update_keys(Client);
    pair.drive();
    pair.update_keys(Client);
    assert_updates(&mut pair, Client, 1, 0);
    assert_eq!(pair.client().timeout_reason(), Some(TimeoutReason::KeyUpdate));
    pair.drive();
    assert_updates(&mut pair, Client, 2, 0);
    assert_updates(&mut pair, Server, 0, 2);
}

#[test]
fn a_join_under_way_while_keys_change_succeeds() {
    for updater in [Client, Server] {
        for early in [false, true] {
            let mut pair = Pair::established();
            if early {
                pair.update_keys(updater);
                pair.stall(FIRST); // the KeyUpdate is under way when the join arrives
                pair.step(updater);
            }
            let second = pair.open_tcp();
            pair.step(Client);
            if !early {
                pair.update_keys(updater);
            }
            pair.drive();
            pair.unstall(FIRST);
            pair.drive();
            assert_eq!(pair.live(Client), [FIRST, second], "{updater:?}, early: {early}");
            assert_eq!(pair.live(Server), [FIRST, second], "{updater:?}, early: {early}");
            pair.transfer(Client, &[1; 200_000]);
            pair.transfer(Server, &[1; 200_000]);
        }
    }
}

#[test]
fn a_join_that_is_slow_may_begin_one_generation_late() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    pair.step(Client);
    pair.stall(second);
    pair.update_keys(Client);
    pair.drive();
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    pair.transfer(Client, &[1; 200_000]);
}

#[test]
fn a_key_update_that_is_lost_with_its_tcp_connection_harms_no_other() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(300_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.update_keys(Client);
    pair.step(Client);
    pair.cut(FIRST);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    let third = pair.join();
    pair.update_keys(Client);
    pair.drive();
    pair.transfer(Client, &data);
    pair.transfer(Server, &data);
    assert_eq!(pair.live(Server), [ConnectionId(1), third]);
}

#[test]
fn key_updates_without_a_receiver_do_not_keep_a_join_from_succeeding() {
    for side in [Client, Server] {
        let mut pair = Pair::established();
        pair.cut(FIRST);
        (0..5).for_each(|_| pair.update_keys(side));
        let second = pair.join();
        assert_eq!(pair.live(side), [second]);
        pair.transfer(Client, b"here we are");
    }
}

#[test]
fn keys_are_renewed_by_themselves_before_they_are_used_up() {
    let setup = Setup::default().both(|config| config.confidentiality_limit = Some(200));
    let mut pair = setup.established();
    pair.join();
    let data = bytes(20_000_000);
    for part in data.chunks(4_000_000) {
        pair.transfer(Client, part);
        pair.drive_for(Duration::from_secs(1));
    }
    let (own, _) = pair.client().stats().key_updates;
    assert!(own >= 5, "{own}");
    assert_eq!(pair.client().state(), State::Established);
}

#[test]
fn a_stalled_tcp_connection_does_not_let_the_key_of_the_others_run_out() {
    let setup = Setup::default().both(|config| config.confidentiality_limit = Some(400));
    let mut pair = setup.established();
    pair.join();
    pair.stall(FIRST);
    let stream = pair.open_stream(Client);
    let data = bytes(12_000_000);
    pair.submit(Client, stream, &data);
    pair.drive_for(Duration::from_secs(15));
    pair.assert_received(Server, stream, &data);
    assert_eq!(pair.client().state(), State::Established);
}

#[test]
fn records_that_fail_to_open_are_counted_over_all_tcp_connections() {
    let setup = Setup::default().both(|config| config.integrity_limit = Some(3));
    let mut pair = setup.established();
    for round in 1..=4 {
        let tcp = pair.join();
        pair.client().ping(tcp).unwrap();
        pair.step(Client);
        pair.corrupt(tcp, Server);
        pair.drive();
        assert_eq!(pair.close_reason(Server).is_some(), round == 4, "round {round}: {:?}", pair.close_reason(Server));
    }
    let reason = CloseReason::Violation(tcpls_core::error::Violation::IntegrityLimit);
    assert_eq!(pair.close_reason(Server), Some(reason));
    assert!(matches!(pair.close_reason(Client), Some(CloseReason::Peer { .. })));
}

#[test]
fn an_end_that_only_acknowledges_renews_its_keys_too() {
    let mut pair = Setup::default().both(|config| config.confidentiality_limit = Some(60)).established();
    let stream = pair.open_stream(Client);
    for _ in 0..300 {
        pair.write(Client, stream, b"x");
        pair.drive();
    }
    assert_eq!(pair.server().state(), State::Established);
    assert!(pair.server().stats().key_updates.0 >= 8);
}

#[test]
fn slow_join_succeeds_across_any_number_of_key_updates() {
    for slowly in [false, true] {
        let mut pair = Pair::established();
        let second = if slowly { pair.open_tcp_slowly() } else { pair.open_tcp() };
        pair.step(Client);
        pair.stall(second);
        for _ in 0..4 {
            pair.update_keys(Client);
            pair.transfer(Client, b"so that the update is acknowledged");
        }
        pair.unstall(second);
        pair.drive();
        assert_eq!(pair.live(Client), [FIRST, second], "slowly: {slowly}");
        assert_eq!(pair.live(Server), [FIRST, second], "slowly: {slowly}");
    }
}

#[test]
fn answer_to_a_slow_join_decrypts_across_any_number_of_key_updates() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    pair.step(Client);
    pair.deliver(second, Server, usize::MAX);
    pair.step(Server);
    pair.stall(second);
    for _ in 0..4 {
        pair.update_keys(Server);
        pair.transfer(Server, b"so that the update is acknowledged");
    }
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Client), [FIRST, second]);
    assert_eq!(pair.live(Server), [FIRST, second]);
    pair.update_keys(Server);
    pair.drive();
    assert!(pair.server().stats().key_updates.0 >= 2);
}

#[test]
fn a_request_on_every_tcp_connection_of_one_generation_is_one_request() {
    let mut peer = Peer::client();
    assert_eq!(peer.join(), SECOND);
    peer.rest();
    for generation in 1..=3 {
        for tcp in [FIRST, SECOND] {
            peer.update_keys(tcp, true);
            // The answer goes out before the same request arrives on the other TCP connection.
            peer.sleep(100);
            peer.rest();
        }
        peer.sleep(100);
        peer.rest();
        assert_eq!(peer.conn.stats().key_updates, (generation, generation));
    }
    peer.assert_lives(&[FIRST, SECOND]);
}
