//! The peer sends close_notify without Close Session: it sends no more data, and may still receive (draft, 4.5).

use tcpls_core::config::Config;
use tcpls_core::connection::{State, TcpEnd};
use tcpls_core::error::{CloseReason, ReadError, code};
use tcpls_core::event::{Event, StreamEvent, TcpEvent};
use tcpls_core::wire::frame::{Frame, Parameters};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

use crate::support::peer::frames::{ack, fin, stream};
use crate::support::peer::{ALERT, DATA, FIRST, GENEROUS, Peer, Record, SECOND, encoded, frames_of};

const STREAM: StreamId = StreamId(0);
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

fn two() -> Peer {
    two_with(Config::default())
}

fn two_with(config: Config) -> Peer {
    let mut peer = Peer::with(Side::Client, config);
    assert_eq!(peer.join(), SECOND);
    peer.rest();
    peer.events.clear();
    peer
}

fn half_close(peer: &mut Peer, tcp: ConnectionId) {
    peer.send_raw(tcp, ALERT, &CLOSE_NOTIFY);
}

fn by_peer() -> CloseReason {
    CloseReason::Peer { error: code::NO_ERROR, reason: Vec::new() }
}

/// Close Session without an error and close_notify are the last that goes out on each of `tcps`.
fn assert_answered(peer: &mut Peer, tcps: &[ConnectionId]) -> Vec<Record> {
    let mut all = Vec::new();
    for tcp in tcps {
        let records = peer.recv(*tcp);
        assert_eq!(records.last().and_then(Record::alert), Some(0), "{tcp}");
        let closes = |frame: &Frame<'_>| matches!(frame, Frame::CloseSession(close) if close.error == ErrorCode(0));
        assert!(frames_of(&records).iter().any(closes), "{tcp}: {records:?}");
        all.extend(records);
    }
    all
}

/// The data of `STREAM` in these records, and whether its end is there.
fn sent(records: &[Record]) -> (Vec<u8>, bool) {
    let (mut data, mut has_end) = (Vec::new(), false);
    for frame in frames_of(records) {
        if let Frame::Stream(frame) = frame {
            assert_eq!((frame.id, frame.offset), (STREAM, data.len() as u64));
            data.extend_from_slice(frame.data);
            has_end |= frame.fin;
        }
    }
    (data, has_end)
}

#[test]
fn reader_waits_for_the_close_timeout_after_close_notify_on_one_of_two() {
    let mut peer = two();
    peer.send(FIRST, &[stream(0, 0, b"half")]);
    half_close(&mut peer, SECOND);
    peer.rest();
    assert_eq!(peer.conn.stream(STREAM).read(100).unwrap().unwrap(), "half");
    peer.sleep(4_900);
    assert_eq!(peer.conn.stream(STREAM).read(100), Err(ReadError::Blocked), "the rest may be on its way");
    peer.sleep(200);
    assert_eq!(peer.conn.stream(STREAM).read(100), Err(ReadError::Truncated));
    peer.conn.stream(STREAM).finish().unwrap_err();
    assert_answered(&mut peer, &[FIRST, SECOND]);
    assert_eq!(peer.take_events().last(), Some(&Event::Closed { reason: by_peer() }));
}

#[test]
fn data_on_other_tcp_connections_extends_the_half_close_deadline() {
    let mut peer = two();
    peer.send(FIRST, &[stream(0, 0, b"0")]);
    half_close(&mut peer, SECOND);
    for offset in 1..10 {
        peer.rest();
        peer.sleep(4_000);
        peer.send(FIRST, &[stream(0, offset, b"1")]);
    }
    peer.send(FIRST, &[fin(0, 10, b"")]);
    assert_eq!(peer.conn.state(), State::Established);
    let mut read = Vec::new();
    while let Some(bytes) = peer.conn.stream(STREAM).read(100).unwrap() {
        read.extend_from_slice(&bytes);
    }
    assert_eq!(read, b"0111111111");
}

#[test]
fn slow_record_extends_the_half_close_deadline_within_a_bound() {
    let mut peer = two_with(Config::default().with(|config| {
        config.idle_timeout = None;
        config.probe_after = None;
    }));
    peer.send(FIRST, &[stream(0, 0, b"half")]);
    half_close(&mut peer, SECOND);
    peer.rest();
    let record = peer.seal(FIRST, DATA, &encoded(&[stream(0, 4, &[7; 1_000])]));
    let began = peer.now;
    for byte in &record[..100] {
        peer.sleep(4_000);
        peer.send_bytes(FIRST, &[*byte]);
    }
    assert_eq!(peer.conn.close_reason(), None);
    for byte in &record[100..200] {
        peer.sleep(4_000);
        peer.send_bytes(FIRST, &[*byte]);
    }
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()), "after {:?}", peer.now - began);
}

#[test]
fn half_closed_peer_still_gets_its_answer() {
    let mut peer = two();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, SECOND);
    for _ in 0..20 {
        peer.rest();
        peer.sleep(1_000);
    }
    assert_eq!(peer.conn.state(), State::Established, "nothing is missing");
    peer.conn.stream(STREAM).write(b"a late answer").unwrap();
    peer.conn.stream(STREAM).finish().unwrap();
    let records: Vec<Record> = [FIRST, SECOND].into_iter().flat_map(|tcp| peer.recv(tcp)).collect();
    assert_eq!(sent(&records), (b"a late answer".to_vec(), true));
    let last = peer.received(FIRST) - 1;
    let on_second = peer.received(SECOND) - 1;
    peer.send(FIRST, &[ack(FIRST, last), ack(SECOND, on_second)]);
    assert!(peer.take_events().contains(&Event::Stream(StreamEvent::Delivered { id: STREAM })));
}

#[test]
fn a_peer_that_can_acknowledge_nothing_gets_its_answer_and_the_end() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    peer.sleep(3_000);
    assert_eq!(peer.conn.state(), State::Established, "the application may still answer");
    peer.conn.stream(STREAM).write(&[7; 40_000]).unwrap();
    assert_eq!(sent(&peer.recv(FIRST)), (vec![7; 40_000], false));
    peer.sleep(4_000);
    peer.conn.stream(STREAM).finish().unwrap();
    let end = assert_answered(&mut peer, &[FIRST]);
    assert!(frames_of(&end).iter().any(|frame| matches!(frame, Frame::Stream(frame) if frame.fin)));
    let events = peer.take_events();
    assert_eq!(events.last(), Some(&Event::Closed { reason: by_peer() }));
    let stalled = |event: &Event| matches!(event, Event::Tcp(TcpEvent::Stalled { .. } | TcpEvent::Lost { .. }));
    assert!(!events.iter().any(stalled), "that nothing is acknowledged is no sign of a dark path: {events:?}");
}

#[test]
fn the_fin_behind_close_notify_ends_one_direction_only() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Fin);
    peer.conn.stream(STREAM).write(b"answer").unwrap();
    peer.conn.stream(STREAM).finish().unwrap();
    assert_eq!(sent(&assert_answered(&mut peer, &[FIRST])), (b"answer".to_vec(), true));
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()));
}

#[test]
fn an_application_that_does_not_answer_a_mute_peer_is_not_waited_for() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    peer.sleep(4_900);
    assert_eq!(peer.conn.state(), State::Established);
    peer.sleep(200);
    assert_answered(&mut peer, &[FIRST]);
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()));
}

#[test]
fn peer_after_close_notify_gets_data_only_within_its_windows() {
    let parameters = Parameters { initial_max_stream_data: 1_000, ..GENEROUS };
    let mut peer = Peer::with_parameters(Side::Client, Config::default(), parameters);
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    peer.conn.stream(STREAM).write(&[7; 40_000]).unwrap();
    peer.conn.stream(STREAM).finish().unwrap();
    half_close(&mut peer, FIRST);
    let records = assert_answered(&mut peer, &[FIRST]);
    assert_eq!(sent(&records), (vec![7; 1_000], false), "and it does not look complete");
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()));
}

#[test]
fn a_mute_peer_is_not_sent_to_for_ever() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    let began = peer.now;
    while peer.conn.close_reason().is_none() {
        _ = peer.conn.stream(STREAM).write(b"drop by drop");
        peer.recv(FIRST);
        peer.sleep(1_000);
        assert!(peer.now - began < core::time::Duration::from_secs(660));
    }
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()));
    assert!(peer.now - began > core::time::Duration::from_secs(590), "as long as the peer takes it");
}

#[test]
fn closing_a_half_closed_session_does_not_wait_for_acknowledgments() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    peer.conn.stream(STREAM).write(b"answer").unwrap();
    peer.conn.close(peer.now, ErrorCode(0), b"");
    assert_eq!(sent(&assert_answered(&mut peer, &[FIRST])).0, b"answer");
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(0) }));
}

/// A number below `below`, and the next state.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

#[test]
fn half_closed_session_ends_unless_every_stream_is_complete() {
    let (mut ended, mut lived) = (0, 0);
    for seed in 0..300 {
        let mut random = seed;
        let mut peer = two_with(Config::default().with(|config| config.idle_timeout = None));
        let tcps = [FIRST, SECOND];
        let mut closed = [false; 2];
        let (mut offset, mut finished) = (0, false);
        for _ in 0..12 {
            let which = draw(&mut random, 2) as usize;
            match draw(&mut random, 7) {
                0 | 1 if !closed[which] && !finished => {
                    peer.send(tcps[which], &[stream(0, offset, &[7; 100])]);
                    offset += 100;
                }
                2 if !closed[which] && !finished => {
                    peer.send(tcps[which], &[fin(0, offset, b"")]);
                    finished = true;
                }
                3 if !closed[which] => {
                    half_close(&mut peer, tcps[which]);
                    closed[which] = true;
                }
                4 => _ = peer.conn.stream(STREAM).write(&[9; 5_000]),
                5 => _ = peer.conn.stream(STREAM).finish(),
                _ => peer.sleep(draw(&mut random, 3_000)),
            }
            rest(&mut peer, &closed);
        }
        let has_begun = offset > 0 || finished;
        for _ in 0..700 {
            rest(&mut peer, &closed);
            peer.sleep(1_000);
        }
        let reason = peer.conn.close_reason().cloned();
        match (closed, reason.as_ref()) {
            ([false, false], reason) => assert_eq!(reason, None, "seed {seed}"),
            ([true, true], reason) => assert_eq!(reason, Some(&by_peer()), "seed {seed}"),
            (_, reason) if has_begun && !finished => assert_eq!(reason, Some(&by_peer()), "seed {seed}"),
            (_, None) => {}
            // The end came too late.
            (_, reason) => {
                assert_eq!((reason, read_end(&mut peer)), (Some(&by_peer()), Err(ReadError::Truncated)), "seed {seed}")
            }
        }
        ended += usize::from(peer.conn.close_reason().is_some());
        lived += usize::from(peer.conn.close_reason().is_none());
    }
    assert!(ended > 50 && lived > 50, "{ended} and {lived}");
}

fn read_end(peer: &mut Peer) -> Result<(), ReadError> {
    while peer.conn.stream(STREAM).read(usize::MAX)?.is_some() {}
    Ok(())
}

/// The peer acknowledges everything, where it still can.
fn rest(peer: &mut Peer, closed: &[bool; 2]) {
    let mut acks = Vec::new();
    for tcp in [FIRST, SECOND] {
        if peer.conn.tcp_connections().any(|live| live == tcp) {
            peer.recv(tcp);
            acks.extend(peer.received(tcp).checked_sub(1).map(|last| ack(tcp, last)));
        }
    }
    if let Some(open) = [FIRST, SECOND].into_iter().zip(closed).find_map(|(tcp, closed)| (!closed).then_some(tcp)) {
        peer.send(open, &acks);
    }
}

#[test]
fn peer_that_becomes_mute_late_leaves_the_application_the_close_timeout() {
    let mut peer = two();
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, SECOND);
    for _ in 0..20 {
        rest(&mut peer, &[false, true]);
        peer.sleep(1_000);
    }
    half_close(&mut peer, FIRST);
    assert_eq!(peer.conn.state(), State::Established, "the application may still answer");
    peer.sleep(4_900);
    peer.conn.stream(STREAM).write(b"answer").unwrap();
    peer.conn.stream(STREAM).finish().unwrap();
    let records: Vec<Record> = [FIRST, SECOND].into_iter().flat_map(|tcp| peer.recv(tcp)).collect();
    assert_eq!(sent(&records), (b"answer".to_vec(), true));
    assert_eq!(peer.conn.close_reason(), Some(&by_peer()));
}

#[test]
fn record_limit_does_not_truncate_the_answer_to_a_half_closed_peer() {
    let config = Config::default().with(|config| config.max_unacknowledged_records = 4);
    let mut peer = Peer::with(Side::Client, config);
    peer.send(FIRST, &[fin(0, 0, b"GET /")]);
    half_close(&mut peer, FIRST);
    peer.conn.stream(STREAM).write(&[7; 100_000]).unwrap();
    peer.conn.stream(STREAM).finish().unwrap();
    let (data, has_end) = sent(&peer.recv(FIRST));
    assert_eq!((data.len(), has_end), (100_000, true));
}
