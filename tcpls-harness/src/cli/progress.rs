//! Progress of a download: lines for people, and a log of arrival times for finding gaps.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tcpls_core::stats::{TcpPhase, TcpStats};
use tcpls_core::wire::ids::ConnectionId;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::get::Turn;
use super::output::{self, Sink};
use super::units::{bits_per_second, rate, size, time};

/// At most one line is logged in this time.
const STEP: Duration = Duration::from_millis(5);
/// How often the line for people changes.
const INTERVAL: Duration = Duration::from_millis(100);
/// The rate is that of the last intervals, of this number: one second.
const WINDOW: usize = 10;

/// Counts bytes as they are delivered, of all files together.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Counts>);

#[derive(Default)]
struct Counts {
    /// Received by this run.
    received: AtomicU64,
    /// Of the files as they are now: more than was received if a file is continued, less if one began again.
    done: AtomicU64,
    /// The lengths of files that are known, and the number of those files.
    total: AtomicU64,
    known: AtomicU64,
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
        Ok(Self(Arc::new(Counts { log, ..Counts::default() })))
    }

    /// Counts a file of which an earlier run has received `continued` bytes.
    pub(crate) fn file(&self, continued: u64) -> Counted {
        self.0.done.fetch_add(continued, Ordering::Relaxed);
        Counted { progress: self.clone(), continued, done: continued, total: None }
    }

    /// Returns the number of bytes that were received.
    pub(crate) fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Shows how far the download of `files` files is, until this is dropped.
    pub(crate) async fn show(&self, session: watch::Receiver<Turn>, files: usize) -> Infallible {
        if !output::is_shown() {
            return std::future::pending().await; // without waking ten times a second
        }
        let mut ticks = tokio::time::interval(INTERVAL);
        let mut samples: VecDeque<Sample> = VecDeque::new();
        loop {
            let at = ticks.tick().await.into_std();
            let turn = session.borrow().clone();
            let stats = turn.session.stats().tcp;
            let by_tcp = stats.iter().map(|tcp| ((turn.number, tcp.tcp), tcp.counters.stream_bytes_received)).collect();
            samples.push_back(Sample { at, received: self.received(), by_tcp });
            if samples.len() > WINDOW + 1 {
                samples.pop_front();
            }
            let (Some(first), Some(last)) = (samples.front(), samples.back()) else { continue };
            let time = last.at.saturating_duration_since(first.at);
            let mut lines = vec![self.0.line(bits_per_second(last.received - first.received, time), files)];
            if !turn.session.is_tcpls() {
                lines[0] += "  plain TLS";
            }
            for tcp in stats.iter().filter(|tcp| !matches!(tcp.phase, TcpPhase::Lost(_))) {
                let of = |sample: &Sample| sample.by_tcp.get(&(turn.number, tcp.tcp)).copied().unwrap_or_default();
                let rate = bits_per_second(of(last).saturating_sub(of(first)), time);
                let path = turn.session.path_of(tcp.tcp).map_or_else(String::new, |path| path.to_string());
                lines.push(path_line(tcp, &path, rate));
            }
            output::show(lines);
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

impl Counts {
    /// The state of the download: how much of how much, the rate, and the time that is left at this rate.
    fn line(&self, bits_per_second: f64, files: usize) -> String {
        let [done, total, known, over] =
            [&self.done, &self.total, &self.known, &self.files].map(|count| count.load(Ordering::Relaxed));
        let mut line = format!("{:>10}", size(done));
        let is_known = known == files as u64 && total > 0;
        if is_known {
            line += &format!(" of {}  {:>3} %", size(total), done.min(total) * 100 / total);
        }
        line += &format!("  {:>12}", rate(bits_per_second));
        if is_known && bits_per_second > 0.0 {
            let seconds = total.saturating_sub(done) as f64 * 8.0 / bits_per_second;
            line += &format!("  {} left", time_left(seconds));
        }
        if files > 1 {
            line += &format!("  {over} of {files} files");
        }
        line
    }
}

/// What TCP connections have carried at one time.
struct Sample {
    at: Instant,
    received: u64,
    by_tcp: BTreeMap<(u64, ConnectionId), u64>,
}

fn path_line(stats: &TcpStats, path: &str, bits_per_second: f64) -> String {
    let (received, rate) = (size(stats.counters.stream_bytes_received), rate(bits_per_second));
    let rtt = stats.smoothed_rtt.map_or_else(|| "-".to_owned(), time);
    let state = match stats.phase {
        TcpPhase::Active if stats.stalled => "stalled".to_owned(),
        TcpPhase::Active if stats.backup => "standby".to_owned(),
        phase => phase.to_string(),
    };
    format!("  {:<6} {path:<24} {received:>10}  {rate:>12}  RTT {rtt:<8}  {state}", stats.tcp.to_string())
}

/// A time such as `7 s`, `2 min 5 s` or `3 h 10 min`.
fn time_left(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Counts the bytes of one file.
pub(crate) struct Counted {
    progress: Progress,
    continued: u64,
    done: u64,
    total: Option<u64>,
}

impl Counted {
    /// Bytes follow that begin at `start`; the file has `total` bytes, if that is known.
    pub(crate) fn begin(&mut self, start: u64, total: Option<u64>) {
        let counts = &self.progress.0;
        if start < self.done {
            counts.done.fetch_sub(self.done - start, Ordering::Relaxed);
            (self.done, self.continued) = (start, self.continued.min(start));
        }
        if let Some(before) = std::mem::replace(&mut self.total, total) {
            counts.total.fetch_sub(before, Ordering::Relaxed);
            counts.known.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(total) = total {
            counts.total.fetch_add(total, Ordering::Relaxed);
            counts.known.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// More bytes were delivered.
    pub(crate) fn count(&mut self, bytes: usize) {
        let counts = &self.progress.0;
        self.done += bytes as u64;
        counts.received.fetch_add(bytes as u64, Ordering::Relaxed);
        counts.done.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(log) = &counts.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).count(bytes as u64);
        }
    }

    /// The file is over, complete or not.
    pub(crate) fn end(&self) {
        self.progress.0.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the bytes of an earlier run that are part of the file.
    pub(crate) fn continued(&self) -> u64 {
        self.continued
    }
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

    #[tokio::test]
    async fn progress_line_has_rate_share_and_time_left_once_all_lengths_are_known() {
        let progress = Progress::new(None).await.unwrap();
        assert_eq!(progress.0.line(0.0, 1), "       0 B    0.0 kbit/s");
        let (mut first, mut second) = (progress.file(0), progress.file(1 << 20));
        first.begin(0, Some(2 << 20));
        first.count(1 << 20);
        assert_eq!(progress.0.line(8e6, 2), "   2.0 MiB    8.0 Mbit/s  0 of 2 files");
        second.begin(1 << 20, Some(2 << 20));
        first.end();
        assert_eq!(progress.0.line(8e6, 2), "   2.0 MiB of 4.0 MiB   50 %    8.0 Mbit/s  3 s left  1 of 2 files");
        assert_eq!(second.continued(), 1 << 20);
        second.begin(0, Some(6 << 20));
        assert_eq!((second.continued(), progress.received()), (0, 1 << 20));
        assert_eq!(progress.0.line(8e3, 2), "   1.0 MiB of 8.0 MiB   12 %    8.0 kbit/s  2 h 2 min left  1 of 2 files");
        assert_eq!(time_left(125.0), "2 min 5 s");
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
