//! qlog: what sessions write is valid under the schema, complete, and shows no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tcpls_core::connection::JoinOptions;
use tcpls_core::error::AlertDescription;
use tcpls_core::testing::{Pair, Setup, Tls, bytes};
use tcpls_core::trace::{Content, Event, Limit, Sink};
use tcpls_core::{ConnectionId, Side, Time};
use tcpls_harness::net::{Listener, ServerOptions, Session};
use tcpls_harness::sim::{RunOptions, Scenario, run};
use tcpls_harness::trace::qlog::{Header, JsonSeq, Qlog, QlogOptions};

use crate::library;
use crate::support::{ANY, Directory, Lines, PROTOCOL, Server, identity, read_all};

const SIDES: [Side; 2] = [Side::Client, Side::Server];
const FIRST: ConnectionId = ConnectionId::FIRST;
/// Long enough for everything but a deadlock.
const LONG: Duration = Duration::from_secs(60);

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&page("qlog.schema.json")).unwrap()
}

/// The records of a file.
fn records(text: &str) -> Vec<Value> {
    let mut parts = text.split('\x1e');
    assert_eq!(parts.next(), Some(""), "bytes in front of the first record");
    let parsed = |record: &str| {
        assert!(record.ends_with('\n'), "{record}");
        serde_json::from_str(record).unwrap()
    };
    parts.map(parsed).collect()
}

/// Checks that a file is a header and events.
fn check(records: &[Value]) {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (number, record) in records.iter().enumerate() {
        assert!(validator.is_valid(record), "record {number} is not valid: {record}");
        assert_eq!(record.get("file_schema").is_some(), number == 0, "{record}");
    }
}

fn names(records: &[Value]) -> BTreeSet<String> {
    records.iter().filter_map(|record| Some(record["name"].as_str()?.to_owned())).collect()
}

/// The events of the table in `docs/qlog.md`, with those of the trace.
fn table() -> BTreeMap<String, Option<String>> {
    let quoted = |cell: &str| cell.split('`').nth(1).map(str::to_owned);
    let page = page("qlog.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (format!("tcpls:{}", quoted(cells[0]).unwrap()), quoted(cells[1]))
    };
    rows.map(row).collect()
}

/// Both ends of a session over TLS in which some of everything happens.
fn busy() -> [Lines; 2] {
    let tls = Tls { tickets: 6, ..Tls::default() };
    let setup = Setup { tls: Some(tls), ..Setup::default() };
    let mut pair = setup.both(|config| config.probe_after = Some(Duration::from_secs(1))).start();
    let lines = [Lines::default(), Lines::default()];
    let attach = |pair: &mut Pair, side: Side| {
        let header = Header::new(side, pair.now).with(|header| header.title = Some("a test".to_owned()));
        let sink = JsonSeq::new(lines[side as usize].clone(), &header);
        pair.conn(side).set_trace(Some(Box::new(sink)));
    };
    attach(&mut pair, Side::Client);
    pair.round();
    attach(&mut pair, Side::Server);
    pair.drive();
    pair.client().set_tcp_addresses(FIRST, None, Some("[2001:db8::1]:443".parse().unwrap()));
    let second = pair.join();
    pair.client().set_tcp_addresses(second, Some(([192, 0, 2, 1], 1).into()), Some(([192, 0, 2, 2], 443).into()));
    let data = bytes(300_000);
    let (up, down) = (pair.open_stream(Side::Client), pair.open_stream(Side::Server));
    pair.submit(Side::Client, up, &data);
    pair.submit(Side::Server, down, &data);
    pair.round();
    pair.update_keys(Side::Client);
    pair.drive();
    pair.stall(second);
    SIDES.into_iter().for_each(|side| pair.conn(side).ping(second).unwrap());
    let waiting = pair.open_stream(Side::Server);
    pair.write(Side::Server, waiting, &data[..1000]);
    pair.drive_for(Duration::from_secs(1));
    pair.unstall(second);
    pair.drive_for(Duration::from_secs(3));
    let third = pair.join();
    pair.client().set_backup(third, true).unwrap();
    pair.write(Side::Server, waiting, &data[..100_000]);
    pair.round();
    pair.cut(FIRST);
    let fourth = pair.open_tcp_with(JoinOptions::default().with(|join| join.lane = true));
    pair.drive();
    let now = pair.now;
    pair.client().retire_tcp(now, second).unwrap();
    pair.drive_for(Duration::from_secs(1));
    pair.client().ping(fourth).unwrap();
    pair.step(Side::Client);
    pair.corrupt(fourth, Side::Server);
    pair.drive();
    let now = pair.now;
    pair.client().drain(now, Duration::from_secs(60));
    pair.drive_for(Duration::from_secs(1));
    // A claim waits when the session ends.
    let claim = pair.open_tcp_with(JoinOptions::default());
    pair.step(Side::Client);
    pair.deliver(claim, Side::Server, usize::MAX);
    pair.close(Side::Server, 0, b"done");
    pair.drive_for(Duration::from_secs(30));
    lines
}

/// What sessions with early data report besides.
fn early() -> Lines {
    let lines = Lines::default();
    let mut sink = JsonSeq::new(lines.clone(), &Header::new(Side::Client, Time::ZERO));
    let content = Content::Plain { bytes: 3 };
    sink.event(Time::ZERO, &Event::EarlySent { tcp: FIRST, bytes: 25, content });
    sink.event(Time::ZERO, &Event::EarlyReceived { tcp: FIRST, bytes: 25, content });
    sink.event(Time::ZERO, &Event::EarlyRejected { tcp: FIRST, bytes: 3 });
    lines
}

#[test]
fn every_event_of_a_session_is_valid_under_the_schema_and_in_the_table() {
    let table = table();
    let mut seen = BTreeSet::new();
    let [client, server] = busy();
    for lines in [client, server, early()] {
        let records = records(&lines.text());
        check(&records);
        seen.extend(names(&records));
        let times: Vec<f64> = records.iter().filter_map(|record| record["time"].as_f64()).collect();
        assert!(times.is_sorted() && times[0] >= 0.0, "times go back");
    }
    let missing: Vec<&String> = table.keys().filter(|name| !seen.contains(*name)).collect();
    assert_eq!(missing, ["tcpls:events_lost"]);
}

#[test]
fn table_has_every_event_of_the_trace_and_of_the_schema() {
    let table = table();
    let trace = page("trace.md");
    let events = trace.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let of_trace: BTreeSet<String> = events.map(str::to_owned).collect();
    assert_eq!(table.values().flatten().cloned().collect::<BTreeSet<_>>(), of_trace);
    let schema = schema();
    let in_schema = schema["$defs"].as_object().unwrap().values();
    let in_schema: BTreeSet<String> =
        in_schema.filter_map(|def| Some(def["properties"]["name"]["const"].as_str()?.to_owned())).collect();
    assert_eq!(in_schema, table.into_keys().collect());
}

#[test]
fn schema_refuses_unknown_fields_and_missing_ones() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let lines = Lines::default();
    let mut sink = JsonSeq::new(lines.clone(), &Header::new(Side::Server, Time::ZERO));
    sink.event(Time::ZERO, &Event::LimitReached { limit: Limit::TcpConnections, tcp: Some(FIRST) });
    sink.event(Time::ZERO, &Event::Hedged { tcp: FIRST, bytes: 7 });
    let records = records(&lines.text());
    check(&records);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut record = records[2].clone();
        change(&mut record);
        validator.is_valid(&record)
    };
    assert!(changed(&|_| ()));
    assert!(!changed(&|record| record["data"]["secret"] = 7.into()));
    assert!(!changed(&|record| record["data"] = serde_json::json!({})));
    assert!(!changed(&|record| record["data"]["bytes"] = (-1).into()));
    assert!(!changed(&|record| record["tuple"] = 0.into()));
    assert!(!changed(&|record| _ = record.as_object_mut().unwrap().remove("tuple")));
    assert!(!changed(&|record| record["name"] = "tcpls:another".into()));
}

#[test]
fn durations_are_milliseconds_and_times_count_from_the_header() {
    let lines = Lines::default();
    let mut sink = JsonSeq::new(lines.clone(), &Header::new(Side::Client, Time::from_millis(1000)));
    let (sample, min) = (Duration::from_micros(12_345), Duration::from_nanos(250));
    let event = Event::RttSample { tcp: FIRST, sample, smoothed: sample, variation: min, min };
    sink.event(Time::from_millis(1500), &event);
    let owed_since = Some(Time::from_millis(1250));
    sink.event(Time::from_millis(1500), &Event::Stalled { tcp: FIRST, owed_since, in_flight: 1 });
    sink.event(Time::ZERO, &Event::ClaimRefused { claim: claim(), alert: AlertDescription(47) });
    let records = records(&lines.text());
    assert_eq!(records[1]["time"], 500.0);
    assert_eq!((&records[1]["data"]["latest_rtt"], &records[1]["data"]["min_rtt"]), (&12.345.into(), &0.00025.into()));
    assert_eq!(records[2]["data"]["owed_since"], 250.0);
    assert_eq!(records[3]["data"]["alert"]["name"], "illegal_parameter");
    check(&records);
}

/// A claim's ID, of which only a session makes one.
fn claim() -> tcpls_core::ClaimId {
    let mut pair = Setup { tls: None, ..Setup::default() }.established();
    pair.open_tcp_with(JoinOptions::default());
    pair.step(Side::Client);
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    struct Claims(std::sync::Arc<std::sync::Mutex<Option<tcpls_core::ClaimId>>>);
    impl Sink for Claims {
        fn event(&mut self, _now: Time, event: &Event<'_>) {
            if let Event::ClaimMade { claim, .. } = event {
                *self.0.lock().unwrap() = Some(*claim);
            }
        }
    }
    pair.server().set_trace(Some(Box::new(Claims(seen.clone()))));
    pair.drive();
    seen.lock().unwrap().expect("a claim was made")
}

#[tokio::test]
async fn sessions_over_sockets_write_a_file_at_each_end() {
    let directory = Directory::new("qlog");
    let qlog = Qlog::new(QlogOptions::new(directory.path())).unwrap();
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    let options = options.with(|options| options.qlog = Some(qlog.clone()));
    let listener = Listener::bind(&[ANY, ANY], options).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let mut server = Server { identity, listener, addresses, config: Default::default() };
    let options = server.options().with(|options| options.qlog = Some(qlog.clone()));
    let (client, far) =
        tokio::join!(Session::connect(&server.addresses[..1], options.clone()), server.listener.accept());
    let client = client.unwrap();
    client.add_tcp(server.addresses[1], None).await.unwrap();
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(vec![7; 300_000].into()).await.unwrap();
    stream.finish().unwrap();
    let (_, mut reader) = far.accept_stream().await.unwrap().split();
    assert_eq!(read_all(&mut reader).await.len(), 300_000);
    client.close(Default::default(), b"done").await;
    far.closed().await;
    drop((client, far, stream, reader));
    assert!(qlog.flush(LONG));
    assert_eq!((qlog.dropped(), qlog.failure()), (0, None));
    let mut sides = BTreeSet::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let records = records(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        check(&records);
        let reference = &records[0]["trace"]["common_fields"]["reference_time"];
        assert!(reference["wall_clock_time"].as_str().is_some_and(|date| date.starts_with("20")), "{reference}");
        let side = records[0]["trace"]["vantage_point"]["type"].as_str().unwrap().to_owned();
        let (own, peer) =
            if side == "client" { ("tuple_local", "tuple_remote") } else { ("tuple_remote", "tuple_local") };
        for (tuple, address) in ["0", "1"].into_iter().zip(&server.addresses) {
            let assigned = records.iter().find(|record| {
                record["name"] == "tcpls:tuple_assigned" && record["tuple"] == tuple && record["data"][own].is_object()
            });
            let assigned = assigned.unwrap_or_else(|| panic!("{side} has no addresses of {tuple}"));
            assert_eq!(assigned["data"][peer]["port_v4"], address.port());
        }
        let last = records.last().unwrap();
        assert!(names(&records).contains("tcpls:closed"), "{side}: {last}");
        sides.insert(side);
    }
    assert_eq!(sides.len(), 2, "{sides:?}");
}

/// Two clients, each with a session over two paths, of which one is reset.
const SCENARIO: &str = r#"
title = "two clients"
clients = 2

[[path]]
name = "a"
rate = "25Mbit/s"
delay = "10ms"

[[path]]
name = "b"
rate = "25Mbit/s"
delay = "10ms"

[[transfer]]
at = "500ms"
receive = "300kB"

[[fault]]
at = "530ms"
kind = "reset"
path = "b"
"#;

/// The files of a simulated run, by their titles, and the hash of the run.
fn simulated(name: &str, has_qlog: bool) -> (BTreeMap<String, Vec<Value>>, String, f64) {
    let directory = Directory::new(name);
    // A queue that is far too short for a sink that does not wait.
    let options =
        QlogOptions::new(directory.path()).with(|options| (options.max_waiting, options.lossless) = (16 << 10, true));
    let qlog = Qlog::new(options).unwrap();
    let options = RunOptions { qlog: has_qlog.then(|| qlog.clone()), ..RunOptions::default() };
    let report = run(&Scenario::parse(SCENARIO).unwrap(), 1, options);
    assert!(report.is_good() && qlog.flush(LONG));
    assert_eq!((qlog.dropped(), qlog.failure()), (0, None));
    let files = std::fs::read_dir(directory.path()).unwrap().map(|entry| {
        let records = records(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        (records[0]["title"].as_str().unwrap().to_owned(), records)
    });
    (files.collect(), report.trace, report.ended)
}

#[test]
fn each_end_of_a_simulated_session_has_a_file_and_the_run_is_the_same() {
    let (files, trace, ended) = simulated("qlog-simulated", true);
    assert_eq!((simulated("qlog-simulated-without", false).1, files.len()), (trace, 4), "{:?}", files.keys());
    for (title, records) in &files {
        let side = if title.contains(": server, session ") { "server" } else { "client" };
        assert!(title.starts_with("two clients, seed 1: "), "{title}");
        assert_eq!(records[0]["trace"]["vantage_point"]["type"], side, "{title}");
        let reference = &records[0]["trace"]["common_fields"]["reference_time"];
        assert!(reference.get("wall_clock_time").is_none(), "{reference}");
        let times: Vec<f64> = records.iter().filter_map(|record| record["time"].as_f64()).collect();
        assert!(times.is_sorted() && times[0] >= 0.0 && times[times.len() - 1] <= ended * 1e3, "{title}");
        assert_eq!(records.last().unwrap()["name"], "tcpls:closed", "{title}");
    }
    // Validating all of them takes long.
    files.values().for_each(|records| check(&records[..100]));
    assert_eq!(simulated("qlog-simulated-again", true).0, files);
}
