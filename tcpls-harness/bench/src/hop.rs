//! What it costs that a join is passed on to the server of its session: a session over one TCP connection that goes
//! there at once, and one that goes through another server of the farm, in turns.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tcpls_core::ErrorCode;
use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::{ConnectionId, ServerId};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Farm, Listener, ServerOptions, Session};
use tcpls_results::{Better, Cell, Column, Row, Table};
use tokio::sync::{mpsc, oneshot};

use crate::Outcome;
use crate::cores::pin;
use crate::latency::{answer, ask, why};
use crate::loopback::{BATCH, DATA, block_on};
use crate::meter::cpu_time;
use crate::output::Output;
use crate::threads;
use crate::tls::{Tls, server_name};

const OWNER: ServerId = ServerId(1);
const OTHER: ServerId = ServerId(2);
const SECRET: [u8; 32] = [7; 32];

/// The hop of a join that a server of a farm passes on: rate, latency and CPU time, against a join without it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// MiB to move in each turn
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    size: u64,
    /// Requests of 64 bytes in each turn, one after the other
    #[arg(long, value_name = "N", default_value_t = 5000)]
    requests: usize,
    #[command(flatten)]
    output: Output,
}

/// Bytes of a request and of its response.
const REQUEST: usize = 64;

/// What one turn moves.
#[derive(Clone, Copy)]
struct Job {
    bytes: u64,
    requests: usize,
}

/// One turn.
struct Sample {
    /// Bits per second.
    rate: f64,
    /// Microseconds for a request and its response.
    p50: f64,
    p99: f64,
    /// CPU time of the hop, in seconds per GB of the bulk transfer.
    hop_cpu: f64,
}

/// Measures in turns and prints.
pub fn run(args: &Args) -> Outcome {
    let tls = Tls::new()?;
    let job = Job { bytes: args.size << 20, requests: args.requests };
    let (mut direct, mut passed_on) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        direct.push(measure(&tls, job, false)?);
        passed_on.push(measure(&tls, job, true)?);
    }
    args.output.give(vec![table(&direct, &passed_on)])
}

fn table(direct: &[Sample], passed_on: &[Sample]) -> Table {
    let columns = vec![
        Column::new("rate", "Gbit/s", 1, Better::Higher),
        Column::new("p50", "µs", 1, Better::Lower),
        Column::new("p99", "µs", 1, Better::Lower),
        Column::new("CPU of the hop", "s/GB", 2, Better::Lower),
        Column::portable("rate / without", "", 2, Better::Higher),
        Column::portable("p50 / without", "", 2, Better::Lower),
    ];
    let median = |samples: &[Sample], of: fn(&Sample) -> f64| Cell::median(samples.iter().map(of));
    let ratio = |of: fn(&Sample) -> f64| {
        Cell::median(passed_on.iter().zip(direct).map(|(with, without)| of(with) / of(without)))
    };
    let row = |name: &str, samples: &[Sample], is_hop: bool| {
        let cells = vec![
            median(samples, |sample| sample.rate / 1e9),
            median(samples, |sample| sample.p50),
            median(samples, |sample| sample.p99),
            median(samples, |sample| sample.hop_cpu).filter(|_| is_hop),
            ratio(|sample| sample.rate).filter(|_| is_hop),
            ratio(|sample| sample.p50).filter(|_| is_hop),
        ];
        Row { name: name.to_owned(), cells }
    };
    let rows = vec![row("join at its server", direct, false), row("join that is passed on", passed_on, true)];
    Table { name: "hop".to_owned(), rows_are: String::new(), columns, rows }
}

fn measure(tls: &Tls, job: Job, is_passed_on: bool) -> Outcome<Sample> {
    let (client, server, other) = (tls.tcpls_client()?, tls.tcpls_server()?, tls.tcpls_server()?);
    let mut options = ClientOptions::new(client, server_name());
    options.dial.keep = Keep::Session;
    let (farm_is, farm_at) = std_mpsc::channel();
    let serve = move |address_is| block_on(own(ServerOptions::new(server), address_is, farm_is, job));
    let (sample, ()) = threads::two(serve, move |address| {
        let hop = Arc::new(Hop::start(ServerOptions::new(other), farm_at.recv()?)?);
        let sample = block_on(visit(options, hop.clone(), (address, is_passed_on), job))?;
        Arc::into_inner(hop).ok_or("the hop is in use")?.stop()?;
        Ok(sample)
    })?;
    Ok(sample)
}

/// A server's place in the farm of two.
fn in_farm(options: ServerOptions, server: ServerId, peer: (ServerId, SocketAddr)) -> Outcome<ServerOptions> {
    let farm = Farm::new(server, "127.0.0.1:0".parse()?).with(|farm| farm.peers = BTreeMap::from([peer]));
    Ok(options.with(|options| {
        options.token_secrets = Some(TokenSecrets::new(SECRET));
        options.farm = Some(farm);
    }))
}

/// The server that has the session.
async fn own(
    options: ServerOptions,
    address_is: std_mpsc::Sender<SocketAddr>,
    farm_is: std_mpsc::Sender<SocketAddr>,
    job: Job,
) -> Outcome {
    // It passes nothing on, and accepts joins from this host.
    let options = in_farm(options, OWNER, (OTHER, "127.0.0.1:1".parse()?))?;
    let mut listener = Listener::bind(&["127.0.0.1:0".parse()?], options)?;
    farm_is.send(listener.farm_address().ok_or("no address of the farm")?)?;
    address_is.send(listener.local_addresses()[0])?;
    let session = listener.accept().await;
    let mut stream = session.accept_stream().await.ok_or_else(|| why(&session))?;
    answer(&mut stream, REQUEST, job.requests + crate::latency::WARM_UP).await?;
    stream.finish()?;
    let mut bulk = session.accept_stream().await.ok_or_else(|| why(&session))?;
    while bulk.read_chunk(usize::MAX).await?.is_some() {}
    bulk.finish()?;
    session.closed().await;
    Ok(())
}

async fn visit(
    options: ClientOptions,
    hop: Arc<Hop>,
    (address, is_passed_on): (SocketAddr, bool),
    job: Job,
) -> Outcome<Sample> {
    let session = Session::connect(&[address], options).await?;
    let mut events = session.events();
    let tcp = session.add_tcp(if is_passed_on { hop.address } else { address }, None).await?;
    session.retire_tcp(ConnectionId::FIRST)?;
    while session.tcp_connections() != [tcp] {
        events.next().await.ok_or_else(|| why(&session))?;
    }
    let mut stream = session.open_stream().await?;
    let mut times = ask(&mut stream, REQUEST, job.requests).await?;
    stream.finish()?;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let mut bulk = session.open_stream().await?;
    let before = hop.mark().await?;
    if (before.joins > 0) != is_passed_on {
        return Err(format!("{} joins were passed on", before.joins).into());
    }
    let (start, mut left) = (Instant::now(), job.bytes);
    while left > 0 {
        let piece = &DATA[..left.min(BATCH as u64) as usize];
        bulk.write_chunk(Bytes::from_static(piece)).await?;
        left -= piece.len() as u64;
    }
    bulk.finish()?;
    while bulk.read_chunk(usize::MAX).await?.is_some() {}
    let rate = 8.0 * job.bytes as f64 / start.elapsed().as_secs_f64();
    let cpu = hop.mark().await?.cpu - before.cpu;
    let hop_cpu = cpu.as_secs_f64() / (job.bytes as f64 / 1e9);
    let sample = Sample { rate, p50: at(0.5), p99: at(0.99), hop_cpu };
    session.close(ErrorCode(0), b"").await;
    Ok(sample)
}

/// The server that passes joins on, on a thread of its own.
struct Hop {
    address: SocketAddr,
    marks: mpsc::UnboundedSender<oneshot::Sender<Mark>>,
    thread: thread::JoinHandle<Result<(), String>>,
}

/// What a hop has done.
struct Mark {
    joins: u64,
    cpu: Duration,
}

impl Hop {
    fn start(options: ServerOptions, owner: SocketAddr) -> Outcome<Self> {
        let options = in_farm(options, OTHER, (OWNER, owner))?;
        let (address_is, where_to) = std_mpsc::channel();
        let (marks, mut wanted) = mpsc::unbounded_channel::<oneshot::Sender<Mark>>();
        let serve = async move {
            let listener = Listener::bind(&["127.0.0.1:0".parse()?], options)?;
            address_is.send(listener.local_addresses()[0])?;
            while let Some(mark) = wanted.recv().await {
                _ = mark.send(Mark { joins: listener.hand_overs().passed_on(), cpu: cpu_time() });
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("hop".to_owned()).spawn(move || {
            pin(2);
            block_on(serve).map_err(|error| format!("hop: {error}"))
        })?;
        Ok(Self { address: where_to.recv()?, marks, thread })
    }

    async fn mark(&self) -> Outcome<Mark> {
        let (mark, marked) = oneshot::channel();
        self.marks.send(mark)?;
        Ok(marked.await?)
    }

    fn stop(self) -> Outcome {
        drop(self.marks);
        Ok(self.thread.join().map_err(|_| "hop: panicked")??)
    }
}
