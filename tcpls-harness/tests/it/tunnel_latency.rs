//! How long an exchange of 1 KB takes in a tunnel beside bulk data of the same session, and in a tunnel of its own, in
//! virtual time. Nothing distinguishes the connections but what they move.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_core::{Config, ErrorCode, Time};
use tcpls_harness::net::{Runtime, Session};
use tcpls_harness::sim::scenario::{Direction, Path, Transport};
use tcpls_harness::sim::{SimRng, Simulation};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, sink};

use crate::tunnel_simulated::{DISCARD, ECHO, SOURCE, program, serve, tunnel};

const MS: Duration = Duration::from_millis(1);
/// Enough that the 99th percentile is not the longest.
const EXCHANGES: usize = 400;
/// Those of the first second, in which a lane is opened.
const FIRST: usize = 20;
const RATE: u64 = 25_000_000;

/// One direction of a path of 25 Mbit/s with a round trip of 20 ms, which loses one in 200 full packets: of bulk data.
fn link() -> impl FnMut(Time, &[u8], &mut SimRng) -> Option<Time> {
    let mut free_at = Time::ZERO;
    move |now, packet, random| {
        let took = Duration::from_nanos(packet.len() as u64 * 8 * 1_000_000_000 / RATE);
        free_at = free_at.max(now) + took;
        let is_lost = packet.len() >= 1400 && random.one_in(200);
        (!is_lost).then_some(free_at + 10 * MS)
    }
}

fn network(seed: u64) -> Simulation {
    // What is in flight fills the path, and a queue of 50 ms.
    let config = Config::default()
        .with(|config| (config.initial_stream_window, config.max_stream_window) = (200 * 1024, 200 * 1024));
    Simulation::new(seed)
        .path(Path::new("a"))
        .link("a", Direction::Up, link())
        .link("a", Direction::Down, link())
        .transport(Transport::Packets)
        .client_config(config.clone())
        .server_config(config)
        .server(serve)
        .limit(120_000 * MS)
}

/// Sends 1000 bytes, waits until they are back, and pauses, again and again; how long each took.
async fn exchanges(runtime: &Runtime, mut program: DuplexStream) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(EXCHANGES);
    for _ in 0..EXCHANGES {
        let start = runtime.now();
        program.write_all(&[1; 1000]).await?;
        program.read_exact(&mut [0; 1000]).await?;
        times.push(runtime.now() - start);
        runtime.sleep(20 * MS).await;
    }
    Ok(times)
}

/// Moves data through a program's connection until it ends.
async fn bulk(mut program: DuplexStream, port: u8) {
    if port == SOURCE {
        _ = copy(&mut program, &mut sink()).await;
    } else {
        while program.write_all(&[2; 16 * 1024]).await.is_ok() {}
    }
}

/// The 99th percentile of exchanges, and a bulk transfer to `port` in the same session, or in one of its own.
fn percentile(port: u8, seed: u64, in_one_session: bool) -> Duration {
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = times.clone();
    let busy = async move |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let program = program(&runtime, &tunnel(&session), port).await?;
        runtime.timeout(Duration::from_secs(18), bulk(program, port)).await;
        session.close(ErrorCode(0), b"").await;
        Ok(())
    };
    let client = async move |session: Session| -> io::Result<()> {
        let runtime = session.runtime();
        let tunnel = tunnel(&session);
        let terminal = program(&runtime, &tunnel, ECHO).await?;
        if in_one_session {
            drop(runtime.spawn(bulk(program(&runtime, &tunnel, port).await?, port)));
        }
        *noted.lock().unwrap() = exchanges(&runtime, terminal).await?;
        session.close(ErrorCode(0), b"").await;
        Ok(())
    };
    let mut network = network(seed);
    if !in_one_session {
        network = network.client(busy);
    }
    network.client(client).run().unwrap();
    let mut times = times.lock().unwrap().split_off(FIRST);
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn exchange_beside_bulk_data_takes_at_most_20_ms_more_than_in_a_session_of_its_own() {
    for port in [DISCARD, SOURCE] {
        for seed in 0..2 {
            let (beside, alone) = (percentile(port, seed, true), percentile(port, seed, false));
            println!("port {port}, seed {seed}: {beside:?}, alone {alone:?}");
            assert!(beside <= alone + 20 * MS, "port {port}, seed {seed}: {beside:?}, alone {alone:?}");
        }
    }
}
