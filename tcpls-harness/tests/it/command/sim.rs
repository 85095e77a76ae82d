//! `tcpls sim run --real`: what it writes, and what it refuses.

use std::path::{Path, PathBuf};

use super::command;
use super::qlog::last_events;
use super::view::description;
use crate::support::Directory;

const SCENARIO: &str = r#"
    title = "a reset"
    [[path]]
    name = "wifi"
    rate = "40Mbit/s"
    delay = "1ms"
    [[path]]
    name = "mobile"
    rate = "40Mbit/s"
    delay = "1ms"
    [[transfer]]
    receive = "400kB"
    [[fault]]
    at = "30ms"
    kind = "reset"
    path = "wifi"
"#;

fn scenario(directory: &Directory, more: &str) -> String {
    let path = directory.path().join("scenario.toml");
    std::fs::write(&path, format!("{SCENARIO}{more}")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs the scenario twice; the exit code, and what was said.
async fn run_real(scenario: &str, more: &[&str]) -> (Option<i32>, String) {
    let output = command(&["sim", "run", scenario, "--real"]).args(more).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn run_over_real_sockets_writes_its_own_file_for_each_option() {
    let directory = Directory::new("sim-real");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (traces, rings) = (at("qlog"), at("rings"));
    let files = ["--trace", &at("run.jsonl"), "--record", &at("run.tcplsrec"), "--view", &at("run.html")];
    let directories = ["--qlog", &traces, "--trace-ring", &rings];
    let (code, said) = run_real(&scenario(&directory, ""), &[&files[..], &directories].concat()).await;
    assert_eq!(code, Some(0), "{said}");

    for name in ["run-real.tcplsrec", "run.tcplsrec"] {
        let output = command(&["replay", &at(name)]).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.matches("the session ended").count() == 2, "{name}: {text}");
    }
    let mut sides: Vec<String> = Vec::new();
    for (side, last) in last_events(Path::new(&traces)) {
        assert_eq!(last["name"], "tcpls:closed", "{side}: {last}");
        sides.push(side);
    }
    sides.sort();
    assert_eq!(sides, ["client.sqlog", "client.sqlog", "server.sqlog", "server.sqlog"]);
    let rings = entries(Path::new(&rings));
    assert_eq!(rings.len(), 2, "the client's end and the server's, which both lost a TCP connection: {rings:?}");

    let page = description(Path::new(&at("run-real.html")));
    assert_eq!(page["title"], "a reset (real sockets)");
    let sessions = page["sessions"].to_string();
    assert!(sessions.contains("wifi") && sessions.contains("mobile") && sessions.contains("was lost"), "{sessions}");
    let trace = std::fs::read_to_string(at("run-real.jsonl")).unwrap();
    for end in ["client", "server"] {
        let of_end = format!("\"at\":\"{end}\",\"session\":0,\"what\":\"closed\"");
        assert_eq!(trace.matches(&of_end).count(), 1, "{end}");
    }
    assert_eq!(trace.matches("\"what\":\"fault\"").count(), 1);
}

#[tokio::test]
async fn options_and_scenarios_for_simulations_only_are_refused_before_any_file() {
    let directory = Directory::new("sim-real-refused");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let file = scenario(&directory, "");
    for option in ["--csv", "--plot"] {
        let (code, said) = run_real(&file, &[option, &at("out.svg"), "--trace", &at("trace")]).await;
        assert!(code == Some(1) && said.contains(option) && said.contains("leave out --real"), "{said}");
    }
    let several = scenario(&directory, "[[action]]\nat = \"1ms\"\nby = \"client\"\nkind = \"update-keys\"\n");
    let (code, said) = run_real(&several, &["--view", &at("page.html")]).await;
    assert!(code == Some(1) && said.contains("actions are for simulations only"), "{said}");
    assert_eq!(entries(directory.path()), [PathBuf::from(several)]);
}

#[tokio::test]
async fn trace_ring_is_refused_by_commands_without_sessions_over_sockets() {
    let directory = Directory::new("ring-refused");
    let (rings, file) = (directory.path().join("rings"), scenario(&directory, ""));
    for (line, hint) in [(&["sim", "run", &file][..], "pass --real"), (&["completions", "bash"], "no sessions")] {
        let output = command(&["--trace-ring", rings.to_str().unwrap()]).args(line).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("--trace-ring") && said.contains(hint), "{said}");
    }
    assert!(!rings.exists());
}
