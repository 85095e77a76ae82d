//! Early data: streams in the client's first flight, accepted, rejected, and lost with their TCP connection.

mod hostile;

use std::sync::Arc;
use std::time::Duration;

use rustls::server::ServerSessionMemoryCache;
use tcpls_core::connection::State;
use tcpls_core::crypto::rustls::EarlyTickets;
use tcpls_core::crypto::{TlsClient, TlsServer};
use tcpls_core::error::{CloseReason, OpenStreamError, ReadError, Violation};
use tcpls_core::event::{Event, StreamEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode, StreamId};

use crate::support::tls::{SERVER_NAME, SUITES};
use crate::support::{Client, Pair, Server, Setup, Side, Tls};

const FIRST: ConnectionId = ConnectionId::FIRST;

/// A client and a server whose sessions share tickets.
struct Ends {
    client: Arc<dyn TlsClient>,
    server: Arc<dyn TlsServer>,
    sessions: u64,
}

impl Ends {
    fn new(tls: &Tls) -> Self {
        Self { client: tls.client_end(1), server: tls.server_end(1), sessions: 0 }
    }

    /// Both have early data, and the client a ticket.
    fn with_ticket() -> Self {
        Self::with_ticket_of(&early())
    }

    fn with_ticket_of(tls: &Tls) -> Self {
        let mut ends = Self::new(tls);
        ends.fetch_ticket();
        ends
    }

    fn pair(&mut self, setup: Setup) -> Pair {
        self.sessions += 1;
        let setup = Setup { seed: self.sessions, ..setup };
        Pair::new(setup, self.client.handshake(SERVER_NAME).unwrap(), self.server.handshake().unwrap())
    }

    fn fetch_ticket(&mut self) {
        let mut pair = self.pair(Setup::default());
        assert_eq!(pair.client().early_data(), 0, "the first session has no ticket");
        pair.drive();
        pair.transfer(Client, b"hello");
        pair.close(Client, 0, b"");
        pair.drive();
    }
}

/// All servers of this configuration share one store of sessions.
fn early() -> Tls {
    let sessions = ServerSessionMemoryCache::new(64);
    Tls { early_client: true, early_server: true, sessions: Some(sessions), ..Tls::default() }
}

/// The client writes `data` on a new stream before anything has been sent, and finishes the stream.
fn ask(pair: &mut Pair, data: &[u8]) -> StreamId {
    let id = pair.open_stream(Client);
    pair.write(Client, id, data);
    pair.finish(Client, id);
    id
}

/// What the client has sends arrives, and nothing else happens.
fn first_flight(pair: &mut Pair) {
    pair.step(Client);
    pair.deliver_all();
}

fn count(pair: &mut Pair, side: Side, wanted: &Event) -> usize {
    pair.events(side).iter().filter(|event| *event == wanted).count()
}

/// The stream's data and end arrived, and the client knows.
fn assert_delivered(pair: &mut Pair, id: StreamId, data: &[u8]) {
    pair.assert_received(Server, id, data);
    assert_eq!(count(pair, Client, &Event::Stream(StreamEvent::Delivered { id })), 1);
    assert_eq!(pair.client().undelivered(), 0);
}

#[test]
fn request_arrives_with_the_client_hello_and_the_answer_in_one_round_trip() {
    for suite in SUITES {
        let mut ends = Ends::new(&Tls { suites: vec![suite], ..early() });
        ends.fetch_ticket();
        let mut pair = ends.pair(Setup::default());
        assert_eq!(pair.client().early_data(), (14 << 10) - 256);
        let id = ask(&mut pair, b"question");
        first_flight(&mut pair);
        assert_eq!(pair.server().state(), State::Established);
        assert!(!pair.server().is_confirmed());
        assert!(pair.server().stream(id).is_early());
        pair.assert_received(Server, id, b"question");
        pair.write(Server, id, &[7; 10_000]);
        pair.finish(Server, id);
        assert_eq!(pair.client().state(), State::Handshaking);
        while pair.step(Server) {}
        pair.deliver_all();
        assert_eq!(pair.client().state(), State::Established);
        pair.assert_received(Client, id, &[7; 10_000]);
        pair.drive();
        assert!(pair.server().is_confirmed());
        assert_eq!(count(&mut pair, Server, &Event::HandshakeConfirmed), 1);
        assert_eq!(count(&mut pair, Client, &Event::Stream(StreamEvent::Delivered { id })), 1);
        assert_eq!(count(&mut pair, Server, &Event::Stream(StreamEvent::Delivered { id })), 1);
        pair.join();
        pair.transfer(Server, b"over two");
        pair.transfer(Client, &[1; 100_000]);
    }
}

/// Early data of some lengths is rejected by this server, unseen by its application, and arrives all the same.
fn assert_rejected(tls: &Tls, server: &Tls, setup: &Setup) {
    for bytes in [10, 14_000, 100_000] {
        let mut ends = Ends::with_ticket_of(tls);
        ends.server = server.server_end(2);
        let mut pair = ends.pair(setup.clone());
        let data: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        let (id, other) = (ask(&mut pair, &data), ask(&mut pair, b"little"));
        first_flight(&mut pair);
        assert_eq!(pair.server().state(), State::Handshaking);
        assert_eq!(pair.server().accept_stream(), None);
        pair.drive();
        assert_delivered(&mut pair, id, &data);
        pair.assert_received(Server, other, b"little");
        assert!(!pair.server().stream(id).is_early());
        assert_eq!(count(&mut pair, Server, &Event::HandshakeConfirmed), 0);
        pair.join();
        pair.transfer(Server, b"over two");
    }
}

#[test]
fn server_that_has_not_opted_in_rejects_early_data_and_it_is_sent_again() {
    let tls = early();
    assert_rejected(&tls, &Tls { early_server: false, ..tls.clone() }, &Setup::default());
}

#[test]
fn early_data_with_a_ticket_that_the_server_does_not_know_is_sent_again() {
    assert_rejected(&early(), &early(), &Setup::default());
}

#[test]
fn client_of_another_configuration_does_not_use_the_ticket() {
    let (tls, tickets) = (early(), Arc::new(EarlyTickets::default()));
    let mut ends = Ends::new(&tls);
    ends.client = Arc::new(tls.client(1).with_early_data(tickets.clone()));
    ends.fetch_ticket();
    // rustls compares the objects that verify certificates.
    ends.client = Arc::new(tls.client(2).with_early_data(tickets.clone()));
    let mut pair = ends.pair(Setup::default());
    assert_eq!(pair.client().early_data(), 0);
    pair.drive();
    pair.transfer(Client, b"question");
    let mut pair = ends.pair(Setup::default());
    assert_ne!(pair.client().early_data(), 0, "the tickets of that session serve the next");
}

#[test]
fn early_data_is_sent_again_after_a_hello_retry_request() {
    let tls = early();
    let mut ends = Ends::new(&Tls { retry: true, ..tls.clone() });
    ends.server = tls.server_end(1);
    ends.fetch_ticket();
    ends.server = Tls { retry: true, ..tls }.server_end(2);
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, &[5; 14_000]);
    first_flight(&mut pair);
    assert_eq!(pair.server().accept_stream(), None);
    pair.drive();
    assert_delivered(&mut pair, id, &[5; 14_000]);
}

#[test]
fn server_with_other_limits_than_before_rejects_early_data() {
    let tls = early();
    let smaller = Setup::default().both(|config| {
        (config.initial_session_window, config.initial_stream_window) = (2_000, 1_500);
    });
    assert_rejected(&tls, &tls, &smaller);
    let larger = Setup::default().both(|config| config.initial_session_window *= 2);
    assert_rejected(&tls, &tls, &larger);
}

#[test]
fn client_ends_a_session_that_allows_fewer_streams_than_it_has_opened() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default().both(|config| config.max_streams = 2));
    for _ in 0..3 {
        ask(&mut pair, b"one of three");
    }
    pair.drive();
    assert_eq!(pair.close_reason(Client), Some(CloseReason::Violation(Violation::Parameters)));
    assert_eq!(pair.end(Server).accepted, []);
}

#[test]
fn client_sends_at_most_14_kib_before_the_servers_flight() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let streams: Vec<StreamId> = (0..40).map(|_| ask(&mut pair, &[3; 1000])).collect();
    first_flight(&mut pair);
    assert_eq!(pair.client().early_data(), 0);
    let sent = pair.wire()[0].0.len();
    assert!((14_000..(14 << 10) + 1_000).contains(&sent), "{sent} bytes");
    pair.drive();
    streams.into_iter().for_each(|id| pair.assert_received(Server, id, &[3; 1000]));
    // Records are bounded as well.
    let mut pair = ends.pair(Setup::default());
    let id = pair.open_stream(Client);
    for _ in 0..100 {
        pair.write(Client, id, b"keystroke");
        pair.step(Client);
    }
    assert_eq!(pair.client().early_data(), 0);
    pair.finish(Client, id);
    pair.drive();
    pair.assert_received(Server, id, &b"keystroke".repeat(100));
}

#[test]
fn early_data_may_be_written_until_the_servers_flight_arrives() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    first_flight(&mut pair); // without a stream
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"soon ");
    first_flight(&mut pair);
    assert!(pair.server().stream(id).is_early());
    pair.step(Server);
    pair.deliver_all();
    pair.write(Client, id, b"after");
    pair.finish(Client, id);
    pair.drive();
    assert_eq!(pair.read_all(Server, id), b"soon after");
    assert_eq!(count(&mut pair, Client, &Event::Stream(StreamEvent::Delivered { id })), 1);
}

#[test]
fn client_without_a_stream_sends_no_early_data_and_resumes() {
    for opted_in in [true, false] {
        let tls = early();
        let mut ends = Ends::with_ticket_of(&tls);
        ends.server = Tls { early_server: opted_in, ..tls }.server_end(2);
        let mut pair = ends.pair(Setup::default());
        pair.drive();
        assert_eq!(pair.server().state(), State::Established);
        assert_eq!(count(&mut pair, Server, &Event::HandshakeConfirmed), 0);
        pair.transfer(Client, b"later");
    }
}

#[test]
fn each_ticket_serves_one_session() {
    let mut ends = Ends::with_ticket();
    for _ in 0..2 {
        let mut pair = ends.pair(Setup::default());
        assert!(pair.client().early_data() > 0); // and no new ticket arrives
    }
    let mut pair = ends.pair(Setup::default());
    assert_eq!(pair.client().early_data(), 0);
    assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Limit));
}

#[test]
fn early_data_is_for_the_application_protocol_of_its_ticket() {
    let tls = Tls { client_protocols: vec![b"h3", b"h2"], server_protocols: vec![b"h3"], ..early() };
    let other = Tls { server_protocols: vec![b"h2"], ..tls.clone() };
    let mut ends = Ends::with_ticket_of(&tls);
    let mut pair = ends.pair(Setup::default());
    assert_eq!(pair.client().application_protocol(), Some(&b"h3"[..]));
    let id = ask(&mut pair, b"for h3");
    first_flight(&mut pair);
    assert_eq!(pair.server().application_protocol(), Some(&b"h3"[..]));
    pair.drive();
    assert_delivered(&mut pair, id, b"for h3");
    // The server has changed: no byte for h3 reaches h2.
    ends.server = other.server_end(2);
    let mut pair = ends.pair(Setup::default());
    ask(&mut pair, b"for h3");
    pair.drive();
    assert_eq!(pair.close_reason(Client), Some(CloseReason::NoApplicationProtocol));
    assert_eq!(pair.end(Server).accepted, []);
    // Without early data, the session is one of h2.
    let mut ends = Ends::with_ticket_of(&tls);
    ends.server = other.server_end(2);
    let mut pair = ends.pair(Setup::default());
    pair.drive();
    assert_eq!(pair.client().application_protocol(), Some(&b"h2"[..]));
    pair.transfer(Client, b"for h2");
}

#[test]
fn client_that_does_not_offer_the_tickets_protocol_has_no_early_data() {
    let tickets = Arc::new(EarlyTickets::default());
    let tls = Tls { client_protocols: vec![b"h3"], server_protocols: vec![b"h3", b"h2"], ..early() };
    let client = |tls: &Tls| Tls { early_client: false, ..tls.clone() }.client(1).with_early_data(tickets.clone());
    let mut ends = Ends { client: Arc::new(client(&tls)), server: tls.server_end(1), sessions: 0 };
    ends.fetch_ticket();
    ends.client = Arc::new(client(&Tls { client_protocols: vec![b"h2"], ..tls }));
    let mut pair = ends.pair(Setup::default());
    assert_eq!(pair.client().early_data(), 0);
    pair.drive();
    assert_eq!(pair.client().application_protocol(), Some(&b"h2"[..]));
}

#[test]
fn early_data_is_sent_again_on_another_tcp_connection_if_no_acknowledgment_arrives() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, b"question");
    first_flight(&mut pair);
    pair.step(Server);
    pair.deliver_all();
    pair.stall_towards(FIRST, Client); // from here on, no acknowledgment arrives
    pair.drive();
    assert!(pair.server().is_confirmed());
    assert_eq!(count(&mut pair, Client, &Event::Stream(StreamEvent::Delivered { id })), 0);
    pair.join();
    pair.cut(FIRST);
    pair.drive();
    assert_delivered(&mut pair, id, b"question");
}

#[test]
fn session_ends_with_its_tcp_connection_before_the_servers_flight() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    ask(&mut pair, b"question");
    first_flight(&mut pair);
    pair.cut(FIRST);
    for side in [Client, Server] {
        assert!(matches!(pair.close_reason(side), Some(CloseReason::LostInHandshake(_))), "{side:?}");
    }
    assert_eq!(pair.client().undelivered(), 9, "eight bytes and the end");
    assert_eq!(pair.client().early_data(), 0);
}

#[test]
fn server_may_close_behind_its_answer_before_the_handshake_is_complete() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, b"question");
    first_flight(&mut pair);
    pair.write(Server, id, b"answer");
    pair.finish(Server, id);
    pair.close(Server, 0, b"done");
    pair.drive();
    pair.assert_received(Client, id, b"answer");
    for side in [Client, Server] {
        assert!(pair.close_reason(side).is_some(), "{side:?}");
    }
}

#[test]
fn all_data_counts_as_early_until_the_handshake_is_confirmed() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let first = pair.open_stream(Client); // the other one opens it at the server, without data
    let other = ask(&mut pair, b"early");
    first_flight(&mut pair);
    assert!(pair.server().stream(first).is_early() && pair.server().stream(other).is_early());
    pair.drive();
    pair.write(Client, first, b"late");
    pair.drive();
    assert_eq!(pair.read_all(Server, first), b"late");
    assert!(!pair.server().stream(first).is_early() && pair.server().stream(other).is_early());
    assert!(!pair.client().stream(other).is_early());
}

#[test]
fn drain_whose_limit_passes_before_the_handshake_is_confirmed_leaves_no_deadline() {
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    let id = ask(&mut pair, b"question");
    first_flight(&mut pair);
    let now = pair.now;
    pair.server().drain(now, Duration::from_millis(1));
    pair.advance(Duration::from_millis(2)); // which panics if a deadline stays in the past
    assert_eq!(pair.server().state(), State::Closing);
    pair.drive();
    pair.assert_received(Server, id, b"question");
    assert!(pair.close_reason(Server).is_some());
}

#[test]
fn client_that_closes_with_early_data_delivers_it_first() {
    for opted_in in [true, false] {
        let tls = early();
        let mut ends = Ends::with_ticket_of(&tls);
        ends.server = Tls { early_server: opted_in, ..tls }.server_end(2);
        let mut pair = ends.pair(Setup::default());
        let id = ask(&mut pair, b"farewell");
        pair.step(Client);
        pair.close(Client, 0, b"done");
        assert_eq!(pair.client().state(), State::Closing);
        assert_eq!(pair.client().open_stream(), Err(OpenStreamError::Closed));
        pair.drive();
        assert_delivered(&mut pair, id, b"farewell");
        let error = ErrorCode::default();
        assert_eq!(pair.close_reason(Client), Some(CloseReason::Local { error }), "opted in: {opted_in}");
        assert!(matches!(pair.close_reason(Server), Some(CloseReason::Peer { .. })), "opted in: {opted_in}");
    }
    // With an error, nothing is delivered.
    let mut ends = Ends::with_ticket();
    let mut pair = ends.pair(Setup::default());
    ask(&mut pair, b"never mind");
    pair.close(Client, 7, b"");
    pair.drive();
    assert_eq!(pair.end(Server).accepted, []);
}

#[test]
fn stream_that_is_reset_before_its_early_data_is_rejected_ends_without_data() {
    let tls = early();
    let mut ends = Ends::with_ticket_of(&tls);
    ends.server = Tls { early_server: false, ..tls }.server_end(2);
    let mut pair = ends.pair(Setup::default());
    let id = pair.open_stream(Client);
    pair.write(Client, id, &[1; 5_000]);
    first_flight(&mut pair);
    pair.client().stream(id).reset(ErrorCode(9)).unwrap();
    pair.drive();
    assert_eq!(pair.stream_end(Server, id), Some(Err(ReadError::Reset(ErrorCode(9)))));
    pair.transfer(Client, &[2; 100_000]);
}

#[test]
fn early_data_is_deterministic() {
    let wire = || {
        let mut ends = Ends::with_ticket();
        let mut pair = ends.pair(Setup::default());
        let id = ask(&mut pair, &[9; 20_000]);
        pair.drive();
        assert_delivered(&mut pair, id, &[9; 20_000]);
        pair.wire().into_iter().map(|(up, down)| (up.to_vec(), down.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(wire(), wire());
}

/// From the first byte of the ClientHello to the first byte of an answer, in one-way delays.
fn delays_to_answer(mut pair: Pair) -> u32 {
    let (mut question, mut has_answered) = (None, false);
    for delays in 0..20 {
        if question.is_none() && (pair.client().state() == State::Established || pair.client().early_data() > 0) {
            question = Some(ask(&mut pair, b"GET"));
        }
        if let Some(id) = question {
            if delays > 0 && !has_answered && !pair.read_all(Server, id).is_empty() {
                pair.write(Server, id, &[1; 10_000]);
                pair.finish(Server, id);
                has_answered = true;
            }
            if !pair.read_all(Client, id).is_empty() {
                return delays;
            }
        }
        pair.round();
    }
    panic!("no answer");
}

#[test]
fn first_byte_of_an_answer_takes_one_round_trip_with_early_data_and_two_without() {
    let mut full = Ends::new(&Tls { early_client: false, ..early() });
    assert_eq!(delays_to_answer(full.pair(Setup::default())), 4);
    assert_eq!(delays_to_answer(full.pair(Setup::default())), 4, "resumed");
    let mut early = Ends::with_ticket();
    assert_eq!(delays_to_answer(early.pair(Setup::default())), 2);
}

#[test]
fn secrets_of_tickets_are_not_shown() {
    let ends = Ends::with_ticket();
    let shown = format!("{:?}", ends.client);
    assert!(shown.contains("Tickets") && !shown.contains("Tls13ClientSessionValue"), "{shown}");
}

#[test]
fn early_data_may_arrive_in_single_bytes() {
    for opted_in in [true, false] {
        let tls = early();
        let mut ends = Ends::with_ticket_of(&tls);
        ends.server = Tls { early_server: opted_in, ..tls }.server_end(2);
        let mut pair = ends.pair(Setup::default());
        let id = ask(&mut pair, &[4; 3_000]);
        for _ in 0..4 {
            pair.step(Client);
            while pair.deliver(FIRST, Server, 1) > 0 {}
            pair.step(Server);
            while pair.deliver(FIRST, Client, 1) > 0 {}
        }
        pair.drive();
        assert_delivered(&mut pair, id, &[4; 3_000]);
    }
}

#[test]
fn server_that_issues_no_tickets_cannot_opt_in() {
    assert!(Tls { tickets: 0, ..Tls::default() }.server(1).with_early_data().is_err());
}
