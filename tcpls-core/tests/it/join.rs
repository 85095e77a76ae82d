//! TCP connections that join a session, and those that must not.

use std::time::Duration;

use rustls::CipherSuite;
use tcpls_core::connection::State;
use tcpls_core::error::{OpenTcpError, TcpFault};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;

use crate::support::{Client, Pair, Role, Server, Setup, Tls, discarded, joined, lost};

const FIRST: ConnectionId = ConnectionId::FIRST;

/// illegal_parameter in plaintext: the answer to an invalid token (draft, 5.1.2).
const ILLEGAL_PARAMETER: [u8; 7] = [21, 3, 3, 0, 2, 2, 47];

/// Sends the client's join as far as the sockets, and returns its bytes without delivering them.
fn hello_of(pair: &mut Pair, tcp: ConnectionId) -> Vec<u8> {
    pair.step(Client);
    pair.flow(tcp, Server).in_flight.iter().copied().collect()
}

#[test]
fn every_join_shows_a_random_and_a_key_share_of_its_own() {
    let mut pair = Pair::established();
    let [a, b, c, d] = [(); 4].map(|()| {
        let tcp = pair.open_tcp();
        hello_of(&mut pair, tcp)
    });
    // What it is for is of the length of an X25519 share: 32 bytes behind group and length.
    let share = |hello: &[u8]| {
        let at = hello.windows(4).position(|bytes| bytes == [0, 29, 0, 32]).expect("it offers X25519");
        hello[at + 4..at + 36].to_vec()
    };
    assert_ne!(a[11..43], b[11..43], "the random");
    assert_ne!(share(&a), share(&b));
    let last: Vec<u8> = [a, b, c, d].iter().map(|hello| share(hello)[31]).collect();
    assert!(last.iter().all(|byte| *byte < 0x80), "X25519 uses 255 bits");
    assert!(last.iter().any(|byte| *byte < 0x7f));
}

#[test]
fn the_binder_of_a_join_has_the_length_of_the_suites_hash() {
    for (suite, len) in [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, 32),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, 48),
        (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, 32),
    ] {
        let tls = Tls { suites: vec![suite], ..Tls::default() };
        let mut pair = Setup { tls: Some(tls), ..Setup::default() }.established();
        let tcp = pair.open_tcp();
        let flight = hello_of(&mut pair, tcp);
        let hello = &flight[..5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]))];
        // RFC 8446, 4.2.11: the list of binders, one with its length, ends the hello.
        let (head, list) = hello.split_at(hello.len() - len - 3);
        assert_eq!(list[..3], [0, len as u8 + 1, len as u8], "{suite:?} after {} bytes", head.len());
    }
}

#[test]
fn a_join_under_way_carries_no_data_as_long_as_others_live() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    // More than the first takes at once.
    pair.write(Client, stream, &crate::support::bytes(150_000));
    let second = pair.open_tcp();
    pair.step(Client);
    let sent = |pair: &mut Pair, tcp| pair.client().tcp_stats(tcp).unwrap().counters.stream_bytes_sent;
    assert!(sent(&mut pair, FIRST) > 0 && sent(&mut pair, FIRST) < 150_000);
    assert_eq!(sent(&mut pair, second), 0);
}

#[test]
fn many_joins_do_not_use_up_keys() {
    let mut pair = Pair::established();
    for _ in 0..20 {
        let tcp = pair.join();
        pair.cut(tcp);
        pair.drive();
    }
    pair.update_keys(Client);
    pair.transfer(Client, b"under new keys");
    pair.join();
    pair.transfer(Server, b"and back");
    assert_eq!(pair.live(Client).len(), 2);
}

// draft I13
// draft I15
#[test]
fn a_join_makes_one_more_tcp_connection_on_both_sides() {
    let mut pair = Pair::established();
    let second = pair.join();
    assert_eq!(second, ConnectionId(1), "the token's number is the connection ID (draft, 4.2.1)");
    for side in [Client, Server] {
        assert_eq!(pair.tcp_events(side), [joined(FIRST), joined(second)]);
        assert_eq!(pair.live(side), [FIRST, second]);
    }
}

#[test]
fn data_follows_the_hello_of_a_join_without_a_round_trip() {
    let mut pair = Pair::established();
    let stream = pair.open_stream(Client);
    pair.cut(FIRST);
    pair.write(Client, stream, b"in the first flight");
    let second = pair.open_tcp();
    pair.step(Client);
    pair.deliver(second, Server, usize::MAX);
    assert_eq!(pair.read_all(Server, stream), b"in the first flight");
}

#[test]
fn a_join_can_wait_for_the_server_hello() {
    let mut pair = Pair::established();
    let second = pair.open_tcp_slowly();
    let hello = hello_of(&mut pair, second);
    assert_eq!((hello[0], 5 + usize::from(u16::from_be_bytes([hello[3], hello[4]]))), (22, hello.len()));
    pair.deliver_all();
    assert_eq!(pair.live(Server), [FIRST], "it is not authenticated yet");
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    pair.client().stats();
    pair.transfer(Client, &[1; 50_000]);
}

#[test]
fn a_join_may_be_split_anywhere() {
    let len = {
        let mut pair = Pair::established();
        let second = pair.open_tcp();
        hello_of(&mut pair, second).len()
    };
    for split in 1..len {
        let mut pair = Pair::established();
        let second = pair.open_tcp();
        hello_of(&mut pair, second);
        pair.deliver(second, Server, split);
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, second], "split at {split}");
        assert_eq!(pair.live(Client), [FIRST, second], "split at {split}");
    }
}

// draft I11
#[test]
fn a_token_works_once() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let hello = hello_of(&mut pair, second);
    pair.drive();
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &hello);
    pair.drive();
    assert_eq!(pair.stranger_has(stranger), (ILLEGAL_PARAMETER.to_vec(), true));
    assert_eq!(pair.live(Server), [FIRST, second]);
    assert_eq!(pair.server().stats().limits.claims_refused, 1);
}

#[test]
fn token_that_was_not_issued_is_answered_like_a_used_one() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let mut hello = hello_of(&mut pair, second);
    // The token is the body of the extension 0xff61, which has 32 bytes.
    let at = hello.windows(4).position(|window| window == [0xff, 0x61, 0, 32]).unwrap() + 4;
    hello[at] ^= 1;
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &hello);
    pair.drive();
    assert_eq!(pair.stranger_has(stranger), (ILLEGAL_PARAMETER.to_vec(), true));
    assert_eq!(pair.live(Server), [FIRST, second], "the client's own join is not disturbed");
}

// draft I23
#[test]
fn overheard_token_is_useless_without_the_keys() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let flight = hello_of(&mut pair, second);
    let hello_len = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    let thief = pair.connect_stranger();
    pair.stranger_sends(thief, &flight[..hello_len]);
    pair.stranger_sends(thief, &[&[23, 3, 3, 0, 40][..], &[9; 40]].concat());
    pair.stall(second);
    pair.deliver_all();
    assert_eq!(pair.live(Server), [FIRST], "a record that does not open does not authenticate");
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    assert!(pair.stranger_has(thief).1, "the thief was turned away");
    assert_eq!(pair.server().stats().limits.bad_records, 1);
    pair.transfer(Client, b"unharmed");
}

#[test]
fn of_two_joins_with_one_token_the_first_to_prove_itself_wins() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let flight = hello_of(&mut pair, second);
    let hello_len = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    // Both have presented the token, the attacker first.
    let thief = pair.connect_stranger();
    pair.stranger_sends(thief, &flight[..hello_len]);
    pair.stall(second);
    pair.deliver_all();
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    let (answer, closed) = pair.stranger_has(thief);
    assert!(closed && answer.ends_with(&ILLEGAL_PARAMETER), "{answer:?}");
}

#[test]
fn at_most_four_tcp_connections_claim_a_token_at_once() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let flight = hello_of(&mut pair, second);
    let hello_len = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    pair.stall(second);
    let strangers: Vec<usize> = (0..5).map(|_| pair.connect_stranger()).collect();
    strangers.iter().for_each(|stranger| pair.stranger_sends(*stranger, &flight[..hello_len]));
    pair.round();
    pair.round();
    let closed: Vec<bool> = strangers.iter().map(|stranger| pair.stranger_has(*stranger).1).collect();
    assert_eq!(closed, [false, false, false, false, true]);
}

// draft I17
#[test]
fn a_join_that_overtakes_the_clients_finished_waits_for_it() {
    let mut pair = Setup::default().start();
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    pair.deliver_all();
    pair.stall(FIRST); // the client's Finished is under way
    let second = pair.open_tcp();
    pair.drive();
    assert_eq!(pair.server().state(), State::Handshaking);
    assert!(matches!(pair.role(second, Server), Role::Claim(_)));
    pair.unstall(FIRST);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST, second]);
    assert_eq!(pair.live(Client), [FIRST, second]);
    pair.transfer(Client, &[3; 200_000]);
}

#[test]
fn used_tokens_are_replaced_within_the_limit_of_tcp_connections() {
    let setup = Setup::default().both(|config| (config.max_tcp_connections, config.spare_tokens) = (4, 2));
    let mut pair = setup.established();
    assert_eq!(pair.client().tokens(), 2);
    pair.join();
    assert_eq!(pair.client().tokens(), 2);
    pair.join();
    assert!(pair.client().tokens() >= 1);
    assert_eq!(pair.client().tokens(), pair.server().tokens());
    let told = pair.events(Client).iter().filter(|event| matches!(event, Event::TokensAvailable { .. }));
    assert!(told.count() >= 3);
}

// draft I09
#[test]
fn join_without_a_token_is_an_error() {
    let setup = Setup::default().both(|config| config.spare_tokens = 1);
    let mut pair = setup.established();
    assert_eq!(pair.client().tokens(), 1);
    pair.open_tcp();
    let now = pair.now;
    assert_eq!(pair.client().open_tcp(now), Err(OpenTcpError::NoToken));
    pair.drive();
    assert_eq!(pair.client().tokens(), 1, "the next one came when the first was used");
    assert_eq!(pair.server().open_tcp(now), Err(OpenTcpError::Server));
}

#[test]
fn tokens_never_run_out_over_many_joins() {
    let mut pair = Pair::established();
    for round in 1..=300 {
        let tcp = pair.join();
        assert_eq!(tcp, ConnectionId(round));
        pair.cut(tcp);
        pair.drive();
        assert!(pair.client().tokens() >= 2, "after {round} joins");
    }
    assert!(pair.server().stats().frames_sent.get(0x47) > 0, "past 255, tokens come in wide frames");
    pair.transfer(Client, b"still there");
}

#[test]
fn another_endpoint_with_the_same_secret_knows_whose_join_it_is() {
    use bytes::BytesMut;
    use tcpls_core::crypto::rng::Seed;
    use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};

    let mut pair = Pair::established();
    let second = pair.open_tcp();
    let hello = hello_of(&mut pair, second);
    let recognised = |secret: [u8; 32]| {
        let mut endpoint = Endpoint::new(EndpointConfig::default(), secret, Seed([9; 32]));
        let incoming = endpoint.handle_accepted(pair.now);
        endpoint.handle_bytes(pair.now, incoming, &mut BytesMut::from(&hello[..])).unwrap()
    };
    let (same, other) = (recognised([0x5e; 32]), recognised([0x5f; 32]));
    let Incoming::Join(join) = same else { panic!("{same:?}") };
    assert_eq!((Some(join.session()), join.sequence()), (pair.server().session_id(), second.0));
    assert!(matches!(other, Incoming::Refused { .. }));
}

#[test]
fn join_without_an_answer_times_out() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    pair.stall(second);
    pair.drive_for(Duration::from_secs(6));
    assert_eq!(pair.fault(Client, second), Some(TcpFault::JoinTimeout));
    assert_eq!(pair.tcp_events(Client), [joined(FIRST), lost(second, TcpFault::JoinTimeout), discarded(second)]);
    assert!(pair.client().tokens() >= 2, "the burned token is replaced");
    pair.unstall(second);
    pair.drive();
    assert_eq!(pair.live(Server), [FIRST], "a token is burned with its join");
}

#[test]
fn a_claim_that_never_proves_itself_is_turned_away_in_time() {
    let mut pair = Pair::established();
    let second = pair.open_tcp_slowly();
    let hello = hello_of(&mut pair, second);
    pair.stall(second);
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, &hello);
    pair.drive();
    assert!(!pair.stranger_has(stranger).1);
    pair.drive_for(Duration::from_secs(6));
    assert!(pair.stranger_has(stranger).1);
}

#[test]
fn a_join_is_refused_for_good_once_the_session_closes() {
    let mut pair = Pair::established();
    let second = pair.open_tcp();
    hello_of(&mut pair, second);
    pair.stall(second);
    pair.close(Server, 0, b"");
    pair.drive();
    pair.unstall(second);
    pair.drive_for(Duration::from_secs(10));
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).state(), State::Closed, "{side:?}");
        assert!(!pair.tcp_events(side).contains(&TcpEvent::Joined { tcp: second }));
    }
}

#[test]
fn there_are_never_more_tcp_connections_than_allowed_at_once() {
    let setup = Setup::default().both(|config| config.max_tcp_connections = 4);
    let mut pair = setup.established();
    for _ in 0..20 {
        pair.open_tcp();
        pair.drive();
        assert!(pair.live(Server).len() <= 4, "{:?}", pair.live(Server));
    }
    pair.transfer(Client, b"still at work");
}

#[test]
fn both_ends_know_how_many_tcp_connections_there_may_be() {
    let mut setup = Setup::default();
    setup.client.max_tcp_connections = 3;
    let mut pair = setup.established();
    assert_eq!((pair.client().max_tcp_connections(), pair.server().max_tcp_connections()), (3, 3));
}
