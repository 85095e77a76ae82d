use std::collections::BTreeSet;

use tcpls_core::wire::ExtensionTypes;

use super::super::key_log::KeyLog;
use super::super::tests::{client_hello, key_log, message, random, sealed, secret, server_hello};
use super::*;

/// A TCP connection, and what was decrypted.
struct Bench<'a> {
    tcp: Tcp,
    sessions: Sessions<'a>,
    found: Vec<(Option<u64>, u32, u8)>,
}

impl<'a> Bench<'a> {
    fn new(key_log: &'a KeyLog) -> Self {
        Self { tcp: Tcp::default(), sessions: Sessions::new(key_log), found: Vec::new() }
    }

    fn handle(&mut self, sender: Side, bytes: &[u8]) {
        let found = &mut self.found;
        self.tcp.handle(sender, bytes, &mut self.sessions, |_, decrypted| {
            found.push((decrypted.number, decrypted.generation, decrypted.opened.content_type));
        });
    }

    /// A record of the client on the first TCP connection.
    fn record(&mut self, generation: u32, sequence: u64, content_type: u8, content: &[u8]) {
        self.handle(Side::Client, &sealed(&secret(0, false), (0, generation, sequence), content_type, content));
    }

    /// After both hellos of session 0.
    fn begun(key_log: &'a KeyLog) -> Self {
        let mut bench = Self::new(key_log);
        bench.handle(Side::Client, &client_hello(&random(0), &[]));
        bench.handle(Side::Server, &server_hello());
        bench
    }
}

#[test]
fn pieces_of_a_hello_are_not_copied_for_each_record() {
    let log = KeyLog::default();
    let mut bench = Bench::new(&log);
    let hello = [&[1, 0, 0xea, 0x60][..], &[0; 50_000]].concat();
    let mut capacities = BTreeSet::new();
    for byte in &hello {
        bench.handle(Side::Client, &[22, 3, 1, 0, 1, *byte]);
        capacities.insert(bench.tcp.messages[0].capacity());
    }
    assert_eq!((bench.tcp.over(), bench.tcp.messages[0].len()), (None, hello.len()));
    assert!(capacities.len() < 30, "copied {} times", capacities.len());
}

#[test]
fn hellos_are_collected_up_to_their_limit_and_keep_nothing_once_they_are_read() {
    let log = key_log(1);
    let mut bench = Bench::new(&log);
    for _ in 0..4 {
        bench.handle(Side::Client, &[&[22, 3, 1, 0x3f, 0xff, 1, 0xff, 0xff, 0xff][..], &[0; 0x3ffb]].concat());
    }
    assert_eq!(bench.tcp.over(), None);
    bench.handle(Side::Client, &[22, 3, 1, 0, 5, 0, 0, 0, 0, 0]);
    assert_eq!((bench.tcp.over(), bench.tcp.memory()), (Some(Skipped::BadRecord), 0));

    let bench = Bench::begun(&log);
    assert_eq!((bench.tcp.over(), bench.tcp.memory()), (None, 0));
}

#[test]
fn numbers_continue_and_sequences_begin_anew_at_a_key_update() {
    let log = key_log(1);
    let mut bench = Bench::begun(&log);
    for generation in 0..20 {
        bench.record(generation, 0, 23, b"a");
        bench.record(generation, 1, 23, b"b");
        // Both forms of a KeyUpdate.
        bench.record(generation, 2, 22, &[24, 0, 0, 1, generation as u8 % 2]);
    }
    assert_eq!(bench.tcp.over(), None);
    let expected: Vec<_> =
        (0..60_u32).map(|number| (Some(number.into()), number / 3, if number % 3 == 2 { 22 } else { 23 })).collect();
    assert_eq!(bench.found, expected);
}

#[test]
fn what_only_ends_like_a_key_update_does_not_change_the_keys() {
    let log = key_log(1);
    let mut bench = Bench::begun(&log);
    bench.record(0, 0, 22, &[4, 0, 0, 5, 24, 0, 0, 1, 0]); // a ticket
    bench.record(0, 1, 23, b"a");
    bench.record(0, 2, 23, &[24, 0, 0, 1, 0]); // application data
    assert_eq!(bench.found, [(Some(0), 0, 22), (Some(1), 0, 23), (Some(2), 0, 23)]);
    // It was no handshake message, so that these keys are wrong.
    bench.record(1, 0, 23, b"b");
    assert_eq!((bench.found.len(), bench.tcp.over()), (3, Some(Skipped::BadRecord)));
}

#[test]
fn hello_retry_request_is_not_the_servers_choice() {
    let log = key_log(1);
    let mut bench = Bench::new(&log);
    bench.handle(Side::Client, &client_hello(&random(0), &[]));
    let retry = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2,
        0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    // Of another suite, whose secrets are longer.
    bench.handle(Side::Server, &message(2, &[&[3, 3][..], &retry, &[0, 0x13, 2, 0, 0, 0]].concat()));
    bench.handle(Side::Client, &client_hello(&random(0), &[]));
    bench.handle(Side::Server, &server_hello());
    bench.record(0, 0, 23, b"a");
    assert_eq!((bench.tcp.over(), &bench.found[..]), (None, &[(Some(0), 0, 23)][..]));
}

#[test]
fn records_without_keys_are_passed_over_up_to_a_limit() {
    let log = key_log(1);
    let mut bench = Bench::begun(&log);
    let unknown = sealed(&[1; 32], (0, 0, 0), 22, b"of the handshake");
    for _ in 0..MAX_UNOPENED {
        bench.handle(Side::Client, &unknown);
    }
    bench.record(0, 0, 23, b"a");
    assert_eq!((bench.tcp.over(), bench.found.len()), (None, 1));

    let mut bench = Bench::begun(&log);
    for _ in 0..=MAX_UNOPENED {
        assert_eq!(bench.tcp.over(), None);
        bench.handle(Side::Client, &unknown);
    }
    bench.record(0, 0, 23, b"a");
    assert_eq!((bench.tcp.over(), bench.found.len()), (Some(Skipped::NoSecrets), 0));
}

/// A ClientHello with a token.
fn join_hello(token: &[u8; 32]) -> Vec<u8> {
    let ty = ExtensionTypes::default().tcpls_join.to_be_bytes();
    client_hello(&random(9), &[&ty[..], &[0, 32], token].concat())
}

#[test]
fn join_that_its_server_does_not_take_up_is_refused() {
    let log = key_log(1);
    // An alert in place of a ServerHello.
    let mut bench = Bench::new(&log);
    bench.handle(Side::Client, &join_hello(&[1; 32]));
    bench.handle(Side::Client, &[21, 3, 3, 0, 2, 1, 0]);
    assert_eq!(bench.tcp.over(), None, "an alert of the client refuses nothing");
    bench.handle(Side::Server, &[21, 3, 3, 0, 2, 2, 47]);
    assert_eq!(bench.tcp.over(), Some(Skipped::Refused));

    // A handshake of its own, of any length.
    let mut bench = Bench::new(&log);
    bench.handle(Side::Client, &join_hello(&[1; 32]));
    for _ in 0..=MAX_UNOPENED {
        assert_eq!(bench.tcp.over(), None);
        bench.handle(Side::Server, &sealed(&[1; 32], (0, 0, 0), 22, b"of another session"));
    }
    assert_eq!(bench.tcp.over(), Some(Skipped::Refused));
}

#[test]
fn known_token_is_its_session_and_connection_id() {
    let log = key_log(1);
    let mut bench = Bench::new(&log);
    let session = bench.sessions.open(&random(0), Suite::Aes128Gcm).unwrap();
    bench.sessions.insert([1; 32], session, ConnectionId(1000));
    bench.handle(Side::Client, &join_hello(&[1; 32]));
    bench.handle(Side::Server, &server_hello());
    for (sender, is_server) in [(Side::Server, true), (Side::Client, false)] {
        for sequence in 0..2 {
            bench.handle(sender, &sealed(&secret(0, is_server), (1000, 0, sequence), 23, b"a"));
        }
    }
    assert_eq!(bench.found, [(Some(0), 0, 23), (Some(1), 0, 23), (Some(0), 0, 23), (Some(1), 0, 23)]);
    bench.handle(Side::Client, &sealed(&secret(0, false), (1000, 0, 3), 23, b"a"));
    assert_eq!(bench.tcp.over(), Some(Skipped::BadRecord), "a record is missing");
}

#[test]
fn encrypted_handshake_has_the_first_token_and_any_number_of_records() {
    let random = random(0);
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text = format!("SERVER_HANDSHAKE_TRAFFIC_SECRET {hex} {}\n", "05".repeat(32));
    for (side, is_server) in [("CLIENT", false), ("SERVER", true)] {
        let secret: String = secret(0, is_server).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{side}_TRAFFIC_SECRET_0 {hex} {secret}\n");
    }
    let log = KeyLog::parse(text.as_bytes()).unwrap();
    let mut bench = Bench::begun(&log);
    let types = ExtensionTypes::default();
    let extensions =
        [&types.tcpls.to_be_bytes()[..], &[0, 0], &types.tcpls_token.to_be_bytes(), &[0, 32], &[6; 32]].concat();
    let flight = [&[8, 0, 0, extensions.len() as u8 + 2, 0, extensions.len() as u8][..], &extensions].concat();
    for sequence in 0..=u64::from(MAX_UNOPENED) + 1 {
        let content = if sequence == 0 { &flight[..] } else { b"a part of the certificate" };
        bench.handle(Side::Server, &sealed(&[5; 32], (0, 0, sequence), 22, content));
    }
    assert_eq!(bench.sessions.find(&[6; 32]).map(|(_, tcp)| tcp), Some(ConnectionId(1)));
    bench.handle(Side::Server, &sealed(&secret(0, true), (0, 0, 0), 23, b"a"));
    assert_eq!((bench.tcp.over(), &bench.found[..]), (None, &[(Some(0), 0, 23)][..]));
}
