//! Costs at scale: memory of an idle session, streams over a session's life, sessions in one process. The last unit
//! should cost the same as the first.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tcpls_core::{Config, Connection};
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Outcome;
use crate::loopback::block_on;
use crate::memory::pair::Pair;
use crate::memory::work::one_stream;
use crate::meter::{Mark, live_bytes};
use crate::table::{self, Cell};
use crate::tls::{Tls, server_name};

/// Sockets of a session with two TCP connections when both ends are here.
const SOCKETS: u64 = 4;
/// Open files besides.
const SPARE: u64 = 100;

/// Memory of idle sessions; many streams; many sessions over loopback
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Streams in one session, in memory
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    streams: usize,
    /// Sessions with two TCP connections each over loopback, both ends in this process
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    sessions: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one tenth of many cost, each.
#[derive(Clone, Copy, Debug, Serialize)]
struct Tenth {
    /// CPU time.
    microseconds: f64,
    allocations: f64,
    /// Bytes on the heap that it left behind.
    bytes: f64,
}

#[derive(Serialize)]
struct Report {
    /// Bytes on the heap and in place of an idle session with two TCP connections.
    idle_client: i64,
    idle_server: i64,
    /// Ten tenths.
    streams: Vec<Tenth>,
    sessions: Vec<Tenth>,
}

/// Measures and prints.
pub fn run(args: &Args) -> Outcome {
    let (idle_client, idle_server) = idle(true);
    let (used_client, used_server) = idle(false);
    let streams = streams(args.streams);
    let count = possible(args.sessions)?;
    if count < args.sessions {
        eprintln!("the limit of open files allows {count} sessions with both ends in one process");
    }
    let sessions = block_on(sessions(count))?;
    let report = Report { idle_client, idle_server, streams, sessions };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("a session with 2 TCP connections, bytes of its state (goal: 16384)");
    println!("  idle since its handshake      client {idle_client}, server {idle_server}");
    println!("  idle after a 64 MiB transfer  client {used_client}, server {used_server}");
    print(&format!("{} streams in one session, in memory: CPU of both ends", args.streams), &report.streams);
    print(&format!("{count} sessions × 2 TCP connections over loopback: CPU of both ends"), &report.sessions);
    Ok(())
}

fn print(what: &str, tenths: &[Tenth]) {
    println!("\n{what}, for each");
    let mut rows =
        vec![["tenth", "µs", "allocations", "bytes left"].map(|title| Cell::Text(title.to_owned())).to_vec()];
    for (index, tenth) in tenths.iter().enumerate() {
        rows.push(vec![
            Cell::Number((index + 1) as f64, 0),
            Cell::Number(tenth.microseconds, 2),
            Cell::Number(tenth.allocations, 1),
            Cell::Number(tenth.bytes, 0),
        ]);
    }
    table::print(&rows);
}

/// What is freed when an end is dropped, and the end itself; at once after the joins, or after it has sent and received.
fn idle(fresh: bool) -> (i64, i64) {
    let mut pair = Pair::established(Config::default(), 2);
    if !fresh {
        crate::memory::work::move_bulk(&mut pair, 4096);
    }
    pair.rest().expect("both endpoints are at rest");
    let Pair { client, server, .. } = pair;
    (bytes_of(client), bytes_of(server))
}

fn bytes_of(conn: Connection) -> i64 {
    let before = live_bytes();
    drop(conn);
    before - live_bytes() + size_of::<Connection>() as i64
}

fn streams(count: usize) -> Vec<Tenth> {
    let mut pair = Pair::established(Config::default(), 1);
    (0..1000).for_each(|_| one_stream(&mut pair));
    (0..10).map(|_| tenth(count / 10, || (0..count / 10).for_each(|_| one_stream(&mut pair)))).collect()
}

fn tenth(count: usize, work: impl FnOnce()) -> Tenth {
    let start = Started::now();
    work();
    start.tenth(count)
}

struct Started(Mark, i64);

impl Started {
    fn now() -> Self {
        Self(Mark::now(), live_bytes())
    }

    fn tenth(self, count: usize) -> Tenth {
        let (span, bytes, count) = (self.0.until_now(), live_bytes() - self.1, count.max(1) as f64);
        Tenth {
            microseconds: span.cpu_seconds * 1e6 / count,
            allocations: span.allocations as f64 / count,
            bytes: bytes as f64 / count,
        }
    }
}

/// Sessions that the limit of open files allows.
fn possible(wanted: usize) -> Outcome<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(wanted.min(usize::try_from(most.saturating_sub(SPARE) / SOCKETS)?))
}

fn open_files(sessions: usize) -> Outcome {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, sessions as u64 * SOCKETS + SPARE, most)?)
}

/// All stay open to the end, when each has to answer once more.
async fn sessions(count: usize) -> Outcome<Vec<Tenth>> {
    open_files(count)?;
    let tls = Tls::new()?;
    let config = Arc::new(Config::default().with(|config| config.idle_timeout = None));
    let server = ServerOptions::new(tls.tcpls_server()?).with(|options| {
        options.config = config.clone();
        options.max_sessions = count;
    });
    let mut listener = Listener::bind(&["127.0.0.1:0".parse()?, "127.0.0.2:0".parse()?], server)?;
    let addresses = listener.local_addresses().to_vec();
    let dial = DialOptions::default().with(|dial| dial.keep = Keep::Session);
    let client = ClientOptions::new(tls.tcpls_client()?, server_name()).with(|options| {
        options.dial = dial;
        options.config = config;
    });
    let (mut tenths, mut all) = (Vec::new(), Vec::with_capacity(count));
    for _ in 0..10 {
        let start = Started::now();
        for _ in 0..count / 10 {
            let session = Session::connect(&addresses[..1], client.clone()).await?;
            session.add_tcp(addresses[1], None).await?;
            all.push((session, listener.accept().await));
        }
        tenths.push(start.tenth(count / 10));
    }
    for (client, server) in &all {
        greet(client, server).await?;
    }
    Ok(tenths)
}

/// Sends data on a stream, and receives it at the other end.
async fn greet(client: &Session, server: &Session) -> Outcome {
    let mut stream = client.open_stream().await?;
    stream.write_all(b"hello").await?;
    stream.finish()?;
    let mut heard = Vec::new();
    server.accept_stream().await.ok_or("the session ended")?.read_to_end(&mut heard).await?;
    if client.tcp_connections().len() == 2 && heard == b"hello" { Ok(()) } else { Err("a session is not whole".into()) }
}
