//! Sessions of `tcpls_harness::net`, as applications use them: chunks written without a copy and read as they come.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::ErrorCode;
use tcpls_core::config::Config;
use tcpls_harness::dial::{DialOptions, Keep};
use tcpls_harness::net::{ClientOptions, Listener, Record, RecordOptions, ServerOptions, Session, Stream};
use tcpls_harness::trace::ring::{Ring, RingOptions};
use tokio::task::JoinSet;

use super::bare::next_piece;
use super::{BATCH, Job, Sample, block_on, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::server_name;

/// One TCP connection, one stream.
pub fn one(job: &Job) -> Outcome<Sample> {
    run(job, 1, 1)
}

/// Two TCP connections, one stream.
pub fn two(job: &Job) -> Outcome<Sample> {
    run(job, 2, 1)
}

/// One TCP connection, 100 streams.
pub fn hundred_streams(job: &Job) -> Outcome<Sample> {
    run(job, 1, 100)
}

/// The same as [`one`], with both ends recorded in one file.
pub fn recorded(job: &Job) -> Outcome<Sample> {
    let path = scratch("tcplsrec");
    let record = Record::create(&path, RecordOptions::default())?;
    let sample = run_kept(job, 1, 1, &Kept { record: Some(record.clone()), ..Kept::default() });
    let over = record.over();
    record.wait(Duration::from_secs(10));
    std::fs::remove_file(&path)?;
    match over {
        Some(why) => Err(format!("the recording ended early: {why:?}").into()),
        None => sample,
    }
}

/// The same as [`one`], with the last lines of the trace of both ends in memory.
pub fn with_trace_ring(job: &Job) -> Outcome<Sample> {
    let directory = scratch("traces");
    let ring = Ring::new(&RingOptions::new(&directory))?;
    let sample = run_kept(job, 1, 1, &Kept { ring: Some(ring), ..Kept::default() });
    std::fs::remove_dir_all(&directory)?;
    sample
}

fn scratch(extension: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tcpls-bench-{}.{extension}", std::process::id()))
}

/// What is kept of the sessions of both ends.
#[derive(Clone, Debug, Default)]
struct Kept {
    record: Option<Record>,
    ring: Option<Ring>,
}

/// The meter of one end, for all of its streams.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Meter>>);

impl Shared {
    /// For as many as have clones.
    pub fn new(meter: Meter) -> Self {
        Self(Arc::new(Mutex::new(meter)))
    }

    /// Looks at the meter.
    pub fn with<R>(&self, f: impl FnOnce(&mut Meter) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The meter, once there are no other owners.
    pub fn take(self) -> Outcome<Meter> {
        let meter = Arc::into_inner(self.0).ok_or("a stream goes on")?;
        Ok(meter.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Over `tcps` TCP connections, on `streams` streams.
pub fn run(job: &Job, tcps: usize, streams: u32) -> Outcome<Sample> {
    run_kept(job, tcps, streams, &Kept::default())
}

fn run_kept(job: &Job, tcps: usize, streams: u32, kept: &Kept) -> Outcome<Sample> {
    let (at_server, at_client) = (kept.clone(), kept.clone());
    let (client, server) = (job.tls.tcpls_client()?, job.tls.tcpls_server()?);
    let receive = |address_is: std::sync::mpsc::Sender<_>, meter| {
        block_on(async move {
            let mut listener = Listener::bind(
                &["127.0.0.1:0".parse()?],
                ServerOptions::new(server).with(|options| {
                    (options.record, options.trace_ring) = (at_server.record, at_server.ring);
                }),
            )?;
            address_is.send(listener.local_addresses()[0])?;
            let session = listener.accept().await;
            let meter = read_all(&session, streams, meter).await?;
            session.close(ErrorCode(0), b"").await;
            Ok(meter)
        })
    };
    two_ends(job, receive, |address, meter| {
        block_on(async move {
            let dial = DialOptions::default().with(|dial| dial.keep = Keep::Session);
            let config = Arc::new(Config::default());
            let options = ClientOptions::new(client, server_name()).with(|options| {
                options.dial = dial;
                options.config = config;
                (options.record, options.trace_ring) = (at_client.record, at_client.ring);
            });
            let session = Session::connect(&[address], options).await?;
            for _ in 1..tcps {
                session.add_tcp(address, None).await?;
            }
            let mut meter = write_all(&session, streams, meter).await?;
            session.closed().await;
            meter.finish();
            Ok(meter)
        })
    })
}

async fn read_all(session: &Session, streams: u32, meter: Meter) -> Outcome<Meter> {
    let meter = Shared::new(meter);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        let stream = session.accept_stream().await.ok_or("the session ended")?;
        tasks.spawn(read(stream, meter.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    meter.take()
}

async fn read(mut stream: Stream, meter: Shared) -> Outcome {
    while let Some(chunk) = stream.read_chunk(usize::MAX).await? {
        meter.with(|meter| meter.moved(chunk.len()));
    }
    stream.finish()?;
    Ok(())
}

async fn write_all(session: &Session, streams: u32, meter: Meter) -> Outcome<Meter> {
    let share = meter.left() / u64::from(streams);
    let rest = meter.left() % u64::from(streams);
    let meter = Shared::new(meter);
    let mut tasks = JoinSet::new();
    for index in 0..streams {
        let bytes = share + if index == 0 { rest } else { 0 };
        tasks.spawn(write(session.open_stream().await?, bytes, meter.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    meter.take()
}

async fn write(mut stream: Stream, mut bytes: u64, meter: Shared) -> Outcome {
    while bytes > 0 {
        let piece = next_piece(bytes, BATCH);
        stream.write_chunk(Bytes::from_static(piece)).await?;
        bytes -= piece.len() as u64;
        meter.with(|meter| meter.moved(piece.len()));
    }
    stream.finish()?;
    while stream.read_chunk(usize::MAX).await?.is_some() {}
    Ok(())
}
