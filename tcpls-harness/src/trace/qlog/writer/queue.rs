//! Records that are not written yet, by file, and the loop of the thread that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::RECORD_SEPARATOR;

/// How long records wait for others before they are written, unless there are many.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes that are written without waiting for more.
const BATCH: usize = 256 << 10;
/// What a file takes on a disk at least, in bytes.
const LEAST: u64 = 4096;

/// Identifies a file of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// Where the thread writes.
pub(super) trait Store: Send {
    /// Appends to a file, which is created if `name` is given.
    ///
    /// # Errors
    /// The bytes, or some of them, are not written.
    fn append(&mut self, file: FileId, name: Option<&str>, bytes: &[u8]) -> io::Result<()>;

    /// The file gets no more bytes.
    fn close(&mut self, file: FileId);
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something is to be written, enough for a batch, or the last sink is gone.
    work: Condvar,
    /// Everything is written.
    idle: Condvar,
    max_waiting: usize,
    max_bytes: u64,
}

#[derive(Default)]
struct State {
    files: BTreeMap<FileId, Waiting>,
    /// Bytes of all files, and those that are being written.
    waiting: usize,
    /// Bytes that were accepted so far, each file with [`LEAST`] at least.
    accepted: u64,
    opened: u64,
    dropped: u64,
    is_writing: bool,
    is_hurried: bool,
    is_stopped: bool,
    failure: Option<String>,
}

/// What waits to be written to a file.
#[derive(Default)]
struct Waiting {
    /// A file that begins.
    name: Option<String>,
    bytes: Vec<u8>,
    has_ended: bool,
}

impl Queue {
    pub(super) fn new(max_waiting: usize, max_bytes: u64) -> Self {
        let (state, work, idle) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { state, work, idle, max_waiting, max_bytes }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a file with its first record, if there is room for that.
    pub(super) fn open(&self, name: String, record: &[u8]) -> Option<FileId> {
        let mut state = self.state();
        let cost = LEAST.max(record.len() as u64);
        if !self.has_room(&state, record.len(), cost) {
            return None;
        }
        state.opened += 1;
        let file = FileId(state.opened);
        state.accepted += cost;
        state.waiting += record.len();
        state.files.insert(file, Waiting { name: Some(name), bytes: record.to_vec(), has_ended: false });
        self.notify(&state);
        Some(file)
    }

    fn has_room(&self, state: &State, bytes: usize, cost: u64) -> bool {
        state.waiting + bytes <= self.max_waiting && state.accepted.saturating_add(cost) <= self.max_bytes
    }

    /// Takes a record if there is room; whether it did.
    pub(super) fn push(&self, file: FileId, record: &[u8]) -> bool {
        let mut state = self.state();
        if !self.has_room(&state, record.len(), record.len() as u64) {
            return false;
        }
        state.accepted += record.len() as u64;
        state.waiting += record.len();
        state.files.entry(file).or_default().bytes.extend_from_slice(record);
        self.notify(&state);
        true
    }

    /// Ends a file with a last record, for which there is always room: it is short, and there is one for each session.
    pub(super) fn end(&self, file: FileId, record: &[u8]) {
        let mut state = self.state();
        state.waiting += record.len();
        let waiting = state.files.entry(file).or_default();
        waiting.bytes.extend_from_slice(record);
        waiting.has_ended = true;
        self.notify(&state);
    }

    /// Wakes the thread for the first of several records, and when they are enough for a batch.
    fn notify(&self, state: &State) {
        if state.files.len() == 1 || state.waiting >= BATCH {
            self.work.notify_one();
        }
    }

    pub(super) fn count_dropped(&self, events: u64) {
        self.state().dropped += events;
    }

    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    pub(super) fn flush(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut state = self.state();
        while state.is_writing || !state.files.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state.is_hurried = true;
            self.work.notify_one();
            state = self.idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(super) fn stop(&self) {
        self.state().is_stopped = true;
        self.work.notify_one();
    }

    /// The thread.
    pub(super) fn write(&self, mut store: impl Store) {
        let mut failed = BTreeSet::new();
        while let Some(batch) = self.next_batch() {
            let (mut written, mut lost) = (0, 0);
            for (file, waiting) in batch {
                written += waiting.bytes.len();
                if !failed.contains(&file)
                    && let Err(error) = store.append(file, waiting.name.as_deref(), &waiting.bytes)
                {
                    failed.insert(file);
                    self.state().failure.get_or_insert_with(|| error.to_string());
                }
                if failed.contains(&file) {
                    lost += records(&waiting.bytes);
                }
                if waiting.has_ended {
                    failed.remove(&file);
                    store.close(file);
                }
            }
            let mut state = self.state();
            state.waiting -= written;
            state.dropped += lost;
            state.is_writing = false;
            if state.files.is_empty() {
                state.is_hurried = false;
                self.idle.notify_all();
            }
        }
    }

    /// Waits until something is to be written; `None` when nothing will be any more.
    fn next_batch(&self) -> Option<BTreeMap<FileId, Waiting>> {
        let mut state = self.state();
        while state.files.is_empty() {
            if state.is_stopped {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = |state: &mut State| state.waiting < BATCH && !state.is_hurried && !state.is_stopped;
        state = self.work.wait_timeout_while(state, PATIENCE, waits).unwrap_or_else(PoisonError::into_inner).0;
        state.is_writing = true;
        Some(std::mem::take(&mut state.files))
    }
}

/// How many records these bytes are. A separator occurs only in front of one.
fn records(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == RECORD_SEPARATOR).count() as u64
}
