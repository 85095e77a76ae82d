//! How long requests take beside bulk data: in the same session, with lanes and without, and in one of their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_core::{Config, ErrorCode, Lanes, TcpPhase};
use tcpls_harness::net::{Session, Stream};
use tcpls_harness::sim::scenario::{Bottleneck, Path, Transport};
use tcpls_harness::sim::{Report, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const MS: Duration = Duration::from_millis(1);
/// Ends a session with what it has not delivered.
const STOP: ErrorCode = ErrorCode(1);
const REQUESTS: u32 = 160;
/// Enough for the time of the requests at 25 Mbit/s.
const BULK: u64 = 40_000_000;

/// 25 Mbit/s, a round trip of 20 ms, and a queue of 50 ms in a router.
fn path(name: &str) -> Path {
    let mut path = Path::new(name).rate(25_000_000).delay(10 * MS).queue(156_250).loss(0.005);
    path.bottleneck = Bottleneck::Router;
    path
}

/// Reads requests of 1000 bytes, which begin with the length of the answer; answers short ones with priority.
async fn serve(session: Session) {
    while let Some(mut stream) = session.accept_stream().await {
        drop(session.runtime().spawn(async move {
            let len = stream.read_u64().await?;
            if len < BULK {
                stream.send().set_priority(1)?;
            }
            let mut sink = vec![0; 64 * 1024];
            while stream.read(&mut sink).await? > 0 {}
            let mut rest = len;
            while rest > 0 {
                let part = rest.min(sink.len() as u64);
                stream.write_all(&sink[..part as usize]).await?;
                rest -= part;
            }
            stream.shutdown().await?;
            Outcome::Ok(())
        }));
    }
}

async fn ask(stream: &mut Stream, len: u64) -> Outcome<()> {
    stream.write_u64(len).await?;
    stream.write_all(&[0; 992]).await?;
    stream.shutdown().await?;
    Ok(())
}

async fn drain(mut stream: Stream) -> Outcome<()> {
    let mut sink = vec![0; 64 * 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bulk {
    Download,
    Upload,
}

async fn start_bulk(session: &Session, bulk: Bulk) -> Outcome<()> {
    let mut stream = session.open_stream().await?;
    match bulk {
        Bulk::Download => {
            ask(&mut stream, BULK).await?;
            drop(session.runtime().spawn(drain(stream)));
        }
        Bulk::Upload => drop(session.runtime().spawn(async move {
            stream.write_u64(1000).await?;
            let data = vec![0; 64 * 1024];
            for _ in 0..BULK / data.len() as u64 {
                stream.write_all(&data).await?;
            }
            Outcome::Ok(())
        })),
    }
    Ok(())
}

/// A request each 50 ms, after the bulk data has filled the path; how long each took.
async fn requests(session: &Session, times: Arc<Mutex<Vec<Duration>>>) -> Outcome<()> {
    let runtime = session.runtime();
    runtime.sleep(1000 * MS).await;
    for _ in 0..REQUESTS {
        let (mut stream, times, clock) = (session.open_stream().await?, times.clone(), runtime.clone());
        drop(runtime.spawn(async move {
            let start = clock.now();
            stream.send().set_priority(1)?;
            ask(&mut stream, 1000).await?;
            drain(stream).await?;
            times.lock().unwrap().push(clock.now() - start);
            Outcome::Ok(())
        }));
        runtime.sleep(50 * MS).await;
    }
    runtime.sleep(1000 * MS).await;
    Ok(())
}

/// The median and the 90th percentile of all but the first second, in which a lane is opened.
fn percentiles(times: &Mutex<Vec<Duration>>) -> (Duration, Duration) {
    let mut times = std::mem::take(&mut *times.lock().unwrap());
    assert_eq!(times.len(), REQUESTS as usize);
    times.drain(..20);
    times.sort();
    (times[times.len() / 2], times[times.len() * 90 / 100])
}

fn network(lanes: Lanes) -> Simulation {
    let config = Config::default().with(|config| {
        config.lanes = lanes;
        (config.initial_stream_window, config.max_stream_window) = (160 * 1024, 160 * 1024);
    });
    let simulation = Simulation::new(1).path(path("a")).transport(Transport::Packets).server(serve);
    simulation.client_config(config.clone()).server_config(config).limit(60_000 * MS)
}

/// Requests beside bulk data in the same session: median, 90th percentile, and the report.
fn beside(bulk: Bulk, lanes: Lanes) -> (Duration, Duration, Report) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let client = async move |session: Session| {
        start_bulk(&session, bulk).await?;
        requests(&session, noted).await?;
        session.close(STOP, b"").await;
        Outcome::Ok(())
    };
    let report = network(lanes).client(client).run().unwrap();
    let (median, most) = percentiles(&times);
    (median, most, report)
}

/// Requests in a session of their own.
fn alone(bulk: Bulk) -> (Duration, Duration) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let busy = async move |session: Session| {
        start_bulk(&session, bulk).await?;
        session.runtime().sleep(11_000 * MS).await;
        session.close(STOP, b"").await;
        Outcome::Ok(())
    };
    let client = async move |session: Session| requests(&session, noted).await;
    network(Lanes::Auto).client(busy).client(client).run().unwrap();
    percentiles(&times)
}

#[test]
fn requests_beside_bulk_data_take_what_they_take_in_a_session_of_their_own() {
    for bulk in [Bulk::Download, Bulk::Upload] {
        let own = alone(bulk);
        let (off, with) = (beside(bulk, Lanes::Off), beside(bulk, Lanes::Auto));
        assert!(off.0 > own.0 * 2, "{bulk:?}: {:?} without lanes, {:?} alone", off.0, own.0);
        assert!(with.0 < own.0 + 5 * MS, "{bulk:?}: {:?} with lanes, {:?} alone", with.0, own.0);
        assert!(with.1 < own.1 + 10 * MS, "{bulk:?}: {:?} with lanes, {:?} alone", with.1, own.1);
    }
}

#[test]
fn lane_opens_only_beside_interactive_streams_and_is_left_afterwards() {
    let client = async |session: Session| {
        let runtime = session.runtime();
        start_bulk(&session, Bulk::Download).await?;
        runtime.sleep(2000 * MS).await;
        assert_eq!(lanes(&session), 0);
        requests(&session, Arc::default()).await?;
        assert_eq!(lanes(&session), 1);
        runtime.sleep(12_000 * MS).await;
        assert_eq!(lanes(&session), 0, "bulk data alone");
        session.close(STOP, b"").await;
        Outcome::Ok(())
    };
    network(Lanes::Auto).client(client).run().unwrap();
}

fn lanes(session: &Session) -> usize {
    session.stats().tcp.iter().filter(|tcp| tcp.lane && tcp.phase == TcpPhase::Active).count()
}
