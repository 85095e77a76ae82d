//! Records that are not written yet, by file, and the loop of the thread that writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::RECORD_SEPARATOR;
use crate::trace::files::{FileNumber, Store};

/// How long records wait for others before they are written, unless there are many.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes that are written without waiting for more.
const BATCH: usize = 256 << 10;
/// What a file takes on a disk at least, in bytes.
const LEAST: u64 = 4096;

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something is to be written, enough for a batch, or the last sink is gone.
    work: Condvar,
    /// A batch is written.
    written: Condvar,
    limits: Limits,
}

/// How much is kept and written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes that may wait.
    pub(super) max_waiting: usize,
    /// Bytes in all, each file with [`LEAST`] at least.
    pub(super) max_bytes: u64,
    /// Sinks wait for room instead of losing events.
    pub(super) lossless: bool,
}

/// Batches, counted from 1 as the thread takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Batch(u64);

#[derive(Default)]
struct State {
    files: BTreeMap<FileNumber, Waiting>,
    /// Bytes of all files, and those that are being written.
    waiting: usize,
    /// Bytes that were accepted so far, each file with [`LEAST`] at least.
    accepted: u64,
    opened: u64,
    dropped: u64,
    /// The last batch that the thread took, the last that it wrote, and up to which it does not wait for more records.
    taken: Batch,
    written: Batch,
    hurried: Batch,
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
    pub(super) fn new(limits: Limits) -> Self {
        let (state, work, written) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { state, work, written, limits }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a file with its first record, if there is room for that.
    pub(super) fn open(&self, name: String, record: &[u8]) -> Option<FileNumber> {
        let cost = LEAST.max(record.len() as u64);
        let mut state = self.state_with_room(record.len(), cost)?;
        state.opened += 1;
        let file = FileNumber(state.opened);
        state.accepted += cost;
        state.waiting += record.len();
        state.files.insert(file, Waiting { name: Some(name), bytes: record.to_vec(), has_ended: false });
        self.notify(&state);
        Some(file)
    }

    /// The state, if there is room for a record; without losses, it waits for that.
    fn state_with_room(&self, bytes: usize, cost: u64) -> Option<MutexGuard<'_, State>> {
        let Limits { max_waiting, max_bytes, lossless } = self.limits;
        let mut state = self.state();
        loop {
            if bytes > max_waiting || state.accepted.saturating_add(cost) > max_bytes {
                return None;
            }
            if state.waiting + bytes <= max_waiting {
                return Some(state);
            }
            if !lossless {
                return None;
            }
            self.hurry(&mut state);
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What waits is written without waiting for more. Returns the batch of the last record that was accepted.
    fn hurry(&self, state: &mut State) -> Batch {
        if state.files.is_empty() {
            return state.taken;
        }
        let next = Batch(state.taken.0 + 1);
        state.hurried = next;
        self.work.notify_one();
        next
    }

    /// Takes a record if there is room; whether it did.
    pub(super) fn push(&self, file: FileNumber, record: &[u8]) -> bool {
        let Some(mut state) = self.state_with_room(record.len(), record.len() as u64) else { return false };
        state.accepted += record.len() as u64;
        state.waiting += record.len();
        state.files.entry(file).or_default().bytes.extend_from_slice(record);
        self.notify(&state);
        true
    }

    /// Ends a file with a last record, for which there is always room: it is short, and there is one for each session.
    pub(super) fn end(&self, file: FileNumber, record: &[u8]) {
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

    /// Returns the batch of the last record that was accepted, which is written as soon as possible.
    pub(super) fn last_batch(&self) -> Batch {
        self.hurry(&mut self.state())
    }

    /// Blocks until a batch is written, or for `at_most`; whether it is. Later records do not prolong it.
    pub(super) fn wait_for(&self, batch: Batch, at_most: Duration) -> bool {
        let waits = |state: &mut State| state.written < batch;
        let waited = self.written.wait_timeout_while(self.state(), at_most, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0.written >= batch
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
                    && let Err(error) = store.append(file, waiting.name.as_deref(), &[&waiting.bytes])
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
            state.written = state.taken;
            self.written.notify_all();
        }
    }

    /// Waits until something is to be written; `None` when nothing will be any more.
    fn next_batch(&self) -> Option<BTreeMap<FileNumber, Waiting>> {
        let mut state = self.state();
        while state.files.is_empty() {
            if state.is_stopped {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waits = |state: &mut State| state.waiting < BATCH && state.hurried <= state.taken && !state.is_stopped;
        state = self.work.wait_timeout_while(state, PATIENCE, waits).unwrap_or_else(PoisonError::into_inner).0;
        state.taken.0 += 1;
        Some(std::mem::take(&mut state.files))
    }
}

/// How many records these bytes are. A separator occurs only in front of one.
fn records(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == RECORD_SEPARATOR).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_batch_of_a_flush_is_hurried() {
        let queue = Queue::new(Limits { max_waiting: 1000, max_bytes: u64::MAX, lossless: false });
        assert_eq!(queue.last_batch(), Batch(0), "nothing is to be written");
        let file = queue.open("a".to_owned(), b"header").unwrap();
        assert_eq!(queue.last_batch(), Batch(1));
        assert_eq!(queue.next_batch().unwrap()[&file].bytes, b"header");
        assert_eq!(queue.last_batch(), Batch(1), "it is being written");
        assert!(queue.push(file, b"event"));
        let state = queue.state();
        assert_eq!((state.taken, state.hurried), (Batch(1), Batch(1)), "the next batch waits for more records");
    }
}
