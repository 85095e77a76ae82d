//! Files of many sessions, written by a thread: sessions put records into a bounded queue, and never wait for a disk.
//!
//! `queue` has the records that are not written yet.

mod queue;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, process};

use tcpls_core::trace::{Event, Sink};
use tcpls_core::{Side, Time};

use self::queue::{Limits, Queue};
use super::event::Lost;
use super::{Header, Records};
use crate::trace::files::{FileNumber, Files, Store};

/// Numbers the files of this process.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Where qlog files are written, and their limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QlogOptions {
    /// The directory; created if it does not exist.
    pub directory: PathBuf,
    /// Bytes that may wait to be written, of all sessions. Events that would make them more are dropped and counted. 16 MiB
    /// by default: at 1 Gbit/s, about a second of events.
    pub max_waiting: usize,
    /// Bytes to write in all; each file counts as 4 KiB at least. Later events are dropped and counted. 10 GiB by default.
    pub max_bytes: u64,
    /// Sessions wait while `max_waiting` bytes wait to be written, instead of losing events. Meant for virtual time, where
    /// nothing but the disk sets the pace. Off by default.
    pub lossless: bool,
}

impl QlogOptions {
    /// Files in `directory`, with the default limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), max_waiting: 16 << 20, max_bytes: 10 << 30, lossless: false }
    }

    /// Returns these options with a change: `QlogOptions::new(".").with(|options| options.max_bytes = 1 << 20)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Writes a qlog file for each session that gets a sink of it: `TIME-PROCESS-NUMBER-SIDE.sqlog`.
///
/// Clones write in the same thread, which ends when the last clone and the last sink are dropped and everything is
/// written. Neither sinks nor clones wait for it, unless [`QlogOptions::lossless`] says so. One file is open at a time.
#[derive(Clone)]
pub struct Qlog(Arc<Shared>);

struct Shared {
    queue: Arc<Queue>,
}

impl Qlog {
    /// Creates the directory, for this user alone, and starts the thread.
    ///
    /// # Errors
    /// The directory cannot be created, or the thread cannot be started.
    pub fn new(options: QlogOptions) -> io::Result<Self> {
        let QlogOptions { directory, max_waiting, max_bytes, lossless } = options;
        Self::start(Files::new(directory)?, Limits { max_waiting, max_bytes, lossless })
    }

    fn start(store: impl Store + 'static, limits: Limits) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(limits));
        let worker = queue.clone();
        std::thread::Builder::new().name("qlog".to_owned()).spawn(move || worker.write(store))?;
        Ok(Self(Arc::new(Shared { queue })))
    }

    /// Returns a sink with a file of its own, which ends when the sink is dropped.
    pub fn sink(&self, header: &Header) -> Box<dyn Sink> {
        let side = match header.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        let date = header.wall_clock.unwrap_or_else(SystemTime::now).duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number:06}-{side}.sqlog", date.as_millis(), process::id());
        let mut records = Records::new(header.started);
        let file = self.0.queue.open(name, records.of(header).unwrap_or_default());
        Box::new(FileSink { qlog: self.clone(), file, records, last: header.started, lost: 0 })
    }

    /// Returns a sink for a session over sockets that begins now.
    pub(crate) fn session(&self, side: Side, now: Time) -> Box<dyn Sink> {
        self.sink(&Header::new(side, now).with(|header| header.wall_clock = Some(SystemTime::now())))
    }

    /// Returns how many events were dropped: the disk was too slow or full, or a limit was reached.
    pub fn dropped(&self) -> u64 {
        self.0.queue.dropped()
    }

    /// Returns the first error of the file system, if there was one. The file that it concerns is not continued.
    pub fn failure(&self) -> Option<String> {
        self.0.queue.failure()
    }

    /// Blocks until all events so far are written, or for `at_most`; whether they are. It does not wait for events that
    /// sessions report meanwhile.
    pub fn flush(&self, at_most: Duration) -> bool {
        let queue = &self.0.queue;
        queue.wait_for(queue.last_batch(), at_most)
    }
}

impl fmt::Debug for Qlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qlog").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// The sink of one session.
struct FileSink {
    qlog: Qlog,
    /// `None` if there was no room for its first record: nothing is written then.
    file: Option<FileNumber>,
    records: Records,
    /// The time of the last event.
    last: Time,
    /// Events that were dropped and that no record has reported.
    lost: u64,
}

impl FileSink {
    fn report_lost(&mut self) {
        let lost = Lost::new(self.records.started, self.last, self.lost);
        if let (Some(file), Some(record)) = (self.file, self.records.of(&lost))
            && self.qlog.0.queue.push(file, record)
        {
            self.lost = 0;
        }
    }
}

impl Sink for FileSink {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.last = now;
        // An event behind a gap that is not reported would hide the gap.
        if self.lost > 0 {
            self.report_lost();
        }
        let pushed = match (self.file, self.records.event(now, event)) {
            (Some(file), Some(record)) if self.lost == 0 => self.qlog.0.queue.push(file, record),
            _ => false,
        };
        if !pushed {
            self.lost += 1;
            self.qlog.0.queue.count_dropped(1);
        }
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        let Some(file) = self.file else { return };
        let last = match self.lost {
            0 => None,
            lost => self.records.of(&Lost::new(self.records.started, self.last, lost)),
        };
        self.qlog.0.queue.end(file, last.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
