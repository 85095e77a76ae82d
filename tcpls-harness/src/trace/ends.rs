//! Lines that name the host and the session of an event, as a simulation writes them.

use std::io::Write;

use serde::Serialize;
use tcpls_core::Time;
use tcpls_core::trace::{Event, Sink};

use super::{EventJson, append};

/// Writes the events of one end of a session. What cannot be written is left out.
pub(crate) struct EndLines<W> {
    out: W,
    host: String,
    session: u64,
    line: Vec<u8>,
}

impl<W: Write + Send> EndLines<W> {
    /// `session` is the same number at both ends.
    pub(crate) fn new(out: W, host: &str, session: u64) -> Self {
        Self { out, host: host.to_owned(), session, line: Vec::new() }
    }
}

impl<W: Write + Send> Sink for EndLines<W> {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        #[derive(Serialize)]
        struct Line<'a> {
            t: u64,
            at: &'a str,
            session: u64,
            #[serde(flatten)]
            event: EventJson<'a>,
        }
        self.line.clear();
        let line = Line { t: now.as_nanos(), at: &self.host, session: self.session, event: EventJson(event) };
        if append(&mut self.line, &line) {
            _ = self.out.write_all(&self.line);
        }
    }
}
