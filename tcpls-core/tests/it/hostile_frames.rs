//! Violations inside authentic records. The peer is at fault, not the path: the session sends Close Session with a code
//! and text and a fatal alert, closes all TCP connections, and processes nothing of the record (`docs/protocol.md`, 9).

use tcpls_core::config::Config;
use tcpls_core::connection::TcpEnd;
use tcpls_core::error::Violation as Rule;
use tcpls_core::error::{CloseReason, ReadError};
use tcpls_core::event::{Event, StreamEvent};
use tcpls_core::wire::frame::{self, Frame, Parameters};
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode, Side, StreamId};

use crate::support::peer::frames::*;
use crate::support::peer::{
    ALERT, DATA, FIRST, GENEROUS, HANDSHAKE, Peer, Record, SECOND, encoded, entries, frames_of,
};

/// A server under test gets one record with these frames and ends the session for a violation of `rule`.
fn client_breaks(rule: Rule, frames: &[Frame<'_>]) {
    breaks(Peer::client(), rule, &encoded(frames));
}

fn server_breaks(rule: Rule, frames: &[Frame<'_>]) {
    breaks(Peer::server(), rule, &encoded(frames));
}

fn breaks(mut peer: Peer, rule: Rule, content: &[u8]) {
    peer.send_raw(FIRST, DATA, content);
    peer.assert_failed(rule);
}

/// The peer sends these frames, and the session continues. The events show their effect.
fn allowed(mut peer: Peer, frames: &[Frame<'_>]) -> Vec<Event> {
    peer.send(FIRST, frames);
    peer.assert_lives(&[FIRST]);
    peer.take_events()
}

/// One of each, with all fields filled in.
fn one_of_each(parameters_entries: &[u8]) -> Vec<Frame<'_>> {
    let v6 = "[2001:db8::1]:443".parse().unwrap();
    vec![
        PING,
        stream(0, 3, b"some data"),
        fin(0, 3, b"some data"),
        ack(FIRST, 0),
        token(1, 7),
        connection_reset(SECOND),
        address(1, 1),
        Frame::NewAddress(frame::NewAddress { id: AddressId(2), address: v6 }),
        remove_address(1),
        stream_change(4, 5),
        parameters(parameters_entries),
        max_data(1),
        max_stream_data(0, 1),
        max_streams(1),
        reset_stream(0, 1),
        stop_sending(0),
        close_session(0x777),
        token_wide(300, 7),
        connection_status(FIRST, true),
        connection_reset_reason(SECOND, 1),
        tcp_option(28, &[1, 2, 3, 4]),
        drain(0),
        option_request(0, FIRST, 28, &[0, 30]),
        option_answer(0, 1),
    ]
}

// draft I36
#[test]
fn an_unknown_frame_type_ends_the_session() {
    let unknown = (0x0a..=0x3f).chain(0x4f..=0xff);
    for ty in unknown {
        breaks(Peer::client(), Rule::UnknownFrame(ty), &[0xee, 0xee, ty]);
    }
    breaks(Peer::server(), Rule::UnknownFrame(0x0a), &[0x0a]);
}

// draft I03
#[test]
fn a_frame_cut_short_at_any_byte_ends_the_session() {
    for frame in one_of_each(&entries(&GENEROUS)) {
        let whole = encoded(&[frame]);
        for cut in 1..whole.len() {
            breaks(Peer::server(), Rule::TruncatedFrame(frame.ty()), &whole[cut..]);
        }
    }
}

#[test]
fn a_frame_whose_length_reaches_beyond_the_record_ends_the_session() {
    let lengths = [u16::MAX, 10];
    for len in lengths {
        let [high, low] = len.to_be_bytes();
        let too_long = [&b"nine here"[..], &[high, low], &[0; 12], &[0x02]].concat();
        breaks(Peer::client(), Rule::TruncatedFrame(0x02), &too_long);
        let option = [&b"nine here"[..], &[high, low, 28, 0x4a]].concat();
        breaks(Peer::client(), Rule::TruncatedFrame(0x4a), &option);
        let request = [&b"nine here"[..], &[high, low, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0x4d]].concat();
        breaks(Peer::client(), Rule::TruncatedFrame(0x4d), &request);
        let close = [&b"nine here"[..], &[high, low, 0, 0, 0, 0, 0x46]].concat();
        breaks(Peer::client(), Rule::TruncatedFrame(0x46), &close);
    }
    breaks(Peer::client(), Rule::TruncatedFrame(0x40), &[&[1; 17][..], &[2, 0x40]].concat());
}

// Frames are processed last to first: the good ones come before the bad one here.
#[test]
fn record_with_one_bad_frame_has_no_effect() {
    let good = [stream(0, 0, b"hi"), address(1, 1), tcp_option(28, &[1])];
    let bad: [(&[u8], Rule); 4] = [
        (&[0x0a], Rule::UnknownFrame(0x0a)),
        (&[9, 0x05], Rule::TruncatedFrame(0x05)),
        (&encoded(&[connection_reset(ConnectionId(99))]), Rule::UnknownTcp(99)),
        (&encoded(&[ack(FIRST, 1000)]), Rule::AckOfUnsent),
    ];
    for (bad, rule) in bad {
        let mut peer = Peer::client();
        peer.send_raw(FIRST, DATA, &[bad, &encoded(&good)].concat());
        assert_eq!(peer.conn.accept_stream(), None, "{rule}");
        assert_eq!(peer.conn.peer_addresses().count(), 0, "{rule}");
        let told = peer.take_events();
        let about_content = |event: &&Event| {
            matches!(event, Event::Stream(_) | Event::AddressAdvertised { .. } | Event::TcpOption { .. })
        };
        assert_eq!(told.iter().find(about_content), None, "{rule}");
    }
}

#[test]
fn bad_frame_in_front_of_close_session_is_still_a_violation() {
    client_breaks(Rule::AckOfUnsent, &[ack(FIRST, 1000), close_session(1)]);
}

// draft I03
#[test]
fn a_record_with_nothing_in_it_ends_the_session() {
    for content_type in [DATA, HANDSHAKE, ALERT] {
        let mut peer = Peer::client();
        peer.send_raw(FIRST, content_type, &[]);
        peer.assert_failed(match content_type {
            DATA => Rule::EmptyRecord,
            HANDSHAKE => Rule::HandshakeMessage,
            _ => Rule::FatalAlert(255),
        });
    }
}

// draft I34
#[test]
fn record_of_tls_padding_alone_or_unknown_content_type_ends_the_session() {
    for content_type in [0, 1, 20, 24, 255] {
        let mut peer = Peer::client();
        peer.send_raw(FIRST, content_type, &[0; 100]);
        peer.assert_failed(Rule::EmptyRecord);
    }
}

// draft E12, E13
#[test]
fn a_token_from_a_client_ends_the_session() {
    client_breaks(Rule::TokenFromClient, &[token(1, 7)]);
    client_breaks(Rule::TokenFromClient, &[token_wide(300, 7)]);
}

#[test]
fn lane_from_a_server_ends_the_session_and_outside_a_first_record_is_ignored() {
    server_breaks(Rule::LaneFromServer, &[Frame::Lane]);
    let mut peer = Peer::client();
    peer.send(FIRST, &[PING]);
    peer.send(FIRST, &[Frame::Lane]);
    peer.assert_lives(&[FIRST]);
    assert!(!peer.conn.tcp_stats(FIRST).unwrap().lane);
}

#[test]
fn drain_of_other_streams_than_before_or_of_unknown_ones_ends_the_session() {
    server_breaks(Rule::Drain, &[drain(1)]);
    client_breaks(Rule::Drain, &[drain(1)]);
    for other in [0, 2] {
        let mut peer = Peer::server();
        (0..2).for_each(|_| _ = peer.conn.open_stream().unwrap());
        peer.send(FIRST, &[drain(1)]);
        peer.send(FIRST, &[drain(1)]);
        peer.assert_lives(&[FIRST]);
        peer.send(FIRST, &[drain(other)]);
        peer.assert_failed(Rule::Drain);
    }
    let mut peer = Peer::server();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"request").unwrap();
    peer.rest();
    // Data on a stream that the peer does not serve.
    peer.send(FIRST, &[stream(id.0, 0, b"answer")]);
    peer.send(FIRST, &[drain(0)]);
    peer.assert_failed(Rule::FinalSize(id.0));
}

#[test]
fn token_number_0_ends_the_session() {
    server_breaks(Rule::InvalidField(0x05), &[token(0, 7)]);
    server_breaks(Rule::InvalidField(0x47), &[token_wide(0, 7)]);
}

#[test]
fn a_token_that_conflicts_with_a_known_one_ends_the_session() {
    server_breaks(Rule::ConflictingToken(3), &[token(3, 7), token(3, 8)]);
    server_breaks(Rule::ConflictingToken(3), &[token(3, 7), token_wide(3, 8)]);
    let mut peer = Peer::server();
    let used = peer.accept(1);
    peer.send(FIRST, &[token(1, 99)]);
    peer.assert_failed_on(Rule::ConflictingToken(1), &[FIRST, used]);
}

#[test]
fn a_client_stores_sixteen_tokens_and_the_seventeenth_ends_the_session() {
    let mut peer = Peer::server();
    for sequence in 1..=16 {
        peer.send(FIRST, &[token(sequence * 3, sequence)]);
    }
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.tokens(), 16);
    peer.send(FIRST, &[token(100, 1)]);
    peer.assert_failed(Rule::TooManyTokens);
}

// draft I45
#[test]
fn an_address_of_another_version_than_4_or_6_ends_the_session() {
    for version in [0, 5, 7, 255] {
        breaks(Peer::client(), Rule::InvalidField(0x07), &[&[1; 18][..], &[version, 9, 0x07]].concat());
    }
}

#[test]
fn the_seventeenth_address_ends_the_session() {
    let mut peer = Peer::client();
    for id in 0..16 {
        peer.send(FIRST, &[address(id, id)]);
    }
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.peer_addresses().count(), 16);
    peer.send(FIRST, &[address(16, 16)]);
    peer.assert_failed(Rule::TooManyAddresses);
}

// draft E15, E16, E19
// draft E17
#[test]
fn an_address_id_means_one_address_for_ever() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[remove_address(3)]);
    peer.send(FIRST, &[address(3, 1)]);
    peer.send(FIRST, &[address(3, 2)]);
    let known: Vec<_> = peer.conn.peer_addresses().collect();
    assert_eq!(known, [(AddressId(3), socket_address(1))], "unknown removed: ignored; known ID: ignored");
    peer.send(FIRST, &[remove_address(3)]);
    peer.send(FIRST, &[remove_address(3)]);
    peer.send(FIRST, &[address(3, 1)]);
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.peer_addresses().count(), 0, "a removed one never comes back");
    let told = peer.take_events();
    let count = |wanted: fn(&Event) -> bool| told.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::AddressAdvertised { .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::AddressWithdrawn { .. })), 1);
}

#[test]
fn an_ack_of_what_was_not_sent_ends_the_session() {
    let mut peer = Peer::client();
    let next = peer.received(FIRST);
    peer.send(FIRST, &[ack(FIRST, next)]);
    peer.assert_failed(Rule::AckOfUnsent);
    client_breaks(Rule::AckOfUnsent, &[ack(FIRST, u64::MAX)]);
    server_breaks(Rule::AckOfUnsent, &[ack(FIRST, u64::MAX)]);
}

#[test]
fn an_ack_for_an_unknown_tcp_connection_ends_the_session() {
    client_breaks(Rule::AckOfUnsent, &[ack(ConnectionId(77), 0)]);
    server_breaks(Rule::AckOfUnsent, &[ack(SECOND, 0)]);
    server_breaks(Rule::AckOfUnsent, &[ack(ConnectionId(u32::MAX), 0)]);
}

#[test]
fn repeated_or_lower_ack_has_no_effect() {
    let peer = Peer::client();
    let last = peer.received(FIRST) - 1;
    let told = allowed(peer, &[ack(FIRST, last), ack(FIRST, last), ack(FIRST, 0)]);
    assert_eq!(told, []);
}

#[test]
fn an_early_ack_frees_nothing_but_what_was_sent() {
    let mut peer = Peer::client();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(&[7; 50_000]).unwrap();
    let sent = peer.recv(FIRST);
    let first = sent[0].number.unwrap();
    peer.send(FIRST, &[ack(FIRST, first)]);
    let left = 50_000 - sent[0].content.len();
    assert!((left..left + 100).contains(&peer.conn.stats().bytes_to_send), "one record is acknowledged");
    peer.send(FIRST, &[ack(FIRST, sent.last().unwrap().number.unwrap() + 1)]);
    peer.assert_failed(Rule::AckOfUnsent);
}

// draft I05
#[test]
fn a_stream_that_only_the_other_side_may_open_ends_the_session() {
    for frame in [stream(1, 0, b"x"), fin(1, 0, b""), reset_stream(1, 0), stop_sending(1), max_stream_data(1, 9)] {
        client_breaks(Rule::StreamOfWrongSide(1), &[frame]);
    }
    for frame in [stream(0, 0, b"x"), fin(0, 0, b""), reset_stream(0, 0), stop_sending(0), max_stream_data(0, 9)] {
        server_breaks(Rule::StreamOfWrongSide(0), &[frame]);
    }
}

#[test]
fn stream_beyond_the_limit_ends_the_session_at_any_distance() {
    let limit = Config::default().max_streams;
    for index in [limit, limit + 1, u32::MAX / 2] {
        let id = StreamId::new(Side::Client, index).unwrap().0;
        for frame in [stream(id, 0, b"x"), reset_stream(id, 0), stop_sending(id), max_stream_data(id, 1)] {
            client_breaks(Rule::TooManyStreams(id), &[frame]);
        }
    }
    client_breaks(Rule::TooManyStreams(0xffff_fffe), &[stream(0xffff_fffe, 0, b"x")]);
    server_breaks(Rule::TooManyStreams(0xffff_ffff), &[stream(0xffff_ffff, 0, b"x")]);
    let last = StreamId::new(Side::Client, limit - 1).unwrap().0;
    assert_ne!(allowed(Peer::client(), &[stream(last, 0, b"x")]), [], "the last one that is allowed");
}

#[test]
fn an_offset_beyond_2_to_the_62_ends_the_session() {
    for (offset, data) in [(1 << 62, &b"x"[..]), ((1 << 62) + 1, b""), (u64::MAX, b"x"), (u64::MAX, b"")] {
        client_breaks(Rule::InvalidField(0x02), &[stream(0, offset, data)]);
        client_breaks(Rule::InvalidField(0x03), &[fin(0, offset, data)]);
    }
}

// draft I41
#[test]
fn data_past_the_final_size_ends_the_session() {
    client_breaks(Rule::FinalSize(0), &[stream(0, 3, b"x"), fin(0, 0, b"abc")]);
    client_breaks(Rule::FinalSize(0), &[fin(0, 0, b"abc"), stream(0, 3, b"x")]);
}

// draft I41
#[test]
fn two_final_sizes_end_the_session() {
    client_breaks(Rule::FinalSize(0), &[fin(0, 0, b"abcd"), fin(0, 0, b"abc")]);
    client_breaks(Rule::FinalSize(0), &[fin(0, 0, b"ab"), fin(0, 0, b"abc")]);
    client_breaks(Rule::FinalSize(0), &[reset_stream(0, 4), fin(0, 0, b"abc")]);
    client_breaks(Rule::FinalSize(0), &[reset_stream(0, 4), reset_stream(0, 3)]);
    client_breaks(Rule::FinalSize(0), &[reset_stream(0, 2), stream(0, 0, b"abc")]);
}

fn tight() -> Config {
    Config::default().with(|config| {
        config.initial_session_window = 2000;
        config.max_session_window = 2000;
        config.initial_stream_window = 1200;
        config.max_stream_window = 1200;
        config.max_streams = 4;
    })
}

#[test]
fn data_past_the_streams_window_ends_the_session() {
    let new = || Peer::with(Side::Client, tight());
    allowed(new(), &[stream(0, 1199, b"x")]);
    breaks(new(), Rule::FlowControl, &encoded(&[stream(0, 1200, b"x")]));
    breaks(new(), Rule::FlowControl, &encoded(&[stream(0, 0, &[0; 1201])]));
    breaks(new(), Rule::FlowControl, &encoded(&[reset_stream(0, 1201)]));
    breaks(new(), Rule::FlowControl, &encoded(&[fin(0, (1 << 62) - 1, b"x")]));
}

#[test]
fn data_past_the_sessions_window_ends_the_session() {
    let new = || Peer::with(Side::Client, tight());
    allowed(new(), &[stream(0, 0, &[1; 1000]), stream(2, 999, b"x")]);
    breaks(new(), Rule::FlowControl, &encoded(&[stream(0, 0, &[1; 1001]), stream(2, 999, b"x")]));
    breaks(new(), Rule::FlowControl, &encoded(&[stream(0, 0, &[1; 1001]), reset_stream(2, 1000)]));
}

#[test]
fn read_bytes_return_as_credit() {
    let mut peer = Peer::with(Side::Client, tight());
    peer.send(FIRST, &[stream(0, 0, &[1; 1200])]);
    assert_eq!(peer.conn.stream(StreamId(0)).read(1200).unwrap().unwrap().len(), 1200);
    let granted = peer.recv(FIRST);
    let frames = frames_of(&granted);
    assert!(frames.contains(&max_stream_data(0, 2400)), "{frames:?}");
    assert!(frames.contains(&max_data(3200)), "{frames:?}");
    peer.send(FIRST, &[stream(0, 1200, &[1; 1200])]);
    peer.assert_lives(&[FIRST]);
    peer.send(FIRST, &[stream(0, 2400, b"x")]);
    peer.assert_failed(Rule::FlowControl);
}

#[test]
fn window_of_a_reader_that_paused_keeps_its_size() {
    const MIB: u64 = 1 << 20;
    let mut peer = Peer::client();
    let answer = |peer: &mut Peer, after| {
        peer.recv(FIRST);
        peer.sleep(after);
        let last = peer.received(FIRST) - 1;
        peer.send(FIRST, &[ack(FIRST, last)]);
    };
    peer.conn.ping(FIRST).unwrap();
    answer(&mut peer, 20);
    for offset in (0..MIB).step_by(8 << 10) {
        peer.send(FIRST, &[stream(0, offset, &[1; 8 << 10])]);
    }
    answer(&mut peer, 0);
    peer.sleep(10_000);
    let mut read = 0;
    while read < 128 << 10 {
        read += peer.conn.stream(StreamId(0)).read((128 << 10) - read).unwrap().unwrap().len();
    }
    let granted = peer.recv(FIRST);
    let frames = frames_of(&granted);
    assert!(frames.contains(&max_stream_data(0, MIB + (128 << 10))), "{frames:?}");
}

#[test]
fn more_gaps_than_allowed_end_the_session() {
    let config = Config::default().with(|config| {
        config.max_gaps = 10;
        config.initial_stream_window = 1 << 18;
        config.max_stream_window = 1 << 18;
    });
    let mut peer = Peer::with(Side::Client, config);
    for n in 0..20 {
        peer.send(FIRST, &[stream(0, 1 + 2 * n, b"x")]);
        if n < 9 {
            peer.assert_lives(&[FIRST]);
        }
    }
    peer.assert_failed(Rule::TooManyGaps(0));
}

#[test]
fn a_connection_reset_that_names_the_tcp_connection_it_travels_on_ends_the_session() {
    client_breaks(Rule::UnknownTcp(0), &[connection_reset(FIRST)]);
    client_breaks(Rule::UnknownTcp(0), &[connection_reset_reason(FIRST, 2)]);
}

#[test]
fn a_frame_that_names_an_unknown_tcp_connection_ends_the_session() {
    let unknown = ConnectionId(77);
    for frame in [connection_reset(unknown), connection_reset_reason(unknown, 1), connection_status(unknown, true)] {
        client_breaks(Rule::UnknownTcp(77), &[frame]);
        server_breaks(Rule::UnknownTcp(77), &[frame]);
    }
}

#[test]
fn a_status_that_is_neither_0_nor_1_ends_the_session() {
    for status in [2, 255] {
        breaks(Peer::client(), Rule::InvalidField(0x48), &[status, 0, 0, 0, 0, 0x48]);
    }
}

#[test]
fn a_repeated_parameter_ends_the_session_even_if_it_is_unknown() {
    for id in [1, 7, 200] {
        let entry = [id, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut peer = Peer::bare(Side::Client, Config::default());
        peer.send(FIRST, &[parameters(&[entry, entry].concat())]);
        peer.assert_failed(Rule::InvalidField(0x40));
    }
}

#[test]
fn repeated_parameters_are_ignored_and_others_end_the_session() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[parameters(&entries(&GENEROUS))]);
    peer.assert_lives(&[FIRST]);
    let changed = Parameters { initial_max_data: 5, ..GENEROUS };
    peer.send(FIRST, &[parameters(&entries(&changed))]);
    peer.assert_failed(Rule::Parameters);
}

#[test]
fn unknown_parameters_are_ignored() {
    let mut peer = Peer::bare(Side::Client, Config::default());
    peer.send(FIRST, &[parameters(&[[99; 9], [0; 9], [255; 9]].concat())]);
    peer.assert_lives(&[FIRST]);
}

// draft I38, I46
#[test]
fn a_stream_change_decides_nothing() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[stream_change(4, 100)]);
    peer.send(FIRST, &[stream(0, 0, b"elsewhere")]);
    peer.send(FIRST, &[stream_change(0xffff_ffff, u64::MAX)]);
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.accept_stream(), Some(StreamId(0)));
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "elsewhere");
}

// draft I38
#[test]
fn every_idempotent_frame_may_come_again() {
    let mut peer = Peer::server();
    let second = peer.accept(1);
    let id = peer.conn.open_stream().unwrap().0;
    peer.rest();
    let (last, generous) = (peer.received(FIRST) - 1, entries(&GENEROUS));
    let once = [
        stream(1, 0, b"hello"),
        fin(3, 0, b"bye"),
        ack(FIRST, last),
        token(9, 9),
        token_wide(300, 3),
        address(1, 1),
        remove_address(1),
        parameters(&generous),
        max_data(1 << 41),
        max_stream_data(id, 1 << 41),
        max_streams(1 << 21),
        reset_stream(5, 0),
        stop_sending(id),
        connection_status(second, true),
        connection_reset(second),
        drain(1),
    ];
    // One by one, in an order in which each has a meaning.
    once.iter().for_each(|frame| _ = peer.send(FIRST, &[*frame]));
    peer.assert_lives(&[FIRST]);
    let (told, stats) = (peer.take_events(), peer.conn.stats());
    assert!(!told.is_empty());
    once.iter().for_each(|frame| _ = peer.send(FIRST, &[*frame]));
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.take_events(), [], "nothing happens a second time");
    let again = peer.conn.stats();
    let content = |stats: &tcpls_core::stats::Stats| (stats.streams_open, stats.bytes_to_read, stats.tokens);
    assert_eq!(content(&again), content(&stats));
}

#[test]
fn repeated_data_is_read_once() {
    let mut peer = Peer::client();
    for (offset, data) in [(0, &b"abc"[..]), (0, b"abc"), (2, b"cde"), (1, b"bcd"), (0, b"abcdef")] {
        peer.send(FIRST, &[stream(0, offset, data)]);
    }
    peer.send(FIRST, &[fin(0, 6, b"")]);
    peer.send(FIRST, &[fin(0, 4, b"ef")]);
    let mut read = Vec::new();
    while let Some(bytes) = peer.conn.stream(StreamId(0)).read(100).unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert_eq!(read, b"abcdef");
}

#[test]
fn close_session_is_answered_with_close_notify_and_reported() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[close_session(0x777)]);
    assert_eq!(peer.take_events(), [Event::PeerClosing { error: ErrorCode(0x777) }]);
    let answer = peer.recv(FIRST);
    assert_eq!(answer.last().unwrap().alert(), Some(0));
}

#[test]
fn a_stream_that_the_end_cuts_off_is_not_complete() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[stream(0, 0, b"half")]);
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert!(peer.take_events().contains(&Event::Stream(StreamEvent::Opened)));
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "half");
    assert_eq!(peer.conn.stream(StreamId(0)).read(100), Err(ReadError::Truncated));
}

/// A session that has said everything, close_notify included, and waits for the peer's.
fn closing_peer() -> Peer {
    let mut peer = Peer::client();
    peer.rest();
    peer.conn.close(peer.now, ErrorCode(7), b"done");
    let said = peer.recv(FIRST);
    assert_eq!(said.last().and_then(Record::alert), Some(0));
    peer
}

#[test]
fn behind_close_notify_there_is_nothing_more_even_if_the_peer_breaks_a_rule() {
    let mut peer = closing_peer();
    peer.send(FIRST, &[ack(FIRST, 1 << 40)]);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Rule::AckOfUnsent)));
    assert!(peer.recv(FIRST).is_empty());
}

#[test]
fn session_after_close_notify_ends_with_its_last_tcp_connection() {
    let mut peer = closing_peer();
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(7) }));
}

#[test]
fn a_peer_that_never_sends_session_parameters_violates_the_protocol() {
    for (side, after, lives) in
        [(Side::Client, 40_000, false), (Side::Server, 40_000, false), (Side::Client, 29_000, true)]
    {
        let mut peer = Peer::bare(side, Config::default().with(|config| config.idle_timeout = None));
        for _ in 0..after / 1_000 {
            peer.rest();
            peer.sleep(970);
        }
        if lives {
            peer.send(FIRST, &[parameters(&[])]);
            peer.sleep(60_000);
            assert_eq!(peer.conn.close_reason(), None);
        } else {
            assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Rule::Parameters)), "{side:?}");
        }
    }
}

#[test]
fn violation_is_a_failure_of_streams_that_are_not_read() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    assert_eq!(peer.conn.stream(StreamId(0)).read_failure(), None);
    peer.send(FIRST, &[stream(1, 0, b"of the server")]);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Rule::StreamOfWrongSide(1))));
    assert_eq!(peer.conn.stream(StreamId(0)).read_failure(), Some(ReadError::Truncated));
}
