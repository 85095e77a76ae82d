//! `tcpls replay` and `--record`.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::{Tcpls, command};
use crate::support::{Directory, pattern};

async fn run(arguments: &[&str]) -> Output {
    command(arguments).output().await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A recording of a simulated session that loses a TCP connection.
async fn simulated(directory: &Directory) -> String {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/reset-standby.toml");
    let file = directory.path().join("reset.tcplsrec").to_str().unwrap().to_owned();
    let output = run(&["sim", "run", scenario.to_str().unwrap(), "--record", &file]).await;
    assert!(output.status.success(), "{output:?}");
    file
}

#[tokio::test]
async fn simulated_sessions_replay_as_recorded_until_an_event_or_to_their_end() {
    let directory = Directory::new("replay");
    let file = simulated(&directory).await;
    let output = run(&["replay", &file]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("session 0 (client): the same;"), "{output:?}");
    assert!(text(&output.stdout).contains("session 1 (server): the same;"), "{output:?}");

    let output = run(&["replay", &file, "--session", "0", "--until", "lost"]).await;
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("lost (tcp 0)"), "{shown}");
    assert!(shown.contains("state: Established") && shown.contains("next deadline:"), "{shown}");
    assert!(shown.contains("tcp 1: ") && shown.contains("bytes in flight"), "{shown}");

    let output = run(&["replay", &file, "--session", "0", "--until", "1ms", "--step"]).await;
    assert!(text(&output.stdout).contains("PollTransmit"), "{output:?}");

    let output = run(&["replay", &file, "--json"]).await;
    let first: Value = serde_json::from_str(text(&output.stdout).lines().next().unwrap()).unwrap();
    assert_eq!((&first["side"], &first["difference"]), (&Value::from("client"), &Value::Null));
    assert!(first["records_sent"].as_u64().unwrap() > 10, "{first}");

    let trace = directory.path().join("trace.jsonl");
    let output = run(&["replay", &file, "--trace", trace.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read_to_string(&trace).unwrap().contains("\"what\":\"lost\""));
}

/// The suite compiles and runs "recorded/failover.rs". With `UPDATE_DOCS=1`, that is made anew.
#[tokio::test]
async fn a_test_that_is_written_is_the_one_that_this_suite_runs() {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/recorded");
    let directory = Directory::new("replay-test");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let scenario = recorded.join("failover.toml");
    let output = run(&["sim", "run", scenario.to_str().unwrap(), "--record", &at("session.tcplsrec")]).await;
    assert!(output.status.success(), "{output:?}");
    let output = run(&["replay", &at("session.tcplsrec"), "--test", &at("failover.rs")]).await;
    assert!(output.status.success(), "{output:?}");
    let beside = std::fs::read(at("failover.tcplsrec")).unwrap();
    assert!(beside == std::fs::read(at("session.tcplsrec")).unwrap(), "the recording is beside the test");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        for name in ["failover.rs", "failover.tcplsrec"] {
            std::fs::copy(at(name), recorded.join(name)).unwrap();
        }
    }
    let shown = |name: &str| std::fs::read(recorded.join(name)).unwrap();
    let source = std::fs::read(at("failover.rs")).unwrap();
    assert!(source == shown("failover.rs"), "run this test with UPDATE_DOCS=1: {}", text(&source));
    assert!(
        beside == shown("failover.tcplsrec"),
        "sessions decide otherwise than when they were recorded: if that is intended, run this test with UPDATE_DOCS=1"
    );
}

#[tokio::test]
async fn what_is_no_recording_or_damaged_is_refused_with_the_reason() {
    let directory = Directory::new("replay-refused");
    let file = simulated(&directory).await;
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let output = run(&["replay", &file]).await;
    assert!(!output.status.success() && text(&output.stderr).contains("the file is damaged"), "{output:?}");
    std::fs::write(&file, b"GET / HTTP/1.1").unwrap();
    let output = run(&["replay", &file]).await;
    assert!(!output.status.success() && text(&output.stderr).contains("not a recording"), "{output:?}");
    let output = run(&["replay", &file, "--until", "nonsense"]).await;
    assert!(text(&output.stderr).contains("the events are:"), "{output:?}");
}

#[tokio::test]
async fn trace_ring_of_a_demo_has_the_outage_at_both_ends_and_becomes_a_page() {
    let directory = Directory::new("trace-ring");
    let traces = directory.path().join("traces");
    let output = run(&["demo", "--size", "8MiB", "--trace-ring", &format!("{},2MiB", traces.display())]).await;
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("traces of 2 sessions with anomalies in"), "{said}");
    let files: Vec<_> = std::fs::read_dir(&traces).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert!(std::fs::read_to_string(&file).unwrap().contains("\"what\":\"lost\""));
        let page = file.with_extension("html");
        let output = run(&["view", file.to_str().unwrap(), "-o", page.to_str().unwrap()]).await;
        assert!(output.status.success() && page.exists(), "{output:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn downloads_are_recorded_at_both_ends_and_replay() {
    let directory = Directory::new("record-get");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (server, address) = Tcpls::serve(directory.path(), &["--record", &at("server.tcplsrec")]).await;
    std::fs::write(directory.path().join("root/file"), pattern(3 << 20)).unwrap();
    let (url, ca, out) = ("https://localhost/file", at("ca.pem"), at("out"));
    let arguments = ["get", "--connect", &address, "--ca", &ca, "-o", &out, "--record", &at("client.tcplsrec"), url];
    let output = run(&[&arguments[..], &["--record-full"]].concat()).await;
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("in plain text"), "the warning: {output:?}");
    server.signal("TERM");
    server.end().await;
    for name in ["client.tcplsrec", "server.tcplsrec"] {
        let output = run(&["replay", &at(name)]).await;
        assert!(output.status.success() && text(&output.stdout).contains("the same"), "{name}: {output:?}");
    }
    let client = std::fs::read(at("client.tcplsrec")).unwrap();
    let data = &pattern(3 << 20)[1000..1064];
    assert!(client.windows(64).any(|part| part == data), "--record-full keeps the data");
    let server = std::fs::read(at("server.tcplsrec")).unwrap();
    assert!(!server.windows(9).any(|part| part == b"localhost" || part == &data[..9]));
}
