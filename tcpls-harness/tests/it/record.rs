//! Recordings of sessions over sockets: they replay, and the command shows where one differs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::Config;
use tcpls_core::crypto::rustls::EarlyTickets;
use tcpls_core::record::Mark;
use tcpls_core::record::replay::{Recording, Replay};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Listener, Record, RecordOptions, ServerOptions, Session};
use tcpls_harness::sim::scenario::Settings;
use tcpls_harness::sim::swarm::{Mode, generate, record, replayed_swarm};
use tcpls_harness::trace::ring::{Ring, RingOptions};
use tcpls_harness::view::Page;

use crate::library;
use crate::support::{
    ANY, Directory, PROTOCOL, identity, joined, lost, nothing_failed, pattern, read_all, relay, trust,
};

/// What a replay of a session was.
#[derive(Default)]
struct Replayed {
    calls: u64,
    /// The names of its events.
    events: Vec<&'static str>,
    /// Its items, without numbers: what was called, and what happened.
    items: BTreeSet<String>,
}

impl Replayed {
    fn check(&self, events: &[&'static str], items: &[&str]) {
        for event in events {
            assert!(self.events.contains(event), "no {event} among {:?}", self.events);
        }
        for item in items {
            assert!(self.items.iter().any(|other| other.contains(item)), "no {item} among {:#?}", self.items);
        }
    }
}

/// Waits until a recording is written, and replays all of its sessions.
async fn replay(record: &Record, path: &Path) -> Vec<Replayed> {
    let record = record.clone();
    assert!(tokio::task::spawn_blocking(move || record.wait(Duration::from_secs(600))).await.unwrap());
    let file = std::fs::read(path).unwrap();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.damage(), None);
    let replay_one = |session| {
        let (mut replay, mut replayed) = (Replay::new(session), Replayed::default());
        while let Some(step) = replay.step().unwrap_or_else(|error| panic!("session {}: {error}", session.number())) {
            replayed.calls = step.number() + 1;
            replayed.events.extend(step.events());
            let items = [step.call()].into_iter().chain(step.outcome());
            replayed.items.extend(items.map(|item| item.split(|c: char| c.is_ascii_digit()).collect()));
        }
        assert_eq!(session.mark(), Some(Mark::Complete));
        replayed
    };
    recording.sessions().iter().map(replay_one).collect()
}

/// A session over two paths, one of which fails during a download, with key updates.
async fn download_with_failover(record: &Record, ring: &Ring) {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    // Keys are updated when half of that many records are sealed.
    let config = Arc::new(Config::default().with(|config| config.confidentiality_limit = Some(1000)));
    let options = options.with(|options| {
        (options.record, options.config) = (Some(record.clone()), config.clone());
        options.trace_ring = Some(ring.clone());
    });
    let mut listener = Listener::bind(&[ANY, ANY], options).unwrap();
    let path = relay(listener.local_addresses()[0]);
    let addresses = [path.address(), listener.local_addresses()[1]];
    let tls = library::client(&trust(&identity), PROTOCOL);
    let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Paths;
    (options.record, options.config) = (Some(record.clone()), config);
    options.trace_ring = Some(ring.clone());
    let (client, server) = tokio::join!(Session::connect(&addresses, options), listener.accept());
    let client = client.unwrap();
    let mut events = client.events();
    while client.tcp_connections().len() < 2 {
        events.next().await.expect("the session ended before both paths were used");
    }
    let data = pattern(16 << 20);
    let send = async {
        let mut stream = server.open_stream().await.unwrap();
        stream.write_chunk(data.clone().into()).await.unwrap();
        stream.finish().unwrap();
    };
    let receive = async {
        let mut stream = client.accept_stream().await.unwrap();
        let first = stream.recv().read_chunk(1 << 16).await.unwrap().unwrap();
        path.reset();
        [first.to_vec(), read_all(stream.recv()).await].concat()
    };
    let (received, ()) = tokio::join!(receive, send);
    assert!(received == data);
    lost(&mut events, ConnectionId::FIRST).await;
    client.close(ErrorCode(0), b"").await;
    server.closed().await;
}

#[tokio::test]
async fn session_over_sockets_with_failover_and_key_update_replays() {
    let directory = Directory::new("record");
    let path = directory.path().join("failover.tcplsrec");
    let record = Record::create(&path, RecordOptions::default()).unwrap();
    let ring = Ring::new(&RingOptions::new(directory.path().join("traces"))).unwrap();
    download_with_failover(&record, &ring).await;
    let sessions = replay(&record, &path).await;
    assert_eq!(sessions.len(), 2);
    for replayed in sessions {
        assert!(replayed.calls > 100, "{}", replayed.calls);
        replayed.check(&["lost", "joined", "closed"], &[]);
        let updates = ["key-update-sent", "key-update-received"];
        assert!(updates.iter().any(|update| replayed.events.contains(update)), "no update: {:?}", replayed.events);
    }
    // The same sessions lost a TCP connection, which is an anomaly at both ends.
    assert!(tokio::task::spawn_blocking(move || ring.flush(Duration::from_secs(600))).await.unwrap());
    let files = std::fs::read_dir(directory.path().join("traces")).unwrap();
    let mut sides = Vec::new();
    for file in files.map(|file| file.unwrap().path()) {
        let trace = std::fs::read_to_string(&file).unwrap();
        assert_eq!((trace.matches("\"what\":\"lost\"").count(), trace.matches("\"what\":\"closed\"").count()), (1, 1));
        assert!(Page::of_trace(trace.as_bytes()).unwrap().events() > 100);
        sides.push(file.to_str().unwrap().rsplit(['-', '.']).nth(1).unwrap().to_owned());
    }
    sides.sort();
    assert_eq!(sides, ["client", "server"]);
}

#[tokio::test]
async fn session_over_sockets_with_early_data_and_a_resumed_join_replays() {
    let directory = Directory::new("record-early");
    let path = directory.path().join("early.tcplsrec");
    let record = Record::create(&path, RecordOptions::default()).unwrap();
    let identity = identity();
    let tls = identity.server(&[PROTOCOL]).unwrap().with_early_data().unwrap();
    let options = ServerOptions::new(tls).with(|options| {
        (options.early_data, options.record) = (true, Some(record.clone()));
    });
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let addresses = [listener.local_addresses()[0]];
    let tls = trust(&identity).client(&[PROTOCOL]).unwrap().with_early_data(Arc::new(EarlyTickets::default()));
    // The first session gets tickets, the second sends its request with one of them.
    for is_early in [false, true] {
        let mut options = ClientOptions::new(tls.clone(), "localhost".try_into().unwrap());
        (options.dial.keep, options.early_data, options.record) = (Keep::Session, true, Some(record.clone()));
        let client = async {
            let client = Session::connect(&addresses, options).await.unwrap();
            let mut stream = client.open_stream().await.unwrap();
            stream.write_chunk(bytes::Bytes::from_static(b"a request")).await.unwrap();
            stream.finish().unwrap();
            assert_eq!(read_all(stream.recv()).await, b"an answer");
            client.handshake_confirmed().await.unwrap();
            let mut events = client.events();
            let second = client.add_tcp(addresses[0], None).await.unwrap();
            while joined(&mut events).await != second {}
            client.close(ErrorCode(0), b"").await;
        };
        let server = async {
            let server = listener.accept().await;
            let mut stream = server.accept_stream().await.unwrap();
            assert_eq!(stream.is_early(), is_early);
            assert_eq!(read_all(stream.recv()).await, b"a request");
            stream.write_chunk(bytes::Bytes::from_static(b"an answer")).await.unwrap();
            stream.finish().unwrap();
            server.closed().await;
        };
        tokio::join!(client, server);
    }
    drop(listener);
    let sessions = replay(&record, &path).await;
    assert_eq!(sessions.len(), 4);
    for (number, replayed) in sessions.iter().enumerate() {
        let join = if number % 2 == 0 { "TlsJoin { done: true }" } else { "resumption: Some(" };
        replayed.check(&["established", "joined", "closed"], &[join]);
    }
    sessions[2].check(&[], &["sends early data on tcp "]);
    sessions[3].check(&[], &["TlsEarly { is_some: true"]);
}

#[test]
fn random_scenarios_replay_as_recorded() {
    let tally = replayed_swarm(0..12, &[Mode::Safety, Mode::Liveness], 2);
    nothing_failed(&tally);
}

#[test]
fn a_recorded_scenario_has_a_session_for_each_end() {
    let file = record(&generate(1, Mode::Liveness), 1);
    let recording = Recording::read(&file).unwrap();
    assert!(recording.sessions().len() >= 2);
}

/// Calls that no host of the simulator makes. Tests of the core make them, and replay them with `TCPLS_REPLAY`.
const NOT_SIMULATED: &[&str] = &["SetClass", "SetKeepAlive", "SetPlainIdleTimeout", "Writable", "Write"];
/// Seeds that make all others. If the scenarios have changed, more are tried, which takes longer.
const SEEDS: [u64; 11] = [0, 1, 3, 5, 7, 8, 11, 15, 18, 29, 141];

/// The calls in the table of the format.
fn documented_calls() -> BTreeSet<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/recordings.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| 0x")?.split_once(" | "));
    let calls = rows.filter(|(code, _)| u8::from_str_radix(code, 16).unwrap() < 0x40);
    calls.map(|(_, rest)| rest.split(" | ").next().unwrap().to_owned()).collect()
}

#[test]
fn replayed_random_scenarios_make_every_call_but_those_without_a_simulation() {
    let mut missing = documented_calls();
    assert!(missing.len() > 40);
    for name in NOT_SIMULATED {
        assert!(missing.remove(*name), "{name} is no call");
    }
    for seed in SEEDS.into_iter().chain(30..400) {
        let file = record(&generate(seed, Mode::Safety), seed);
        for session in Recording::read(&file).unwrap().sessions() {
            let mut replay = Replay::new(session);
            while let Some(step) = replay.step().unwrap() {
                let call = step.call();
                let name = call.split([' ', '(', '{']).next().unwrap();
                assert!(!NOT_SIMULATED.contains(&name), "{name} is simulated");
                missing.remove(name);
            }
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("no scenario makes {missing:?}");
}

#[test]
fn random_scenarios_use_every_setting_of_an_end() {
    let settings = format!("{:?}", Settings::default()).replace('_', "-");
    let (_, fields) = settings.split_once('{').unwrap();
    let mut unused: BTreeSet<&str> = fields.split(", ").map(|field| field.split(':').next().unwrap().trim()).collect();
    assert!(unused.len() > 15);
    for seed in 0..1000 {
        let scenario = generate(seed, Mode::Safety).print();
        unused.retain(|name| !scenario.contains(&format!("\n{name} = ")));
    }
    assert!(unused.is_empty(), "{unused:?}");
}
