//! How a session with a plain TLS peer ends. The peer has close_notify alone to tell a whole stream from one that was cut
//! short, so close_notify follows a finished stream and nothing else.

use std::io::{Read, Write};
use std::time::Duration;

use rustls::{AlertDescription, Error};
use tcpls_core::config::Config;
use tcpls_core::connection::State;
use tcpls_core::error::{CloseReason, ReadError, TcpFault};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::fallback::Mixed;
use crate::support::{Client, Server, Side, Tls};

const ONLY: StreamId = StreamId(0);
/// A record of a type that TLS does not have.
const NO_TLS: [u8; 6] = [99, 3, 3, 0, 1, 0];

/// A session whose application has got a request and writes the answer, without its end.
fn half_answered(ours: Side) -> Mixed {
    let mut mixed = Mixed::established(ours);
    if ours == Client {
        mixed.conn.open_stream().unwrap();
    }
    mixed.peer.writer().write_all(b"GET /").unwrap();
    mixed.drive();
    if ours == Server {
        assert_eq!(mixed.conn.accept_stream(), Some(ONLY));
    }
    mixed.write(b"half of the answer");
    mixed
}

/// The peer got an alert that no TLS library takes for an end.
fn assert_cut_short(mixed: &mut Mixed) {
    assert_eq!(mixed.peer.process_new_packets().unwrap_err(), Error::AlertReceived(AlertDescription::InternalError));
    assert_eq!(mixed.conn.state(), State::Closed);
}

fn assert_clean(mixed: &mut Mixed) {
    assert!(mixed.peer.process_new_packets().is_ok());
    assert_eq!(mixed.peer.reader().read(&mut [0; 1]).unwrap(), 0, "close_notify came");
}

#[test]
fn closing_with_an_error_is_an_error_to_a_plain_peer() {
    for ours in [Client, Server] {
        let mut mixed = half_answered(ours);
        mixed.conn.close(mixed.now, ErrorCode(1), b"interrupted");
        mixed.drive();
        assert_cut_short(&mut mixed);
        assert_eq!(mixed.heard, b"", "what was not sent is dropped");
    }
}

#[test]
fn closing_before_the_stream_is_finished_delivers_it_and_is_an_error() {
    for ours in [Client, Server] {
        let mut mixed = half_answered(ours);
        mixed.conn.close(mixed.now, ErrorCode(0), b"");
        mixed.drive();
        assert_eq!(mixed.heard, b"half of the answer");
        assert_cut_short(&mut mixed);
    }
}

#[test]
fn a_timeout_in_the_middle_of_a_stream_is_an_error_to_a_plain_peer() {
    for ours in [Client, Server] {
        let mut mixed = half_answered(ours);
        mixed.drive();
        mixed.now += Duration::from_secs(61);
        mixed.conn.handle_timeout(mixed.now);
        mixed.drive();
        assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::IdleTimeout));
        assert_cut_short(&mut mixed);
    }
}

#[test]
fn a_close_that_takes_too_long_is_an_error_to_a_plain_peer() {
    let mut mixed = half_answered(Server);
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.conn.close(mixed.now, ErrorCode(0), b"");
    mixed.now += Duration::from_secs(6);
    mixed.conn.handle_timeout(mixed.now);
    mixed.drive();
    assert_cut_short(&mut mixed);
}

#[test]
fn a_reset_ends_a_plain_session_with_an_error_once_nothing_is_read_either() {
    let mut mixed = half_answered(Server);
    mixed.conn.stream(ONLY).reset(ErrorCode(7)).unwrap();
    mixed.drive();
    assert_eq!(mixed.conn.state(), State::Plain, "the rest of the request may still matter");
    mixed.conn.stream(ONLY).stop(ErrorCode(7)).unwrap();
    assert!(mixed.conn.wants_write(ConnectionId::FIRST));
    mixed.drive();
    assert_cut_short(&mut mixed);
    assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(7) }));
}

#[test]
fn reset_after_a_complete_request_ends_a_plain_session() {
    let mut mixed = half_answered(Server);
    mixed.peer.send_close_notify();
    mixed.drive();
    assert_eq!(mixed.read_to_end(), (b"GET /".to_vec(), Ok(())));
    mixed.conn.stream(ONLY).reset(ErrorCode(7)).unwrap();
    mixed.drive();
    assert_cut_short(&mut mixed);
}

#[test]
fn finished_stream_ends_with_close_notify_for_any_end_of_the_session() {
    for (ours, error) in [(Client, 0), (Client, 1), (Server, 0), (Server, 1)] {
        let mut mixed = half_answered(ours);
        mixed.conn.stream(ONLY).finish().unwrap();
        mixed.drive();
        mixed.conn.close(mixed.now, ErrorCode(error), b"");
        mixed.drive();
        assert_eq!(mixed.heard, b"half of the answer");
        assert_clean(&mut mixed);
    }
}

#[test]
fn a_plain_session_that_was_asked_nothing_closes_with_close_notify() {
    for ours in [Client, Server] {
        let mut mixed = Mixed::with_config(ours, Tls::default(), Config::default());
        mixed.drive();
        mixed.conn.close(mixed.now, ErrorCode(0), b"");
        mixed.drive();
        assert_clean(&mut mixed);
    }
}

#[test]
fn a_question_without_an_answer_does_not_end_in_close_notify() {
    let mut mixed = Mixed::established(Server);
    mixed.peer.writer().write_all(b"GET /").unwrap();
    mixed.drive();
    mixed.conn.close(mixed.now, ErrorCode(0), b"");
    mixed.drive();
    assert_cut_short(&mut mixed);
}

#[test]
fn a_fatal_alert_of_a_plain_peer_cuts_the_stream_short_and_gets_no_answer() {
    for ours in [Client, Server] {
        let mut mixed = half_answered(ours);
        mixed.peer.writer().write_all(b" /file").unwrap();
        mixed.drive();
        mixed.peer.read_tls(&mut &NO_TLS[..]).unwrap();
        assert!(mixed.peer.process_new_packets().is_err(), "it answers this with decode_error");
        mixed.drive();
        assert_eq!(mixed.read_to_end(), (b"GET / /file".to_vec(), Err(ReadError::Truncated)));
        assert_eq!(mixed.conn.close_reason(), Some(&CloseReason::PlainTcpEnded(TcpFault::Alert(50))));
        assert!(!mixed.conn.wants_write(ConnectionId::FIRST));
    }
}

#[test]
fn drained_plain_session_ends_after_its_stream_or_at_the_limit() {
    for ours in [Client, Server] {
        for finishes in [true, false] {
            let mut mixed = half_answered(ours);
            mixed.conn.drain(mixed.now, Duration::from_secs(30));
            mixed.drive();
            assert_eq!(mixed.conn.state(), State::Plain, "the stream runs");
            if finishes {
                mixed.conn.stream(ONLY).finish().unwrap();
                mixed.peer.send_close_notify();
                assert_eq!(mixed.read_to_end(), (b"GET /".to_vec(), Err(ReadError::Blocked)));
                mixed.drive();
                _ = mixed.read_to_end();
                mixed.drive();
                assert_clean(&mut mixed);
            } else {
                mixed.now += Duration::from_secs(30);
                mixed.conn.handle_timeout(mixed.now);
                mixed.drive();
                assert_cut_short(&mut mixed);
            }
            assert_eq!(mixed.heard, b"half of the answer");
            assert_eq!(mixed.conn.state(), State::Closed);
        }
    }
}

#[test]
fn plain_session_drained_during_its_handshake_serves_its_stream() {
    let mut mixed = Mixed::new(Server);
    mixed.conn.drain(mixed.now, Duration::from_secs(30));
    mixed.peer.writer().write_all(b"GET /").unwrap();
    mixed.drive();
    assert_eq!(mixed.conn.accept_stream(), Some(ONLY));
    mixed.write(b"answer");
    mixed.conn.stream(ONLY).finish().unwrap();
    mixed.peer.send_close_notify();
    mixed.drive();
    assert_eq!(mixed.read_to_end(), (b"GET /".to_vec(), Ok(())));
    mixed.conn.handle_timeout(mixed.now);
    mixed.drive();
    assert_eq!(mixed.heard, b"answer");
    assert_clean(&mut mixed);
    assert_eq!(mixed.conn.state(), State::Closed);
}
