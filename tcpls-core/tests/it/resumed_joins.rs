//! Joins that are TLS resumptions (decision D147): what they carry, what they look like, and what a server does with others.

mod instances;
mod memory;
mod probes;
mod turned_away;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::{CipherSuite, ClientConnection, ServerConnection};
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, JoinOptions, State};
use tcpls_core::crypto::Handshake;
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};
use tcpls_core::error::TcpFault;
use tcpls_core::sessions::Sessions;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::wire::record::{ContentType, RecordHeader};

use crate::support::{Client, Pair, Server, Setup, Tls, bytes, seed, tls};

const FIRST: ConnectionId = ConnectionId::FIRST;
const PRE_SHARED_KEY: u16 = 41;
const EARLY_DATA: u16 = 42;
const TCPLS_JOIN: u16 = 0xff61;
/// Header, content type and tag of a protected record.
const OVERHEAD: usize = 22;

fn resuming() -> Tls {
    Tls { resumed_joins: true, ..Tls::default() }
}

/// The ends of a handshake by rustls, whatever the other tests use.
fn client_end(tls: &Tls) -> Box<dyn Handshake> {
    tls::start_client(&tls.client(1))
}

fn server_end(tls: &Tls) -> Box<dyn Handshake> {
    tls.server(2).handshake().unwrap()
}

fn pair(client: &Tls, server: &Tls) -> Pair {
    Pair::new(Setup::default(), client_end(client), server_end(server))
}

fn established(tls: Tls) -> Pair {
    let mut pair = pair(&tls, &tls);
    pair.drive();
    pair
}

/// The types of all records and their lengths on the wire.
fn records(mut bytes: &[u8]) -> Vec<(ContentType, usize)> {
    let mut records = Vec::new();
    while let Ok(Some(header)) = RecordHeader::parse(bytes) {
        records.push((header.content_type, header.record_len()));
        bytes = bytes.get(header.record_len()..).unwrap_or_default();
    }
    records
}

/// The extensions of the ClientHello at the start of `bytes`.
fn all_extensions(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let number = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(bytes[at]);
    at += 2 + number(at);
    at += 1 + usize::from(bytes[at]);
    let end = at + 2 + number(at);
    at += 2;
    let mut found = Vec::new();
    while at < end {
        let len = number(at + 2);
        found.push((number(at) as u16, &bytes[at + 4..at + 4 + len]));
        at += 4 + len;
    }
    found
}

/// The types and lengths of the extensions of a ClientHello, sorted: their order is random.
fn extensions(bytes: &[u8]) -> Vec<(u16, usize)> {
    let mut found: Vec<(u16, usize)> = all_extensions(bytes).iter().map(|(ty, body)| (*ty, body.len())).collect();
    found.sort_unstable();
    found
}

fn has(hello: &[u8], ty: u16) -> bool {
    all_extensions(hello).iter().any(|(found, _)| *found == ty)
}

/// The ticket that a ClientHello offers, if it has the length of a token.
fn ticket(hello: &[u8]) -> Option<[u8; 32]> {
    let (_, psks) = all_extensions(hello).into_iter().find(|(ty, _)| *ty == PRE_SHARED_KEY)?;
    (psks[2..4] == [0, 32]).then(|| psks[4..36].try_into().unwrap())
}

/// What the client sends for a join before the server answers.
fn first_flight(pair: &mut Pair, tcp: ConnectionId) -> Vec<u8> {
    pair.step(Client);
    pair.flow(tcp, Server).in_flight.iter().copied().collect()
}

#[test]
fn resumed_join_carries_data_in_its_first_flight_and_no_extension_of_tcpls() {
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let mut pair = established(Tls { suites: vec![suite], ..resuming() });
        let stream = pair.open_stream(Client);
        pair.cut(FIRST);
        pair.write(Client, stream, b"in the first flight");
        let second = pair.open_tcp();
        let flight = first_flight(&mut pair, second);
        assert!(has(&flight, EARLY_DATA) && !has(&flight, TCPLS_JOIN) && !has(&flight, TCPLS_JOIN - 1));
        assert!(ticket(&flight).is_some(), "the token is the ticket");
        pair.deliver(second, Server, usize::MAX);
        assert_eq!(pair.read_all(Server, stream), b"in the first flight", "{suite:?}");
        pair.drive();
        assert_eq!((pair.live(Client), pair.live(Server)), (vec![second], vec![second]));
        pair.transfer(Client, &bytes(100_000));
        pair.transfer(Server, &bytes(100_000));
        pair.update_keys(Client);
        let third = pair.join();
        pair.cut(second);
        pair.transfer(Server, b"over the third");
        assert_eq!(pair.live(Client), [third]);
    }
}

#[test]
fn resumed_join_without_early_data_waits_for_the_server() {
    let mut pair = established(resuming());
    let second = pair.open_tcp_slowly();
    let flight = first_flight(&mut pair, second);
    assert!(!has(&flight, EARLY_DATA) && ticket(&flight).is_some());
    assert_eq!(records(&flight).len(), 1, "nothing follows the hello");
    pair.drive();
    assert_eq!((pair.live(Client), pair.live(Server)), (vec![FIRST, second], vec![FIRST, second]));
    pair.cut(FIRST);
    pair.transfer(Client, b"on the second");
}

/// What was sent in a handshake of rustls without TCPLS that resumes: to the server, and to the client.
fn plain_resumption(tls: &Tls, early_data: Option<&[u8]>) -> [Vec<u8>; 2] {
    let mut client = (*tls.plain_client_config(7)).clone();
    let mut server = (*tls.plain_server_config(8)).clone();
    (client.alpn_protocols, server.alpn_protocols) = (vec![b"tcpls".to_vec()], vec![b"tcpls".to_vec()]);
    client.enable_early_data = early_data.is_some();
    server.max_early_data_size = if early_data.is_some() { 14 << 10 } else { 0 };
    let (client, server) = (Arc::new(client), Arc::new(server));
    let mut sent = [Vec::new(), Vec::new()];
    for is_resumption in [false, true] {
        let mut client = ClientConnection::new(client.clone(), tls::server_name()).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        if let (true, Some(data)) = (is_resumption, early_data) {
            client.early_data().expect("a ticket that allows it").write_all(data).unwrap();
        }
        sent = [Vec::new(), Vec::new()];
        loop {
            let mut moved = [Vec::new(), Vec::new()];
            while client.wants_write() {
                client.write_tls(&mut moved[0]).unwrap();
            }
            server.read_tls(&mut &moved[0][..]).unwrap();
            server.process_new_packets().unwrap();
            if let Some(mut early) = server.early_data() {
                _ = early.read(&mut [0; 1000]);
            }
            while server.wants_write() {
                server.write_tls(&mut moved[1]).unwrap();
            }
            client.read_tls(&mut &moved[1][..]).unwrap();
            client.process_new_packets().unwrap();
            for (sent, moved) in sent.iter_mut().zip(&moved) {
                sent.extend_from_slice(moved);
            }
            if moved.iter().all(Vec::is_empty) {
                break;
            }
        }
    }
    sent
}

#[test]
fn resumed_join_without_early_data_has_the_records_of_a_resumption() {
    let tls = resuming();
    let [up, down] = plain_resumption(&tls, None);
    let mut pair = established(tls);
    pair.open_tcp_slowly();
    pair.drive();
    let (join_up, join_down) = pair.wire()[1];
    assert_eq!(extensions(join_up), extensions(&up));
    let (expected_up, expected_down) = (records(&up), records(&down));
    assert_eq!(records(join_up)[..expected_up.len()], expected_up, "hello, ChangeCipherSpec, Finished");
    assert_eq!(records(join_down)[..expected_down.len()], expected_down, "flight and tickets");
}

#[test]
fn resumed_join_with_early_data_has_the_records_of_a_resumption() {
    let tls = resuming();
    let mut pair = established(Tls { ..tls.clone() });
    pair.open_tcp();
    pair.drive();
    let (join_up, join_down) = pair.wire()[1];
    let up = records(join_up);
    let early: Vec<usize> = up.iter().skip(2).map(|(_, len)| *len).take_while(|len| *len != 26).collect();
    let [data] = early[..] else { panic!("{up:?}") };
    let [plain_up, plain_down] = plain_resumption(&tls, Some(&vec![0; data - OVERHEAD]));
    assert_eq!(extensions(join_up), extensions(&plain_up));
    let expected = records(&plain_up);
    assert_eq!(up[..expected.len()], expected, "hello, ChangeCipherSpec, early data, its end, Finished");
    // The last record has the tickets. Records of the session may precede it: a server answers early data at once.
    let (_, flight) = records(&plain_down).split_last().map(|(last, flight)| (*last, flight.to_vec())).unwrap();
    let down = records(join_down);
    assert_eq!(down[..flight.len()], flight);
    let tickets = *records(&plain_resumption(&tls, None)[1]).last().unwrap();
    assert_eq!(down.iter().filter(|record| **record == tickets).count(), 1, "{down:?}");
}

#[test]
fn client_sends_at_most_14_kib_before_the_flight_of_the_server() {
    let mut pair = established(resuming());
    let stream = pair.open_stream(Client);
    pair.cut(FIRST);
    let data = bytes(100_000);
    pair.submit(Client, stream, &data);
    pair.step(Client);
    let second = pair.open_tcp();
    let flight = first_flight(&mut pair, second);
    let behind_hello: usize = records(&flight).iter().skip(2).map(|(_, len)| len).sum();
    assert!((12 << 10..=14 << 10).contains(&behind_hello), "{behind_hello} bytes");
    assert!(!pair.client().wants_write(second));
    pair.drive();
    pair.assert_received(Server, stream, &data);
}

#[test]
fn client_joins_as_in_the_draft_without_a_ticket_or_if_the_server_does_not_resume() {
    let mut begun = pair(&resuming(), &Tls::default());
    begun.drive();
    let second = begun.open_tcp();
    assert!(has(&first_flight(&mut begun, second), TCPLS_JOIN));
    begun.drive();
    assert_eq!(begun.live(Server), [FIRST, second]);

    let mut pair = pair(&resuming(), &resuming());
    while pair.client().state() != State::Established {
        pair.step(Client);
        pair.deliver(FIRST, Server, usize::MAX);
        pair.step(Server);
        pair.deliver(FIRST, Client, usize::MAX);
    }
    let second = pair.open_tcp();
    assert!(has(&first_flight(&mut pair, second), TCPLS_JOIN), "the first ticket has not arrived");
    pair.drive();
    let third = pair.open_tcp();
    assert!(ticket(&first_flight(&mut pair, third)).is_some());
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second, third]);
}

#[test]
fn server_that_resumes_joins_takes_those_in_the_form_of_the_draft_too() {
    let mut pair = pair(&Tls::default(), &resuming());
    pair.drive();
    let second = pair.open_tcp();
    assert!(has(&first_flight(&mut pair, second), TCPLS_JOIN));
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
}

#[test]
fn resumed_join_with_a_changed_hello_gets_the_alert_of_tls_and_leaves_the_token() {
    let mut pair = established(resuming());
    let second = pair.open_tcp_slowly();
    let mut changed = first_flight(&mut pair, second);
    changed[20] ^= 1; // in the random
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &changed);
    pair.stall(second);
    pair.drive();
    assert_eq!(pair.stranger_has(stranger), (vec![21, 3, 3, 0, 2, 2, 51], true), "decrypt_error: the binder is wrong");
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
}

#[test]
fn resumed_join_whose_record_does_not_decrypt_gets_the_answer_of_tls() {
    for slowly in [false, true] {
        let mut pair = established(resuming());
        let second = if slowly { pair.open_tcp_slowly() } else { pair.open_tcp() };
        let flight = first_flight(&mut pair, second);
        let hello_len = records(&flight)[0].1;
        let stranger = pair.connect_stranger();
        let forged = [&flight[..hello_len], &[23, 3, 3, 0, 53], &[7; 53]].concat();
        pair.stranger_sends(stranger, &forged);
        pair.stall(second);
        pair.drive();
        let (answer, is_closed) = pair.stranger_has(stranger);
        let last = *records(&answer).last().unwrap();
        assert!(is_closed && last == (ContentType::ApplicationData, OVERHEAD + 2), "{last:?}: a protected alert");
        pair.unstall(second);
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, second], "the token still works");
    }
}

#[test]
fn resumed_join_with_another_group_goes_on_as_tls_does_and_leaves_the_token() {
    let mut pair = established(resuming());
    let second = pair.open_tcp_slowly();
    let mut changed = first_flight(&mut pair, second);
    let at = changed.windows(4).position(|bytes| bytes == [0, 29, 0, 32]).expect("an X25519 share");
    changed[at + 1] = 23;
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &changed);
    pair.stall(second);
    pair.drive();
    let (answer, is_closed) = pair.stranger_has(stranger);
    assert!(!is_closed && answer.len() > 60, "{} bytes: it waits for another ClientHello", answer.len());
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
}

#[test]
fn client_ends_a_resumed_join_on_a_retry_request() {
    let mut pair = established(resuming());
    let second = pair.open_tcp();
    first_flight(&mut pair, second);
    pair.flow(second, Server).in_flight.clear();
    let retry = hex::decode("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c").unwrap();
    let body = [&[3, 3][..], &retry, &[0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]].concat();
    let message = [&[2, 0, 0, body.len() as u8][..], &body].concat();
    pair.flow(second, Client).send(&[&[22, 3, 3, 0, message.len() as u8][..], &message].concat());
    pair.deliver(second, Client, usize::MAX);
    assert_eq!(pair.fault(Client, second), Some(TcpFault::JoinRefused));
    assert!(pair.flow(second, Server).in_flight.is_empty(), "nothing follows");
    pair.transfer(Client, b"the session goes on");
}

#[test]
fn slow_resumed_join_as_a_backup_says_so_in_its_first_record() {
    let mut pair = established(resuming());
    let second = pair.open_tcp_with(JoinOptions::default().with(|join| join.backup = true));
    pair.step(Client);
    pair.deliver(second, Server, usize::MAX);
    pair.step(Server);
    pair.deliver(second, Client, usize::MAX);
    pair.step(Client);
    // ChangeCipherSpec and the stand-in for Finished.
    let first = pair.flow(second, Server).in_flight.iter().copied().collect::<Vec<u8>>();
    let first: usize = records(&first).iter().take(2).map(|(_, len)| len).sum();
    pair.stall(FIRST);
    pair.deliver(second, Server, first);
    assert_eq!(pair.live(Server), [FIRST, second]);
    let stream = pair.open_stream(Server);
    pair.write(Server, stream, &bytes(50_000));
    pair.step(Server);
    assert_eq!(pair.server().tcp_stats(second).unwrap().counters.stream_bytes_sent, 0, "it is a backup");
}

#[test]
fn sessions_with_early_data_have_resumed_joins() {
    let tls = Tls { early_client: true, early_server: true, ..resuming() };
    let (client, server) = (tls.client(1), tls.server(2));
    for session in 0..3 {
        let (client_end, server_end) = (tls::start_client(&client), server.handshake().unwrap());
        let mut pair = Pair::new(Setup { seed: session, ..Setup::default() }, client_end, server_end);
        pair.drive();
        let second = pair.open_tcp();
        assert!(ticket(&first_flight(&mut pair, second)).is_some());
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, second]);
        pair.transfer(Server, b"over both");
    }
}

/// A server of another process, which knows no session.
struct Elsewhere {
    conn: Connection,
    input: BytesMut,
}

impl Elsewhere {
    /// Receives the first flight of a join, whose token it does not know.
    fn new(pair: &Pair, flight: &[u8]) -> Self {
        Self::with(pair, flight, server_end(&resuming()), 90)
    }

    /// With this handshake, and the instance that `number` stands for.
    fn with(pair: &Pair, flight: &[u8], tls: Box<dyn Handshake>, number: u64) -> Self {
        let mut endpoint = Endpoint::new(EndpointConfig::default(), [9; 32], seed(number));
        let incoming = endpoint.handle_accepted(pair.now);
        let mut input = BytesMut::from(flight);
        let Some(Incoming::New(session)) = endpoint.handle_bytes(pair.now, incoming, &mut input) else {
            panic!("an unknown ticket begins a session");
        };
        let conn = Connection::server(pair.now, Arc::new(Config::default()), tls, session, seed(92));
        Self { conn, input }
    }

    fn exchange(&mut self, pair: &mut Pair, more: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(more);
        self.conn.handle_bytes(pair.now, FIRST, &mut self.input);
        let mut out = Vec::new();
        while self.conn.poll_transmit(pair.now, FIRST, 16 << 10, &mut out) > 0 {}
        out
    }
}

#[test]
fn server_without_the_token_completes_a_full_handshake_and_the_client_goes_on() {
    for slowly in [true, false] {
        let mut pair = established(resuming());
        let second = if slowly { pair.open_tcp_slowly() } else { pair.open_tcp() };
        let flight = first_flight(&mut pair, second);
        let mut elsewhere = Elsewhere::new(&pair, &flight);
        pair.flow(second, Server).in_flight.clear();
        let answer = elsewhere.exchange(&mut pair, &[]);
        assert!(answer.len() > 600, "a certificate is among the {} bytes", answer.len());
        pair.flow(second, Client).send(&answer);
        pair.deliver(second, Client, usize::MAX);
        assert_eq!(pair.fault(Client, second), Some(TcpFault::JoinRefused));
        let last: Vec<u8> = pair.flow(second, Server).in_flight.drain(..).collect();
        elsewhere.exchange(&mut pair, &last);
        assert_eq!(elsewhere.conn.state(), State::Closed, "{:?}", elsewhere.conn.close_reason());
        pair.transfer(Client, b"the session goes on");
        let third = pair.join();
        assert_eq!(pair.live(Client), [FIRST, third]);
    }
}

#[test]
fn replayed_resumption_gets_the_answer_of_an_unknown_ticket() {
    let mut pair = established(resuming());
    let second = pair.open_tcp();
    let flight = first_flight(&mut pair, second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    let incoming = pair.endpoint.handle_accepted(pair.now);
    let mut input = BytesMut::from(&flight[..]);
    let Some(Incoming::Join(join)) = pair.endpoint.handle_bytes(pair.now, incoming, &mut input) else { panic!() };
    assert!(join.is_resumption() && pair.server().turns_away(&join));
    assert!(pair.endpoint.decline_join(join, &mut input).is_ok());
    assert_eq!(input, flight, "all bytes are there for the new session");
}

#[test]
fn resumed_join_of_a_session_that_is_gone_begins_one() {
    let mut pair = established(resuming());
    let second = pair.open_tcp();
    let flight = first_flight(&mut pair, second);
    let endpoint = Endpoint::new(EndpointConfig::default(), [0x5e; 32], seed(90));
    let mut sessions = Sessions::with_endpoint(endpoint);
    let socket = sessions.handle_accepted(pair.now);
    sessions.input(socket).extend_from_slice(&flight);
    let new = sessions.handle_bytes(pair.now, socket).expect("the token is authentic, but its session is not there");
    let tls = server_end(&resuming());
    let conn = Connection::server(pair.now, Arc::new(Config::default()), tls, new, seed(92));
    assert!(sessions.accept(pair.now, socket, conn).is_some());
    let mut answer = Vec::new();
    while sessions.poll_transmit(pair.now, socket, 16 << 10, &mut answer) > 0 {}
    assert!(answer.len() > 600, "a certificate is among the {} bytes", answer.len());
}

#[test]
fn resumed_join_without_an_answer_times_out() {
    let mut pair = established(resuming());
    let second = pair.open_tcp();
    pair.stall_towards(second, Client);
    pair.drive_for(Duration::from_secs(6));
    assert_eq!(pair.fault(Client, second), Some(TcpFault::JoinTimeout));
    pair.join();
    pair.transfer(Client, b"still there");
}

#[test]
fn every_resumed_join_offers_another_random_and_another_key_share() {
    let mut pair = established(resuming());
    let [a, b] = [(); 2].map(|()| {
        let tcp = pair.open_tcp_with(JoinOptions::default());
        first_flight(&mut pair, tcp)
    });
    assert_ne!(a[11..43], b[11..43], "the random");
    assert_ne!(ticket(&a), ticket(&b));
    let age = |hello: &[u8]| {
        let psks = all_extensions(hello).into_iter().find(|(ty, _)| *ty == PRE_SHARED_KEY).unwrap().1;
        u32::from_be_bytes(psks[36..40].try_into().unwrap())
    };
    assert!(age(&a).abs_diff(age(&b)) > 10_000, "{} and {}: the age", age(&a), age(&b));
    let share = |hello: &[u8]| all_extensions(hello).iter().find(|(ty, _)| *ty == 51).map(|(_, body)| body.to_vec());
    assert_ne!(share(&a), share(&b));
}
