//! Attacks of the table in `docs/threat-model.md` that belong to no other file.

use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::schedule::Aggregate;
use tcpls_core::connection::{Claim, State, TcpEnd};
use tcpls_core::endpoint::Incoming;
use tcpls_core::error::{CloseReason, TcpFault, WriteError};
use tcpls_core::testing::hello::CHANGE_CIPHER_SPEC;
use tcpls_core::wire::frame::Frame;
use tcpls_core::wire::ids::{ConnectionId, Side};

use crate::support::peer::frames::*;
use crate::support::peer::{FIRST, Peer, SECOND, frames_of};
use crate::support::{Client, Pair, Server, Setup, bytes};

/// Bytes that are under way to `side` on `tcp`, which never arrive there.
fn intercept(pair: &mut Pair, tcp: ConnectionId, side: Side) -> Vec<u8> {
    pair.flow(tcp, side).in_flight.drain(..).collect()
}

// Row 2.
#[test]
fn any_bytes_instead_of_a_handshake_are_consumed_and_answered_once() {
    let close_notify = [21, 3, 3, 0, 2, 1, 0];
    let fatal = [21, 3, 3, 0, 2, 2, 80];
    let empty = [22, 3, 3, 0, 0];
    let early_data = [&[23, 3, 3, 0, 20][..], &[9; 20]].concat();
    let garbage = [&[22, 3, 3, 0, 8][..], &[2, 0, 0, 4, 1, 2, 3, 4]].concat();
    let inputs: [&[u8]; 6] = [&close_notify, &fatal, &empty, &early_data, &garbage, &CHANGE_CIPHER_SPEC];
    for side in [Client, Server] {
        for input in inputs {
            let mut pair = Setup::default().start();
            pair.step(Client);
            pair.deliver(FIRST, Server, usize::MAX); // both ends are in the middle of the handshake
            let now = pair.now;
            let mut unread = BytesMut::from(&input.repeat(50)[..]);
            let conn = pair.conn(side);
            conn.handle_bytes(now, FIRST, &mut unread);
            assert!(unread.is_empty(), "{side:?} leaves {} bytes of {input:?}", unread.len());
            let mut out = Vec::new();
            let mut polls = 0;
            while conn.poll_transmit(now, FIRST, 1 << 16, &mut out) > 0 {
                polls += 1;
                assert!(polls < 10, "{side:?} answers {input:?} without end");
            }
            assert!(out.len() < 8_192, "{side:?} answers {input:?} with {} bytes", out.len());
            while conn.poll_event().is_some() {}
        }
    }
}

// Rows 9 and 10.
#[test]
fn tokens_that_a_client_reports_as_lost_do_not_pile_up_while_it_does_not_read() {
    let mut peer = Peer::client();
    for n in 1..=5_000 {
        peer.send(FIRST, &[connection_reset(ConnectionId(n))]);
    }
    peer.assert_lives(&[FIRST]);
    assert!(peer.conn.stats().frames_due <= 8, "{} frames wait to be sent", peer.conn.stats().frames_due);
}

// Row 21.
#[test]
fn records_of_a_byte_wait_for_acknowledgments_at_their_number_not_their_size() {
    let config = Config::default().with(|config| config.max_unacknowledged_records = 100);
    let mut peer = Peer::with(Client, config);
    let id = peer.conn.open_stream().unwrap();
    let before = peer.received(FIRST);
    for _ in 0..500 {
        peer.conn.stream(id).write(b"x").unwrap();
        peer.recv(FIRST);
    }
    assert_eq!(peer.received(FIRST) - before, 100);
    assert!(!peer.conn.wants_write(FIRST));
    let last = peer.received(FIRST) - 1;
    peer.send(FIRST, &[ack(FIRST, last)]);
    assert!(!peer.recv(FIRST).is_empty(), "an acknowledgment makes room");
    assert_eq!(peer.conn.stats().bytes_to_send, 400);
}

// Row 21.
#[test]
fn record_is_sent_on_another_tcp_connection_if_one_acknowledges_nothing() {
    let mut pair = Setup::default().both(|config| config.max_unacknowledged_records = 8).established();
    let second = pair.join();
    pair.client().set_scheduler(Box::new(Aggregate));
    pair.stall(second);
    pair.transfer(Client, &bytes(2_000_000));
    pair.unstall(second);
    pair.transfer(Client, &bytes(2_000_000));
}

// Row 15.
#[test]
fn racing_an_overheard_token_gains_nothing_and_costs_the_client_one_join() {
    for thief_sends_records in [false, true] {
        let mut pair = Pair::established();
        let stolen = pair.open_tcp();
        pair.step(Client);
        // The thief holds the client's first flight back, and shows its hello on TCP connections of its own.
        let flight = intercept(&mut pair, stolen, Server);
        let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
        let thieves: Vec<usize> = (0..4).map(|_| pair.connect_stranger()).collect();
        for thief in &thieves {
            pair.stranger_sends(*thief, &flight[..hello]);
            if thief_sends_records {
                let guess = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
                pair.stranger_sends(*thief, &guess);
            }
        }
        pair.deliver_all();
        pair.flow(stolen, Server).send(&flight);
        let data = bytes(50_000);
        let stream = pair.open_stream(Client);
        pair.submit(Client, stream, &data);
        pair.drive();
        if thief_sends_records {
            assert!(pair.live(Server).contains(&stolen), "who can't seal a record makes room at once");
        } else {
            assert_eq!(pair.fault(Client, stolen), Some(TcpFault::Alert(47)), "all places were taken");
            let next = pair.join();
            assert_ne!(next, stolen);
        }
        assert_eq!(pair.live(Client).len(), 2);
        pair.assert_received(Server, stream, &data);
        pair.drive_for(Duration::from_secs(6));
        for thief in thieves {
            let (heard, closed) = pair.stranger_has(thief);
            assert!(closed, "the thief is turned away");
            let records: Vec<u8> = heard_types(&heard);
            assert!(!records.contains(&23), "and has heard nothing of the session: {records:?}");
        }
        assert_eq!(pair.live(Server).len(), 2);
        assert!(pair.client().tokens() >= 1);
    }
}

// Row 15.
#[test]
fn join_replayed_ahead_of_the_client_only_carries_its_bytes() {
    for n in [1, 2] {
        let mut pair = Pair::with_tcp_connections(n);
        let data = bytes(20_000);
        let stream = pair.open_stream(Client);
        let joining = pair.open_tcp();
        pair.client().stream(stream).attach(joining).unwrap();
        pair.submit(Client, stream, &data);
        pair.step(Client);
        let flight = intercept(&mut pair, joining, Server);
        assert!(flight.len() > 20_000, "early data follows the hello");
        let thief = pair.connect_stranger();
        pair.stranger_sends(thief, &flight);
        pair.deliver_all();
        assert!(pair.live(Server).contains(&joining), "the server cannot distinguish them");
        pair.flow(joining, Server).send(&flight);
        pair.drive();
        assert_eq!(pair.fault(Client, joining), Some(TcpFault::Alert(47)), "what comes second is a used token");
        pair.drive_for(Duration::from_secs(1));
        assert_eq!(pair.live(Server), pair.live(Client), "the client has said that it has not got that TCP connection");
        assert!(pair.stranger_has(thief).1, "and the server has closed it");
        pair.assert_received(Server, stream, &data);
        assert_eq!(pair.end(Server).accepted, [stream], "nothing was opened twice");
    }
}

/// The content types of records, which are in plaintext.
fn heard_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [ty, _, _, high, low, rest @ ..] = bytes {
        types.push(*ty);
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
    }
    types
}

// Row 20.
#[test]
fn bit_flipped_on_one_path_costs_that_tcp_connection_and_the_data_arrives() {
    let data = bytes(120_000);
    for bit in [0, 3, 11, 39, 40, 41, 1_000, 131_111, 300_000, 500_000] {
        for flipped in [FIRST, SECOND] {
            let mut pair = Pair::with_tcp_connections(2);
            pair.client().set_scheduler(Box::new(Aggregate)); // both carry data
            let stream = pair.open_stream(Client);
            pair.submit(Client, stream, &data);
            pair.step(Client);
            let flow = pair.flow(flipped, Server);
            let byte = (bit / 8) % flow.in_flight.len();
            flow.in_flight[byte] ^= 1 << (bit % 8);
            pair.drive_for(Duration::from_secs(15));
            pair.assert_received(Server, stream, &data);
            let (spoilt, other) = if flipped == FIRST { (FIRST, SECOND) } else { (SECOND, FIRST) };
            for side in [Client, Server] {
                assert_eq!(pair.live(side), [other], "{side:?}, bit {bit} of {spoilt}");
                assert_eq!(pair.conn(side).state(), State::Established);
            }
        }
    }
}

// Row 23.
#[test]
fn stripping_tcpls_from_a_client_hello_fails_the_handshake() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    let hello = pair.flow(FIRST, Server).in_flight.make_contiguous();
    let name = hello.windows(6).position(|window| window == b"\x05tcpls").expect("it is offered");
    hello[name + 1] = b'x';
    pair.drive();
    assert_eq!(pair.client().state(), State::Closed);
    assert!(
        matches!(pair.close_reason(Client), Some(CloseReason::Handshake(_) | CloseReason::LostInHandshake(_))),
        "{:?}",
        pair.close_reason(Client)
    );
    assert!(!matches!(pair.server().state(), State::Plain | State::Established), "{:?}", pair.server().state());
}

// Row 23.
#[test]
fn reset_in_the_handshake_is_reported_and_nothing_is_tried_without_tcpls() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.cut(FIRST);
    assert_eq!(pair.close_reason(Client), Some(CloseReason::LostInHandshake(TcpFault::Reset)));
    assert!(!pair.round(), "the session is over; whether to try again is the application's decision");
}

// Row 21.
#[test]
fn unacknowledged_data_stays_within_the_send_buffer_through_any_failures() {
    let mut setup = Setup::default();
    setup.client.send_buffer = 100_000;
    let mut pair = setup.established();
    pair.end(Server).reads = false;
    let stream = pair.open_stream(Client);
    let mut written = 0;
    for turn in 0..20 {
        loop {
            match pair.client().stream(stream).write(&[7; 10_000]) {
                Ok(taken) => written += taken,
                Err(error) => break assert_eq!(error, WriteError::Blocked, "turn {turn}"),
            }
        }
        assert!(pair.client().stats().bytes_to_send <= 100_000);
        let second = pair.join();
        pair.step(Client);
        pair.cut(second);
        pair.step(Client);
        assert!(pair.client().stats().bytes_to_send <= 100_000);
    }
    assert!(written > 0);
}

// Row 3.
#[test]
fn credit_for_streams_counts_those_that_are_over_and_no_others() {
    let mut peer = Peer::client();
    for index in 0..128 {
        peer.send(FIRST, &[fin(index * 2, 0, b"x")]);
    }
    let mut served = 0;
    while let Some(id) = peer.conn.accept_stream() {
        if served < 64 {
            while matches!(peer.conn.stream(id).read(10), Ok(Some(_))) {}
            peer.conn.stream(id).finish().unwrap();
            served += 1;
        }
    }
    peer.recv(FIRST);
    let last = peer.received(FIRST) - 1;
    peer.send(FIRST, &[ack(FIRST, last)]);
    let answer = peer.recv(FIRST);
    let limits: Vec<u32> = frames_of(&answer)
        .iter()
        .filter_map(|frame| if let Frame::MaxStreams(max) = frame { Some(max.maximum) } else { None })
        .collect();
    assert_eq!(limits, [128 + 64]);
}

// Row 14.
#[test]
fn twenty_thousand_half_open_joins_and_tcp_connections_leave_room_for_the_client() {
    let mut pair = Pair::established();
    let stolen = pair.open_tcp();
    pair.step(Client);
    let flight = intercept(&mut pair, stolen, Server);
    let hello = &flight[..5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]))];
    let now = pair.now;
    let mut claims = Vec::new();
    for n in 0..20_000 {
        let incoming = pair.endpoint.handle_accepted(now);
        if n % 2 == 0 {
            continue; // never says anything
        }
        let mut bytes = BytesMut::from(hello);
        let Some(Incoming::Join(join)) = pair.endpoint.handle_bytes(now, incoming, &mut bytes) else {
            panic!("the token is authentic");
        };
        claims.push(pair.server().handle_join(now, join));
    }
    let refused = std::iter::from_fn(|| pair.endpoint.poll_refused()).count();
    assert!((10_000 - 1024..9_000).contains(&refused), "the oldest of those that say nothing gave way: {refused}");
    let waiting = claims.iter().filter(|claim| pair.server().claim(**claim) == Claim::Waiting).count();
    assert_eq!(waiting, 4, "one token, four places");
    let mut out = Vec::new();
    let told: Vec<usize> =
        claims.iter().map(|claim| pair.server().poll_claim_transmit(*claim, &mut out)).filter(|len| *len > 0).collect();
    assert!(told.len() <= 4 + 32, "alerts are kept for the last few that were turned away, not for {}", told.len());
    pair.join();
    pair.drive_for(Duration::from_secs(6));
    assert!(claims.iter().all(|claim| pair.server().claim(*claim) == Claim::Refused));
    assert_eq!(pair.live(Client).len(), 2);
}

// Row 18.
#[test]
fn a_key_that_cannot_be_renewed_is_used_to_its_limit_and_no_further() {
    let config = Config::default().with(|config| config.confidentiality_limit = Some(40));
    let mut peer = Peer::with(Client, config);
    let id = peer.conn.open_stream().unwrap();
    let mut records = peer.received(FIRST);
    while peer.conn.close_reason().is_none() {
        _ = peer.conn.stream(id).write(b"x");
        peer.recv(FIRST); // and acknowledges nothing
        assert!(peer.received(FIRST) <= 200, "keys are used without end");
        records = records.max(peer.received(FIRST));
    }
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::AeadLimit));
    let updates = u64::from(peer.conn.stats().key_updates.0);
    assert!(records <= 40 * (updates + 1), "{records} records under {} keys", updates + 1);
}

// Row 24.
#[test]
fn hedged_data_in_flight_is_not_requeued_when_the_stalled_connection_is_lost() {
    let mut pair = Pair::with_tcp_connections(2);
    let stream = pair.open_stream(Client);
    pair.client().stream(stream).attach(FIRST).unwrap();
    let data = bytes(30_000);
    pair.write(Client, stream, &data);
    pair.step(Client);
    pair.client().stream(stream).detach(FIRST).unwrap();
    pair.stall(FIRST);
    let sent =
        |pair: &mut Pair| -> u64 { pair.client().stats().tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum() };
    for _ in 0..1_000 {
        pair.advance(Duration::from_millis(1));
        pair.step(Client);
        if sent(&mut pair) > 30_000 {
            break;
        }
    }
    assert_eq!(sent(&mut pair), 60_000, "hedged once");
    let now = pair.now;
    pair.client().handle_tcp_end(now, FIRST, TcpEnd::Reset);
    pair.settle();
    pair.step(Client);
    assert_eq!(sent(&mut pair), 60_000, "the copy that is under way is enough");
    pair.drive();
    assert_eq!(pair.read_all(Server, stream), data);
}
