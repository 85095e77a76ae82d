//! A client's tunnel: one long-lived session, replaced by a new one when it ends.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tcpls_core::error::CloseReason;
use tcpls_core::stats::{TcpPhase, TcpStats};
use tokio::sync::{Notify, watch};

use super::client::request;
use super::refusal::Refusal;
use super::target::Target;
use super::users::Credentials;
use crate::net::{Runtime, Session, Stream};

/// The pause before a new session is tried; it doubles with each failure.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long a pause lasts at least before a new request for a connection ends it.
const ASKED_PAUSE: Duration = Duration::from_secs(1);
/// A session that lasted this long was no failure.
const LASTING: Duration = Duration::from_secs(10);

/// Options of a tunnel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunnelOptions {
    /// What the server requires.
    pub credentials: Option<Credentials>,
    /// How long a request waits for a session, for a path if the session has none, and for the answer.
    pub wait: Duration,
    /// The interval of Pings that keep a session without streams from being idle; `None`: it ends when it is idle.
    pub keep_alive: Option<Duration>,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self { credentials: None, wait: Duration::from_secs(30), keep_alive: Some(Duration::from_secs(20)) }
    }
}

impl TunnelOptions {
    /// Returns the same with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What happens to a tunnel's sessions, for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TunnelReport<E> {
    /// There is a session.
    Began(Session),
    /// The server drains the session: a new one is tried, while the connections of the old one continue.
    Draining,
    /// The session ended; a new one is tried.
    Ended(CloseReason),
    /// No session could be made; it is tried again.
    Failed(E),
}

/// A client's tunnel. Clones share the session, which is closed when the last clone and stream are dropped.
///
/// Streams stay open while the session has no TCP connection. They end with the session; a new session serves new requests,
/// unless the application closed it ([`Session::close`]): then the tunnel has ended, and refuses requests.
/// If the server drains a session, new requests use a new one at once, and the streams of the old one continue.
#[derive(Clone)]
pub struct Tunnel {
    runtime: Runtime,
    options: TunnelOptions,
    session: watch::Receiver<Option<Session>>,
    /// Notified when a request waits for a session.
    asked: Arc<Notify>,
}

impl Tunnel {
    /// Keeps a session that `dial` makes: `first`, if there is one already, then others. Failures are repeated with pauses
    /// of 0.1 s to 15 s; a new request for a connection ends a pause after 1 s to 1.5 s.
    pub fn start<D, F, E>(
        runtime: &Runtime,
        options: TunnelOptions,
        first: Option<Session>,
        dial: D,
        report: impl Fn(TunnelReport<E>) + Send + Sync + 'static,
    ) -> Self
    where
        D: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Session, E>> + Send,
        E: Send + 'static,
    {
        let (sender, session) = watch::channel(first.clone());
        let asked = Arc::new(Notify::new());
        let keep_alive = options.keep_alive;
        let keeper = Keeper { runtime: runtime.clone(), keep_alive, sender, asked: asked.clone() };
        drop(runtime.spawn(async move { keeper.run(first, dial, report).await }));
        Self { runtime: runtime.clone(), options, session, asked }
    }

    /// Returns the session, if there is one.
    pub fn session(&self) -> Option<Session> {
        self.session.borrow().clone()
    }

    /// Asks the server for a connection to `target`, as [`request`] does. If the session ends or is drained before the answer,
    /// the next one is asked: nothing was sent to the target yet.
    ///
    /// Cancel safe: the stream is reset.
    ///
    /// # Errors
    /// The server's refusal; after [`TunnelOptions::wait`], [`Refusal::NoSession`] if there is no session, or no TCP
    /// connection of it works, and [`Refusal::TimedOut`] if the server gives no answer.
    pub async fn connect(&self, target: &Target) -> Result<(Stream, Bytes), Refusal> {
        self.runtime.timeout(self.options.wait, self.connect_patiently(target)).await.unwrap_or_else(|| {
            let is_reached = self.session().is_some_and(|session| session.stats().tcp.iter().any(works));
            Err(if is_reached { Refusal::TimedOut } else { Refusal::NoSession })
        })
    }

    async fn connect_patiently(&self, target: &Target) -> Result<(Stream, Bytes), Refusal> {
        let mut sessions = self.session.clone();
        loop {
            if sessions.borrow().is_none() {
                self.asked.notify_one();
            }
            let Ok(Some(session)) = sessions.wait_for(Option::is_some).await.map(|session| session.clone()) else {
                return Err(Refusal::NoSession);
            };
            match request(&session, target, self.options.credentials.as_ref()).await {
                Err(Refusal::NoSession) => {
                    // The keeper notices it, too.
                    let is_next = |next: &Option<Session>| {
                        next.as_ref().is_none_or(|next| next.close_reason().is_none() && !next.is_draining())
                    };
                    _ = sessions.wait_for(is_next).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Whether the server answers on this TCP connection.
fn works(tcp: &TcpStats) -> bool {
    matches!(tcp.phase, TcpPhase::Active | TcpPhase::Retiring) && !tcp.stalled
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("session", &self.session()).finish_non_exhaustive()
    }
}

/// Keeps a session as long as a tunnel is there.
struct Keeper {
    runtime: Runtime,
    keep_alive: Option<Duration>,
    sender: watch::Sender<Option<Session>>,
    asked: Arc<Notify>,
}

impl Keeper {
    async fn run<D, F, E>(self, first: Option<Session>, dial: D, report: impl Fn(TunnelReport<E>))
    where
        D: Fn() -> F,
        F: Future<Output = Result<Session, E>>,
    {
        tokio::select! {
            biased;
            () = self.sender.closed() => {}
            () = self.keep(first, dial, report) => {}
        }
    }

    async fn keep<D, F, E>(&self, mut first: Option<Session>, dial: D, report: impl Fn(TunnelReport<E>))
    where
        D: Fn() -> F,
        F: Future<Output = Result<Session, E>>,
    {
        let mut pause = MIN_PAUSE;
        loop {
            let dialed = match first.take() {
                Some(session) => Ok(session),
                None => dial().await,
            };
            let began = self.runtime.now();
            match dialed {
                Ok(session) => {
                    session.set_keep_alive(self.keep_alive);
                    report(TunnelReport::Began(session.clone()));
                    self.sender.send_replace(Some(session.clone()));
                    session.draining().await;
                    self.sender.send_replace(None);
                    if self.runtime.now() - began >= LASTING {
                        pause = MIN_PAUSE;
                    }
                    match session.close_reason() {
                        // The application closed it, and wants no other.
                        Some(CloseReason::Local { .. }) => return,
                        Some(reason) => report(TunnelReport::Ended(reason)),
                        // Its streams keep it. A server whose sessions are all drained at once must not be asked in a loop.
                        None => {
                            report(TunnelReport::Draining);
                            if pause == MIN_PAUSE {
                                pause *= 2;
                                continue;
                            }
                        }
                    }
                }
                Err(error) => report(TunnelReport::Failed(error)),
            }
            self.rest(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Waits for `pause`, or until a program asks for a connection, but not at once.
    async fn rest(&self, pause: Duration) {
        let least = pause.min(ASKED_PAUSE);
        self.runtime.sleep(self.jittered(least)).await;
        tokio::select! {
            biased;
            () = self.asked.notified() => {}
            () = self.runtime.sleep(self.jittered(pause - least)) => {}
        }
    }

    /// A time of up to one and a half `pause`: clients of a server that restarts must not all return at once.
    fn jittered(&self, pause: Duration) -> Duration {
        pause + Duration::from_millis(self.runtime.random() % (pause.as_millis() as u64 / 2).max(1))
    }
}
