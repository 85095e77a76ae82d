//! Traces of sessions as JSON lines.
//!
//! [`JsonLines`] is a [`Sink`] that writes each event of a session as one line; [`Connection::set_trace`] attaches it.
//! [`EventJson`] serializes a single event with `serde`, for lines with more in them. `docs/trace.md` lists the events,
//! their fields and units. No line contains stream data, a token or a key.
//!
//! ```
//! use tcpls_harness::core::Connection;
//! use tcpls_harness::trace::JsonLines;
//!
//! fn trace(conn: &mut Connection) {
//!     conn.set_trace(Some(Box::new(JsonLines::new(std::io::stderr()))));
//! }
//! ```
//!
//! [`Connection::set_trace`]: tcpls_core::Connection::set_trace

mod content;
#[cfg(any(feature = "sim", feature = "view"))]
mod ends;
mod event;
mod files;
mod frequent;
pub mod qlog;
pub mod ring;

#[cfg(any(feature = "sim", feature = "view"))]
pub(crate) use self::ends::EndLines;
#[cfg(feature = "sim")]
pub(crate) use self::event::variant;

use std::io::Write;

use serde::Serialize;
use tcpls_core::Time;
use tcpls_core::trace::{Event, Sink};

/// An event as a JSON object: its name as `what`, in kebab case, and its fields.
///
/// Durations and times are numbers of nanoseconds, sizes are in bytes, rates in bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct EventJson<'a>(pub &'a Event<'a>);

/// Writes the events of a session as JSON lines: `t`, the time in nanoseconds, and what [`EventJson`] has.
///
/// A sink cannot report that writing failed: what cannot be written is left out. Each line is one call of `write_all`, so
/// give it a buffered writer.
#[derive(Debug)]
pub struct JsonLines<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: Write + Send> Sink for JsonLines<W> {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        self.line.clear();
        if append_event(&mut self.line, now, event) {
            _ = self.out.write_all(&self.line);
        }
    }
}

/// Appends an event as a line of JSON; whether that worked.
fn append_event(lines: &mut Vec<u8>, now: Time, event: &Event<'_>) -> bool {
    #[derive(Serialize)]
    struct Line<'a> {
        t: u64,
        #[serde(flatten)]
        event: EventJson<'a>,
    }
    let t = now.as_nanos();
    frequent::append(lines, t, event) || append(lines, &Line { t, event: EventJson(event) })
}

/// Appends `value` as a line of JSON; whether that worked.
pub(crate) fn append(lines: &mut Vec<u8>, value: &impl Serialize) -> bool {
    let start = lines.len();
    let written = serde_json::to_writer(&mut *lines, value).is_ok();
    if written {
        lines.push(b'\n');
    } else {
        lines.truncate(start);
    }
    written
}
