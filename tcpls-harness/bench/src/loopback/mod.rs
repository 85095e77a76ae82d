//! Bulk transfer over loopback: one end writes as fast as possible, the other reads and drops. TCPLS and the other
//! implementations run in turns, so that other load on the machine affects all alike.
//!
//! | file | implementation |
//! | --- | --- |
//! | `bare` | TCP alone; records without anything above them |
//! | `unbuffered`, `buffered` | rustls on blocking sockets, in its three ways |
//! | `tcpls` | sessions of `tcpls_harness::net`, as an application uses them |
//! | `own_loop` | a `tcpls_core::Connection` in an event loop of its own |
//! | `tokio_rustls`, `http2`, `qmux` | TLS, HTTP/2 and QMux over it on tokio |
//! | `quic`, `quinn`, `noq`, `s2n` | QUIC |

mod bare;
mod buffered;
#[cfg(feature = "peers")]
mod http2;
#[cfg(feature = "peers")]
mod noq;
pub mod own_loop;
#[cfg(feature = "peers")]
pub mod qmux;
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

use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use crate::Outcome;
use crate::meter::{Meter, Span};
use crate::output::Output;
use crate::sockets::Transport;
use crate::threads;
use crate::tls::Tls;

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
    #[command(flatten)]
    output: Output,
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

/// The row that not every kernel can have.
const MPTCP: &str = "mptcp-rustls";

const CASES: &[Case] = &[
    Case { name: "tcp", about: "plain TCP, 256 KiB at once", run: bare::tcp },
    Case { name: "bare", about: "records, nothing above: copied, sealed, 256 KiB at once, opened", run: bare::records },
    Case { name: "unbuffered", about: "rustls, unbuffered API, 256 KiB at once", run: unbuffered::run },
    Case { name: "buffered", about: "rustls, buffered API, 256 KiB at once", run: buffered::tuned },
    Case { name: "stream", about: "rustls::Stream, 16 KiB at once", run: buffered::stream },
    Case { name: "tcpls", about: "TCPLS on tokio, 1 TCP connection", run: tcpls::one },
    Case { name: "tcpls-2", about: "TCPLS on tokio, 2 TCP connections, 1 stream", run: tcpls::two },
    Case { name: "tcpls-100", about: "TCPLS on tokio, 1 TCP connection, 100 streams", run: tcpls::hundred_streams },
    Case { name: "tcpls-rec", about: "as tcpls, both ends recorded in a file", run: tcpls::recorded },
    Case {
        name: "tcpls-ring",
        about: "as tcpls, with the last trace lines of both ends kept",
        run: tcpls::with_trace_ring,
    },
    Case { name: "own-loop", about: "TCPLS in an event loop of its own, 1 TCP connection", run: own_loop::run },
    Case { name: "tokio-rustls", about: "tokio-rustls, 16 KiB at once", run: tokio_rustls::run },
    Case { name: MPTCP, about: "tokio-rustls over MPTCP of the kernel", run: tokio_rustls::over_mptcp },
    #[cfg(feature = "peers")]
    Case { name: "h2", about: "HTTP/2 (h2 on tokio-rustls), 1 stream", run: http2::one },
    #[cfg(feature = "peers")]
    Case { name: "h2-100", about: "HTTP/2 (h2 on tokio-rustls), 100 streams", run: http2::hundred_streams },
    #[cfg(feature = "peers")]
    Case { name: "qmux", about: "QMux (qmux on tokio-rustls), 1 stream", run: qmux::run },
    #[cfg(feature = "peers")]
    Case { name: "s2n-quic", about: "s2n-quic, 1 stream", run: s2n::run },
    #[cfg(feature = "peers")]
    Case { name: "quinn", about: "quinn, 1 stream", run: quinn::run },
    #[cfg(feature = "peers")]
    Case { name: "noq", about: "noq, 1 stream", run: noq::run },
];

/// A comparison of two rows, with the goals for their rates and for the CPU time of both ends.
const GOALS: &[(&str, &str, Option<f64>, Option<f64>)] = &[
    ("own-loop", "bare", Some(0.97), None),
    ("own-loop", "unbuffered", Some(1.0), Some(1.0)),
    ("tcpls", "bare", Some(1.0), None),
    ("tcpls", "unbuffered", Some(1.1), Some(1.0)),
    ("tcpls", "buffered", Some(1.5), None),
    ("tcpls", "stream", Some(1.5), None),
    ("tcpls", "tokio-rustls", Some(2.1), None),
    ("tcpls", "s2n-quic", Some(1.7), None),
    ("tcpls", "quinn", Some(3.0), None),
    ("tcpls", "noq", Some(6.0), None),
    ("tcpls", MPTCP, None, None),
    ("tcpls", "qmux", None, None),
    ("tcpls-rec", "tcpls", Some(0.95), None),
    ("tcpls-ring", "tcpls", Some(0.95), None),
    ("tcpls-2", "tcpls", Some(1.0), None),
    ("tcpls-100", "tcpls", Some(0.95), None),
    ("tcpls-100", "h2-100", Some(1.5), None),
];

/// One turn.
#[derive(Clone, Copy, Debug)]
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

/// The samples of each row.
type Cases = [(&'static str, Vec<Sample>)];

/// Runs all in turns and prints.
pub fn run(args: &Args) -> Outcome {
    if args.list {
        CASES.iter().for_each(|case| println!("{:<13} {}", case.name, case.about));
        return Ok(());
    }
    let cases = measure(args)?;
    let ratios = ratios(&cases);
    args.output.give([rates(&cases)].into_iter().chain((!ratios.rows.is_empty()).then_some(ratios)).collect())
}

fn measure(args: &Args) -> Outcome<Vec<(&'static str, Vec<Sample>)>> {
    if let Some(unknown) = args.only.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        return Err(format!("unknown name {unknown}: --list prints the names").into());
    }
    let without_mptcp = Transport::Mptcp.unavailable();
    if let Some(why) = &without_mptcp {
        eprintln!("{MPTCP} is left out: {why}");
    }
    let wanted = |case: &&Case| {
        let is_wanted = args.only.is_empty() || args.only.iter().any(|name| name == case.name);
        is_wanted && (case.name != MPTCP || without_mptcp.is_none())
    };
    let job = Job::new(args.warm_up << 20, args.size << 20)?;
    let mut cases: Vec<_> = CASES.iter().filter(wanted).map(|case| (case, Vec::new())).collect();
    for round in 0..args.rounds {
        for (case, samples) in &mut cases {
            eprint!("\rround {} of {}: {:<16}", round + 1, args.rounds, case.name);
            samples.push((case.run)(&job).map_err(|error| format!("{}: {error}", case.name))?);
        }
    }
    eprint!("\r{:40}\r", "");
    Ok(cases.into_iter().map(|(case, samples)| (case.name, samples)).collect())
}

fn rates(cases: &Cases) -> Table {
    let columns = vec![
        Column::new("rate", "Gbit/s", 1, Better::Higher),
        Column::new("CPU send", "s/GB", 3, Better::Lower),
        Column::new("CPU receive", "s/GB", 3, Better::Lower),
        Column::portable("allocations send", "per MB", 2, Better::Lower),
        Column::portable("allocations receive", "per MB", 2, Better::Lower),
    ];
    let row = |(name, samples): &(&str, Vec<Sample>)| {
        let of = |value: fn(&Sample) -> f64| Cell::median(samples.iter().map(value));
        let cells = vec![
            of(|sample| sample.rate / 1e9),
            of(|sample| sample.sender.cpu_seconds).map(Cell::without_range),
            of(|sample| sample.receiver.cpu_seconds).map(Cell::without_range),
            of(|sample| sample.sender.allocations as f64 / 1e3).map(Cell::without_range),
            of(|sample| sample.receiver.allocations as f64 / 1e3).map(Cell::without_range),
        ];
        Row { name: (*name).to_owned(), cells }
    };
    let rows = cases.iter().map(row).collect();
    Table { name: "rates".to_owned(), rows_are: String::new(), columns, rows }
}

/// The ratio is the median of the ratios within each round, in which the machine had the same load.
fn ratios(cases: &Cases) -> Table {
    let samples = |name: &str| cases.iter().find(|(other, _)| *other == name).map(|(_, samples)| samples);
    let columns = vec![
        Column::portable("rate", "", 2, Better::Higher),
        Column::portable("CPU of both ends", "", 2, Better::Lower),
    ];
    let row = |&(ours, theirs, rate_goal, cpu_goal): &(&str, &str, Option<f64>, Option<f64>)| {
        let (a, b) = (samples(ours)?, samples(theirs)?);
        let rate = Cell::median(a.iter().zip(b).map(|(a, b)| a.rate / b.rate));
        let cpu = Cell::median(a.iter().zip(b).map(|(a, b)| a.cpu_seconds() / b.cpu_seconds()));
        let cells = vec![
            rate.map(|rate| rate.with_goal(rate_goal.map(Goal::AtLeast))),
            cpu.map(|cpu| cpu.with_goal(cpu_goal.map(Goal::AtMost))),
        ];
        Some(Row { name: format!("{ours} / {theirs}"), cells })
    };
    let rows = GOALS.iter().filter_map(row).collect();
    Table { name: "ratios".to_owned(), rows_are: String::new(), columns, rows }
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
