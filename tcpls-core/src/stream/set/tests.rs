//! One side's streams as a whole: limits, events, and what an attacker tries.

use core::time::Duration;

use bytes::Bytes;

use super::Streams;
use crate::config::Config;
use crate::error::{OpenStreamError, ReadError, Violation, WriteError};
use crate::event::StreamEvent;
use crate::stream::{Chunk, Control, ControlKey};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

const A: ConnectionId = ConnectionId(0);
const B: ConnectionId = ConnectionId(1);
const E: ErrorCode = ErrorCode(7);
const S0: StreamId = StreamId(0);
const S1: StreamId = StreamId(1);

pub(super) fn config() -> Config {
    Config {
        initial_session_window: 1000,
        max_session_window: 1000,
        initial_stream_window: 400,
        max_stream_window: 400,
        max_streams: 8,
        send_buffer: 1000,
        stream_send_buffer: 600,
        max_gaps: 16,
        ..Config::default()
    }
}

pub(super) fn streams(side: Side, config: &Config) -> Streams {
    let mut streams = Streams::new(side, config);
    streams.set_peer_limits(config.initial_session_window, config.initial_stream_window, config.max_streams);
    streams
}

pub(super) fn client() -> Streams {
    streams(Side::Client, &config())
}

pub(super) fn server() -> Streams {
    streams(Side::Server, &config())
}

fn events(streams: &mut Streams) -> Vec<StreamEvent> {
    core::iter::from_fn(|| streams.poll_event()).collect()
}

fn controls(streams: &mut Streams) -> Vec<Control> {
    core::iter::from_fn(|| streams.next_control()).collect()
}

fn receive(streams: &mut Streams, id: u32, offset: u64, data: &[u8], fin: bool) -> Result<(), Violation> {
    streams.handle_stream(StreamId(id), offset, fin, Bytes::copy_from_slice(data), data.len()).map(|_| ())
}

/// Carries out one chunk from one side to the other.
fn carry(from: &Streams, to: &mut Streams, chunk: &Chunk) {
    let mut data = Vec::new();
    from.copy_chunk(chunk, &mut data);
    assert_eq!(data.len(), usize::from(chunk.len));
    to.handle_stream(chunk.id, chunk.offset, chunk.fin, data.into(), usize::from(chunk.len)).unwrap();
}

// Opening and accepting.

#[test]
fn clients_open_even_streams_and_servers_odd_ones_in_order() {
    // draft I05, I06
    let (mut client, mut server) = (client(), server());
    assert_eq!([client.open(), client.open()], [Ok(StreamId(0)), Ok(StreamId(2))]);
    assert_eq!([server.open(), server.open()], [Ok(StreamId(1)), Ok(StreamId(3))]);
}

#[test]
fn no_stream_is_opened_before_the_peers_limits_are_known() {
    let mut client = Streams::new(Side::Client, &config());
    assert_eq!(client.open(), Err(OpenStreamError::Limit));
    client.set_peer_limits(10, 10, 1);
    assert_eq!(events(&mut client), [StreamEvent::Available]);
    assert_eq!(client.open(), Ok(S0));
    assert_eq!(client.open(), Err(OpenStreamError::Limit));
    client.handle_max_streams(1);
    assert_eq!(events(&mut client), []);
    client.handle_max_streams(2);
    assert_eq!(events(&mut client), [StreamEvent::Available]);
}

#[test]
fn the_number_space_of_streams_ends() {
    let mut client = client();
    client.shared.limit_here = u32::MAX;
    client.shared.opened_here = u32::MAX / 2;
    assert_eq!(client.open(), Ok(StreamId(u32::MAX - 1)));
    assert_eq!(client.open(), Err(OpenStreamError::Exhausted));
}

#[test]
fn a_stream_that_overtakes_lower_ones_opens_them_too() {
    let mut server = server();
    receive(&mut server, 4, 0, b"x", false).unwrap();
    assert_eq!(events(&mut server), [StreamEvent::Opened, StreamEvent::Readable { id: StreamId(4) }]);
    assert_eq!([server.accept(), server.accept()], [Some(StreamId(0)), Some(StreamId(2))]);
    receive(&mut server, 6, 0, b"x", false).unwrap();
    assert_eq!(events(&mut server), [StreamEvent::Readable { id: StreamId(6) }]);
    assert_eq!([server.accept(), server.accept(), server.accept()], [Some(StreamId(4)), Some(StreamId(6)), None]);
    receive(&mut server, 8, 0, b"", false).unwrap();
    assert_eq!(events(&mut server), [StreamEvent::Opened]);
}

#[test]
fn streams_beyond_the_limit_or_of_the_wrong_side_end_the_session() {
    let mut server = server();
    assert_eq!(receive(&mut server, 16, 0, b"", false), Err(Violation::TooManyStreams(16)));
    assert_eq!(receive(&mut server, 0xFFFF_FFFE, 0, b"", false), Err(Violation::TooManyStreams(0xFFFF_FFFE)));
    assert_eq!(server.len(), 0);
    let wrong = Err(Violation::StreamOfWrongSide(1));
    assert_eq!(receive(&mut server, 1, 0, b"", false), wrong);
    assert_eq!(server.handle_reset(S1, E, 0), wrong);
    assert_eq!(server.handle_stop_sending(S1, E).map(|_| ()), wrong);
    assert_eq!(server.handle_max_stream_data(S1, 9).map(|_| ()), wrong);
    server.open().unwrap();
    assert_eq!(receive(&mut server, 1, 0, b"", false), Ok(()));
}

/// Plays a client that opens the stream with this index, sends a byte and the end, and is answered and acknowledged.
fn whole_life(server: &mut Streams, index: u32) {
    let id = StreamId(index * 2);
    receive(server, id.0, 0, b"x", true).unwrap();
    assert_eq!(server.accept(), Some(id));
    assert_eq!(server.read(id, 9), Ok(Some(Bytes::from("x"))));
    assert_eq!(server.read(id, 9), Ok(None));
    server.finish(id).unwrap();
    let fin = server.next_chunk(A, 99).unwrap();
    server.chunk_acked(&fin);
}

#[test]
fn stream_credit_returns_in_batches_when_both_halves_have_ended() {
    let mut server = server();
    whole_life(&mut server, 0);
    assert_eq!((server.len(), controls(&mut server)), (0, vec![]));
    whole_life(&mut server, 1);
    assert_eq!(controls(&mut server), [Control::MaxStreams { maximum: 10 }]);
    server.control_lost(&ControlKey::MaxStreams);
    assert_eq!(controls(&mut server), [Control::MaxStreams { maximum: 10 }]);
}

#[test]
fn a_hundred_thousand_short_streams_leave_nothing_behind() {
    let mut server = server();
    for index in 0..100_000 {
        whole_life(&mut server, index);
        controls(&mut server);
        events(&mut server);
    }
    assert_eq!((server.len(), server.buffered_to_read(), server.buffered_to_send()), (0, 0, 0));
    assert!(server.shared.due.is_empty() && server.shared.blocked.is_empty());
}

#[test]
fn streams_that_are_not_accepted_stay_bounded() {
    // attack 3
    let mut server = server();
    let refused = (0..100_000).find(|index| receive(&mut server, index * 2, 0, b"x", true).is_err());
    assert_eq!(refused, Some(8));
    assert_eq!(server.len(), 8);
    assert!(server.shared.events.len() <= 9);
    assert_eq!(controls(&mut server), []);
}

#[test]
fn frames_for_streams_that_are_over_are_ignored() {
    // draft I38
    let mut server = server();
    whole_life(&mut server, 0);
    events(&mut server);
    receive(&mut server, 0, 0, b"x", true).unwrap();
    receive(&mut server, 0, 500, b"nonsense", false).unwrap();
    server.handle_reset(S0, E, 1).unwrap();
    server.handle_stop_sending(S0, E).unwrap();
    server.handle_max_stream_data(S0, 9).unwrap();
    assert_eq!((server.len(), events(&mut server)), (0, vec![]));
    assert_eq!(server.read(S0, 1), Err(ReadError::Unknown));
    assert_eq!(server.write(S0, b"x"), Err(WriteError::Unknown));
}

// Receiving.

#[test]
fn flow_control_counts_the_highest_offset_of_each_stream() {
    let mut server = server();
    receive(&mut server, 0, 0, &[0; 400], false).unwrap();
    receive(&mut server, 0, 100, &[0; 300], false).unwrap();
    assert_eq!(receive(&mut server, 0, 400, b"x", false), Err(Violation::FlowControl));
    receive(&mut server, 2, 399, b"x", false).unwrap();
    receive(&mut server, 4, 199, b"x", false).unwrap();
    assert_eq!(receive(&mut server, 6, 0, b"x", false), Err(Violation::FlowControl));
    assert_eq!(receive(&mut server, 6, 0, b"", true), Ok(()));
    assert_eq!(server.handle_reset(StreamId(4), E, 201), Err(Violation::FlowControl));
    assert_eq!(server.handle_reset(StreamId(4), E, 200), Ok(()));
}

#[test]
fn reading_gives_credit_back_for_the_stream_and_for_the_session() {
    let mut server = server();
    receive(&mut server, 0, 0, &[0; 400], false).unwrap();
    server.read(S0, 199).unwrap();
    assert!(!server.has_control());
    server.read(S0, 1).unwrap();
    assert_eq!(controls(&mut server), [Control::MaxStreamData { id: S0, maximum: 600 }]);
    receive(&mut server, 2, 0, &[0; 400], false).unwrap();
    server.read(StreamId(2), 300).unwrap();
    let both = [Control::MaxData { maximum: 1500 }, Control::MaxStreamData { id: StreamId(2), maximum: 700 }];
    assert_eq!(controls(&mut server), both);
    both.iter().for_each(|control| server.control_lost(&control.key()));
    server.read(StreamId(2), 100).unwrap();
    let fresh = [Control::MaxData { maximum: 1600 }, Control::MaxStreamData { id: StreamId(2), maximum: 800 }];
    assert_eq!(controls(&mut server), fresh);
}

#[test]
fn windows_grow_when_the_application_keeps_up() {
    let mut server = streams(Side::Server, &Config { max_session_window: 4000, max_stream_window: 1600, ..config() });
    for (millis, offset, len, limit) in
        [(5, 0, 200, 200 + 800), (10, 200, 400, 600 + 1600), (15, 600, 800, 1400 + 1600)]
    {
        server.set_now(Time::from_millis(millis), Some(Duration::from_millis(10)));
        receive(&mut server, 0, offset, &vec![0; len], false).unwrap();
        while server.read(S0, usize::MAX).is_ok() {}
        assert!(controls(&mut server).contains(&Control::MaxStreamData { id: S0, maximum: limit }));
    }
}

#[test]
fn reset_stream_credits_the_session_with_data_never_read() {
    let mut server = server();
    receive(&mut server, 0, 0, &[0; 100], false).unwrap();
    events(&mut server);
    server.handle_reset(S0, E, 400).unwrap();
    server.handle_reset(S0, E, 400).unwrap();
    assert_eq!(server.buffered_to_read(), 0);
    receive(&mut server, 2, 0, &[0; 100], false).unwrap();
    server.stop(StreamId(2), E).unwrap();
    assert_eq!(
        controls(&mut server),
        [Control::MaxData { maximum: 1500 }, Control::StopSending { id: StreamId(2), error: E },]
    );
    assert_eq!(server.read(S0, 9), Err(ReadError::Reset(E)));
}

#[test]
fn stop_sending_is_repeated_if_lost_until_the_end_is_known() {
    let mut server = server();
    receive(&mut server, 0, 0, b"x", false).unwrap();
    server.stop(S0, E).unwrap();
    let stop = controls(&mut server);
    server.control_lost(&stop[0].key());
    assert_eq!(controls(&mut server), stop);
    server.handle_reset(S0, E, 1).unwrap();
    server.control_lost(&stop[0].key());
    assert_eq!(controls(&mut server), []);
}

#[test]
fn early_bytes_at_every_other_offset_end_the_session() {
    // attack 6
    let mut server = server();
    let refused = (1..200).find(|i| receive(&mut server, 0, i * 2, b"x", false).is_err());
    assert_eq!(refused, Some(17));
    assert_eq!(receive(&mut server, 0, 300, b"x", false), Err(Violation::TooManyGaps(0)));
    assert_eq!(receive(&mut server, 2, 1 << 63, b"x", false), Err(Violation::OffsetTooLarge(2)));
    assert_eq!(receive(&mut server, 2, u64::MAX, b"x", false), Err(Violation::OffsetTooLarge(2)));
}

// Sending.

#[test]
fn writes_are_bounded_per_stream_and_per_session() {
    let mut client = client();
    let (a, b) = (client.open().unwrap(), client.open().unwrap());
    assert_eq!(client.write(a, &[0; 700]), Ok(600));
    assert_eq!(client.write(a, b"x"), Err(WriteError::Blocked));
    assert_eq!(client.write(a, b""), Ok(0));
    let mut chunk = Bytes::from(vec![0; 700]);
    assert_eq!(client.write_chunk(b, &mut chunk), Ok(400));
    assert_eq!((chunk.len(), client.buffered_to_send()), (300, 1000));
    assert_eq!(client.write_chunk(b, &mut chunk), Err(WriteError::Blocked));
}

#[test]
fn room_in_the_session_wakes_all_streams_that_wait_for_it() {
    let mut client = client();
    let ids: Vec<StreamId> = (0..3).map(|_| client.open().unwrap()).collect();
    client.write(ids[0], &[0; 600]).unwrap();
    client.write(ids[1], &[0; 500]).unwrap();
    assert_eq!(client.write(ids[2], b"x"), Err(WriteError::Blocked));
    let chunk = client.next_chunk(A, 100).unwrap();
    client.chunk_acked(&chunk);
    let writable = |id| StreamEvent::Writable { id };
    assert_eq!(events(&mut client), [writable(ids[1]), writable(ids[2])]);
    client.chunk_lost(&chunk);
    assert_eq!(events(&mut client), []);
}

#[test]
fn a_stream_blocked_by_its_own_bound_wakes_alone() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, &[0; 601]).unwrap();
    let chunk = client.next_chunk(A, 100).unwrap();
    client.chunk_acked(&chunk);
    assert_eq!(events(&mut client), [StreamEvent::Writable { id: a }]);
}

#[test]
fn the_peers_limits_hold_back_what_is_sent() {
    let mut client = Streams::new(Side::Client, &config());
    client.set_peer_limits(900, 400, 8);
    let (a, b) = (client.open().unwrap(), client.open().unwrap());
    client.write(a, &[0; 500]).unwrap();
    client.write(b, &[0; 500]).unwrap();
    let mut sent = || core::iter::from_fn(|| client.next_chunk(A, 150)).map(|c| u32::from(c.len)).sum::<u32>();
    assert_eq!(sent(), 800);
    assert!(!client.has_data(A));
    client.handle_max_stream_data(a, 500).unwrap();
    client.handle_max_stream_data(b, 500).unwrap();
    client.handle_max_data(999);
    assert!(client.has_data(A));
    let mut sent = || core::iter::from_fn(|| client.next_chunk(A, 150)).map(|c| u32::from(c.len)).sum::<u32>();
    assert_eq!(sent(), 199);
    client.finish(a).unwrap();
    client.finish(b).unwrap();
    let ends: Vec<Chunk> = core::iter::from_fn(|| client.next_chunk(A, 150)).collect();
    assert_eq!(ends.len(), 1, "the other has a byte that may not go yet");
    client.handle_max_data(1000);
    assert!(client.next_chunk(A, 150).is_some_and(|chunk| chunk.len == 1 && chunk.fin));
}

#[test]
fn lost_bytes_need_no_credit() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, &[0; 400]).unwrap();
    let all = client.next_chunk(A, 400).unwrap();
    client.shared.credit = super::Credit::default();
    assert!(!client.has_data(B));
    assert_eq!(client.chunk_lost(&all), 400);
    assert_eq!(client.next_chunk(B, 400), Some(all));
}

#[test]
fn streams_of_equal_priority_take_turns_and_higher_ones_go_first() {
    let mut client = client();
    let ids: Vec<StreamId> = (0..3).map(|_| client.open().unwrap()).collect();
    ids.iter().for_each(|id| assert_eq!(client.write(*id, &[0; 20]), Ok(20)));
    client.set_priority(ids[2], 1).unwrap();
    let order: Vec<u32> = core::iter::from_fn(|| client.next_chunk(A, 10)).map(|chunk| chunk.id.0).collect();
    assert_eq!(order, [4, 4, 0, 2, 0, 2]);
}

/// Bytes of a stream in a full record.
const RECORD: usize = 16_369;

#[test]
fn turns_are_of_one_record_on_slow_paths_and_of_up_to_64_kib_on_fast_ones() {
    for (room, records) in [(0, 1), (5 * RECORD, 1), (6 * RECORD, 2), (9 * RECORD, 3), (1 << 20, 4)] {
        let mut client = streams(Side::Client, &Config::default());
        let ids = [client.open().unwrap(), client.open().unwrap()];
        ids.iter().for_each(|id| assert_eq!(client.write(*id, &[0; 9 * RECORD]), Ok(9 * RECORD)));
        client.begin_batch(room);
        let order: Vec<StreamId> = (0..4 * records).map(|_| client.next_chunk(A, RECORD).unwrap().id).collect();
        let turns: Vec<&[StreamId]> = order.chunk_by(|a, b| a == b).collect();
        assert!(turns.iter().all(|turn| turn.len() == records), "{room} bytes: {turns:?}");
    }
}

#[test]
fn streams_that_share_a_record_have_one_piece_in_each_turn() {
    let mut client = streams(Side::Client, &Config::default());
    let ids = [client.open().unwrap(), client.open().unwrap()];
    ids.iter().for_each(|id| assert_eq!(client.write(*id, &[0; 4096]), Ok(4096)));
    client.begin_batch(1 << 20);
    let order: Vec<StreamId> = (0..4).map(|_| client.next_chunk(A, 2000).unwrap().id).collect();
    assert_eq!(order, [ids[0], ids[1], ids[0], ids[1]]);
}

#[test]
fn turns_end_while_streams_alternate_between_tcp_connections() {
    let mut client = streams(Side::Client, &Config::default());
    let ids = [client.open().unwrap(), client.open().unwrap(), client.open().unwrap()];
    for (id, tcp) in ids.into_iter().zip([A, A, B]) {
        client.attach(id, tcp);
        assert_eq!(client.write(id, &[0; 9 * RECORD]), Ok(9 * RECORD));
    }
    client.begin_batch(1 << 20);
    let mut take = || [A, B].map(|tcp| client.next_chunk(tcp, RECORD).unwrap().id);
    let order: Vec<StreamId> = (0..8).map(|_| take()[0]).collect();
    assert_eq!(order, [[ids[0]; 4], [ids[1]; 4]].concat());
}

#[test]
fn an_attached_stream_uses_no_other_tcp_connection_until_its_own_are_lost() {
    // draft I08
    let mut client = client();
    let (a, b) = (client.open().unwrap(), client.open().unwrap());
    client.write(a, b"a").unwrap();
    client.write(b, b"b").unwrap();
    client.attach(a, B);
    assert_eq!(client.next_chunk(A, 9).unwrap().id, b);
    assert!(!client.has_data(A) && client.has_data(B));
    client.attach(a, ConnectionId(2));
    client.forget_tcp(B);
    assert!(!client.has_data(A));
    client.detach(a, ConnectionId(2));
    assert_eq!(client.next_chunk(A, 9).unwrap().id, a);
}

#[test]
fn an_empty_unfinished_stream_sends_nothing() {
    let mut client = client();
    client.open().unwrap();
    assert!(!client.has_data(A));
    assert_eq!(client.next_chunk(A, 9), None);
}

#[test]
fn no_room_in_the_record_takes_nothing() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, b"hello").unwrap();
    assert_eq!(client.next_chunk(A, 0), None);
    let all = client.next_chunk(A, 9).unwrap();
    assert_eq!(client.next_duplicate_where(B, 0, |_| true), None);
    client.chunk_lost(&all);
    assert_eq!(client.next_chunk(A, 0), None);
    assert_eq!(client.next_chunk(A, usize::MAX), Some(all));
}

#[test]
fn a_chunk_is_small_enough_to_be_remembered_by_the_thousand() {
    assert!(size_of::<Chunk>() <= 24);
    assert!(size_of::<ControlKey>() <= 8);
}

#[test]
fn redundant_mode_sends_everything_on_every_tcp_connection() {
    let mut client = client();
    let a = client.open().unwrap();
    client.track_carriers();
    assert_eq!(client.next_duplicate_where(A, 9, |_| true), None);
    client.write(a, &[0; 100]).unwrap();
    client.finish(a).unwrap();
    let first = client.next_chunk(A, 60).unwrap();
    assert!(client.has_duplicate_where(B, |_| true) && !client.has_duplicate_where(A, |_| true));
    assert_eq!(client.next_duplicate_where(B, 60, |_| true), Some(first));
    let second = client.next_chunk(B, 60).unwrap();
    assert_eq!(client.next_duplicate_where(A, 60, |_| true), Some(second));
    assert!(second.fin && !client.has_duplicate_where(A, |_| true) && !client.has_duplicate_where(B, |_| true));
    client.chunk_acked(&first);
    client.chunk_acked(&second);
    assert_eq!(client.chunk_lost(&first) + client.chunk_lost(&second), 0);
    assert!(client.is_flushed());
}

#[test]
fn the_peer_stopping_a_stream_resets_it() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, b"hello").unwrap();
    let chunk = client.next_chunk(A, 3).unwrap();
    client.handle_stop_sending(a, E).unwrap();
    client.handle_stop_sending(a, E).unwrap();
    assert_eq!(events(&mut client), [StreamEvent::Stopped { id: a, error: E }]);
    assert_eq!(client.write(a, b"x"), Err(WriteError::Stopped(E)));
    assert_eq!((client.buffered_to_send(), client.chunk_lost(&chunk), client.has_data(A)), (0, 0, false));
    assert_eq!(controls(&mut client), [Control::ResetStream { id: a, error: E, final_size: 3 }]);
    client.control_lost(&ControlKey::ResetStream(a));
    assert_eq!(controls(&mut client), [Control::ResetStream { id: a, error: E, final_size: 3 }]);
    receive(&mut client, 0, 0, b"", true).unwrap();
    assert_eq!(client.read(a, 1), Ok(None));
    client.control_acked(&ControlKey::ResetStream(a));
    assert_eq!(client.len(), 0);
}

#[test]
fn delivered_comes_once_and_last() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, b"hello").unwrap();
    client.finish(a).unwrap();
    assert_eq!(client.finish(a), Err(WriteError::Finished));
    assert_eq!(client.write(a, b"x"), Err(WriteError::Finished));
    let chunk = client.next_chunk(A, 9).unwrap();
    assert!(!client.is_flushed());
    client.chunk_acked(&chunk);
    client.chunk_acked(&chunk);
    assert_eq!(events(&mut client), [StreamEvent::Delivered { id: a }]);
    assert!(client.is_flushed());
}

// The session's end.

#[test]
fn session_cut_short_ends_every_open_stream_with_truncated() {
    let mut client = client();
    let (a, b) = (client.open().unwrap(), client.open().unwrap());
    receive(&mut client, a.0, 0, b"whole", true).unwrap();
    receive(&mut client, b.0, 0, b"half", false).unwrap();
    events(&mut client);
    client.read(b, 9).unwrap();
    assert_eq!(client.read(b, 9), Err(ReadError::Blocked));
    client.truncate();
    assert_eq!(events(&mut client), [StreamEvent::Readable { id: b }]);
    assert_eq!(client.read(b, 9), Err(ReadError::Truncated));
    assert_eq!(client.read(a, 9), Ok(Some(Bytes::from("whole"))));
    assert_eq!(client.read(a, 9), Ok(None));
    let c = client.open().unwrap();
    assert_eq!(client.read(c, 9), Err(ReadError::Truncated));
}

#[test]
fn buffered_data_is_sent_after_writing_has_ended() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, &[0; 700]).unwrap();
    client.stop_writing();
    assert_eq!(client.write(a, b"x"), Err(WriteError::Closed));
    assert_eq!(client.finish(a), Err(WriteError::Closed));
    assert_eq!(client.open(), Err(OpenStreamError::Closed));
    while let Some(chunk) = client.next_chunk(A, 100) {
        client.chunk_acked(&chunk);
        assert!(!chunk.fin);
    }
    client.handle_max_stream_data(a, 600).unwrap();
    assert!(!client.is_flushed());
    while let Some(chunk) = client.next_chunk(A, 100) {
        client.chunk_acked(&chunk);
    }
    assert!(client.is_flushed());
    assert_eq!(events(&mut client), []);
}

#[test]
fn dropping_sent_data_keeps_received_data() {
    let mut client = client();
    let a = client.open().unwrap();
    client.write(a, b"hello").unwrap();
    let chunk = client.next_chunk(A, 3).unwrap();
    receive(&mut client, 0, 0, b"answer", true).unwrap();
    client.drop_outgoing();
    assert!(client.is_flushed() && !client.has_data(A) && !client.has_control());
    assert_eq!((client.buffered_to_send(), client.chunk_lost(&chunk)), (0, 0));
    assert_eq!(client.write(a, b"x"), Err(WriteError::Closed));
    assert_eq!(client.reset(a, E), Err(WriteError::Closed));
    assert_eq!(client.read(a, 9), Ok(Some(Bytes::from("answer"))));
    assert_eq!(client.read(a, 9), Ok(None));
    assert_eq!(client.len(), 0);
}

#[test]
fn nothing_is_held_or_possible_after_an_abort() {
    let mut server = server();
    receive(&mut server, 0, 0, b"x", false).unwrap();
    server.write(S0, b"hello").unwrap();
    let chunk = server.next_chunk(A, 3).unwrap();
    server.abort();
    assert_eq!((server.len(), server.buffered_to_read(), server.buffered_to_send()), (0, 0, 0));
    assert_eq!(server.read(S0, 1), Err(ReadError::Truncated));
    assert_eq!(server.write(S0, b"x"), Err(WriteError::Closed));
    assert_eq!((server.accept(), server.next_chunk(A, 9), server.next_control()), (None, None, None));
    assert_eq!(receive(&mut server, 2, 0, b"x", false), Ok(()));
    server.chunk_acked(&chunk);
    assert_eq!((server.chunk_lost(&chunk), server.len()), (0, 0));
}

#[test]
fn a_session_without_tcpls_has_stream_0_and_no_limits() {
    let (mut client, mut server) = (Streams::new(Side::Client, &config()), Streams::new(Side::Server, &config()));
    client.make_plain();
    server.make_plain();
    assert_eq!((client.open(), client.open()), (Ok(S0), Err(OpenStreamError::Plain)));
    assert_eq!((server.accept(), server.accept()), (Some(S0), None));
    for round in 0..20 {
        assert_eq!(client.write(S0, &[round; 600]), Ok(600));
        let chunk = client.next_chunk(A, 16_384).unwrap();
        carry(&client, &mut server, &chunk);
        client.chunk_acked(&chunk);
    }
    assert!(!server.has_control());
    client.finish(S0).unwrap();
    let end = client.next_chunk(A, 9).unwrap();
    assert_eq!((end.len, end.fin), (0, true));
    carry(&client, &mut server, &end);
    while server.read(S0, usize::MAX).unwrap().is_some() {}
    assert!(!server.has_control());
    server.write(S0, b"answer").unwrap();
    let answer = server.next_chunk(A, 99).unwrap();
    carry(&server, &mut client, &answer);
    assert_eq!(client.read(S0, 99), Ok(Some(Bytes::from("answer"))));
}
