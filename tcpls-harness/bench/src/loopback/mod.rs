//! Bulk transfer over loopback: one end writes as fast as possible, the other reads and drops. TCPLS and the other
//! implementations run in turns, so that other load on the machine affects all alike.
//!
//! | file | implementation |
//! | --- | --- |
//! | `bare` | TCP alone; records without anything above them |
//! | `unbuffered`, `buffered` | rustls on blocking sockets, in its three ways |
//! | `tcpls` | sessions of `tcpls_harness::net`, as an application uses them |
//! | `own_loop` | a `tcpls_core::Connection` in an event loop of its own |
//! | `tokio_rustls`, `http2` | TLS and HTTP/2 over it on tokio |
//! | `quic`, `quinn`, `noq`, `s2n` | QUIC |

mod bare;
mod buffered;
#[cfg(feature = "peers")]
mod http2;
#[cfg(feature = "peers")]
mod noq;
pub mod own_loop;
#[cfg(feature = "peers")]
mod quic;
#[cfg(feature = "peers")]
mod quinn;
#[cfg(feature = "peers")]
mod s2n;
pub mod tcpls;
mod tokio_rustls;
mod unbuffered;

use std::future::Future;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde::Serialize;

use crate::Outcome;
use crate::meter::{Meter, Span};
use crate::table::{self, Cell};
use crate::threads;
use crate::tls::{PROVIDER, Tls};

/// How much is written, sealed or read at once by those who are tuned.
pub const BATCH: usize = 256 * 1024;
/// How much is written and read at once by those who are not.
pub const SMALL: usize = 16 * 1024;
/// What is sent: as much as any of them wants at once.
pub static DATA: [u8; 4 * BATCH] = [0x5a; 4 * BATCH];

/// Bulk transfer over loopback, TCPLS and other implementations in turns
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Rows to measure, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// MiB to move and measure in each turn
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    size: u64,
    /// MiB to move before that
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    warm_up: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the rows
    #[arg(long)]
    list: bool,
}

/// The input of both ends of one turn.
pub struct Job {
    pub tls: Tls,
    warm_up: u64,
    bytes: u64,
}

impl Job {
    /// With a certificate of its own: `bytes` bytes after `warm_up` bytes that do not count.
    pub fn new(warm_up: u64, bytes: u64) -> Outcome<Self> {
        Ok(Self { tls: Tls::new()?, warm_up, bytes })
    }

    /// Bytes that are moved, those that do not count included.
    pub fn total(&self) -> u64 {
        self.warm_up + self.bytes
    }

    fn meter(&self) -> Meter {
        Meter::new(self.warm_up, self.bytes)
    }
}

/// One way to move bytes.
struct Case {
    name: &'static str,
    about: &'static str,
    run: fn(&Job) -> Outcome<Sample>,
}

const CASES: &[Case] = &[
    Case { name: "tcp", about: "plain TCP, 256 KiB at once", run: bare::tcp },
    Case { name: "bare", about: "records, nothing above: copied, sealed, 256 KiB at once, opened", run: bare::records },
    Case { name: "unbuffered", about: "rustls, unbuffered API, 256 KiB at once", run: unbuffered::run },
    Case { name: "buffered", about: "rustls, buffered API, 256 KiB at once", run: buffered::tuned },
    Case { name: "stream", about: "rustls::Stream, 16 KiB at once", run: buffered::stream },
    Case { name: "tcpls", about: "TCPLS on tokio, 1 TCP connection", run: tcpls::one },
    Case { name: "tcpls-2", about: "TCPLS on tokio, 2 TCP connections, 1 stream", run: tcpls::two },
    Case { name: "tcpls-100", about: "TCPLS on tokio, 1 TCP connection, 100 streams", run: tcpls::hundred_streams },
    Case { name: "own-loop", about: "TCPLS in an event loop of its own, 1 TCP connection", run: own_loop::run },
    Case { name: "tokio-rustls", about: "tokio-rustls, 16 KiB at once", run: tokio_rustls::run },
    #[cfg(feature = "peers")]
    Case { name: "h2", about: "HTTP/2 (h2 on tokio-rustls), 1 stream", run: http2::one },
    #[cfg(feature = "peers")]
    Case { name: "h2-100", about: "HTTP/2 (h2 on tokio-rustls), 100 streams", run: http2::hundred_streams },
    #[cfg(feature = "peers")]
    Case { name: "s2n-quic", about: "s2n-quic, 1 stream", run: s2n::run },
    #[cfg(feature = "peers")]
    Case { name: "quinn", about: "quinn, 1 stream", run: quinn::run },
    #[cfg(feature = "peers")]
    Case { name: "noq", about: "noq, 1 stream", run: noq::run },
];

/// A comparison of two rows, with the goals for their rates and for the CPU time of both ends.
const GOALS: &[(&str, &str, f64, Option<f64>)] = &[
    ("own-loop", "bare", 0.97, None),
    ("own-loop", "unbuffered", 1.0, Some(1.0)),
    ("tcpls", "bare", 0.97, None),
    ("tcpls", "unbuffered", 1.0, Some(1.0)),
    ("tcpls", "buffered", 1.5, None),
    ("tcpls", "stream", 1.5, None),
    ("tcpls", "tokio-rustls", 1.5, None),
    ("tcpls", "s2n-quic", 1.7, None),
    ("tcpls", "quinn", 3.0, None),
    ("tcpls", "noq", 6.0, None),
    ("tcpls-2", "tcpls", 1.0, None),
    ("tcpls-100", "tcpls", 0.95, None),
    ("tcpls-100", "h2-100", 1.5, None),
];

/// One turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Bits per second that arrived.
    pub rate: f64,
    /// What the sender used up for each GB (10⁹ bytes).
    pub sender: Span,
    /// What the receiver used up for each GB.
    pub receiver: Span,
}

impl Sample {
    /// CPU time of both ends for each GB, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.sender.cpu_seconds + self.receiver.cpu_seconds
    }
}

#[derive(Serialize)]
struct Report {
    provider: &'static str,
    rounds: usize,
    bytes: u64,
    cases: Vec<(&'static str, Vec<Sample>)>,
}

/// Runs all in turns and prints.
pub fn run(args: &Args) -> Outcome {
    if args.list {
        CASES.iter().for_each(|case| println!("{:<13} {}", case.name, case.about));
        return Ok(());
    }
    let report = measure(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(())
}

fn measure(args: &Args) -> Outcome<Report> {
    if let Some(unknown) = args.only.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        return Err(format!("unknown name {unknown}: --list prints the names").into());
    }
    let wanted = |case: &&Case| args.only.is_empty() || args.only.iter().any(|name| name == case.name);
    let job = Job::new(args.warm_up << 20, args.size << 20)?;
    let mut cases: Vec<_> = CASES.iter().filter(wanted).map(|case| (case, Vec::new())).collect();
    for round in 0..args.rounds {
        for (case, samples) in &mut cases {
            eprint!("\rround {} of {}: {:<16}", round + 1, args.rounds, case.name);
            samples.push((case.run)(&job).map_err(|error| format!("{}: {error}", case.name))?);
        }
    }
    eprint!("\r{:40}\r", "");
    let cases = cases.into_iter().map(|(case, samples)| (case.name, samples)).collect();
    Ok(Report { provider: PROVIDER, rounds: args.rounds, bytes: job.bytes, cases })
}

fn print(report: &Report) {
    println!("loopback, {} MiB, {} rounds, AES-128-GCM by {}", report.bytes >> 20, report.rounds, report.provider);
    let mut rows = vec![
        ["", "Gbit/s", "min", "max", "CPU s/GB send", "receive", "allocations/GB send", "receive"]
            .map(|title| Cell::Text(title.to_owned()))
            .to_vec(),
    ];
    for (name, samples) in &report.cases {
        let rates: Vec<f64> = samples.iter().map(|sample| sample.rate / 1e9).collect();
        let of = |value: fn(&Sample) -> f64| table::median(samples.iter().map(value));
        rows.push(vec![
            Cell::Text((*name).to_owned()),
            Cell::Number(table::median(rates.iter().copied()), 1),
            Cell::Number(rates.iter().copied().fold(f64::INFINITY, f64::min), 1),
            Cell::Number(rates.iter().copied().fold(0.0, f64::max), 1),
            Cell::Number(of(|sample| sample.sender.cpu_seconds), 3),
            Cell::Number(of(|sample| sample.receiver.cpu_seconds), 3),
            Cell::Number(of(|sample| sample.sender.allocations as f64), 0),
            Cell::Number(of(|sample| sample.receiver.allocations as f64), 0),
        ]);
    }
    table::print(&rows);
    print_goals(report);
}

/// The ratio is the median of the ratios within each round, in which the machine had the same load.
fn print_goals(report: &Report) {
    let samples = |name: &str| report.cases.iter().find(|(other, _)| *other == name).map(|(_, samples)| samples);
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut rows = vec![["", "rate", "goal", "", "CPU", "goal", ""].map(text).to_vec()];
    let verdict = |met: bool| text(if met { "" } else { "missed" });
    for (ours, theirs, rate_goal, cpu_goal) in GOALS {
        let (Some(a), Some(b)) = (samples(ours), samples(theirs)) else { continue };
        let rate = table::median(a.iter().zip(b).map(|(a, b)| a.rate / b.rate));
        let cpu = table::median(a.iter().zip(b).map(|(a, b)| a.cpu_seconds() / b.cpu_seconds()));
        rows.push(vec![
            Cell::Text(format!("{ours} / {theirs}")),
            Cell::Number(rate, 2),
            Cell::Number(*rate_goal, 2),
            verdict(rate >= *rate_goal),
            Cell::Number(cpu, 2),
            cpu_goal.map_or(text(""), |goal| Cell::Number(goal, 2)),
            verdict(cpu_goal.is_none_or(|goal| cpu <= goal)),
        ]);
    }
    if rows.len() > 1 {
        println!();
        table::print(&rows);
    }
}

/// Runs a receiver on one thread and a sender on another, each on a core of its own. The receiver says where it listens.
fn two_ends(
    job: &Job,
    receive: impl FnOnce(mpsc::Sender<SocketAddr>, Meter) -> Outcome<Meter> + Send,
    send: impl FnOnce(SocketAddr, Meter) -> Outcome<Meter> + Send,
) -> Outcome<Sample> {
    let (sender, receiver) = threads::two(
        |address_is| receive(address_is, job.meter())?.span(),
        |address| send(address, job.meter())?.span(),
    )?;
    let gigabytes = job.bytes as f64 / 1e9;
    let rate = job.bytes as f64 * 8.0 / receiver.seconds;
    let per_gigabyte = |span: Span| Span {
        seconds: span.seconds / gigabytes,
        cpu_seconds: span.cpu_seconds / gigabytes,
        allocations: (span.allocations as f64 / gigabytes) as u64,
    };
    Ok(Sample { rate, sender: per_gigabyte(sender), receiver: per_gigabyte(receiver) })
}

/// The receiver's blocking socket.
fn accept(address_is: &mpsc::Sender<SocketAddr>) -> Outcome<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    address_is.send(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// The sender's blocking socket.
fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Runs a future on this thread, as a task like those that it spawns.
pub fn block_on<T: Send + 'static>(future: impl Future<Output = Outcome<T>> + Send + 'static) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { tokio::spawn(future).await? })
}
