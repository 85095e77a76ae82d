//! The two ends as processes of their own in the namespaces: a server that answers one request in each connection, and a
//! client that makes one connection after the other.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{quic, tcpls, tls};
use crate::lab::Outcome;
use crate::lab::peer::LISTENING;

/// Bytes of a request.
pub(super) const REQUEST: usize = 300;
/// Bytes of an answer.
const ANSWER: usize = 10_000;
/// The pause behind a connection, in which its tickets and its end arrive.
const PAUSE: Duration = Duration::from_millis(200);

/// The protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    Tcpls,
    Tls,
    Quic,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Start {
    Full,
    Resumed,
    Early,
}

impl Over {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tcpls => "TCPLS",
            Self::Tls => "TLS (tokio-rustls)",
            Self::Quic => "QUIC (quinn)",
        }
    }

    pub(super) fn value(self) -> &'static str {
        match self {
            Self::Tcpls => "tcpls",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

impl Start {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Full => "full handshake",
            Self::Resumed => "resumed",
            Self::Early => "early data",
        }
    }

    pub(super) fn value(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Early => "early",
        }
    }

    /// Round trips to the first byte behind TCP's handshake, as a goal for TCPLS.
    pub(super) fn round_trips(self, over: Over) -> Option<f64> {
        let trips = if self == Self::Early { 1.0 } else { 2.0 };
        (over == Over::Tcpls).then_some(trips)
    }
}

/// One end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    pub(crate) over: Over,
    #[arg(long)]
    pub(crate) start: Start,
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// The server's certificate, which the server makes
    #[arg(long)]
    pub(crate) certificate: PathBuf,
    /// Connections to time
    #[arg(long)]
    pub(crate) connections: u32,
}

/// What the client prints, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// From the first packet to the first byte of each answer.
    pub(crate) first_bytes: Vec<f64>,
    /// How long TCP's handshakes take on this path; empty for QUIC.
    pub(crate) tcp_handshakes: Vec<f64>,
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(work)
}

/// Answers until it is killed.
pub(crate) fn answer(args: &Args) -> Outcome {
    block_on(async {
        match args.over {
            Over::Tcpls => tcpls::serve(args).await,
            Over::Tls => tls::serve(args).await,
            Over::Quic => quic::serve(args).await,
        }
    })
}

/// Reports that clients may connect.
pub(super) fn listens() {
    println!("{LISTENING}");
}

/// Reads a request and answers it. `ahead`: what was read of it before.
pub(super) async fn answer_one(mut stream: impl AsyncRead + AsyncWrite + Unpin, ahead: usize) -> Outcome {
    stream.read_exact(&mut vec![0; REQUEST - ahead]).await?;
    stream.write_all(&[7; ANSWER]).await?;
    Ok(stream.shutdown().await?)
}

/// Sends the request, reads the answer. Returns when its first byte was there.
pub(super) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Outcome<Instant> {
    stream.write_all(&[3; REQUEST]).await?;
    stream.flush().await?;
    let first = stream.read_u8().await.map(|_| Instant::now())?;
    let mut rest = Vec::new();
    stream.take(ANSWER as u64 - 1).read_to_end(&mut rest).await?;
    if rest.len() == ANSWER - 1 { Ok(first) } else { Err("an answer was cut short".into()) }
}

/// Makes the connections, one after the other, and prints what was measured.
pub(crate) fn ask(args: &Args) -> Outcome {
    block_on(async {
        match args.over {
            Over::Tcpls => measure(args, &mut tcpls::Client::new(args)?).await,
            Over::Tls => measure(args, &mut tls::Client::new(args)?).await,
            Over::Quic => measure(args, &mut quic::Client::new(args)?).await,
        }
    })
}

/// Makes connections.
pub(super) trait Connects {
    /// Connects, makes one request, and returns when the first byte of the answer was there. `start`: how it should begin.
    async fn request(&mut self, start: Start) -> Outcome<Instant>;
}

async fn measure(args: &Args, client: &mut impl Connects) -> Outcome {
    let mut tcp_handshakes = Vec::new();
    if args.over != Over::Quic {
        for _ in 0..args.connections {
            let start = Instant::now();
            let _socket = TcpStream::connect(args.address).await?;
            tcp_handshakes.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    // The tickets of the first serve the second.
    client.request(if args.start == Start::Full { Start::Full } else { Start::Resumed }).await?;
    let mut first_bytes = Vec::new();
    for _ in 0..args.connections {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        let first = client.request(args.start).await?;
        first_bytes.push((first - start).as_secs_f64() * 1e3);
    }
    println!("{}", serde_json::to_string(&Measured { first_bytes, tcp_handshakes })?);
    Ok(())
}
