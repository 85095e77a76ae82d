//! Lost TCP connections: their unacknowledged data arrives on others, or after a join, once and in order.

use std::time::Duration;

use tcpls_core::Config;
use tcpls_core::connection::{State, TcpEnd};
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::frame::Parameters;
use tcpls_core::wire::ids::{ConnectionId, StreamId};

use crate::support::peer::{GENEROUS, Peer};
use crate::support::{Client, Pair, Server, Setup, Side, bytes, discarded, joined, lost};

const FIRST: ConnectionId = ConnectionId::FIRST;

/// Stream bytes that `side` has put on the wire, those that went out again included, and how many were requeued.
fn sent_and_requeued(pair: &mut Pair, side: Side) -> (u64, u64) {
    let stats = pair.conn(side).stats();
    let sum =
        |field: fn(&tcpls_core::stats::TcpCounters) -> u64| stats.tcp.iter().map(|tcp| field(&tcp.counters)).sum();
    (sum(|counters| counters.stream_bytes_sent), sum(|counters| counters.requeued_bytes))
}

// draft I18
#[test]
fn unacknowledged_data_of_a_lost_tcp_connection_arrives_on_another() {
    let mut pair = Pair::established();
    let second = pair.join();
    pair.spread();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &[7; 100_000]);
    pair.step(Client); // records are in flight on both
    assert!(!pair.flow(FIRST, Server).in_flight.is_empty() && !pair.flow(second, Server).in_flight.is_empty());
    pair.cut(FIRST);
    pair.drive();
    assert_eq!(pair.read_all(Server, stream), [7; 100_000]);
    let events = [joined(FIRST), joined(second), lost(FIRST, TcpFault::Reset), discarded(FIRST)];
    assert_eq!(pair.tcp_events(Client), events);
    assert_eq!(pair.tcp_events(Server), events);
}

#[test]
fn a_cut_in_the_middle_of_bulk_in_both_directions_loses_nothing() {
    for rounds in [0, 1, 2, 3, 5, 8, 13] {
        let mut pair = Pair::with_tcp_connections(2);
        let data = bytes(1_000_000);
        let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
        pair.submit(Client, up, &data);
        pair.submit(Server, down, &data);
        (0..rounds).for_each(|_| _ = pair.round());
        pair.step(Client);
        pair.cut(FIRST);
        pair.drive();
        pair.assert_received(Server, up, &data);
        pair.assert_received(Client, down, &data);
    }
}

#[test]
fn endpoints_that_lose_different_tcp_connections_agree() {
    let mut pair = Pair::with_tcp_connections(3);
    let data = bytes(500_000);
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &data);
    pair.submit(Server, down, &data);
    pair.round();
    let now = pair.now;
    pair.client().handle_tcp_end(now, FIRST, TcpEnd::Reset);
    pair.server().handle_tcp_end(now, ConnectionId(1), TcpEnd::Reset);
    pair.settle();
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.live(side), [ConnectionId(2)], "{side:?}");
    }
    pair.assert_received(Server, up, &data);
    pair.assert_received(Client, down, &data);
}

// draft I18
#[test]
fn a_session_without_tcp_connections_is_stranded_and_recovers_with_the_next_join() {
    let mut pair = Pair::established();
    let data = bytes(400_000);
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &data);
    pair.submit(Server, down, &data);
    pair.round();
    pair.step(Client);
    pair.cut(FIRST);
    for side in [Client, Server] {
        let until = pair.now + Duration::from_secs(60);
        assert_eq!(pair.conn(side).state(), State::Stranded { until }, "{side:?}");
        assert!(pair.events(side).contains(&Event::Stranded { until }));
    }
    pair.drive_for(Duration::from_secs(30));
    let second = pair.join();
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established, "{side:?}");
        assert!(pair.events(side).contains(&Event::Recovered));
        assert_eq!(pair.live(side), [second]);
    }
    pair.assert_received(Server, up, &data);
    pair.assert_received(Client, down, &data);
}

#[test]
fn a_session_survives_being_stranded_again_and_again() {
    let mut pair = Pair::established();
    let data = bytes(600_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    let mut live = FIRST;
    for _ in 0..5 {
        pair.round();
        pair.step(Client);
        pair.cut(live);
        live = pair.open_tcp();
        pair.round();
    }
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

#[test]
fn stranded_session_ends_after_its_timeout() {
    let mut pair = Setup::default().both(|config| config.session_timeout = Duration::from_secs(7)).established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"never to arrive whole");
    pair.drive();
    pair.cut(FIRST);
    pair.drive_for(Duration::from_secs(6));
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.drive_for(Duration::from_secs(2));
    for side in [Client, Server] {
        assert_eq!(pair.close_reason(side), Some(CloseReason::Stranded), "{side:?}");
    }
    assert!(matches!(pair.stream_end(Server, stream), Some(Err(tcpls_core::error::ReadError::Truncated))));
}

#[test]
fn the_shorter_session_timeout_of_both_endpoints_applies_at_both() {
    let (shorter, longer) = (Duration::from_secs(7), Duration::from_secs(50));
    for side in [Client, Server] {
        let mut setup = Setup::default().both(|config| config.session_timeout = longer);
        let config = if side == Client { &mut setup.client } else { &mut setup.server };
        config.session_timeout = shorter;
        let mut pair = setup.established();
        let lost = pair.now;
        pair.cut(FIRST);
        for end in [Client, Server] {
            assert_eq!(pair.conn(end).session_timeout(), shorter, "at the {end:?}, the {side:?} has the shorter one");
            assert_eq!(pair.conn(end).state(), State::Stranded { until: lost + shorter });
            assert!(pair.events(end).contains(&Event::Stranded { until: lost + shorter }));
        }
        pair.drive_for(shorter);
        assert_eq!([Client, Server].map(|end| pair.close_reason(end)), [(); 2].map(|()| Some(CloseReason::Stranded)));
    }
}

#[test]
fn own_session_timeout_applies_if_the_peer_announces_none_or_a_longer_one() {
    for announced in [u64::MAX, 60_001] {
        let parameters = Parameters { session_timeout_ms: announced, ..GENEROUS };
        let mut peer = Peer::with_parameters(Client, Config::default(), parameters);
        assert_eq!(peer.conn.session_timeout(), Duration::from_secs(60), "{announced} ms");
        let now = peer.now;
        peer.conn.handle_tcp_end(now, FIRST, TcpEnd::Reset);
        assert_eq!(peer.conn.state(), State::Stranded { until: now + Duration::from_secs(60) });
    }
}

#[test]
fn session_whose_peer_keeps_none_ends_with_its_last_tcp_connection() {
    let parameters = Parameters { session_timeout_ms: 0, ..GENEROUS };
    let mut peer = Peer::with_parameters(Client, Config::default(), parameters);
    let now = peer.now;
    peer.conn.handle_tcp_end(now, FIRST, TcpEnd::Reset);
    assert_eq!(peer.conn.poll_timeout(), Some(now));
    peer.conn.handle_timeout(now);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Stranded));
}

#[test]
fn each_byte_is_reinjected_at_most_once_for_each_lost_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(3);
    let data = bytes(2_000_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    for tcp in [FIRST, ConnectionId(1)] {
        pair.round();
        pair.step(Client);
        pair.cut(tcp);
    }
    pair.drive();
    pair.assert_received(Server, stream, &data);
    let (sent, requeued) = sent_and_requeued(&mut pair, Client);
    // For each of the two: a socket buffer in flight, and one that has arrived and is not acknowledged.
    assert!(requeued > 0 && requeued <= 2 * 2 * (64 << 10), "more than what was unacknowledged: {requeued}");
    assert!(sent <= data.len() as u64 + requeued, "{sent} sent, {requeued} requeued");
}

#[test]
fn data_covered_by_the_final_ack_is_not_reinjected() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, &[4; 50_000]);
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX); // received, and the acknowledgment never makes it
    let now = pair.now;
    pair.server().handle_tcp_end(now, FIRST, TcpEnd::Reset);
    pair.settle();
    pair.step(Server);
    pair.deliver(ConnectionId(1), Client, usize::MAX); // Connection Reset with the last ACK of the first
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::PeerReset(1)));
    pair.drive();
    let (sent, requeued) = sent_and_requeued(&mut pair, Client);
    assert_eq!((sent, requeued), (50_000, 0), "draft, 4.2.3: the ACK is processed before the reset");
    assert_eq!(pair.read_all(Server, stream), [4; 50_000]);
}

#[test]
fn flipped_bit_costs_only_the_tcp_connection_that_carried_it() {
    for victim in [Client, Server] {
        let mut pair = Pair::with_tcp_connections(2);
        pair.spread();
        let data = bytes(100_000);
        let stream = pair.open_stream(victim.peer());
        pair.submit(victim.peer(), stream, &data);
        pair.step(victim.peer());
        pair.corrupt(FIRST, victim);
        pair.drive();
        assert_eq!(pair.fault(victim, FIRST), Some(TcpFault::BadRecord));
        assert_eq!(pair.conn(victim).stats().limits.bad_records, 1);
        assert!(pair.fault(victim.peer(), FIRST).is_some());
        let reasons = [Client, Server].map(|side| pair.close_reason(side));
        assert_eq!(reasons, [None, None]);
        assert_eq!((pair.live(Client), pair.live(Server)), (vec![ConnectionId(1)], vec![ConnectionId(1)]));
        pair.assert_received(victim, stream, &data);
    }
}

#[test]
fn non_tls_bytes_cost_only_their_tcp_connection() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.flow(FIRST, Server).send(b"HTTP/1.1 400 Bad Request\r\n");
    pair.drive();
    assert_eq!(pair.fault(Server, FIRST), Some(TcpFault::NotTls));
    assert_eq!(pair.close_reason(Client), None);
    assert_eq!(pair.live(Client), [ConnectionId(1)]);
    pair.transfer(Client, &[1; 100_000]);
}

#[test]
fn tcp_connection_without_progress_is_lost_after_the_user_timeout() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(300_000);
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &data);
    pair.round();
    pair.stall(FIRST);
    pair.drive_for(Duration::from_secs(9));
    assert_eq!(pair.live(Client), [FIRST, ConnectionId(1)]);
    pair.drive_for(Duration::from_secs(3));
    // Whose time was up first told the other, with the reason.
    let faults = [Client, Server].map(|side| pair.fault(side, FIRST));
    assert!(faults.contains(&Some(TcpFault::UserTimeout)), "{faults:?}");
    assert_eq!(pair.live(Server), [ConnectionId(1)]);
    pair.assert_received(Server, stream, &data);
}

#[test]
fn the_shorter_user_timeout_of_both_ends_counts() {
    let mut setup = Setup::default();
    setup.server.user_timeout = Duration::from_secs(2);
    let mut pair = setup.established();
    pair.join();
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    pair.write(Client, stream, b"into the void");
    pair.stall(FIRST);
    pair.drive_for(Duration::from_secs(3));
    assert_eq!(pair.fault(Client, FIRST), Some(TcpFault::UserTimeout));
    pair.drive();
    assert_eq!(pair.read_all(Server, stream), b"into the void");
}

#[test]
fn control_frames_survive_a_loss_too() {
    let mut pair = Pair::with_tcp_connections(2);
    let streams: Vec<StreamId> = (0..2).map(|_| pair.open_stream(Client)).collect();
    streams.iter().for_each(|id| pair.write(Client, *id, b"begin"));
    pair.drive();
    pair.stall(ConnectionId(1));
    let address = "192.0.2.7:443".parse().unwrap();
    let id = pair.server().advertise(address).unwrap();
    pair.client().stream(streams[0]).reset(tcpls_core::wire::ids::ErrorCode(3)).unwrap();
    pair.server().stream(streams[1]).stop(tcpls_core::wire::ids::ErrorCode(4)).unwrap();
    pair.step(Client);
    pair.step(Server);
    pair.unstall(ConnectionId(1));
    pair.cut(FIRST);
    pair.drive();
    assert!(pair.events(Client).contains(&Event::AddressAdvertised { id, address }));
    assert_eq!(
        pair.stream_end(Server, streams[0]),
        Some(Err(tcpls_core::error::ReadError::Reset(tcpls_core::wire::ids::ErrorCode(3))))
    );
    let stopped =
        tcpls_core::event::StreamEvent::Stopped { id: streams[1], error: tcpls_core::wire::ids::ErrorCode(4) };
    assert!(pair.events(Client).contains(&Event::Stream(stopped)));
}

#[test]
fn closing_during_a_failover_delivers_all() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(200_000);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &data);
    pair.finish(Client, stream);
    pair.step(Client);
    pair.cut(FIRST);
    pair.close(Client, 0, b"bye");
    pair.drive();
    pair.assert_received(Server, stream, &data);
    assert_eq!(pair.client().state(), State::Closed);
    assert_eq!(pair.server().state(), State::Closed);
}

#[test]
fn a_loss_during_closing_does_not_keep_the_session_from_ending() {
    let mut pair = Pair::with_tcp_connections(2);
    let data = bytes(200_000);
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &data);
    pair.finish(Client, stream);
    pair.close(Client, 0, b"bye");
    pair.step(Client);
    pair.cut(ConnectionId(1));
    pair.drive();
    pair.assert_received(Server, stream, &data);
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Closed, "{side:?}");
    }
}

#[test]
fn end_of_a_discarded_socket_has_no_effect() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.cut(FIRST);
    pair.drive();
    let before = pair.tcp_events(Client);
    let now = pair.now;
    for tcp in [FIRST, ConnectionId(99)] {
        pair.client().handle_tcp_end(now, tcp, TcpEnd::Fin);
        pair.client().handle_bytes(now, tcp, &mut ::bytes::BytesMut::from(&b"late"[..]));
    }
    pair.settle();
    assert_eq!(pair.tcp_events(Client), before);
    assert!(!before.contains(&TcpEvent::Lost { tcp: ConnectionId(1), fault: TcpFault::Fin }));
    pair.transfer(Client, b"unharmed");
}

#[test]
fn control_frames_that_filled_a_small_room_go_out_again_like_any_others() {
    let mut pair = Pair::with_tcp_connections(2);
    for kind in 0..10 {
        pair.server().send_tcp_option(kind, &[kind; 64]).unwrap();
    }
    let (now, mut out) = (pair.now, Vec::new());
    while pair.server().poll_transmit(now, FIRST, 256, &mut out) > 0 {} // and it reaches no peer
    assert!(pair.server().tcp_stats(FIRST).unwrap().bytes_in_flight > 0);
    pair.cut(FIRST);
    pair.drive();
    let is_option = |event: &&Event| matches!(event, Event::TcpOption { .. });
    assert_eq!(pair.events(Client).iter().filter(is_option).count(), 10);
}

#[test]
fn status_without_room_is_sent_with_the_next_record() {
    let mut pair = Pair::with_tcp_connections(2);
    let (now, mut out) = (pair.now, Vec::new());
    // Addresses go first, and leave room for a part of a status.
    for host in 0..14 {
        pair.server().advertise(([192, 0, 2, host], 443).into()).unwrap();
    }
    pair.server().set_backup(ConnectionId(1), true).unwrap();
    pair.server().poll_transmit(now, FIRST, 256, &mut out);
    pair.flow(FIRST, Client).send(&out);
    pair.drive();
    let status = Event::Tcp(TcpEvent::Status { tcp: ConnectionId(1), backup: true });
    assert!(pair.events(Client).contains(&status));
}
