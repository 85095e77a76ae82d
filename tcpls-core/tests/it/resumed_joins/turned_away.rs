//! Joins that a session does not take: what is sent to them is what the TLS library sends, or nothing.

use bytes::BytesMut;
use tcpls_core::connection::Claim;
use tcpls_core::endpoint::{Incoming, Join};
use tcpls_core::error::JoinRefusal;

use super::{FIRST, TCPLS_JOIN, all_extensions, established, first_flight, pair, records, resuming, ticket};
use crate::support::{Client, Pair, Server, Tls};

/// What the server's endpoint recognizes in a first flight, and the bytes that it leaves.
fn recognized(pair: &mut Pair, flight: &[u8]) -> (Join, BytesMut) {
    let incoming = pair.endpoint.handle_accepted(pair.now);
    let mut input = BytesMut::from(flight);
    match pair.endpoint.handle_bytes(pair.now, incoming, &mut input) {
        Some(Incoming::Join(join)) => (join, input),
        other => panic!("{other:?}"),
    }
}

/// Replaces `from`, which must be there.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn resumed_join_that_does_not_fit_its_session_is_turned_away() {
    let mut pair = established(resuming());
    let second = pair.open_tcp();
    let flight = first_flight(&mut pair, second);
    let (fitting, _) = recognized(&mut pair, &flight);
    assert!(!pair.server().turns_away(&fitting));
    let suite = pair.server().cipher_suite().unwrap().to_be_bytes();
    let changes: [(&[u8], &[u8]); 3] = [(b"server.test", b"server.text"), (b"tcpls", b"other"), (&suite, &[0x13, 9])];
    for (from, to) in changes {
        let changed = replaced(&flight, from, to);
        let (join, mut input) = recognized(&mut pair, &changed);
        assert!(pair.server().turns_away(&join), "{}", to.escape_ascii());
        // The endpoint answers it as it answers a new session, which gets all of it.
        assert!(pair.endpoint.decline_join(join, &mut input).is_ok());
        assert_eq!(input, changed);
    }
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second], "the token still works");
}

#[test]
fn fifth_copy_of_a_resumed_join_is_turned_away() {
    let mut pair = established(resuming());
    let second = pair.open_tcp_slowly();
    let flight = first_flight(&mut pair, second);
    pair.stall(second);
    for copy in 0..5 {
        let (join, _) = recognized(&mut pair, &flight);
        assert_eq!(pair.server().turns_away(&join), copy == 4, "copy {copy}");
        if copy < 4 {
            let now = pair.now;
            let claim = pair.server().handle_join(now, join);
            assert_eq!(pair.server().claim(claim), Claim::Waiting);
        }
    }
}

#[test]
fn resumed_join_whose_token_is_used_gets_no_byte_as_a_claim() {
    for is_resumption in [true, false] {
        let mut pair = established(Tls { resumed_joins: is_resumption, ..Tls::default() });
        let second = pair.open_tcp();
        let flight = first_flight(&mut pair, second);
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, second]);
        let (join, _) = recognized(&mut pair, &flight);
        assert_eq!((join.is_resumption(), pair.server().turns_away(&join)), (is_resumption, is_resumption));
        let now = pair.now;
        let claim = pair.server().handle_join(now, join);
        assert_eq!(pair.server().claim_refusal(claim), Some(JoinRefusal::Token));
        let mut answer = Vec::new();
        pair.server().poll_claim_transmit(claim, &mut answer);
        assert_eq!(answer.is_empty(), is_resumption, "{answer:?}: only the draft's form has an alert for it");
    }
}

#[test]
fn records_behind_a_hello_that_is_not_resumed_belong_to_tls() {
    let mut pair = established(resuming());
    let stream = pair.open_stream(Client);
    pair.stall(FIRST);
    pair.write(Client, stream, b"in the first flight");
    let second = pair.open_tcp();
    let flight = first_flight(&mut pair, second);
    assert!(records(&flight).len() > 2, "a record of the session follows the hello");
    pair.stall(second);
    // With a key share of another group, the library asks for another hello, and skips the early data.
    let changed = replaced(&flight, &[0, 29, 0, 32], &[0, 23, 0, 32]);
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &changed);
    pair.drive();
    let (asked, is_closed) = pair.stranger_has(stranger);
    assert!(!is_closed && !asked.is_empty(), "it waits for another hello");
    assert_eq!(pair.live(Server), [FIRST], "the record authenticates nothing");
    // A record that cannot follow is answered by the library.
    pair.stranger_sends(stranger, &[22, 3, 3, 0, 4, 9, 0, 0, 0]);
    pair.drive();
    let (answer, is_closed) = pair.stranger_has(stranger);
    assert!(is_closed);
    assert_eq!(answer[asked.len()..], [21, 3, 3, 0, 2, 2, 10], "unexpected_message");
}

#[test]
fn resumed_join_of_a_session_without_them_is_turned_away() {
    let mut resumed = established(resuming());
    let second = resumed.open_tcp();
    let flight = first_flight(&mut resumed, second);

    let mut pair = pair(&resuming(), &Tls::default());
    pair.drive();
    let second = pair.open_tcp();
    let hello = first_flight(&mut pair, second);
    let (_, body) = all_extensions(&hello).into_iter().find(|(ty, _)| *ty == TCPLS_JOIN).expect("the draft's form");
    let token = &body[body.len() - 32..];
    let (join, _) = recognized(&mut pair, &replaced(&flight, &ticket(&flight).unwrap(), token));
    assert!(join.is_resumption() && pair.server().turns_away(&join));
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second], "the token still works");
}
