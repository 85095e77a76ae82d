//! Joins by attackers, and joins answered by attackers. A token crosses the network in plaintext, so an attacker may
//! have copied it. An invalid join fails alone, without the session (`docs/protocol.md`, 5).

use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::connection::Claim;
use tcpls_core::error::{Alert, CloseReason, JoinRefusal, OpenTcpError, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::stats::TcpPhase;
use tcpls_core::testing::hello::{CHANGE_CIPHER_SPEC, JoinHello, JoinServerHello};
use tcpls_core::wire::frame::{Frame, SessionParameters};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, Side, Token};

use crate::support::peer::frames::*;
use crate::support::peer::joins::{answer_bytes, hello_bytes};
use crate::support::peer::{ALERT, DATA, Dial, FIRST, GENEROUS, Peer, SECOND, encoded, entries, frames_of};

/// A fatal alert in plaintext.
fn in_clear(alert: Alert) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert as u8]
}

fn first_token(peer: &Peer) -> Token {
    peer.tokens[&1]
}

/// The claim is refused with this alert, without effect on the session.
fn assert_refused(peer: &mut Peer, dial: &Dial, alert: Alert) {
    assert_eq!(peer.conn.claim(dial.claim), Claim::Refused);
    assert_eq!(peer.conn.claim_refusal(dial.claim).map(JoinRefusal::alert), Some(alert));
    let said = peer.hear(dial);
    assert!(said.ends_with(&in_clear(alert)), "{said:?}");
    assert_eq!(peer.tcp_events(), []);
    peer.assert_lives(&[FIRST]);
}

// draft E10
#[test]
fn an_unknown_token_gets_illegal_parameter_in_clear() {
    let mut peer = Peer::client();
    let refused = peer.dial_hello(&peer.hello(Token([0x5a; 32]))).err();
    assert_eq!(refused, Some(in_clear(Alert::IllegalParameter).to_vec()));
    peer.assert_lives(&[FIRST]);
}

#[test]
fn a_token_with_any_bit_flipped_is_unknown() {
    let mut peer = Peer::client();
    for bit in 0..256 {
        let mut token = first_token(&peer);
        token.0[bit / 8] ^= 1 << (bit % 8);
        assert!(peer.dial_hello(&peer.hello(token)).is_err(), "bit {bit}");
    }
}

// draft I10, I11
// draft E10, I14
#[test]
fn a_used_token_gets_the_same_answer_as_an_unknown_one() {
    let mut peer = Peer::client();
    let token = first_token(&peer);
    peer.join();
    peer.events.clear();
    let dial = peer.dial_hello(&peer.hello(token)).unwrap();
    assert_eq!(peer.hear(&dial), in_clear(Alert::IllegalParameter));
    assert_eq!(peer.conn.claim(dial.claim), Claim::Refused);
    assert_eq!(peer.conn.claim_refusal(dial.claim), Some(JoinRefusal::Token));
    assert_eq!(peer.take_events(), []);
    peer.assert_lives(&[FIRST, SECOND]);
}

#[test]
fn a_token_that_was_used_stays_used_after_its_tcp_connection_ended() {
    let mut peer = Peer::client();
    let token = first_token(&peer);
    let second = peer.join();
    peer.send_bytes(second, &[0xff]);
    peer.events.clear();
    let dial = peer.dial_hello(&peer.hello(token)).unwrap();
    assert_refused(&mut peer, &dial, Alert::IllegalParameter);
}

#[test]
fn a_claim_gets_nothing_but_a_hello_until_a_record_opens() {
    let mut peer = Peer::client();
    let id = peer.conn.open_stream().unwrap();
    peer.conn.stream(id).write(b"for the client only").unwrap();
    let dial = peer.dial_hello(&peer.hello(first_token(&peer))).unwrap();
    assert_eq!(peer.conn.claim(dial.claim), Claim::Waiting);
    let said = peer.hear(&dial);
    assert_eq!(said[0], 22, "a ServerHello");
    assert!(said.ends_with(&CHANGE_CIPHER_SPEC));
    let hello_len = 5 + usize::from(u16::from_be_bytes([said[3], said[4]]));
    assert_eq!(said.len(), hello_len + CHANGE_CIPHER_SPEC.len(), "and nothing after it");
    assert_eq!(peer.tcp_events(), []);
    peer.assert_lives(&[FIRST]);
    assert_eq!(peer.conn.stats().tcp.len(), 1);
}

#[test]
fn first_authenticated_claim_of_a_token_takes_it() {
    let mut peer = Peer::client();
    let token = first_token(&peer);
    let eavesdropper = peer.dial_hello(&peer.hello(token)).unwrap();
    let mut client = peer.dial_hello(&peer.hello(token)).unwrap();
    let other = peer.dial_hello(&peer.hello(token)).unwrap();
    let ping = peer.seal(SECOND, DATA, &encoded(&[PING]));
    assert_eq!(peer.feed(&mut client, &ping), Claim::Authenticated(SECOND));
    assert_eq!(peer.tcp_events(), [TcpEvent::Joined { tcp: SECOND }]);
    for loser in [eavesdropper, other] {
        assert_eq!(peer.conn.claim(loser.claim), Claim::Refused);
        assert_eq!(peer.conn.claim_refusal(loser.claim), Some(JoinRefusal::Overtaken));
        assert!(peer.hear(&loser).ends_with(&in_clear(Alert::IllegalParameter)));
    }
    peer.assert_lives(&[FIRST, SECOND]);
}

#[test]
fn claims_that_were_turned_away_do_not_pile_up() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    assert_eq!(peer.join(), SECOND);
    let dials: Vec<Dial> = (0..1_000).map(|_| peer.dial_hello(&hello).unwrap()).collect();
    assert!(dials.iter().all(|dial| peer.conn.claim(dial.claim) == Claim::Refused));
    assert!(peer.hear(&dials[0]).is_empty(), "it has not asked in time");
    assert_eq!([0, 999].map(|n| peer.conn.claim_refusal(dials[n].claim)), [None, Some(JoinRefusal::Token)]);
    assert!(peer.hear(&dials[999]).ends_with(&in_clear(Alert::IllegalParameter)));
}

#[test]
fn state_of_a_claim_is_kept_while_its_tcp_connection_is_live() {
    let mut peer = Peer::client();
    let [mut second, mut third] = [1, 2].map(|n| peer.dial_hello(&peer.hello(peer.tokens[&n])).unwrap());
    for (dial, tcp) in [(&mut second, SECOND), (&mut third, ConnectionId(2))] {
        let ping = peer.seal(tcp, DATA, &encoded(&[PING]));
        assert_eq!(peer.feed(dial, &ping), Claim::Authenticated(tcp));
    }
    peer.send_bytes(SECOND, &[0xff; 5]);
    assert_eq!(peer.conn.claim(third.claim), Claim::Authenticated(ConnectionId(2)));
    assert_eq!(peer.conn.claim(second.claim), Claim::Refused);
}

#[test]
fn at_most_four_may_show_one_token_at_once() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let dials: Vec<Dial> = (0..4).map(|_| peer.dial_hello(&hello).unwrap()).collect();
    let fifth = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(fifth.claim), Claim::Refused);
    assert_eq!(peer.conn.claim_refusal(fifth.claim), Some(JoinRefusal::Crowded));
    assert_eq!(peer.conn.claim_refusal(dials[0].claim), None, "it waits");
    assert!(dials.iter().all(|dial| peer.conn.claim(dial.claim) == Claim::Waiting));
    peer.conn.handle_claim_end(dials[0].claim);
    let sixth = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(sixth.claim), Claim::Waiting, "one went, there is room again");
}

#[test]
fn garbage_after_an_overheard_token_does_not_cost_the_client_its_join() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let mut attacker = peer.dial_hello(&hello).unwrap();
    let forged = [&[23, 3, 3, 0, 40][..], &[9; 40]].concat();
    assert_eq!(peer.feed(&mut attacker, &forged), Claim::Refused);
    assert_refused(&mut peer, &attacker, Alert::BadRecordMac);
    assert_eq!(peer.conn.claim_refusal(attacker.claim), Some(JoinRefusal::NotAuthenticated));
    assert_eq!(peer.join(), SECOND);
    peer.assert_lives(&[FIRST, SECOND]);
}

#[test]
fn claim_that_is_never_authenticated_times_out_and_its_token_is_replaced() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let dial = peer.dial_hello(&hello).unwrap();
    peer.sleep(4_999);
    assert_eq!(peer.conn.claim(dial.claim), Claim::Waiting);
    peer.sleep(1);
    assert_eq!(peer.conn.claim(dial.claim), Claim::Refused);
    assert_eq!(peer.conn.claim_refusal(dial.claim), Some(JoinRefusal::Timeout));
    let late = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(late.claim), Claim::Refused);
    peer.recv(FIRST);
    assert!(peer.tokens.contains_key(&3), "draft E14: {:?}", peer.tokens.keys());
}

#[test]
fn claim_ends_in_time_although_bytes_drip_and_the_session_is_slow() {
    let mut peer = Peer::client();
    for _ in 0..8 {
        peer.conn.ping(FIRST).unwrap();
        peer.recv(FIRST);
        let last = peer.received(FIRST) - 1;
        peer.sleep(9000);
        peer.send(FIRST, &[ack(FIRST, last)]);
    }
    assert!(peer.conn.tcp_stats(FIRST).unwrap().smoothed_rtt.unwrap() > Duration::from_secs(4));
    let token = first_token(&peer);
    let mut dial = peer.dial_hello(&peer.hello(token)).unwrap();
    let mut record = [[23, 3, 3, 64, 0].as_slice(), &[0; 200]].concat().into_iter();
    let refused = (0..200).find(|_| {
        peer.rest();
        peer.sleep(970);
        peer.feed(&mut dial, &[record.next().unwrap()]) == Claim::Refused
    });
    assert!(refused.is_some_and(|seconds| (12..=30).contains(&seconds)), "{refused:?} s");
}

#[test]
fn a_claim_that_is_turned_away_does_not_burn_a_token_that_another_still_claims() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let early = peer.dial_hello(&hello).unwrap();
    peer.sleep(3_000);
    let mut late = peer.dial_hello(&hello).unwrap();
    peer.sleep(2_000);
    assert_eq!(peer.conn.claim(early.claim), Claim::Refused);
    let ping = peer.seal(SECOND, DATA, &encoded(&[PING]));
    assert_eq!(peer.feed(&mut late, &ping), Claim::Authenticated(SECOND));
}

#[test]
fn a_claim_for_another_token_does_not_keep_one_from_being_burnt() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let early = peer.dial_hello(&hello).unwrap();
    peer.sleep(3_000);
    let other = peer.dial_hello(&peer.hello(peer.tokens[&2])).unwrap();
    peer.sleep(2_000);
    assert_eq!([&early, &other].map(|dial| peer.conn.claim(dial.claim)), [Claim::Refused, Claim::Waiting]);
    let late = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(late.claim), Claim::Refused);
}

#[test]
fn join_at_the_limit_replaces_the_tcp_connection_silent_longest() {
    let mut peer = Peer::with(Side::Client, Config::default().with(|config| config.max_tcp_connections = 2));
    assert_eq!(peer.join(), SECOND);
    peer.rest();
    peer.sleep(10);
    peer.send(FIRST, &[PING]);
    peer.recv(FIRST);
    peer.events.clear();
    let third = peer.join();
    assert!(peer.tcp_events().contains(&TcpEvent::Lost { tcp: SECOND, fault: TcpFault::Retired }));
    peer.assert_lives(&[FIRST, third]);
}

#[test]
fn a_hello_that_does_not_fit_the_session_is_refused() {
    type Spoil = fn(&mut JoinHello<'static>);
    let spoils: [Spoil; 4] = [
        |hello| hello.server_name = Some("other.example"),
        |hello| hello.server_name = None,
        |hello| hello.alpn = Some(b"h2"),
        |hello| hello.alpn = None,
    ];
    for spoil in spoils {
        let mut peer = Peer::client();
        let mut hello = peer.hello(first_token(&peer));
        spoil(&mut hello);
        let dial = peer.dial_hello(&hello).unwrap();
        assert_refused(&mut peer, &dial, Alert::IllegalParameter);
    }
}

#[test]
fn a_claim_may_send_two_change_cipher_specs_and_no_third() {
    let mut peer = Peer::client();
    let mut dial = peer.dial_hello(&peer.hello(first_token(&peer))).unwrap();
    assert_eq!(peer.feed(&mut dial, &CHANGE_CIPHER_SPEC), Claim::Waiting);
    assert_eq!(peer.feed(&mut dial, &CHANGE_CIPHER_SPEC), Claim::Waiting);
    peer.feed(&mut dial, &CHANGE_CIPHER_SPEC);
    assert_refused(&mut peer, &dial, Alert::UnexpectedMessage);
}

#[test]
fn nothing_but_change_cipher_spec_and_a_good_record_follows_a_hello() {
    let second_hello = hello_bytes(&Peer::client().hello(Token([1; 32])));
    let bad: [(&[u8], Alert); 4] = [
        (&[20, 3, 3, 0, 1, 2], Alert::UnexpectedMessage),
        (&[20, 3, 3, 0, 2, 1, 1], Alert::UnexpectedMessage),
        (&second_hello, Alert::UnexpectedMessage),
        (b"GET / HTTP/1.1", Alert::DecodeError),
    ];
    for (bytes, alert) in bad {
        let mut peer = Peer::client();
        let mut dial = peer.dial_hello(&peer.hello(first_token(&peer))).unwrap();
        assert_eq!(peer.feed(&mut dial, bytes), Claim::Refused);
        assert_refused(&mut peer, &dial, alert);
    }
}

#[test]
fn a_claim_that_ends_with_an_alert_is_over_and_gets_no_alert_back() {
    let mut peer = Peer::client();
    let mut dial = peer.dial_hello(&peer.hello(first_token(&peer))).unwrap();
    peer.hear(&dial);
    assert_eq!(peer.feed(&mut dial, &in_clear(Alert::CloseNotify)), Claim::Refused);
    assert!(peer.hear(&dial).is_empty());
    peer.assert_lives(&[FIRST]);
}

#[test]
fn closing_session_refuses_joins() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    let waiting = peer.dial_hello(&hello).unwrap();
    peer.conn.close(peer.now, ErrorCode(0), b"");
    assert_eq!(peer.conn.claim(waiting.claim), Claim::Refused);
    let late = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(late.claim), Claim::Refused);
    assert!(peer.hear(&late).ends_with(&in_clear(Alert::IllegalParameter)));
}

#[test]
fn half_open_joins_of_a_session_are_bounded() {
    let mut peer = Peer::client();
    let tokens: Vec<Token> = peer.tokens.values().copied().collect();
    let mut waiting = 0;
    for n in 0..1000 {
        let dial = peer.dial_hello(&peer.hello(tokens[n % tokens.len()])).unwrap();
        waiting += usize::from(peer.conn.claim(dial.claim) == Claim::Waiting);
    }
    assert_eq!(waiting, 4 * tokens.len());
}

#[test]
fn half_open_joins_of_a_session_with_many_tokens_are_bounded_together() {
    let mut peer = Peer::with(Side::Client, Config::default().with(|config| config.spare_tokens = 7));
    let tokens: Vec<Token> = peer.tokens.values().copied().collect();
    assert_eq!(tokens.len(), 7);
    let mut waiting = 0;
    for n in 0..100 {
        let dial = peer.dial_hello(&peer.hello(tokens[n % tokens.len()])).unwrap();
        waiting += usize::from(peer.conn.claim(dial.claim) == Claim::Waiting);
    }
    assert_eq!(waiting, 16);
}

// Robust start (protocol.md, 5).
// draft I17
#[test]
fn a_join_may_arrive_before_the_clients_finished_and_is_held_until_then() {
    let mut peer = Peer::before_finished(Config::default());
    peer.recv(FIRST);
    let token = peer.tokens.remove(&1).expect("half-RTT data brings it");
    let ping = peer.seal(SECOND, DATA, &encoded(&[PING]));
    let flight = [hello_bytes(&peer.hello(token)), CHANGE_CIPHER_SPEC.to_vec(), ping].concat();
    let mut dial = peer.dial(&flight).unwrap();
    assert_eq!(peer.conn.claim(dial.claim), Claim::Waiting);
    assert_eq!(peer.hear(&dial), [0; 0], "the hello can't be judged yet");
    peer.finish_handshake();
    assert!(peer.hear(&dial).ends_with(&CHANGE_CIPHER_SPEC), "now it was, and is answered");
    assert_eq!(peer.feed(&mut dial, &[]), Claim::Authenticated(SECOND));
    let parameters = entries(&GENEROUS);
    peer.send(FIRST, &[Frame::SessionParameters(SessionParameters { entries: &parameters })]);
    peer.assert_lives(&[FIRST, SECOND]);
}

#[test]
fn joins_held_for_a_handshake_that_fails_are_dropped() {
    let mut peer = Peer::before_finished(Config::default());
    peer.recv(FIRST);
    let dial = peer.dial_hello(&peer.hello(first_token(&peer))).unwrap();
    peer.send_bytes(FIRST, &[21, 3, 3, 0, 2, 2, 40]);
    assert!(peer.conn.close_reason().is_some());
    assert_eq!(peer.conn.claim(dial.claim), Claim::Refused);
}

#[test]
fn hello_kept_during_the_handshake_counts_as_memory() {
    let mut peer = Peer::before_finished(Config::default());
    peer.recv(FIRST);
    let before = peer.conn.memory();
    let hello = peer.hello(first_token(&peer));
    let dials = [(); 4].map(|()| peer.dial_hello(&hello).unwrap());
    assert!(dials.iter().all(|dial| peer.conn.claim(dial.claim) == Claim::Waiting));
    let held = peer.conn.memory() - before;
    assert!(held >= 4 * 16 * 1024, "a hello may have 16 KiB: {held}");
}

/// The client under test opens TCP connection 1 and gets `bytes` for an answer, which cost the join alone.
fn answered_with(zero_rtt: bool, fault: TcpFault, bytes: impl FnOnce(&Peer, &JoinServerHello<'_>) -> Vec<u8>) {
    let mut peer = Peer::server();
    let (hello, _) = peer.let_open(1, zero_rtt);
    peer.events.clear();
    let bytes = bytes(&peer, &peer.answer(&hello));
    peer.send_bytes(SECOND, &bytes);
    assert_eq!(peer.tcp_events(), [TcpEvent::Lost { tcp: SECOND, fault }, TcpEvent::Discarded { tcp: SECOND }]);
    peer.assert_lives(&[FIRST]);
    let told = peer.recv(FIRST);
    assert!(
        frames_of(&told).iter().any(|frame| matches!(frame.ty(), 0x06 | 0x49)),
        "the server learns of it, so that the token is burned: {told:?}"
    );
}

#[test]
fn invalid_answer_to_a_join_fails_only_the_join() {
    for zero_rtt in [true, false] {
        answered_with(zero_rtt, TcpFault::JoinRefused, |_, answer| {
            answer_bytes(&JoinServerHello { session_id: &[99; 32], ..answer.clone() })
        });
        answered_with(zero_rtt, TcpFault::JoinRefused, |_, answer| {
            answer_bytes(&JoinServerHello { suite: 0x1304, ..answer.clone() })
        });
        answered_with(zero_rtt, TcpFault::JoinRefused, |_, answer| {
            answer_bytes(&JoinServerHello { random: RETRY, ..answer.clone() })
        });
        answered_with(zero_rtt, TcpFault::JoinRefused, |_, answer| {
            [answer_bytes(answer), answer_bytes(answer)].concat()
        });
        answered_with(zero_rtt, TcpFault::JoinRefused, |_, _| CHANGE_CIPHER_SPEC.to_vec());
        answered_with(zero_rtt, TcpFault::Alert(47), |_, _| in_clear(Alert::IllegalParameter).to_vec());
        answered_with(zero_rtt, TcpFault::NotTls, |_, _| b"HTTP/1.1 400 Bad Request\r\n".to_vec());
        // A server that takes it for a new session goes on with records of its own keys.
        answered_with(zero_rtt, TcpFault::BadRecord, |_, answer| {
            [answer_bytes(answer), [&[23, 3, 3, 0, 40][..], &[9; 40]].concat()].concat()
        });
    }
}

#[test]
fn an_apparent_handshake_without_end_is_cut_off_at_16_kib() {
    let mut peer = Peer::server();
    let (hello, _) = peer.let_open(1, true);
    peer.events.clear();
    let answer = answer_bytes(&peer.answer(&hello));
    peer.send_bytes(SECOND, &answer);
    let mut sent = answer.len();
    while peer.conn.tcp_connections().any(|tcp| tcp == SECOND) {
        peer.send_bytes(SECOND, &CHANGE_CIPHER_SPEC);
        sent += CHANGE_CIPHER_SPEC.len();
        assert!(sent <= (16 << 10) + 6);
    }
    peer.assert_lives(&[FIRST]);
}

#[test]
fn a_join_without_an_answer_fails_in_time() {
    let mut peer = Peer::server();
    peer.let_open(1, true);
    peer.events.clear();
    peer.sleep(4_900);
    peer.assert_lives(&[FIRST, SECOND]);
    peer.sleep(101);
    let events = peer.tcp_events();
    let lost = TcpEvent::Lost { tcp: SECOND, fault: TcpFault::JoinTimeout };
    assert_eq!(events, [lost, TcpEvent::Discarded { tcp: SECOND }]);
}

#[test]
fn the_client_counts_a_join_as_up_only_with_the_first_record_that_opens() {
    let mut peer = Peer::server();
    let (hello, _) = peer.let_open(1, true);
    peer.events.clear();
    let answer = answer_bytes(&peer.answer(&hello));
    peer.send_bytes(SECOND, &answer);
    assert_eq!(peer.tcp_events(), []);
    assert_eq!(peer.conn.tcp_stats(SECOND).unwrap().phase, TcpPhase::Opening);
    peer.send(SECOND, &[PING]);
    assert_eq!(peer.tcp_events(), [TcpEvent::Joined { tcp: SECOND }]);
    assert_eq!(peer.conn.tcp_stats(SECOND).unwrap().phase, TcpPhase::Active);
}

#[test]
fn a_record_that_opens_is_enough_even_without_a_server_hello() {
    let mut peer = Peer::server();
    peer.let_open(1, true);
    peer.events.clear();
    peer.send(SECOND, &[PING]);
    assert_eq!(peer.tcp_events(), [TcpEvent::Joined { tcp: SECOND }]);
}

#[test]
fn each_token_is_spent_once_by_the_client_too() {
    let mut peer = Peer::server();
    assert_eq!(peer.conn.open_tcp(peer.now), Err(OpenTcpError::NoToken));
    peer.accept(1);
    assert_eq!(peer.conn.open_tcp(peer.now), Err(OpenTcpError::NoToken));
    peer.send(FIRST, &[token(1, 1)]);
    assert_eq!(peer.conn.open_tcp(peer.now), Err(OpenTcpError::NoToken), "the same one again is no new one");
}

#[test]
fn the_tokens_of_an_ended_session_are_worth_nothing() {
    let mut peer = Peer::client();
    let hello = peer.hello(first_token(&peer));
    peer.send_raw(FIRST, ALERT, &[2, 80]);
    assert!(matches!(peer.conn.close_reason(), Some(CloseReason::Violation(_))));
    let dial = peer.dial_hello(&hello).unwrap();
    assert_eq!(peer.conn.claim(dial.claim), Claim::Refused);
    assert!(!peer.take_events().contains(&Event::Tcp(TcpEvent::Joined { tcp: ConnectionId(1) })));
}

/// The random bytes of a HelloRetryRequest (RFC 8446, 4.1.3): SHA-256 of "HelloRetryRequest".
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, //
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
