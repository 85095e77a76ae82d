//! Progress of a download: a line for people, and a log of arrival times for finding gaps.

use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;

use super::output::{self, Sink};
use super::units::{bits_per_second, rate, size};
use crate::net::Session;

/// At most one line is logged in this time.
const STEP: Duration = Duration::from_millis(5);
/// How often the line for people changes.
const INTERVAL: Duration = Duration::from_millis(100);
/// The rate is that of the last intervals, of this number: one second.
const WINDOW: usize = 10;

/// Counts bytes as they are delivered, of all files together.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Counts>);

struct Counts {
    bytes: AtomicU64,
    files: AtomicU64,
    log: Option<Mutex<Log>>,
}

impl Progress {
    /// With a log in the file `log`, if one is wanted.
    pub(crate) async fn new(log: Option<PathBuf>) -> std::io::Result<Self> {
        let log = match log {
            // A pipe is opened once it has a reader.
            Some(path) => {
                let file = spawn_blocking(|| File::create(path)).await.map_err(std::io::Error::other)??;
                Some(Mutex::new(Log::new(file)))
            }
            None => None,
        };
        Ok(Self(Arc::new(Counts { bytes: AtomicU64::new(0), files: AtomicU64::new(0), log })))
    }

    /// More bytes were delivered.
    pub(crate) fn count(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(log) = &self.0.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).count(bytes as u64);
        }
    }

    /// A file is over, complete or not.
    pub(crate) fn count_file(&self) {
        self.0.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows how far the download of `files` files is, until this is dropped.
    pub(crate) async fn show(&self, session: &Session, files: usize) -> Infallible {
        if !output::is_shown() {
            return std::future::pending().await; // without waking ten times a second
        }
        let start = Instant::now();
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut samples: Vec<(Instant, u64)> = Vec::new();
        loop {
            let now = ticks.tick().await.into_std();
            let bytes = self.0.bytes.load(Ordering::Relaxed);
            samples.push((now, bytes));
            if samples.len() > WINDOW + 1 {
                samples.remove(0);
            }
            let (since, before) = samples[0];
            let rate = bits_per_second(bytes - before, now.saturating_duration_since(since));
            let tcps = session.is_tcpls().then(|| session.tcp_connections().len());
            let done = self.0.files.load(Ordering::Relaxed);
            output::show(vec![line(bytes, rate, tcps, (done, files), start.elapsed())]);
        }
    }

    /// Waits until the log is written; what went wrong with it.
    pub(crate) async fn finish(&self) -> Option<String> {
        let log = self.0.log.as_ref()?;
        let sink = log.lock().unwrap_or_else(PoisonError::into_inner).finish();
        sink.drained().await;
        sink.failure().map(|failure| failure.cause().to_owned())
    }
}

/// The state of it. The server does not say how long files are.
fn line(
    bytes: u64,
    bits_per_second: f64,
    tcps: Option<usize>,
    (done, files): (u64, usize),
    elapsed: Duration,
) -> String {
    let tcps = match tcps {
        None => "plain TLS".to_owned(),
        Some(0) => "no TCP connection".to_owned(),
        Some(1) => "1 TCP connection".to_owned(),
        Some(tcps) => format!("{tcps} TCP connections"),
    };
    let files = if files == 1 { String::new() } else { format!("  {done} of {files} files") };
    format!("{:>10}  {:>12}  {tcps}{files}  {} s", size(bytes), rate(bits_per_second), elapsed.as_secs())
}

/// Returns a bar, the received and total bytes, and a note; the bar fills a terminal of `columns`.
pub(crate) fn bar_line(done: u64, total: u64, note: &str, columns: Option<usize>) -> String {
    let text = format!("{:>10} / {} {note:>12}", size(done), size(total));
    let room = columns.unwrap_or(80).saturating_sub(text.chars().count() + 2).clamp(4, 30);
    let filled = (done.min(total) as f64 / total.max(1) as f64 * room as f64) as usize;
    format!("{}{} {text}", "█".repeat(filled), "░".repeat(room - filled))
}

/// Lines of `SECONDS BYTES`: when bytes arrived, in seconds since 1970, and how many it were in all. Several such logs, and what
/// others wrote down, can be laid side by side.
struct Log {
    sink: Arc<Sink>,
    /// The same time on the wall clock and on the monotonic clock.
    origin: (Duration, Instant),
    latest: Option<Instant>,
    written: Option<Instant>,
    bytes: u64,
}

impl Log {
    fn new(file: File) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = (since_1970, Instant::now());
        Self { sink: output::log(file), origin, latest: None, written: None, bytes: 0 }
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

    /// A log that can't be written does not end a download.
    fn write(&mut self) {
        if let Some(latest) = self.latest {
            let time = self.origin.0 + (latest - self.origin.1);
            self.sink.push(format!("{:.6} {}", time.as_secs_f64(), self.bytes));
            self.written = self.latest;
        }
    }

    /// Logs the last bytes; the returned value reports when they are written.
    fn finish(&mut self) -> Arc<Sink> {
        self.write();
        self.sink.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_line_has_rate_and_size() {
        let text = line(3 << 20, 45e6, Some(2), (1, 3), Duration::from_millis(12_900));
        assert_eq!(text, "   3.0 MiB   45.0 Mbit/s  2 TCP connections  1 of 3 files  12 s");
        let text = line(0, 0.0, Some(0), (0, 1), Duration::ZERO);
        assert_eq!(text, "       0 B    0.0 kbit/s  no TCP connection  0 s");
    }

    #[test]
    fn bars_fit_the_terminal() {
        for columns in [60, 80, 200] {
            let line = bar_line(64 << 20, 256 << 20, "200.0 Mbit/s", Some(columns));
            assert!(line.chars().count() < columns, "{line}");
            assert!(line.starts_with("███") && line.contains("░░░"), "{line}");
        }
        assert!(bar_line(0, 0, "", None).starts_with("░░"));
    }
}
