//! Leaving a TCP connection intentionally: attachment, retiring, backups, withdrawn addresses.

use std::time::Duration;

use tcpls_core::error::{AddressError, TcpError, TcpFault};
use tcpls_core::event::Event;
use tcpls_core::wire::ids::ConnectionId;

use crate::support::{Client, Pair, Server, Side, bytes, discarded, joined, lost};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SECOND: ConnectionId = ConnectionId(1);

/// Stream bytes that `side` has sent on each TCP connection that lives.
fn sent(pair: &mut Pair, side: Side, tcp: ConnectionId) -> u64 {
    pair.conn(side).tcp_stats(tcp).map_or(0, |stats| stats.counters.stream_bytes_sent)
}

#[test]
fn an_attached_stream_uses_its_tcp_connections_alone() {
    let mut pair = Pair::with_tcp_connections(3);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(SECOND).unwrap();
    let data = bytes(400_000);
    pair.submit(Client, stream, &data);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    assert_eq!(sent(&mut pair, Client, SECOND), 400_000);
    assert_eq!(sent(&mut pair, Client, FIRST) + sent(&mut pair, Client, ConnectionId(2)), 0);
}

// draft I21
#[test]
fn a_stream_moves_from_one_tcp_connection_to_another_without_loss() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    let data = bytes(600_000);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.client().stream(stream).attach(SECOND).unwrap();
    pair.client().stream(stream).detach(FIRST).unwrap();
    let before = sent(&mut pair, Client, FIRST);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    assert!(before > 0 && before < 600_000);
    assert_eq!(sent(&mut pair, Client, FIRST), before, "nothing new is put on it");
    assert_eq!(sent(&mut pair, Client, SECOND), 600_000 - before, "and nothing twice");
}

#[test]
fn stream_without_live_attached_tcp_connections_uses_all() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(SECOND).unwrap();
    let data = bytes(300_000);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.cut(SECOND);
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

// draft I21
#[test]
fn retired_tcp_connection_delivers_its_data_before_it_closes() {
    for retiree in [FIRST, SECOND] {
        for side in [Client, Server] {
            let mut pair = Pair::with_tcp_connections(2);
            let data = bytes(800_000);
            let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
            pair.submit(Client, up, &data);
            pair.submit(Server, down, &data);
            pair.round();
            let now = pair.now;
            pair.conn(side).retire_tcp(now, retiree).unwrap();
            pair.settle();
            pair.drive();
            pair.assert_received(Server, up, &data);
            pair.assert_received(Client, down, &data);
            let events = [joined(FIRST), joined(SECOND), lost(retiree, TcpFault::Retired), discarded(retiree)];
            assert_eq!(pair.tcp_events(side), events, "{side:?} retired {retiree}");
            assert!(!pair.live(side.peer()).contains(&retiree));
            let stats = pair.conn(side).stats();
            assert!(stats.tcp.iter().all(|tcp| tcp.counters.requeued_bytes == 0), "nothing is sent twice");
        }
    }
}

#[test]
fn retirement_waits_for_what_the_peer_has_in_flight_on_the_tcp_connection() {
    for tcps in [[FIRST, SECOND], [SECOND, FIRST]] {
        let mut pair = Pair::with_tcp_connections(2);
        pair.spread();
        let stream = pair.open_stream(Server);
        pair.submit(Server, stream, &bytes(500_000));
        pair.step(Server);
        assert!(!pair.flow(tcps[0], Client).in_flight.is_empty(), "the test is about nothing");
        let now = pair.now;
        pair.client().retire_tcp(now, tcps[0]).unwrap();
        pair.drive();
        pair.assert_received(Client, stream, &bytes(500_000));
        assert_eq!(pair.live(Client), [tcps[1]]);
        let again: u64 = pair.server().stats().tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
        assert_eq!(again, 0, "nothing was sent twice");
    }
}

#[test]
fn retirement_waits_until_the_peer_has_acknowledged_it() {
    let mut pair = Pair::with_tcp_connections(3);
    let third = ConnectionId(2);
    pair.client().set_backup(third, true).unwrap();
    pair.drive();
    // It is said to be available again, and left while this is under way.
    pair.client().set_backup(third, false).unwrap();
    pair.step(Client);
    let now = pair.now;
    pair.client().retire_tcp(now, third).unwrap();
    pair.deliver_all();
    pair.live(Client).into_iter().for_each(|tcp| pair.stall_towards(tcp, Server));
    pair.drive_for(Duration::from_millis(90));
    assert!(!pair.server().tcp_stats(third).unwrap().backup, "the test is about nothing");
    assert!(pair.live(Client).contains(&third), "the peer still uses it");
    pair.heal();
    pair.drive();
    assert_eq!(pair.live(Client), [FIRST, SECOND]);
}

#[test]
fn a_tcp_connection_that_never_falls_quiet_is_left_after_the_user_timeout() {
    let mut pair = Pair::with_tcp_connections(2);
    let now = pair.now;
    pair.client().retire_tcp(now, FIRST).unwrap();
    for _ in 0..240 {
        if pair.server().ping(FIRST).is_ok() {
            pair.drive_for(Duration::from_millis(45));
        }
    }
    assert_eq!(pair.live(Client), [SECOND]);
}

#[test]
fn a_retired_tcp_connection_gets_nothing_new() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &[1; 100_000]);
    pair.step(Client);
    let before = sent(&mut pair, Client, FIRST);
    let now = pair.now;
    pair.client().retire_tcp(now, FIRST).unwrap();
    pair.write(Client, stream, &[2; 100_000]);
    pair.step(Client);
    assert_eq!(sent(&mut pair, Client, FIRST), before);
    pair.drive();
    assert_eq!(pair.read_all(Server, stream).len(), 200_000);
}

#[test]
fn the_last_tcp_connection_cannot_be_retired() {
    let mut pair = Pair::established();
    let now = pair.now;
    assert_eq!(pair.client().retire_tcp(now, FIRST), Err(TcpError::Last));
    assert_eq!(pair.client().retire_tcp(now, SECOND), Err(TcpError::Unknown));
    pair.join();
    pair.client().retire_tcp(now, FIRST).unwrap();
    assert_eq!(pair.client().retire_tcp(now, SECOND), Err(TcpError::Last), "the other is leaving");
    pair.drive();
    pair.transfer(Client, b"over the second");
}

#[test]
fn a_retiring_tcp_connection_stays_when_it_becomes_the_last() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.spread();
    let data = bytes(500_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.round();
    let now = pair.now;
    pair.client().retire_tcp(now, FIRST).unwrap();
    pair.cut(SECOND);
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

#[test]
fn a_backup_carries_no_data_as_long_as_another_lives() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_backup(SECOND, true).unwrap();
    pair.drive();
    let data = bytes(300_000);
    pair.transfer(Client, &data);
    pair.transfer(Server, &data);
    assert_eq!(sent(&mut pair, Client, SECOND), 0);
    assert_eq!(sent(&mut pair, Server, SECOND), 0, "the peer was asked to do the same");
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.cut(FIRST);
    pair.drive();
    pair.assert_received(Server, stream, &data);
    assert!(sent(&mut pair, Client, SECOND) > 0);
}

#[test]
fn a_stream_that_may_use_a_backup_alone_uses_it() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.client().set_backup(FIRST, true).unwrap();
    pair.drive();
    for side in [Client, Server] {
        let stream = pair.open_stream(side);
        pair.conn(side).stream(stream).attach(FIRST).unwrap();
        let data = bytes(200_000);
        pair.submit(side, stream, &data);
        pair.drive();
        pair.assert_received(side.peer(), stream, &data);
    }
}

#[test]
fn a_backup_can_be_made_available_again() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.spread();
    pair.client().set_backup(SECOND, true).unwrap();
    pair.drive();
    pair.client().set_backup(SECOND, false).unwrap();
    pair.drive();
    pair.transfer(Server, &bytes(300_000));
    assert!(sent(&mut pair, Server, SECOND) > 0);
}

// draft E18, I12
#[test]
fn advertised_address_is_reported_and_withdrawn_one_retires_tcp_connections() {
    let mut pair = Pair::established();
    let address = "192.0.2.9:443".parse().unwrap();
    let id = pair.server().advertise(address).unwrap();
    pair.drive();
    assert!(pair.events(Client).contains(&Event::AddressAdvertised { id, address }));
    assert_eq!(pair.client().peer_addresses().collect::<Vec<_>>(), [(id, address)]);
    let second = pair.join();
    pair.client().set_tcp_addresses(second, None, Some(address));
    pair.server().set_tcp_addresses(second, Some(address), None);
    let data = bytes(500_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.server().withdraw(id).unwrap();
    pair.drive();
    assert!(pair.events(Client).contains(&Event::AddressWithdrawn { id, address }));
    assert_eq!(pair.client().peer_addresses().count(), 0);
    assert_eq!((pair.live(Client), pair.live(Server)), (vec![FIRST], vec![FIRST]));
    pair.assert_received(Server, stream, &data);
}

// draft E18
#[test]
fn a_join_under_way_to_a_withdrawn_address_is_left_when_it_has_joined() {
    let mut pair = Pair::established();
    let address = "192.0.2.9:443".parse().unwrap();
    let id = pair.server().advertise(address).unwrap();
    pair.drive();
    let second = pair.open_tcp_slowly();
    pair.client().set_tcp_addresses(second, None, Some(address));
    pair.server().withdraw(id).unwrap();
    while pair.step(Server) && pair.deliver(FIRST, Client, usize::MAX) > 0 {}
    assert!(pair.events(Client).contains(&Event::AddressWithdrawn { id, address }));
    assert_eq!(pair.live(Client), [FIRST, second], "its join is under way");
    pair.drive();
    assert_eq!(pair.fault(Client, second), Some(TcpFault::Retired));
    let third = pair.join();
    pair.client().set_tcp_addresses(third, None, Some(address));
    pair.drive();
    assert_eq!(pair.live(Client), [FIRST], "nor may a later one use it");
}

#[test]
fn an_address_is_not_withdrawn_before_it_is_known() {
    // The two frames could cross on two TCP connections; the second would be ignored, and the address be used forever.
    let mut pair = Pair::with_tcp_connections(2);
    let address = "192.0.2.9:443".parse().unwrap();
    pair.stall(FIRST);
    let id = pair.server().advertise(address).unwrap();
    pair.step(Server);
    pair.server().withdraw(id).unwrap();
    pair.drive();
    pair.unstall(FIRST);
    pair.drive_for(Duration::from_millis(500));
    assert!(pair.events(Client).contains(&Event::AddressWithdrawn { id, address }));
    assert_eq!(pair.client().peer_addresses().count(), 0);
}

#[test]
fn a_ping_makes_a_round_trip_on_its_own_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(2);
    let before = pair.client().tcp_stats(SECOND).unwrap().counters.acks_received;
    pair.client().ping(SECOND).unwrap();
    pair.step(Client);
    assert!(pair.flow(FIRST, Server).in_flight.is_empty());
    pair.drive();
    let stats = pair.client().tcp_stats(SECOND).unwrap();
    assert_eq!(stats.counters.acks_received, before + 1);
    assert!(stats.smoothed_rtt.is_some());
    assert_eq!(pair.client().ping(ConnectionId(9)), Err(TcpError::Unknown));
}

#[test]
fn a_tcp_option_reaches_the_peers_application() {
    let mut pair = Pair::established();
    pair.client().send_tcp_option(28, &[0, 0, 0x75, 0x30]).unwrap();
    pair.drive();
    let option = Event::TcpOption { tcp: FIRST, kind: 28, value: vec![0, 0, 0x75, 0x30], request: None };
    assert!(pair.events(Server).contains(&option));
}

#[test]
fn latest_status_applies_in_any_order_of_arrival() {
    let mut pair = Pair::with_tcp_connections(3);
    let third = ConnectionId(2);
    let send = |pair: &mut Pair, on| {
        let (now, mut out) = (pair.now, Vec::new());
        while pair.client().poll_transmit(now, on, 10_000, &mut out) > 0 {}
        pair.flow(on, Server).send(&out);
    };
    pair.stall(FIRST);
    pair.client().set_backup(third, true).unwrap();
    send(&mut pair, FIRST);
    pair.client().set_backup(third, false).unwrap();
    send(&mut pair, SECOND);
    pair.drive();
    pair.unstall(FIRST);
    pair.drive();
    assert!(!pair.server().tcp_stats(third).unwrap().backup);
}

#[test]
fn status_lost_with_its_tcp_connection_is_sent_again() {
    for carrier in [FIRST, SECOND] {
        let mut pair = Pair::with_tcp_connections(3);
        let third = ConnectionId(2);
        pair.client().set_backup(third, true).unwrap();
        let (now, mut out) = (pair.now, Vec::new());
        assert!(pair.client().poll_transmit(now, carrier, 10_000, &mut out) > 0);
        pair.cut(carrier);
        pair.drive();
        assert!(pair.server().tcp_stats(third).unwrap().backup);
    }
}

#[test]
fn a_session_never_advertises_more_addresses_than_its_peer_takes() {
    let mut pair = Pair::with_tcp_connections(2);
    let address = |host: u8| ([192, 0, 2, host], 443).into();
    let ids: Vec<_> = (0..16).map(|host| pair.server().advertise(address(host)).unwrap()).collect();
    assert_eq!(pair.server().advertise(address(16)), Err(AddressError::TooMany));
    pair.drive();
    pair.server().withdraw(ids[0]).unwrap();
    assert_eq!(pair.server().advertise(address(16)), Err(AddressError::TooMany), "the client has not heard of it");
    pair.drive_for(Duration::from_millis(100));
    pair.server().advertise(address(16)).unwrap();
    pair.drive();
    assert_eq!((pair.close_reason(Client), pair.client().peer_addresses().count()), (None, 16));
}

#[test]
fn frames_that_wait_to_be_sent_are_counted() {
    let mut pair = Pair::established();
    pair.drive();
    let before = pair.server().stats().frames_due;
    for host in 1..4 {
        pair.server().advertise(([192, 0, 2, host], 443).into()).unwrap();
    }
    assert_eq!(pair.server().stats().frames_due, before + 3);
    pair.drive();
    assert_eq!(pair.server().stats().frames_due, 0);
}
