//! The counters of an endpoint: bytes, records and frames of each TCP connection, and reached limits.

use tcpls_core::config::Config;
use tcpls_core::stats::TcpStats;
use tcpls_core::wire::frame::ty;
use tcpls_core::wire::ids::ConnectionId;

use crate::support::peer::Peer;
use crate::support::peer::frames::*;
use crate::support::{Client, Pair, Server, Setup, Side, Tls, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn first(pair: &mut Pair, side: Side) -> TcpStats {
    pair.conn(side).tcp_stats(FIRST).unwrap()
}

#[test]
fn counters_of_sent_and_received_match() {
    let tls = Some(Tls { tickets: 1, ..Tls::default() });
    let mut pair = Setup { tls, ..Setup::default() }.established();
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, &bytes(200_000));
    pair.step(Client);
    assert_eq!(pair.deliver(FIRST, Server, 7), 7, "not a whole record");
    pair.drive();
    pair.transfer(Server, &bytes(100_000));
    for (side, sent) in [(Client, 200_000), (Server, 100_000)] {
        let (own, peers) = (first(&mut pair, side).counters, first(&mut pair, side.peer()).counters);
        assert_eq!((own.stream_bytes_sent, peers.stream_bytes_received), (sent, sent), "{side:?}");
        assert!(own.records_sent > sent / (1 << 14) && own.acks_sent > 0, "{side:?}");
        // The server's ticket is sealed by its provider.
        let tickets = u64::from(side == Server);
        assert_eq!(own.records_sent + tickets, peers.records_received, "{side:?}");
        assert_eq!(own.acks_sent, peers.acks_received, "{side:?}");
        let (up, down) = pair.wire()[0];
        let on_the_wire = if side == Client { up.len() } else { down.len() } as u64;
        assert_eq!((own.bytes_sent, peers.bytes_received), (on_the_wire, on_the_wire), "{side:?}");
        let (sent, received) = (pair.conn(side).stats().frames_sent, pair.conn(side.peer()).stats().frames_received);
        assert_eq!(sent, received, "{side:?}");
    }
}

#[test]
fn in_flight_is_what_waits_for_an_acknowledgment() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, &bytes(50_000));
    assert_eq!(first(&mut pair, Client).bytes_in_flight, 0);
    pair.step(Client);
    let in_flight = pair.flow(FIRST, Server).in_flight.len() as u64;
    assert!(in_flight > 50_000);
    assert_eq!(first(&mut pair, Client).bytes_in_flight, in_flight);
    pair.drive();
    assert_eq!(first(&mut pair, Client).bytes_in_flight, 0);
}

#[test]
fn half_rtt_data_counts_as_in_flight() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    let flight: Vec<u8> = pair.flow(FIRST, Client).in_flight.iter().copied().collect();
    let mut records = Vec::new();
    let mut rest = &flight[..];
    while let [_, _, _, high, low, ..] = *rest {
        let len = 5 + usize::from(u16::from_be_bytes([high, low]));
        records.push(len as u64);
        rest = &rest[len..];
    }
    assert_eq!(records.last().copied(), Some(first(&mut pair, Server).bytes_in_flight));
}

#[test]
fn log_identifies_a_session_and_shows_no_key() {
    let mut pair = Pair::with_tcp_connections(2);
    let shown = format!("{:?}", pair.client());
    let expected =
        "Connection { side: Client, state: Established, tcp_connections: [ConnectionId(0), ConnectionId(1)], .. }";
    assert_eq!(shown, expected);
}

#[test]
fn frames_are_counted_by_type_and_those_without_data_as_idle_too() {
    let mut peer = Peer::with(Client, Config::default());
    let before = peer.conn.stats();
    peer.send(FIRST, &[PING]);
    peer.send(FIRST, &[PING, PING]);
    peer.send(FIRST, &[stream(0, 0, b"abc")]);
    peer.send(FIRST, &[fin(0, 3, b"d")]);
    let after = peer.conn.stats();
    let came = |ty| after.frames_received.get(ty) - before.frames_received.get(ty);
    assert_eq!([ty::PING, ty::STREAM, ty::STREAM_FIN].map(came), [3, 1, 1]);
    assert_eq!(after.limits.idle_frames - before.limits.idle_frames, 3);
}
