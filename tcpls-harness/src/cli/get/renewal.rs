//! The session of a download: when it ends or is drained before all files are complete, a new one takes its place.

use std::time::Duration;

use tcpls_core::error::{CloseReason, code};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::super::output;
use super::super::progress::Progress;
use super::super::text::visible;
use crate::files::codes;
use crate::net::{Runtime, Session};

/// The pause before a second attempt; it doubles with each one.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A session that lasted this long was no failure: the next one follows without a pause.
const LASTING: Duration = Duration::from_secs(10);

/// Makes sessions.
pub(super) trait Dial {
    /// Connects, and prepares the session for downloads.
    fn dial(&self) -> impl Future<Output = Result<Session, DialError>> + Send;
}

/// Why there is no session.
pub(super) struct DialError {
    pub(super) text: String,
    /// Whether trying again can't help.
    pub(super) is_lasting: bool,
}

/// A session, and the number of those before it.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) session: Session,
    pub(crate) number: u64,
}

/// The session that all downloads of a command share.
pub(super) struct Sessions<D> {
    dial: D,
    /// How long to try for another session without receiving anything.
    wait: Duration,
    progress: Progress,
    current: watch::Sender<Turn>,
    trouble: Mutex<Trouble>,
}

/// The time without a byte.
struct Trouble {
    since: Instant,
    /// What had been received then.
    bytes: u64,
    /// When the session began.
    began: Instant,
    pause: Duration,
    /// Why no other session is tried.
    end: Option<String>,
}

impl<D: Dial> Sessions<D> {
    pub(super) fn new(first: Session, dial: D, wait: Duration, progress: Progress) -> Self {
        let now = Instant::now();
        let trouble = Trouble { since: now, bytes: 0, began: now, pause: Duration::ZERO, end: None };
        let (current, trouble) = (watch::Sender::new(Turn { session: first, number: 0 }), Mutex::new(trouble));
        Self { dial, wait, progress, current, trouble }
    }

    /// Returns the session.
    pub(super) fn current(&self) -> Turn {
        self.current.borrow().clone()
    }

    /// Returns the session, also later on.
    pub(super) fn watch(&self) -> watch::Receiver<Turn> {
        self.current.subscribe()
    }

    /// Replaces a session without TCPLS, whose only request was answered.
    ///
    /// # Errors
    /// Why there is no other session, for people.
    pub(super) async fn next(&self) -> Result<Turn, String> {
        let session = self.dial.dial().await.map_err(|error| error.text)?;
        Ok(self.replace(session))
    }

    fn replace(&self, session: Session) -> Turn {
        let turn = Turn { session, number: self.current.borrow().number + 1 };
        self.current.send_replace(turn.clone());
        turn
    }

    /// Replaces a session that has ended for `reason`, or without one is drained. The first caller says so and dials; the
    /// others wait for it.
    ///
    /// # Errors
    /// Why there is no other session, for people.
    pub(super) async fn renew(&self, ended: u64, reason: Option<&CloseReason>) -> Result<Turn, String> {
        let mut trouble = self.trouble.lock().await;
        let current = self.current();
        if current.number > ended {
            return Ok(current);
        }
        if let Some(end) = &trouble.end {
            return Err(end.clone());
        }
        trouble.note(self.progress.received());
        let event = match reason {
            Some(reason) => format!("the session ended ({})", visible(&reason.to_string())),
            None => "the server is being replaced".to_owned(),
        };
        output::tell(format_args!("tcpls: {event}; connecting again"));
        let failure = loop {
            // Clients of a server that restarts must not all return at once.
            let jitter = Runtime::tokio().random() % (trouble.pause.as_millis() as u64 / 2).max(1);
            tokio::time::sleep(trouble.pause + Duration::from_millis(jitter)).await;
            trouble.pause = (trouble.pause * 2).clamp(MIN_PAUSE, MAX_PAUSE);
            let is_over = trouble.since.elapsed() >= self.wait;
            match self.dial.dial().await {
                Ok(session) if !is_over => {
                    trouble.began = Instant::now();
                    return Ok(self.replace(session));
                }
                Ok(_) => break format!("within {} s, no session delivered anything", self.wait.as_secs()),
                Err(error) if error.is_lasting || is_over => break error.text,
                Err(_) => {}
            }
        };
        trouble.end = Some(failure.clone());
        Err(failure)
    }

    /// Whether another session may continue where one has ended that way.
    pub(super) fn may_continue(&self, reason: &CloseReason) -> bool {
        let may = match reason {
            CloseReason::Peer { error, .. } => {
                [code::NO_ERROR, code::IDLE_TIMEOUT, code::OVERLOADED, codes::STOPPING].contains(error)
            }
            CloseReason::IdleTimeout
            | CloseReason::Stranded
            | CloseReason::OutOfTokens { .. }
            | CloseReason::LostByServer
            | CloseReason::AeadLimit
            | CloseReason::PlainTcpEnded(_) => true,
            _ => false,
        };
        may && self.may_wait()
    }

    /// Whether other sessions are tried at all.
    pub(super) fn may_wait(&self) -> bool {
        !self.wait.is_zero()
    }
}

impl Trouble {
    /// A session ended after `bytes` in all.
    fn note(&mut self, bytes: u64) {
        if bytes > self.bytes || self.pause.is_zero() {
            (self.since, self.bytes) = (Instant::now(), bytes);
        }
        // A server that ends each session soon is not asked in a loop.
        if self.began.elapsed() >= LASTING {
            self.pause = Duration::ZERO;
        }
    }
}
