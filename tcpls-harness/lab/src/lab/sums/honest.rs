//! Honest clients: each fetches the small file repeatedly, each time in a new session.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tcpls_core::error::code;
use tcpls_harness::files;
use tcpls_harness::net::{ClientOptions, Session};
use tcpls_harness::tls::Trust;

use super::super::Outcome;
use super::SMALL;

/// Clients at the same time.
const CLIENTS: usize = 4;
/// The pause of each between two files.
const PAUSE: Duration = Duration::from_millis(50);
/// After this a client gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long fetches took.
#[derive(Debug, Default)]
pub(super) struct Times {
    fetched: Vec<Duration>,
    pub(super) failed: usize,
}

impl Times {
    pub(super) fn fetched(&self) -> usize {
        self.fetched.len()
    }

    /// In milliseconds.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.fetched.clone();
        sorted.sort();
        let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3)
    }
}

/// The clients, in a runtime of their own.
pub(super) struct Honest {
    runtime: tokio::runtime::Runtime,
    times: Arc<Mutex<Times>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Honest {
    pub(super) fn start(address: SocketAddr, ca: &Path) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tls = Trust::File(ca.to_owned()).client(&[files::PROTOCOL])?;
        let options = ClientOptions::new(tls, "localhost".try_into()?);
        let (times, stop) = (Arc::new(Mutex::new(Times::default())), Arc::new(AtomicBool::new(false)));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let (options, times, stop) = (options.clone(), times.clone(), stop.clone());
            clients.push(runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let outcome = tokio::time::timeout(PATIENCE, fetch(address, options.clone())).await;
                    note(&times, begun.elapsed(), outcome.unwrap_or_else(|_| Err("took too long".into())));
                    tokio::time::sleep(PAUSE).await;
                }
            }));
        }
        Ok(Self { runtime, times, stop, clients })
    }

    /// Waits until this many files arrived, and forgets them: caches are warm before anything is measured.
    pub(super) fn wait_for(&self, files: usize) -> Outcome {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            if times.fetched.len() >= files {
                *times = Times::default();
                return Ok(());
            }
            drop(times);
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("the server serves no client although nothing is wrong yet".into())
    }

    /// How it went. What is under way comes to its end first.
    pub(super) fn stop(self) -> Outcome<Times> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            self.runtime.block_on(client)?;
        }
        self.runtime.shutdown_background();
        Ok(std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn note(times: &Mutex<Times>, took: Duration, outcome: Outcome) {
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    match outcome {
        Ok(()) => times.fetched.push(took),
        Err(error) => {
            eprintln!("an honest client failed after {took:.1?}: {error}");
            times.failed += 1;
        }
    }
}

async fn fetch(address: SocketAddr, options: ClientOptions) -> Outcome {
    let session = Session::connect(&[address], options).await?;
    let path = format!("/{}", SMALL.0);
    let mut content = files::fetch(session.open_stream().await?, "localhost", &path, None).await?;
    let mut len = 0;
    while let Some(chunk) = content.next().await? {
        len += chunk.len() as u64;
    }
    if len != SMALL.1 {
        return Err(format!("{len} bytes instead of {}", SMALL.1).into());
    }
    tokio::spawn(async move { session.close(code::NO_ERROR, b"").await });
    Ok(())
}
