//! Why sessions end.

use core::fmt;

use super::alert::{Alert, AlertDescription};
use super::code::Named;
use super::handshake::HandshakeError;
use super::peer::Violation;
use super::setting::ConfigError;
use super::tcp::TcpFault;
use super::text::Escaped;
use crate::wire::ids::ErrorCode;

/// What a server answers to a join with a token that it does not know.
const ILLEGAL_PARAMETER: u8 = Alert::IllegalParameter as u8;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side's application closed it.
    Local {
        /// What the application gave.
        error: ErrorCode,
    },
    /// The peer closed it.
    Peer {
        /// What the peer gave; 0 if it sent close_notify alone.
        error: ErrorCode,
        /// Text for people, as sent; at most 1 KiB of it is kept.
        reason: Vec<u8>,
    },
    /// The peer broke the protocol.
    Violation(Violation),
    /// The TLS handshake failed, at this side's judgment or the peer's.
    Handshake(HandshakeError),
    /// Client: the server agreed on none of the application protocols that were offered, as a server for something else
    /// does, or a proxy that ends TLS.
    NoApplicationProtocol,
    /// Client: the server does not speak TCPLS, and nothing else was offered.
    NoTcpls,
    /// This side's configuration cannot work: the session did not begin.
    Config(ConfigError),
    /// The handshake did not end in time.
    HandshakeTimeout,
    /// The only TCP connection ended before the handshake did.
    LostInHandshake(TcpFault),
    /// The session was idle for the idle timeout.
    IdleTimeout,
    /// No TCP connection was left for the session timeout.
    Stranded,
    /// Client: no TCP connection was left, and no token to join another with. Only the server could have sent one, so waiting
    /// is of no use.
    OutOfTokens {
        /// Why the last TCP connection, or the last join, was lost.
        fault: TcpFault,
    },
    /// The AEAD limits are reached and the keys could not be renewed.
    AeadLimit,
    /// A session without TCPLS lost its TCP connection.
    PlainTcpEnded(TcpFault),
    /// The server was short of memory, descriptors or places, and this session was the one to give way.
    Evicted,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { error } => write!(f, "closed by this side ({})", Named(*error)),
            Self::Peer { error, reason } if reason.is_empty() => {
                write!(f, "closed by the peer ({})", Named(*error))
            }
            Self::Peer { error, reason } => {
                write!(f, "closed by the peer ({}): {}", Named(*error), Escaped(reason))
            }
            Self::Violation(Violation::FatalAlert(description)) => {
                write!(f, "ended by the peer with {}", AlertDescription(*description))
            }
            Self::Violation(rule) => write!(f, "peer violated the protocol: {rule}"),
            Self::Handshake(error) => write!(f, "handshake failed: {error}"),
            Self::NoApplicationProtocol => f.write_str(
                "the server agreed on no application protocol: it serves something else, or a proxy in front of it ends TLS",
            ),
            Self::NoTcpls => f.write_str("the server, or a proxy in front of it that ends TLS, does not speak TCPLS"),
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::HandshakeTimeout => f.write_str("handshake timed out"),
            Self::LostInHandshake(fault) => write!(f, "TCP connection ended during the handshake: {fault}"),
            Self::IdleTimeout => f.write_str("idle timeout"),
            Self::Stranded => f.write_str("no TCP connection left"),
            Self::OutOfTokens { fault: fault @ TcpFault::Alert(ILLEGAL_PARAMETER) } => {
                write!(f, "the server refused the last token: it has ended this session, or seen that token before ({fault})")
            }
            Self::OutOfTokens { fault } => {
                write!(f, "no TCP connection and no token left to join with; the last TCP connection ended: {fault}")
            }
            Self::AeadLimit => f.write_str("key used up"),
            Self::PlainTcpEnded(fault) => write!(f, "TCP connection ended: {fault}"),
            Self::Evicted => f.write_str("gave way to other sessions: a limit on their sum was reached"),
        }
    }
}

impl core::error::Error for CloseReason {
    /// The TLS library's error, if a handshake failed on this side; `Display` shows everything else.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Handshake(error) => error.source(),
            _ => None,
        }
    }
}
