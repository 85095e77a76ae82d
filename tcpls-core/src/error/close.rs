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

/// The answer of a server to a join with an unknown token.
const ILLEGAL_PARAMETER: u8 = Alert::IllegalParameter as u8;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application of this endpoint closed it.
    Local {
        /// The code from the application.
        error: ErrorCode,
    },
    /// The peer closed it.
    Peer {
        /// The code from the peer; 0 if it sent close_notify alone.
        error: ErrorCode,
        /// Text for people, as sent; at most 1 KiB of it is stored.
        reason: Vec<u8>,
    },
    /// The peer violated the protocol.
    Violation(Violation),
    /// The TLS handshake failed, at this endpoint or at the peer.
    Handshake(HandshakeError),
    /// Client: the server selected none of the offered application protocols. It may serve another protocol, or a proxy
    /// terminates TLS.
    NoApplicationProtocol,
    /// Client: the server does not support TCPLS, and the client offered nothing else.
    NoTcpls,
    /// The configuration of this endpoint is invalid: the session did not begin.
    Config(ConfigError),
    /// The handshake took longer than its timeout.
    HandshakeTimeout,
    /// The only TCP connection ended before the handshake did.
    LostInHandshake(TcpFault),
    /// The session was idle for the idle timeout.
    IdleTimeout,
    /// No TCP connection was left for the session timeout.
    Stranded,
    /// Client: no TCP connection and no token was left. Only the server can send a token, over a TCP connection, so the
    /// session does not wait.
    OutOfTokens {
        /// Why the last TCP connection, or the last join, was lost.
        fault: TcpFault,
    },
    /// Client: the server no longer has the session. Another instance of it answered a join, with a certificate that was
    /// verified, while no TCP connection of the session did: the process with the session has ended, or cannot be reached.
    LostByServer,
    /// The AEAD limits were reached before a key update was possible.
    AeadLimit,
    /// A session without TCPLS lost its TCP connection.
    PlainTcpEnded(TcpFault),
    /// The server reached a limit on memory, descriptors or places, and selected this session to give way.
    Evicted,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { error } => write!(f, "closed by this endpoint ({})", Named(*error)),
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
                "the server agreed on no application protocol: it serves another protocol, or a proxy in front of it terminates TLS",
            ),
            Self::NoTcpls => f.write_str("the server, or a proxy that terminates TLS in front of it, does not support TCPLS"),
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::HandshakeTimeout => f.write_str("handshake timed out"),
            Self::LostInHandshake(fault) => write!(f, "TCP connection ended during the handshake: {fault}"),
            Self::IdleTimeout => f.write_str("idle timeout"),
            Self::Stranded => f.write_str("no TCP connection for the session timeout"),
            Self::OutOfTokens { fault: fault @ TcpFault::Alert(ILLEGAL_PARAMETER) } => {
                write!(f, "the server refused the last token: it has ended this session, or seen that token before ({fault})")
            }
            Self::OutOfTokens { fault } => {
                write!(f, "no TCP connection and no token left to join with; the last TCP connection ended: {fault}")
            }
            Self::LostByServer => {
                f.write_str("the server no longer has this session: it was restarted, or another server took its place")
            }
            Self::AeadLimit => f.write_str("key used up"),
            Self::PlainTcpEnded(fault) => write!(f, "TCP connection ended: {fault}"),
            Self::Evicted => f.write_str("gave way to other sessions: a limit over all sessions was reached"),
        }
    }
}

impl core::error::Error for CloseReason {
    /// Returns the error of the TLS library, if the handshake failed at this endpoint; `Display` shows everything else.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Handshake(error) => error.source(),
            _ => None,
        }
    }
}
