//! Request and response over loopback, one after the other: how long each takes, for us and for rustls over TCP in turns.
//! Both on tokio, each end on a thread and a core of its own, TCP_NODELAY everywhere.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tcpls_core::ErrorCode;
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Outcome;
#[cfg(feature = "peers")]
use crate::loopback::qmux;
use crate::loopback::{DATA, block_on};
use crate::output::Output;
use crate::sockets::Transport;
use crate::threads;
use crate::tls::{PROTOCOL, Tls, server_name};

/// Requests ahead of those that count.
pub const WARM_UP: usize = 500;

/// Request and response over loopback: p50 and p99 of TCPLS and of rustls over TCP, in turns
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Sizes of request and response in bytes
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [64, 1024, 4096, 16_384])]
    sizes: Vec<usize>,
    /// Requests in each turn
    #[arg(long, value_name = "N", default_value_t = 5000)]
    requests: usize,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One TLS connection of tokio-rustls.
    Rustls,
    /// The same over MPTCP of the kernel.
    Mptcp,
    /// One stream of QMux on tokio-rustls.
    #[cfg(feature = "peers")]
    Qmux,
    /// One stream of a session.
    Tcpls,
    /// A stream for each request.
    TcplsStreams,
}

/// How long one stream may take, as a multiple of what tokio-rustls takes.
const P50_GOAL: f64 = 1.0;
const P99_GOAL: f64 = 1.05;

const WAYS: &[Way] = &[
    Way::Rustls,
    Way::Mptcp,
    #[cfg(feature = "peers")]
    Way::Qmux,
    Way::Tcpls,
    Way::TcplsStreams,
];

impl Way {
    fn transport(self) -> Transport {
        if self == Self::Mptcp { Transport::Mptcp } else { Transport::Tcp }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rustls => "tokio-rustls",
            Self::Mptcp => "mptcp-rustls",
            #[cfg(feature = "peers")]
            Self::Qmux => "qmux",
            Self::Tcpls => "tcpls, one stream",
            Self::TcplsStreams => "tcpls, a stream for each",
        }
    }
}

/// Microseconds, one for each round.
struct Series {
    way: Way,
    size: usize,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Job {
    way: Way,
    size: usize,
    requests: usize,
}

/// Measures all in turns and prints.
pub fn run(args: &Args) -> Outcome {
    let tls = Tls::new()?;
    let without_mptcp = Transport::Mptcp.unavailable();
    if let Some(why) = &without_mptcp {
        eprintln!("{} is left out: {why}", Way::Mptcp.name());
    }
    let ways = WAYS.iter().filter(|way| **way != Way::Mptcp || without_mptcp.is_none());
    let mut results = Vec::new();
    for &size in &args.sizes {
        let new = |way: &Way| Series { way: *way, size, p50: Vec::new(), p99: Vec::new() };
        let mut of_size: Vec<Series> = ways.clone().map(new).collect();
        for _ in 0..args.rounds {
            for result in &mut of_size {
                let mut times = measure(&tls, Job { way: result.way, size, requests: args.requests })?;
                times.sort();
                let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
                result.p50.push(at(0.5));
                result.p99.push(at(0.99));
            }
        }
        results.extend(of_size);
    }
    args.output.give(vec![table(&results)])
}

fn table(results: &[Series]) -> Table {
    let columns = vec![
        Column::new("p50", "µs", 1, Better::Lower),
        Column::new("p99", "µs", 1, Better::Lower),
        Column::portable("p50 / tokio-rustls", "", 2, Better::Lower),
        Column::portable("p99 / tokio-rustls", "", 2, Better::Lower),
    ];
    let row = |result: &Series| {
        let rustls = results.iter().find(|other| other.way == Way::Rustls && other.size == result.size)?;
        let time = |values: &[f64]| Cell::median(values.iter().copied()).map(Cell::without_range);
        let ratio = |ours: &[f64], theirs: &[f64], goal| {
            let goal = (result.way == Way::Tcpls).then_some(Goal::AtMost(goal));
            Cell::median(ours.iter().zip(theirs).map(|(a, b)| a / b)).map(|cell| cell.with_goal(goal))
        };
        let cells = vec![
            time(&result.p50),
            time(&result.p99),
            ratio(&result.p50, &rustls.p50, P50_GOAL),
            ratio(&result.p99, &rustls.p99, P99_GOAL),
        ];
        Some(Row { name: format!("{}, {} bytes", result.way.name(), result.size), cells })
    };
    let rows = results.iter().filter_map(row).collect();
    Table { name: "times".to_owned(), rows_are: String::new(), columns, rows }
}

fn measure(tls: &Tls, job: Job) -> Outcome<Vec<Duration>> {
    let (times, ()) = match job.way {
        Way::Rustls | Way::Mptcp => {
            let (client, server) = (tls.client(PROTOCOL)?, tls.server(PROTOCOL)?);
            let serve = move |address_is| block_on(serve_rustls(TlsAcceptor::from(server), address_is, job));
            threads::two(serve, |address| block_on(ask_rustls(TlsConnector::from(client), address, job)))?
        }
        #[cfg(feature = "peers")]
        Way::Qmux => {
            let (client, server) = (tls.client(qmux::PROTOCOL)?, tls.server(qmux::PROTOCOL)?);
            let serve = move |address_is| block_on(serve_qmux(TlsAcceptor::from(server), address_is, job));
            threads::two(serve, |address| block_on(ask_qmux(TlsConnector::from(client), address, job)))?
        }
        Way::Tcpls | Way::TcplsStreams => {
            let (client, server) = (tls.tcpls_client()?, tls.tcpls_server()?);
            let dial = DialOptions::default().with(|dial| dial.keep = Keep::Session);
            let options = ClientOptions::new(client, server_name()).with(|options| options.dial = dial);
            let serve = move |address_is| block_on(serve_tcpls(ServerOptions::new(server), address_is, job));
            threads::two(serve, |address| block_on(ask_tcpls(options, address, job)))?
        }
    };
    Ok(times)
}

async fn serve_rustls(tls: TlsAcceptor, address_is: mpsc::Sender<SocketAddr>, job: Job) -> Outcome {
    let listener = job.way.transport().listen()?;
    address_is.send(listener.local_addr()?)?;
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    answer(&mut tls.accept(socket).await?, job.size, job.requests + WARM_UP).await
}

async fn ask_rustls(tls: TlsConnector, address: SocketAddr, job: Job) -> Outcome<Vec<Duration>> {
    let socket = job.way.transport().connect(address)?;
    ask(&mut tls.connect(server_name(), socket).await?, job.size, job.requests).await
}

#[cfg(feature = "peers")]
async fn serve_qmux(tls: TlsAcceptor, address_is: mpsc::Sender<SocketAddr>, job: Job) -> Outcome {
    use web_transport_trait::{SendStream as _, Session as _};

    let session = qmux::accept(tls, address_is).await?;
    let (mut send, mut recv) = session.accept_bi().await?;
    for _ in 0..job.requests + WARM_UP {
        read_all(&mut recv, job.size).await?;
        send.write_all(&DATA[..job.size]).await?;
    }
    session.closed().await;
    Ok(())
}

#[cfg(feature = "peers")]
async fn ask_qmux(tls: TlsConnector, address: SocketAddr, job: Job) -> Outcome<Vec<Duration>> {
    use web_transport_trait::{SendStream as _, Session as _};

    let session = qmux::connect(tls, address).await?;
    let (mut send, mut recv) = session.open_bi().await?;
    let mut times = Vec::with_capacity(job.requests);
    for index in 0..WARM_UP + job.requests {
        let start = Instant::now();
        send.write_all(&DATA[..job.size]).await?;
        read_all(&mut recv, job.size).await?;
        if index >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    session.close(0, "");
    Ok(times)
}

#[cfg(feature = "peers")]
async fn read_all(recv: &mut ::qmux::RecvStream, size: usize) -> Outcome {
    use web_transport_trait::RecvStream as _;

    let mut left = size;
    while left > 0 {
        left -= recv.read_chunk(left).await?.ok_or("the stream ended")?.len();
    }
    Ok(())
}

async fn serve_tcpls(options: ServerOptions, address_is: mpsc::Sender<SocketAddr>, job: Job) -> Outcome {
    let mut listener = Listener::bind(&["127.0.0.1:0".parse()?], options)?;
    address_is.send(listener.local_addresses()[0])?;
    let session = listener.accept().await;
    let (streams, requests) =
        if job.way == Way::Tcpls { (1, job.requests + WARM_UP) } else { (job.requests + WARM_UP, 1) };
    for _ in 0..streams {
        let mut stream = session.accept_stream().await.ok_or_else(|| why(&session))?;
        answer(&mut stream, job.size, requests).await?;
        stream.finish()?;
        while stream.read_chunk(usize::MAX).await?.is_some() {}
    }
    session.closed().await;
    Ok(())
}

async fn ask_tcpls(options: ClientOptions, address: SocketAddr, job: Job) -> Outcome<Vec<Duration>> {
    let session = Session::connect(&[address], options).await?;
    let times = if job.way == Way::Tcpls {
        let mut stream = session.open_stream().await?;
        let times = ask(&mut stream, job.size, job.requests).await?;
        stream.finish()?;
        while stream.read_chunk(usize::MAX).await?.is_some() {}
        times
    } else {
        ask_each(&session, job).await?
    };
    session.close(ErrorCode(0), b"").await;
    Ok(times)
}

async fn ask_each(session: &Session, job: Job) -> Outcome<Vec<Duration>> {
    let mut times = Vec::with_capacity(job.requests);
    let mut response = vec![0; job.size];
    for index in 0..WARM_UP + job.requests {
        let start = Instant::now();
        let mut stream = session.open_stream().await.map_err(|_| why(session))?;
        stream.write_all(&DATA[..job.size]).await.map_err(|_| why(session))?;
        stream.finish()?;
        stream.read_exact(&mut response).await.map_err(|_| why(session))?;
        if index >= WARM_UP {
            times.push(start.elapsed());
        }
        while stream.read_chunk(usize::MAX).await?.is_some() {}
    }
    Ok(times)
}

/// Why a session ended.
pub fn why(session: &Session) -> String {
    format!("the session ended: {:?}", session.close_reason())
}

/// Answers `requests` requests with what they bring.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), size: usize, requests: usize) -> Outcome {
    let mut request = vec![0; size];
    for _ in 0..requests {
        stream.read_exact(&mut request).await?;
        stream.write_all(&request).await?;
        stream.flush().await?;
    }
    Ok(())
}

/// Sends `requests` requests after those that do not count, one after the other; how long each took.
pub async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    size: usize,
    requests: usize,
) -> Outcome<Vec<Duration>> {
    let mut times = Vec::with_capacity(requests);
    let mut response = vec![0; size];
    for index in 0..WARM_UP + requests {
        let start = Instant::now();
        stream.write_all(&DATA[..size]).await?;
        stream.flush().await?;
        stream.read_exact(&mut response).await?;
        if index >= WARM_UP {
            times.push(start.elapsed());
        }
    }
    Ok(times)
}
