//! Request and response over loopback, one after the other: how long each takes, for us and for rustls over TCP in turns.
//! Both on tokio, each end on a thread and a core of its own, TCP_NODELAY everywhere.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tcpls_core::ErrorCode;
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::Outcome;
use crate::loopback::{DATA, block_on};
use crate::table::{self, Cell};
use crate::threads;
use crate::tls::{PROTOCOL, PROVIDER, Tls, server_name};

/// Requests ahead of those that count.
const WARM_UP: usize = 500;

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
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Way {
    /// One TLS connection of tokio-rustls.
    Rustls,
    /// One stream of a session.
    Tcpls,
    /// A stream for each request.
    TcplsStreams,
}

const WAYS: [Way; 3] = [Way::Rustls, Way::Tcpls, Way::TcplsStreams];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Rustls => "tokio-rustls",
            Self::Tcpls => "tcpls, one stream",
            Self::TcplsStreams => "tcpls, a stream for each",
        }
    }
}

/// Microseconds, one for each round.
#[derive(Serialize)]
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
    let mut results = Vec::new();
    for &size in &args.sizes {
        let mut of_size = WAYS.map(|way| Series { way, size, p50: Vec::new(), p99: Vec::new() });
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
    if args.json {
        println!("{}", serde_json::to_string(&results)?);
    } else {
        print(args, &results);
    }
    Ok(())
}

fn print(args: &Args, results: &[Series]) {
    println!("{} requests in {} rounds, AES-128-GCM by {PROVIDER}", args.requests, args.rounds);
    let titles = ["", "bytes", "p50 µs", "p99 µs", "p50 / rustls", "p99 / rustls", "goal"];
    let mut rows = vec![titles.map(|title| Cell::Text(title.to_owned())).to_vec()];
    for result in results {
        let rustls = results.iter().find(|other| other.way == Way::Rustls && other.size == result.size);
        let Some(rustls) = rustls else { continue };
        let median = |values: &[f64]| table::median(values.iter().copied());
        let ratio = |ours: &[f64], theirs: &[f64]| table::median(ours.iter().zip(theirs).map(|(a, b)| a / b));
        rows.push(vec![
            Cell::Text(result.way.name().to_owned()),
            Cell::Number(result.size as f64, 0),
            Cell::Number(median(&result.p50), 1),
            Cell::Number(median(&result.p99), 1),
            Cell::Number(ratio(&result.p50, &rustls.p50), 2),
            Cell::Number(ratio(&result.p99, &rustls.p99), 2),
            Cell::Text(if result.way == Way::Tcpls { "1.05" } else { "" }.to_owned()),
        ]);
    }
    table::print(&rows);
}

fn measure(tls: &Tls, job: Job) -> Outcome<Vec<Duration>> {
    let (times, ()) = match job.way {
        Way::Rustls => {
            let (client, server) = (tls.client(PROTOCOL)?, tls.server(PROTOCOL)?);
            let serve = move |address_is| block_on(serve_rustls(TlsAcceptor::from(server), address_is, job));
            threads::two(serve, |address| block_on(ask_rustls(TlsConnector::from(client), address, job)))?
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
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    address_is.send(listener.local_addr()?)?;
    let (socket, _) = listener.accept().await?;
    socket.set_nodelay(true)?;
    answer(&mut tls.accept(socket).await?, job.size, job.requests + WARM_UP).await
}

async fn ask_rustls(tls: TlsConnector, address: SocketAddr, job: Job) -> Outcome<Vec<Duration>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    ask(&mut tls.connect(server_name(), socket).await?, job.size, job.requests).await
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

fn why(session: &Session) -> String {
    format!("the session ended: {:?}", session.close_reason())
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), size: usize, requests: usize) -> Outcome {
    let mut request = vec![0; size];
    for _ in 0..requests {
        stream.read_exact(&mut request).await?;
        stream.write_all(&request).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn ask(
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
