//! The last part of the trace of each session, kept in memory, and written to a file when something goes wrong.
//!
//! [`Ring`] gives a [`Sink`] for each session. A TCP connection that stalls or is lost, a stream that the end of the session
//! truncates, and a session that ends by an error are anomalies: the lines in memory, and those that follow until the
//! session ends, become a file that `tcpls view` shows. Sessions without anomalies write nothing.
//!
//! | file | subject |
//! | --- | --- |
//! | `pool` | the memory of all sessions, and which lines give way to others |
//! | `anomaly` | which events are anomalies |
//! | `writer` | the thread that writes files |

mod anomaly;
mod pool;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io, process};

use tcpls_core::connection::State;
use tcpls_core::trace::{Event, Sink};
use tcpls_core::{Connection, Side, Time};

use self::pool::{CHUNK, Pool, SessionId};
use self::writer::{Job, Writer};
use super::append_event;
use super::files::{FileNumber, Files, Store};

/// Room that a line has at least in the chunk that it is written to. Longer ones make the chunk grow.
const ROOM: usize = 512;
const _: () = assert!(ROOM < CHUNK);

/// Numbers the files of this process.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// Where files are written, and limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RingOptions {
    /// The directory; created if it does not exist.
    pub directory: PathBuf,
    /// Bytes of lines that are kept for each session, besides the last 16 KiB. 1 MiB by default.
    pub session: usize,
    /// Bytes that all sessions keep together; the oldest lines of all give way. 64 MiB by default, at least 64 KiB.
    pub total: usize,
    /// Bytes to write in all; each file counts as 4 KiB at least. Later anomalies are counted alone. 1 GiB by default.
    pub max_bytes: u64,
}

impl RingOptions {
    /// Files in `directory`, with the default limits.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), session: 1 << 20, total: 64 << 20, max_bytes: 1 << 30 }
    }

    /// Returns these options with a change: `RingOptions::new(".").with(|options| options.session = 4 << 20)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Keeps the last lines of sessions, and writes those of sessions with an anomaly: `TIME-PROCESS-NUMBER-SIDE.jsonl`.
///
/// Clones share memory and limits. A thread writes; neither sinks nor clones wait for it.
#[derive(Clone)]
pub struct Ring(Arc<Shared>);

struct Shared {
    pool: Pool,
    writer: Writer,
}

impl Ring {
    /// Creates the directory, for this user alone, and starts the thread.
    ///
    /// # Errors
    /// The directory cannot be created, or the thread cannot be started.
    pub fn new(options: &RingOptions) -> io::Result<Self> {
        Self::start(Files::new(options.directory.clone())?, options)
    }

    fn start(store: impl Store + 'static, options: &RingOptions) -> io::Result<Self> {
        let pool = Pool::new(options.session, options.total);
        Ok(Self(Arc::new(Shared { writer: Writer::start(store, options.max_bytes, pool.clone())?, pool })))
    }

    /// Returns a sink that keeps the lines of a session from now on. Its file, if there is one, ends when it is dropped.
    pub fn sink(&self, conn: &Connection) -> Box<dyn Sink> {
        let side = match conn.side() {
            Side::Client => "client",
            Side::Server => "server",
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Box::new(RingSink {
            ring: self.clone(),
            session: self.0.pool.begin(),
            file: FileNumber(number),
            name: format!("{}-{}-{number:06}-{side}.jsonl", date.as_millis(), process::id()),
            chunk: Vec::new(),
            is_handshaking: conn.state() == State::Handshaking,
            has_anomaly: false,
        })
    }

    /// Returns how many bytes of lines all sessions keep, those that wait to be written included.
    pub fn memory(&self) -> usize {
        self.0.pool.memory()
    }

    /// Returns how many sessions have a file.
    pub fn files(&self) -> u64 {
        self.0.writer.files()
    }

    /// Returns how many bytes of anomalies were not written: a limit was reached, or the file system failed.
    pub fn dropped(&self) -> u64 {
        self.0.writer.dropped()
    }

    /// Returns the first error of the file system, if there was one.
    pub fn failure(&self) -> Option<String> {
        self.0.writer.failure()
    }

    /// Blocks until all anomalies so far are written, or for `at_most`; whether they are.
    pub fn flush(&self, at_most: Duration) -> bool {
        self.0.writer.flush(at_most)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("memory", &self.memory()).field("files", &self.files()).finish_non_exhaustive()
    }
}

/// The sink of one session.
struct RingSink {
    ring: Ring,
    session: SessionId,
    file: FileNumber,
    name: String,
    /// What was written last, of which the pool knows the capacity. Empty, without capacity, if there was no memory.
    chunk: Vec<u8>,
    is_handshaking: bool,
    has_anomaly: bool,
}

impl RingSink {
    /// Makes room for a line; whether there is memory for it.
    fn make_room(&mut self) -> bool {
        let pool = &self.ring.0.pool;
        if self.chunk.capacity() > 0 {
            pool.put(self.session, std::mem::take(&mut self.chunk));
        }
        match pool.reserve(self.session) {
            Some(chunk) => self.chunk = chunk,
            None => pool.lose(self.session),
        }
        self.chunk.capacity() > 0
    }

    /// Writes what is in memory; with the session's last lines, its file ends.
    fn write(&mut self, is_last: bool) {
        let pool = &self.ring.0.pool;
        if self.chunk.capacity() > 0 {
            pool.put(self.session, std::mem::take(&mut self.chunk));
        }
        let taken = pool.take(self.session);
        if is_last || !taken.chunks.is_empty() {
            let is_new = !std::mem::replace(&mut self.has_anomaly, true);
            self.ring.0.writer.append(Job {
                file: self.file,
                name: is_new.then(|| self.name.clone()),
                gap: taken.has_lost && !is_new,
                chunks: taken.chunks,
                is_last,
            });
        }
    }
}

impl Sink for RingSink {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        if self.chunk.len() + ROOM > self.chunk.capacity() && !self.make_room() {
            return;
        }
        let capacity = self.chunk.capacity();
        append_event(&mut self.chunk, now, event);
        if self.chunk.capacity() > capacity {
            self.ring.0.pool.grew(self.session, self.chunk.capacity() - capacity);
        }
        if let Event::StateChanged { to, .. } = event {
            self.is_handshaking = *to == State::Handshaking;
        }
        if anomaly::is_one(event, self.is_handshaking) {
            self.write(false);
        }
    }

    fn memory(&self) -> usize {
        self.ring.0.pool.held(self.session)
    }
}

impl Drop for RingSink {
    fn drop(&mut self) {
        if self.has_anomaly {
            self.write(true);
        } else if self.chunk.capacity() > 0 {
            self.ring.0.pool.put(self.session, std::mem::take(&mut self.chunk));
        }
        self.ring.0.pool.end(self.session);
    }
}

#[cfg(test)]
#[cfg(all(feature = "sim", feature = "view"))]
mod tests;
