//! How far a download is: a bar for people, and a log of when bytes came for those who look for gaps.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;

use super::report::bar;

/// At most one line is logged in this time.
const STEP: Duration = Duration::from_millis(5);

/// Counts bytes as they are delivered, of all files together.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: ProgressBar,
    log: Option<Arc<Mutex<Log>>>,
}

impl Progress {
    /// With a log in the file `log`, if one is wanted.
    pub(crate) fn new(log: Option<&Path>) -> io::Result<Self> {
        let log = log.map(|path| File::create(path).map(Log::new)).transpose()?;
        Ok(Self { bar: bar(None), log: log.map(|log| Arc::new(Mutex::new(log))) })
    }

    /// More bytes were delivered.
    pub(crate) fn count(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
        if let Some(log) = &self.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).count(bytes as u64);
        }
    }

    /// Takes the bar away and finishes the log.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        if let Some(log) = &self.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).write();
        }
    }
}

/// Lines of `SECONDS BYTES`: when bytes came, in seconds since 1970, and how many it were in all. Several such logs, and what
/// others wrote down, can be laid side by side.
struct Log {
    file: File,
    /// The same moment on the clock that people set and on the one that they can't.
    origin: (Duration, Instant),
    latest: Option<Instant>,
    written: Option<Instant>,
    bytes: u64,
}

impl Log {
    fn new(file: File) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { file, origin: (since_1970, Instant::now()), latest: None, written: None, bytes: 0 }
    }

    fn count(&mut self, bytes: u64) {
        let now = Instant::now();
        // What came before a pause gets its line, so that the pause can be seen.
        if self.written.is_some_and(|written| now - written >= STEP) {
            self.write();
        }
        (self.latest, self.bytes) = (Some(now), self.bytes + bytes);
        if self.written.is_none() {
            self.write();
        }
    }

    /// A log that can't be written is no reason to give up a download.
    fn write(&mut self) {
        if let Some(latest) = self.latest {
            let time = self.origin.0 + (latest - self.origin.1);
            _ = self.file.write_all(format!("{:.6} {}\n", time.as_secs_f64(), self.bytes).as_bytes());
            self.written = self.latest;
        }
    }
}
