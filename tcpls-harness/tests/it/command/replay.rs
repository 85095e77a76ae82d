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

#[tokio::test]
async fn a_test_that_is_written_has_the_recording_beside_it() {
    let directory = Directory::new("replay-test");
    let file = simulated(&directory).await;
    let test = directory.path().join("reset.rs");
    let output = run(&["replay", &file, "--test", test.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    let source = std::fs::read_to_string(&test).unwrap();
    assert!(source.contains("fn reset_replays_as_recorded()") && source.contains("include_bytes!(\"reset.tcplsrec\")"));
    let beside = std::fs::read(test.with_extension("tcplsrec")).unwrap();
    assert_eq!(beside, std::fs::read(&file).unwrap());
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
