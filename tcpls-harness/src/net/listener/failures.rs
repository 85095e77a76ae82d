//! Handshakes that fail at a listener: from which address, and why.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use tcpls_core::budget::Resource;
use tcpls_core::error::{AlertDescription, CloseReason};

use crate::net::session::{Feed, Subscriber};

/// A TCP connection that was accepted and became no part of any session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakeFailure {
    /// Where it came from; behind a proxy, the proxy's address.
    pub client: SocketAddr,
    /// What went wrong.
    pub fault: HandshakeFault,
}

/// Why a TCP connection that was accepted became no part of any session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// It ended before the ClientHello was complete. Port scans and health checks end without a byte.
    Ended {
        /// Bytes that came before.
        received: usize,
    },
    /// The ClientHello was not complete within [`EndpointConfig::hello_timeout`](tcpls_core::endpoint::EndpointConfig).
    HelloTimeout,
    /// What came is no ClientHello that the server can use, or shows a token that the server did not make. It was refused
    /// with this alert.
    Refused(AlertDescription),
    /// It shows a token of a session that has ended.
    NoSession,
    /// It gave way to others, because the limit of this resource was reached.
    Evicted(Resource),
    /// The session ended in its handshake.
    Session(CloseReason),
}

impl fmt::Display for HandshakeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { received: 0 } => f.write_str("ended before a byte came"),
            Self::Ended { received } => write!(f, "ended after {received} bytes, before its ClientHello was complete"),
            Self::HelloTimeout => f.write_str("sent no complete ClientHello in time"),
            Self::Refused(alert) => {
                write!(f, "sent neither a usable ClientHello nor a token of this server: refused with {alert}")
            }
            Self::NoSession => f.write_str("shows a token of a session that has ended"),
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
    /// Waits for the next; `None` once the listener is dropped and all its handshakes are over. Cancel safe.
    pub async fn next(&mut self) -> Option<HandshakeFailure> {
        self.subscriber.next().await
    }

    /// How many were dropped since the last call because this subscriber did not keep up: at most 256 wait for it.
    pub fn take_missed(&mut self) -> u64 {
        self.subscriber.take_missed()
    }
}

/// Where a listener reports them.
#[derive(Debug)]
pub(super) struct Failures(Mutex<Feed<HandshakeFailure>>);

impl Failures {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Feed::new()))
    }

    pub(super) fn report(&self, client: SocketAddr, fault: HandshakeFault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tell(HandshakeFailure { client, fault });
    }

    pub(super) fn subscribe(&self) -> HandshakeFailures {
        HandshakeFailures { subscriber: self.0.lock().unwrap_or_else(PoisonError::into_inner).subscribe() }
    }
}
