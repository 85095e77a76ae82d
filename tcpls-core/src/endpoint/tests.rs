//! The front door from outside: hellos whole and in pieces, joins here and at another endpoint, and what is refused.

use super::*;
use crate::crypto::rng::Seed;
use crate::wire::hello::JoinHello;
use crate::wire::ids::{ServerId, Token};

const SECRET: [u8; 32] = [0x5e; 32];
const START: Time = Time::from_millis(1000);
const TIMEOUT: Duration = Duration::from_secs(5);
const ILLEGAL_PARAMETER: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];
const USER_CANCELED_CLOSE_NOTIFY: [u8; 14] = [21, 3, 3, 0, 2, 2, 90, 21, 3, 3, 0, 2, 1, 0];

fn endpoint_with(max_pending: usize, secret: [u8; 32], seed: u8) -> Endpoint {
    Endpoint::new(EndpointConfig { max_pending, ..EndpointConfig::default() }, secret, Seed([seed; 32]))
}

fn endpoint() -> Endpoint {
    endpoint_with(1024, SECRET, 1)
}

fn encode(token: Token, extensions: &ExtensionTypes) -> Vec<u8> {
    let hello = JoinHello {
        random: [1; 32],
        session_id: [2; 32],
        suite: 0x1301,
        server_name: Some("localhost"),
        alpn: Some(b"tcpls"),
        key_share: [3; 32],
        token,
        zero_rtt: None,
    };
    let mut out = Vec::new();
    hello.encode(extensions, &mut out);
    out
}

fn join_hello(token: Token) -> Vec<u8> {
    encode(token, &ExtensionTypes::default())
}

/// A ClientHello without `tcpls_join`: the token hides behind a code point that means nothing.
fn plain_hello() -> Vec<u8> {
    encode(Token([0; 32]), &ExtensionTypes { tcpls: 0xff70, tcpls_join: 0xff71, ..ExtensionTypes::default() })
}

/// Returns the kind of a TCP connection that sends `bytes` at once, and the rest of them.
fn decide(endpoint: &mut Endpoint, bytes: &[u8]) -> (Option<Incoming>, BytesMut) {
    let incoming = endpoint.handle_accepted(START);
    let mut buffer = BytesMut::from(bytes);
    (endpoint.handle_bytes(START, incoming, &mut buffer), buffer)
}

fn new_session(endpoint: &mut Endpoint) -> NewSession {
    match decide(endpoint, &plain_hello()).0 {
        Some(Incoming::New(session)) => session,
        other => panic!("expected a new session, not {other:?}"),
    }
}

fn alert(incoming: Option<Incoming>) -> Vec<u8> {
    match incoming {
        Some(Incoming::Refused { alert }) => alert,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

#[test]
fn a_hello_without_a_token_starts_a_session_and_stays_in_the_buffer() {
    let mut endpoint = endpoint();
    let bytes = [plain_hello(), b"more".to_vec()].concat();
    let (incoming, rest) = decide(&mut endpoint, &bytes);
    assert!(matches!(incoming, Some(Incoming::New(_))));
    assert_eq!(rest, bytes);
    assert_eq!(endpoint.poll_timeout(), None);
}

#[test]
fn sessions_have_different_ids_and_so_have_those_of_other_endpoints() {
    let (mut a, mut b) = (endpoint(), endpoint_with(1, SECRET, 2));
    let ids = [new_session(&mut a).id(), new_session(&mut a).id(), new_session(&mut b).id()];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

// draft I14, I15
#[test]
fn a_token_leads_to_its_session_and_only_the_hello_is_taken() {
    let mut endpoint = endpoint();
    let session = new_session(&mut endpoint);
    let token = session.secret.seal(session.id, 7);
    let (incoming, rest) = decide(&mut endpoint, &[join_hello(token), b"records".to_vec()].concat());
    let Some(Incoming::Join(join)) = incoming else { panic!("expected a join, not {incoming:?}") };
    assert_eq!((join.session(), join.sequence()), (session.id(), 7));
    assert_eq!(join.hello.session_id[..], [2; 32]);
    assert_eq!(&rest[..], b"records");
}

#[test]
fn an_endpoint_with_the_same_secret_recognises_the_token_too() {
    let session = new_session(&mut endpoint());
    let hello = join_hello(session.secret.seal(session.id, 1));
    let (incoming, _) = decide(&mut endpoint_with(8, SECRET, 99), &hello);
    assert!(matches!(incoming, Some(Incoming::Join(join)) if join.session() == session.id()));
}

/// A server of a farm.
fn server(id: u16) -> Endpoint {
    let config = EndpointConfig { server: Some(ServerId(id)), ..EndpointConfig::default() };
    Endpoint::new(config, SECRET, Seed([7; 32]))
}

#[test]
fn join_of_another_server_is_foreign_and_its_bytes_stay() {
    let (mut first, mut second) = (server(1), server(0x102));
    let session = new_session(&mut second);
    assert_eq!((session.id().server(), new_session(&mut first).id().server()), (ServerId(0x102), ServerId(1)));
    let bytes = [join_hello(session.secret.seal(session.id, 7)), b"records".to_vec()].concat();
    let (incoming, rest) = decide(&mut first, &bytes);
    let Some(Incoming::Foreign(join)) = incoming else { panic!("expected a foreign join, not {incoming:?}") };
    assert_eq!((join.session(), join.sequence(), &rest[..]), (session.id(), 7, &bytes[..]));
    assert_eq!(Endpoint::refuse_foreign_join(&join), ILLEGAL_PARAMETER);
    assert_eq!(first.decline_foreign_join(&join).unwrap_err(), ILLEGAL_PARAMETER);
    assert!(matches!(decide(&mut second, &rest), (Some(Incoming::Join(own)), _) if own.session() == session.id()));
    assert!(
        matches!(decide(&mut endpoint(), &rest), (Some(Incoming::Join(_)), _)),
        "without an ID every token is its own"
    );
}

#[test]
fn secret_is_replaced_in_steps_without_losing_a_token() {
    let (mut endpoint, new) = (endpoint(), [0x5f; 32]);
    let session = new_session(&mut endpoint);
    let hello = |session: &NewSession| join_hello(session.secret.seal(session.id, 1));
    let mut other = endpoint_with(8, new, 2);
    let later = new_session(&mut other);
    let accepts = |endpoint: &mut Endpoint, session| matches!(decide(endpoint, &hello(session)).0, Some(Incoming::Join(join)) if join.session() == session.id());
    // This endpoint accepts the new secret before another one seals with it.
    endpoint.set_secrets(TokenSecrets::new(SECRET).accepting(new));
    assert!(accepts(&mut endpoint, &session) && accepts(&mut endpoint, &later));
    endpoint.set_secrets(TokenSecrets::new(new).accepting(SECRET));
    let latest = new_session(&mut endpoint);
    assert!(accepts(&mut endpoint, &session) && accepts(&mut endpoint, &later) && accepts(&mut other, &latest));
    endpoint.set_secrets(TokenSecrets::new(new));
    assert!(!accepts(&mut endpoint, &session) && accepts(&mut endpoint, &later));
}

// draft E10
#[test]
fn a_token_that_is_not_authentic_is_refused_with_illegal_parameter() {
    let session = new_session(&mut endpoint());
    let token = session.secret.seal(session.id, 1);
    let mut flipped = token;
    flipped.0[31] ^= 1;
    assert_eq!(alert(decide(&mut endpoint(), &join_hello(flipped)).0), ILLEGAL_PARAMETER);
    assert_eq!(alert(decide(&mut endpoint(), &join_hello(Token([0; 32]))).0), ILLEGAL_PARAMETER);
    let mut stranger = endpoint_with(8, [0x5f; 32], 1);
    assert_eq!(alert(decide(&mut stranger, &join_hello(token)).0), ILLEGAL_PARAMETER);
}

#[test]
fn join_of_an_ended_session_gets_the_same_answer() {
    let session = new_session(&mut endpoint());
    let hello = join_hello(session.secret.seal(session.id, 1));
    let (Some(Incoming::Join(join)), _) = decide(&mut endpoint(), &hello) else { panic!("expected a join") };
    assert_eq!(Endpoint::refuse_join(&join), ILLEGAL_PARAMETER);
}

#[test]
fn hello_is_read_byte_by_byte() {
    for hello in [plain_hello(), join_hello(endpoint().secrets.sealing().seal(SessionId([9; 12]), 1))] {
        let mut endpoint = endpoint();
        let incoming = endpoint.handle_accepted(START);
        let mut buffer = BytesMut::new();
        let (last, first) = hello.split_last().unwrap();
        for byte in first {
            buffer.extend_from_slice(&[*byte]);
            assert!(endpoint.handle_bytes(START, incoming, &mut buffer).is_none());
        }
        buffer.extend_from_slice(&[*last]);
        let decided = endpoint.handle_bytes(START, incoming, &mut buffer);
        assert!(matches!(decided, Some(Incoming::New(_) | Incoming::Join(_))), "{decided:?}");
    }
}

#[test]
fn bytes_that_are_not_a_client_hello_get_an_alert() {
    let mut changed = join_hello(Token([0; 32]));
    changed[9 + 2 + 32] = 33; // a session ID of more than 32 bytes
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[23, 3, 3, 0, 1, 0], &[22, 3, 1, 0, 4, 2, 0, 0, 0], &changed] {
        let mut endpoint = endpoint();
        let alert = alert(decide(&mut endpoint, bytes).0);
        assert_eq!((alert.len(), &alert[..6]), (7, &[21, 3, 3, 0, 2, 2][..]));
        assert_eq!(endpoint.poll_timeout(), None);
    }
}

#[test]
fn a_hello_that_never_ends_is_refused_within_its_bound() {
    let mut endpoint = endpoint();
    let incoming = endpoint.handle_accepted(START);
    // A ClientHello of 60,000 bytes, in records of 100.
    let mut buffer = BytesMut::from(&[22, 3, 1, 0, 4, 1, 0, 0xea, 0x60][..]);
    let refused = loop {
        if let Some(refused) = endpoint.handle_bytes(START, incoming, &mut buffer) {
            break refused;
        }
        buffer.extend_from_slice(&[22, 3, 1, 0, 100]);
        buffer.extend_from_slice(&[0; 100]);
        assert!(buffer.len() < 20_000, "not refused yet");
    };
    assert_eq!(alert(Some(refused))[0], 21);
}

#[test]
fn a_hello_that_is_overdue_is_refused() {
    let mut endpoint = endpoint();
    let first = endpoint.handle_accepted(START);
    let second = endpoint.handle_accepted(START + Duration::from_secs(1));
    assert_eq!(endpoint.poll_timeout(), Some(START + TIMEOUT));

    endpoint.handle_timeout(START + TIMEOUT.mul_f32(0.9));
    assert_eq!(endpoint.poll_refused(), None, "too early");

    endpoint.handle_timeout(START + TIMEOUT);
    assert_eq!(endpoint.poll_refused(), Some((first, USER_CANCELED_CLOSE_NOTIFY.to_vec())));
    assert_eq!(endpoint.poll_refused(), None);
    assert_eq!(endpoint.poll_timeout(), Some(START + Duration::from_secs(1) + TIMEOUT));
    assert!(endpoint.handle_bytes(START, first, &mut BytesMut::from(&plain_hello()[..])).is_none());
    assert!(endpoint.handle_bytes(START, second, &mut BytesMut::from(&plain_hello()[..])).is_some());
}

#[test]
fn bytes_do_not_extend_the_deadline() {
    let mut endpoint = endpoint();
    let incoming = endpoint.handle_accepted(START);
    let mut buffer = BytesMut::from(&plain_hello()[..9]);
    assert!(endpoint.handle_bytes(START + TIMEOUT.mul_f32(0.9), incoming, &mut buffer).is_none());
    assert_eq!(endpoint.poll_timeout(), Some(START + TIMEOUT));
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut endpoint = endpoint();
    let late = START + Duration::from_secs(9);
    endpoint.handle_timeout(late);
    endpoint.handle_accepted(START);
    assert_eq!(endpoint.poll_timeout(), Some(late + TIMEOUT));
    endpoint.handle_timeout(START);
    endpoint.handle_timeout(late + TIMEOUT);
    assert!(endpoint.poll_refused().is_some());
}

#[test]
fn one_pending_too_many_costs_the_oldest_its_place() {
    let mut endpoint = endpoint_with(2, SECRET, 1);
    let all: Vec<_> = (0..4).map(|_| endpoint.handle_accepted(START)).collect();
    assert_eq!(endpoint.poll_refused().map(|(incoming, _)| incoming), Some(all[0]));
    assert_eq!(endpoint.poll_refused(), Some((all[1], USER_CANCELED_CLOSE_NOTIFY.to_vec())));
    assert_eq!(endpoint.poll_refused(), None);
    for (incoming, kept) in all.into_iter().zip([false, false, true, true]) {
        let decided = endpoint.handle_bytes(START, incoming, &mut BytesMut::from(&plain_hello()[..]));
        assert_eq!(decided.is_some(), kept);
    }
}

#[test]
fn at_least_one_may_be_pending() {
    let mut endpoint = endpoint_with(0, SECRET, 1);
    new_session(&mut endpoint);
    assert_eq!(endpoint.poll_refused(), None);
}

#[test]
fn a_tcp_connection_that_ended_or_is_settled_is_forgotten() {
    let mut endpoint = endpoint();
    let ended = endpoint.handle_accepted(START);
    endpoint.handle_end(ended);
    endpoint.handle_end(ended);
    let settled = endpoint.handle_accepted(START);
    let mut buffer = BytesMut::from(&plain_hello()[..]);
    assert!(endpoint.handle_bytes(START, settled, &mut buffer).is_some());
    for gone in [ended, settled] {
        assert!(endpoint.handle_bytes(START, gone, &mut buffer).is_none());
    }
    endpoint.handle_timeout(Time::MAX);
    assert_eq!(endpoint.poll_refused(), None);
}
