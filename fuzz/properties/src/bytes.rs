//! Any bytes from a peer, and any calls in between: no panic, no unbounded memory, no record that was not sent; and the
//! session replays as it was recorded.
//!
//! The input is a list of operations, one byte of kind and argument each, some followed by a length and bytes.

use core::time::Duration;
use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::{
    Config, Connection, ConnectionId, Endpoint, EndpointConfig, ErrorCode, Incoming, NewSession, Seed, Side, State,
    StreamId, TcpEnd, Time,
};

use tcpls_core::testing::NullHandshake;
use tcpls_core::testing::null::lenient_record;
use tcpls_core::testing::recordings::Kept;

/// A ClientHello without tcpls_join, as short as it can be: it makes the endpoint give a session.
fn new_session() -> NewSession {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0, 0, 0]);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend_from_slice(&body);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], Seed([2; 32]));
    let incoming = endpoint.handle_accepted(Time::ZERO);
    match endpoint.handle_bytes(Time::ZERO, incoming, &mut BytesMut::from(&hello[..])) {
        Some(Incoming::New(session)) => session,
        other => panic!("a plain ClientHello begins a session, not {other:?}"),
    }
}

/// A record that completes a lenient handshake.
const HANDSHAKE: [u8; 6] = [22, 3, 3, 0, 1, 0];

/// The target `bytes`: see above. The first byte says which side is tested, and whether a server's handshake is complete at
/// the start. If not, records of application data are early data.
pub fn bytes(input: &[u8]) {
    let Some((&first, mut input)) = input.split_first() else { return };
    let config = Arc::new(Config::default().with(|config| config.overhead_budget = 2000));
    let mut now = Time::from_millis(1);
    let is_early = first & 3 == 3;
    let kept = Kept::replaying();
    let recorder = kept.recorder();
    let mut conn = if first & 1 == 0 {
        let tls = Box::new(NullHandshake::lenient(Side::Client));
        Connection::client_with(now, config, tls, Seed([3; 32]), recorder)
    } else {
        let tls = if is_early { NullHandshake::lenient_accepting() } else { NullHandshake::lenient(Side::Server) };
        Connection::server_with(now, config, Box::new(tls), new_session(), Seed([3; 32]), recorder)
    };
    if !is_early {
        conn.handle_bytes(now, ConnectionId::FIRST, &mut BytesMut::from(&HANDSHAKE[..]));
    }
    let mut out = Vec::new();
    while let Some((&op, rest)) = input.split_first() {
        let (kind, argument) = (op & 0x0f, op >> 4);
        let tcp = ConnectionId(u32::from(argument));
        let stream = StreamId(u32::from(argument));
        let (data, after) = rest.split_at(rest.len().min(rest.first().map_or(0, |len| usize::from(*len) + 1)));
        input = rest;
        match kind {
            0 => {
                conn.handle_bytes(now, tcp, &mut BytesMut::from(data));
                input = after;
            }
            1..=4 => {
                let content_type = [23, 21, 22, 24][usize::from(kind - 1)];
                let content = data.get(1..).unwrap_or_default();
                conn.handle_bytes(now, tcp, &mut BytesMut::from(&lenient_record(content_type, content)[..]));
                input = after;
            }
            5 => {
                now += Duration::from_millis(1 << argument);
                conn.handle_timeout(now);
                assert!(conn.poll_timeout().is_none_or(|at| at > now));
            }
            6 => _ = conn.open_tcp(now),
            7 => _ = conn.open_stream(),
            8 => _ = conn.stream(stream).write(&[argument; 300]),
            9 => _ = conn.stream(stream).read(usize::MAX),
            10 => _ = conn.stream(stream).finish(),
            11 => _ = conn.stream(stream).reset(ErrorCode(1)),
            12 => _ = conn.stream(stream).stop(ErrorCode(2)),
            13 => conn.handle_tcp_end(now, tcp, TcpEnd::Reset),
            14 => _ = conn.accept_stream(),
            _ if argument == 15 => conn.close(now, ErrorCode(0), b"bye"),
            _ if argument == 14 => {
                conn.handle_bytes(now, ConnectionId::FIRST, &mut BytesMut::from(&HANDSHAKE[..]));
            }
            _ => _ = conn.retire_tcp(now, tcp),
        }
        for tcp in 0..16 {
            out.clear();
            let written = conn.poll_transmit(now, ConnectionId(tcp), 20_000, &mut out);
            assert!(written == out.len() && written <= 20_000);
        }
        while conn.poll_event().is_some() {}
        assert!(conn.stats().bytes_to_read <= 64 << 20);
    }
    if conn.state() == State::Closed {
        assert!(conn.poll_timeout().is_none() && conn.poll_event().is_none());
    }
    drop(conn);
    drop(kept); // it replays the session
}
