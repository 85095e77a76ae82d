//! The ends of streams, and their report to the application for any order of the halves.

use tcpls_core::connection::{SendProgress, State};
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::wire::ids::{ErrorCode, StreamId};

use crate::support::{Client, Pair, Server};

/// A stream whose request the server has read to its end.
fn asked(pair: &mut Pair) -> StreamId {
    let id = pair.open_stream(Client);
    pair.submit(Client, id, b"GET /");
    pair.drive();
    pair.assert_received(Server, id, b"GET /");
    id
}

#[test]
fn stop_of_an_ended_half_is_remembered() {
    let mut pair = Pair::established();
    let id = asked(&mut pair);
    pair.client().stream(id).stop(ErrorCode(42)).unwrap();
    pair.drive();
    let mut stream = pair.server().stream(id);
    for _ in 0..2 {
        assert_eq!(stream.write(b"200 OK"), Err(WriteError::Stopped(ErrorCode(42))));
        assert_eq!(stream.finish(), Err(WriteError::Stopped(ErrorCode(42))));
        assert_eq!(stream.sending(), SendProgress::Stopped(ErrorCode(42)));
        assert_eq!(stream.read(9), Ok(None), "the request was whole");
    }
}

#[test]
fn the_peers_reset_is_read_again_although_this_half_is_over() {
    let mut pair = Pair::established();
    let id = asked(&mut pair);
    pair.write(Server, id, b"200");
    pair.drive();
    assert_eq!(pair.read_all(Client, id), b"200");
    pair.server().stream(id).reset(ErrorCode(43)).unwrap();
    pair.drive();
    assert_eq!(pair.stream_end(Client, id), Some(Err(ReadError::Reset(ErrorCode(43)))), "read once");
    for _ in 0..2 {
        assert_eq!(pair.client().stream(id).read(9), Err(ReadError::Reset(ErrorCode(43))));
    }
    assert_eq!(pair.client().stats().streams_open, 0);
}

#[test]
fn truncated_stream_stays_truncated() {
    let mut pair = Pair::established();
    let id = asked(&mut pair);
    pair.write(Server, id, b"200");
    pair.drive();
    pair.close(Server, 5, b"");
    pair.drive();
    assert_eq!(pair.stream_end(Client, id), Some(Err(ReadError::Truncated)));
    assert_eq!(pair.client().state(), State::Closed);
    assert_eq!(pair.client().stream(id).read(9), Err(ReadError::Truncated));
}

#[test]
fn state_of_a_stream_is_available_at_any_time() {
    let mut pair = Pair::established();
    let id = asked(&mut pair);
    let other = pair.open_stream(Client);
    pair.write(Client, other, b"not finished");
    pair.drive();
    assert_eq!(pair.client().stream(other).sending(), SendProgress::UnderWay);
    pair.finish(Client, other);
    assert_eq!(pair.client().stream(other).sending(), SendProgress::UnderWay);
    pair.drive();
    assert_eq!(pair.client().stream(other).sending(), SendProgress::Over);
    assert_eq!(pair.server().stream(id).sending(), SendProgress::UnderWay);
    pair.submit(Server, id, b"200 OK");
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).stream(id).sending(), SendProgress::Over, "{side:?} has forgotten it");
    }
    let never = StreamId(400);
    assert_eq!(pair.client().stream(never).sending(), SendProgress::Unknown);
    pair.write(Server, other, b"too late");
    pair.close(Server, 5, b"");
    pair.drive();
    assert_eq!(pair.server().stream(other).sending(), SendProgress::Lost);
}
