//! A client with two uplinks, each with a default route, and no policy routing: `tcpls get` uses both.

use std::path::Path;
use std::process::{Command, Output};

use serde::Deserialize;

use super::netns::{self, BEYOND, Namespaces};
use super::path::{self, PathSpec};
use super::scratch::{Scratch, find_tcpls};
use super::stack::{Process, write_source};
use super::wire::Wire;
use super::{Outcome, sys};

const SPEC: PathSpec = PathSpec { rate: 20.0, rtt: 20.0, queue: 50.0, loss: 0.0 };
const PORT: u16 = 443;
const FILE: &str = "file";
const LEN: usize = 4_000_000;
/// What each uplink carries at least, of what both carry.
const SHARE: f64 = 0.3;

/// What `tcpls get --json` prints.
#[derive(Deserialize)]
struct Report {
    bytes: u64,
    tcp: Vec<Tcp>,
}

#[derive(Deserialize)]
struct Tcp {
    stream_bytes_received: u64,
}

/// Both uplinks carry their share of a download, without an option and with their names.
pub(super) fn both_are_used() -> Outcome {
    for options in [&[][..], &["--path", "path1", "--path", "path2"]] {
        let output = fetch(options, |_| Ok(()))?;
        let report: Report = parse(&output)?;
        let carried: Vec<u64> = report.tcp.iter().map(|tcp| tcp.stream_bytes_received).collect();
        let share = |bytes: &u64| *bytes as f64 / report.bytes as f64;
        if report.bytes != LEN as u64 || carried.len() != 2 || carried.iter().any(|bytes| share(bytes) < SHARE) {
            return Err(format!("{options:?}: {} bytes, of them {carried:?} per TCP connection", report.bytes).into());
        }
    }
    Ok(())
}

/// A metered uplink carries nothing, and has no TCP connection.
pub(super) fn metered_is_spared() -> Outcome {
    let output = fetch(&["--path", "auto", "--path", "path2,metered"], |_| Ok(()))?;
    let report: Report = parse(&output)?;
    if report.bytes == LEN as u64 && report.tcp.len() == 1 { Ok(()) } else { Err("it was used".into()) }
}

/// A strict reverse path filter, which drops what the second uplink brings, is named; the first carries everything.
pub(super) fn strict_filter_is_named() -> Outcome {
    let strict = |name: &str| {
        sys::in_namespace(name, || std::fs::write("/proc/sys/net/ipv4/conf/path2/rp_filter", "1"))?;
        Ok(())
    };
    let output = fetch(&["--path", "path2"], strict)?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let named = said.contains("net.ipv4.conf.path2.rp_filter=2");
    if !output.status.success() && named { Ok(()) } else { Err(format!("it said {said}").into()) }
}

fn parse(output: &Output) -> Outcome<Report> {
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let error = String::from_utf8_lossy(&output.stderr);
        format!("{} {error}", String::from_utf8_lossy(&output.stdout)).into()
    })
}

/// Fetches a file with these options; `prepare` gets the client's namespace.
fn fetch(options: &[&str], prepare: impl Fn(&str) -> Outcome) -> Outcome<Output> {
    let (tcpls, scratch) = (find_tcpls(None)?, Scratch::new()?);
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_uplinks(2)?;
    let paths = (0..2).map(|index| path::Path::new(SPEC, netns::client(index), BEYOND, 0));
    let wire = Wire::start(paths.collect(), devices, Vec::new());
    prepare(&namespaces.client)?;
    let root = scratch.path().join("root");
    std::fs::create_dir(&root)?;
    write_source(&root.join(FILE), LEN)?;
    let server = serve(&tcpls, &root, &namespaces)?;
    let mut get = Command::new(&tcpls);
    get.args(["get", "--insecure", "--json", "--output"]).arg(scratch.path().join("got")).args(options);
    get.arg(format!("https://{BEYOND}:{PORT}/{FILE}"));
    let output = sys::in_namespace(&namespaces.client, || get.output())?;
    drop((server, wire));
    Ok(output)
}

fn serve(tcpls: &Path, root: &Path, namespaces: &Namespaces) -> Outcome<Process> {
    let mut serve = Command::new(tcpls);
    serve.args(["serve", "--json", "--listen", &format!("{BEYOND}:{PORT}"), "--root"]).arg(root);
    serve.arg("--ca-out").arg(root.with_file_name("ca.pem")).env("XDG_STATE_HOME", root.with_file_name("state"));
    Process::start(serve, &namespaces.server, 0)?.wait_until_it_listens()
}
