//! Reports of failed handshakes at a listener, with address and cause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::{fmt, io};

use tcpls_core::budget::Resource;
use tcpls_core::error::{AlertDescription, CloseReason, JoinRefusal};
use tcpls_core::wire::ids::ServerId;

use super::rate::Exceeded;
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
    /// It sent no usable ClientHello, or a token that no secret in force opens. It was refused with this alert.
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
    /// It presented a token of another server of the farm, and was not passed on; or another server passed it on, and it was
    /// not accepted.
    HandOver(HandOverFault),
}

/// Why a join was not passed on to another server of the farm, or not accepted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandOverFault {
    /// The token is one of a server that is not among [`Farm::peers`](crate::net::Farm).
    Unknown(ServerId),
    /// That server could not be reached within 2 s.
    Unreachable(ServerId, io::ErrorKind),
    /// It gave way to others before that server was reached: a limit was exceeded.
    Evicted,
    /// The client presents more tokens of other servers than
    /// [`ServerOptions::client_hand_over_rate`](crate::net::ServerOptions::client_hand_over_rate) admits.
    ClientTooFast,
    /// All clients together present more than [`ServerOptions::hand_over_rate`](crate::net::ServerOptions::hand_over_rate)
    /// admits.
    TooFast,
    /// This host has no port, socket or memory to reach that server.
    NoSocket(io::ErrorKind),
    /// Another server passed it on to an address for clients: that server's [`Farm::peers`](crate::net::Farm) are wrong.
    Misdirected,
    /// It came to [`Farm::listen`](crate::net::Farm) from an address that is none of the farm's.
    Stranger,
    /// It came there, and is no join of a session of this server.
    NotOwn,
    /// It came there with a header that no server of the farm wrote for this token: the secrets differ, or it is forged.
    NotAuthentic,
}

impl From<Exceeded> for HandOverFault {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Client => Self::ClientTooFast,
            Exceeded::Total => Self::TooFast,
        }
    }
}

impl From<HandOverFault> for HandshakeFault {
    fn from(fault: HandOverFault) -> Self {
        Self::HandOver(fault)
    }
}

impl fmt::Display for HandOverFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(server) => write!(f, "presented a token of {server}, which is no peer of this server"),
            Self::Unreachable(server, error) => {
                write!(f, "presented a token of {server}, which cannot be reached: {error}")
            }
            Self::Evicted => {
                f.write_str("presented a token of another server, and gave way to others: a limit is reached")
            }
            Self::ClientTooFast => f.write_str("presented more tokens of other servers than one client may in a time"),
            Self::TooFast => f.write_str("presented a token of another server: all clients together presented too many"),
            Self::NoSocket(error) => write!(f, "presented a token of another server, and can't be passed on: {error}"),
            Self::Misdirected => f.write_str(
                "was passed on by another server to an address for clients: list this server's address for servers there",
            ),
            Self::Stranger => f.write_str("connected to the address for servers of the farm, and is none of them"),
            Self::NotOwn => f.write_str("was passed on by another server, and is no join of a session of this server"),
            Self::NotAuthentic => {
                f.write_str("was passed on with a header that is not authentic: the servers' token secrets differ")
            }
        }
    }
}

impl HandshakeFault {
    /// Whether the TCP connection presented a token of a session: it was to join that, not to start one.
    pub fn is_of_join(&self) -> bool {
        let of_token = |fault: &HandOverFault| {
            !matches!(fault, HandOverFault::Stranger | HandOverFault::NotOwn | HandOverFault::Misdirected)
        };
        match self {
            Self::NoSession | Self::Join(_) | Self::JoinEnded | Self::JoinEvicted => true,
            Self::HandOver(fault) => of_token(fault),
            _ => false,
        }
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
            Self::HandOver(fault) => fault.fmt(f),
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
