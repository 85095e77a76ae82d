use tcpls_core::ConnectionId;
use tcpls_core::wire::frame::{Frame, NewToken, NewTokenWide};
use tcpls_core::wire::ids::Token;

use super::super::tests::{client_hello, key_log, random, sealed, secret, server_hello};
use super::*;

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], number))
}

/// A segment from a client to the server, with data.
fn segment(client: u16, seq: u32, data: &[u8]) -> Segment<'_> {
    let (from, to) = (address(client), SocketAddr::from(([198, 51, 100, 1], 443)));
    Segment { from, to, seq, syn: false, ack: true, fin: false, rst: false, data }
}

fn syn(client: u16, seq: u32) -> Segment<'static> {
    Segment { syn: true, ack: false, ..segment(client, seq, &[]) }
}

fn handle(flows: &mut Flows<'_>, segment: &Segment<'_>) {
    flows.handle(0, segment, &mut |record| panic!("{record}"));
}

fn limited(key_log: &KeyLog, flows: usize, memory: usize) -> Flows<'_> {
    Flows { limits: Limits { flows, memory }, ..Flows::new(key_log) }
}

#[test]
fn tcp_connection_with_the_oldest_segment_is_given_up_for_another() {
    let log = KeyLog::default();
    let mut flows = limited(&log, 3, usize::MAX);
    for client in [1, 2, 3, 1, 4, 5] {
        handle(&mut flows, &segment(client, 7, b"x"));
        assert!(flows.flows.len() <= 3 && flows.by_use.len() == flows.flows.len());
    }
    let clients: Vec<u16> = flows.flows.values().map(|flow| flow.addresses.0.port()).collect();
    assert_eq!(clients, [1, 4, 5]);
    assert_eq!(flows.by_addresses.len(), 3);
    assert_eq!(flows.finish().tcp_connections, 5);
}

#[test]
fn memory_of_all_tcp_connections_is_bounded() {
    let log = KeyLog::default();
    let mut flows = limited(&log, 1000, 10_000);
    for client in 1..=20 {
        handle(&mut flows, &syn(client, 0));
        handle(&mut flows, &segment(client, 100, &[0; 1000]));
        assert!(flows.memory <= 10_000 && flows.memory == flows.flows.values().map(|flow| flow.memory).sum::<usize>());
    }
    let memory = flows.memory;
    assert!(memory > 8_000, "{memory}");
    // One that was given up takes nothing any more.
    handle(&mut flows, &segment(20, 5000, &[0; 1000]));
    assert_eq!(flows.memory, memory);
    let summary = flows.finish();
    assert_eq!(summary.skipped, BTreeMap::from([(Skipped::Gap, 9), (Skipped::TooMany, 11)]));
}

#[test]
fn data_in_a_syn_is_behind_its_sequence_number() {
    let log = KeyLog::default();
    let mut flows = Flows::new(&log);
    let hello = client_hello(&random(0), &[]);
    handle(&mut flows, &Segment { data: &hello[..20], ..syn(1, u32::MAX) });
    handle(&mut flows, &segment(1, 20, &hello[20..]));
    assert_eq!(flows.finish().skipped, BTreeMap::from([(Skipped::NoSecrets, 1)]), "the ClientHello was read");
}

#[test]
fn ports_are_used_again_only_once_there_was_data() {
    let log = KeyLog::default();
    let mut flows = Flows::new(&log);
    // A SYN that is sent again, and its answer.
    handle(&mut flows, &syn(1, 5));
    handle(&mut flows, &syn(1, 5));
    let answer = syn(1, 900);
    handle(&mut flows, &Segment { from: answer.to, to: answer.from, ack: true, ..answer });
    assert_eq!(flows.opened, 1);
    assert_eq!(flows.flows[&1].client, Some(address(1)));
    handle(&mut flows, &segment(1, 6, b"GET / HTTP/1.1"));
    handle(&mut flows, &syn(1, 77));
    assert_eq!((flows.opened, flows.flows.len()), (2, 1));
    let summary = flows.finish();
    assert_eq!((summary.tcp_connections, summary.skipped), (1, BTreeMap::from([(Skipped::NoClientHello, 1)])));
}

#[test]
fn client_of_a_capture_that_begins_with_an_answer_is_its_receiver() {
    let log = KeyLog::default();
    let mut flows = Flows::new(&log);
    let answer = syn(1, 900);
    handle(&mut flows, &Segment { from: answer.to, to: answer.from, ack: true, ..answer });
    assert_eq!(flows.flows[&1].client, Some(address(1)));
}

/// An answer of the server.
fn answer(client: u16, seq: u32, data: &[u8]) -> Segment<'_> {
    let there = segment(client, seq, data);
    Segment { from: there.to, to: there.from, ..there }
}

#[test]
fn tokens_are_those_that_the_server_issues() {
    let log = key_log(1);
    let mut flows = Flows::new(&log);
    let mut frames = Vec::new();
    Frame::NewToken(NewToken { sequence: 3, token: Token([3; 32]) }).encode(&mut frames);
    Frame::NewTokenWide(NewTokenWide { sequence: 300, token: Token([4; 32]) }).encode(&mut frames);
    let up = [client_hello(&random(0), &[]), sealed(&secret(0, false), (0, 0, 0), 23, &frames)];
    let down = [server_hello(), sealed(&secret(0, true), (0, 0, 0), 23, &frames)];
    flows.handle(0, &segment(1, 0, &up[0]), &mut |_| {});
    flows.handle(0, &answer(1, 0, &down[0]), &mut |_| {});
    flows.handle(0, &segment(1, up[0].len() as u32, &up[1]), &mut |_| {});
    assert_eq!((flows.summary.records, flows.sessions.find(&[3; 32])), (1, None), "a client issues none");
    flows.handle(0, &answer(1, down[0].len() as u32, &down[1]), &mut |_| {});
    let found = [[3; 32], [4; 32]].map(|token| flows.sessions.find(&token).unwrap().1);
    assert_eq!(found, [ConnectionId(3), ConnectionId(300)]);
}

#[test]
fn what_is_over_or_closed_keeps_nothing() {
    let log = KeyLog::default();
    let mut flows = limited(&log, 1, usize::MAX);
    handle(&mut flows, &syn(1, 0));
    handle(&mut flows, &Segment { syn: true, ..answer(1, 0, &[]) });
    handle(&mut flows, &answer(1, 100, &[0; 1000]));
    assert!(flows.memory > 1000);
    handle(&mut flows, &segment(1, 1, b"GET / HTTP/1.1"));
    handle(&mut flows, &answer(1, 5000, &[0; 1000]));
    assert_eq!(flows.memory, 0, "it is no TLS");

    handle(&mut flows, &syn(2, 0));
    handle(&mut flows, &segment(2, 100, &[0; 1000]));
    assert!(flows.memory > 1000);
    handle(&mut flows, &syn(3, 0));
    assert_eq!((flows.flows.len(), flows.memory), (1, 0), "it gave way");
}

#[test]
fn hello_that_is_not_complete_is_reported() {
    let log = KeyLog::default();
    let mut flows = Flows::new(&log);
    handle(&mut flows, &segment(1, 0, &client_hello(&random(0), &[])[..20]));
    handle(&mut flows, &syn(2, 0));
    assert_eq!(flows.finish().skipped, BTreeMap::from([(Skipped::NoClientHello, 1)]));
}
