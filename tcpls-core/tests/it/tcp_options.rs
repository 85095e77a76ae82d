//! Requests for options of the peer's TCP stack, and their answers.

use tcpls_core::config::Config;
use tcpls_core::connection::State;
use tcpls_core::error::{AskOptionError, CloseReason, Violation};
use tcpls_core::event::{Event, OptionOutcome};
use tcpls_core::wire::frame::{Parameters, ty};
use tcpls_core::wire::ids::{ConnectionId, OptionRequestId};

use crate::support::peer::frames::{option_answer, option_request, tcp_option};
use crate::support::peer::{FIRST, GENEROUS, Peer, SECOND, frames_of};
use crate::support::{Client, Pair, Server, Side};

const NAME: &[u8] = b"reno";

fn ask(pair: &mut Pair, side: Side, tcp: ConnectionId) -> OptionRequestId {
    pair.conn(side).ask_tcp_option(tcp, 254, NAME).unwrap()
}

/// The answers that `side` has, and how often its peer's application was asked.
fn outcome(pair: &mut Pair, side: Side) -> (Vec<OptionOutcome>, usize) {
    let answer = |event: &Event| match event {
        Event::TcpOptionAnswered { outcome, .. } => Some(*outcome),
        _ => None,
    };
    let is_request = |event: &&Event| matches!(event, Event::TcpOption { request: Some(_), .. });
    let answers = pair.events(side).iter().filter_map(answer).collect();
    (answers, pair.events(side.peer()).iter().filter(is_request).count())
}

/// `side` seals what it has to send on `tcp`, and it reaches no peer.
fn send_to_nowhere(pair: &mut Pair, side: Side, tcp: ConnectionId) {
    let (now, mut out) = (pair.now, Vec::new());
    while pair.conn(side).poll_transmit(now, tcp, 10_000, &mut out) > 0 {}
    assert!(!out.is_empty());
}

#[test]
fn a_request_names_its_tcp_connection_and_gets_one_answer() {
    for side in [Client, Server] {
        let mut pair = Pair::with_tcp_connections(2);
        let request = ask(&mut pair, side, SECOND);
        pair.drive();
        let asked = Event::TcpOption { tcp: SECOND, kind: 254, value: NAME.to_vec(), request: Some(request) };
        assert!(pair.events(side.peer()).contains(&asked));
        let answer = Event::TcpOptionAnswered { request, tcp: SECOND, kind: 254, outcome: OptionOutcome::Applied };
        assert!(pair.events(side).contains(&answer));
        assert_eq!(outcome(&mut pair, side), (vec![OptionOutcome::Applied], 1));
        assert_eq!(pair.conn(side.peer()).open_option_requests(), 0);
    }
}

#[test]
fn a_request_on_a_tcp_connection_that_is_lost_arrives_on_another() {
    let mut pair = Pair::with_tcp_connections(2);
    ask(&mut pair, Client, SECOND);
    send_to_nowhere(&mut pair, Client, FIRST);
    pair.cut(FIRST);
    pair.drive();
    assert_eq!(outcome(&mut pair, Client), (vec![OptionOutcome::Applied], 1));
}

#[test]
fn an_answer_on_a_tcp_connection_that_is_lost_arrives_on_another() {
    let mut pair = Pair::with_tcp_connections(2);
    pair.end(Server).answers = false;
    let request = ask(&mut pair, Client, SECOND);
    pair.drive();
    pair.server().answer_tcp_option(request, OptionOutcome::Refused);
    send_to_nowhere(&mut pair, Server, FIRST);
    pair.cut(FIRST);
    pair.drive();
    assert_eq!(outcome(&mut pair, Client), (vec![OptionOutcome::Refused], 1));
}

#[test]
fn sixteen_requests_wait_for_an_application_that_does_not_answer() {
    let mut pair = Pair::established();
    pair.end(Server).answers = false;
    let requests: Vec<_> = (0..16).map(|_| ask(&mut pair, Client, FIRST)).collect();
    assert_eq!(pair.client().ask_tcp_option(FIRST, 254, NAME), Err(AskOptionError::TooMany));
    pair.drive();
    assert_eq!(pair.server().open_option_requests(), 16);
    pair.server().answer_tcp_option(requests[0], OptionOutcome::Unknown);
    pair.drive();
    ask(&mut pair, Client, FIRST);
    assert_eq!(pair.client().ask_tcp_option(FIRST, 254, NAME), Err(AskOptionError::TooMany));
    // And the session ends as if none were open.
    pair.close(Client, 0, b"");
    pair.drive();
    assert_eq!((pair.client().state(), pair.server().state()), (State::Closed, State::Closed));
}

#[test]
fn memory_of_requests_is_counted_until_they_are_answered() {
    let mut pair = Pair::established();
    pair.end(Server).answers = false;
    let before = pair.client().memory();
    let value = [7; 64];
    let requests: Vec<_> = (0..16).map(|_| pair.client().ask_tcp_option(FIRST, 252, &value).unwrap()).collect();
    assert!(pair.client().memory() >= before + 16 * value.len());
    pair.drive();
    assert!(pair.client().memory() >= before + 16 * value.len(), "the peer has not answered");
    requests.iter().for_each(|request| pair.server().answer_tcp_option(*request, OptionOutcome::Refused));
    pair.drive();
    assert!(pair.client().memory() < before + 16 * value.len());
    let before = pair.client().memory();
    pair.client().send_tcp_option(28, &value).unwrap();
    pair.drive();
    assert!(pair.client().memory() >= before + value.len(), "it is kept");
}

#[test]
fn what_cannot_be_asked_is_an_error_of_the_call() {
    let mut pair = Pair::established();
    let ask = |pair: &mut Pair, tcp, value: &[u8]| pair.client().ask_tcp_option(tcp, 254, value);
    assert_eq!(ask(&mut pair, ConnectionId(9), NAME), Err(AskOptionError::Unknown));
    assert_eq!(ask(&mut pair, FIRST, &[7; 65]), Err(AskOptionError::TooLong));
    assert!(ask(&mut pair, FIRST, &[7; 64]).is_ok());
    pair.close(Client, 0, b"");
    assert_eq!(ask(&mut pair, FIRST, NAME), Err(AskOptionError::Closed));
}

#[test]
fn a_peer_that_does_not_know_requests_gets_none() {
    let unaware = Parameters { option_requests: 0, ..GENEROUS };
    let mut peer = Peer::with_parameters(Client, Config::default(), unaware);
    assert!(!peer.conn.takes_option_requests());
    assert_eq!(peer.conn.ask_tcp_option(FIRST, 254, NAME), Err(AskOptionError::NotSupported));
    let mut peer = Peer::client();
    assert!(peer.conn.ask_tcp_option(FIRST, 254, NAME).is_ok());
    assert_eq!(frames_of(&peer.recv(FIRST)), [option_request(0, FIRST, 254, NAME)]);
}

#[test]
fn a_request_that_arrives_again_is_neither_reported_nor_answered_again() {
    let mut peer = Peer::client();
    let request = option_request(0, FIRST, 254, NAME);
    peer.send(FIRST, &[request]);
    peer.conn.answer_tcp_option(OptionRequestId(0), OptionOutcome::Unknown);
    peer.conn.answer_tcp_option(OptionRequestId(0), OptionOutcome::Applied);
    assert!(frames_of(&peer.recv(FIRST)).contains(&option_answer(0, 2)));
    peer.take_events();
    peer.send(FIRST, &[request]);
    assert_eq!(peer.take_events(), []);
    peer.sleep(1000);
    let is_answer = |ty: u8| ty == ty::TCP_OPTION_ANSWER;
    assert!(!frames_of(&peer.recv(FIRST)).iter().any(|frame| is_answer(frame.ty())));
}

#[test]
fn a_request_about_a_tcp_connection_that_is_not_there_is_answered_lost() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[option_request(0, SECOND, 254, NAME)]);
    assert!(frames_of(&peer.recv(FIRST)).contains(&option_answer(0, 3)));
    assert_eq!(peer.take_events(), []);
    peer.send(FIRST, &[option_request(1, ConnectionId(99), 254, NAME)]);
    peer.assert_failed(Violation::UnknownTcp(99));
}

#[test]
fn a_value_that_is_too_long_is_refused_without_a_question_to_the_application() {
    let mut peer = Peer::client();
    peer.send(FIRST, &[option_request(0, FIRST, 254, &[7; 65])]);
    assert!(frames_of(&peer.recv(FIRST)).contains(&option_answer(0, 1)));
    assert_eq!(peer.take_events(), []);
    // The frame without an answer can't be a way to make the application hold more.
    peer.send(FIRST, &[tcp_option(28, &[7; 65])]);
    assert_eq!(peer.take_events(), []);
    peer.send(FIRST, &[tcp_option(28, &[7; 64])]);
    assert_eq!(peer.take_events().len(), 1);
    peer.assert_lives(&[FIRST]);
}

#[test]
fn a_17th_open_request_and_an_answer_to_none_end_the_session() {
    let mut peer = Peer::client();
    (0..16).for_each(|id| _ = peer.send(FIRST, &[option_request(id, FIRST, 28, &[0, 30])]));
    peer.assert_lives(&[FIRST]);
    peer.send(FIRST, &[option_request(16, FIRST, 28, &[0, 30])]);
    peer.assert_failed(Violation::OptionRequest(16));
    let mut peer = Peer::server();
    peer.send(FIRST, &[option_answer(0, 0)]);
    peer.assert_failed(Violation::OptionRequest(0));
}

#[test]
fn an_outcome_that_is_not_in_the_table_means_refused() {
    let mut peer = Peer::client();
    let request = peer.conn.ask_tcp_option(FIRST, 254, NAME).unwrap();
    peer.recv(FIRST);
    peer.take_events();
    peer.send(FIRST, &[option_answer(0, 200)]);
    let refused = Event::TcpOptionAnswered { request, tcp: FIRST, kind: 254, outcome: OptionOutcome::Refused };
    assert_eq!(peer.take_events(), [refused]);
}

#[test]
fn requests_without_end_end_the_session_though_each_is_answered() {
    let config = Config::default().with(|config| config.overhead_budget = 1000);
    let mut peer = Peer::with(Client, config);
    let mut sent = 0;
    while peer.conn.close_reason().is_none() && sent < 200 {
        peer.send(FIRST, &[option_request(sent, FIRST, 254, NAME)]);
        peer.conn.answer_tcp_option(OptionRequestId(sent), OptionOutcome::Refused);
        peer.recv(FIRST);
        sent += 1;
    }
    assert!((90..=110).contains(&sent), "{sent} requests");
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Violation::EnhanceYourCalm)));
}
