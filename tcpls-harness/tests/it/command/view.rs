//! `tcpls view`, and `--view` of other commands.

use super::command;
use crate::support::Directory;

/// Runs the command; its exit code, and what it said on standard error.
async fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(arguments).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The JSON in a page.
pub(super) fn description(page: &std::path::Path) -> serde_json::Value {
    let html = std::fs::read_to_string(page).unwrap();
    let (_, rest) = html.split_once("<script id=\"description\" type=\"application/json\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[tokio::test]
async fn page_of_a_trace_is_that_of_the_run() {
    let directory = Directory::new("view-command");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (trace, of_run, of_trace) = (at("trace.jsonl"), at("run.html"), at("trace.html"));
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/reset-alone.toml");
    let (code, said) = run(&["sim", "run", scenario, "--trace", &trace, "--view", &of_run]).await;
    assert!(code == Some(0) && said.contains(&of_run), "{said}");
    let (code, said) = run(&["view", &trace, "-o", &of_trace]).await;
    assert!(code == Some(0) && said.contains(" events in "), "{said}");
    assert!(std::fs::read(of_run).unwrap() == std::fs::read(of_trace).unwrap());
}

#[tokio::test]
async fn file_that_is_no_trace_is_refused_with_its_line_and_writes_nothing() {
    let directory = Directory::new("view-refused");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (trace, page) = (at("trace.jsonl"), at("page.html"));
    for (text, expected) in [("", "no events"), ("{}\n", "line 1"), ("{\"t\":1,\"what\":\"probed\"}\nx\n", "line 2")] {
        std::fs::write(&trace, text).unwrap();
        let (code, said) = run(&["view", &trace, "-o", &page]).await;
        assert!(code == Some(1) && said.contains(&trace) && said.contains(expected), "{said}");
        assert!(!std::path::Path::new(&page).exists());
    }
}

#[tokio::test]
async fn demo_shows_both_ends_their_paths_and_the_outage() {
    let directory = Directory::new("view-demo");
    let page = directory.path().join("page.html");
    let (code, said) = run(&["demo", "--size", "8MiB", "--json", "--view", page.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{said}");
    let description = description(&page);
    let session = &description["sessions"][0];
    assert_eq!((session["number"].as_u64(), session["ends"].as_array().unwrap().len()), (Some(0), 2));
    let summary = session["summary"].to_string();
    assert!(summary.contains("The client received 8.0 MiB from the server"), "{summary}");
    assert!(summary.contains("TCP connection 0 (path ") && summary.contains("was lost"), "{summary}");
    assert_eq!(description["faults"].as_array().unwrap().len(), 1);
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() == 2 && paths["0"].as_str().unwrap().contains("5 ms away"), "{paths:?}");
}

#[tokio::test]
async fn recording_is_shown_as_its_replay_shows_it() {
    let directory = Directory::new("view-recording");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (recording, page, of_replay) = (at("session"), at("page.html"), at("replay.html"));
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/reset-standby.toml");
    let (code, said) = run(&["sim", "run", scenario, "--record", &recording]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["view", &recording, "-o", &page]).await;
    assert!(code == Some(0) && said.contains(" events in "), "{said}");
    let (code, said) = run(&["replay", &recording, "--view", &of_replay, "--trace", &at("trace.jsonl")]).await;
    assert!(code == Some(0) && said.contains(&of_replay), "{said}");
    assert!(std::fs::read(&page).unwrap() == std::fs::read(&of_replay).unwrap());
    let both = description(page.as_ref());
    let names: Vec<&str> = both["ends"].as_array().unwrap().iter().map(|end| end["who"].as_str().unwrap()).collect();
    assert!(names.contains(&"The client") && names.contains(&"The server"), "{names:?}");
    let (code, said) = run(&["view", &recording, "-o", &page, "--session", "0"]).await;
    assert_eq!(code, Some(0), "{said}");
    let sessions = description(page.as_ref())["sessions"].clone();
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    assert!(sessions.to_string().contains("TCP connection 0 was lost"), "{sessions}");
    let (code, said) = run(&["view", &at("trace.jsonl"), "-o", &page, "--session", "0"]).await;
    assert!(code == Some(1) && said.contains("not a recording"), "{said}");
}

#[tokio::test]
async fn page_replaces_neither_its_input_nor_an_earlier_page_if_there_is_no_event() {
    let directory = Directory::new("view-input");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (recording, page) = (at("session"), at("page.html"));
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/reset-standby.toml");
    run(&["sim", "run", scenario, "--record", &recording]).await;
    let before = std::fs::read(&recording).unwrap();
    std::fs::hard_link(&recording, at("link")).unwrap();
    for line in [["view", &recording, "-o", &at("link")], ["replay", &recording, "--view", &at("link")]] {
        let (code, said) = run(&line).await;
        assert!(code == Some(1) && said.contains(&format!("it is the input {recording}")), "{said}");
    }
    assert!(std::fs::read(&recording).unwrap() == before);
    std::fs::write(&page, "earlier").unwrap();
    let (code, said) = run(&["replay", &recording, "--view", &page, "--until", "0s"]).await;
    assert!(code == Some(1) && said.contains("no events"), "{said}");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "earlier");
}

#[tokio::test]
async fn damaged_recording_is_shown_up_to_its_damage() {
    let directory = Directory::new("view-damaged");
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (recording, page) = (at("session"), at("page.html"));
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/reset-standby.toml");
    run(&["sim", "run", scenario, "--record", &recording]).await;
    let mut bytes = std::fs::read(&recording).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&recording, &bytes).unwrap();
    let (code, said) = run(&["view", &recording, "-o", &page]).await;
    assert!(code == Some(0) && said.contains("cannot be read to its end"), "{said}");
    assert!(description(page.as_ref())["sessions"].to_string().contains("cannot be read to its end"));
    let of_replay = at("replay.html");
    let (code, said) = run(&["replay", &recording, "--view", &of_replay]).await;
    assert!(code == Some(1) && said.contains("cannot be read to its end"), "{said}");
    assert!(std::fs::read(&page).unwrap() == std::fs::read(&of_replay).unwrap());
    bytes.truncate(40);
    std::fs::write(&recording, &bytes).unwrap();
    let (code, said) = run(&["view", &recording, "-o", &at("none.html")]).await;
    assert!(code == Some(1) && said.contains("ends inside the block"), "{said}");
    std::fs::write(&recording, b"\x0a\x0d\x0d\x0a\x00\x00\x00\x1c\x1a\x2b\x3c\x4d").unwrap();
    let (code, said) = run(&["view", &recording, "-o", &at("none.html")]).await;
    assert!(code == Some(1) && said.contains("tcpls decrypt"), "{said}");
    assert!(!std::path::Path::new(&at("none.html")).exists());
}
