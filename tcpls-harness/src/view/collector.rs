//! Makes a page while the trace is written.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tcpls_core::trace::Sink;

use super::page::Page;
use super::reader::{Lines, TraceError};
use crate::trace::EndLines;

/// A writer of JSON lines that keeps what a page needs of them, a few bytes for each event.
///
/// Clones share what they collect: one is given to what writes the trace, another makes the page at the end.
///
/// ```
/// use tcpls_harness::core::Connection;
/// use tcpls_harness::trace::JsonLines;
/// use tcpls_harness::view::Collector;
///
/// fn trace(conn: &mut Connection) -> Collector {
///     let collector = Collector::default();
///     conn.set_trace(Some(Box::new(JsonLines::new(collector.clone()))));
///     collector
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Collector(Arc<Mutex<Result<Lines, Option<TraceError>>>>);

impl Default for Collector {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Ok(Lines::new()))))
    }
}

impl Collector {
    fn get(&self) -> MutexGuard<'_, Result<Lines, Option<TraceError>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a sink for one end of a session: `host` is `client` or `server`, and the number of the session the same at
    /// both ends.
    pub fn sink(&self, host: &str, session: u64) -> Box<dyn Sink> {
        // The collector has the error.
        Box::new(EndLines::new(self.clone(), host, session))
    }

    /// Makes the page of what was written until now; what is written later is an error.
    ///
    /// # Errors
    /// Those of [`Page::of_trace`]. Called again: there is no event.
    pub fn page(&self) -> Result<Page, TraceError> {
        match std::mem::replace(&mut *self.get(), Err(None)) {
            Ok(lines) => lines.finish().map(Page::new),
            Err(error) => Err(error.unwrap_or(TraceError::Empty)),
        }
    }
}

impl Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.get();
        match state.as_mut().map(|lines| lines.push(bytes)) {
            Ok(Ok(())) => Ok(bytes.len()),
            Ok(Err(error)) => {
                let text = error.to_string();
                *state = Err(Some(error));
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
            Err(_) => Err(io::Error::other("the page has been made, or an earlier line was wrong")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::Time;
    use tcpls_core::trace::Event;

    use super::*;

    #[test]
    fn lines_may_be_written_in_pieces() {
        let collector = Collector::default();
        let text = concat!(r#"{"t":1,"what":"probed","tcp":0}"#, "\n", r#"{"t":2,"what":"probed","tcp":0}"#, "\n");
        for byte in text.as_bytes().chunks(1) {
            collector.clone().write_all(byte).unwrap();
        }
        assert_eq!(collector.page().unwrap().events(), 2);
        assert!(matches!(collector.page(), Err(TraceError::Empty)));
        collector.clone().write_all(b"{}").unwrap_err();
    }

    #[test]
    fn sinks_of_both_ends_collect_one_page() {
        let collector = Collector::default();
        for (host, tcp) in [("client", 0), ("server", 0), ("client", 1)] {
            collector.sink(host, 7).event(Time::from_millis(3), &Event::Probed { tcp: tcpls_core::ConnectionId(tcp) });
        }
        let mut html = Vec::new();
        let page = collector.page().unwrap();
        page.write(&mut html).unwrap();
        let html = String::from_utf8(html).unwrap();
        assert_eq!(page.events(), 3);
        assert!(html.contains(r#""sessions":[{"number":7,"ends":[0,1]"#), "{html}");
    }

    #[test]
    fn first_error_is_kept() {
        let collector = Collector::default();
        collector.clone().write_all(b"{}\n").unwrap_err();
        collector.clone().write_all(br#"{"t":1,"what":"probed","tcp":0}"#).unwrap_err();
        assert!(collector.page().unwrap_err().to_string().starts_with("line 1 "));
    }
}
