//! Sockets that are not part of a session yet: those that are being connected, and those that wait for their use. What is
//! done with them when is decided by [`crate::dial`].

use std::collections::BTreeMap;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};

use crate::dial::{AttemptId, Path};
use crate::net::socket::{SocketOptions, connect};

/// The sockets of a dialer's attempts.
pub(crate) struct Dials {
    options: SocketOptions,
    connecting: JoinSet<(AttemptId, io::Result<TcpStream>)>,
    paths: BTreeMap<AttemptId, (Path, AbortHandle)>,
    connected: BTreeMap<AttemptId, TcpStream>,
}

impl Dials {
    pub(crate) fn new(options: SocketOptions) -> Self {
        Self { options, connecting: JoinSet::new(), paths: BTreeMap::new(), connected: BTreeMap::new() }
    }

    /// Begins to connect. To be called within a tokio runtime.
    pub(crate) fn connect(&mut self, attempt: AttemptId, path: Path) {
        let options = self.options;
        let task = self.connecting.spawn(async move { (attempt, connect(path, &options).await) });
        self.paths.insert(attempt, (path, task));
    }

    /// Closes the socket, whatever it is doing; between which addresses it was to be, if it was not connected.
    pub(crate) fn abandon(&mut self, attempt: AttemptId) -> Option<Path> {
        self.connected.remove(&attempt);
        let (path, task) = self.paths.remove(&attempt)?;
        task.abort();
        Some(path)
    }

    /// The next socket that was connected, or could not be; pending if none is being connected.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(AttemptId, Path, io::Result<()>)> {
        while let Some(ended) = ready!(self.connecting.poll_join_next(cx)) {
            // Tasks that were aborted have nothing to say.
            let Ok((attempt, outcome)) = ended else { continue };
            let Some((path, _)) = self.paths.remove(&attempt) else { continue };
            let outcome = outcome.map(|stream| _ = self.connected.insert(attempt, stream));
            return Poll::Ready((attempt, path, outcome));
        }
        Poll::Pending
    }

    /// Takes out a connected socket.
    pub(crate) fn take(&mut self, attempt: AttemptId) -> Option<TcpStream> {
        self.connected.remove(&attempt)
    }
}
