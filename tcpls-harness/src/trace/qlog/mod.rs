//! Traces of sessions in the format of qlog (draft-ietf-quic-qlog-main-schema-14), as JSON text sequences (RFC 7464).
//!
//! [`Qlog`] writes a file for each session, in a thread of its own, without blocking a session. [`JsonSeq`] is a
//! [`Sink`] that writes one trace wherever you like. `docs/qlog.md` lists the events of the namespace `tcpls`;
//! `docs/qlog.schema.json` is its JSON Schema. No record contains stream data, a token or a key.
//!
//! | file | subject |
//! | --- | --- |
//! | `header` | the first record of a trace |
//! | `event`, `frame` | events and frames as JSON |
//! | `writer` | [`Qlog`]: a bounded queue, and the thread that writes files |
//!
//! ```
//! use tcpls_harness::core::{Connection, Time};
//! use tcpls_harness::trace::qlog::{Header, JsonSeq};
//!
//! fn trace(conn: &mut Connection, now: Time) {
//!     let header = Header::new(conn.side(), now);
//!     conn.set_trace(Some(Box::new(JsonSeq::new(std::io::stderr(), &header))));
//! }
//! ```

mod event;
mod frame;
mod header;
mod writer;

use std::io::Write;

use tcpls_core::Time;
use tcpls_core::trace::{Event, Sink};

pub use self::header::Header;
pub use self::writer::{Qlog, QlogOptions};

/// What precedes each record (RFC 7464, 2.2).
const RECORD_SEPARATOR: u8 = 0x1e;

/// Makes the records of one trace, each in the same buffer.
#[derive(Debug)]
struct Records {
    started: Time,
    record: Vec<u8>,
}

impl Records {
    fn new(started: Time) -> Self {
        Self { started, record: Vec::new() }
    }

    /// Returns a value as a record; `None` if it has no form in JSON.
    fn of(&mut self, value: &impl serde::Serialize) -> Option<&[u8]> {
        self.record.clear();
        self.record.push(RECORD_SEPARATOR);
        serde_json::to_writer(&mut self.record, value).ok()?;
        self.record.push(b'\n');
        Some(&self.record)
    }

    fn event(&mut self, now: Time, event: &Event<'_>) -> Option<&[u8]> {
        let started = self.started;
        self.of(&event::Record::new(started, now, event))
    }
}

/// Writes the events of a session as a JSON text sequence.
///
/// A sink cannot report that writing failed: what cannot be written is left out. Each record is one call of `write_all`,
/// so give it a buffered writer. The session waits for a writer that blocks; [`Qlog`] does not block.
#[derive(Debug)]
pub struct JsonSeq<W> {
    out: W,
    records: Records,
}

impl<W: Write + Send> JsonSeq<W> {
    /// Writes the first record to `out`.
    pub fn new(mut out: W, header: &Header) -> Self {
        let mut records = Records::new(header.started);
        if let Some(record) = records.of(header) {
            _ = out.write_all(record);
        }
        Self { out, records }
    }
}

impl<W: Write + Send> Sink for JsonSeq<W> {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        if let Some(record) = self.records.event(now, event) {
            _ = self.out.write_all(record);
        }
    }
}
