//! Early data that is replayed, malformed, or answered by a server with other limits or without TCPLS.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, State};
use tcpls_core::crypto::{Handshake, TlsServer};
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};
use tcpls_core::error::{CloseReason, Violation};
use tcpls_core::time::Time;
use tcpls_core::wire::frame::{self, Frame};
use tcpls_core::wire::ids::StreamId;

use super::{Ends, FIRST, ask, assert_delivered, early, first_flight};
use crate::support::tls::{SERVER_NAME, server_name};
use crate::support::{Client, Server, Setup, Tls, seed};

/// A server that gets these bytes as a TCP connection's first.
fn server_with(server: &dyn TlsServer, bytes: &[u8]) -> Connection {
    let now = Time::from_millis(5);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], seed(4));
    let mut bytes = BytesMut::from(bytes);
    let incoming = endpoint.handle_accepted(now);
    let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut bytes) else { panic!("no session") };
    let mut conn = Connection::server(now, Arc::new(Config::default()), server.handshake().unwrap(), session, seed(2));
    conn.handle_bytes(now, FIRST, &mut bytes);
    conn
}

#[test]
fn replayed_first_flight_delivers_nothing() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, b"pay");
    first_flight(&mut pair);
    let flight = pair.wire()[0].0.to_vec();
    pair.assert_received(Server, id, b"pay");
    for _ in 0..3 {
        let mut copy = server_with(&ends.server, &flight);
        assert_eq!((copy.state(), copy.accept_stream()), (State::Handshaking, None));
        assert_eq!(copy.poll_event(), None);
    }
    // If the copy overtakes the original, the client repeats its request, which arrives once in its own session.
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, b"pay");
    pair.step(Client);
    let flight = pair.wire()[0].0.to_vec();
    let mut copy = server_with(&ends.server, &flight);
    assert_eq!(copy.accept_stream(), Some(id));
    assert!(copy.stream(id).is_early() && !copy.is_confirmed());
    pair.drive();
    assert_delivered(&mut pair, id, b"pay");
    assert!(!pair.server().stream(id).is_early());
}

/// A first flight with these contents of records of early data.
fn flight_with(ends: &Ends, contents: &[&[u8]]) -> Vec<u8> {
    let mut tls: Box<dyn Handshake> = ends.client.handshake(SERVER_NAME).unwrap();
    let mut flight = Vec::new();
    tls.write(&mut flight);
    for content in contents {
        assert!(tls.write_early(content, &mut flight));
    }
    flight
}

fn parameters() -> Vec<u8> {
    let mut out = Vec::new();
    Frame::SessionParameters(frame::SessionParameters { entries: &[] }).encode(&mut out);
    out
}

fn stream_frame(id: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Frame::Stream(frame::Stream { id: StreamId(id), offset, fin: false, data }).encode(&mut out);
    out
}

#[test]
fn early_data_with_other_frames_than_stream_ends_the_handshake() {
    for (content, rule) in [
        (&[1][..], Violation::EarlyFrame(1)),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], Violation::EarlyFrame(4)),
        (&[0x4b], Violation::EarlyFrame(0x4b)),
        (&[0x7f], Violation::UnknownFrame(0x7f)),
        (&[5, 2], Violation::TruncatedFrame(2)),
        (&stream_frame(1, 0, b"x"), Violation::StreamOfWrongSide(1)),
        (&stream_frame(0, 1 << 30, b"x"), Violation::FlowControl),
        (&stream_frame(2000, 0, b"x"), Violation::TooManyStreams(2000)),
    ] {
        let ends = Ends::with_ticket();
        let first = [stream_frame(0, 0, b"before"), parameters()].concat();
        let flight = flight_with(&ends, &[&first, content]);
        let mut conn = server_with(&ends.server, &flight);
        assert_eq!(conn.close_reason(), Some(&CloseReason::Violation(rule)), "{content:?}");
        assert_eq!(conn.accept_stream(), None);
        let mut out = Vec::new();
        conn.poll_transmit(Time::from_millis(5), FIRST, usize::MAX, &mut out);
        assert!(matches!(out[out.len() - 7..], [21, 3, 3, 0, 2, 2, _]), "a fatal alert goes out");
    }
}

#[test]
fn empty_early_data_and_padding_are_harmless() {
    let ends = Ends::with_ticket();
    let first = [vec![0; 100], parameters()].concat();
    let conn = server_with(&ends.server, &flight_with(&ends, &[&first, &stream_frame(0, 0, b""), &[0; 100]]));
    assert_eq!(conn.close_reason(), None);
}

#[test]
fn early_data_without_session_parameters_ends_the_handshake() {
    let ends = Ends::with_ticket();
    let conn = server_with(&ends.server, &flight_with(&ends, &[&stream_frame(0, 0, b"x"), &parameters()]));
    assert_eq!(conn.close_reason(), Some(&CloseReason::Violation(Violation::Parameters)));
}

#[test]
fn early_data_of_a_plain_client_arrives_when_its_handshake_is_complete() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..early() };
    let (config, server) = (tls.plain_client_config(1), tls.server_end(1));
    for session in 0..2 {
        let mut client = rustls::ClientConnection::new(config.clone(), server_name()).unwrap();
        if session == 1 {
            client.early_data().expect("there is a ticket").write_all(b"early ").unwrap();
        }
        let mut hello = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut hello).unwrap();
        }
        let mut conn = server_with(&server, &hello);
        assert_eq!(conn.accept_stream(), None, "nothing is known of the client");
        let now = Time::from_millis(6);
        for _ in 0..4 {
            let mut out = Vec::new();
            while conn.poll_transmit(now, FIRST, 20_000, &mut out) > 0 {}
            client.read_tls(&mut &out[..]).unwrap();
            client.process_new_packets().unwrap();
            if session == 1 && !client.is_handshaking() {
                client.writer().write_all(b"late").unwrap();
            }
            let mut back = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut back).unwrap();
            }
            conn.handle_bytes(now, FIRST, &mut BytesMut::from(&back[..]));
        }
        assert_eq!(conn.state(), State::Plain);
        let id = conn.accept_stream().unwrap();
        if session == 1 {
            assert!(client.is_early_data_accepted() && conn.stream(id).is_early());
            assert_eq!(conn.stream(id).read(6).unwrap().unwrap(), &b"early "[..]);
            assert_eq!(conn.stream(id).read(4).unwrap().unwrap(), &b"late"[..]);
        }
        assert!(client.reader().read(&mut [0; 10]).is_err());
    }
}

/// A store of sessions that claims that they were stored under `head`: the terms of the server that asks.
#[derive(Debug)]
struct Relabelled {
    sessions: Arc<ServerSessionMemoryCache>,
    head: Mutex<Option<Vec<u8>>>,
}

impl StoresServerSessions for Relabelled {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.sessions.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.sessions.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = self.sessions.take(key)?;
        if let Some(head) = &*self.head.lock().unwrap() {
            value[..head.len()].copy_from_slice(head);
        }
        Some(value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[test]
fn server_that_accepts_early_data_and_then_grants_less_violates_the_protocol() {
    let sessions = ServerSessionMemoryCache::new(64);
    for (is_lower, session_window) in [(true, 50_000), (false, 8 << 20)] {
        let store = Arc::new(Relabelled { sessions: sessions.clone(), head: Mutex::default() });
        let mut ends = Ends::with_ticket_of(&Tls { sessions: Some(store.clone()), ..early() });
        let granted = Config::default().with(|config| config.initial_session_window = session_window);
        let limits = [granted.initial_session_window, granted.initial_stream_window, granted.max_streams.into()];
        let head: Vec<u8> = [26, 1, 0].into_iter().chain(limits.into_iter().flat_map(u64::to_be_bytes)).collect();
        *store.head.lock().unwrap() = Some(head);
        let mut pair = ends.pair(Setup { server: granted, ..Setup::default() });
        let id = ask(&mut pair, b"question");
        first_flight(&mut pair);
        assert!(pair.server().stream(id).is_early(), "accepted");
        pair.drive();
        let lower = CloseReason::Violation(Violation::Parameters);
        assert_eq!(pair.close_reason(Client), is_lower.then_some(lower));
    }
}

#[test]
fn client_sends_nothing_of_its_streams_to_a_server_that_answers_without_tcpls() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..early() };
    for opens in [true, false] {
        let ends = Ends::with_ticket_of(&tls);
        let now = Time::from_millis(5);
        let handshake = ends.client.handshake(SERVER_NAME).unwrap();
        let mut conn = Connection::client(now, Arc::new(Config::default()), handshake, seed(2));
        if opens {
            let id = conn.open_stream().unwrap();
            conn.stream(id).write(b"frames").unwrap();
        }
        let mut server = tls.plain_server(3);
        let mut read = Vec::new();
        for _ in 0..4 {
            let mut out = Vec::new();
            while conn.poll_transmit(now, FIRST, 20_000, &mut out) > 0 {}
            let mut rest = &out[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                _ = server.process_new_packets();
            }
            _ = server.reader().read_to_end(&mut read);
            let mut back = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            conn.handle_bytes(now, FIRST, &mut BytesMut::from(&back[..]));
        }
        assert_eq!(conn.close_reason(), opens.then_some(&CloseReason::NoTcpls));
        assert_eq!(read, b"");
        assert!(opens || conn.state() == State::Plain);
    }
}

#[test]
fn memory_of_early_data_in_single_bytes_is_bounded() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..early() };
    let (config, server) = (tls.plain_client_config(1), tls.server_end(1));
    for session in 0..2 {
        let mut client = rustls::ClientConnection::new(config.clone(), server_name()).unwrap();
        let mut hello = Vec::new();
        if session == 1 {
            for _ in 0..3_000 {
                client.early_data().expect("there is a ticket").write_all(b"x").unwrap();
                client.write_tls(&mut hello).unwrap();
            }
        }
        while client.wants_write() {
            client.write_tls(&mut hello).unwrap();
        }
        let mut conn = server_with(&server, &hello);
        if session == 1 {
            assert!(conn.memory() < 130_000, "{}", conn.memory());
            continue;
        }
        let mut out = Vec::new();
        while conn.poll_transmit(Time::from_millis(6), FIRST, 20_000, &mut out) > 0 {}
        client.read_tls(&mut &out[..]).unwrap();
        client.process_new_packets().unwrap();
        let mut back = Vec::new();
        client.write_tls(&mut back).unwrap();
        conn.handle_bytes(Time::from_millis(6), FIRST, &mut BytesMut::from(&back[..]));
        out.clear();
        while conn.poll_transmit(Time::from_millis(6), FIRST, 20_000, &mut out) > 0 {}
        client.read_tls(&mut &out[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}
