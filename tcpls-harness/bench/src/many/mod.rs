//! Many sessions of which few are active, over loopback: how long requests of the active ones take, and what the idle
//! ones cost. The server is a process of its own, so that each end has the limit of open files to itself.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | the measurement: the client |
//! | `server` | the server's process |
//! | `usage` | wakeups and memory of a process, from /proc |

mod server;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tcpls_core::Config;
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use self::server::Server;
pub use self::server::{ServeArgs, serve};
use self::usage::Usage;
pub use self::usage::resident;
use crate::Outcome;
use crate::footprint::{files, raise_limit};
use crate::loopback::{DATA, block_on};
use crate::output::Output;
use crate::tls::server_name;

/// Bytes of a request, and of its response.
const SIZE: usize = 1024;
/// How often an active session sends a request.
const INTERVAL: Duration = Duration::from_millis(100);
/// After this time sessions have freed their buffers.
const QUIET: Duration = Duration::from_secs(2);
/// What 99 % of the requests may take, in milliseconds.
const P99_GOAL: f64 = 10.0;
/// What an end of an idle session may hold, in KiB.
const RESIDENT_GOAL: f64 = 16.0;

/// Many sessions, few of them active: latency of requests, wakeups and memory of the idle ones
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,
    /// TCP connections of each
    #[arg(long, value_name = "N", default_value_t = 1)]
    tcps: usize,
    /// How many of 100 sessions are active: each sends a request of 1 KiB every 100 ms
    #[arg(long, value_name = "PERCENT", default_value_t = 1)]
    active: usize,
    /// Seconds to measure, first without requests, then with them
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// The results of a number of sessions.
struct Measured {
    sessions: usize,
    active: usize,
    /// While no session is active; of the client and the server.
    idle: [Usage; 2],
    /// Memory before there was any session.
    empty: [Usage; 2],
    /// In milliseconds, from the lowest.
    times: Vec<f64>,
    seconds: f64,
}

/// Measures the active sessions alone, then among all.
pub fn run(args: &Args) -> Outcome {
    raise_limit()?;
    let sessions = files()?.min(args.sessions * args.tcps) / args.tcps;
    if sessions < args.sessions {
        eprintln!("the limit of open files allows {sessions} sessions");
    }
    let active = (sessions * args.active / 100).max(1);
    let results = [measure(args, active, active)?, measure(args, sessions, active)?];
    args.output.give(vec![requests(&results), idle(&results[1..], args.tcps)])
}

fn requests(results: &[Measured]) -> Table {
    let columns = vec![
        Column::new("p50", "ms", 2, Better::Lower),
        Column::new("p99", "ms", 2, Better::Lower),
        Column::new("longest", "ms", 2, Better::Neither),
        Column::new("requests", "per second", 0, Better::Neither),
    ];
    let row = |result: &Measured| {
        let at = |share: f64| result.times.get(((result.times.len() - 1) as f64 * share) as usize);
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|share| at(share).copied().and_then(Cell::value));
        let p99 = p99.map(|p99| p99.with_goal(Some(Goal::AtMost(P99_GOAL))));
        let rate = Cell::value(result.times.len() as f64 / result.seconds);
        let name = format!("{} sessions, {} of them active", result.sessions, result.active);
        Row { name, cells: vec![p50, p99, longest, rate] }
    };
    let rows = results.iter().map(row).collect();
    Table { name: "requests".to_owned(), rows_are: String::new(), columns, rows }
}

fn idle(results: &[Measured], tcps: usize) -> Table {
    let columns = vec![
        Column::portable("wakeups of all", "per second", 1, Better::Lower),
        Column::portable("resident", "KiB", 1, Better::Lower),
    ];
    let row = |result: &Measured, end: usize, name| {
        let sessions = result.sessions as f64;
        let memory = (result.idle[end].resident as f64 - result.empty[end].resident as f64) / 1024.0 / sessions;
        let wakeups = Cell::value(result.idle[end].wakeups as f64 / result.seconds);
        let cells = vec![
            wakeups.map(|cell| cell.with_goal(Some(Goal::AtMost(0.0)))),
            Cell::value(memory).map(|cell| cell.with_goal(Some(Goal::AtMost(RESIDENT_GOAL)))),
        ];
        Row { name: format!("{sessions} sessions: {name}"), cells }
    };
    let rows = results.iter().flat_map(|result| [row(result, 0, "client"), row(result, 1, "server")]).collect();
    let plural = if tcps == 1 { "" } else { "s" };
    Table {
        name: "idle".to_owned(),
        rows_are: format!("idle sessions with {tcps} TCP connection{plural}"),
        columns,
        rows,
    }
}

/// The runtime has a thread of its own. This one watches it from outside, and does not wake it.
fn measure(args: &Args, sessions: usize, active: usize) -> Outcome<Measured> {
    let (server, seconds) = (Server::start(args.tcps)?, Duration::from_secs(args.seconds));
    let (options, addresses) = (client_options(&server)?, server.addresses.clone());
    let (opened, is_open) = channel();
    let (go, may_go) = channel();
    std::thread::scope(|scope| {
        let runtime = std::thread::Builder::new().name("client".to_owned());
        let client =
            runtime.spawn_scoped(scope, || block_on(client(options, addresses, [sessions, active], opened, may_go)))?;
        let tid = is_open.recv().map_err(|_| "the client ended")?;
        let read = || Outcome::Ok([Usage::of_thread(tid)?, server.usage()?]);
        let empty = read()?;
        go.send(Duration::ZERO)?;
        if is_open.recv().is_ok() {
            std::thread::sleep(QUIET);
            let before = read()?;
            std::thread::sleep(seconds);
            let after = read()?;
            go.send(seconds)?;
            let times = client.join().map_err(|_| "panicked")??;
            let idle = [after[0].since(before[0]), after[1].since(before[1])];
            return Ok(Measured { sessions, active, idle, empty, times, seconds: seconds.as_secs_f64() });
        }
        Err(client.join().map_err(|_| "panicked")?.err().unwrap_or_else(|| "the client ended".into()))
    })
}

fn client_options(server: &Server) -> Outcome<ClientOptions> {
    let config = Config::default().with(|config| config.idle_timeout = None);
    let dial = DialOptions::default().with(|dial| dial.keep = Keep::Session);
    Ok(ClientOptions::new(server.tls.tcpls_client()?, server_name()).with(|options| {
        options.config = Arc::new(config);
        options.dial = dial;
    }))
}

/// Reports its thread, waits, and opens the sessions; reports that, waits for a duration, and sends requests for that long.
async fn client(
    options: ClientOptions,
    addresses: Vec<SocketAddr>,
    [sessions, active]: [usize; 2],
    opened: Sender<i32>,
    may_go: Receiver<Duration>,
) -> Outcome<Vec<f64>> {
    let wait = |may_go: Receiver<Duration>| async move {
        // A thread of the pool waits, so that the runtime has nothing to do.
        tokio::task::spawn_blocking(move || may_go.recv().map(|duration| (duration, may_go))).await
    };
    opened.send(usage::this_thread())?;
    let (_, may_go) = wait(may_go).await??;
    let mut all = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let session = Session::connect(&addresses[..1], options.clone()).await?;
        for address in &addresses[1..] {
            session.add_tcp(*address, None).await?;
        }
        all.push(session);
    }
    opened.send(0)?;
    let (duration, _) = wait(may_go).await??;
    let mut tasks = JoinSet::new();
    for (number, session) in all.iter().step_by(sessions / active).take(active).enumerate() {
        let start = Instant::now() + INTERVAL.mul_f64(number as f64 / active as f64);
        tasks.spawn(ask(session.clone(), start, duration));
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.append(&mut ended??);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// A request every [`INTERVAL`], each on a stream of its own.
async fn ask(session: Session, start: Instant, duration: Duration) -> Outcome<Vec<f64>> {
    let (mut times, mut next) = (Vec::new(), start);
    while next < start + duration {
        tokio::time::sleep_until(next.into()).await;
        let begun = Instant::now();
        let mut stream = session.open_stream().await?;
        stream.write_all(&DATA[..SIZE]).await?;
        stream.finish()?;
        let mut response = Vec::with_capacity(SIZE);
        stream.read_to_end(&mut response).await?;
        if response.len() != SIZE {
            return Err("the response is not complete".into());
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        next += INTERVAL;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_requests_and_the_idle_sessions_of_both_ends() {
        let usage = |wakeups, resident| Usage { wakeups, resident };
        let result = Measured {
            sessions: 100,
            active: 1,
            idle: [usage(0, 5 << 20), usage(20, 3 << 20)],
            empty: [usage(0, 4 << 20), usage(0, 1 << 20)],
            times: (1..=100).map(f64::from).collect(),
            seconds: 10.0,
        };
        let idle = idle(std::slice::from_ref(&result), 2).text();
        let requests = requests(&[result]).text();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&requests).contains("active 50.00 99.00; goal ≤ 10: **missed** 100.00 10"), "{requests}");
        assert!(words(&idle).contains("client 0.0; goal ≤ 0: met 10.2; goal ≤ 16: met"), "{idle}");
        assert!(words(&idle).contains("server 2.0; goal ≤ 0: **missed** 20.5; goal ≤ 16: **missed**"), "{idle}");
    }
}
