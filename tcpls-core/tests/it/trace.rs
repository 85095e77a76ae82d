//! Events that a session reports to its sink: the table in `docs/trace.md` lists all of them, each of them occurs, and
//! no sink changes what the session sends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_core::connection::JoinOptions;
use tcpls_core::crypto::TlsServer;
use tcpls_core::testing::Tls;
use tcpls_core::testing::tls::SERVER_NAME;
use tcpls_core::trace::{Content, Event, Frame, Sink};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::{Side, Time};

use crate::statements::{crate_root, read};
use crate::support::{Client, Pair, Server, Setup, bytes};

const FIRST: ConnectionId = ConnectionId::FIRST;
const SIDES: [Side; 2] = [Client, Server];

/// Keeps the text of every event.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Sink for Recorder {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{} {event:?}", now.as_nanos()));
    }
}

impl Recorder {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The names of the events that arrived.
    fn names(&self) -> BTreeSet<String> {
        let name = |line: &String| line.split([' ', '{']).nth(1).unwrap().to_owned();
        self.lines().iter().map(name).collect()
    }
}

/// A pair whose sessions are traced from their first call on, if there is a recorder, and established.
fn established(setup: Setup, recorder: Option<&Recorder>) -> Pair {
    let mut pair = setup.start();
    let attach = |pair: &mut Pair, side| {
        pair.conn(side).set_trace(recorder.map(|recorder| Box::new(recorder.clone()) as Box<dyn Sink>));
    };
    attach(&mut pair, Client);
    pair.round();
    attach(&mut pair, Server);
    pair.drive();
    pair
}

/// A session with some of everything.
fn busy(recorder: Option<&Recorder>) -> Pair {
    let setup = Setup { tls: Some(Tls { tickets: 6, ..Tls::default() }), ..Setup::default() };
    let mut pair = established(setup.both(|config| config.probe_after = Some(Duration::from_secs(1))), recorder);
    let second = pair.join();
    pair.client().set_tcp_addresses(second, None, Some(([192, 0, 2, 1], 443).into()));
    let data = bytes(300_000);
    let (up, down) = (pair.open_stream(Client), pair.open_stream(Server));
    pair.submit(Client, up, &data);
    pair.submit(Server, down, &data);
    pair.round();
    pair.update_keys(Client);
    pair.drive();
    // A path goes dark and comes back.
    pair.stall(second);
    SIDES.into_iter().for_each(|side| pair.conn(side).ping(second).unwrap());
    let waiting = pair.open_stream(Server);
    pair.write(Server, waiting, &data[..1000]);
    pair.drive_for(Duration::from_secs(1));
    pair.unstall(second);
    pair.drive_for(Duration::from_secs(3));
    // One is lost, one is left, one is damaged.
    let third = pair.join();
    pair.client().set_backup(third, true).unwrap();
    pair.write(Server, waiting, &data[..100_000]);
    pair.round();
    pair.cut(FIRST);
    pair.drive();
    let fourth = pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
    pair.drive();
    let now = pair.now;
    pair.client().retire_tcp(now, second).unwrap();
    pair.drive_for(Duration::from_secs(1));
    pair.client().ping(fourth).unwrap();
    pair.step(Client);
    pair.corrupt(fourth, Server);
    pair.drive();
    let now = pair.now;
    pair.client().drain(now, Duration::from_secs(60));
    pair.drive_for(Duration::from_secs(1));
    // A claim waits when the session ends.
    let claim = pair.open_tcp_with(JoinOptions::default());
    pair.step(Client);
    pair.deliver(claim, Server, usize::MAX);
    pair.close(Server, 0, b"done");
    pair.drive_for(Duration::from_secs(30));
    pair
}

/// A session with early data, which the server accepts or not, traced at both ends.
fn early(is_accepted: bool, sink: impl Fn(Side) -> Box<dyn Sink>) -> Pair {
    let tls = Tls { early_client: true, early_server: true, ..Tls::default() };
    let (client, server) = (tls.client_end(1), tls.server_end(1));
    let start = |server: &dyn TlsServer| {
        Pair::new(Setup::default(), client.handshake(SERVER_NAME).unwrap(), server.handshake().unwrap())
    };
    let mut first = start(&server);
    first.drive();
    first.transfer(Server, b"behind the tickets");
    let other = Tls { early_server: false, ..tls }.server_end(2);
    let mut pair = start(if is_accepted { &server } else { &other });
    pair.client().set_trace(Some(sink(Client)));
    let id = pair.open_stream(Client);
    pair.submit(Client, id, &bytes(9_000));
    // The server's session begins with the ClientHello, ahead of the early data behind it.
    pair.step(Client);
    let flight = &pair.flow(FIRST, Server).in_flight;
    let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    pair.deliver(FIRST, Server, hello);
    pair.server().set_trace(Some(sink(Server)));
    pair.drive();
    pair.assert_received(Server, id, &bytes(9_000));
    pair
}

#[test]
fn sink_that_is_added_gets_the_same_events_as_the_first() {
    let mut pair = Setup { tls: None, ..Setup::default() }.established();
    let (first, second) = (Recorder::default(), Recorder::default());
    for recorder in [&first, &second] {
        pair.client().add_trace(Box::new(recorder.clone()));
    }
    pair.transfer(Client, b"data");
    let (first, second) = (first.lines(), second.lines());
    assert!(!first.is_empty() && first == second, "{first:?} {second:?}");
}

#[test]
fn session_sends_the_same_bytes_with_and_without_a_sink() {
    let recorder = Recorder::default();
    let (traced, plain) = (busy(Some(&recorder)), busy(None));
    assert!(recorder.lines().len() > 100, "{} events", recorder.lines().len());
    assert_eq!(traced.wire().len(), plain.wire().len());
    for (number, (traced, plain)) in traced.wire().iter().zip(plain.wire()).enumerate() {
        assert!(traced.0 == plain.0, "the client's bytes on TCP connection {number} differ");
        assert!(traced.1 == plain.1, "the server's bytes on TCP connection {number} differ");
    }
}

/// The variants of the enum and their fields, from the source.
fn variants() -> Vec<(String, Vec<String>)> {
    let source = read(&crate_root().join("src/connection/trace/event.rs"));
    let body = source.split("pub enum Event<'a> {\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    let mut variants: Vec<(String, Vec<String>)> = Vec::new();
    for line in body.lines().filter(|line| !line.trim_start().starts_with("//")) {
        if let Some(name) = line.strip_prefix("    ").and_then(|line| line.strip_suffix(" {")) {
            variants.push((name.to_owned(), Vec::new()));
        } else if let Some((field, _)) = line.strip_prefix("        ").and_then(|line| line.split_once(": ")) {
            variants.last_mut().unwrap().1.push(field.to_owned());
        }
    }
    variants
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn table_of_trace_page_lists_every_event_and_its_fields() {
    let page = read(&crate_root().join("../docs/trace.md"));
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<(String, Vec<String>)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            (quoted(cells[0]).remove(0), quoted(cells[2]))
        })
        .collect();
    assert_eq!(rows, variants());
}

#[test]
fn every_event_occurs() {
    let recorder = Recorder::default();
    busy(Some(&recorder));
    for is_accepted in [true, false] {
        early(is_accepted, |_| Box::new(recorder.clone()));
    }
    let seen = recorder.names();
    let missing: Vec<String> =
        variants().into_iter().map(|(name, _)| name).filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {seen:?}");
    for limit in ["BadRecord", "Tickets"] {
        assert!(recorder.lines().iter().any(|line| line.contains(&format!("limit: {limit}"))), "{limit}");
    }
}

#[test]
fn server_reports_which_limit_a_further_join_reached() {
    let recorder = Recorder::default();
    let mut setup = Setup::default();
    setup.server.max_tcp_connections = 2;
    let mut pair = established(setup, Some(&recorder));
    (0..2).for_each(|_| _ = pair.join());
    assert!(recorder.lines().iter().any(|line| line.contains("limit: TcpConnections, tcp: Some(")));
}

#[test]
fn early_data_is_reported_at_both_ends_and_its_rejection_at_the_client() {
    for is_accepted in [true, false] {
        let (client, server) = (Ledger::default(), Ledger::default());
        let pair = early(is_accepted, |side| Box::new(if side == Client { client.clone() } else { server.clone() }));
        let (client, server) = (client.0.lock().unwrap(), server.0.lock().unwrap());
        assert_eq!(client.early.iter().map(|record| record.1).sum::<u64>(), 9_000);
        let sent: usize = client.early.iter().map(|record| record.0).sum();
        assert!(pair.wire()[0].0.len() > sent, "what was sent is on the wire");
        assert_eq!(server.early, if is_accepted { client.early.clone() } else { Vec::new() });
        assert_eq!(client.rejected, if is_accepted { vec![] } else { vec![9_000] });
        let again = client.sent.iter().map(|record| record.3).sum::<u64>();
        assert_eq!(again, if is_accepted { 0 } else { 9_000 });
    }
}

/// Sizes, numbers and ranges of stream data, per side.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    /// Numbers, sizes on the wire and stream bytes of the records of each direction on each TCP connection.
    sent: Vec<(ConnectionId, u64, usize, u64)>,
    received: Vec<(ConnectionId, u64, usize, u64)>,
    /// Sizes and stream bytes of records of early data, and the stream bytes of what was rejected.
    early: Vec<(usize, u64)>,
    rejected: Vec<u64>,
}

impl Sink for Ledger {
    fn event(&mut self, _now: Time, event: &Event<'_>) {
        let mut books = self.0.lock().unwrap();
        let of = |content: &Content<'_>| match content {
            Content::Frames(frames) => frames.iter().filter_map(range_len).sum(),
            _ => 0,
        };
        match event {
            Event::RecordSent { tcp, seq, bytes, content } => books.sent.push((*tcp, seq.0, *bytes, of(content))),
            Event::RecordReceived { tcp, seq, bytes, content } => {
                books.received.push((*tcp, seq.0, *bytes, of(content)));
            }
            Event::EarlySent { tcp: FIRST, bytes, content } | Event::EarlyReceived { tcp: FIRST, bytes, content } => {
                books.early.push((*bytes, of(content)));
            }
            Event::EarlyRejected { tcp: FIRST, bytes } => books.rejected.push(*bytes),
            _ => {}
        }
    }
}

fn range_len(frame: Frame) -> Option<u64> {
    match frame {
        Frame::Stream { range, .. } => Some(range.end - range.start),
        _ => None,
    }
}

#[test]
fn records_are_reported_with_the_same_number_size_and_ranges_at_both_ends() {
    let (client, server) = (Ledger::default(), Ledger::default());
    let mut pair = Setup::default().start();
    pair.client().set_trace(Some(Box::new(client.clone())));
    pair.round();
    pair.server().set_trace(Some(Box::new(server.clone())));
    pair.drive();
    pair.join();
    pair.spread();
    pair.transfer(Client, &bytes(200_000));
    pair.update_keys(Client);
    pair.transfer(Client, &bytes(100_000));
    let (client, server) = (client.0.lock().unwrap(), server.0.lock().unwrap());
    for tcp in [FIRST, ConnectionId(1)] {
        let on = |records: &[(ConnectionId, u64, usize, u64)]| -> Vec<_> {
            records.iter().copied().filter(|record| record.0 == tcp).collect()
        };
        let (sent, received) = (on(&client.sent), on(&server.received));
        assert_eq!(sent, received);
        assert!(sent.iter().map(|record| record.1).eq(0..sent.len() as u64), "numbers have no gaps");
        let stats = pair.client().tcp_stats(tcp).unwrap().counters;
        assert_eq!(stats.stream_bytes_sent, sent.iter().map(|record| record.3).sum::<u64>());
    }
    assert_eq!(client.sent.iter().map(|record| record.3).sum::<u64>(), 300_000);
}
