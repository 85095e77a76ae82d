//! Compares what the session under test sends with the protocol, by an independent peer: acknowledgments and their
//! timing, the order of frames in a record, numbers and nonces, the appearance of a join, key updates.

use core::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::connection::{JoinOptions, TcpEnd};
use tcpls_core::testing::hello::{CHANGE_CIPHER_SPEC, ExtensionTypes, parse_server_hello, split_message};
use tcpls_core::wire::frame::{Frame, Parameters, ty};
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode, Side, StreamId};

use crate::support::peer::frames::*;
use crate::support::peer::joins::{answer_bytes, hello_bytes};
use crate::support::peer::{DATA, FIRST, HANDSHAKE, Peer, Record, SECOND, encoded, frames_of};

/// Code points of RFC 8446, 4.2.
const EARLY_DATA: u16 = 42;
const PRE_SHARED_KEY: u16 = 41;

fn two() -> Peer {
    let mut peer = Peer::client();
    peer.join();
    peer.conn.set_scheduler(Box::new(Aggregate));
    peer.rest();
    peer
}

// draft I40
#[test]
fn ping_is_acknowledged_at_once_on_its_tcp_connection() {
    let mut peer = two();
    let ping = peer.send(SECOND, &[PING]);
    assert_eq!(frames_of(&peer.recv(FIRST)), []);
    assert_eq!(frames_of(&peer.recv(SECOND)), [ack(SECOND, ping)]);
    let ping = peer.send(FIRST, &[PING]);
    assert_eq!(frames_of(&peer.recv(SECOND)), []);
    assert_eq!(frames_of(&peer.recv(FIRST)), [ack(FIRST, ping)]);
}

// draft I19
#[test]
fn acknowledgment_is_sent_at_the_maximum_delay() {
    let config = Config::default().with(|config| config.max_ack_delay = Duration::from_millis(40));
    let mut peer = Peer::with(Side::Client, config);
    peer.rest();
    let data = peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.sleep(39);
    assert_eq!(peer.recv(FIRST), []);
    peer.sleep(1);
    assert_eq!(frames_of(&peer.recv(FIRST)), [ack(FIRST, data)]);
    peer.sleep(1000);
    assert_eq!(peer.recv(FIRST), [], "once");
}

#[test]
fn acknowledgment_is_sent_sooner_after_many_records() {
    let config = Config::default().with(|config| config.ack_every_records = 5);
    let mut peer = Peer::with(Side::Client, config);
    for n in 0..4 {
        peer.send(FIRST, &[stream(0, n, b"x")]);
        assert_eq!(peer.recv(FIRST), [], "{n}");
    }
    let fifth = peer.send(FIRST, &[stream(0, 4, b"x")]);
    assert_eq!(frames_of(&peer.recv(FIRST)), [ack(FIRST, fifth)]);
}

#[test]
fn acknowledgment_goes_with_a_record_that_is_sent_anyway() {
    let mut peer = Peer::client();
    let data = peer.send(FIRST, &[stream(0, 0, b"question")]);
    peer.conn.stream(StreamId(0)).write(b"answer").unwrap();
    assert_eq!(frames_of(&peer.recv(FIRST)), [stream(0, 0, b"answer"), ack(FIRST, data)]);
    peer.sleep(100);
    assert!(!frames_of(&peer.recv(FIRST)).iter().any(|frame| matches!(frame, Frame::Ack(_))));
}

// draft I37
#[test]
fn padding_and_ack_elicit_no_acknowledgment_and_all_other_frames_do() {
    let mut peer = two();
    let last = peer.received(FIRST) - 1;
    for silent in [padding(1), padding(900), ack(FIRST, last)] {
        peer.send(FIRST, &[silent]);
        peer.sleep(1000);
        assert_eq!(peer.recv(FIRST), [], "{silent:?}");
    }
    for eliciting in [
        PING,
        stream(0, 0, b"x"),
        fin(0, 1, b""),
        address(1, 1),
        remove_address(1),
        stream_change(0, 0),
        max_data(1),
        max_stream_data(2, 1),
        max_streams(1),
        reset_stream(2, 0),
        connection_status(SECOND, true),
        tcp_option(28, &[1]),
        option_request(0, FIRST, 28, &[0, 30]),
    ] {
        let number = peer.send(FIRST, &[eliciting]);
        peer.sleep(1000);
        let answer = peer.recv(FIRST);
        assert!(frames_of(&answer).contains(&ack(FIRST, number)), "{eliciting:?}: {answer:?}");
        peer.rest();
    }
}

// draft I42
#[test]
fn an_ack_names_the_highest_record_of_its_own_tcp_connection() {
    let mut peer = two();
    let on_first = peer.send(FIRST, &[stream(0, 0, b"x")]);
    for n in 0..7 {
        peer.send(SECOND, &[stream(2, n, b"x")]);
    }
    let on_second = peer.sent(SECOND) - 1;
    assert_ne!(on_first, on_second);
    peer.sleep(25);
    assert_eq!(frames_of(&peer.recv(FIRST)), [ack(FIRST, on_first)]);
    assert_eq!(frames_of(&peer.recv(SECOND)), [ack(SECOND, on_second)]);
}

// draft I20
#[test]
fn ack_is_accepted_on_any_tcp_connection() {
    let mut peer = two();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"x").unwrap();
    let carried = peer.recv(SECOND).last().and_then(|record| record.number).unwrap();
    assert_eq!(peer.conn.stats().bytes_to_send, 1);
    peer.send(FIRST, &[ack(SECOND, carried)]);
    peer.assert_lives(&[FIRST, SECOND]);
    assert_eq!(peer.conn.stats().bytes_to_send, 0);
}

// draft E05, E06
#[test]
fn the_largest_stream_frame_comes_first_then_control_frames_and_acks_last() {
    let mut peer = Peer::client();
    for len in [10, 300, 20] {
        let id = peer.conn.open_stream().unwrap();
        peer.conn.stream(id).write(&vec![7; len]).unwrap();
    }
    peer.conn.advertise(socket_address(1)).unwrap();
    let data = peer.send(FIRST, &[stream(0, 0, b"x")]);
    let sent = peer.recv(FIRST);
    let [record] = &sent[..] else { panic!("it all fits in one record: {sent:?}") };
    assert_eq!(record.content[..300], [7; 300], "the data is at offset 0");
    let frames = record.frames();
    assert_eq!(
        frames,
        [stream(3, 0, &[7; 300]), stream(5, 0, &[7; 20]), stream(1, 0, &[7; 10]), address(0, 1), ack(FIRST, data),]
    );
}

#[test]
fn a_big_write_fills_records_to_the_byte_with_one_stream_frame_each() {
    let mut peer = Peer::client();
    let id = peer.conn.open_stream().unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    peer.conn.stream(id).write(&data).unwrap();
    let sent = peer.recv(FIRST);
    let (mut at, mut full, mut first) = (0, 0, Vec::new());
    for record in &sent {
        if full == 0 && record.content.len() < 1 << 14 {
            first.push(record.content.len() + 22);
        }
        assert!(record.content.len() <= 1 << 14);
        full += usize::from(record.content.len() == 1 << 14);
        let [Frame::Stream(frame)] = record.frames()[..] else { panic!("{record:?}") };
        assert_eq!((frame.id, frame.offset), (id, at as u64));
        assert_eq!(frame.data, &data[at..at + frame.data.len()]);
        at += frame.data.len();
    }
    assert_eq!(at, data.len());
    // On a path about which nothing is known the first is small, and each as long as all before.
    assert_eq!(first[0], 1400);
    assert!(first.len() <= 5 && first.windows(2).all(|two| two[0] <= two[1] && two[1] <= 2 * two[0]), "{first:?}");
    let rest = data.len() - first.iter().map(|len| len - 22 - 15).sum::<usize>();
    assert_eq!(full, rest / 16369, "draft-sized records");
}

#[test]
fn no_more_room_is_taken_than_there_is() {
    for room in [0, 1, 255, 256, 257, 1000, 16_406, 16_407, 40_000] {
        let mut peer = Peer::client();
        let id = peer.conn.open_stream().unwrap();
        peer.conn.stream(id).write(&[7; 100_000]).unwrap();
        let mut out = Vec::new();
        let written = peer.conn.poll_transmit(peer.now, FIRST, room, &mut out);
        assert_eq!(written, out.len());
        assert!(written <= room, "{written} of {room}");
        assert_eq!(written > 0, room >= 256, "{room}: 256 bytes are always enough to get on");
    }
}

// draft E07: bytes that were lost stand apart where those between them are still under way.
#[test]
fn two_pieces_of_one_stream_never_share_a_record() {
    let mut peer = two();
    let id = peer.conn.open_stream().unwrap();
    for tcp in [SECOND, FIRST, SECOND] {
        peer.conn.stream(id).write(b"ten bytes!").unwrap();
        assert_eq!(frames_of(&peer.recv(tcp)).len(), 1);
    }
    peer.send(FIRST, &[connection_reset(SECOND)]);
    let again: Vec<_> = peer.recv(FIRST).iter().map(|record| offsets(&record.frames())).collect();
    let pieces: Vec<_> = again.into_iter().filter(|offsets| !offsets.is_empty()).collect();
    assert_eq!(pieces, [[0], [20]]);
}

/// Of the Stream frames among `frames`.
fn offsets(frames: &[Frame<'_>]) -> Vec<u64> {
    frames.iter().filter_map(|frame| if let Frame::Stream(frame) = frame { Some(frame.offset) } else { None }).collect()
}

// draft I35
#[test]
fn frames_are_processed_from_the_last_to_the_first() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[address(1, 1), address(1, 2)]);
    assert_eq!(peer.conn.peer_addresses().collect::<Vec<_>>(), [(AddressId(1), socket_address(2))]);
    peer.send(FIRST, &[remove_address(1), address(1, 3)]);
    assert_eq!(peer.conn.peer_addresses().count(), 0);
}

#[test]
fn the_servers_first_record_has_its_parameters_and_tokens_in_order() {
    let mut peer = Peer::bare(Side::Client, Config::default());
    let records = peer.recv(FIRST);
    let first = records.iter().find(|record| record.content_type == DATA).expect("half-RTT data");
    assert_eq!(first.number, Some(0));
    let frames = first.frames();
    let Frame::SessionParameters(parameters) = frames[0] else { panic!("{frames:?}") };
    let config = Config::default();
    let parameters = Parameters::from_entries(parameters.entries);
    assert_ne!(parameters.instance, 0);
    assert_eq!(
        parameters,
        Parameters {
            initial_max_data: config.initial_session_window,
            initial_max_stream_data: config.initial_stream_window,
            max_streams: 128,
            idle_timeout_ms: 60_000,
            user_timeout_ms: 10_000,
            max_ack_delay_ms: 25,
            max_tcp_connections: 8,
            lanes: 1,
            session_timeout_ms: 60_000,
            drain: 1,
            resumed_joins: 0,
            instance: parameters.instance,
            advertised_only: 0,
            option_requests: 1,
        }
    );
    let tokens: Vec<u8> = frames[1..]
        .iter()
        .map(|frame| if let Frame::NewToken(token) = frame { token.sequence } else { panic!("{frame:?}") })
        .collect();
    assert_eq!(tokens, [1, 2, 3, 4]);
    let again = records.iter().filter(|record| record.frames().iter().any(is_parameters)).count();
    assert_eq!(again, 1, "exactly once");
}

fn is_parameters(frame: &Frame<'_>) -> bool {
    frame.ty() == ty::SESSION_PARAMETERS
}

#[test]
fn client_sends_parameters_first_and_once_and_no_data_before_the_servers() {
    let mut peer = Peer::bare(Side::Server, Config::default());
    assert!(peer.conn.open_stream().is_err(), "nothing is allowed yet");
    let first = peer.recv(FIRST);
    assert!(is_parameters(&frames_of(&first)[0]), "{first:?}");
    peer.sleep(100);
    assert!(!frames_of(&peer.recv(FIRST)).iter().any(is_parameters));
}

#[test]
fn flow_control_of_the_peer_is_obeyed_to_the_byte() {
    let limits =
        Parameters { initial_max_data: 150, initial_max_stream_data: 100, max_streams: 2, ..Default::default() };
    let mut peer = Peer::with_parameters(Side::Server, Config::default(), limits);
    let ids = [peer.conn.open_stream().unwrap(), peer.conn.open_stream().unwrap()];
    assert!(peer.conn.open_stream().is_err());
    ids.iter().for_each(|id| _ = peer.conn.stream(*id).write(&[7; 1000]).unwrap());
    let sum = |records: &[Record]| -> usize {
        let data = |frame: Frame<'_>| if let Frame::Stream(stream) = frame { stream.data.len() } else { 0 };
        frames_of(records).into_iter().map(data).sum()
    };
    assert_eq!(sum(&peer.recv(FIRST)), 150);
    peer.send(FIRST, &[max_data(180)]);
    assert_eq!(sum(&peer.recv(FIRST)), 30);
    peer.send(FIRST, &[max_data(10_000)]);
    assert_eq!(sum(&peer.recv(FIRST)), 20, "both streams are at their own limits");
    peer.send(FIRST, &[max_stream_data(ids[1].0, 101)]);
    assert_eq!(sum(&peer.recv(FIRST)), 1);
    peer.send(FIRST, &[max_stream_data(ids[1].0, 50), max_data(1)]);
    assert_eq!(sum(&peer.recv(FIRST)), 0, "limits never go back");
}

// draft E14
#[test]
fn a_used_token_is_replaced_and_numbers_only_grow() {
    let mut peer = Peer::client();
    for sequence in 1..=5 {
        assert_eq!(peer.join(), ConnectionId(sequence));
        peer.recv(FIRST);
        peer.recv(ConnectionId(sequence));
        let out: Vec<u32> = peer.tokens.keys().copied().collect();
        assert_eq!(out, (sequence + 1..=(sequence + 4).min(7)).collect::<Vec<_>>(), "8 with the live ones");
    }
    assert_eq!(peer.conn.tokens(), 2);
    let values: Vec<_> = peer.tokens.values().map(|token| token.0).collect();
    assert_ne!(values[0], values[1]);
}

// draft E14
#[test]
fn tokens_are_replaced_when_tcp_connections_leave() {
    let config = Config::default().with(|config| config.max_tcp_connections = 3);
    let mut peer = Peer::with(Side::Client, config);
    let joined = [(); 2].map(|()| {
        let tcp = peer.join();
        peer.recv(FIRST);
        peer.recv(tcp);
        tcp
    });
    assert_eq!(peer.conn.tokens(), 1);
    joined.into_iter().for_each(|tcp| peer.conn.handle_tcp_end(peer.now, tcp, TcpEnd::Fin));
    assert_eq!(peer.conn.tokens(), 2);
    let told = peer.recv(FIRST);
    assert!(frames_of(&told).iter().any(|frame| matches!(frame, Frame::NewToken(_))), "{told:?}");
}

// draft I43
#[test]
fn live_tcp_connections_and_tokens_stay_within_the_limit() {
    let config = Config::default().with(|config| config.max_tcp_connections = 3);
    let mut peer = Peer::with(Side::Client, config);
    for _ in 0..2 {
        let tcp = peer.join();
        peer.recv(FIRST);
        peer.recv(tcp);
    }
    // One token is always out, or a session that fails whole could never come back.
    assert_eq!(peer.conn.tokens(), 1);
}

// draft I15, I24, I25: the peer computes its nonces by itself.
#[test]
fn record_numbers_of_a_joined_tcp_connection_start_at_0_in_both_directions() {
    let mut peer = two();
    assert!(peer.sent(FIRST) > 2);
    let mut fresh = Peer::client();
    let tcp = fresh.join();
    assert_eq!(fresh.sent(tcp), 1, "the Ping of the join was number 0");
    let numbers: Vec<_> = fresh.recv(tcp).into_iter().filter_map(|record| record.number).collect();
    assert_eq!(numbers, [0]);
    let number = peer.send(SECOND, &[PING]);
    assert_eq!(frames_of(&peer.recv(SECOND)), [ack(SECOND, number)]);
}

// draft E01
// draft E11
#[test]
fn the_answer_to_a_join_looks_like_a_servers_part_of_a_handshake() {
    let mut peer = Peer::client();
    let hello = peer.hello(peer.tokens[&1]);
    let dial = peer.dial_hello(&hello).unwrap();
    let said = peer.hear(&dial);
    let len = usize::from(u16::from_be_bytes([said[3], said[4]]));
    assert_eq!(said[..3], [22, 3, 3]);
    assert_eq!(said[5 + len..], CHANGE_CIPHER_SPEC);
    let (kind, body) = split_message(&said[5..5 + len]).unwrap();
    let answer = parse_server_hello(body, &ExtensionTypes::default()).unwrap();
    assert_eq!((kind, &answer.session_id[..]), (2, &hello.session_id[..]), "draft: the session ID is echoed");
    assert!(answer.tls13 && !answer.is_retry_request);
    assert_eq!(answer.suite, hello.suite);
    let extensions = extensions(&body[2 + 32 + 1 + 32 + 2 + 1..]);
    assert!(extensions.contains(&PRE_SHARED_KEY), "a resumption that early data needs: {extensions:?}");
}

#[test]
fn hellos_have_fresh_random_bytes() {
    let mut peer = Peer::client();
    let token = peer.tokens[&1];
    let answers = [(); 2].map(|()| {
        let dial = peer.dial_hello(&peer.hello(token)).unwrap();
        peer.hear(&dial)
    });
    assert_ne!(answers[0][11..43], answers[1][11..43]);
    let mut peer = Peer::server();
    let (first, _) = peer.let_open(1, true);
    let (second, _) = peer.let_open(2, true);
    assert_ne!(first.random, second.random);
    assert_ne!(first.session_id, second.session_id);
}

/// The types in a list of extensions with its length in front.
fn extensions(mut list: &[u8]) -> Vec<u16> {
    let mut types = Vec::new();
    list = &list[2..];
    while let [a, b, high, low, rest @ ..] = list {
        types.push(u16::from_be_bytes([*a, *b]));
        list = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    types
}

/// The extensions' types in a ClientHello message, in order.
fn client_extensions(message: &[u8]) -> Vec<u16> {
    let after_session_id = &message[4 + 2 + 32..][1 + 32..];
    let suites = usize::from(u16::from_be_bytes([after_session_id[0], after_session_id[1]]));
    extensions(&after_session_id[2 + suites + 2..])
}

/// What a client under test sends first on a joined TCP connection.
fn flight_of_join(zero_rtt: bool) -> (Peer, Vec<Record>) {
    let mut peer = Peer::server();
    peer.send(FIRST, &[token(1, 0x77)]);
    peer.conn.open_tcp_with(peer.now, JoinOptions::default().with(|join| join.zero_rtt = zero_rtt)).unwrap();
    let generation_0 = peer.seal(SECOND, DATA, &encoded(&[PING]));
    let flight = peer.recv(SECOND);
    assert!(!generation_0.is_empty());
    (peer, flight)
}

// draft E01, E09, I31, I32
#[test]
fn a_join_with_early_data_looks_like_a_resumption() {
    let (peer, flight) = flight_of_join(true);
    let [hello, ccs, ping] = &flight[..] else { panic!("{flight:?}") };
    let types = client_extensions(&hello.content);
    assert!(types.contains(&EARLY_DATA) && types.contains(&45), "{types:?}");
    assert_eq!(types.last(), Some(&PRE_SHARED_KEY), "it has to be the last");
    assert_eq!(types.iter().filter(|ty| **ty == 0xff61).count(), 1, "one token");
    assert!(types.contains(&0xff60), "tcpls");
    assert!(hello.content.windows(32).any(|bytes| bytes == [0x77; 32]));
    assert_eq!((ccs.number, ccs.content_type, &ccs.content[..]), (None, 20, &[1][..]));
    assert_eq!((ping.number, ping.frames().contains(&PING)), (Some(0), true), "always one record to authenticate it");
    drop(peer);
}

#[test]
fn a_join_without_early_data_waits_for_the_server_hello() {
    let (mut peer, flight) = flight_of_join(false);
    let [hello] = &flight[..] else { panic!("{flight:?}") };
    let types = client_extensions(&hello.content);
    assert!(!types.contains(&EARLY_DATA) && !types.contains(&PRE_SHARED_KEY), "{types:?}");
    assert_eq!(peer.recv(SECOND), []);
    let (_, body) = split_message(&hello.content).unwrap();
    let parsed = tcpls_core::testing::hello::parse_client_hello(body, &ExtensionTypes::default()).unwrap();
    let answer = answer_bytes(&peer.answer(&parsed));
    peer.send_bytes(SECOND, &answer);
    let then = peer.recv(SECOND);
    let [ccs, ping] = &then[..] else { panic!("{then:?}") };
    assert_eq!((ccs.number, ccs.content_type), (None, 20));
    assert_eq!((ping.number, ping.frames().contains(&PING)), (Some(0), true));
}

#[test]
fn a_hello_of_the_peers_own_making_reads_back() {
    let peer = Peer::client();
    let bytes = hello_bytes(&peer.hello(peer.tokens[&1]));
    assert_eq!(client_extensions(&bytes[5..]).last(), Some(&PRE_SHARED_KEY));
}

// protocol.md, 3: the generations of a direction form one chain; each TCP connection steps through it on its own.
#[test]
fn key_update_is_sent_on_every_tcp_connection_before_its_next_record() {
    let mut peer = two();
    peer.conn.update_keys(peer.now);
    for tcp in [FIRST, SECOND] {
        let before = peer.received(tcp);
        let id = peer.conn.open_stream().unwrap();
        peer.conn.stream(id).attach(tcp).unwrap();
        peer.conn.stream(id).write(b"new keys").unwrap();
        let sent = peer.recv(tcp);
        assert_eq!((sent[0].content_type, &sent[0].content[..]), (HANDSHAKE, &[24, 0, 0, 1, 0][..]));
        // The peer opened it with sequence 0 of the next generation, or it would have failed to.
        assert_eq!(sent[1].number, Some(before + 1), "the number that ACKs use goes on");
        assert_eq!(sent[1].frames(), [stream(id.0, 0, b"new keys")]);
        peer.send(tcp, &[ack(tcp, before + 1)]);
    }
    peer.assert_lives(&[FIRST, SECOND]);
    assert_eq!(peer.conn.stats().bytes_to_send, 0);
}

#[test]
fn the_peers_key_updates_are_followed_on_each_tcp_connection_by_itself() {
    let mut peer = two();
    peer.update_keys(SECOND, false);
    peer.send(SECOND, &[stream(0, 0, b"new ")]);
    peer.send(FIRST, &[stream(0, 4, b"old")]);
    peer.update_keys(FIRST, false);
    let last = peer.send(FIRST, &[fin(0, 7, b"!"), PING]);
    assert!(frames_of(&peer.recv(FIRST)).contains(&ack(FIRST, last)), "numbers go on");
    let mut read = Vec::new();
    while let Some(bytes) = peer.conn.stream(StreamId(0)).read(100).unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert_eq!(read, b"new old!");
}

#[test]
fn a_key_update_that_asks_for_one_is_answered_on_every_tcp_connection() {
    let mut peer = two();
    peer.update_keys(FIRST, true);
    for tcp in [FIRST, SECOND] {
        let answer = peer.recv(tcp);
        assert_eq!(answer[0].content_type, HANDSHAKE, "{tcp}");
    }
}

#[test]
fn the_first_record_of_a_join_may_be_of_the_next_generation_or_the_one_before() {
    let mut peer = two();
    // Sealed with the old keys, then the server sees new ones on another TCP connection first.
    let (sequence, token) = peer.tokens.pop_first().unwrap();
    let tcp = ConnectionId(sequence);
    let old = peer.seal(tcp, DATA, &encoded(&[PING]));
    peer.update_keys(FIRST, false);
    peer.send(FIRST, &[PING]);
    let flight = [hello_bytes(&peer.hello(token)), old].concat();
    peer.dial(&flight).unwrap();
    peer.assert_lives(&[FIRST, SECOND, tcp]);

    let mut peer = two();
    // The new keys are used on a join first; the KeyUpdate on the others comes later.
    let update = peer.seal(FIRST, HANDSHAKE, &[24, 0, 0, 1, 0]);
    peer.step_keys(FIRST);
    let next = peer.join();
    peer.assert_lives(&[FIRST, SECOND, next]);
    peer.send_bytes(FIRST, &update);
    peer.send(FIRST, &[PING]);
    peer.assert_lives(&[FIRST, SECOND, next]);
}

// docs/threat-model.md, attack 18
#[test]
fn keys_are_renewed_before_they_are_used_up_counted_over_all_tcp_connections() {
    let config = Config::default().with(|config| config.confidentiality_limit = Some(40));
    let mut peer = Peer::with(Side::Client, config);
    peer.join();
    peer.conn.set_scheduler(Box::new(Aggregate));
    let id = peer.conn.open_stream().unwrap();
    let mut updates = 0;
    for n in 0..200 {
        peer.conn.stream(id).write(b"x").unwrap();
        let tcp = [FIRST, SECOND][n % 2];
        let sent = peer.recv(tcp);
        updates += sent.iter().filter(|record| record.content_type == HANDSHAKE).count();
        let last = peer.received(tcp) - 1;
        peer.send(tcp, &[ack(tcp, last)]);
    }
    peer.assert_lives(&[FIRST, SECOND]);
    assert!((16..=30).contains(&updates), "one on each of two TCP connections for every 20 records: {updates}");
    assert_eq!(peer.conn.stats().bytes_to_send, 0);
}

// draft E17; protocol.md, 7
#[test]
fn an_address_is_removed_only_once_the_peer_has_it() {
    let mut peer = Peer::client();
    let id = peer.conn.advertise(socket_address(1)).unwrap();
    peer.conn.withdraw(id).unwrap();
    let sent = peer.recv(FIRST);
    assert_eq!(frames_of(&sent), [address(0, 1)]);
    peer.send(FIRST, &[ack(FIRST, sent[0].number.unwrap())]);
    assert_eq!(frames_of(&peer.recv(FIRST)), [remove_address(0)]);
}

// draft E18
#[test]
fn tcp_connections_that_use_a_removed_address_are_left() {
    let mut peer = two();
    peer.conn.set_tcp_addresses(SECOND, None, Some(socket_address(9)));
    peer.send(FIRST, &[address(1, 9)]);
    peer.send(FIRST, &[remove_address(1)]);
    peer.rest();
    peer.sleep(4_000); // nothing comes on it any more, and nothing shows how long its round trips are
    peer.assert_lives(&[FIRST]);
}

#[test]
fn closing_waits_until_what_was_written_is_acknowledged() {
    let mut peer = Peer::client();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"important").unwrap();
    peer.conn.stream(id).finish().unwrap();
    peer.conn.close(peer.now, ErrorCode(0), b"done");
    let sent = peer.recv(FIRST);
    assert_eq!(frames_of(&sent), [fin(id.0, 0, b"important")]);
    peer.send(FIRST, &[ack(FIRST, sent[0].number.unwrap())]);
    let end = peer.recv(FIRST);
    assert!(matches!(frames_of(&end)[..], [Frame::CloseSession(close)] if close.reason == b"done"), "{end:?}");
    assert_eq!(end.last().and_then(Record::alert), Some(0));
}
