//! `tcpls perf client`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tokio::task::JoinSet;

use super::PROTOCOL;
use super::server::send_zeros;
use crate::cli::hints::Hints;
use crate::cli::network::watch_network;
use crate::cli::paths::{TrustArgs, add_tcp, close_briefly, connect, resolve, server_name};
use crate::cli::record::RecordArgs;
use crate::cli::report::TcpReport;
use crate::cli::signals::Signals;
use crate::cli::units::{bits_per_second, parse_size, rate, size, time};
use crate::cli::uplinks::UplinkArgs;
use crate::cli::{Outcome, output, qlog, report, trace_ring};
use crate::dial::{DialOptions, Keep, Path};
use crate::net::{ClientOptions, Session};

/// Measure a server
///
/// Downloads, then uploads, then sends small requests one after the other on each stream; what is 0 is left out.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address and port of the server; repeat it for several addresses. There are as many TCP connections as
    /// addresses and interfaces to reach them from, or --tcp if that is more
    #[arg(long, value_name = "HOST:PORT", required = true)]
    connect: Vec<String>,
    /// Where paths begin.
    #[command(flatten)]
    uplinks: UplinkArgs,
    /// The recording.
    #[command(flatten)]
    record: RecordArgs,
    /// Whom to trust.
    #[command(flatten)]
    trust: TrustArgs,
    /// Name that the server's certificate must be valid for
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    name: String,
    /// TCP connections, spread over the paths in turn
    #[arg(long, value_name = "N", default_value_t = 1)]
    tcp: usize,
    /// Streams in parallel
    #[arg(long, value_name = "N", default_value_t = 1)]
    streams: u32,
    /// Bytes to download, over all streams
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    download: u64,
    /// Bytes to upload, over all streams
    #[arg(long, value_name = "SIZE", default_value = "256MiB", value_parser = parse_size)]
    upload: u64,
    /// Requests to send, over all streams
    #[arg(long, value_name = "N", default_value_t = 2000)]
    requests: u32,
    /// Size of each request
    #[arg(long, value_name = "SIZE", default_value = "100B", value_parser = parse_size)]
    request_size: u64,
    /// Size of each response
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = parse_size)]
    response_size: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    tcpls: bool,
    streams: u32,
    download: Option<Bulk>,
    upload: Option<Bulk>,
    requests: Option<Requests>,
    tcp: Vec<TcpReport>,
}

#[derive(Serialize)]
struct Bulk {
    bytes: u64,
    seconds: f64,
    bits_per_second: f64,
}

#[derive(Serialize)]
struct Requests {
    requests: u32,
    seconds: f64,
    per_second: f64,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Measures and prints.
pub(super) async fn run(args: Args) -> Outcome {
    if args.tcp == 0 || args.streams == 0 {
        return Err("at least one TCP connection and one stream are needed: --tcp and --streams start at 1".into());
    }
    let signals = Signals::listen()?;
    let report = report::or_error(run_all(&args, signals).await, args.json)?;
    if args.json {
        output::result_json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(())
}

async fn run_all(args: &Args, signals: Signals) -> Outcome<Report> {
    let stop = signals.stop();
    tokio::pin!(stop);
    let session = tokio::select! {
        session = open(args) => session?,
        stopped = &mut stop => return Err(stopped.into()),
    };
    let result = tokio::select! {
        result = measure(&session, args) => result,
        stopped = &mut stop => {
            close_briefly(&session).await;
            return Err(stopped.into());
        }
    };
    session.close(ErrorCode(0), b"").await;
    result
}

async fn open(args: &Args) -> Outcome<Session> {
    let addresses = resolve(&args.connect).await?;
    let options = ClientOptions::new(
        args.trust.client(args.trust.read_invite()?.as_ref(), &[PROTOCOL], None)?,
        server_name(&args.name)?,
    );
    let options = options.with(|options| {
        options.qlog = qlog::current();
        options.trace_ring = trace_ring::current();
    });
    let mut options = ClientOptions { dial: DialOptions { keep: Keep::Session, ..DialOptions::default() }, ..options };
    options.record = args.record.start()?;
    let paths = args.uplinks.plan(&addresses, args.connect.len(), &mut options);
    let self_made = "`perf server` makes its certificate on the spot: pass --insecure";
    let hints = Hints { ca: args.trust.ca.as_deref(), self_made };
    let session = connect(&paths, options, &hints).await?;
    tokio::spawn(watch_network(session.clone(), false)); // what is measured stays the same
    if !session.is_tcpls() {
        return Ok(session); // measuring says why it can't
    }
    // Further addresses of a name are alternatives.
    let used: Vec<Path> = paths
        .into_iter()
        .filter(|path| addresses.iter().take(args.connect.len()).any(|used| *used == path.remote))
        .collect();
    let (asked, limit) = (args.tcp.max(used.len()), session.max_tcp_connections());
    if asked > limit {
        output::tell(format_args!(
            "tcpls: both sides together allow {limit} TCP connections: measuring with those, not {asked}"
        ));
    }
    let first = session.path_of(ConnectionId::FIRST);
    let start = used.iter().position(|path| Some(*path) == first).unwrap_or(0);
    for path in used.iter().cycle().skip(start + 1).take(asked.min(limit) - 1) {
        add_tcp(&session, *path).await.map_err(|error| format!("no TCP connection to {path}: {error}"))?;
    }
    Ok(session)
}

async fn measure(session: &Session, args: &Args) -> Outcome<Report> {
    if !session.is_tcpls() {
        return Err("the server does not support TCPLS, and over plain TLS there is nothing to compare".into());
    }
    let (streams, response) = (args.streams, args.response_size);
    let download = if args.download == 0 { None } else { Some(bulk(session, streams, 0, args.download).await?) };
    let upload = if args.upload == 0 { None } else { Some(bulk(session, streams, args.upload, 0).await?) };
    let requests = match args.requests {
        0 => None,
        requests => Some(ask_all(session, streams, requests, args.request_size, response).await?),
    };
    let tcp = session.stats().tcp.iter().map(TcpReport::from).collect();
    Ok(Report { tcpls: true, streams, download, upload, requests, tcp })
}

/// The `index`-th of `parts` parts of `whole`.
fn share(whole: u64, parts: u32, index: u32) -> u64 {
    whole / u64::from(parts) + u64::from(u64::from(index) < whole % u64::from(parts))
}

/// Moves `up` and `down` bytes, in equal parts on all streams. The time ends when the server's last end has arrived, so
/// that what was sent has arrived.
async fn bulk(session: &Session, streams: u32, up: u64, down: u64) -> Outcome<Bulk> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..streams {
        let (up, down) = (share(up, streams, index), share(down, streams, index));
        tasks.spawn(exchange(session.clone(), up, down));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let (bytes, elapsed) = (up + down, start.elapsed());
    Ok(Bulk { bytes, seconds: elapsed.as_secs_f64(), bits_per_second: bits_per_second(bytes, elapsed) })
}

/// One stream from its begin to its end.
async fn exchange(session: Session, up: u64, down: u64) -> Outcome {
    let (mut send, mut recv) = session.open_stream().await?.split();
    send.write_chunk(Bytes::copy_from_slice(&down.to_be_bytes())).await?;
    let receive = async {
        let mut received = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX).await? {
            received += chunk.len() as u64;
        }
        Outcome::Ok(received)
    };
    let (sent, received) = tokio::join!(send_zeros(&mut send, up), receive);
    sent?;
    match received? {
        received if received == down => Ok(()),
        received => Err(format!("the server sent {received} bytes instead of {down}").into()),
    }
}

async fn ask_all(session: &Session, streams: u32, requests: u32, up: u64, down: u64) -> Outcome<Requests> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..streams {
        let session = session.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            for _ in 0..share(requests.into(), streams, index) {
                let start = Instant::now();
                exchange(session.clone(), up, down).await?;
                latencies.push(start.elapsed());
            }
            Outcome::Ok(latencies)
        });
    }
    let mut latencies: Vec<Duration> = Vec::with_capacity(requests as usize);
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    latencies.sort();
    let seconds = start.elapsed().as_secs_f64();
    let per_second = f64::from(requests) / seconds;
    let quantile = |share: f64| {
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index.min(latencies.len() - 1)).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    };
    let (median_ms, p99_ms, max_ms) = (quantile(0.5), quantile(0.99), quantile(1.0));
    Ok(Requests { requests, seconds, per_second, median_ms, p99_ms, max_ms })
}

fn print(report: &Report) -> Outcome {
    for (what, bulk) in [("download", &report.download), ("upload", &report.upload)] {
        if let Some(bulk) = bulk {
            let elapsed = Duration::from_secs_f64(bulk.seconds);
            let (bytes, rate) = (size(bulk.bytes), rate(bulk.bits_per_second));
            output::result(format_args!("{what:<10} {bytes} in {}: {rate}", time(elapsed)))?;
        }
    }
    if let Some(requests) = &report.requests {
        output::result(format_args!(
            "requests   {:.0} per second; median {:.2} ms, 99 % within {:.2} ms, longest {:.2} ms",
            requests.per_second, requests.median_ms, requests.p99_ms, requests.max_ms
        ))?;
    }
    for tcp in &report.tcp {
        let (sent, received) = (size(tcp.stream_bytes_sent), size(tcp.stream_bytes_received));
        output::result(format_args!("tcp {:<6} {sent} sent, {received} received, {}", tcp.tcp, tcp.state))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (whole, parts) in [(0, 3), (10, 3), (11, 3), (2, 5), (u64::MAX, 7)] {
            assert_eq!((0..parts).map(|index| share(whole, parts, index)).sum::<u64>(), whole);
        }
    }
}
