//! Reports of failed handshakes at a listener, with address and cause.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use tcpls_core::budget::Resource;
use tcpls_core::error::{AlertDescription, CloseReason, JoinRefusal};

use crate::net::proxy_protocol::HeaderError;
use crate::net::session::{Feed, Monitor, Subscriber};
use crate::net::task::{FailedJoins, JoinFailure};

/// An accepted TCP connection that did not become part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeFailure {
    /// The address of the client, or of the proxy in front of it.
    pub client: SocketAddr,
    /// The cause.
    pub fault: HandshakeFault,
    /// The session whose token it presented, if that has not ended.
    pub session: Option<Monitor>,
}

/// Why an accepted TCP connection did not become part of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// It ended before the ClientHello was complete. Port scans and health checks end without a byte.
    Ended {
        /// Bytes received before.
        received: usize,
    },
    /// The ClientHello was not complete within [`EndpointConfig::hello_timeout`](tcpls_core::endpoint::EndpointConfig).
    HelloTimeout,
    /// It came from a network of [`ServerOptions::proxy_protocol`](crate::net::ServerOptions::proxy_protocol) without a valid
    /// header.
    ProxyHeader(HeaderError),
    /// It came from there, and its header was not complete in time.
    ProxyHeaderTimeout,
    /// The bytes are not a usable ClientHello, or it presented a token of another server. It was refused with this
    /// alert.
    Refused(AlertDescription),
    /// It presented a token of a session that has ended.
    NoSession,
    /// It presented a token of a session, which refused the join.
    Join(JoinRefusal),
    /// It presented a token of a session, and ended before it was authenticated.
    JoinEnded,
    /// It presented a token of a session, and gave way to others before it was authenticated.
    JoinEvicted,
    /// It gave way to others, because the limit of this resource was exceeded.
    Evicted(Resource),
    /// The session ended in its handshake.
    Session(CloseReason),
}

impl HandshakeFault {
    /// Whether the TCP connection presented a token of a session: it was to join that, not to start one.
    pub fn is_of_join(&self) -> bool {
        matches!(self, Self::NoSession | Self::Join(_) | Self::JoinEnded | Self::JoinEvicted)
    }
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { received: 0 } => f.write_str("ended before a byte arrived"),
            Self::Ended { received } => write!(f, "ended after {received} bytes, before its ClientHello was complete"),
            Self::ProxyHeader(error) => error.fmt(f),
            Self::ProxyHeaderTimeout => f.write_str("sent no complete PROXY protocol header in time"),
            Self::HelloTimeout => f.write_str("sent no complete ClientHello in time"),
            Self::Refused(alert) => {
                write!(f, "sent neither a usable ClientHello nor a token of this server: refused with {alert}")
            }
            Self::NoSession => f.write_str("presented a token of a session that has ended"),
            Self::Join(refusal) => refusal.fmt(f),
            Self::JoinEnded => f.write_str("it ended before it was authenticated"),
            Self::JoinEvicted => f.write_str("it gave way to others: a limit is reached"),
            Self::Evicted(resource) => write!(f, "gave way to others: the limit of {resource} is reached"),
            Self::Session(reason) => reason.fmt(f),
        }
    }
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.client, self.fault)
    }
}

/// Handshakes that fail, from [`Listener::handshake_failures`](crate::net::Listener::handshake_failures).
#[derive(Debug)]
pub struct HandshakeFailures {
    subscriber: Subscriber<HandshakeFailure>,
}

impl HandshakeFailures {
    /// Waits for the next report; `None` once the listener is dropped and all its handshakes have ended. Cancel safe.
    pub async fn next(&mut self) -> Option<HandshakeFailure> {
        self.subscriber.next().await
    }

    /// Returns how many reports were dropped since the last call because more than 256 waited for this subscriber.
    pub fn take_missed(&mut self) -> u64 {
        self.subscriber.take_missed()
    }
}

/// Where a listener reports them.
#[derive(Debug)]
pub(super) struct Failures(Feed<HandshakeFailure>);

impl Failures {
    pub(super) fn new() -> Self {
        Self(Feed::new())
    }

    pub(super) fn report(&self, client: SocketAddr, fault: HandshakeFault) {
        self.report_of(client, fault, None);
    }

    fn report_of(&self, client: SocketAddr, fault: HandshakeFault, session: Option<Monitor>) {
        let mut waiting = Vec::new();
        self.0.tell(HandshakeFailure { client, fault, session }, |waker| waiting.push(waker));
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(super) fn subscribe(&self) -> HandshakeFailures {
        HandshakeFailures { subscriber: self.0.subscribe() }
    }
}

/// Reports joins of one TCP connection there.
pub(super) struct JoinReports {
    pub(super) failures: Arc<Failures>,
    pub(super) client: SocketAddr,
    pub(super) session: Monitor,
}

impl FailedJoins for JoinReports {
    fn report(&self, failure: JoinFailure) {
        let fault = match failure {
            JoinFailure::Ended => HandshakeFault::JoinEnded,
            JoinFailure::Refused(refusal) => HandshakeFault::Join(refusal),
            JoinFailure::Evicted => HandshakeFault::JoinEvicted,
        };
        self.failures.report_of(self.client, fault, Some(self.session.clone()));
    }
}
