//! Invalid records, from an attacker on the path or a faulty peer: garbage, flipped bits, replays, plaintext records,
//! alerts. A record that is not authentic ends its TCP connection, never the session (`docs/protocol.md`, 6 and 9).

use tcpls_core::config::Config;
use tcpls_core::connection::{State, TcpEnd};
use tcpls_core::error::Violation as Rule;
use tcpls_core::error::{Alert, CloseReason, ReadError, TcpFault, code};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::testing::hello::CHANGE_CIPHER_SPEC;
use tcpls_core::wire::frame::{Frame, ty};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

use crate::support::peer::frames::*;
use crate::support::peer::{ALERT, DATA, FIRST, HANDSHAKE, Peer, Record, SECOND, encoded, frames_of};

/// A scripted client with two TCP connections to the server under test, everything at rest.
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

/// `bytes` on the second TCP connection cost it, with these signs, and nothing else.
fn costs_the_tcp_connection(bytes: &[u8], fault: TcpFault, alert: Alert) {
    let mut peer = two();
    peer.send_bytes(SECOND, bytes);
    peer.assert_lost(SECOND, fault, Some(alert));
    peer.assert_lives(&[FIRST]);
    peer.send(FIRST, &[PING]);
    peer.assert_lives(&[FIRST]);
}

#[test]
fn bytes_that_are_not_a_tls_record_cost_the_tcp_connection() {
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], &[0], &[19, 3, 3], &[24, 3, 3, 0, 1], &[0xff; 100], &[23, 2, 0, 0, 1]] {
        costs_the_tcp_connection(garbage, TcpFault::NotTls, Alert::UnexpectedMessage);
    }
}

#[test]
fn oversized_record_costs_the_tcp_connection_before_it_is_complete() {
    for len in [(1 << 14) + 257, u16::MAX] {
        let [high, low] = u16::to_be_bytes(len);
        costs_the_tcp_connection(&[23, 3, 3, high, low], TcpFault::RecordOverflow, Alert::RecordOverflow);
    }
}

#[test]
fn an_authentic_record_with_more_than_16_kib_of_content_ends_the_session() {
    let mut peer = two();
    peer.send_raw(SECOND, DATA, &encoded(&[stream(0, 0, &[7; (1 << 14) - 15])]));
    peer.assert_lives(&[FIRST, SECOND]);
    peer.send_raw(SECOND, DATA, &[0; (1 << 14) + 1]);
    peer.assert_failed_on(Rule::RecordOverflow, &[FIRST, SECOND]);
}

#[test]
fn an_empty_record_in_clear_costs_the_tcp_connection() {
    for content_type in [20, 21, 22] {
        costs_the_tcp_connection(&[content_type, 3, 3, 0, 0], TcpFault::UnexpectedRecord, Alert::UnexpectedMessage);
    }
}

#[test]
fn a_protected_record_too_short_for_a_tag_costs_the_tcp_connection() {
    for len in [0, 1, 15, 16] {
        let record = [&[23, 3, 3, 0, len][..], &vec![9; usize::from(len)]].concat();
        costs_the_tcp_connection(&record, TcpFault::BadRecord, Alert::BadRecordMac);
    }
}

#[test]
fn a_record_in_clear_after_the_handshake_costs_the_tcp_connection() {
    let hello_request = [22, 3, 3, 0, 4, 0, 0, 0, 0];
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    let fatal = [21, 3, 3, 0, 2, 2, 40];
    for record in [&CHANGE_CIPHER_SPEC[..], &hello_request, &close_notify, &fatal] {
        costs_the_tcp_connection(record, TcpFault::UnexpectedRecord, Alert::UnexpectedMessage);
    }
}

#[test]
fn bit_flipped_in_a_record_costs_the_tcp_connection_and_has_no_effect() {
    let content = encoded(&[stream(0, 0, b"hi"), address(1, 1)]);
    let len = two().seal(SECOND, DATA, &content).len();
    for bit in (5 * 8)..len * 8 {
        let mut peer = two();
        let mut record = peer.seal(SECOND, DATA, &content);
        record[bit / 8] ^= 1 << (bit % 8);
        peer.send_bytes(SECOND, &record);
        peer.assert_lost(SECOND, TcpFault::BadRecord, Some(Alert::BadRecordMac));
        peer.assert_lives(&[FIRST]);
        assert_eq!(peer.conn.accept_stream(), None);
        assert_eq!(peer.conn.peer_addresses().count(), 0);
    }
}

#[test]
fn a_bit_flipped_in_the_header_costs_the_tcp_connection_or_leaves_it_waiting() {
    for bit in 0..5 * 8 {
        let mut peer = two();
        let mut record = peer.seal(SECOND, DATA, &encoded(&[PING]));
        record[bit / 8] ^= 1 << (bit % 8);
        peer.send_bytes(SECOND, &record);
        // Enough to complete the record that a flipped length announces.
        peer.send_bytes(SECOND, &[0; 1 << 15]);
        assert!(peer.conn.tcp_connections().all(|tcp| tcp == FIRST), "bit {bit}");
        peer.assert_lives(&[FIRST]);
    }
}

// A replayed, reordered or diverted record does not open: number and TCP connection are part of its nonce.
// draft I24
#[test]
fn replayed_record_costs_the_tcp_connection() {
    let mut peer = two();
    let record = peer.seal(SECOND, DATA, &encoded(&[stream(0, 0, b"hi")]));
    peer.send_bytes(SECOND, &record);
    peer.events.clear();
    peer.send_bytes(SECOND, &record);
    peer.assert_lost(SECOND, TcpFault::BadRecord, Some(Alert::BadRecordMac));
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "hi");
}

#[test]
fn a_record_that_overtakes_another_costs_the_tcp_connection() {
    let mut peer = two();
    let _first = peer.seal(SECOND, DATA, &encoded(&[PING]));
    let second = peer.seal(SECOND, DATA, &encoded(&[PING]));
    peer.send_bytes(SECOND, &second);
    peer.assert_lost(SECOND, TcpFault::BadRecord, Some(Alert::BadRecordMac));
}

// draft I26
#[test]
fn a_record_of_one_tcp_connection_does_not_open_on_another() {
    let mut peer = two();
    let record = peer.seal(FIRST, DATA, &encoded(&[PING]));
    peer.send_bytes(SECOND, &record);
    peer.assert_lost(SECOND, TcpFault::BadRecord, Some(Alert::BadRecordMac));
    peer.send_bytes(FIRST, &record);
    peer.assert_lives(&[FIRST]);
}

#[test]
fn after_a_bad_record_nothing_that_follows_on_that_tcp_connection_is_read() {
    let mut peer = two();
    let mut bytes = vec![23, 3, 3, 0, 17];
    bytes.extend([9; 17]);
    bytes.extend(peer.seal(SECOND, DATA, &encoded(&[stream(0, 0, b"late")])));
    peer.send_bytes(SECOND, &bytes);
    peer.send_bytes(SECOND, b"more");
    peer.assert_lost(SECOND, TcpFault::BadRecord, Some(Alert::BadRecordMac));
    assert_eq!(peer.conn.accept_stream(), None);
}

// draft I22; protocol.md, 6
// draft I20, I44
#[test]
fn loss_is_reported_with_the_final_ack_in_the_same_record() {
    let mut peer = two();
    let last = peer.send(SECOND, &[stream(0, 0, b"heard")]);
    peer.send_bytes(SECOND, &[0xff; 5]);
    let told = peer.recv(FIRST);
    let record = told.iter().find(|record| record.frames().contains(&connection_reset_reason(SECOND, 2)));
    let frames = record.expect("Connection Reset goes out on the other").frames();
    // The ACKs stand last and are processed first.
    assert!(frames.iter().skip_while(|frame| !matches!(frame, Frame::Ack(_))).any(|frame| *frame == ack(SECOND, last)));
}

#[test]
fn retirement_is_reported_to_the_peer() {
    let mut peer = two();
    peer.conn.retire_tcp(peer.now, SECOND).unwrap();
    peer.rest();
    peer.sleep(4_000);
    peer.assert_lives(&[FIRST]);
    assert!(frames_of(&peer.recv(FIRST)).contains(&connection_reset_reason(SECOND, 5)));
}

#[test]
fn user_timeout_is_reported_to_the_peer() {
    let mut peer = two();
    peer.conn.ping(SECOND).unwrap();
    peer.recv(SECOND);
    let mut told = Vec::new();
    for _ in 0..11 {
        peer.sleep(1_000);
        told.extend(peer.recv(FIRST));
        peer.send(FIRST, &[ack(FIRST, peer.received(FIRST) - 1)]);
    }
    peer.assert_lives(&[FIRST]);
    assert!(frames_of(&told).contains(&connection_reset_reason(SECOND, 4)));
}

// draft I22
#[test]
fn data_in_flight_on_a_lost_tcp_connection_is_reinjected_on_another() {
    let mut peer = two();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).attach(SECOND).unwrap();
    peer.conn.stream(id).write(b"precious").unwrap();
    assert_eq!(frames_of(&peer.recv(SECOND)), [stream(id.0, 0, b"precious")]);
    assert_eq!(frames_of(&peer.recv(FIRST)), []);
    peer.send_bytes(SECOND, &[0xff; 5]);
    let again = peer.recv(FIRST);
    assert!(frames_of(&again).contains(&stream(id.0, 0, b"precious")), "{again:?}");
    assert_eq!(peer.recv(FIRST), [], "and once only");
}

#[test]
fn the_final_ack_beside_a_connection_reset_is_processed_first() {
    let mut peer = two();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).attach(SECOND).unwrap();
    let mut sent = Vec::new();
    for data in [&b"heard"[..], b"lost"] {
        peer.conn.stream(id).write(data).unwrap();
        sent.extend(peer.recv(SECOND));
    }
    let heard = sent[0].number.unwrap();
    peer.send(FIRST, &[connection_reset(SECOND), ack(SECOND, heard)]);
    assert_eq!(
        peer.tcp_events(),
        [TcpEvent::Lost { tcp: SECOND, fault: TcpFault::PeerReset(0) }, TcpEvent::Discarded { tcp: SECOND }]
    );
    let again = peer.recv(FIRST);
    let data: Vec<_> = frames_of(&again).into_iter().filter(|frame| frame.ty() == ty::STREAM).collect();
    assert_eq!(data, [stream(id.0, 5, b"lost")], "what was acknowledged is not sent again");
}

// draft I22
#[test]
fn connection_reset_is_answered_with_the_final_ack() {
    let mut peer = two();
    let last = peer.send(SECOND, &[stream(0, 0, b"x")]);
    peer.send(FIRST, &[connection_reset_reason(SECOND, 4)]);
    let answer = peer.recv(FIRST);
    assert!(frames_of(&answer).contains(&ack(SECOND, last)), "{answer:?}");
    assert!(!frames_of(&answer).iter().any(|frame| matches!(frame, Frame::ConnectionReset(_))), "no echo");
}

#[test]
fn final_acks_that_one_record_does_not_hold_go_out_in_the_next() {
    let mut peer = Peer::with(Side::Client, Config::default().with(|config| config.max_tcp_connections = 16));
    let joined: Vec<ConnectionId> = (0..9)
        .map(|_| {
            peer.recv(FIRST);
            peer.join()
        })
        .collect();
    let resets: Vec<_> = joined.iter().map(|tcp| connection_reset(*tcp)).collect();
    peer.send(FIRST, &resets);
    let answer = peer.recv(FIRST);
    let acks = |tcp: &ConnectionId| frames_of(&answer).contains(&ack(*tcp, 0));
    assert!(joined.iter().all(acks), "{answer:?}");
}

#[test]
fn late_ack_for_a_lost_tcp_connection_is_no_violation() {
    let mut peer = two();
    let last = peer.received(SECOND) - 1;
    peer.send_bytes(SECOND, &[0xff; 5]);
    peer.send(FIRST, &[ack(SECOND, last)]);
    peer.assert_lives(&[FIRST]);
    peer.send(FIRST, &[ack(SECOND, last + 100)]);
    peer.assert_failed(Rule::AckOfUnsent);
}

#[test]
fn a_bad_record_on_the_last_tcp_connection_strands_the_session_and_a_join_saves_it() {
    let mut peer = Peer::client();
    peer.send_bytes(FIRST, &[0xff; 5]);
    assert!(matches!(peer.conn.state(), State::Stranded { .. }));
    let second = peer.join();
    peer.assert_lives(&[second]);
    assert!(peer.take_events().contains(&Event::Recovered));
    let told = peer.recv(second);
    assert!(frames_of(&told).contains(&connection_reset_reason(FIRST, 2)), "{told:?}");
}

#[test]
fn stranded_session_ends_after_the_session_timeout() {
    let mut peer = Peer::client();
    peer.send_bytes(FIRST, &[0xff; 5]);
    peer.sleep(59_999);
    assert!(matches!(peer.conn.state(), State::Stranded { .. }));
    peer.sleep(1);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Stranded));
}

#[test]
fn too_many_records_that_fail_to_open_end_the_session() {
    // Three may fail, the fourth is one too many.
    let mut peer = two_with(Config::default().with(|config| config.integrity_limit = Some(3)));
    let forged = [&[23, 3, 3, 0, 40][..], &[9; 40]].concat();
    peer.send_bytes(SECOND, &forged);
    for _ in 0..2 {
        peer.recv(FIRST);
        let tcp = peer.join();
        peer.send_bytes(tcp, &forged);
        peer.assert_lives(&[FIRST]);
    }
    peer.recv(FIRST);
    let last = peer.join();
    peer.send_bytes(last, &forged);
    peer.assert_failed_on(Rule::IntegrityLimit, &[FIRST, last]);
}

#[test]
fn only_the_first_close_session_counts() {
    let mut peer = two();
    peer.send(FIRST, &[close_session(7)]);
    peer.send(SECOND, &[close_session(8)]);
    let closing = |event: &Event| matches!(event, Event::PeerClosing { .. });
    let told: Vec<Event> = peer.take_events().into_iter().filter(closing).collect();
    assert_eq!(told, [Event::PeerClosing { error: ErrorCode(7) }]);
}

#[test]
fn closing_by_the_peer_is_reported_once_even_with_close_notify_alone() {
    for says_why in [false, true] {
        let mut peer = two();
        let told =
            |peer: &mut Peer| peer.take_events().iter().filter(|e| matches!(e, Event::PeerClosing { .. })).count();
        if says_why {
            peer.send(FIRST, &[close_session(7)]);
            assert_eq!(told(&mut peer), 1);
        }
        peer.send_raw(FIRST, ALERT, &[1, 0]);
        assert_eq!(told(&mut peer), usize::from(!says_why));
        peer.send_raw(SECOND, ALERT, &[1, 0]);
        assert_eq!(told(&mut peer), 0);
    }
}

#[test]
fn a_record_cut_short_by_the_end_of_its_tcp_connection_is_not_acted_on() {
    for how in [TcpEnd::Fin, TcpEnd::Reset] {
        let mut peer = two();
        let record = peer.seal(SECOND, DATA, &encoded(&[stream(0, 0, b"hi")]));
        for cut in 1..record.len() {
            peer.send_bytes(SECOND, &record[cut - 1..cut]);
        }
        peer.conn.handle_tcp_end(peer.now, SECOND, how);
        let fault = if how == TcpEnd::Fin { TcpFault::Fin } else { TcpFault::Reset };
        peer.assert_lost(SECOND, fault, None);
        assert_eq!(peer.conn.accept_stream(), None);
    }
}

#[test]
fn records_received_byte_by_byte_are_taken_when_complete() {
    let mut peer = two();
    let record = peer.seal(SECOND, DATA, &encoded(&[stream(0, 0, b"hi")]));
    record.chunks(1).for_each(|byte| peer.send_bytes(SECOND, byte));
    peer.assert_lives(&[FIRST, SECOND]);
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "hi");
}

#[test]
fn an_alert_about_a_spoilt_record_costs_only_its_tcp_connection() {
    for description in [10, 20, 22] {
        let mut peer = two();
        peer.send_raw(SECOND, ALERT, &[2, description]);
        peer.assert_lost(SECOND, TcpFault::Alert(description), None);
        assert!(frames_of(&peer.recv(FIRST)).contains(&connection_reset_reason(SECOND, 3)));
        peer.assert_lives(&[FIRST]);
    }
}

#[test]
fn any_other_fatal_alert_ends_the_session() {
    for description in [40, 47, 50, 80, 255] {
        let mut peer = two();
        peer.send_raw(SECOND, ALERT, &[2, description]);
        let reason = CloseReason::Violation(Rule::FatalAlert(description));
        assert_eq!(peer.conn.close_reason(), Some(&reason));
        assert_eq!(peer.take_events().last(), Some(&Event::Closed { reason }));
    }
}

#[test]
fn any_fatal_alert_after_close_session_ends_the_session() {
    for description in [10, 20, 22, 47, 50] {
        let mut peer = two();
        peer.send(SECOND, &[close_session(0x777)]);
        peer.send_raw(SECOND, ALERT, &[2, description]);
        let reason = CloseReason::Peer { error: ErrorCode(0x777), reason: b"enough".to_vec() };
        assert_eq!(peer.conn.close_reason(), Some(&reason), "alert {description}");
        assert_eq!(peer.take_events().last(), Some(&Event::Closed { reason }));
    }
}

#[test]
fn an_alert_of_other_than_two_bytes_ends_the_session() {
    for body in [&[1][..], &[1, 0, 0], &[0; 100]] {
        let mut peer = Peer::client();
        peer.send_raw(FIRST, ALERT, body);
        peer.assert_failed(Rule::FatalAlert(255));
    }
}

// draft I28
#[test]
fn records_after_close_notify_are_ignored_on_that_tcp_connection_only() {
    let mut peer = two();
    peer.send_raw(SECOND, ALERT, &[1, 0]);
    peer.send(SECOND, &[stream(0, 0, b"late")]);
    peer.send_raw(SECOND, DATA, &[0x0a]);
    peer.send_bytes(SECOND, &[0xff; 10]);
    assert_eq!(peer.conn.accept_stream(), None);
    assert_eq!(peer.conn.close_reason(), None);
    peer.send(FIRST, &[fin(2, 0, b"sent before")]);
    assert_eq!(peer.conn.stream(StreamId(2)).read(100).unwrap().unwrap(), "sent before");
    assert_eq!(peer.conn.stream(StreamId(2)).read(100), Ok(None));
}

// draft I28; docs/threat-model.md, attack 19
#[test]
fn streams_are_cut_short_only_once_every_tcp_connection_has_ended() {
    let mut peer = two();
    peer.send(FIRST, &[stream(0, 0, b"half")]);
    peer.send_raw(SECOND, ALERT, &[1, 0]);
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "half");
    assert_eq!(peer.conn.stream(StreamId(0)).read(100), Err(ReadError::Blocked), "the rest may be on its way");
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert_eq!(peer.conn.stream(StreamId(0)).read(100), Err(ReadError::Truncated));
}

#[test]
fn streams_are_cut_short_when_the_last_tcp_connection_without_close_notify_is_lost() {
    let mut peer = two();
    peer.send(FIRST, &[stream(0, 0, b"half")]);
    peer.send_raw(SECOND, ALERT, &[1, 0]);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    assert_eq!(peer.conn.stream(StreamId(0)).read(100).unwrap().unwrap(), "half");
    assert_eq!(peer.conn.stream(StreamId(0)).read(100), Err(ReadError::Truncated));
}

#[test]
fn session_ends_with_the_last_tcp_connection_after_the_peers_close_notify() {
    let mut peer = Peer::client();
    peer.conn.open_stream().unwrap();
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    peer.assert_lives(&[FIRST]);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Fin);
    peer.assert_lives(&[FIRST]);
    peer.conn.handle_tcp_end(peer.now, FIRST, TcpEnd::Reset);
    assert_eq!(peer.conn.state(), State::Closed);
}

// draft E03
// draft I29
#[test]
fn close_notify_is_sent_before_the_last_tcp_connection_closes() {
    let mut peer = two();
    peer.conn.close(peer.now, ErrorCode(7), b"bye");
    for tcp in [FIRST, SECOND] {
        let last = peer.recv(tcp);
        assert_eq!(last.last().and_then(Record::alert), Some(0), "{tcp}");
        assert!(matches!(frames_of(&last)[..], [Frame::CloseSession(close)] if close.error == ErrorCode(7)));
    }
    assert!(peer.conn.tcp_connections().count() == 2, "the peer has not said it yet");
    peer.send_raw(FIRST, ALERT, &[1, 0]);
    assert_eq!(peer.take_events().last(), Some(&Event::Closed { reason: CloseReason::Local { error: ErrorCode(7) } }));
}

#[test]
fn missing_close_notify_delays_the_end_by_the_close_timeout() {
    let mut peer = two();
    peer.conn.close(peer.now, ErrorCode(7), b"bye");
    peer.recv(FIRST);
    peer.recv(SECOND);
    peer.sleep(5_000);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(7) }));
}

#[test]
fn close_that_times_out_waiting_for_acknowledgments_still_sends_its_reason() {
    let mut peer = two();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"anyone?").unwrap();
    peer.recv(FIRST);
    peer.conn.close(peer.now, ErrorCode(7), b"bye");
    peer.sleep(5_000);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Local { error: ErrorCode(7) }));
    for tcp in [FIRST, SECOND] {
        let words = peer.recv(tcp);
        let says_why = |frame: &Frame<'_>| matches!(frame, Frame::CloseSession(close) if close.error == ErrorCode(7));
        assert!(frames_of(&words).iter().any(says_why), "{words:?}");
    }
}

#[test]
fn idle_session_ends_with_the_code_idle_timeout() {
    let idle_timeout = Some(core::time::Duration::from_secs(5));
    let mut peer = two_with(Config::default().with(|config| config.idle_timeout = idle_timeout));
    peer.sleep(5_000);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::IdleTimeout));
    let words = peer.recv(FIRST);
    let says_why = |frame: &Frame<'_>| matches!(frame, Frame::CloseSession(close) if close.error == code::IDLE_TIMEOUT);
    assert!(frames_of(&words).iter().any(says_why), "{words:?}");
}

#[test]
fn post_handshake_messages_that_tls_does_not_have_here_end_the_session() {
    let client_hello: &[u8] = &[1, 0, 0, 0];
    let finished: &[u8] = &[20, 0, 0, 1, 0];
    let ticket_from_client: &[u8] = &[4, 0, 0, 1, 0];
    let key_update_of_2: &[u8] = &[24, 0, 0, 1, 2];
    let key_update_of_two_bytes: &[u8] = &[24, 0, 0, 2, 0, 0];
    let key_update_and_more: &[u8] = &[24, 0, 0, 1, 0, 24];
    for message in
        [client_hello, finished, ticket_from_client, key_update_of_2, key_update_of_two_bytes, key_update_and_more]
    {
        let mut peer = Peer::client();
        peer.send_raw(FIRST, HANDSHAKE, message);
        peer.assert_failed(Rule::HandshakeMessage);
    }
}

#[test]
fn a_ticket_that_is_none_ends_the_session() {
    let mut peer = Peer::server();
    peer.send_raw(FIRST, HANDSHAKE, &[4, 0, 0, 3, 1, 2, 3]);
    peer.assert_failed(Rule::HandshakeMessage);
}

#[test]
fn no_tcp_connection_of_a_failed_session_takes_anything_more() {
    let mut peer = two();
    peer.send_raw(FIRST, DATA, &[0x0a]);
    peer.send(SECOND, &[stream(0, 0, b"late")]);
    peer.sleep(100_000);
    assert_eq!(peer.conn.accept_stream(), None);
    peer.assert_failed_on(Rule::UnknownFrame(0x0a), &[FIRST, SECOND]);
}
