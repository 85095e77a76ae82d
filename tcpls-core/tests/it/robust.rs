//! Unusual calls: odd room, time that runs backwards, calls after the end. They have no harmful effect.

use bytes::BytesMut;
use tcpls_core::connection::TcpEnd;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::{Client, Pair, Server, Side, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SECOND: ConnectionId = ConnectionId(1);

/// A client with every kind of frame to send.
fn talkative() -> Pair {
    let mut pair = Pair::with_tcp_connections(3);
    let now = pair.now;
    for _ in 0..20 {
        let stream = pair.open_stream(Client);
        pair.write(Client, stream, &[7; 300]);
        pair.finish(Client, stream);
    }
    let conn = pair.client();
    conn.advertise("[2001:db8::1]:443".parse().unwrap()).unwrap();
    for kind in 0..10 {
        conn.send_tcp_option(kind, &[1; 64]).unwrap();
    }
    conn.set_backup(SECOND, true).unwrap();
    conn.ping(FIRST).unwrap();
    conn.update_keys(now);
    conn.handle_tcp_end(now, ConnectionId(2), TcpEnd::Reset);
    let reset = conn.open_stream().unwrap();
    conn.stream(reset).write(b"never mind").unwrap();
    conn.stream(reset).reset(ErrorCode(1)).unwrap();
    pair
}

#[test]
fn any_room_is_kept_to_and_enough_room_is_always_used() {
    for room in (0..600).chain(16_300..16_500).step_by(7) {
        let mut pair = talkative();
        let now = pair.now;
        for round in 0..40 {
            let mut out = Vec::new();
            let wanted = pair.client().wants_write(FIRST);
            let written = pair.client().poll_transmit(now, FIRST, room, &mut out);
            assert!(written <= room, "{written} bytes for a room of {room}");
            assert!((written > 0) == (wanted && room >= 256), "round {round}: {written} bytes for a room of {room}");
            pair.flow(FIRST, Server).send(&out);
        }
        pair.drive();
        assert_eq!(pair.close_reason(Server), None);
    }
}

#[test]
fn time_that_runs_backwards_has_no_effect() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    let data = bytes(1_000_000);
    pair.submit(Client, stream, &data);
    for round in 0..50 {
        pair.now = Time::from_millis(if round % 2 == 0 { 1_100 } else { 1_000 - round });
        let now = pair.now;
        for side in [Client, Server] {
            pair.conn(side).handle_timeout(now);
        }
        pair.step(Client);
        pair.step(Server);
        pair.deliver_all();
    }
    pair.advance(std::time::Duration::from_secs(1));
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

#[test]
fn after_the_end_every_call_is_harmless() {
    for (side, code) in [(Client, 0), (Client, 1), (Server, 0), (Server, 1)] {
        let mut pair = talkative();
        pair.close(side, code, b"");
        pair.drive();
        for side in [Client, Server] {
            everything(&mut pair, side);
        }
    }
}

fn everything(pair: &mut Pair, side: Side) {
    let now = pair.now;
    let conn = pair.conn(side);
    assert!(conn.close_reason().is_some());
    let mut out = Vec::new();
    for tcp in [FIRST, SECOND, ConnectionId(u32::MAX)] {
        conn.handle_bytes(now, tcp, &mut BytesMut::from(&b"\x17\x03\x03\x00\x20"[..]));
        conn.handle_tcp_end(now, tcp, TcpEnd::Fin);
        assert!(conn.retire_tcp(now, tcp).is_err() && conn.ping(tcp).is_err() && conn.set_backup(tcp, true).is_err());
        assert_eq!(conn.poll_transmit(now, tcp, 1000, &mut out), 0);
        assert!(!conn.wants_write(tcp) && !conn.wants_read(tcp));
        conn.set_tcp_addresses(tcp, None, None);
    }
    conn.handle_timeout(Time::MAX);
    conn.update_keys(now);
    conn.close(now, ErrorCode(9), b"again");
    assert!(conn.open_tcp(now).is_err() && conn.open_stream().is_err() && conn.accept_stream().is_none());
    assert!(conn.stream(StreamId(0)).write(b"x").is_err() && conn.stream(StreamId(0)).finish().is_err());
    assert!(conn.advertise("192.0.2.1:1".parse().unwrap()).is_err());
    assert_eq!((conn.poll_event(), conn.poll_timeout()), (None, None));
}
