//! The two ends of a measurement of latency, as processes of their own in the namespaces: a server that answers requests and
//! takes or gives bulk data, and a client that times its requests. All protocols do the same.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::conn::{Conn, Duplex};
use super::{http2, quic, tcpls};
use crate::lab::Outcome;
use crate::lab::peer::LISTENING;

/// Bytes of a request, and of its answer.
const REQUEST: usize = 1000;
/// Before the first timed request, bulk data fills the path, and untimed ones are made.
const WARM_UP: Duration = Duration::from_secs(3);
const CHUNK: usize = 64 * 1024;
/// In place of the length of an answer: send without end; take without end; say how much was taken.
const GIVE: u64 = u64::MAX;
const TAKE: u64 = u64::MAX - 1;
const TAKEN: u64 = u64::MAX - 2;

/// The bulk data beside the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Bulk {
    Download,
    Upload,
}

/// The protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    Tcpls,
    Http2,
    Quic,
}

/// One end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) over: Over,
    /// Addresses of the server; all protocols except TCPLS use only the first
    #[arg(long, required = true)]
    pub(crate) address: Vec<SocketAddr>,
    /// The server's certificate, which the server makes
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    #[arg(long)]
    pub(crate) bulk: Bulk,
    /// Never open a lane
    #[arg(long)]
    pub(crate) no_lanes: bool,
    /// Requests get a session of their own
    #[arg(long)]
    pub(crate) apart: bool,
    /// Bulk data stays on the first TCP connection
    #[arg(long)]
    pub(crate) attach: bool,
    /// Requests to time; without any, as long as they would take
    #[arg(long)]
    pub(crate) requests: u32,
    /// No requests at all
    #[arg(long)]
    pub(crate) only_bulk: bool,
    /// Milliseconds from one request to the next
    #[arg(long)]
    pub(crate) every: u64,
}

/// What the client prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// How long each request took, in milliseconds.
    pub(crate) requests: Vec<f64>,
    /// The rate of the bulk data meanwhile.
    pub(crate) mbit: f64,
    /// TCP connections of the session with the requests that were lanes.
    pub(crate) lanes: usize,
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
}

/// Answers until it is killed.
pub(crate) fn answer(args: &Args) -> Outcome {
    let server = Server { attach: args.attach, taken: Arc::new(AtomicU64::new(0)) };
    match args.over {
        Over::Tcpls => block_on(tcpls::serve(args, server)),
        Over::Http2 => block_on(http2::serve(args, server)),
        Over::Quic => block_on(quic::serve(args, server)),
    }
}

/// What answers the streams of all connections.
#[derive(Clone)]
pub(super) struct Server {
    attach: bool,
    taken: Arc<AtomicU64>,
}

impl Server {
    /// Reports that clients may connect.
    pub(super) fn listens(&self) {
        println!("{LISTENING}");
    }

    /// Answers a stream that the client opened. One that ends early is the end of the measurement.
    pub(super) fn answer(&self, stream: impl Duplex) {
        let Self { attach, taken } = self.clone();
        tokio::spawn(async move { answer_one(stream, attach, &taken).await });
    }
}

async fn answer_one(mut stream: impl Duplex, attach: bool, taken: &AtomicU64) -> Outcome {
    match stream.read_u64().await? {
        GIVE => {
            if attach {
                stream.attach()?;
            }
            give(stream).await
        }
        TAKE => count(stream, taken).await,
        TAKEN => {
            stream.write_u64(taken.load(Ordering::Relaxed)).await?;
            Ok(stream.shutdown().await?)
        }
        len => {
            stream.prioritize()?;
            stream.read_exact(&mut [0; REQUEST - 8]).await?;
            stream.write_all(&vec![0; len as usize]).await?;
            Ok(stream.shutdown().await?)
        }
    }
}

async fn give(mut stream: impl Duplex) -> Outcome {
    let data = vec![0; CHUNK];
    loop {
        stream.write_all(&data).await?;
    }
}

async fn count(mut stream: impl Duplex, taken: &AtomicU64) -> Outcome {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            len => taken.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// Makes the requests beside the bulk data, and prints what was measured.
pub(crate) fn ask(args: &Args) -> Outcome {
    match args.over {
        Over::Tcpls => block_on(measure(args, || tcpls::connect(args))),
        Over::Http2 => block_on(measure(args, || http2::connect(args))),
        Over::Quic => block_on(measure(args, || quic::connect(args))),
    }
}

async fn measure<C: Conn>(args: &Args, connect: impl AsyncFn() -> Outcome<C>) -> Outcome {
    let bulk = connect().await?;
    let conn = if args.apart { connect().await? } else { bulk.clone() };
    let taken = Arc::new(AtomicU64::new(0));
    begin(&bulk, args, taken.clone()).await?;
    let every = Duration::from_millis(args.every);
    let until = Instant::now() + WARM_UP;
    while Instant::now() < until {
        if !args.only_bulk {
            tokio::spawn(request(conn.clone()));
        }
        tokio::time::sleep(every).await;
    }
    let (start, before) = (Instant::now(), moved(&conn, args, &taken).await?);
    let mut asked = Vec::new();
    let mut ticks = tokio::time::interval(every);
    for _ in 0..args.requests {
        ticks.tick().await;
        if !args.only_bulk {
            asked.push(tokio::spawn(request(conn.clone())));
        }
    }
    let mut requests = Vec::new();
    for request in asked {
        requests.push(request.await??.as_secs_f64() * 1e3);
    }
    let (bytes, seconds) = (moved(&conn, args, &taken).await? - before, start.elapsed().as_secs_f64());
    let measured = Measured { requests, mbit: bytes as f64 * 8e-6 / seconds, lanes: conn.lanes() };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Begins the bulk transfer.
async fn begin(conn: &impl Conn, args: &Args, taken: Arc<AtomicU64>) -> Outcome {
    let mut stream = conn.open().await?;
    if args.attach {
        stream.attach()?;
    }
    match args.bulk {
        Bulk::Download => {
            stream.write_u64(GIVE).await?;
            tokio::spawn(async move { count(stream, &taken).await });
        }
        Bulk::Upload => {
            stream.write_u64(TAKE).await?;
            tokio::spawn(give(stream));
        }
    }
    Ok(())
}

/// Bytes of the bulk transfer that have arrived.
async fn moved(conn: &impl Conn, args: &Args, taken: &AtomicU64) -> Outcome<u64> {
    if args.bulk == Bulk::Download {
        return Ok(taken.load(Ordering::Relaxed));
    }
    let mut stream = conn.open().await?;
    stream.prioritize()?;
    stream.write_u64(TAKEN).await?;
    stream.shutdown().await?;
    Ok(stream.read_u64().await?)
}

/// Makes one request; returns how long it took.
async fn request(conn: impl Conn) -> Outcome<Duration> {
    let start = Instant::now();
    let mut stream = conn.open().await?;
    stream.prioritize()?;
    let mut data = vec![0; REQUEST];
    data[..8].copy_from_slice(&(REQUEST as u64).to_be_bytes());
    stream.write_all(&data).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.len() == REQUEST { Ok(start.elapsed()) } else { Err("an answer was cut short".into()) }
}
