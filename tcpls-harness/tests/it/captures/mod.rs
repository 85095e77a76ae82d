//! Captures of sessions over TLS, decrypted with the client's key log.

mod command;
mod inspectors;
mod tap;
mod tshark;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use rustls::server::ServerSessionMemoryCache;
use tcpls_core::connection::JoinOptions;
use tcpls_core::testing::tls::{SERVER_NAME, SUITES};
use tcpls_core::testing::{Pair, Setup, Tls, bytes};
use tcpls_core::wire::frame::{Frame, Frames};
use tcpls_core::{ConnectionId, Side};
use tcpls_harness::capture::{KeyLog, KeyLogError, Record, Skipped, Summary, decrypt};

use self::tap::{Secrets, Tap, pcap, pcapng};

/// A record that owns its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    session: u32,
    tcp: u32,
    sender: Side,
    number: Option<u64>,
    generation: u32,
    content_type: u8,
    content: Vec<u8>,
    text: String,
}

fn run(capture: &[u8], key_log: &str) -> (Vec<Found>, Summary) {
    let key_log = KeyLog::parse(key_log.as_bytes()).unwrap();
    let mut found = Vec::new();
    let on_record = |record: &Record<'_>| {
        found.push(Found {
            session: record.session,
            tcp: record.tcp.0,
            sender: record.sender,
            number: record.number,
            generation: record.generation,
            content_type: record.content_type,
            content: record.content.to_vec(),
            text: record.to_string(),
        });
        ControlFlow::Continue(())
    };
    let summary = decrypt(capture, &key_log, on_record).unwrap();
    assert_eq!(summary.records, found.len() as u64);
    (found, summary)
}

/// The data of each stream that a side sent, in records in any order, and whether it has its end.
fn streams(found: &[Found], sender: Side) -> BTreeMap<u32, (Vec<u8>, bool)> {
    let mut streams: BTreeMap<u32, (Vec<u8>, bool)> = BTreeMap::new();
    for record in found.iter().filter(|record| record.sender == sender && record.content_type == 23) {
        for frame in Frames::new(&record.content) {
            let Frame::Stream(stream) = frame.unwrap() else { continue };
            let (data, fin) = streams.entry(stream.id.0).or_default();
            let end = stream.offset as usize + stream.data.len();
            data.resize(data.len().max(end), 0);
            data[stream.offset as usize..end].copy_from_slice(stream.data);
            *fin |= stream.fin;
        }
    }
    streams
}

/// Each TCP connection's record numbers of each side are 0, 1, 2, …; returns how many there are.
fn assert_complete(found: &[Found]) -> BTreeMap<(u32, u32, bool), u64> {
    let mut next = BTreeMap::new();
    for record in found {
        let Some(number) = record.number else { continue };
        let next = next.entry((record.session, record.tcp, record.sender == Side::Server)).or_insert(0);
        assert_eq!(number, *next, "{record:?}");
        *next += 1;
    }
    next
}

/// A session whose client's secrets are kept.
fn session(tls: Tls) -> (Pair, Secrets) {
    let secrets = Secrets::default();
    let tls = Tls { key_log: Some(Arc::new(secrets.clone())), ..tls };
    (Setup { tls: Some(tls), ..Setup::default() }.start(), secrets)
}

/// A session over two TCP connections, of which the first is lost, with key updates on both sides.
fn two_paths(tls: Tls) -> (Tap, Secrets, Vec<u8>) {
    let (mut pair, secrets) = session(tls);
    let (mut tap, data) = (Tap::default(), bytes(60_000));
    tap.run(&mut pair);
    pair.open_tcp_with(JoinOptions::default().with(|join| join.zero_rtt = true));
    tap.run(&mut pair);
    let up = pair.open_stream(Side::Client);
    pair.submit(Side::Client, up, &data);
    tap.run(&mut pair);
    pair.update_keys(Side::Client);
    tap.run(&mut pair);
    pair.client().ping(ConnectionId::FIRST).unwrap();
    let down = pair.open_stream(Side::Server);
    pair.submit(Side::Server, down, &data);
    pair.round();
    tap.observe(&pair);
    pair.cut(ConnectionId::FIRST);
    tap.run(&mut pair);
    pair.update_keys(Side::Server);
    tap.run(&mut pair);
    // Without 0-RTT, under keys of a later generation.
    pair.open_tcp_slowly();
    tap.run(&mut pair);
    pair.close(Side::Client, 0, b"");
    tap.run(&mut pair);
    (tap, secrets, data)
}

#[test]
fn session_with_joins_failover_and_key_updates_is_decrypted_for_every_suite() {
    for suite in SUITES {
        let (tap, secrets, data) = two_paths(Tls { suites: vec![suite], ..Tls::default() });
        let (found, summary) = run(&tap.pcap(), &secrets.text());
        assert_eq!((summary.sessions, summary.tcp_connections, summary.is_cut), (1, 3, false), "{summary:?}");
        assert_eq!(summary.skipped, BTreeMap::new());
        assert_eq!(streams(&found, Side::Client)[&0], (data.clone(), true));
        assert_eq!(streams(&found, Side::Server)[&1], (data, true));
        let counts = assert_complete(&found);
        assert_eq!(counts.len(), 6, "{counts:?}");
        let generations: BTreeSet<(u32, u32)> = found.iter().map(|record| (record.tcp, record.generation)).collect();
        assert_eq!(generations.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)]);
    }
}

#[test]
fn formats_and_link_types_give_the_same_records() {
    let (tap, secrets, _) = two_paths(Tls::default());
    let (found, _) = run(&tap.pcap(), &secrets.text());
    let behind = |header: &[u8]| {
        let put = |(time, packet): &tap::Packet| (*time, [header, packet].concat());
        tap.packets.iter().map(put).collect::<Vec<_>>()
    };
    let vlan = behind(&[&[2; 12][..], &[0x81, 0, 0, 7, 8, 0]].concat());
    let sll = behind(&[&[0; 14][..], &[8, 0]].concat());
    let sll2 = behind(&[&[8, 0][..], &[0; 18]].concat());
    let captures = [
        pcapng(&tap.packets, 6),
        pcapng(&tap.packets, 9),
        pcapng(&tap.packets, 0x80 | 30),
        pcap(1, &vlan),
        pcap(113, &sll),
        pcap(276, &sll2),
        pcap(0, &behind(&[2, 0, 0, 0])),
        pcap(228, &tap.packets),
    ];
    for (number, capture) in captures.iter().enumerate() {
        assert_eq!(run(capture, &secrets.text()).0, found, "{number}");
    }
    assert_eq!(run(&pcap(147, &tap.packets), &secrets.text()).0, [], "an unknown link type");
}

#[test]
fn reordered_and_repeated_packets_change_nothing() {
    let (tap, secrets, data) = two_paths(Tls::default());
    let (found, _) = run(&tap.pcap(), &secrets.text());
    let mut packets = Vec::new();
    for pair in tap.packets.chunks(2) {
        // Of the same direction, so that no answer overtakes its question.
        let is_swapped = pair.len() == 2 && pair[0].1[12..24] == pair[1].1[12..24];
        packets.extend(pair.iter().cloned());
        if is_swapped {
            let last = packets.len() - 1;
            packets.swap(last, last - 1);
        }
        packets.push(pair[0].clone());
    }
    assert_ne!(packets.len(), tap.packets.len());
    let (again, summary) = run(&pcap(101, &packets), &secrets.text());
    assert_eq!(summary.skipped, BTreeMap::new());
    assert_eq!(again.len(), found.len());
    assert_eq!(streams(&again, Side::Server)[&1], (data, true));
}

#[test]
fn early_data_is_decrypted_whether_it_is_accepted_or_not() {
    for (early_server, accepted) in [(true, true), (false, false)] {
        let secrets = Secrets::default();
        let sessions: Arc<ServerSessionMemoryCache> = ServerSessionMemoryCache::new(64);
        let tls = Tls { early_client: true, early_server: true, sessions: Some(sessions), ..Tls::default() };
        let tls = Tls { key_log: Some(Arc::new(secrets.clone())), ..tls };
        let (client, server) = (tls.client(1), tls.server(1));
        let start = |seed: u64, server: &tcpls_core::crypto::rustls::RustlsServer| {
            let client = client.handshake(SERVER_NAME.try_into().unwrap()).unwrap();
            Pair::new(Setup { seed, ..Setup::default() }, client, server.handshake().unwrap())
        };
        let mut pair = start(1, &server);
        pair.drive();
        pair.close(Side::Client, 0, b"");
        pair.drive();
        let server = if early_server { server } else { Tls { early_server, ..tls.clone() }.server(2) };
        let (mut pair, mut tap) = (start(2, &server), Tap::default());
        let question = bytes(3000);
        let id = pair.open_stream(Side::Client);
        pair.write(Side::Client, id, &question);
        pair.finish(Side::Client, id);
        tap.run(&mut pair);
        pair.assert_received(Side::Server, id, &question);
        assert_eq!(pair.server().stream(id).is_early(), accepted);
        let (found, summary) = run(&tap.pcap(), &secrets.text());
        assert_eq!(summary.skipped, BTreeMap::new());
        let early: Vec<Found> = found.iter().filter(|record| record.number.is_none()).cloned().collect();
        assert_eq!(streams(&early, Side::Client)[&0], (question.clone(), true));
        assert!(early.iter().all(|record| record.text.contains(" early data: ")));
        assert_complete(&found);
        let later: Vec<Found> = found.iter().filter(|record| record.number.is_some()).cloned().collect();
        assert_eq!(streams(&later, Side::Client).contains_key(&0), !accepted);
    }
}

#[test]
fn joins_that_are_resumptions_are_decrypted() {
    for zero_rtt in [true, false] {
        let (mut pair, secrets) = session(Tls { resumed_joins: true, ..Tls::default() });
        let (mut tap, data) = (Tap::default(), bytes(20_000));
        tap.run(&mut pair);
        pair.open_tcp_with(JoinOptions::default().with(|join| join.zero_rtt = zero_rtt));
        tap.run(&mut pair);
        pair.cut(ConnectionId::FIRST);
        let down = pair.open_stream(Side::Server);
        pair.submit(Side::Server, down, &data);
        tap.run(&mut pair);
        let (found, summary) = run(&tap.pcap(), &secrets.text());
        assert_eq!(summary.skipped, BTreeMap::new());
        let joined: Vec<Found> = found.into_iter().filter(|record| record.tcp == 1).collect();
        assert_eq!(streams(&joined, Side::Server)[&1], (data, true));
        assert_eq!(assert_complete(&joined).len(), 2);
    }
}

#[test]
fn join_whose_token_was_not_captured_is_found_by_its_keys() {
    let (mut pair, secrets) = session(Tls::default());
    let (mut tap, data) = (Tap::blind(), bytes(20_000));
    tap.run(&mut pair);
    pair.update_keys(Side::Client);
    tap.run(&mut pair);
    for _ in 0..3 {
        pair.open_tcp();
        tap.run(&mut pair);
    }
    tap.open_eyes();
    pair.client().ping(ConnectionId::FIRST).unwrap();
    tap.run(&mut pair);
    let tcp = pair.open_tcp_slowly();
    tap.run(&mut pair);
    (0..4).map(ConnectionId).filter(|other| *other != tcp).for_each(|other| pair.cut(other));
    let up = pair.open_stream(Side::Client);
    pair.submit(Side::Client, up, &data);
    tap.run(&mut pair);
    let (found, summary) = run(&tap.pcap(), &secrets.text());
    let joined: Vec<Found> = found.into_iter().filter(|record| record.tcp == tcp.0).collect();
    assert_eq!(streams(&joined, Side::Client)[&0], (data, true));
    assert!(joined.iter().all(|record| record.generation == u32::from(record.sender == Side::Client)));
    assert_eq!(summary.skipped.keys().collect::<Vec<_>>(), [&Skipped::NoClientHello], "those that began before");
}

#[test]
fn what_is_not_decrypted_is_counted_with_its_reason() {
    let (tap, secrets, _) = two_paths(Tls::default());
    // Of another session: neither the random bytes nor the secrets are those of this one.
    let foreign = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("{} {} {}\n", words[0], words[2].get(..64).unwrap(), words[2].chars().rev().collect::<String>())
    };
    let foreign: String = secrets.text().lines().map(foreign).collect();
    let (found, summary) = run(&tap.pcap(), &foreign);
    assert_eq!((found.len(), summary.sessions), (0, 0));
    assert_eq!(summary.skipped, BTreeMap::from([(Skipped::NoSecrets, 1), (Skipped::UnknownToken, 2)]));

    // A packet with data in the middle of a TCP connection is missing.
    let mut cut = tap.clone();
    let of_first = |packet: &tap::Packet| packet.1[20..22] == 40_000_u16.to_be_bytes() && packet.1.len() > 1000;
    let missing = cut.packets.iter().rposition(of_first).unwrap();
    let next = cut.packets[missing + 1..].iter().any(|packet| packet.1[20..22] == 40_000_u16.to_be_bytes());
    assert!(next, "nothing follows");
    cut.packets.remove(missing);
    let (_, summary) = run(&cut.pcap(), &secrets.text());
    assert_eq!(summary.skipped.keys().collect::<Vec<_>>(), [&Skipped::Gap]);

    // A bit of a record is wrong.
    let mut damaged = tap.clone();
    *damaged.packets[missing].1.last_mut().unwrap() ^= 1;
    let (_, summary) = run(&damaged.pcap(), &secrets.text());
    assert_eq!(summary.skipped, BTreeMap::from([(Skipped::BadRecord, 1)]));

    // The file ends within a packet.
    let whole = tap.pcap();
    let (found, summary) = run(&whole[..whole.len() / 2], &secrets.text());
    assert!(summary.is_cut && !found.is_empty());
    assert!(
        decrypt(&b"GET / HTTP/1.1\r\n"[..], &KeyLog::parse(secrets.text().as_bytes()).unwrap(), |_| {
            ControlFlow::Continue(())
        })
        .is_err()
    );
    assert_eq!(KeyLog::parse(b"nothing").unwrap_err(), KeyLogError);
}

#[test]
fn plain_tls_is_not_taken_for_tcpls() {
    let tls = Tls { client_protocols: vec![b"test"], server_protocols: vec![b"test"], ..Tls::default() };
    let secrets = Secrets::default();
    let tls = Tls { key_log: Some(Arc::new(secrets.clone())), ..tls };
    let client = tls.client(1).without_tcpls().unwrap().handshake(SERVER_NAME.try_into().unwrap()).unwrap();
    let mut pair = Pair::new(Setup::default(), client, tls.server(1).handshake().unwrap());
    let mut tap = Tap::default();
    tap.run(&mut pair);
    let (found, summary) = run(&tap.pcap(), &secrets.text());
    assert_eq!((found.len(), summary.skipped), (0, BTreeMap::from([(Skipped::NotTcpls, 1)])));
}

#[test]
fn ports_that_are_used_again_are_another_tcp_connection() {
    let (tap, secrets, _) = two_paths(Tls::default());
    let (found, _) = run(&tap.pcap(), &secrets.text());
    let mut twice = tap.clone();
    twice.fin(0, Side::Client);
    twice.packets.extend(tap.packets.clone());
    let (again, summary) = run(&twice.pcap(), &secrets.text());
    assert_eq!((again.len(), summary.tcp_connections), (2 * found.len(), 6));
    assert_eq!(summary.sessions, 1, "the same keys are the same session");
}

#[test]
fn lines_name_frames_and_show_no_data() {
    let (tap, secrets, _) = two_paths(Tls::default());
    let (found, _) = run(&tap.pcap(), &secrets.text());
    let text = found.iter().map(|record| &record.text[..]).collect::<Vec<_>>().join("\n");
    for part in [
        " session 0 tcp 0 client 192.0.2.1:40000 > 198.51.100.1:443 record 0: ",
        "stream 0 [0..",
        " fin",
        "new_token 1",
        "session_parameters",
        "connection_reset_reason tcp 0 reason 1",
        "(key generation 1): ",
        ": KeyUpdate",
        ": New Session Ticket",
        "close_session error 0",
        "alert 0 (close_notify)",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(text.len() < 60_000, "{} bytes", text.len());
}

#[test]
fn reading_stops_when_the_caller_has_enough() {
    let (tap, secrets, _) = two_paths(Tls::default());
    let key_log = KeyLog::parse(secrets.text().as_bytes()).unwrap();
    let mut seen = 0;
    let summary = decrypt(&tap.pcap()[..], &key_log, |_| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(seen, 3);
    assert!(summary.unwrap().packets < tap.packets.len() as u64);
}
