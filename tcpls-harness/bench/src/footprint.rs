//! Costs at scale: memory of an idle session, streams over a session's life, sessions in one process. The last unit
//! should cost the same as the first.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tcpls_core::{Config, Connection};
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Outcome;
use crate::loopback::block_on;
use crate::memory::pair::Pair;
use crate::memory::work::one_stream;
use crate::meter::{Mark, live_bytes};
use crate::output::Output;
use crate::tls::{Tls, server_name};

/// Sockets of a session with two TCP connections when both ends are here.
const SOCKETS: usize = 4;
/// Bytes that the state of an idle session may have, at one end.
const IDLE_GOAL: f64 = 16_384.0;
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
    #[command(flatten)]
    output: Output,
}

/// What one tenth of many cost, each.
#[derive(Clone, Copy, Debug)]
struct Tenth {
    /// CPU time.
    microseconds: f64,
    allocations: f64,
    /// Bytes on the heap that it left behind.
    bytes: f64,
}

/// Measures and prints.
pub fn run(args: &Args) -> Outcome {
    let (fresh, used) = (idle(true), idle(false));
    let streams = streams(args.streams);
    let count = args.sessions.min(files()? / SOCKETS);
    if count < args.sessions {
        eprintln!("the limit of open files allows {count} sessions with both ends in one process");
    }
    let sessions = block_on(sessions(count))?;
    args.output.give(vec![
        idle_table([("idle since its handshake", fresh), ("idle after a 64 MiB transfer", used)]),
        tenths_table("streams", "stream in one session, in memory", &streams),
        tenths_table("sessions", &format!("session of {count} with 2 TCP connections"), &sessions),
    ])
}

fn idle_table(rows: [(&str, (i64, i64)); 2]) -> Table {
    let columns = ["client", "server"].map(|end| Column::portable(end, "bytes", 0, Better::Lower)).to_vec();
    let cell = |bytes: i64| Cell::value(bytes as f64).map(|cell| cell.with_goal(Some(Goal::AtMost(IDLE_GOAL))));
    let row =
        |(name, (client, server)): (&str, _)| Row { name: name.to_owned(), cells: vec![cell(client), cell(server)] };
    let rows = rows.into_iter().map(row).collect();
    Table { name: "idle".to_owned(), rows_are: "session with 2 TCP connections".to_owned(), columns, rows }
}

fn tenths_table(name: &str, rows_are: &str, tenths: &[Tenth]) -> Table {
    let columns = vec![
        Column::new("CPU of both ends", "µs", 2, Better::Lower),
        Column::portable("allocations", "", 1, Better::Lower),
        Column::portable("left on the heap", "bytes", 0, Better::Lower),
    ];
    let cells =
        |tenth: &Tenth| vec![Cell::value(tenth.microseconds), Cell::value(tenth.allocations), Cell::value(tenth.bytes)];
    let row = |(index, tenth): (usize, &Tenth)| Row { name: format!("tenth {}", index + 1), cells: cells(tenth) };
    let rows = tenths.iter().enumerate().map(row).collect();
    Table { name: name.to_owned(), rows_are: rows_are.to_owned(), columns, rows }
}

/// What is freed when an end is dropped, and the end itself; at once after the joins, or after it has sent and received.
fn idle(fresh: bool) -> (i64, i64) {
    let mut pair = Pair::established(Config::default(), 2);
    if !fresh {
        crate::memory::work::move_bulk(&mut pair, 4096);
    }
    pair.rest().expect("both endpoints are at rest");
    let Pair { mut client, mut server, .. } = pair;
    // As drivers of many sessions do.
    [&mut client, &mut server].into_iter().for_each(Connection::shrink_to_fit);
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

/// Sockets that the limit of open files allows.
pub fn files() -> Outcome<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(usize::try_from(most.saturating_sub(SPARE))?)
}

/// Uses all of that limit.
pub fn raise_limit() -> Outcome {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// All stay open to the end, when each has to answer once more.
async fn sessions(count: usize) -> Outcome<Vec<Tenth>> {
    raise_limit()?;
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
