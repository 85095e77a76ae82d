//! A peer that does not support TCPLS: the session is plain TLS 1.3 on one TCP connection, with one stream. The peers here are
//! rustls as others use it.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, State, TcpEnd, TcpInfo};
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};
use tcpls_core::error::{
    AddressError, AskOptionError, CloseReason, OpenStreamError, OpenTcpError, ReadError, TcpError, TcpFault, Violation,
    WriteError,
};
use tcpls_core::event::{Established, Event};
use tcpls_core::testing::null::lenient_record;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::tls::start_client;
use crate::support::{Client, NullHandshake, Pair, Server, Setup, Side, Tls, seed};

const FIRST: ConnectionId = ConnectionId::FIRST;
const ONLY: StreamId = StreamId(0);

/// One end of ours and one that is plain rustls.
pub(crate) struct Mixed {
    pub(crate) conn: Connection,
    pub(crate) peer: rustls::Connection,
    unread: BytesMut,
    pub(crate) now: Time,
    pub(crate) heard: Vec<u8>,
}

impl Mixed {
    pub(crate) fn new(ours: Side) -> Self {
        Self::with(ours, Tls::default())
    }

    fn with(ours: Side, tls: Tls) -> Self {
        Self::with_config(ours, tls, Config::default())
    }

    pub(crate) fn with_config(ours: Side, tls: Tls, config: Config) -> Self {
        let now = Time::from_millis(5);
        let config = Arc::new(config);
        let (conn, peer) = match ours {
            Client => {
                let conn = Connection::client(now, config, tls.start_client(1), seed(2));
                (conn, rustls::Connection::Server(tls.plain_server(3)))
            }
            Server => {
                let mut peer = tls.plain_client(3);
                let mut hello = Vec::new();
                while peer.wants_write() {
                    peer.write_tls(&mut hello).unwrap();
                }
                let mut bytes = BytesMut::from(&hello[..]);
                let mut endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], seed(4));
                let incoming = endpoint.handle_accepted(now);
                let Some(Incoming::New(session)) = endpoint.handle_bytes(now, incoming, &mut bytes) else {
                    panic!("a ClientHello without a token starts a session");
                };
                let handshake = tls.start_server(1);
                let mut conn = Connection::server(now, config, handshake, session, seed(2));
                conn.handle_bytes(now, FIRST, &mut bytes);
                (conn, rustls::Connection::Client(peer))
            }
        };
        Self { conn, peer, unread: BytesMut::new(), now, heard: Vec::new() }
    }

    pub(crate) fn established(ours: Side) -> Self {
        let mut mixed = Self::new(ours);
        mixed.drive();
        assert_eq!(mixed.conn.state(), State::Plain);
        assert!(!mixed.peer.is_handshaking());
        mixed
    }

    pub(crate) fn drive(&mut self) {
        for _ in 0..1000 {
            if !(self.ours_to_peer() | self.peer_to_ours()) {
                return;
            }
        }
        panic!("they do not come to rest");
    }

    fn ours_to_peer(&mut self) -> bool {
        let mut out = Vec::new();
        while self.conn.poll_transmit(self.now, FIRST, 20_000, &mut out) > 0 {}
        let mut rest = &out[..];
        while !rest.is_empty() {
            self.peer.read_tls(&mut rest).unwrap();
            let failed = self.peer.process_new_packets().is_err();
            self.hear();
            if failed {
                break;
            }
        }
        !out.is_empty()
    }

    fn hear(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.peer.reader().read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => self.heard.extend_from_slice(&buffer[..n]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
    }

    fn peer_to_ours(&mut self) -> bool {
        let mut out = Vec::new();
        while self.peer.wants_write() {
            self.peer.write_tls(&mut out).unwrap();
        }
        self.unread.extend_from_slice(&out);
        self.conn.handle_bytes(self.now, FIRST, &mut self.unread);
        !out.is_empty()
    }

    /// Time passes, nothing else happens.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.conn.handle_timeout(self.now);
    }

    /// Writes on the stream, which the peer has begun if it has to.
    fn submit(&mut self, data: &[u8]) {
        if self.conn.side() == Server {
            self.peer.writer().write_all(b"!").unwrap();
            self.peer_to_ours();
        }
        self.write(data);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.conn.poll_event()).collect()
    }

    pub(crate) fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            match self.conn.stream(ONLY).write(data) {
                Ok(taken) => data = &data[taken..],
                Err(error) => {
                    assert_eq!(error, WriteError::Blocked);
                    self.drive();
                }
            }
        }
    }

    fn read(&mut self) -> Vec<u8> {
        self.read_to_end().0
    }

    /// What can be read, and what the last read returned.
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, Result<(), ReadError>) {
        let mut all = Vec::new();
        loop {
            match self.conn.stream(ONLY).read(usize::MAX) {
                Ok(Some(bytes)) => all.extend_from_slice(&bytes),
                Ok(None) => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }
}

#[test]
fn client_of_a_server_without_tcpls_gets_a_plain_session_with_one_stream() {
    let mut mixed = Mixed::established(Client);
    assert!(mixed.events().contains(&Event::Established(Established::default())));
    assert_eq!(mixed.conn.open_stream(), Ok(ONLY));
    assert!(mixed.conn.open_stream().is_err(), "there is only one");
    mixed.write(b"GET /");
    mixed.drive();
    assert_eq!(mixed.heard, b"GET /");
    mixed.peer.writer().write_all(b"200 OK").unwrap();
    mixed.drive();
    assert_eq!(mixed.read(), b"200 OK");
}

#[test]
fn server_of_a_plain_client_accepts_one_stream() {
    let mut mixed = Mixed::established(Server);
    mixed.peer.writer().write_all(b"GET /").unwrap();
    mixed.drive();
    assert_eq!(mixed.conn.accept_stream(), Some(ONLY));
    assert_eq!(mixed.conn.accept_stream(), None);
    assert_eq!(mixed.read(), b"GET /");
    mixed.write(b"200 OK");
    mixed.drive();
    assert_eq!(mixed.heard, b"200 OK");
}

#[test]
fn a_plain_application_protocol_is_agreed_where_tcpls_is_not() {
    for ours in [Client, Server] {
        let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
        let mut mixed = Mixed::with(ours, tls);
        mixed.drive();
        assert_eq!(mixed.conn.state(), State::Plain);
        assert_eq!(mixed.conn.application_protocol(), Some(&b"h2"[..]));
        assert_eq!(mixed.peer.alpn_protocol(), Some(&b"h2"[..]));
    }
}

#[test]
fn bulk_passes_both_ways() {
    for ours in [Client, Server] {
        let mut mixed = Mixed::established(ours);
        if ours == Client {
            mixed.conn.open_stream().unwrap();
        } else {
            mixed.peer.writer().write_all(b"!").unwrap();
            mixed.drive();
            assert_eq!(mixed.read(), b"!");
        }
        let data = crate::support::bytes(300_000);
        mixed.write(&data);
        mixed.drive();
        assert!(mixed.heard == data);
        let mut back = Vec::new();
        for part in data.chunks(10_000) {
            mixed.peer.writer().write_all(part).unwrap();
            mixed.drive();
            back.extend(mixed.read());
        }
        assert!(back == data);
        let counters = mixed.conn.tcp_stats(FIRST).unwrap().counters;
        let greeting = u64::from(ours == Server);
        assert_eq!((counters.stream_bytes_sent, counters.stream_bytes_received), (300_000, 300_000 + greeting));
    }
}

#[test]
fn calls_that_need_several_tcp_connections_fail_in_a_plain_session() {
    let address = "192.0.2.1:443".parse().unwrap();
    for ours in [Client, Server] {
        let mut mixed = Mixed::established(ours);
        let (conn, now) = (&mut mixed.conn, mixed.now);
        let refused = if ours == Client { OpenTcpError::Plain } else { OpenTcpError::Server };
        assert_eq!(conn.open_tcp(now), Err(refused));
        assert_eq!(conn.retire_tcp(now, FIRST), Err(TcpError::Plain));
        assert_eq!(conn.set_backup(FIRST, true), Err(TcpError::Plain));
        assert_eq!(conn.ping(FIRST), Err(TcpError::Plain));
        assert_eq!(conn.send_tcp_option(28, &[1]), Err(TcpError::Plain));
        assert_eq!(conn.ask_tcp_option(FIRST, 28, &[1]), Err(AskOptionError::NotSupported));
        assert_eq!(conn.advertise(address), Err(AddressError::Plain));
        assert_eq!(conn.stream(ONLY).attach(FIRST), Err(TcpError::Plain));
        assert_eq!(conn.stream(ONLY).detach(FIRST), Err(TcpError::Plain));
        if ours == Server {
            assert_eq!(conn.open_stream(), Err(OpenStreamError::Plain));
        }
        assert_eq!(conn.state(), State::Plain);
        assert_eq!(conn.tokens(), 0);
    }
}

#[test]
fn the_end_of_a_stream_without_data_is_close_notify_alone() {
    let mut mixed = Mixed::established(Client);
    mixed.conn.open_stream().unwrap();
    let records = |mixed: &Mixed| mixed.conn.tcp_stats(FIRST).unwrap().counters.records_sent;
    let before = records(&mixed);
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.drive();
    assert_eq!(records(&mixed), before + 1);
}

#[test]
fn close_notify_is_the_end_of_the_stream() {
    let mut mixed = Mixed::established(Client);
    mixed.conn.open_stream().unwrap();
    mixed.write(b"final bytes");
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.drive();
    assert_eq!(mixed.heard, b"final bytes");
    assert_eq!(mixed.peer.reader().read(&mut [0; 1]).unwrap(), 0, "rustls has seen close_notify");
    mixed.peer.writer().write_all(b"and yours").unwrap();
    mixed.peer.send_close_notify();
    mixed.drive();
    assert_eq!(mixed.read_to_end(), (b"and yours".to_vec(), Ok(())));
    assert_eq!(mixed.conn.state(), State::Closed);
    let events = mixed.events();
    assert!(matches!(
        events.last(),
        Some(Event::Closed { reason: CloseReason::Peer { .. } | CloseReason::Local { .. } })
    ));
}

#[test]
fn closing_delivers_written_data_and_sends_close_notify() {
    let mut mixed = Mixed::established(Client);
    mixed.conn.open_stream().unwrap();
    mixed.write(&[5; 100_000]);
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.conn.close(mixed.now, ErrorCode(0), b"");
    mixed.drive();
    assert_eq!(mixed.heard, [5; 100_000]);
    assert_eq!(mixed.peer.reader().read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(0) }));
}

#[test]
fn a_stream_that_ends_without_close_notify_is_cut_short() {
    let mut mixed = Mixed::established(Client);
    mixed.conn.open_stream().unwrap();
    mixed.peer.writer().write_all(b"half of").unwrap();
    mixed.drive();
    mixed.conn.handle_tcp_end(mixed.now, FIRST, TcpEnd::Fin);
    assert_eq!(mixed.read_to_end(), (b"half of".to_vec(), Err(ReadError::Truncated)));
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::Fin)));
}

#[test]
fn a_plain_session_stops_reading_when_the_application_does() {
    let mut mixed = Mixed::established(Client);
    mixed.conn.open_stream().unwrap();
    let mut sent = 0;
    while mixed.conn.wants_read(FIRST) {
        mixed.peer.writer().write_all(&[7; 10_000]).unwrap();
        mixed.drive();
        sent += 10_000;
        assert!(sent <= 40 << 20, "it must stop some time");
    }
    assert_eq!(mixed.conn.state(), State::Plain);
    assert_eq!(mixed.read().len(), sent);
    assert!(mixed.conn.wants_read(FIRST));
}

#[test]
fn an_idle_plain_session_ends() {
    let mut mixed = Mixed::established(Client);
    mixed.now += Duration::from_secs(61);
    mixed.conn.handle_timeout(mixed.now);
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::IdleTimeout));
}

#[test]
fn the_idle_timeout_of_a_plain_session_can_be_replaced_and_starts_then() {
    let mut mixed = Mixed::established(Server);
    mixed.submit(&[7; 100_000]);
    send_slowly(&mut mixed, 1, 2000);
    mixed.conn.set_plain_idle_timeout(mixed.now, None);
    mixed.wait(Duration::from_secs(3600));
    assert_eq!(mixed.conn.close_reason(), None, "a socket that takes nothing, and a peer that sends nothing");
    mixed.conn.set_plain_idle_timeout(mixed.now, Some(Duration::from_secs(90)));
    mixed.wait(Duration::from_secs(89));
    assert_eq!(mixed.conn.close_reason(), None);
    mixed.wait(Duration::from_secs(1));
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::UserTimeout)));
}

/// What the socket of a plain session takes, `steps` times every 20 s, after the application has written more than that.
fn send_slowly(mixed: &mut Mixed, steps: usize, room: usize) {
    for _ in 0..steps {
        mixed.wait(Duration::from_secs(20));
        let mut out = Vec::new();
        assert!(mixed.conn.poll_transmit(mixed.now, FIRST, room, &mut out) > 0);
        mixed.conn.poll_transmit(mixed.now, FIRST, 0, &mut out);
    }
}

#[test]
fn plain_session_that_only_sends_lives_as_long_as_its_socket_takes_bytes() {
    for ours in [Client, Server] {
        let mut mixed = Mixed::established(ours);
        mixed.submit(&[7; 100_000]);
        send_slowly(&mut mixed, 20, 2000);
        assert_eq!(mixed.conn.close_reason(), None, "400 s, 38 kB, and nothing has come back");
        mixed.wait(Duration::from_secs(59));
        assert_eq!(mixed.conn.close_reason(), None);
        mixed.wait(Duration::from_secs(1));
        assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::UserTimeout)));
    }
}

#[test]
fn plain_session_lives_while_bytes_of_one_long_record_arrive() {
    let mut mixed = Mixed::established(Client);
    mixed.peer.writer().write_all(&[7; 16_000]).unwrap();
    let mut record = Vec::new();
    mixed.peer.write_tls(&mut record).unwrap();
    for piece in record.chunks(1000) {
        mixed.wait(Duration::from_secs(50));
        mixed.unread.extend_from_slice(piece);
        mixed.conn.handle_bytes(mixed.now, FIRST, &mut mixed.unread);
    }
    assert_eq!(mixed.read().len(), 16_000);
}

#[test]
fn bytes_of_a_record_that_are_shown_again_do_not_keep_a_plain_session() {
    let mut mixed = Mixed::established(Client);
    mixed.unread.extend_from_slice(&[23, 3, 3, 64, 0, 1]);
    for _ in 0..3 {
        assert_eq!(mixed.conn.close_reason(), None);
        mixed.conn.handle_bytes(mixed.now, FIRST, &mut mixed.unread);
        mixed.wait(Duration::from_secs(20));
    }
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::IdleTimeout));
}

#[test]
fn plain_session_ends_when_its_socket_takes_nothing_although_the_peer_sends() {
    let mut mixed = Mixed::established(Server);
    mixed.submit(&[7; 100_000]);
    send_slowly(&mut mixed, 1, 2000);
    for _ in 0..5 {
        mixed.wait(Duration::from_secs(10));
        mixed.peer.writer().write_all(b"more").unwrap();
        mixed.peer_to_ours();
    }
    assert_eq!(mixed.conn.close_reason(), None);
    mixed.wait(Duration::from_secs(10));
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::UserTimeout)));
}

#[test]
fn plain_session_lives_while_the_peers_kernel_acknowledges_new_bytes() {
    let mut mixed = Mixed::established(Server);
    mixed.submit(&[7; 100_000]);
    send_slowly(&mut mixed, 1, 50_000);
    for step in 0..20 {
        mixed.now += Duration::from_secs(20);
        let (acked, rtt) = (2000 + 100 * step.min(14), Duration::from_millis(100));
        let info = TcpInfo::default().with(|info| {
            info.heard = mixed.now;
            info.unacked = 30;
            info.rtt = rtt;
            info.min_rtt = rtt;
            info.acked = acked;
        });
        mixed.conn.handle_tcp_info(FIRST, info);
        mixed.conn.handle_timeout(mixed.now);
        let is_open = mixed.conn.close_reason().is_none();
        assert_eq!(is_open, step < 17, "60 s after the last new byte, answers to probes or not: step {step}");
    }
}

#[test]
fn a_plain_session_with_a_quiet_stream_has_nothing_due_before_the_idle_timeout() {
    let mut mixed = Mixed::established(Client);
    mixed.write(b"a question that is not answered");
    mixed.drive();
    assert!(mixed.conn.poll_timeout() > Some(mixed.now + Duration::from_secs(30)), "plain TLS knows no Ping");
}

#[test]
fn keys_are_renewed_as_often_as_it_takes() {
    for ours in [Client, Server] {
        let config = Config::default().with(|config| config.confidentiality_limit = Some(40));
        let mut mixed = Mixed::with_config(ours, Tls::default(), config);
        mixed.drive();
        for _ in 0..200 {
            mixed.write(b"one record");
            mixed.drive();
        }
        assert_eq!(mixed.conn.close_reason(), None);
        assert_eq!(mixed.heard, b"one record".repeat(200));
        assert!(mixed.conn.stats().key_updates.0 >= 9);
    }
}

#[test]
fn every_request_for_a_key_update_is_answered() {
    let mut mixed = Mixed::established(Client);
    for asked in 1..=4 {
        mixed.peer.refresh_traffic_keys().unwrap();
        mixed.drive();
        assert_eq!(mixed.conn.stats().key_updates, (asked, asked));
        assert!(!mixed.conn.wants_write(FIRST));
    }
}

#[test]
fn pending_frames_are_dropped_when_the_session_is_plain() {
    let mut mixed = Mixed::new(Client);
    mixed.conn.ping(FIRST).unwrap();
    mixed.conn.set_backup(FIRST, true).unwrap();
    mixed.conn.send_tcp_option(28, &[1]).unwrap();
    mixed.conn.advertise("192.0.2.1:443".parse().unwrap()).unwrap();
    mixed.drive();
    assert_eq!(mixed.conn.state(), State::Plain);
    assert!(!mixed.conn.wants_write(FIRST), "it would never stop wanting");
}

#[test]
fn the_end_of_the_stream_keeps_to_the_room_that_there_is() {
    for room in 256..600 {
        let mut mixed = Mixed::established(Client);
        mixed.write(&[1; 1000]);
        mixed.conn.stream(ONLY).finish().unwrap();
        let mut out = Vec::new();
        for _ in 0..10 {
            assert!(mixed.conn.poll_transmit(mixed.now, FIRST, room, &mut out) <= room, "room: {room}");
        }
        assert!(!mixed.conn.wants_write(FIRST));
    }
}

#[test]
fn written_data_is_sent_after_the_peers_half_close() {
    let mut mixed = Mixed::established(Client);
    mixed.peer.send_close_notify();
    mixed.drive();
    mixed.conn.handle_tcp_end(mixed.now, FIRST, TcpEnd::Fin);
    assert_eq!(mixed.conn.stream(ONLY).read(9), Ok(None), "the peer has said all");
    assert_eq!(mixed.conn.state(), State::Plain);
    mixed.write(b"a late answer");
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.drive();
    assert_eq!(mixed.heard, b"a late answer");
    assert_eq!(mixed.conn.state(), State::Closed);
}

#[test]
fn fin_without_close_notify_ends_a_plain_session_with_an_error() {
    let data = vec![7; 40_000];
    let mut mixed = Mixed::established(Client);
    mixed.peer.writer().write_all(&data).unwrap();
    mixed.peer.send_close_notify();
    let mut all = Vec::new();
    while mixed.peer.wants_write() {
        mixed.peer.write_tls(&mut all).unwrap();
    }
    let mut ends = vec![0];
    while let Some(header) = all.get(ends[ends.len() - 1]..).and_then(|rest| rest.first_chunk::<5>()) {
        ends.push(ends[ends.len() - 1] + 5 + usize::from(u16::from_be_bytes([header[3], header[4]])));
    }
    assert!(ends.len() >= 4);
    for end in &ends {
        let mut mixed = Mixed::established(Client);
        mixed.peer.writer().write_all(&data).unwrap();
        mixed.peer.send_close_notify();
        let mut all = Vec::new();
        while mixed.peer.wants_write() {
            mixed.peer.write_tls(&mut all).unwrap();
        }
        mixed.conn.handle_bytes(mixed.now, FIRST, &mut BytesMut::from(&all[..*end]));
        mixed.conn.handle_tcp_end(mixed.now, FIRST, TcpEnd::Fin);
        let mut got = 0;
        let outcome = loop {
            match mixed.conn.stream(ONLY).read(usize::MAX) {
                Ok(Some(bytes)) => got += bytes.len(),
                other => break other,
            }
        };
        if end == ends.last().unwrap() {
            assert_eq!((got, outcome), (data.len(), Ok(None)));
        } else {
            assert_eq!(outcome, Err(ReadError::Truncated), "cut after {end} bytes");
            assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::Fin)));
        }
    }
}

// docs/threat-model.md, attack 5
#[test]
fn records_without_content_end_a_plain_session_if_they_never_stop() {
    let now = Time::from_millis(5);
    let config = Arc::new(Config::default().with(|config| config.overhead_budget = 100));
    let mut conn = Connection::client(now, config, Box::new(NullHandshake::plain(Client)), seed(1));
    conn.handle_bytes(now, FIRST, &mut BytesMut::from(&[22, 3, 3, 0, 1, 0][..]));
    assert_eq!(conn.state(), State::Plain);
    let record = |content: &[u8]| lenient_record(23, content);
    let mut send = |content: &[u8]| conn.handle_bytes(now, FIRST, &mut BytesMut::from(&record(content)[..]));
    (0..100).for_each(|_| send(b""));
    (0..100).for_each(|_| send(b"data"));
    assert_eq!(conn.state(), State::Plain);
    conn.handle_bytes(now, FIRST, &mut BytesMut::from(&record(b"")[..]));
    assert_eq!(conn.close_reason(), Some(&CloseReason::Violation(Violation::EnhanceYourCalm)));
}

#[test]
fn an_evicted_plain_session_does_not_look_complete() {
    let mut mixed = Mixed::established(Server);
    mixed.conn.stream(ONLY).write(b"some of it").unwrap();
    mixed.drive();
    mixed.conn.evict(mixed.now);
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::Evicted));
    let mut out = Vec::new();
    while mixed.conn.poll_transmit(mixed.now, FIRST, 20_000, &mut out) > 0 {}
    mixed.peer.read_tls(&mut &out[..]).unwrap();
    let outcome = mixed.peer.process_new_packets();
    assert_eq!(outcome.unwrap_err(), rustls::Error::AlertReceived(rustls::AlertDescription::InternalError));
}

#[test]
fn a_plain_server_that_refuses_the_client_certificate_fails_the_handshake() {
    let mut mixed = Mixed::with(Client, Tls { client_auth: true, ..Tls::default() });
    mixed.drive();
    let Some(CloseReason::Handshake(error)) = mixed.conn.close_reason() else {
        panic!("{:?}", mixed.conn.close_reason());
    };
    let refusal = "the peer refused it with alert 116 (certificate_required): it requires a client certificate";
    assert_eq!(error.to_string(), refusal);
}

/// No session came about, for this reason; the server has the alert, and nothing of an application's.
fn assert_no_session(mut mixed: Mixed, reason: &CloseReason) {
    while mixed.ours_to_peer() | mixed.peer_to_ours() {
        if mixed.conn.close_reason().is_some() {
            break;
        }
    }
    assert_eq!(mixed.conn.close_reason(), Some(reason));
    let events = mixed.events();
    assert!(!events.iter().any(|event| matches!(event, Event::Established(_) | Event::Stream(_))), "{events:?}");
    let mut out = Vec::new();
    while mixed.conn.poll_transmit(mixed.now, FIRST, 20_000, &mut out) > 0 {}
    mixed.peer.read_tls(&mut &out[..]).unwrap();
    let error = mixed.peer.process_new_packets().unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
    assert!(mixed.heard.is_empty());
}

#[test]
fn server_that_selects_no_application_protocol_is_refused() {
    let tls = Tls { client_protocols: vec![b"hq-interop", b"h2"], ..Tls::default() };
    assert_no_session(Mixed::with(Client, tls), &CloseReason::NoApplicationProtocol);
}

#[test]
fn client_that_requires_tcpls_gets_no_plain_session() {
    for client_protocols in [vec![], vec![&b"h2"[..]]] {
        let tls = Tls { client_protocols, ..Tls::default() };
        let mut mixed = Mixed::with(Client, tls.clone());
        mixed.conn = Connection::client(mixed.now, Arc::default(), start_client(&tls.client(1).tcpls_only()), seed(2));
        assert_no_session(mixed, &CloseReason::NoTcpls);
    }
    // A server that has application protocols of its own refuses by itself.
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
    let mut mixed = Mixed::with(Client, tls.clone());
    mixed.conn = Connection::client(mixed.now, Arc::default(), start_client(&tls.client(1).tcpls_only()), seed(2));
    mixed.drive();
    let Some(CloseReason::Handshake(error)) = mixed.conn.close_reason() else {
        panic!("{:?}", mixed.conn.close_reason());
    };
    assert!(error.to_string().contains("alert 120 (no_application_protocol)"), "{error}");
}

#[test]
fn client_that_requires_tcpls_gets_a_session_with_a_tcpls_server() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
    let setup = Setup { ..Setup::default() };
    let (client, server) = (tls.client(1).tcpls_only(), tls.server(1));
    let mut pair = Pair::new(setup, start_client(&client), server.handshake().unwrap());
    pair.drive();
    assert_eq!(pair.client().application_protocol(), Some(&b"h2"[..]));
    pair.transfer(Client, b"framed");
}

#[test]
fn data_within_kernel_buffers_is_undelivered_in_a_plain_session() {
    let mut mixed = Mixed::established(Server);
    for expected in [0, 0, 88 * 1024, 288 * 1024] {
        let mut left = &[7; 200 * 1024][..];
        while !left.is_empty() {
            let taken = mixed.conn.stream(ONLY).write(left).unwrap();
            left = &left[taken..];
            mixed.drive();
        }
        assert_eq!(mixed.conn.delivered(), expected);
    }
}
