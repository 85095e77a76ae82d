//! Sockets that are not part of a session yet: connecting ones, and connected ones that wait for their use.
//! [`crate::dial`], or the application, decides about them.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::dial::{AttemptId, Path};
use crate::net::session::{AddTcpError, Connected, Opened};
use crate::net::socket::{Dialed, SocketOptions, dial};

/// The sockets of a dialer's attempts.
pub(crate) struct Dials {
    options: SocketOptions,
    /// How long a socket that the application wants may take to connect.
    timeout: Duration,
    connecting: JoinSet<(AttemptId, io::Result<Dialed>)>,
    paths: BTreeMap<AttemptId, (Path, AbortHandle)>,
    connected: BTreeMap<AttemptId, Dialed>,
    adding: JoinSet<Option<(Path, Dialed, oneshot::Sender<Opened>)>>,
}

impl Dials {
    pub(crate) fn new(options: SocketOptions, timeout: Duration) -> Self {
        Self {
            options,
            timeout,
            connecting: JoinSet::new(),
            paths: BTreeMap::new(),
            connected: BTreeMap::new(),
            adding: JoinSet::new(),
        }
    }

    /// Begins to connect; with `in_syn`, what is written first may go into the SYN. To be called within a tokio runtime.
    pub(crate) fn connect(&mut self, attempt: AttemptId, path: Path, in_syn: bool) {
        let options = self.options;
        let task = self.connecting.spawn(async move { (attempt, dial(path, &options, in_syn).await) });
        self.paths.insert(attempt, (path, task));
    }

    /// Closes the socket in any state; returns its addresses if it was not connected.
    pub(crate) fn abandon(&mut self, attempt: AttemptId) -> Option<Path> {
        remove(&mut self.connected, attempt);
        let (path, task) = remove(&mut self.paths, attempt)?;
        task.abort();
        Some(path)
    }

    /// Waits for the next result of connecting; pending if no socket is connecting.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(AttemptId, Path, io::Result<Connected>)> {
        while let Some(ended) = ready!(self.connecting.poll_join_next(cx)) {
            // Aborted tasks have no result.
            let Ok((attempt, outcome)) = ended else { continue };
            let Some((path, _)) = remove(&mut self.paths, attempt) else { continue };
            let outcome = outcome.map(|dialed| {
                let is_deferred = dialed.is_deferred();
                self.connected.insert(attempt, dialed);
                if is_deferred { Connected::Deferred } else { Connected::Now }
            });
            return Poll::Ready((attempt, path, outcome));
        }
        Poll::Pending
    }

    /// Removes and returns a connected socket.
    pub(crate) fn take(&mut self, attempt: AttemptId) -> Option<Dialed> {
        remove(&mut self.connected, attempt)
    }

    /// Begins to connect a socket that the application wants. To be called within a tokio runtime.
    pub(crate) fn add(&mut self, path: Path, mut opened: oneshot::Sender<Opened>) {
        let (options, timeout) = (self.options, self.timeout);
        self.adding.spawn(async move {
            let connected = {
                let mut connected = pin!(tokio::time::timeout(timeout, dial(path, &options, false)));
                poll_fn(|cx| match opened.poll_closed(cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => connected.as_mut().poll(cx).map(Some),
                })
                .await?
            };
            match connected.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(dialed) => Some((path, dialed, opened)),
                Err(error) => {
                    _ = opened.send(Err(AddTcpError::Tcp(path.remote, error)));
                    None
                }
            }
        });
    }

    /// The next socket that the application wants and that is connected.
    pub(crate) fn poll_added(&mut self, cx: &mut Context<'_>) -> Poll<(Path, Dialed, oneshot::Sender<Opened>)> {
        while !self.adding.is_empty() {
            let ended = ready!(self.adding.poll_join_next(cx));
            if let Some(Ok(Some((path, dialed, opened)))) = ended
                && !opened.is_closed()
            {
                return Poll::Ready((path, dialed, opened));
            }
        }
        Poll::Pending
    }
}

/// Removes an entry. A session dials seldom: a map without any keeps no memory, which would be 1 KiB.
fn remove<V>(map: &mut BTreeMap<AttemptId, V>, attempt: AttemptId) -> Option<V> {
    let removed = map.remove(&attempt);
    if map.is_empty() {
        *map = BTreeMap::new();
    }
    removed
}
