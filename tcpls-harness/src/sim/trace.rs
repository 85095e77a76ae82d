//! A record of a run: JSON lines for people and programs, and a hash of all bytes that the hosts sent and received, so
//! that two runs can be compared by eye. The same scenario, seed and code give the same on every machine.
//!
//! The lines are the events of the sessions, as `crate::trace` has them, and what only the simulator knows. What writes
//! them does not change the hash, nor do qlog files, which have the events of one end of a session each.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use serde::Serialize;
use tcpls_core::trace::{Event, Sink};
use tcpls_core::{Side, TcpEnd, Time};

use crate::sim::network::SocketId;
use crate::sim::scenario::{ActionKind, FaultKind};
use crate::trace::qlog::{Header, Qlog};
use crate::trace::{EventJson, append};

/// Lines are written when they have this number of bytes.
const BATCH: usize = 64 << 10;

/// What happened that the sessions don't report. Lengths are in bytes.
#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub(crate) enum Note<'a> {
    /// The run begins.
    Run { title: &'a str, seed: u64 },
    /// The network has a path.
    Path { path: usize, name: &'a str },
    /// The client opens a TCP connection; `socket` names it at both ends.
    Connect { socket: u64, path: usize },
    /// The server accepted a TCP connection.
    Accepted { socket: u64 },
    /// A host wrote to a socket.
    SocketWrite { socket: u64, bytes: usize },
    /// A host read from a socket.
    SocketRead { socket: u64, bytes: usize },
    /// TCP connection `tcp` of the session uses this socket from now on.
    Attached { socket: u64, tcp: u32 },
    /// A socket ended for the session: with `fin` or `reset`.
    SocketEnd { socket: u64, tcp: u32, end: &'a str },
    /// An application opened a stream.
    StreamOpened { transfer: usize, stream: u32 },
    /// An application read.
    StreamRead { transfer: usize, bytes: usize },
    /// A stream ended for its reader.
    StreamEnd { transfer: usize, end: &'a str },
    /// A fault of the scenario begins or (`over`) ends.
    Fault { fault: FaultKind, path: Option<&'a str>, over: bool },
    /// An action of the scenario; `error` is the session's answer, if it refused.
    Action { action: ActionKind, path: Option<&'a str>, error: Option<&'a str> },
    /// A holder in the server's account gave way.
    Evicted { resource: &'a str },
    /// A middlebox on a path ended a TCP connection.
    Killed { why: &'a str },
    /// What an application notes.
    #[serde(rename = "note")]
    Said { text: &'a str },
    /// A value that an application records.
    Metric { name: &'a str, value: f64 },
}

/// Where something happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) host: Host,
    /// In which session: the number of the socket that carried its handshake, at both ends.
    pub(crate) session: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// A client, counted from 0.
    Client(usize),
    Attacker,
    Server,
    Network,
}

impl Host {
    /// At this host, in no session.
    pub(crate) fn place(self) -> Place {
        Place { host: self, session: None }
    }

    /// At this host, in the session whose handshake `first` carried.
    pub(crate) fn session(self, first: SocketId) -> Place {
        Place { host: self, session: Some(first.0) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The first one's name is that of the only one.
            Self::Client(0) => f.write_str("client"),
            Self::Client(number) => write!(f, "client {}", number + 1),
            Self::Attacker => f.write_str("attacker"),
            Self::Server => f.write_str("server"),
            Self::Network => f.write_str("network"),
        }
    }
}

/// A value that an application recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metric {
    /// When.
    pub at: f64,
    /// At which host, as the trace calls it: `client`, `client 2`, `server`.
    pub host: String,
    /// In which session: a number that is the same at both ends. `None` for faults.
    pub session: Option<u64>,
    /// What it is about.
    pub name: String,
    /// The value, in a unit that the application chose.
    pub value: f64,
}

impl Metric {
    pub(crate) fn new(now: Time, place: Place, name: &str, value: f64) -> Self {
        let Place { host, session } = place;
        Self { at: seconds(now), host: host.to_string(), session, name: name.to_owned(), value }
    }
}

/// Times in reports are in seconds.
pub(crate) fn seconds(time: Time) -> f64 {
    time.as_nanos() as f64 / 1e9
}

#[derive(Serialize)]
struct Line<T> {
    t: u64,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<u64>,
    #[serde(flatten)]
    what: T,
}

/// The lines that are not written yet. Sinks and the tasks of applications append to them, too.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Buffer>>);

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    last: Time,
}

impl Lines {
    fn get(&self) -> MutexGuard<'_, Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn append(&self, now: Time, place: Place, what: impl Serialize) {
        let mut buffer = self.get();
        // A session has no other time than that of its last call.
        buffer.last = buffer.last.max(now);
        let (t, at) = (buffer.last.as_nanos(), place.host.to_string());
        append(&mut buffer.lines, &Line { t, at, session: place.session, what });
    }
}

/// The sink of one session.
struct SessionSink {
    place: Place,
    lines: Lines,
}

impl Sink for SessionSink {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.lines.append(now, self.place, EventJson(event));
    }
}

/// Where the qlog files of a run's sessions are written.
pub(crate) struct QlogFiles {
    qlog: Qlog,
    /// What each file's title begins with.
    title: String,
}

impl QlogFiles {
    pub(crate) fn new(qlog: Qlog, title: String) -> Self {
        Self { qlog, title }
    }

    /// Times count from the beginning of the run, so that those of its files can be compared.
    fn sink(&self, Place { host, session }: Place) -> Box<dyn Sink> {
        let side = if host == Host::Server { Side::Server } else { Side::Client };
        let number = session.map_or(String::new(), |session| format!(", session {session}"));
        let title = format!("{}: {host}{number}", self.title);
        self.qlog.sink(&Header::new(side, Time::ZERO).with(|header| header.title = Some(title)))
    }
}

/// The record of a run.
pub(crate) struct Trace {
    digest: Option<Context>,
    file: Option<(Lines, Box<dyn Write>)>,
    qlog: Option<QlogFiles>,
    /// Where things happen now.
    place: Place,
}

impl Trace {
    /// Hashes what is sent and received, if `hash` says so, and writes lines to `file` and the files of `qlog`, if there are
    /// any.
    pub(crate) fn new(hash: bool, file: Option<Box<dyn Write>>, qlog: Option<QlogFiles>) -> Self {
        Self {
            digest: hash.then(|| Context::new(&SHA256)),
            file: file.map(|file| (Lines::default(), file)),
            qlog,
            place: Host::Network.place(),
        }
    }

    /// What happens from now on happens there.
    pub(crate) fn set_place(&mut self, place: Place) {
        self.place = place;
    }

    /// Where to append lines, if there is a file.
    pub(crate) fn lines(&self) -> Option<Lines> {
        self.file.as_ref().map(|(lines, _)| lines.clone())
    }

    /// The sink for a session, if its events are written.
    pub(crate) fn sink(&self, place: Place) -> Option<Box<dyn Sink>> {
        let lines = self.lines().map(|lines| Box::new(SessionSink { place, lines }) as Box<dyn Sink>);
        let sinks: Vec<_> = lines.into_iter().chain(self.qlog.as_ref().map(|qlog| qlog.sink(place))).collect();
        (!sinks.is_empty()).then(|| Box::new(sinks) as Box<dyn Sink>)
    }

    /// Notes what happened.
    pub(crate) fn note(&mut self, now: Time, note: &Note<'_>) {
        if let Some((lines, _)) = &self.file {
            lines.append(now, self.place, note);
        }
    }

    /// A host wrote `bytes` to a socket.
    pub(crate) fn wrote(&mut self, now: Time, side: Side, socket: SocketId, bytes: &[u8]) {
        self.hash(now, b"write", side, socket, bytes);
        self.note(now, &Note::SocketWrite { socket: socket.0, bytes: bytes.len() });
    }

    /// A host read `bytes` from a socket.
    pub(crate) fn read(&mut self, now: Time, side: Side, socket: SocketId, bytes: &[u8]) {
        self.hash(now, b"read", side, socket, bytes);
        self.note(now, &Note::SocketRead { socket: socket.0, bytes: bytes.len() });
    }

    /// The socket of a TCP connection ended for a session.
    pub(crate) fn ended(&mut self, now: Time, side: Side, socket: SocketId, tcp: u32, end: TcpEnd) {
        let end = if end == TcpEnd::Fin { "fin" } else { "reset" };
        self.hash(now, b"end", side, socket, end.as_bytes());
        self.note(now, &Note::SocketEnd { socket: socket.0, tcp, end });
    }

    fn hash(&mut self, now: Time, what: &[u8], side: Side, socket: SocketId, bytes: &[u8]) {
        let Some(digest) = &mut self.digest else { return };
        digest.update(what);
        digest.update(&[side as u8]);
        for number in [now.as_nanos(), socket.0, bytes.len() as u64] {
            digest.update(&number.to_be_bytes());
        }
        digest.update(bytes);
    }

    /// Writes the lines to the file, if there are enough of them.
    pub(crate) fn write(&mut self) {
        self.write_from(BATCH);
    }

    /// Writes all lines to the file.
    pub(crate) fn write_all(&mut self) {
        self.write_from(0);
        if let Some((_, file)) = &mut self.file {
            _ = file.flush();
        }
    }

    fn write_from(&mut self, least: usize) {
        let Some((lines, file)) = &mut self.file else { return };
        let mut buffer = lines.get();
        if buffer.lines.len() >= least {
            _ = file.write_all(&buffer.lines);
            buffer.lines.clear();
        }
    }

    /// The hash in hexadecimal, shortened to 16 digits; empty if there is none.
    pub(crate) fn finish(mut self) -> String {
        let digest = self.digest.take().map(Context::finish);
        digest.iter().flat_map(|digest| &digest.as_ref()[..8]).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Drop for Trace {
    /// Also if the run is dropped before its end, or panics: the last lines say what happened before.
    fn drop(&mut self) {
        self.write_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct File(Arc<Mutex<Vec<u8>>>);

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_of_a_run_that_is_dropped_are_written() {
        let file = File::default();
        let mut trace = Trace::new(false, Some(Box::new(file.clone())), None);
        trace.note(Time::ZERO, &Note::Accepted { socket: 7 });
        trace.write();
        assert!(file.0.lock().unwrap().is_empty(), "too few lines for a write");
        drop(trace);
        let text = String::from_utf8(file.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("accepted") && text.ends_with('\n'), "{text}");
    }
}
