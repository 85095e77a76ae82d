//! The thread that writes files.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;
use crate::trace::files::{FileNumber, Store};

/// What a file counts as at least, in bytes.
const MIN_FILE: u64 = 4096;

/// Lines for a file.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: FileNumber,
    /// The file's, if it is new.
    pub(super) name: Option<String>,
    /// Lines are missing in front of these.
    pub(super) gap: bool,
    /// Maybe none.
    pub(super) chunks: Vec<Vec<u8>>,
    /// The file gets no others.
    pub(super) is_last: bool,
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
        // Files whose first lines were not written get no others.
        let mut given_up = BTreeSet::new();
        while let Ok(job) = jobs.recv() {
            let bytes: u64 = job.chunks.iter().map(|chunk| chunk.len() as u64).sum();
            let is_new = job.name.is_some();
            let cost = if is_new { bytes.max(MIN_FILE) } else { bytes };
            let written = if given_up.contains(&job.file) || cost > left {
                None
            } else {
                left -= cost;
                Some(write_job(&mut store, &job))
            };
            let mut progress = self.progress();
            match written {
                Some(Ok(())) => progress.files += u64::from(is_new),
                failed => {
                    progress.dropped += bytes;
                    if let Some(Err(error)) = failed {
                        progress.failure.get_or_insert_with(|| error.to_string());
                    }
                    if is_new {
                        given_up.insert(job.file);
                    }
                }
            }
            drop(progress);
            if job.is_last {
                given_up.remove(&job.file);
                store.close(job.file);
            }
            let capacity = job.chunks.iter().map(Vec::capacity).sum();
            drop(job.chunks);
            self.pool.free(capacity);
            // Who waits for a job finds its memory freed.
            self.progress().done += 1;
            self.changed.notify_all();
        }
    }
}

fn write_job(store: &mut impl Store, job: &Job) -> io::Result<()> {
    if job.chunks.is_empty() {
        return Ok(());
    }
    let gap = gap_line(job);
    let parts: Vec<&[u8]> = [gap.as_bytes()].into_iter().chain(job.chunks.iter().map(Vec::as_slice)).collect();
    store.append(job.file, job.name.as_deref(), &parts)
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
