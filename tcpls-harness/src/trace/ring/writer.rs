//! The thread that writes files: it opens one for each write, because anomalies are rare.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;

/// What a file counts as at least, in bytes.
const MIN_FILE: u64 = 4096;

/// Lines for a file.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) name: String,
    /// It is the first of its file.
    pub(super) is_new: bool,
    /// Lines are missing in front of these.
    pub(super) gap: bool,
    /// The first lines of the file were not written: no others are.
    pub(super) is_given_up: Arc<AtomicBool>,
    pub(super) chunks: Vec<Vec<u8>>,
}

/// Takes what is written.
pub(super) trait Store: Send {
    /// Appends to a file; creates it if it is new.
    fn append(&mut self, name: &str, is_new: bool, bytes: &[&[u8]]) -> io::Result<()>;
}

/// Files in a directory, for this user alone: they have addresses.
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }
}

impl Store for Files {
    fn append(&mut self, name: &str, is_new: bool, bytes: &[&[u8]]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(is_new);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = self.0.join(name);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file = options.open(&path).map_err(named)?;
        bytes.iter().try_for_each(|part| file.write_all(part)).map_err(named)
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    jobs: Mutex<Sender<Job>>,
}

#[derive(Debug)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    pool: Pool,
}

#[derive(Debug, Default)]
struct Progress {
    /// Jobs that were given, and that are done.
    given: u64,
    done: u64,
    files: u64,
    dropped: u64,
    failure: Option<String>,
}

impl Writer {
    pub(super) fn start(store: impl Store + 'static, max_bytes: u64, pool: Pool) -> io::Result<Self> {
        let (jobs, receiver) = channel();
        let shared = Arc::new(Shared { progress: Mutex::default(), changed: Condvar::new(), pool });
        let worker = shared.clone();
        let work = move || worker.write(store, &receiver, max_bytes);
        std::thread::Builder::new().name("tcpls trace".to_owned()).spawn(work)?;
        Ok(Self { shared, jobs: Mutex::new(jobs) })
    }

    /// Hands over lines; the pool bounds them.
    pub(super) fn append(&self, job: Job) {
        self.shared.progress().given += 1;
        // The thread ends only when this is dropped.
        _ = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send(job);
    }

    pub(super) fn files(&self) -> u64 {
        self.shared.progress().files
    }

    pub(super) fn dropped(&self) -> u64 {
        self.shared.progress().dropped
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.shared.progress().failure.clone()
    }

    pub(super) fn flush(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut progress = self.shared.progress();
        let given = progress.given;
        while progress.done < given {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            progress = self.shared.changed.wait_timeout(progress, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the last sender is dropped.
    fn write(&self, mut store: impl Store, jobs: &Receiver<Job>, max_bytes: u64) {
        let mut left = max_bytes;
        while let Ok(job) = jobs.recv() {
            let bytes: u64 = job.chunks.iter().map(|chunk| chunk.len() as u64).sum();
            let cost = if job.is_new { bytes.max(MIN_FILE) } else { bytes };
            let written = if job.is_given_up.load(Ordering::Relaxed) || cost > left {
                None
            } else {
                left -= cost;
                Some(write_job(&mut store, &job))
            };
            let mut progress = self.progress();
            match written {
                Some(Ok(())) => progress.files += u64::from(job.is_new),
                failed => {
                    progress.dropped += bytes;
                    if let Some(Err(error)) = failed {
                        progress.failure.get_or_insert_with(|| error.to_string());
                    }
                    job.is_given_up.fetch_or(job.is_new, Ordering::Relaxed);
                }
            }
            progress.done += 1;
            drop(progress);
            let capacity = job.chunks.iter().map(Vec::capacity).sum();
            drop(job.chunks);
            self.pool.free(capacity);
            self.changed.notify_all();
        }
    }
}

fn write_job(store: &mut impl Store, job: &Job) -> io::Result<()> {
    let gap = gap_line(job);
    let parts: Vec<&[u8]> = [gap.as_bytes()].into_iter().chain(job.chunks.iter().map(Vec::as_slice)).collect();
    store.append(&job.name, job.is_new, &parts)
}

/// A line that says what is missing; empty if nothing is.
fn gap_line(job: &Job) -> String {
    let first = job.chunks.iter().find(|chunk| !chunk.is_empty());
    let Some(first) = first.filter(|_| job.gap) else { return String::new() };
    let rest = first.strip_prefix(b"{\"t\":").unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte));
    let t: String = digits.collect();
    let t = if t.is_empty() { "0" } else { &t };
    format!("{{\"t\":{t},\"what\":\"note\",\"text\":\"events are missing here\"}}\n")
}
