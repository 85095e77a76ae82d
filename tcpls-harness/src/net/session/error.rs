//! Errors of sessions, with hints for applications.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{error, fmt, io};

use tcpls_core::error::{CloseReason, OpenTcpError, TcpFault};

use crate::dial::Path;

/// A failed path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathFailure {
    /// The addresses of the path.
    pub path: Path,
    /// What.
    pub fault: PathFault,
}

/// How a path fails before a TCP connection on it joins the session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PathFault {
    /// TCP could not be connected.
    Tcp(Arc<io::Error>),
    /// The handshake failed, was refused, or took too long.
    Handshake(CloseReason),
}

impl fmt::Display for PathFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path;
        match &self.fault {
            PathFault::Tcp(error) => write!(f, "can't connect to {path}: {error}"),
            PathFault::Handshake(reason) => write!(f, "no session with {path}: {reason}"),
        }
    }
}

/// Why a TCP connection could not be added. The session itself continues.
#[derive(Debug)]
#[non_exhaustive]
pub enum AddTcpError {
    /// The address could not be connected to. No token was spent.
    Tcp(SocketAddr, io::Error),
    /// The server does not advertise the address, or the policy for advertised addresses does not allow it, now or at all.
    NotAllowed(SocketAddr),
    /// The server accepts no joins at this address, only at those that it advertises: a load balancer is there.
    NoJoins(SocketAddr),
    /// The session can't take another TCP connection now.
    Session(OpenTcpError),
    /// The session has reached its limit of TCP connections (its value).
    Limit(usize),
    /// The TCP connection was opened, but could not join the session.
    Join(TcpFault),
    /// The session ended during the join.
    Closed,
}

impl fmt::Display for AddTcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address, error) => write!(f, "can't connect to {address}: {error}; try another address"),
            Self::NotAllowed(address) => {
                write!(f, "{address} is not advertised, or not an address that a server may suggest")
            }
            Self::NoJoins(address) => write!(
                f,
                "the server accepts no joins at {address}: use an address that it advertises, or start a session there"
            ),
            Self::Session(OpenTcpError::NoToken) => {
                f.write_str("no token left to join with: wait for Event::TokensAvailable")
            }
            Self::Session(error) => error.fmt(f),
            Self::Limit(limit) => {
                write!(f, "the session may have {limit} TCP connections, and has them: retire one first")
            }
            Self::Join(fault) => write!(f, "the join failed ({fault}); try again or over another path"),
            Self::Closed => f.write_str("the session ended meanwhile"),
        }
    }
}

impl error::Error for AddTcpError {
    /// What `Display` does not show.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Tcp(_, error) => error.source(),
            _ => None,
        }
    }
}

/// The session has ended, for this reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClosed(pub CloseReason);

impl fmt::Display for SessionClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session over: {}", self.0)
    }
}

impl error::Error for SessionClosed {}
