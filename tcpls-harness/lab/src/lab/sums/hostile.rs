//! Hostile clients, without a driver: they send what the protocol allows, and stop at the point that costs the server
//! most.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::ValueEnum;
use serde::Serialize;
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, State};
use tcpls_core::crypto::rng::Seed;
use tcpls_core::crypto::rustls::RustlsClient;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::files;
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use super::super::Outcome;
use super::LARGE;

/// Sessions that are being opened at the same time.
const AT_ONCE: usize = 64;
/// How long opening one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of streams of a session that requests large files.
const STREAMS: usize = 16;
/// The number of requests of a session that cancels each of them.
const RESETS: usize = 400;
/// The smallest window that a configuration may have, in bytes.
const SMALLEST_WINDOW: u64 = 1024;
const FIRST: ConnectionId = ConnectionId::FIRST;

/// The kinds of hostile sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A TCP connection that sends nothing
    Silent,
    /// A ClientHello, then nothing
    HalfOpen,
    /// A session that is abandoned after the handshake
    Abandoned,
    /// Requests for a large file with the smallest windows of a client (1 KiB), kept alive
    Windows,
    /// A large file over plain TLS that is never read
    PlainTls,
    /// Requests for a large file, of which nothing is read or acknowledged
    Stalled,
    /// Requests that are cancelled at once, repeatedly
    RapidReset,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Silent, Self::HalfOpen, Self::Abandoned, Self::Windows, Self::PlainTls, Self::Stalled, Self::RapidReset];

    fn config(self) -> Config {
        let mut config = Config::default();
        if self == Self::Windows {
            (config.initial_session_window, config.max_session_window) = (SMALLEST_WINDOW, SMALLEST_WINDOW);
            (config.initial_stream_window, config.max_stream_window) = (SMALLEST_WINDOW, SMALLEST_WINDOW);
        }
        config
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("?", clap::builder::PossibleValue::get_name))
    }
}

#[derive(Clone, Debug, clap::Args)]
pub(in super::super) struct Args {
    #[arg(value_enum)]
    kind: Kind,
    #[arg(long)]
    connect: SocketAddr,
    #[arg(long)]
    from: IpAddr,
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    sessions: usize,
}

/// Waits until the process has opened all its sessions; returns how many were set up as intended.
pub(super) fn wait_for_all(hostile: &mut Child, mut look: impl FnMut() -> Outcome) -> Outcome<usize> {
    let out = hostile.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map(|_| line)
    });
    while !reader.is_finished() {
        look()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let line = reader.join().map_err(|_| "the reader failed")??;
    Ok(line.trim().parse()?)
}

/// Opens all sessions, prints how many succeeded, and holds them until it is killed.
pub(in super::super) fn run(args: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let tls = Trust::File(args.ca.clone()).client(&[files::PROTOCOL])?;
        let tls = if args.kind == Kind::PlainTls { tls.without_tcpls()? } else { tls };
        let hostile = Arc::new(Hostile { args: args.clone(), tls, origin: Instant::now() });
        let (gate, opened) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicUsize::new(0)));
        for number in 0..args.sessions {
            let permit = gate.clone().acquire_owned().await?;
            let (hostile, opened) = (hostile.clone(), opened.clone());
            tokio::spawn(async move {
                let held = tokio::time::timeout(PATIENCE, hostile.open(number)).await;
                drop(permit);
                if let Ok(Ok(held)) = held {
                    opened.fetch_add(1, Ordering::Relaxed);
                    hostile.hold(held).await;
                }
            });
        }
        _ = gate.acquire_many(AT_ONCE as u32).await?;
        println!("{}", opened.load(Ordering::Relaxed));
        std::future::pending().await
    })
}

struct Hostile {
    args: Args,
    tls: RustlsClient,
    origin: Instant,
}

/// An open session.
enum Held {
    Nothing,
    /// A socket of which nothing is read.
    Socket(TcpStream),
    Live(Box<Wire>),
}

impl Hostile {
    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    async fn open(&self, number: usize) -> Outcome<Held> {
        let socket = TcpSocket::new_v4()?;
        // Whatever they leave behind, the next measurement needs the ports.
        socket.set_reuseaddr(true)?;
        socket.bind((self.args.from, 0).into())?;
        let stream = socket.connect(self.args.connect).await?;
        if self.args.kind == Kind::Silent {
            return Ok(Held::Socket(stream));
        }
        let mut wire = Wire::new(self, number, stream)?;
        if self.args.kind == Kind::HalfOpen {
            wire.flush(self.now()).await?;
            return Ok(Held::Socket(wire.stream));
        }
        while wire.conn.state() == State::Handshaking {
            wire.turn(self).await?;
        }
        self.attack(wire).await
    }

    async fn attack(&self, mut wire: Wire) -> Outcome<Held> {
        match self.args.kind {
            Kind::Silent | Kind::HalfOpen | Kind::Abandoned => Ok(Held::Nothing),
            Kind::Windows => {
                wire.ask_all(self, STREAMS).await?;
                Ok(Held::Live(Box::new(wire)))
            }
            Kind::PlainTls | Kind::Stalled => {
                let streams = if self.args.kind == Kind::PlainTls { 1 } else { STREAMS };
                wire.ask_all(self, streams).await?;
                Ok(Held::Socket(wire.stream))
            }
            Kind::RapidReset => {
                let mut asked = 0;
                while asked < RESETS {
                    while let Ok(stream) = wire.ask() {
                        wire.flush(self.now()).await?;
                        _ = wire.conn.stream(stream).stop(ErrorCode(1));
                        _ = wire.conn.stream(stream).reset(ErrorCode(1));
                        asked += 1;
                    }
                    wire.turn(self).await?;
                }
                Ok(Held::Live(Box::new(wire)))
            }
        }
    }

    /// Keeps the open sessions; those with keep-alives continue to send them.
    async fn hold(&self, held: Held) {
        match held {
            Held::Nothing => {}
            Held::Socket(_socket) => std::future::pending().await,
            Held::Live(mut wire) => while wire.conn.state() != State::Closed && wire.turn(self).await.is_ok() {},
        }
    }
}

/// A session on one socket.
struct Wire {
    conn: Connection,
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    fn new(hostile: &Hostile, number: usize, stream: TcpStream) -> Outcome<Self> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        seed[8..16].copy_from_slice(&u64::from(std::process::id()).to_le_bytes());
        let tls = hostile.tls.handshake("localhost".try_into()?)?;
        let conn = Connection::client(hostile.now(), Arc::new(hostile.args.kind.config()), tls, Seed(seed));
        Ok(Self { conn, stream, input: BytesMut::new() })
    }

    /// Asks for the large file on a new stream.
    fn ask(&mut self) -> Outcome<tcpls_core::StreamId> {
        let stream = self.conn.open_stream()?;
        self.conn.stream(stream).write(format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", LARGE.0).as_bytes())?;
        Ok(stream)
    }

    /// The same on `streams` streams, as soon as the server allows them.
    async fn ask_all(&mut self, hostile: &Hostile, streams: usize) -> Outcome {
        let mut asked = 0;
        while asked < streams {
            match self.ask() {
                Ok(_) => asked += 1,
                Err(_) => self.turn(hostile).await?,
            }
        }
        self.flush(hostile.now()).await
    }

    /// Writes all there is to write.
    async fn flush(&mut self, now: Time) -> Outcome {
        let mut out = Vec::new();
        while self.conn.poll_transmit(now, FIRST, 16 * 1024, &mut out) > 0 {}
        self.stream.write_all(&out).await?;
        Ok(())
    }

    /// Reads once, or waits until time is up, and answers.
    async fn turn(&mut self, hostile: &Hostile) -> Outcome {
        self.flush(hostile.now()).await?;
        let wait = self.conn.poll_timeout().map_or(Duration::from_secs(1), |at| at - hostile.now());
        match tokio::time::timeout(wait, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => return Err("the server has closed".into()),
            Ok(Ok(_)) => self.conn.handle_bytes(hostile.now(), FIRST, &mut self.input),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => self.conn.handle_timeout(hostile.now()),
        }
        while self.conn.poll_event().is_some() {}
        if self.conn.state() == State::Closed { Err("closed".into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_of_hostile_clients_are_valid() {
        for kind in Kind::ALL {
            kind.config().validate().unwrap();
        }
    }

    #[test]
    fn no_window_is_smaller_than_those_of_hostile_clients() {
        let config = Kind::Windows.config();
        for smaller in [
            config.clone().with(|config| config.initial_session_window = SMALLEST_WINDOW - 1),
            config.clone().with(|config| config.initial_stream_window = SMALLEST_WINDOW - 1),
        ] {
            assert!(smaller.validate().is_err());
        }
    }
}
