//! Sessions with only the draft's frames (decisions D142 to D145): a scripted peer that knows nothing else, at either end, and two
//! ends of ours. Negotiation is in `openssl`.

use core::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, JoinOptions, State, TcpEnd};
use tcpls_core::crypto::Handshake;
use tcpls_core::error::{
    Alert, AskOptionError, CloseReason, OpenStreamError, ReadError, TcpError, TcpFault, Violation, WriteError,
};
use tcpls_core::event::{Event, StreamEvent, TcpEvent};
use tcpls_core::wire::frame::Frame;
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode, StreamId};

use crate::support::peer::frames::*;
use crate::support::peer::joins::answer_bytes;
use crate::support::peer::{ALERT, FIRST, Peer, Record, SECOND, frames_of};
use crate::support::{Client, NullHandshake, Pair, Server, Setup, Side, bytes};

/// The session's largest window in tests of what is unread.
const WINDOW: usize = 1 << 20;
/// Stream data of one record.
const RECORD: usize = 16_000;

fn handshakes() -> (Box<dyn Handshake>, Box<dyn Handshake>) {
    let end = |side| Box::new(NullHandshake::new(side, [7; 32]).draft_only());
    (end(Client), end(Server))
}

/// A scripted peer with only the draft's frames, and a session under test at the other end.
fn scripted(side: Side, config: Config) -> Peer {
    Peer::with_handshakes(side, config, handshakes())
}

/// A session that holds little.
fn small() -> Config {
    Config::default().with(|config| {
        config.max_session_window = WINDOW as u64;
        config.initial_session_window = WINDOW as u64;
    })
}

fn pair(setup: Setup) -> Pair {
    let (client, server) = handshakes();
    let mut pair = Pair::new(setup, client, server);
    pair.drive();
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Established);
        assert!(pair.conn(side).is_draft_only());
    }
    pair
}

/// Asserts that both ends have sent none but the draft's frames.
fn assert_only_the_drafts(pair: &mut Pair) {
    for side in [Client, Server] {
        let sent: Vec<u8> = pair.conn(side).stats().frames_sent.iter().map(|(ty, _)| ty).collect();
        assert!(sent.iter().all(|ty| *ty <= 0x09), "{side:?} sent {sent:x?}");
    }
}

/// What the session sends on `tcp`, all of it the draft's.
fn recv(peer: &mut Peer, tcp: ConnectionId) -> Vec<Record> {
    let records = peer.recv(tcp);
    for frame in frames_of(&records) {
        assert!(frame.is_draft(), "{frame:?}");
    }
    records
}

/// Sends stream data in full records, from `offset` on.
fn send_data(peer: &mut Peer, tcp: ConnectionId, id: u32, offset: usize, len: usize) {
    let data = bytes(len);
    for (at, piece) in (offset..).step_by(RECORD).zip(data.chunks(RECORD)) {
        peer.send(tcp, &[stream(id, at as u64, piece)]);
    }
}

/// Sends stream data from `offset` on until the session reads no more on `tcp`, and returns where it ends.
fn send_until_unread(peer: &mut Peer, tcp: ConnectionId, id: u32, mut offset: usize) -> usize {
    while peer.conn.wants_read(tcp) {
        assert!(offset < 3 * WINDOW, "the session reads on");
        send_data(peer, tcp, id, offset, RECORD);
        offset += RECORD;
    }
    offset
}

/// Reads all that is there of a stream.
fn read(conn: &mut Connection, id: u32) -> usize {
    let mut len = 0;
    while let Ok(Some(data)) = conn.stream(StreamId(id)).read(usize::MAX) {
        len += data.len();
    }
    len
}

fn is_established(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event, Event::Established(established) if established.draft_only))
}

#[test]
fn draft_only_server_begins_without_parameters_and_takes_stream_data_at_once() {
    let mut peer = scripted(Client, Config::default());
    let first = recv(&mut peer, FIRST);
    let tokens = |records: &[Record]| frames_of(records).iter().all(|frame| matches!(frame, Frame::NewToken(_)));
    assert!(first.len() == 1 && tokens(&first) && peer.tokens.len() == 4, "{first:?}");
    assert!(is_established(&peer.events), "{:?}", peer.events);
    peer.send(FIRST, &[fin(0, 0, b"question")]);
    let id = peer.conn.accept_stream().unwrap();
    assert_eq!(peer.conn.stream(id).read(99).unwrap().as_deref(), Some(&b"question"[..]));
    assert_eq!(peer.conn.stream(id).write(b"answer"), Ok(6));
    peer.conn.stream(id).finish().unwrap();
    assert_eq!(frames_of(&recv(&mut peer, FIRST))[0], fin(0, 0, b"answer"));
}

#[test]
fn draft_only_client_begins_without_parameters_and_sends_stream_data_at_once() {
    let mut peer = scripted(Server, Config::default());
    assert_eq!(recv(&mut peer, FIRST), []);
    assert!(is_established(&peer.take_events()));
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(&bytes(100_000)).unwrap();
    let sent: usize = recv(&mut peer, FIRST).iter().map(|record| record.content.len()).sum();
    assert!(sent > 1000, "{sent} bytes");
    peer.send(FIRST, &[fin(0, 0, b"answer")]);
    assert_eq!(read(&mut peer.conn, 0), 6);
}

#[test]
fn draft_only_sessions_transfer_join_move_and_close_with_the_drafts_frames_alone() {
    let mut pair = pair(Setup { tls: None, ..Setup::default() });
    let (second, third) = (pair.join(), pair.join());
    pair.spread();
    pair.transfer(Client, &bytes(700_000));
    pair.transfer(Server, &bytes(700_000));
    pair.cut(FIRST);
    pair.drive();
    pair.transfer(Client, &bytes(100_000));
    let now = pair.now;
    pair.conn(Server).set_backup(third, true).unwrap();
    pair.client().retire_tcp(now, second).unwrap();
    pair.drive_for(Duration::from_secs(2));
    assert_eq!(pair.fault(Client, second), Some(TcpFault::Retired));
    let address = socket_address(1);
    assert_eq!(pair.server().advertise(address), Ok(AddressId(0)));
    pair.transfer(Server, b"behind the address");
    assert_eq!(pair.client().peer_addresses().map(|(_, address)| address).collect::<Vec<_>>(), [address]);
    pair.cut(third);
    pair.drive();
    assert!(matches!(pair.client().state(), State::Stranded { .. }));
    pair.join();
    pair.transfer(Client, b"recovered");
    let now = pair.now;
    pair.server().drain(now, Duration::from_millis(500));
    pair.settle();
    pair.drive_for(Duration::from_secs(12));
    assert_eq!(pair.close_reason(Server), Some(CloseReason::Local { error: ErrorCode(0) }));
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Peer { error: ErrorCode(0), reason: Vec::new() }));
    assert_only_the_drafts(&mut pair);
}

#[test]
fn stall_moves_data_of_a_draft_only_session_without_a_status() {
    let mut pair = pair(Setup { tls: None, ..Setup::default() });
    let second = pair.join();
    pair.spread();
    pair.transfer(Client, &bytes(100_000));
    pair.stall(second);
    let id = pair.open_stream(Client);
    pair.submit(Client, id, &bytes(300_000));
    pair.drive_for(Duration::from_secs(5));
    pair.assert_received(Server, id, &bytes(300_000));
    assert!(pair.events(Client).contains(&Event::Tcp(TcpEvent::Stalled { tcp: second })));
    assert_only_the_drafts(&mut pair);
}

#[test]
fn frames_that_the_draft_does_not_have_end_a_draft_only_session() {
    let entries = [1, 0, 0, 0, 0, 0, 0, 0, 9];
    for side in [Client, Server] {
        for frame in [
            parameters(&entries),
            max_data(1),
            max_stream_data(0, 1),
            max_streams(1),
            reset_stream(0, 0),
            stop_sending(0),
            close_session(0),
            token_wide(9, 9),
            connection_status(FIRST, true),
            connection_reset_reason(SECOND, 1),
            tcp_option(28, &[1]),
            Frame::Lane,
            drain(0),
            option_request(0, FIRST, 28, &[0, 30]),
            option_answer(0, 0),
        ] {
            let mut peer = scripted(side, Config::default());
            recv(&mut peer, FIRST);
            peer.send(FIRST, &[PING, frame]);
            let rule = Violation::UnknownFrame(frame.ty());
            assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(rule)));
            let last = recv(&mut peer, FIRST);
            assert_eq!(last.last().and_then(Record::alert), Some(Alert::DecodeError as u8), "{frame:?}: {last:?}");
        }
    }
}

#[test]
fn violation_in_a_draft_only_session_has_an_alert_that_ends_the_session() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.send(FIRST, &[stream(1, 0, b"of the server")]);
    let last = recv(&mut peer, FIRST);
    assert_eq!(last.iter().map(|record| record.alert()).collect::<Vec<_>>(), [Some(Alert::IllegalParameter as u8)]);
}

#[test]
fn draft_only_session_stops_reading_while_the_application_does() {
    for side in [Client, Server] {
        let mut peer = scripted(side, small());
        recv(&mut peer, FIRST);
        let id = if side == Client { 0 } else { 1 };
        let sent = send_until_unread(&mut peer, FIRST, id, 0);
        assert!((WINDOW / 2 - RECORD..=WINDOW / 2 + RECORD).contains(&sent), "{sent}");
        peer.sleep(30);
        let acked = frames_of(&recv(&mut peer, FIRST)).iter().rev().find_map(|frame| match frame {
            Frame::Ack(ack) => Some(ack.highest.0),
            _ => None,
        });
        assert_eq!(acked, Some(peer.sent(FIRST) - 1), "what was read is acknowledged");
        peer.sleep(9_000);
        assert_eq!(peer.conn.state(), State::Established);
        assert_eq!(read(&mut peer.conn, id), sent);
        assert!(peer.conn.wants_read(FIRST));
        send_data(&mut peer, FIRST, id, sent, RECORD);
        assert_eq!(read(&mut peer.conn, id), RECORD);
    }
}

#[test]
fn acknowledgments_behind_unread_data_are_read_until_the_window_is_full() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.conn.stream(StreamId(0)).write(b"an answer").unwrap();
    peer.conn.stream(StreamId(0)).finish().unwrap();
    let answer = recv(&mut peer, FIRST).last().and_then(|record| record.number).unwrap();
    let sent = send_until_unread(&mut peer, FIRST, 0, 1);
    assert!((WINDOW - RECORD..=WINDOW + RECORD).contains(&sent), "{sent}");
    peer.take_events();
    // The acknowledgment is the next in the socket: no time runs for it while it cannot be read.
    peer.sleep(20_000);
    assert_eq!(peer.tcp_events(), []);
    assert_eq!(peer.conn.bytes_to_send(), 9);
    assert_eq!(read(&mut peer.conn, 0), sent);
    assert!(peer.conn.wants_read(FIRST));
    peer.send(FIRST, &[ack(FIRST, answer)]);
    assert_eq!(peer.conn.bytes_to_send(), 0);
}

#[test]
fn tcp_connections_without_stream_data_are_read_while_others_are_not() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.join();
    recv(&mut peer, SECOND);
    peer.conn.set_backup(SECOND, true).unwrap();
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.conn.stream(StreamId(0)).write(b"an answer").unwrap();
    let answer = recv(&mut peer, FIRST).last().and_then(|record| record.number).unwrap();
    let sent = send_until_unread(&mut peer, FIRST, 0, 1);
    assert!(peer.conn.wants_read(SECOND));
    peer.send(SECOND, &[ack(FIRST, answer)]);
    assert_eq!(peer.conn.bytes_to_send(), 0, "the acknowledgment got through");
    assert!(peer.conn.wants_read(SECOND));
    send_data(&mut peer, SECOND, 0, sent, RECORD);
    assert!(!peer.conn.wants_read(SECOND), "it brings stream data, too");
}

#[test]
fn data_that_waits_for_other_data_pauses_its_own_tcp_connection_alone() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.join();
    recv(&mut peer, SECOND);
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    let gap = 1;
    let sent = send_until_unread(&mut peer, SECOND, 0, gap + 2 * RECORD);
    assert!(peer.conn.wants_read(FIRST), "the missing data may come there");
    send_data(&mut peer, FIRST, 0, gap, RECORD);
    assert!(peer.conn.wants_read(FIRST) && !peer.conn.wants_read(SECOND), "a part of it came");
    send_data(&mut peer, FIRST, 0, gap + RECORD, RECORD);
    assert_eq!(read(&mut peer.conn, 0), sent);
    assert!(peer.conn.wants_read(SECOND));
}

#[test]
fn the_only_tcp_connection_is_read_on_for_missing_data_up_to_a_bound() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.join();
    recv(&mut peer, SECOND);
    peer.send(FIRST, &[stream(0, 0, b"x")]);
    let mut sent = send_until_unread(&mut peer, SECOND, 0, 1 + RECORD);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    assert!(peer.conn.wants_read(SECOND), "the peer sends there what was lost");
    peer.join();
    assert!(peer.conn.wants_read(SECOND), "the new TCP connection has carried no stream data");
    let before = peer.conn.memory();
    while peer.conn.state() == State::Established {
        assert!(sent < 5 * WINDOW);
        send_data(&mut peer, SECOND, 0, sent, RECORD);
        sent += RECORD;
    }
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Violation::TooManyGaps(0))));
    assert!(sent >= 2 * WINDOW && peer.conn.memory() < before, "{sent}");
}

#[test]
fn peer_that_does_not_read_loses_no_tcp_connection_before_the_idle_timeout() {
    let mut peer = scripted(Server, Config::default());
    recv(&mut peer, FIRST);
    peer.take_events();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(&bytes(50_000)).unwrap();
    recv(&mut peer, FIRST);
    peer.sleep(40_000);
    let lost = peer.tcp_events().into_iter().any(|event| matches!(event, TcpEvent::Lost { .. }));
    assert!(!lost && peer.conn.state() == State::Established, "{:?}", peer.conn.state());
    peer.sleep(40_000);
    assert_ne!(peer.conn.state(), State::Established);
}

#[test]
fn resetting_and_stopping_in_a_draft_only_session_are_local() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.send(FIRST, &[stream(0, 0, b"question"), stream(2, 0, b"other")]);
    let id = StreamId(0);
    peer.conn.stream(id).write(&bytes(10_000)).unwrap();
    peer.conn.stream(id).reset(ErrorCode(5)).unwrap();
    assert_eq!(peer.conn.stream(id).write(b"more"), Err(WriteError::Finished));
    assert_eq!(peer.conn.bytes_to_send(), 0);
    peer.conn.stream(id).stop(ErrorCode(6)).unwrap();
    assert_eq!(peer.conn.stream(id).read(9), Err(ReadError::Unknown), "both halves are over");
    peer.sleep(30);
    let sent = recv(&mut peer, FIRST);
    assert!(frames_of(&sent).iter().all(|frame| matches!(frame, Frame::Ack(_))), "{sent:?}");
    assert_eq!(peer.conn.streams_open(), 1, "the stream that was reset and stopped is over");
    // The peer cannot know: its data costs nothing but the reading.
    let before = (peer.conn.stats().limits.idle_frames, peer.conn.stats().bytes_to_read);
    send_data(&mut peer, FIRST, 0, 8, 50 * RECORD);
    assert_eq!((peer.conn.stats().limits.idle_frames, peer.conn.stats().bytes_to_read), before);
}

#[test]
fn draft_only_sessions_refuse_what_has_no_frame_and_no_local_effect() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    assert_eq!(peer.conn.send_tcp_option(28, &[1]), Err(TcpError::DraftOnly));
    assert_eq!(peer.conn.ask_tcp_option(FIRST, 28, &[1]), Err(AskOptionError::NotSupported));
    peer.conn.set_backup(FIRST, true).unwrap();
    peer.conn.update_keys(peer.now);
    peer.conn.ping(FIRST).unwrap();
    assert_eq!(frames_of(&recv(&mut peer, FIRST)), [PING]);
    assert_eq!(peer.conn.stats().key_updates, (0, 0));
    assert_eq!(peer.conn.wants_lane(), None, "lanes are not the draft's");
}

#[test]
fn requests_before_the_handshake_send_no_frame_in_a_draft_only_session() {
    let (client, server) = handshakes();
    let mut pair = Pair::new(Setup { tls: None, ..Setup::default() }, client, server);
    pair.client().send_tcp_option(28, &[1]).unwrap();
    pair.client().set_backup(FIRST, true).unwrap();
    pair.client().advertise(socket_address(1)).unwrap();
    pair.step(Client);
    pair.deliver_all();
    let now = pair.now;
    assert_eq!(pair.server().state(), State::Handshaking);
    pair.server().drain(now, Duration::from_secs(30)); // as a listener that drains does
    pair.step(Server);
    pair.deliver_all();
    let id = pair.open_stream(Client);
    pair.submit(Client, id, b"a request that cannot be refused");
    pair.drive();
    pair.assert_received(Server, id, b"a request that cannot be refused");
    assert_eq!(pair.server().peer_addresses().count(), 1);
    assert_only_the_drafts(&mut pair);
}

#[test]
fn draft_only_client_joins_without_early_records() {
    let mut peer = scripted(Server, Config::default());
    recv(&mut peer, FIRST);
    let (hello, rest) = peer.let_open(1, true);
    assert!(!hello.psk && rest.is_empty(), "{rest:?}");
    let answer = answer_bytes(&peer.answer(&hello));
    peer.send_bytes(SECOND, &answer);
    assert_eq!(frames_of(&recv(&mut peer, SECOND)), [PING]);
}

#[test]
fn tokens_of_a_draft_only_session_end_at_255() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    for number in 1..=255 {
        assert_eq!(peer.tokens.first_key_value().map(|(number, _)| *number), Some(number));
        let tcp = peer.join();
        peer.send(FIRST, &[connection_reset(tcp)]);
        recv(&mut peer, FIRST);
    }
    assert_eq!((peer.tokens.len(), peer.conn.tokens()), (0, 0));
    assert_eq!(peer.conn.state(), State::Established);
}

#[test]
fn draft_only_sessions_have_at_most_4096_streams_of_a_side_at_once() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    let opened = core::iter::from_fn(|| peer.conn.open_stream().ok()).take(5000).count();
    assert_eq!((opened, peer.conn.open_stream()), (4096, Err(OpenStreamError::Limit)));
    peer.take_events();
    let first = StreamId(1);
    peer.conn.stream(first).finish().unwrap();
    let number = recv(&mut peer, FIRST).last().and_then(|record| record.number).unwrap();
    peer.send(FIRST, &[ack(FIRST, number), fin(1, 0, b"")]);
    assert_eq!(peer.conn.stream(first).read(9), Ok(None));
    assert!(peer.take_events().contains(&Event::Stream(StreamEvent::Available)));
    peer.conn.open_stream().unwrap();
    peer.send(FIRST, &[stream(2 * 4095, 0, b"x")]);
    assert_eq!(peer.conn.state(), State::Established);
    peer.send(FIRST, &[stream(2 * 4096, 0, b"x")]);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Violation::TooManyStreams(2 * 4096))));
}

#[test]
fn closing_a_draft_only_session_delivers_data_and_sends_close_notify_alone() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.send(FIRST, &[stream(0, 0, b"question")]);
    peer.conn.stream(StreamId(0)).write(b"answer").unwrap();
    peer.conn.stream(StreamId(0)).finish().unwrap();
    peer.conn.close(peer.now, ErrorCode(0), b"done");
    let answer = recv(&mut peer, FIRST);
    assert_eq!(frames_of(&answer)[0], fin(0, 0, b"answer"));
    let last = peer.send(FIRST, &[stream(0, 8, b"and more"), ack(FIRST, answer.last().unwrap().number.unwrap())]);
    let end = recv(&mut peer, FIRST);
    assert_eq!(frames_of(&end), [ack(FIRST, last)]);
    assert_eq!(read(&mut peer.conn, 0), 8, "what came after the call is dropped");
    assert_eq!(end.last().map(|record| &record.content[..]), Some(&[1, 0][..]), "close_notify");
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(0) }));
}

#[test]
fn closing_a_draft_only_session_with_an_error_sends_internal_error() {
    let mut pair = pair(Setup { tls: None, ..Setup::default() });
    pair.join();
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"not the whole");
    pair.drive();
    pair.close(Client, 7, b"broken");
    pair.drive();
    let alert = Violation::FatalAlert(Alert::InternalError as u8);
    assert_eq!(pair.close_reason(Server), Some(CloseReason::Violation(alert)));
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Local { error: ErrorCode(7) }));
    assert_eq!(pair.stream_end(Server, id), Some(Err(ReadError::Truncated)));
    assert_only_the_drafts(&mut pair);
}

#[test]
fn idle_draft_only_session_ends_with_an_alert() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.sleep(61_000);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::IdleTimeout));
    let last = recv(&mut peer, FIRST);
    assert_eq!(last.last().and_then(Record::alert), Some(Alert::InternalError as u8), "{last:?}");
}

#[test]
fn close_notify_of_a_draft_only_peer_ends_the_session_once_all_is_sent() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.send(FIRST, &[fin(0, 0, b"question"), stream(2, 0, b"half of")]);
    peer.conn.stream(StreamId(0)).write(b"answer").unwrap();
    for id in [0, 2].map(StreamId) {
        peer.conn.stream(id).finish().unwrap();
    }
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert!(frames_of(&recv(&mut peer, FIRST)).contains(&fin(0, 0, b"answer")));
    assert_eq!(read(&mut peer.conn, 2), 7);
    assert_eq!(peer.conn.stream(StreamId(2)).read(9), Err(ReadError::Truncated));
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Peer { error: ErrorCode(0), reason: Vec::new() }));
}

#[test]
fn data_in_a_socket_that_is_not_read_is_not_cut_short_after_close_notify_elsewhere() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.join();
    recv(&mut peer, SECOND);
    let sent = send_until_unread(&mut peer, FIRST, 0, 0);
    peer.send_raw(SECOND, ALERT, &[1, 0]);
    peer.sleep(20_000);
    assert_eq!(read(&mut peer.conn, 0), sent);
    assert_eq!(peer.conn.stream(StreamId(0)).read(9), Err(ReadError::Blocked));
    peer.send(FIRST, &[fin(0, sent as u64, b"the end")]);
    assert_eq!((read(&mut peer.conn, 0), peer.conn.stream(StreamId(0)).read(9)), (7, Ok(None)));
}

#[test]
fn a_backup_of_a_draft_only_session_carries_no_data_of_this_endpoint() {
    let mut pair = pair(Setup { tls: None, ..Setup::default() });
    let backup = pair.open_tcp_with(JoinOptions::default().with(|join| join.backup = true));
    pair.drive();
    pair.spread();
    pair.transfer(Client, &bytes(200_000));
    let carried = |pair: &mut Pair| pair.client().tcp_stats(backup).map(|stats| stats.counters.stream_bytes_sent);
    assert_eq!(carried(&mut pair), Some(0));
    assert_only_the_drafts(&mut pair);
}

#[test]
fn backup_of_a_draft_only_session_acknowledges_what_came_on_a_full_tcp_connection() {
    let mut peer = scripted(Client, Config::default());
    recv(&mut peer, FIRST);
    peer.join();
    peer.conn.set_backup(SECOND, true).unwrap();
    peer.rest();
    let seen = peer.send(FIRST, &[stream(0, 0, b"x")]);
    peer.conn.stream(StreamId(0)).write(b"y").unwrap();
    // The peer reads nothing there until its own data is acknowledged.
    peer.conn.handle_full(peer.now, FIRST);
    peer.sleep(30);
    assert!(!peer.conn.is_stalled(FIRST));
    let frames = recv(&mut peer, SECOND);
    assert!(frames_of(&frames).contains(&ack(FIRST, seen)), "{frames:?}");
}

#[test]
fn dark_backup_of_a_draft_only_session_pauses_no_other_tcp_connection() {
    let mut peer = scripted(Client, small());
    recv(&mut peer, FIRST);
    peer.join();
    peer.conn.set_backup(SECOND, true).unwrap();
    peer.send(SECOND, &[stream(0, 0, b"x")]);
    peer.rest();
    send_until_unread(&mut peer, FIRST, 0, 1 + RECORD);
    // What is missing was on its way on the backup, which brings nothing any more: a probe shows that.
    peer.sleep(5_000);
    let probe = recv(&mut peer, SECOND);
    assert!(frames_of(&probe).contains(&PING), "{probe:?}");
    peer.sleep(5_000);
    assert!(peer.conn.is_stalled(SECOND));
    assert!(peer.conn.wants_read(FIRST), "the peer sends there what was lost");
}
