//! Joins that are TLS resumptions, with a real TLS library at both ends: the client's flight, the server's answer, or that of
//! another instance of the server, damaged, cut, copied and cut into pieces. Property: none of that ends the session, takes
//! unbounded memory, or keeps what is written from arriving.
//!
//! The input is a byte that chooses what is damaged, one for the size of pieces, and then edits of four bytes: what to do, where,
//! and a value.

use bytes::BytesMut;
use tcpls_core::testing::tls;
use tcpls_core::testing::{Pair, Setup, Tls};
use tcpls_core::{Config, Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, Seed, Side, State};

use crate::choices::Choices;

/// Edits of one flight at most.
const MAX_EDITS: usize = 16;
/// Copies of a client's flight at most: more than may claim one token at once.
const MAX_COPIES: u8 = 6;
/// Memory of a session with such joins, in bytes.
const MAX_MEMORY: usize = 512 << 10;

/// The target `joins`: see above.
pub fn joins(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (mode, piece) = (choices.byte(), usize::from(choices.byte()) * 4 + 1);
    let tls = Tls { resumed_joins: true, ..Tls::default() };
    let (client, server) = (tls.client(1), tls.server(2));
    let start = || server.handshake().expect("a complete configuration");
    let mut pair = Pair::new(Setup::default(), tls::start_client(&client), start());
    pair.drive();
    let tcp = if mode & 4 == 0 { pair.open_tcp() } else { pair.open_tcp_slowly() };
    pair.step(Side::Client);
    match mode & 3 {
        0 | 1 => {
            let flight: Vec<u8> = pair.flow(tcp, Side::Server).in_flight.iter().copied().collect();
            pair.stall(tcp);
            let damaged = damage(flight, &mut choices);
            for _ in 0..=(mode >> 4) % MAX_COPIES {
                strange_join(&mut pair, &damaged, piece);
            }
            check(&mut pair);
            pair.unstall(tcp);
        }
        2 => {
            pair.deliver(tcp, Side::Server, usize::MAX);
            pair.step(Side::Server);
            let answer = pair.flow(tcp, Side::Client).in_flight.drain(..).collect();
            answered(&mut pair, tcp, &damage(answer, &mut choices), piece);
        }
        _ => {
            let flight: Vec<u8> = pair.flow(tcp, Side::Server).in_flight.drain(..).collect();
            let answer = damage(elsewhere(&pair, start(), &flight), &mut choices);
            answered(&mut pair, tcp, &answer, piece);
        }
    }
    pair.drive();
    check(&mut pair);
    pair.heal();
    pair.transfer(Side::Client, b"up");
    pair.transfer(Side::Server, b"down");
}

/// A socket of someone else's sends these bytes to the server, in pieces.
fn strange_join(pair: &mut Pair, flight: &[u8], piece: usize) {
    let stranger = pair.connect_stranger();
    for part in flight.chunks(piece.max(flight.len() / 64 + 1)) {
        pair.stranger_sends(stranger, part);
        pair.deliver_all();
    }
    pair.drive();
}

/// The client gets this answer, in pieces.
fn answered(pair: &mut Pair, tcp: ConnectionId, answer: &[u8], piece: usize) {
    pair.stall_towards(tcp, Side::Server);
    pair.flow(tcp, Side::Client).send(answer);
    while pair.is_under_way(tcp, Side::Client) && pair.deliver(tcp, Side::Client, piece) > 0 {}
    pair.step(Side::Client);
}

/// What another instance of the server answers to the flight of a join.
fn elsewhere(pair: &Pair, tls: Box<dyn tcpls_core::crypto::Handshake>, flight: &[u8]) -> Vec<u8> {
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [9; 32], Seed([4; 32]));
    let (incoming, mut input) = (endpoint.handle_accepted(pair.now), BytesMut::from(flight));
    let Some(Incoming::New(session)) = endpoint.handle_bytes(pair.now, incoming, &mut input) else {
        panic!("an unknown ticket begins a session");
    };
    let mut conn = Connection::server(pair.now, Config::default().into(), tls, session, Seed([5; 32]));
    conn.handle_bytes(pair.now, ConnectionId::FIRST, &mut input);
    let mut answer = Vec::new();
    while conn.poll_transmit(pair.now, ConnectionId::FIRST, 16 << 10, &mut answer) > 0 {}
    answer
}

/// Changes bytes, leaves some out, repeats some, or inserts some.
fn damage(mut bytes: Vec<u8>, choices: &mut Choices<'_>) -> Vec<u8> {
    for _ in 0..MAX_EDITS {
        let Some(kind) = choices.next() else { break };
        let (at, value) = (usize::from(choices.pair()) % (bytes.len() + 1), choices.byte());
        let end = bytes.len().min(at + usize::from(value));
        match kind % 4 {
            0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= value),
            1 => _ = bytes.drain(at..end),
            2 => bytes.extend_from_within(at..end),
            _ => bytes.insert(at, value),
        }
    }
    bytes
}

/// The session lives, and has not taken what it should not.
fn check(pair: &mut Pair) {
    for side in [Side::Client, Side::Server] {
        let conn = pair.conn(side);
        assert_eq!(conn.state(), State::Established, "{side:?}: {:?}", conn.close_reason());
        assert!(conn.memory() <= MAX_MEMORY, "{side:?}: {} bytes", conn.memory());
        assert!(pair.live(side).contains(&ConnectionId::FIRST));
    }
}
