//! The server's front door: tells, for each TCP connection that was accepted, whether it starts a session or joins one.
//!
//! The endpoint owns no `Connection` and exchanges nothing with one; it reads ClientHellos and opens tokens. Where the
//! sessions are kept, and how a join finds its own, is decided by the caller (in this process or in another).
//!
//! What it holds per TCP connection is a deadline. The bytes stay in the caller's buffer, which need not grow beyond
//! one ClientHello (16 KiB and its record headers): a longer one is refused.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::crypto::plaintext_alert;
use crate::crypto::rng::{Rng, Seed};
use crate::error::{Alert, ConfigError};
use crate::time::Time;
use crate::token::TokenSecret;
use crate::wire::hello::{ClientHello, ExtensionTypes, peek_client_hello};
use crate::wire::ids::SessionId;

#[cfg(test)]
mod tests;

/// The shortest time that a client may have to send its ClientHello.
const MIN_HELLO_TIMEOUT: Duration = Duration::from_millis(100);

/// Settings of an [`Endpoint`].
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// TCP connections whose ClientHello is not complete. One more, and the oldest is refused. At least 1.
    pub max_pending: usize,
    /// How long a client may take to send its ClientHello.
    pub hello_timeout: Duration,
    /// The code points of TCPLS's TLS extensions.
    pub extensions: ExtensionTypes,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self { max_pending: 1024, hello_timeout: Duration::from_secs(5), extensions: ExtensionTypes::default() }
    }
}

impl EndpointConfig {
    /// Whether these settings can work. An [`Endpoint`] takes all others for the least that can.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("max_pending", self.max_pending as u64, 1, "TCP connection")?;
        ConfigError::lasts("hello_timeout", self.hello_timeout, MIN_HELLO_TIMEOUT)
    }
}

/// Names an accepted TCP connection until it is known what it is. Never given twice by one [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(u64);

impl fmt::Display for IncomingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incoming {}", self.0)
    }
}

/// A session that is about to begin, with what it needs to make tokens. To be passed to `Connection::server`.
#[derive(Debug)]
pub struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) secret: Arc<TokenSecret>,
}

impl NewSession {
    /// What [`Join::session`] of this session's joins will be.
    pub fn id(&self) -> SessionId {
        self.id
    }
}

/// A TCP connection that showed a token of this endpoint's making. To be passed to `Connection::handle_join`.
///
/// The token is authentic, and so are the numbers that were in it; but it may have been used before, or have been overheard:
/// the session finds that out.
#[derive(Debug)]
pub struct Join {
    pub(crate) session: SessionId,
    pub(crate) sequence: u32,
    pub(crate) hello: Box<ClientHello>,
}

impl Join {
    /// The session that the token belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The token's sequence number, which is the TCP connection's ID if the session takes it in (draft, 4.2.1).
    pub fn sequence(&self) -> u32 {
        self.sequence
    }
}

/// What an accepted TCP connection turned out to be.
#[derive(Debug)]
pub enum Incoming {
    /// A client that starts a session, with TCPLS or without. Nothing was taken out of the buffer: its bytes are the
    /// first that the new `Connection` gets, on TCP connection 0.
    New(NewSession),
    /// A client that joins a session. The ClientHello was taken out of the buffer; what is left in it goes to that
    /// session's `Connection`, with the claim that `handle_join` gives. If there is no such session, the answer is
    /// [`Endpoint::refuse_join`].
    Join(Join),
    /// Not a client of ours: these bytes are to be sent, then the TCP connection is to be closed.
    Refused {
        /// A TLS alert record.
        alert: Vec<u8>,
    },
}

/// Recognises what accepted TCP connections are; see the module's description.
///
/// All calls are harmless in any order: an [`IncomingId`] that is unknown or settled is ignored.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    secret: Arc<TokenSecret>,
    rng: Rng,
    /// The latest time that a call reported: time does not run backwards here.
    now: Time,
    next: u64,
    /// Until when the ClientHello must be there. IDs ascend and time does, so the first is the oldest and due first.
    pending: BTreeMap<IncomingId, Time>,
    /// Refused without a call, not yet reported to the caller, which still holds a socket for each.
    refused: VecDeque<(IncomingId, Vec<u8>)>,
}

impl Endpoint {
    /// An endpoint that makes and reads tokens with `secret`: 32 bytes of the operating system's CSPRNG, the same for
    /// all endpoints of a server farm. Session IDs are drawn from `seed`, which must be different for each endpoint.
    pub fn new(config: EndpointConfig, secret: [u8; 32], seed: Seed) -> Self {
        Self {
            config,
            secret: Arc::new(TokenSecret::new(secret)),
            rng: Rng::new(&seed, b"tcpls endpoint"),
            now: Time::ZERO,
            next: 0,
            pending: BTreeMap::new(),
            refused: VecDeque::new(),
        }
    }

    /// A TCP connection was accepted. If too many are pending, the oldest is refused.
    pub fn handle_accepted(&mut self, now: Time) -> IncomingId {
        self.advance(now);
        while self.pending.len() >= self.config.max_pending.max(1) {
            self.refuse_oldest();
        }
        let incoming = IncomingId(self.next);
        self.next += 1;
        self.pending.insert(incoming, self.now + self.config.hello_timeout.max(MIN_HELLO_TIMEOUT));
        incoming
    }

    /// `bytes` are all that came on this TCP connection so far. `None`: more are needed to tell what it is.
    ///
    /// Once it gave something, the TCP connection is no longer the endpoint's concern.
    pub fn handle_bytes(&mut self, now: Time, incoming: IncomingId, bytes: &mut BytesMut) -> Option<Incoming> {
        self.advance(now);
        if !self.pending.contains_key(&incoming) {
            return None;
        }
        let decided = match peek_client_hello(bytes, &self.config.extensions) {
            Ok(None) => return None,
            Ok(Some((hello, len))) => self.recognise(hello, len, bytes),
            Err(error) => refused(error.alert()),
        };
        self.pending.remove(&incoming);
        Some(decided)
    }

    /// The TCP connection ended, or the caller lost interest in it.
    pub fn handle_end(&mut self, incoming: IncomingId) {
        self.pending.remove(&incoming);
    }

    /// Refuses TCP connections whose ClientHello is overdue. Early or late calls are harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
        while self.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.refuse_oldest();
        }
    }

    /// When [`Endpoint::handle_timeout`] has something to do; `None`: never, as things stand.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.pending.first_key_value().map(|(_, &deadline)| deadline)
    }

    /// A TCP connection that was refused because its time was up or because too many were pending: the bytes are to be
    /// sent as far as that is possible at once, then it is to be closed. To be called until `None` after
    /// [`Endpoint::handle_accepted`] and [`Endpoint::handle_timeout`].
    pub fn poll_refused(&mut self) -> Option<(IncomingId, Vec<u8>)> {
        self.refused.pop_front()
    }

    /// What to send, before closing, to a client that joins a session which is gone or never was here: the same alert
    /// as for a token that is not authentic, so that the client cannot distinguish the two (draft, 5.1.2).
    pub fn refuse_join(_join: &Join) -> Vec<u8> {
        plaintext_alert(Alert::IllegalParameter).to_vec()
    }

    /// What to send, before closing, to a client that may have done nothing wrong, but has to make room for another: the
    /// alerts user_canceled and close_notify (RFC 8446, 6.1).
    pub fn refuse_crowded() -> Vec<u8> {
        [Alert::UserCanceled, Alert::CloseNotify].map(plaintext_alert).concat()
    }

    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    // draft I14
    fn recognise(&mut self, hello: ClientHello, len: usize, bytes: &mut BytesMut) -> Incoming {
        let Some(token) = hello.join else {
            return Incoming::New(self.new_session());
        };
        // draft E10
        let Some((session, sequence)) = self.secret.open(&token) else {
            return refused(Alert::IllegalParameter);
        };
        bytes.advance(len.min(bytes.len()));
        Incoming::Join(Join { session, sequence, hello: Box::new(hello) })
    }

    fn new_session(&mut self) -> NewSession {
        NewSession { id: SessionId(self.rng.bytes()), secret: self.secret.clone() }
    }

    fn refuse_oldest(&mut self) {
        if let Some((incoming, _)) = self.pending.pop_first() {
            self.refused.push_back((incoming, Self::refuse_crowded()));
        }
    }
}

fn refused(alert: Alert) -> Incoming {
    Incoming::Refused { alert: plaintext_alert(alert).to_vec() }
}
