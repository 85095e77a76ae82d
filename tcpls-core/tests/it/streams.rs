//! Streams over one TCP connection: opening, limits, flow control, ends, and how often bytes are copied.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tcpls_core::error::{OpenStreamError, ReadError, WriteError};
use tcpls_core::event::{Event, StreamEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::{Client, Pair, Server, Setup, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;

/// Whether the application of `side` got the event.
fn heard(pair: &mut Pair, side: crate::support::Side, wanted: StreamEvent) -> bool {
    pair.events(side).contains(&Event::Stream(wanted))
}

// draft I04
#[test]
fn both_sides_open_streams_with_numbers_of_their_own() {
    let mut pair = Pair::established();
    let ours = [pair.open_stream(Client), pair.open_stream(Client)];
    let theirs = [pair.open_stream(Server), pair.open_stream(Server)];
    assert_eq!((ours, theirs), ([StreamId(0), StreamId(2)], [StreamId(1), StreamId(3)]));
    for id in [ours[1], ours[0]] {
        pair.submit(Client, id, &id.0.to_be_bytes());
    }
    theirs.iter().for_each(|id| pair.submit(Server, *id, &id.0.to_be_bytes()));
    pair.drive();
    assert_eq!(pair.end(Server).accepted, ours);
    assert_eq!(pair.end(Client).accepted, theirs);
    ours.iter().for_each(|id| pair.assert_received(Server, *id, &id.0.to_be_bytes()));
    theirs.iter().for_each(|id| pair.assert_received(Client, *id, &id.0.to_be_bytes()));
}

// draft I04
#[test]
fn stream_is_bidirectional() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.submit(Client, stream, b"question");
    pair.drive();
    pair.assert_received(Server, stream, b"question");
    pair.submit(Server, stream, b"answer");
    pair.drive();
    pair.assert_received(Client, stream, b"answer");
    assert!(heard(&mut pair, Client, StreamEvent::Delivered { id: stream }));
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).stats().streams_open, 0, "{side:?}");
        assert_eq!(pair.conn(side).stats().bytes_to_send, 0, "{side:?}");
    }
    assert_eq!(pair.client().stream(stream).write(b"x"), Err(WriteError::Unknown));
}

#[test]
fn statistics_of_open_streams_count_what_is_unacknowledged_and_unread() {
    let mut pair = Pair::established();
    pair.end(Server).reads = false;
    let [id, other] = [0, 1].map(|_| pair.open_stream(Client));
    pair.write(Client, id, &[1; 3000]);
    let counts = |pair: &mut Pair, side| -> Vec<_> {
        let stats = pair.conn(side).stream_stats();
        stats.map(|stream| (stream.id, stream.written, stream.unacknowledged, stream.received)).collect()
    };
    assert_eq!(counts(&mut pair, Client), [(id, 3000, 3000, 0), (other, 0, 0, 0)]);
    pair.drive();
    assert_eq!(counts(&mut pair, Client), [(id, 3000, 0, 0), (other, 0, 0, 0)]);
    assert_eq!(counts(&mut pair, Server), [(id, 0, 0, 3000)]);
    assert!(pair.server().stream_stats().all(|stream| stream.unread >= 3000));
    pair.end(Server).read(id);
    assert!(pair.server().stream_stats().all(|stream| (stream.unread, stream.received) == (0, 3000)));
}

#[test]
fn no_more_streams_are_opened_than_the_peer_allows_and_ended_ones_make_room() {
    let mut pair = Setup::default().both(|config| config.max_streams = 3).established();
    let ids: Vec<StreamId> = (0..3).map(|_| pair.open_stream(Client)).collect();
    assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Limit));
    for id in &ids {
        pair.submit(Client, *id, b"x");
    }
    pair.drive();
    assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Limit), "the other direction is still open");
    for id in &ids {
        pair.submit(Server, *id, b"y");
    }
    pair.drive();
    assert!(heard(&mut pair, Client, StreamEvent::Available));
    assert_eq!(pair.open_stream(Client), StreamId(6));
}

#[test]
fn streams_of_ones_own_that_have_ended_make_no_room_for_the_peers() {
    let mut pair = Setup::default().both(|config| config.max_streams = 3).established();
    for _ in 0..6 {
        let id = pair.open_stream(Client);
        for side in [Client, Server] {
            pair.submit(side, id, b"x");
            pair.drive();
        }
    }
    (0..3).for_each(|_| _ = pair.open_stream(Server));
    assert_eq!(pair.server().open_stream(), Err(OpenStreamError::Limit));
}

#[test]
fn a_hundred_streams_at_once_all_arrive() {
    let mut pair = Pair::established();
    let data: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; 1_000 + 371 * usize::from(n)]).collect();
    let ids: Vec<StreamId> = data.iter().map(|_| pair.open_stream(Client)).collect();
    ids.iter().zip(&data).for_each(|(id, data)| pair.submit(Client, *id, data));
    pair.drive();
    ids.iter().zip(&data).for_each(|(id, data)| pair.assert_received(Server, *id, data));
}

#[test]
fn a_thousand_streams_one_after_the_other_leave_nothing_behind() {
    let mut pair = Pair::established();
    for _ in 0..1_000 {
        let id = pair.open_stream(Client);
        pair.submit(Client, id, b"ping");
        pair.drive();
        pair.assert_received(Server, id, b"ping");
        pair.submit(Server, id, b"pong");
        pair.drive();
        pair.assert_received(Client, id, b"pong");
    }
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).stats().streams_open, 0);
        assert_eq!(pair.conn(side).stats().bytes_to_read, 0);
    }
}

#[test]
fn stream_of_higher_priority_is_sent_first() {
    let mut pair = Pair::established();
    let (low, high) = (pair.open_stream(Client), pair.open_stream(Client));
    pair.write(Client, low, &[1; 500_000]);
    pair.write(Client, high, &[2; 50_000]);
    pair.client().stream(high).set_priority(1).unwrap();
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX);
    assert_eq!(pair.read_all(Server, high).len(), 50_000);
    assert!(pair.read_all(Server, low).len() < 20_000);
    pair.drive();
    assert!(!pair.read_all(Server, low).is_empty());
}

#[test]
fn streams_of_equal_priority_take_turns() {
    let mut pair = Pair::established();
    let ids = [pair.open_stream(Client), pair.open_stream(Client)];
    ids.iter().for_each(|id| pair.write(Client, *id, &[1; 500_000]));
    pair.step(Client);
    pair.deliver(FIRST, Server, usize::MAX);
    let got = ids.map(|id| pair.read_all(Server, id).len());
    assert!(got[0].abs_diff(got[1]) <= 17_000, "{got:?}");
}

#[test]
fn a_reader_that_does_not_read_blocks_the_writer_and_frees_it_when_it_does() {
    let setup = Setup::default().both(|config| {
        (config.initial_stream_window, config.max_stream_window) = (100_000, 100_000);
        (config.stream_send_buffer, config.send_buffer) = (50_000, 50_000);
    });
    let mut pair = setup.established();
    pair.end(Server).reads = false;
    let stream = pair.open_stream(Client);
    let mut written = 0;
    loop {
        match pair.client().stream(stream).write(&[6; 30_000]) {
            Ok(n) => written += n,
            Err(error) => {
                assert_eq!(error, WriteError::Blocked);
                pair.drive();
                if pair.client().stream(stream).write(&[6; 1]).is_err() {
                    break;
                }
                written += 1;
            }
        }
        assert!(written < 1_000_000, "the application does not read");
    }
    assert!((100_000..=200_000).contains(&written), "{written}");
    assert!(!heard(&mut pair, Server, StreamEvent::Writable { id: stream }));
    pair.end(Server).reads = true;
    pair.drive();
    assert_eq!(pair.read_all(Server, stream).len(), written);
    assert!(heard(&mut pair, Client, StreamEvent::Writable { id: stream }));
    assert!(pair.client().stream(stream).write(&[6; 30_000]).is_ok());
}

#[test]
fn writers_blocked_by_their_streams_windows_do_not_keep_a_third_from_writing() {
    let mut pair = Setup::default().both(|config| config.initial_session_window = 32 << 20).established();
    pair.end(Server).reads = false;
    for _ in 0..2 {
        let stuck = pair.open_stream(Client);
        while pair.client().stream(stuck).write(&[6; 1 << 20]).is_ok() {
            pair.drive();
        }
    }
    assert!(pair.client().stats().bytes_to_send <= 64 << 10, "the peer has no credit for more");
    let third = pair.open_stream(Client);
    assert_eq!(pair.client().stream(third).write(b"still here"), Ok(10));
    pair.drive();
    pair.end(Server).read(third);
    assert_eq!(pair.read_all(Server, third), b"still here");
}

/// Writes to a stream until the reader's windows are full.
fn fill(pair: &mut Pair, from: crate::support::Side, id: StreamId) -> usize {
    let (mut written, piece) = (0, vec![6; 100_000]);
    while let Ok(taken) = pair.conn(from).stream(id).write(&piece) {
        written += taken;
        pair.drive();
    }
    written
}

#[test]
fn fifteen_unread_streams_do_not_stop_the_others_in_either_direction() {
    for (writer, reader) in [(Client, Server), (Server, Client)] {
        let mut pair = Pair::established();
        pair.end(reader).reads = false;
        for _ in 0..15 {
            let unread = pair.open_stream(writer);
            assert!(fill(&mut pair, writer, unread) >= 1 << 20);
        }
        let other = pair.open_stream(writer);
        let data = bytes(3 << 20);
        pair.submit(writer, other, &data);
        for _ in 0..100 {
            pair.drive();
            pair.end(reader).read(other);
        }
        assert!(pair.read_all(reader, other) == data, "{writer:?}");
        assert!(pair.conn(reader).stats().bytes_to_read <= 33 << 20);
    }
}

#[test]
fn streams_whose_windows_have_grown_and_are_not_read_leave_room_for_others() {
    const KIB: u64 = 1 << 10;
    let setup = Setup::default().both(|config| {
        (config.initial_stream_window, config.max_stream_window) = (64 * KIB, 1024 * KIB);
        (config.initial_session_window, config.max_session_window) = (128 * KIB, 2048 * KIB);
    });
    let mut pair = setup.established();
    let grown = [pair.open_stream(Client), pair.open_stream(Client)];
    for id in grown {
        pair.end(Client).submit(id, bytes(4_000_000).into(), false);
        pair.drive();
    }
    pair.end(Server).reads = false;
    let held: usize = grown.iter().map(|id| fill(&mut pair, Client, *id)).sum();
    assert!(held as u64 > 512 * KIB, "{held} bytes: their windows have grown");
    for _ in 0..13 {
        let unread = pair.open_stream(Client);
        assert!(fill(&mut pair, Client, unread) as u64 >= 64 * KIB);
    }
    let other = pair.open_stream(Client);
    let data = bytes(500_000);
    pair.submit(Client, other, &data);
    for _ in 0..100 {
        pair.drive();
        pair.end(Server).read(other);
    }
    assert!(pair.read_all(Server, other) == data);
    assert!(pair.server().stats().bytes_to_read as u64 <= 2048 * KIB * 5 / 4);
}

#[test]
fn the_session_window_bounds_all_streams_together() {
    let setup = Setup::default().both(|config| {
        (config.initial_session_window, config.max_session_window) = (150_000, 150_000);
    });
    let mut pair = setup.established();
    pair.end(Server).reads = false;
    let ids: Vec<StreamId> = (0..4).map(|_| pair.open_stream(Client)).collect();
    let data = bytes(200_000);
    ids.iter().for_each(|id| pair.submit(Client, *id, &data));
    pair.drive();
    let sent = pair.client().tcp_stats(FIRST).unwrap().counters.stream_bytes_sent;
    assert_eq!(sent, 150_000);
    pair.end(Server).reads = true;
    pair.drive();
    ids.iter().for_each(|id| pair.assert_received(Server, *id, &data));
}

#[test]
fn windows_grow_until_a_bulk_transfer_needs_no_waiting() {
    let setup = Setup::default().both(|config| config.initial_stream_window = 64 << 10);
    let mut pair = setup.established();
    let data = bytes(8 << 20);
    pair.transfer(Client, &data);
    pair.transfer(Server, &data);
}

#[test]
fn a_window_that_lasts_for_long_does_not_grow() {
    let setup = Setup::default().both(|config| {
        config.initial_stream_window = 10_000;
        config.idle_timeout = None;
    });
    let mut pair = setup.established();
    let stream = pair.open_stream(Client);
    for _ in 0..40 {
        pair.write(Client, stream, &bytes(5_000));
        pair.drive_for(Duration::from_secs(10));
    }
    pair.end(Server).reads = false;
    pair.submit(Client, stream, &bytes(500_000));
    pair.drive();
    assert!(pair.server().stats().bytes_to_read < 20_000);
}

#[test]
fn a_reset_is_reported_to_a_reader_that_leaves_data_unread() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.end(Server).reads = false;
    pair.write(Client, stream, b"data");
    pair.drive();
    assert!(heard(&mut pair, Server, StreamEvent::Readable { id: stream }));
    assert_eq!(pair.server().stream(stream).read_failure(), None);
    pair.client().stream(stream).reset(ErrorCode(77)).unwrap();
    pair.drive();
    assert!(heard(&mut pair, Server, StreamEvent::Readable { id: stream }));
    assert_eq!(pair.server().stream(stream).read_failure(), Some(ReadError::Reset(ErrorCode(77))));
    assert_eq!(pair.server().stream(stream).read(1), Err(ReadError::Reset(ErrorCode(77))));
    assert_eq!(pair.server().stream(stream).read_failure(), None);
}

#[test]
fn a_reset_reaches_the_reader_with_its_code() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"never mind");
    pair.drive();
    pair.write(Client, stream, &[1; 300_000]);
    pair.client().stream(stream).reset(ErrorCode(77)).unwrap();
    pair.drive();
    assert_eq!(pair.stream_end(Server, stream), Some(Err(ReadError::Reset(ErrorCode(77)))));
    assert_eq!(pair.client().stream(stream).write(b"x"), Err(WriteError::Finished));
    assert_eq!(pair.client().stats().bytes_to_send, 0);
    pair.transfer(Client, b"others live on");
}

#[test]
fn a_reader_that_stops_makes_the_writer_stop() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"blah");
    pair.drive();
    pair.server().stream(stream).stop(ErrorCode(5)).unwrap();
    pair.drive();
    assert!(heard(&mut pair, Client, StreamEvent::Stopped { id: stream, error: ErrorCode(5) }));
    assert_eq!(pair.client().stream(stream).write(b"x"), Err(WriteError::Stopped(ErrorCode(5))));
    assert_eq!(pair.server().stream(stream).read(1), Err(ReadError::Stopped));
    pair.submit(Server, stream, b"my half goes on");
    pair.drive();
    pair.assert_received(Client, stream, b"my half goes on");
}

// draft I07
#[test]
fn an_empty_stream_has_an_end() {
    let mut pair = Pair::established();
    pair.transfer(Client, b"");
    pair.transfer(Server, b"");
}

#[test]
fn finished_stream_refuses_writes() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"all");
    pair.finish(Client, stream);
    assert_eq!(pair.client().stream(stream).write(b"more"), Err(WriteError::Finished));
    assert_eq!(pair.client().stream(StreamId(40)).write(b"x"), Err(WriteError::Unknown));
    assert_eq!(pair.client().stream(StreamId(40)).read(1), Err(ReadError::Unknown));
    pair.drive();
    pair.assert_received(Server, stream, b"all");
}

#[test]
fn a_chunk_is_taken_over_without_copying() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    let owner = Arc::new(vec![8u8; 100_000]);
    let mut chunk = Bytes::from_owner(Shared(owner.clone()));
    assert_eq!(pair.client().stream(stream).write_chunk(&mut chunk), Ok(100_000));
    assert!(chunk.is_empty());
    drop(chunk);
    assert_eq!(Arc::strong_count(&owner), 2, "the core holds the very same memory");
    pair.drive();
    assert_eq!(Arc::strong_count(&owner), 1, "and lets go of it once it is acknowledged");
    assert_eq!(pair.read_all(Server, stream), *owner);
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn read_data_shares_the_received_buffer() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    let data = bytes(60_000);
    pair.write(Client, stream, &data);
    pair.step(Client);
    let sent: Vec<u8> = pair.flow(FIRST, Server).in_flight.drain(..).collect();
    let mut buffer = BytesMut::from(&sent[..]);
    let place = buffer.as_ptr() as usize..buffer.as_ptr() as usize + buffer.len();
    let now = pair.now;
    pair.server().handle_bytes(now, FIRST, &mut buffer);
    let mut got = Vec::new();
    while let Ok(Some(bytes)) = pair.server().stream(stream).read(usize::MAX) {
        assert!(place.contains(&(bytes.as_ptr() as usize)), "it was copied");
        got.extend_from_slice(&bytes);
    }
    assert!(got == data);
}

#[test]
fn read_returns_at_most_the_requested_bytes() {
    let mut pair = Pair::established();
    pair.end(Server).reads = false;
    let stream = pair.open_stream(Client);
    pair.write(Client, stream, b"abcdef");
    pair.drive();
    assert_eq!(pair.server().stream(stream).read(4).unwrap().unwrap(), &b"abcd"[..]);
    assert_eq!(pair.server().stream(stream).read(4).unwrap().unwrap(), &b"ef"[..]);
    assert_eq!(pair.server().stream(stream).read(4), Err(ReadError::Blocked));
}
