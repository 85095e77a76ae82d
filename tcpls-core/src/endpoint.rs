//! Recognizes whether an accepted TCP connection starts a session or joins one.
//!
//! The endpoint owns no `Connection` and exchanges nothing with one; it reads ClientHellos and decrypts tokens. The
//! caller stores the sessions, and finds that of a join, in this process or in another.
//!
//! The endpoint stores one deadline per TCP connection. The bytes stay in the caller's buffer, which never needs more
//! than one ClientHello (16 KiB and its record headers): longer ones are refused.

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use crate::crypto::plaintext_alert;
use crate::crypto::rng::{Rng, Seed};
use crate::error::{Alert, ConfigError};
use crate::time::Time;
use crate::token::{TokenSecret, TokenSecrets};
use crate::wire::hello::{ClientHello, Cover, ExtensionTypes, peek_client_hello};
use crate::wire::ids::{ServerId, SessionId};

#[cfg(test)]
mod tests;

/// The smallest allowed `hello_timeout`.
const MIN_HELLO_TIMEOUT: Duration = Duration::from_millis(100);

/// Settings of an [`Endpoint`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// TCP connections without a complete ClientHello; beyond that, the oldest is refused. At least 1.
    pub max_pending: usize,
    /// How long a client may take to send its ClientHello.
    pub hello_timeout: Duration,
    /// The code points of TCPLS's TLS extensions.
    pub extensions: ExtensionTypes,
    /// The ID of this server in a farm, whose servers share the token secret: session IDs begin with it. `None`: every
    /// token that this endpoint can open counts as one of its own.
    pub server: Option<ServerId>,
}

impl EndpointConfig {
    /// Returns these settings with a change: `EndpointConfig::default().with(|config| config.max_pending = 10)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            max_pending: 1024,
            hello_timeout: Duration::from_secs(5),
            extensions: ExtensionTypes::default(),
            server: None,
        }
    }
}

impl EndpointConfig {
    /// Checks that these settings are valid. An [`Endpoint`] raises invalid ones to the smallest valid value.
    ///
    /// # Errors
    /// Returns the first invalid setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("max_pending", self.max_pending as u64, 1, "TCP connection")?;
        ConfigError::lasts("hello_timeout", self.hello_timeout, MIN_HELLO_TIMEOUT)
    }
}

/// Identifies an accepted TCP connection until it is recognized. One [`Endpoint`] never uses a value twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(u64);

impl fmt::Display for IncomingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "incoming {}", self.0)
    }
}

/// A new session, with the key for its tokens. Pass it to `Connection::server`.
#[derive(Debug)]
pub struct NewSession {
    pub(crate) id: SessionId,
    pub(crate) secret: Arc<TokenSecret>,
    pub(crate) cover: Option<Cover>,
    /// The number of the endpoint, which its sessions tell their clients.
    pub(crate) instance: u64,
}

impl NewSession {
    /// Returns the ID of the session, which [`Join::session`] returns for its joins.
    pub fn id(&self) -> SessionId {
        self.id
    }
}

/// A TCP connection that presented a token of this endpoint. Pass it to `Connection::handle_join`.
///
/// The token and the numbers in it are authentic. It may have been used before or copied by an attacker: the session
/// checks that.
#[derive(Debug)]
pub struct Join {
    pub(crate) session: SessionId,
    pub(crate) sequence: u32,
    pub(crate) hello: Box<ClientHello>,
    pub(crate) form: JoinForm,
}

/// How the ClientHello of a join carries its token.
pub(crate) enum JoinForm {
    /// In the extension `tcpls_join` (draft, 5.1.2).
    Extension,
    /// As the ticket of a TLS resumption (decision D147). These are the hello's records, for the TLS library.
    Resumption(Box<BytesMut>),
}

/// The token in the hello is not shown.
impl fmt::Debug for JoinForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension => f.write_str("Extension"),
            Self::Resumption(hello) => write!(f, "Resumption({} bytes)", hello.len()),
        }
    }
}

impl Join {
    /// Returns the session that the token belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns the token's sequence number: the connection ID, if the session accepts the join (draft, 4.2.1).
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns whether it is a TLS resumption to everyone without keys. If its session is not there, or
    /// [turns it away](crate::Connection::turns_away), it gets the answer of a new session: [`Endpoint::decline_join`].
    pub fn is_resumption(&self) -> bool {
        matches!(self.form, JoinForm::Resumption(_))
    }
}

/// A TCP connection that presented a token of another server of the farm.
///
/// The token and the numbers in it are authentic, as in [`Join`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignJoin {
    session: SessionId,
    sequence: u32,
    /// See [`Join::is_resumption`].
    is_resumption: bool,
    /// What the client may show in joins of the session that begins with it instead.
    cover: Option<Cover>,
}

impl ForeignJoin {
    /// Returns the session that the token belongs to; its ID names the server that has it.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Returns the token's sequence number.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }
}

/// The kind of an accepted TCP connection.
#[derive(Debug)]
pub enum Incoming {
    /// A client that starts a session, with or without TCPLS. All bytes are still in the buffer: pass them to the new
    /// `Connection`, as TCP connection 0.
    New(NewSession),
    /// A client that joins a session. The ClientHello was removed from the buffer. Pass the rest to that session's
    /// `Connection`, with the claim that `handle_join` returns. If there is no such session, call
    /// [`Endpoint::decline_join`].
    Join(Join),
    /// A client that joins a session of another server of the farm ([`EndpointConfig::server`]). All bytes are still in
    /// the buffer: pass them on to that server, with all that follow, or call [`Endpoint::decline_foreign_join`].
    Foreign(ForeignJoin),
    /// Not a valid client: send these bytes, then close the TCP connection.
    Refused {
        /// A TLS alert record.
        alert: Vec<u8>,
    },
}

/// Recognizes accepted TCP connections as new sessions or joins; see the module's description.
///
/// Calls are valid in any order: an unknown or recognized [`IncomingId`] is ignored.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    secrets: TokenSecrets,
    rng: Rng,
    /// Tells this endpoint apart from all others, also those that have its secrets (decision D151); not 0.
    instance: u64,
    /// The latest time of any call: time does not run backwards.
    now: Time,
    next: u64,
    /// The deadlines of the ClientHellos. IDs and times ascend, so the first is the oldest and due first.
    pending: BTreeMap<IncomingId, Time>,
    /// Refused by a deadline or for lack of room, and not yet reported to the caller, which still has their sockets.
    refused: VecDeque<(IncomingId, Vec<u8>)>,
}

impl Endpoint {
    /// Returns an endpoint that issues and decrypts tokens with `secret`: 32 bytes of the operating system's CSPRNG,
    /// the same for all endpoints of a server farm. Session IDs come from `seed`, which must differ for each endpoint, and
    /// so does the number by which clients recognize that another endpoint answers
    /// ([`CloseReason::LostByServer`](crate::error::CloseReason::LostByServer)).
    pub fn new(config: EndpointConfig, secret: [u8; 32], seed: Seed) -> Self {
        Self {
            config,
            secrets: TokenSecrets::new(secret),
            rng: Rng::new(&seed, b"tcpls endpoint"),
            instance: u64::from_be_bytes(Rng::new(&seed, b"tcpls instance").bytes()).max(1),
            now: Time::ZERO,
            next: 0,
            pending: BTreeMap::new(),
            refused: VecDeque::new(),
        }
    }

    /// Replaces the secrets. Sessions that exist go on to seal tokens with the secret that they began with.
    pub fn set_secrets(&mut self, secrets: TokenSecrets) {
        self.secrets = secrets;
    }

    /// Reports an accepted TCP connection. If too many are pending, the oldest is refused.
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

    /// Reports `bytes`: all that have arrived on this TCP connection so far. Returns `None` if more are needed.
    ///
    /// Once it has returned an [`Incoming`], the endpoint forgets the TCP connection.
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

    /// Reports that the TCP connection has ended, or that the caller no longer wants it.
    pub fn handle_end(&mut self, incoming: IncomingId) {
        self.pending.remove(&incoming);
    }

    /// Refuses TCP connections whose ClientHello is overdue. Early and late calls have no other effect.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
        while self.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
            self.refuse_oldest();
        }
    }

    /// Returns when to call [`Endpoint::handle_timeout`]; `None` if no deadline is set.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.pending.first_key_value().map(|(_, &deadline)| deadline)
    }

    /// Returns a TCP connection that was refused because its ClientHello was overdue or too many were pending. Send as
    /// many of the bytes as the socket takes at once, then close it. Call this until it returns `None`, after
    /// [`Endpoint::handle_accepted`] and [`Endpoint::handle_timeout`].
    pub fn poll_refused(&mut self) -> Option<(IncomingId, Vec<u8>)> {
        self.refused.pop_front()
    }

    /// Returns the bytes to send, before closing, to a client that joins a session that has ended or never existed
    /// here. It is the same alert as for a token that is not authentic, so that the client cannot distinguish the two
    /// (draft, 5.1.2).
    pub fn refuse_join(_join: &Join) -> Vec<u8> {
        plaintext_alert(Alert::IllegalParameter).to_vec()
    }

    /// Returns the bytes to send, before closing, to a client that joins a session of another server, if that server is
    /// unknown or cannot be reached. It is the same alert again.
    pub fn refuse_foreign_join(_join: &ForeignJoin) -> Vec<u8> {
        plaintext_alert(Alert::IllegalParameter).to_vec()
    }

    /// Decides what becomes of a join whose session has ended, never existed here, or
    /// [turns it away](crate::Connection::turns_away). `bytes` are those behind the ClientHello.
    ///
    /// A join that is a TLS resumption begins a new session, as a resumption with an unknown ticket does: the ClientHello is back
    /// in front of `bytes`. Handle it as [`Incoming::New`].
    ///
    /// # Errors
    /// Any other join is refused: returns the bytes of [`Endpoint::refuse_join`].
    pub fn decline_join(&mut self, join: Join, bytes: &mut BytesMut) -> Result<NewSession, Vec<u8>> {
        let JoinForm::Resumption(mut hello) = join.form else { return Err(Self::refuse_join(&join)) };
        hello.unsplit(core::mem::take(bytes));
        *bytes = *hello;
        Ok(self.new_session(join.hello.cover()))
    }

    /// Decides what becomes of a join of another server's session, if that server is unknown or cannot be reached.
    ///
    /// A join that is a TLS resumption begins a new session here, as with [`Endpoint::decline_join`]. All bytes are still in
    /// the buffer: handle it as [`Incoming::New`].
    ///
    /// # Errors
    /// Any other join is refused: returns the bytes of [`Endpoint::refuse_foreign_join`].
    pub fn decline_foreign_join(&mut self, join: &ForeignJoin) -> Result<NewSession, Vec<u8>> {
        if join.is_resumption { Ok(self.new_session(join.cover.clone())) } else { Err(Self::refuse_foreign_join(join)) }
    }

    /// Returns the bytes to send, before closing, to a client that has to give way to another: the alerts user_canceled
    /// and close_notify (RFC 8446, 6.1).
    pub fn refuse_crowded() -> Vec<u8> {
        [Alert::UserCanceled, Alert::CloseNotify].map(plaintext_alert).concat()
    }

    fn advance(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    // draft I14
    fn recognise(&mut self, hello: ClientHello, len: usize, bytes: &mut BytesMut) -> Incoming {
        let Some(token) = hello.join.or(hello.ticket) else {
            return Incoming::New(self.new_session(hello.cover()));
        };
        // draft E10
        let Some((session, sequence)) = self.secrets.open(&token) else {
            // Most tickets are those of the TLS library.
            return if hello.join.is_some() {
                refused(Alert::IllegalParameter)
            } else {
                Incoming::New(self.new_session(hello.cover()))
            };
        };
        if self.config.server.is_some_and(|server| server != session.server()) {
            let (is_resumption, cover) = (hello.join.is_none(), hello.cover());
            return Incoming::Foreign(ForeignJoin { session, sequence, is_resumption, cover });
        }
        let records = bytes.split_to(len.min(bytes.len()));
        let form = if hello.join.is_some() { JoinForm::Extension } else { JoinForm::Resumption(Box::new(records)) };
        Incoming::Join(Join { session, sequence, hello: Box::new(hello), form })
    }

    fn new_session(&mut self, cover: Option<Cover>) -> NewSession {
        let id = SessionId(self.rng.bytes());
        let id = self.config.server.map_or(id, |server| id.of(server));
        NewSession { id, secret: self.secrets.sealing().clone(), cover, instance: self.instance }
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
