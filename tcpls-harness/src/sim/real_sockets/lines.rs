//! The trace of a run over real sockets, in the lines of a simulated one, so that both make the same kind of page.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tcpls_core::ConnectionId;

use crate::net::{Runtime, Session};
use crate::sim::scenario::{Fault, Scenario};
use crate::trace::EndLines;

type Output = Box<dyn Write + Send>;

/// Where lines go, if anywhere. Both ends share it.
#[derive(Clone)]
pub(super) struct Lines(Option<Arc<Mutex<Output>>>);

impl Lines {
    /// Begins with what the run is.
    pub(super) fn new(out: Option<Output>, scenario: &Scenario) -> Self {
        let lines = Self(out.map(|out| Arc::new(Mutex::new(out))));
        lines.add(json!({ "at": "network", "what": "run", "title": format!("{} (real sockets)", scenario.title) }));
        for (path, name) in scenario.path.iter().map(|path| &path.name).enumerate() {
            lines.add(json!({ "at": "network", "what": "path", "path": path, "name": name }));
        }
        lines
    }

    /// Takes the events of both ends from now on.
    pub(super) fn add_to(&self, client: &Session, server: &Session) {
        if self.0.is_some() {
            client.add_trace(Box::new(EndLines::new(self.clone(), "client", 0)));
            server.add_trace(Box::new(EndLines::new(self.clone(), "server", 0)));
        }
    }

    /// A TCP connection goes over this path.
    pub(super) fn attached(&self, tcp: ConnectionId, path: usize) {
        for end in ["client", "server"] {
            self.add(json!({ "at": end, "session": 0, "what": "attached", "tcp": tcp.0, "path": path }));
        }
    }

    /// A fault begins or (`over`) ends.
    pub(super) fn fault(&self, fault: &Fault, over: bool) {
        self.add(json!({ "at": "network", "what": "fault", "fault": fault.kind, "path": fault.path, "over": over }));
    }

    pub(super) fn flush(&self) {
        // The output keeps its error.
        _ = self.with(|out| out.flush());
    }

    fn add(&self, mut line: Value) {
        if self.0.is_some() {
            line["t"] = Runtime::tokio().now().as_nanos().into();
            // The output keeps its error.
            _ = self.with(|out| out.write_all(format!("{line}\n").as_bytes()));
        }
    }

    fn with(&self, act: impl FnOnce(&mut Output) -> std::io::Result<()>) -> std::io::Result<()> {
        let Some(out) = &self.0 else { return Ok(()) };
        act(&mut out.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Lines {
    /// All or nothing, so that lines of the two ends do not mix.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.with(|out| out.write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.with(|out| out.flush())
    }
}
