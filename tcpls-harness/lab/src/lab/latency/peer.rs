//! The two ends of a measurement of latency, as processes of their own in the namespaces: a server that answers requests and
//! takes or gives bulk data, and a client that times its requests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tcpls_core::{Config, ConnectionId, Lanes};
use tcpls_harness::net::{ClientOptions, Listener, RecvStream, ServerOptions, Session, Stream};
use tcpls_harness::tls::{Identity, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::Outcome;
use crate::lab::peer::LISTENING;

const PROTOCOL: &[u8] = b"latency";
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

/// One end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Addresses of the server
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

fn config(args: &Args) -> Arc<Config> {
    Arc::new(Config::default().with(|config| {
        if args.no_lanes {
            config.lanes = Lanes::Off;
        }
    }))
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
}

/// Answers until it is killed.
pub(crate) fn answer(args: &Args) -> Outcome {
    block_on(async {
        let identity = Identity::self_signed(&["localhost".to_owned()])?;
        std::fs::write(&args.certificate, identity.certificate_pem())?;
        let mut options = ServerOptions::new(identity.server(&[PROTOCOL])?);
        options.config = config(args);
        let mut listener = Listener::bind(&args.address, options)?;
        println!("{LISTENING}");
        let (taken, attach) = (Arc::new(AtomicU64::new(0)), args.attach);
        loop {
            let (session, taken) = (listener.accept().await, taken.clone());
            tokio::spawn(async move {
                while let Some(stream) = session.accept_stream().await {
                    // A stream that ends early is the end of the measurement.
                    let taken = taken.clone();
                    tokio::spawn(async move { answer_one(stream, attach, &taken).await });
                }
            });
        }
    })
}

async fn answer_one(mut stream: Stream, attach: bool, taken: &AtomicU64) -> Outcome {
    match stream.read_u64().await? {
        GIVE => {
            if attach {
                stream.send().attach(ConnectionId::FIRST)?;
            }
            give(stream).await
        }
        TAKE => count(stream.split().1, taken).await,
        TAKEN => {
            stream.write_u64(taken.load(Ordering::Relaxed)).await?;
            Ok(stream.finish()?)
        }
        len => {
            stream.send().set_priority(1)?;
            stream.read_exact(&mut [0; REQUEST - 8]).await?;
            stream.write_all(&vec![0; len as usize]).await?;
            Ok(stream.finish()?)
        }
    }
}

async fn give(mut stream: Stream) -> Outcome {
    let data = vec![0; CHUNK];
    loop {
        stream.write_all(&data).await?;
    }
}

async fn count(mut stream: RecvStream, taken: &AtomicU64) -> Outcome {
    while let Some(chunk) = stream.read_chunk(usize::MAX).await? {
        taken.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Makes the requests beside the bulk data, and prints what was measured.
pub(crate) fn ask(args: &Args) -> Outcome {
    block_on(async {
        let bulk = connect(args).await?;
        let session = if args.apart { connect(args).await? } else { bulk.clone() };
        let taken = Arc::new(AtomicU64::new(0));
        begin(&bulk, args, taken.clone()).await?;
        let every = Duration::from_millis(args.every);
        let until = Instant::now() + WARM_UP;
        while Instant::now() < until {
            if !args.only_bulk {
                tokio::spawn(request(session.clone()));
            }
            tokio::time::sleep(every).await;
        }
        let (start, before) = (Instant::now(), moved(&session, args, &taken).await?);
        let mut asked = Vec::new();
        let mut ticks = tokio::time::interval(every);
        for _ in 0..args.requests {
            ticks.tick().await;
            if !args.only_bulk {
                asked.push(tokio::spawn(request(session.clone())));
            }
        }
        let mut requests = Vec::new();
        for request in asked {
            requests.push(request.await??.as_secs_f64() * 1e3);
        }
        let (bytes, seconds) = (moved(&session, args, &taken).await? - before, start.elapsed().as_secs_f64());
        let lanes = session.stats().tcp.iter().filter(|tcp| tcp.lane).count();
        let measured = Measured { requests, mbit: bytes as f64 * 8e-6 / seconds, lanes };
        println!("{}", serde_json::to_string(&measured)?);
        Ok(())
    })
}

async fn connect(args: &Args) -> Outcome<Session> {
    let tls = Trust::File(args.certificate.clone()).client(&[PROTOCOL])?;
    let mut options = ClientOptions::new(tls, "localhost".try_into()?);
    options.config = config(args);
    Ok(Session::connect(&args.address, options).await?)
}

/// Begins the bulk transfer.
async fn begin(session: &Session, args: &Args, taken: Arc<AtomicU64>) -> Outcome {
    let mut stream = session.open_stream().await?;
    if args.attach {
        stream.send().attach(ConnectionId::FIRST)?;
    }
    match args.bulk {
        Bulk::Download => {
            stream.write_u64(GIVE).await?;
            tokio::spawn(async move { count(stream.split().1, &taken).await });
        }
        Bulk::Upload => {
            stream.write_u64(TAKE).await?;
            tokio::spawn(give(stream));
        }
    }
    Ok(())
}

/// Bytes of the bulk transfer that have arrived.
async fn moved(session: &Session, args: &Args, taken: &AtomicU64) -> Outcome<u64> {
    if args.bulk == Bulk::Download {
        return Ok(taken.load(Ordering::Relaxed));
    }
    let mut stream = session.open_stream().await?;
    stream.send().set_priority(1)?;
    stream.write_u64(TAKEN).await?;
    stream.finish()?;
    Ok(stream.read_u64().await?)
}

/// Makes one request; returns how long it took.
async fn request(session: Session) -> Outcome<Duration> {
    let start = Instant::now();
    let mut stream = session.open_stream().await?;
    stream.send().set_priority(1)?;
    let mut data = vec![0; REQUEST];
    data[..8].copy_from_slice(&(REQUEST as u64).to_be_bytes());
    stream.write_all(&data).await?;
    stream.finish()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if answer.len() == REQUEST { Ok(start.elapsed()) } else { Err("an answer was cut short".into()) }
}
