//! A peer that follows the protocol, but causes useless work or memory. Both are bounded per peer; above the bound the
//! session ends with `ENHANCE_YOUR_CALM` (`docs/protocol.md`, 9; attacks 3 to 13 and 21).

use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::error::Violation as Rule;
use tcpls_core::error::WriteError;
use tcpls_core::event::{Event, StreamEvent};
use tcpls_core::testing::hello::CHANGE_CIPHER_SPEC;
use tcpls_core::wire::frame::{Frame, Parameters};
use tcpls_core::wire::ids::{ConnectionId, Side, StreamId};

use crate::support::peer::frames::*;
use crate::support::peer::{ALERT, FIRST, GENEROUS, HANDSHAKE, Peer, SECOND, entries, frames_of};

const BUDGET: usize = 500;

fn small_budget() -> Config {
    Config::default().with(|config| config.overhead_budget = BUDGET as u32)
}

/// Lets a peer repeat itself, without time passing, until the session ends with `ENHANCE_YOUR_CALM`, after about
/// `units` times.
fn calms_down(mut peer: Peer, units: usize, mut again: impl FnMut(&mut Peer, usize)) {
    let mut count = 0;
    while peer.conn.close_reason().is_none() {
        assert!(
            count <= units + units / 10 + 10,
            "no end after {count} times: {:?}",
            peer.conn.stats().frames_received
        );
        again(&mut peer, count);
        count += 1;
    }
    assert!(count + 10 >= units * 9 / 10, "ended after {count} times already");
    peer.assert_failed(Rule::EnhanceYourCalm);
}

/// One of these frames in a record, many times.
fn repeated(side: Side, frame: &Frame<'_>) {
    calms_down(Peer::with(side, small_budget()), BUDGET, |peer, _| _ = peer.send(FIRST, &[*frame]));
}

#[test]
fn control_frames_without_end_end_the_session() {
    let generous = entries(&GENEROUS);
    for frame in [
        PING,
        padding(1),
        stream_change(0, 0),
        parameters(&generous),
        max_data(1),
        max_stream_data(0, 1),
        max_streams(1),
        address(1, 1),
        remove_address(1),
        connection_status(FIRST, true),
        reset_stream(0, 0),
        stop_sending(0),
        connection_reset(SECOND),
        stream(0, 0, b""),
        fin(0, 0, b""),
        tcp_option(28, &[1, 2]),
        ack(FIRST, 0),
    ] {
        repeated(Side::Client, &frame);
    }
    repeated(Side::Server, &token(1, 1));
    repeated(Side::Server, &token_wide(300, 1));
}

#[test]
fn many_frames_in_one_record_cost_as_much_as_in_many_records() {
    let pings = vec![PING; BUDGET / 4];
    calms_down(Peer::with(Side::Client, small_budget()), 4, |peer, _| _ = peer.send(FIRST, &pings));
    let mut peer = Peer::client();
    peer.send(FIRST, &[PING; 16_000]);
    peer.assert_lives(&[FIRST]);
    peer.send(FIRST, &[PING; 16_000]);
    peer.assert_failed(Rule::EnhanceYourCalm);
}

#[test]
fn records_full_of_padding_cost_more_than_small_ones() {
    let pads = padding(1 << 14);
    calms_down(Peer::with(Side::Client, small_budget()), BUDGET / 5, |peer, _| _ = peer.send(FIRST, &[pads]));
}

#[test]
fn a_long_tcp_option_costs_more_than_a_short_one() {
    let value = [7; 64 * 9];
    calms_down(Peer::with(Side::Client, small_budget()), BUDGET / 10, |peer, _| {
        _ = peer.send(FIRST, &[tcp_option(28, &value)]);
    });
}

#[test]
fn a_request_for_a_tcp_option_costs_as_much_as_ten_control_frames() {
    let request = option_request(0, FIRST, 28, &[0, 30]);
    calms_down(Peer::with(Side::Client, small_budget()), BUDGET / 10, |peer, _| _ = peer.send(FIRST, &[request]));
}

#[test]
fn data_that_was_there_already_counts_as_overhead() {
    let data = [7; 1000];
    calms_down(Peer::with(Side::Client, small_budget()), BUDGET, |peer, _| {
        _ = peer.send(FIRST, &[stream(0, 0, &data)])
    });
}

#[test]
fn useful_data_and_time_pay_for_overhead() {
    let mut peer = Peer::with(Side::Client, small_budget());
    for n in 0..2 * BUDGET as u64 {
        peer.send(FIRST, &[stream(0, n * 1024, &[7; 1024]), PING]);
        peer.conn.stream(StreamId(0)).read(1 << 20).unwrap();
    }
    for _ in 0..4 * BUDGET {
        peer.send(FIRST, &[PING]);
        peer.sleep(1);
    }
    peer.assert_lives(&[FIRST]);
}

// docs/threat-model.md, attacks 5 and 9
#[test]
fn many_pings_are_answered_by_one_ack() {
    let mut peer = Peer::client();
    let mut last = 0;
    for _ in 0..10_000 {
        last = peer.send(FIRST, &[PING]);
    }
    let answer = peer.recv(FIRST);
    assert_eq!(frames_of(&answer), [ack(FIRST, last)]);
}

#[test]
fn pending_answers_are_bounded_for_a_peer_that_does_not_read() {
    let mut peer = Peer::client();
    for n in 0..2_000 {
        let id = (n % 15) as u8;
        peer.send(FIRST, &[PING, address(id, id), remove_address(id), max_data(n), tcp_option(28, &[0; 4])]);
        peer.take_events();
    }
    peer.assert_lives(&[FIRST]);
    let mut out = Vec::new();
    assert!(peer.conn.poll_transmit(peer.now, FIRST, usize::MAX >> 1, &mut out) < 200);
}

// docs/threat-model.md, attack 3
#[test]
fn streams_that_end_as_they_open_are_bounded_by_those_the_application_has_taken() {
    let mut peer = Peer::client();
    let limit = Config::default().max_streams;
    for index in 0..limit {
        peer.send(FIRST, &[fin(index * 2, 0, b"x")]);
    }
    peer.assert_lives(&[FIRST]);
    let answer = peer.recv(FIRST);
    assert!(!frames_of(&answer).iter().any(|frame| matches!(frame, Frame::MaxStreams(_))), "no credit for them");
    assert_eq!(peer.conn.stats().streams_open, limit as usize);
    peer.send(FIRST, &[fin(limit * 2, 0, b"x")]);
    peer.assert_failed(Rule::TooManyStreams(limit * 2));
}

/// What an application does that answers each stream at once.
fn serve(conn: &mut Connection) {
    while let Some(id) = conn.accept_stream() {
        while matches!(conn.stream(id).read(1 << 16), Ok(Some(_))) {}
        _ = conn.stream(id).finish();
    }
}

#[test]
fn memory_stays_flat_over_a_hundred_thousand_short_streams() {
    let mut peer = Peer::with(Side::Client, Config::default().with(|config| config.overhead_budget = 1 << 30));
    let mut allowed = Config::default().max_streams;
    for index in 0..100_000 {
        while index >= allowed {
            let answer = peer.recv(FIRST);
            let last = peer.received(FIRST) - 1;
            peer.send(FIRST, &[ack(FIRST, last)]);
            for frame in frames_of(&answer) {
                if let Frame::MaxStreams(max) = frame {
                    allowed = max.maximum;
                }
            }
        }
        peer.send(FIRST, &[fin(index * 2, 0, b"x")]);
        serve(&mut peer.conn);
        peer.take_events();
        let stats = peer.conn.stats();
        assert!(stats.streams_open <= 128 && stats.bytes_to_read < 1 << 16, "{stats:?}");
    }
    peer.assert_lives(&[FIRST]);
}

#[test]
fn streams_reset_as_they_open_end_the_session_without_other_data() {
    let mut allowed = Config::default().max_streams;
    let mut peer = Peer::client();
    let mut resets = 0;
    for index in 0..100_000 {
        if index >= allowed {
            let answer = peer.recv(FIRST);
            let last = peer.received(FIRST) - 1;
            peer.send(FIRST, &[ack(FIRST, last)]);
            let raised = frames_of(&answer).into_iter().find_map(|frame| match frame {
                Frame::MaxStreams(max) => Some(max.maximum),
                _ => None,
            });
            let Some(maximum) = raised else { break };
            allowed = maximum;
        }
        peer.send(FIRST, &[reset_stream(index * 2, 0), stop_sending(index * 2)]);
        serve(&mut peer.conn);
        peer.take_events();
        resets += 1;
        assert!(peer.conn.stats().streams_open <= 128);
        if peer.conn.close_reason().is_some() {
            break;
        }
    }
    assert!(resets <= 12_000, "{resets} streams were opened and reset for nothing");
}

/// The application does not accept the opened streams.
#[test]
fn streams_that_are_reset_before_anyone_looks_do_not_pile_up() {
    let mut peer = Peer::client();
    let mut allowed = Config::default().max_streams;
    let mut index = 0;
    while index < allowed && peer.conn.close_reason().is_none() {
        peer.send(FIRST, &[reset_stream(index * 2, 0), stop_sending(index * 2)]);
        index += 1;
        let answer = peer.recv(FIRST);
        let last = peer.received(FIRST) - 1;
        peer.send(FIRST, &[ack(FIRST, last)]);
        for frame in frames_of(&answer) {
            if let Frame::MaxStreams(max) = frame {
                allowed = max.maximum;
            }
        }
    }
    let mut waiting = 0;
    while peer.conn.accept_stream().is_some() {
        waiting += 1;
    }
    assert!(waiting <= 128, "{waiting} streams wait to be accepted");
}

// docs/threat-model.md, attack 6
#[test]
fn single_bytes_with_gaps_hold_bounded_memory() {
    let mut peer = Peer::client();
    for n in 0..1_000 {
        peer.send(FIRST, &[stream(0, 1 + 2 * n, b"x")]);
    }
    peer.assert_lives(&[FIRST]);
    assert!(peer.conn.stats().bytes_to_read <= 1_000 * 256, "{}", peer.conn.stats().bytes_to_read);
    for n in 1_000..2_000 {
        peer.send(FIRST, &[stream(0, 1 + 2 * n, b"x")]);
    }
    peer.assert_failed(Rule::TooManyGaps(0));
}

#[test]
fn one_unread_byte_does_not_keep_its_record_in_memory() {
    let mut peer = Peer::client();
    for n in 0..1_000 {
        peer.send(FIRST, &[stream(0, 1 + 2 * n, b"x"), padding(4_000)]);
    }
    peer.assert_lives(&[FIRST]);
    assert!(peer.conn.stats().bytes_to_read <= 1_000 * 256, "{}", peer.conn.stats().bytes_to_read);
}

// docs/threat-model.md, attack 12
#[test]
fn thirty_two_key_updates_a_second_are_allowed_and_the_next_ends_the_session() {
    let mut peer = Peer::client();
    for _ in 0..32 {
        peer.update_keys(FIRST, false);
        peer.send(FIRST, &[PING]);
    }
    peer.assert_lives(&[FIRST]);
    peer.sleep(1_000);
    for _ in 0..32 {
        peer.update_keys(FIRST, false);
    }
    peer.assert_lives(&[FIRST]);
    peer.update_keys(FIRST, false);
    peer.assert_failed(Rule::TooManyKeyUpdates);
}

#[test]
fn requested_key_updates_are_answered_once_until_the_answer_went_out() {
    let mut peer = Peer::client();
    for _ in 0..10 {
        peer.update_keys(FIRST, true);
    }
    let answer = peer.recv(FIRST);
    let updates = answer.iter().filter(|record| record.content_type == HANDSHAKE).count();
    assert_eq!(updates, 1);
    assert_eq!(peer.conn.stats().key_updates, (1, 10));
    // No generation starts before the peer has shown that it has the one before: it is asked for a sign. Nor at once.
    peer.sleep(40);
    peer.update_keys(FIRST, true);
    let asked = peer.recv(FIRST);
    assert_eq!(frames_of(&asked), [PING]);
    let last = peer.received(FIRST) - 1;
    peer.send(FIRST, &[ack(FIRST, last)]);
    assert_eq!(peer.recv(FIRST).iter().filter(|record| record.content_type == HANDSHAKE).count(), 1);
}

/// A New Session Ticket: lifetime, age, nonce, ticket, no extensions (RFC 8446, 4.6.1).
fn ticket() -> Vec<u8> {
    let body = [&[0, 0, 0, 60, 1, 2, 3, 4, 1, 9, 0, 32][..], &[5; 32], &[0, 0]].concat();
    [&[4, 0, 0, body.len() as u8][..], &body].concat()
}

// docs/threat-model.md, attack 11
#[test]
fn of_many_tickets_four_are_kept_and_they_count_as_overhead() {
    let mut peer = Peer::with(Side::Server, small_budget());
    let before = peer.conn.stats().limits.tickets_dropped;
    for _ in 0..100 {
        peer.send_raw(FIRST, HANDSHAKE, &ticket());
    }
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.stats().limits.tickets_dropped - before, 98, "two came with the handshake");
    calms_down(peer, BUDGET - 100, |peer, _| _ = peer.send_raw(FIRST, HANDSHAKE, &ticket()));
}

// docs/threat-model.md, attack 4
#[test]
fn a_post_handshake_message_in_endless_fragments_ends_the_session() {
    let mut peer = Peer::server();
    peer.send_raw(FIRST, HANDSHAKE, &[4, 0, 0xff, 0xff]);
    let mut fragments = 1;
    while peer.conn.close_reason().is_none() {
        peer.send_raw(FIRST, HANDSHAKE, &[0]);
        fragments += 1;
        assert!(fragments <= 65);
    }
    peer.assert_failed(Rule::HandshakeMessage);
}

#[test]
fn a_post_handshake_message_longer_than_64_kib_ends_the_session() {
    let mut peer = Peer::server();
    peer.send_raw(FIRST, HANDSHAKE, &[&[4, 0xff, 0xff, 0xff][..], &[0; 16_000]].concat());
    for _ in 0..3 {
        peer.send_raw(FIRST, HANDSHAKE, &[0; 16_000]);
        peer.assert_lives(&[FIRST]);
    }
    peer.send_raw(FIRST, HANDSHAKE, &[0; 16_000]);
    peer.assert_failed(Rule::HandshakeMessage);
}

// docs/threat-model.md, attack 13
#[test]
fn warning_alerts_without_end_end_the_session() {
    let user_canceled = [1, 90];
    calms_down(Peer::with(Side::Client, small_budget()), BUDGET, |peer, _| {
        _ = peer.send_raw(FIRST, ALERT, &user_canceled);
    });
}

#[test]
fn change_cipher_specs_without_end_end_the_handshake() {
    let mut peer = Peer::before_finished(Config::default());
    let mut count = 0;
    while peer.conn.close_reason().is_none() {
        peer.send_bytes(FIRST, &CHANGE_CIPHER_SPEC);
        count += 1;
        assert!(count <= 3);
    }
}

// docs/threat-model.md, attack 21
#[test]
fn writes_to_a_peer_that_never_acknowledges_are_refused_at_the_send_buffer() {
    let config = Config::default().with(|config| {
        config.send_buffer = 100_000;
        config.stream_send_buffer = 60_000;
    });
    let mut peer = Peer::with(Side::Client, config);
    let ids = [(); 3].map(|()| peer.conn.open_stream().unwrap());
    let mut written = 0;
    for id in ids.into_iter().cycle().take(1000) {
        match peer.conn.stream(id).write(&[7; 7_000]) {
            Ok(taken) => written += taken,
            Err(error) => assert_eq!(error, WriteError::Blocked),
        }
        peer.recv(FIRST);
        assert!(peer.conn.stats().bytes_to_send <= 100_000);
    }
    assert_eq!(written, 100_000);
    peer.take_events();
    let last = peer.received(FIRST) - 1;
    peer.send(FIRST, &[ack(FIRST, last)]);
    let told = peer.take_events();
    assert!(told.iter().any(|event| matches!(event, Event::Stream(StreamEvent::Writable { .. }))), "{told:?}");
    assert!(peer.conn.stream(ids[0]).write(b"more").is_ok());
}

#[test]
fn a_peer_that_never_acknowledges_loses_its_tcp_connection_after_the_user_timeout() {
    let mut peer = Peer::client();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"anyone?").unwrap();
    peer.recv(FIRST);
    peer.sleep(9_999);
    peer.assert_lives(&[FIRST]);
    peer.sleep(1);
    assert_eq!(peer.conn.tcp_connections().count(), 0);
}

/// A client asks for large answers, 9 in 20 ms, and stops each when it has asked for eight more. The server writes as much as
/// there is room for. Returns after how many requests it ended the session, if it did within `limit`.
fn ask_and_stop(peer: &mut Peer, limit: u32) -> Option<u32> {
    let answer = [7; 100_000];
    let mut answers = Vec::new();
    for n in 0..limit {
        peer.send(FIRST, &[fin(n * 2, 0, b"GET /large\r\n")]);
        while let Some(id) = peer.conn.accept_stream() {
            while let Ok(Some(_)) = peer.conn.stream(id).read(100) {}
            answers.push(id);
        }
        for id in &answers {
            while matches!(peer.conn.stream(*id).writable(), Ok(1..)) {
                peer.conn.stream(*id).write(&answer).unwrap();
            }
        }
        if n >= 8 {
            peer.recv(FIRST);
            let last = peer.received(FIRST) - 1;
            peer.send(FIRST, &[ack(FIRST, last), stop_sending((n - 8) * 2)]);
            answers.remove(0);
        }
        if n % 9 == 8 {
            peer.sleep(20);
        }
        if peer.conn.close_reason().is_some() {
            peer.assert_failed(Rule::EnhanceYourCalm);
            return Some(n);
        }
    }
    None
}

// Row 3.
#[test]
fn answers_that_are_stopped_for_want_of_the_clients_credit_end_the_session() {
    for (initial_max_data, initial_max_stream_data) in [(0, 0), (0, 1 << 40), (1 << 40, 0), (1 << 40, 1000)] {
        let parameters = Parameters { initial_max_data, initial_max_stream_data, ..GENEROUS };
        let mut peer = Peer::with_parameters(Side::Client, Config::default(), parameters);
        let ended = ask_and_stop(&mut peer, 6_750);
        assert!(ended.is_some_and(|n| (800..2_000).contains(&n)), "{ended:?}");
    }
}

// Row 3.
#[test]
fn four_hundred_answers_a_second_may_be_stopped_by_a_client_that_takes_them() {
    let parameters = Parameters { initial_max_stream_data: 300_000, ..GENEROUS };
    let mut peer = Peer::with_parameters(Side::Client, Config::default(), parameters);
    assert_eq!(ask_and_stop(&mut peer, 4_500), None);
    peer.assert_lives(&[FIRST]);
}

// docs/threat-model.md, attack 24
#[test]
fn acks_elicit_no_acks() {
    let mut peer = Peer::client();
    let last = peer.received(FIRST) - 1;
    for _ in 0..1_000 {
        peer.send(FIRST, &[ack(FIRST, last)]);
        peer.send(FIRST, &[padding(3)]);
        peer.sleep(30);
    }
    assert_eq!(peer.recv(FIRST), []);
}

// docs/threat-model.md, attack 24
#[test]
fn repeated_loss_report_causes_no_second_reinjection() {
    let mut peer = Peer::client();
    let second = peer.join();
    peer.rest();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).attach(second).unwrap();
    peer.conn.stream(id).write(&[7; 100_000]).unwrap();
    peer.recv(second);
    let mut bytes = 0;
    for _ in 0..100 {
        peer.send(FIRST, &[connection_reset(second)]);
        bytes += peer.recv(FIRST).iter().map(|record| record.content.len()).sum::<usize>();
    }
    assert!((100_000..110_000).contains(&bytes), "{bytes} bytes in answer to 100 small records");
}

#[test]
fn a_client_that_reports_tokens_as_lost_gets_no_more_than_it_may_hold() {
    let mut peer = Peer::client();
    for n in 1..=50 {
        peer.send(FIRST, &[connection_reset(ConnectionId(n))]);
        peer.recv(FIRST);
        assert!(peer.conn.tokens() <= 8);
    }
    peer.assert_lives(&[FIRST]);
}
