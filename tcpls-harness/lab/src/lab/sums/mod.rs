//! The cost of many hostile sessions for a server and for its honest clients.
//!
//! `tcpls serve` runs as it would for a user, but with limits of memory and descriptors. A process of its own opens thousands of
//! hostile sessions from one address and holds them; this one fetches a small file from another address, again and again, each
//! time in a session of its own.

mod honest;
mod hostile;
mod server;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

pub(super) use self::hostile::{Args as HostileArgs, run as run_hostile};

use self::honest::Honest;
use self::hostile::Kind;
use self::server::Server;
use super::Outcome;
use super::scratch::{Scratch, find_tcpls};

/// The served files: one for honest clients, and one that hostile clients request.
const SMALL: (&str, u64) = ("small", 20_000);
const LARGE: (&str, u64) = ("large", 64 << 20);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kinds of hostile sessions. Default: all, one after the other
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// Hostile sessions of each kind
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,
    /// File descriptors of the server (`ulimit -n`)
    #[arg(long, value_name = "N", default_value_t = 1024)]
    descriptors: u64,
    /// Memory of the server in MiB (`ulimit -d`)
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Address of hostile sessions; honest ones come from 127.0.0.1
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.2")]
    from: IpAddr,
    /// Time in seconds for which honest clients continue after the last hostile session was opened
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    hold: u64,
    /// The `tcpls` command to measure. Default: the one next to this command
    #[arg(long, value_name = "FILE")]
    tcpls: Option<PathBuf>,
    /// Print each result as JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// What one kind of hostile sessions has cost.
#[derive(Debug, Serialize)]
struct Row {
    kind: Kind,
    sessions: usize,
    /// Hostile sessions that were set up as intended; the server may have ended them since.
    opened: usize,
    seconds: f64,
    /// Files that honest clients fetched, and tries that failed.
    fetched: usize,
    failed: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    server_rss_mib: f64,
    server_descriptors: usize,
    server_cpu_seconds: f64,
}

/// Measures each kind, and reports whether all honest clients were served within 2 s.
pub(super) fn run(args: &Args) -> Outcome {
    let kinds = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds.clone() };
    let tcpls = find_tcpls(args.tcpls.as_deref())?;
    if !args.json {
        println!(
            "| hostile sessions | opened | files | failed | p50 | p99 | longest | server's memory | descriptors | CPU |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    }
    let mut late = Vec::new();
    for kind in kinds {
        let row = measure(kind, args, &tcpls)?;
        if row.failed > 0 || row.p99_ms > 2000.0 {
            late.push(row.kind.to_string());
        }
        if args.json { println!("{}", serde_json::to_string(&row)?) } else { print(&row) }
    }
    if late.is_empty() { Ok(()) } else { Err(format!("honest clients suffered from: {}", late.join(", ")).into()) }
}

fn print(row: &Row) {
    println!(
        "| {} | {} | {} | {} | {:.0} ms | {:.0} ms | {:.0} ms | {:.0} MiB | {} | {:.1} s |",
        row.kind,
        row.opened,
        row.fetched,
        row.failed,
        row.p50_ms,
        row.p99_ms,
        row.max_ms,
        row.server_rss_mib,
        row.server_descriptors,
        row.server_cpu_seconds
    );
}

/// A process that ends with this.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn measure(kind: Kind, args: &Args, tcpls: &std::path::Path) -> Outcome<Row> {
    let scratch = Scratch::new()?;
    let mut server = Server::start(tcpls, scratch.path(), args.descriptors, args.memory)?;
    let honest = Honest::start(server.address, &scratch.path().join("ca.pem"))?;
    honest.wait_for(10)?;
    let begun = Instant::now();
    let hostile = Command::new(std::env::current_exe()?)
        .arg("hostile")
        .args(["--connect", &server.address.to_string(), "--from", &args.from.to_string()])
        .args(["--ca", &scratch.path().join("ca.pem").display().to_string()])
        .args(["--sessions", &args.sessions.to_string(), &kind.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut hostile = Killed(hostile);
    let opened = hostile::wait_for_all(&mut hostile.0, || server.look())?;
    if opened == 0 {
        return Err(format!("{kind}: not one hostile session was opened").into());
    }
    let seconds = begun.elapsed().as_secs_f64();
    let until = Instant::now() + Duration::from_secs(args.hold);
    while Instant::now() < until {
        server.look()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let times = honest.stop()?;
    drop(hostile);
    Ok(Row {
        kind,
        sessions: args.sessions,
        opened,
        seconds,
        fetched: times.fetched(),
        failed: times.failed,
        p50_ms: times.quantile(0.50),
        p99_ms: times.quantile(0.99),
        max_ms: times.quantile(1.0),
        server_rss_mib: server.most_memory as f64 / 1024.0,
        server_descriptors: server.most_descriptors,
        server_cpu_seconds: server.cpu_seconds()?,
    })
}
