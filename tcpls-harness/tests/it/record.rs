//! Recordings of sessions over sockets: they replay, and the command shows where one differs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::Config;
use tcpls_core::record::Mark;
use tcpls_core::record::replay::{Recording, Replay};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{Listener, Record, RecordOptions, ServerOptions, Session};
use tcpls_harness::sim::swarm::{Mode, generate, record, replayed_swarm};

use crate::support::{ANY, Directory, PROTOCOL, identity, lost, pattern, read_all, relay, trust};

/// Replays all sessions of a file. Returns how many calls each had, and the names of its events.
fn replay(path: &Path) -> Vec<(u64, Vec<&'static str>)> {
    let file = std::fs::read(path).unwrap();
    let recording = Recording::read(&file).unwrap();
    assert_eq!(recording.damage(), None);
    let replay_one = |session| {
        let (mut replay, mut calls, mut events) = (Replay::new(session), 0, Vec::new());
        while let Some(step) = replay.step().unwrap_or_else(|error| panic!("session {}: {error}", session.number())) {
            calls = step.number() + 1;
            events.extend(step.events());
        }
        assert_eq!(session.mark(), Some(Mark::Complete));
        (calls, events)
    };
    recording.sessions().iter().map(replay_one).collect()
}

/// A session over two paths, one of which fails during a download, with key updates.
async fn download_with_failover(record: &Record) {
    let identity = identity();
    let options = ServerOptions::new(identity.server(&[PROTOCOL]).unwrap());
    // Keys are updated when half of that many records are sealed.
    let config = Arc::new(Config::default().with(|config| config.confidentiality_limit = Some(1000)));
    let options = options.with(|options| (options.record, options.config) = (Some(record.clone()), config.clone()));
    let mut listener = Listener::bind(&[ANY, ANY], options).unwrap();
    let path = relay(listener.local_addresses()[0]);
    let addresses = [path.address(), listener.local_addresses()[1]];
    let tls = trust(&identity).client(&[PROTOCOL]).unwrap();
    let mut options = tcpls_harness::net::ClientOptions::new(tls, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Paths;
    (options.record, options.config) = (Some(record.clone()), config);
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
    download_with_failover(&record).await;
    let record = Arc::new(record);
    assert!(
        tokio::task::spawn_blocking({
            let record = record.clone();
            move || record.wait(Duration::from_secs(600))
        })
        .await
        .unwrap()
    );
    let sessions = replay(&path);
    assert_eq!(sessions.len(), 2);
    for (calls, events) in sessions {
        assert!(calls > 100, "{calls}");
        for expected in ["lost", "joined", "closed"] {
            assert!(events.contains(&expected), "no {expected} among {events:?}");
        }
        let updates = ["key-update-sent", "key-update-received"];
        assert!(updates.iter().any(|update| events.contains(update)), "no key update among {events:?}");
    }
}

#[test]
fn random_scenarios_replay_as_recorded() {
    let tally = replayed_swarm(0..12, &[Mode::Safety, Mode::Liveness], 2);
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
}

#[test]
fn a_recorded_scenario_has_a_session_for_each_end() {
    let file = record(&generate(1, Mode::Liveness), 1);
    let recording = Recording::read(&file).unwrap();
    assert!(recording.sessions().len() >= 2);
}
