//! `get` with options for where files go: a later run that continues, and standard output.

use std::path::Path;

use serde_json::Value;
use tcpls_harness::relay::{PathOptions, Relay};

use super::{Tcpls, command, get_line};
use crate::support::{ANY, Directory, pattern};

const LEN: usize = 8 << 20;

/// A run that SIGINT ends after it has written something. Returns what it says.
async fn interrupted(directory: &Path, address: &str) -> String {
    let options = PathOptions::default().with(|path| path.rate = Some(4_000_000));
    let relay = Relay::start(ANY, address.parse().unwrap(), options).unwrap();
    let line = get_line(directory, &relay.address().to_string(), "file");
    let get = Tcpls::start(&line.iter().map(String::as_str).collect::<Vec<_>>());
    let is_written = || {
        let mut entries = std::fs::read_dir(directory.join("out")).into_iter().flatten().flatten();
        entries.any(|entry| {
            let is_new = entry.path().extension().is_some_and(|extension| extension == "part");
            is_new && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        })
    };
    while !is_written() {
        tokio::task::yield_now().await;
    }
    get.signal("INT");
    let (status, text) = get.end().await;
    assert_eq!(status.code(), Some(130), "{text}");
    text
}

/// The report of a run with `--continue`.
async fn continued(directory: &Path, address: &str) -> Value {
    let mut line = get_line(directory, address, "file");
    line.extend(["--json", "-C"].map(str::to_owned));
    let output = command(&[]).args(line).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_continues_what_an_earlier_run_left_unless_the_file_changed() {
    let directory = Directory::new("continued");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    let (path, out) = (directory.path().join("root/file"), directory.path().join("out"));
    std::fs::write(&path, pattern(LEN)).unwrap();
    let text = interrupted(directory.path(), &address).await;
    assert!(text.contains("-C continues incomplete files"), "{text}");
    let left = out.join("file.tcpls-part").metadata().unwrap().len();
    assert!(left > 0 && !out.join("file").exists());
    let report = continued(directory.path(), &address).await;
    let counts = ["bytes", "bytes_continued", "bytes_received"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts, [LEN as u64, left, LEN as u64 - left]);
    assert!(std::fs::read(out.join("file")).unwrap() == pattern(LEN));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);

    interrupted(directory.path(), &address).await;
    assert!(out.join("file.tcpls-part").exists());
    std::fs::write(&path, vec![7; LEN]).unwrap();
    let report = continued(directory.path(), &address).await;
    assert_eq!((&report["bytes_continued"], &report["bytes_received"]), (&0.into(), &LEN.into()));
    assert!(std::fs::read(out.join("file")).unwrap() == vec![7; LEN]);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}

#[tokio::test]
async fn get_writes_to_standard_output_or_to_the_file_that_is_named() {
    let directory = Directory::new("output-file");
    let (_server, address) = Tcpls::serve(directory.path(), &[]).await;
    std::fs::write(directory.path().join("root/file"), pattern(LEN)).unwrap();
    let (ca, named) = (directory.path().join("ca.pem"), directory.path().join("named"));
    let get = |to: &str| {
        let mut get = command(&["get", "--connect", &address, "--ca", ca.to_str().unwrap(), "-O", to]);
        get.arg("https://localhost/file");
        async move { get.output().await.unwrap() }
    };
    let output = get("-").await;
    assert!(output.status.success() && output.stdout == pattern(LEN), "{:?}", String::from_utf8_lossy(&output.stderr));
    let output = get(named.to_str().unwrap()).await;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(std::fs::read(named).unwrap() == pattern(LEN));
}
