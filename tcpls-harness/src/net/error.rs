//! What can go wrong between an application and its session, and what to do about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::{error, fmt, io};

use tcpls_core::error::{CloseReason, ConfigError, HandshakeError, OpenTcpError, TcpFault};

use super::descriptors::are_used_up;
use crate::dial::Path;

/// Why no session came about.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address was given, or none that fits the local ones.
    NoAddress,
    /// An option cannot work.
    Config(ConfigError),
    /// The TLS configuration can't be used for this server.
    Tls(HandshakeError),
    /// Every path was tried; what went wrong with each.
    Paths(Vec<PathFailure>),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address to connect to: give at least one"),
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::Tls(error) => write!(f, "the TLS configuration can't be used: {error}"),
            Self::Paths(failures) => {
                if let [failure] = failures.as_slice() {
                    failure.fmt(f)?;
                } else {
                    write!(f, "no session over any of {} paths", failures.len())?;
                    failures.iter().try_for_each(|failure| write!(f, "\n  {failure}"))?;
                }
                let is_tcp = |test: fn(&io::Error) -> bool| {
                    failures.iter().all(|failure| matches!(&failure.fault, PathFault::Tcp(error) if test(error)))
                };
                if is_tcp(are_used_up) {
                    f.write_str("; this process, or the system, has no file descriptor left: raise `ulimit -n`")
                } else if is_tcp(|_| true) {
                    f.write_str("; is a server listening there, and let through by firewalls?")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}

/// What went wrong on one path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PathFailure {
    /// Between which addresses.
    pub path: Path,
    /// What.
    pub fault: PathFault,
}

/// What can go wrong on a path before there is a TCP connection of the session's on it.
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

/// Why a session has no further TCP connection now. The session itself goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum AddTcpError {
    /// The address could not be connected to. No token was spent.
    Tcp(SocketAddr, io::Error),
    /// The server does not advertise the address, or the policy for advertised addresses does not allow it, now or at all.
    NotAllowed(SocketAddr),
    /// The session can't take another TCP connection now.
    Session(OpenTcpError),
    /// The session has reached its limit of TCP connections (its value).
    Limit(usize),
    /// The TCP connection was made, but did not become part of the session.
    Join(TcpFault),
    /// The session ended while it was being joined.
    Closed,
}

impl fmt::Display for AddTcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address, error) => write!(f, "can't connect to {address}: {error}; try another address"),
            Self::NotAllowed(address) => {
                write!(f, "{address} is not advertised, or not an address that a server may suggest")
            }
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
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Tcp(_, error) => Some(error),
            Self::Session(error) => Some(error),
            _ => None,
        }
    }
}

/// Why an address can't be listened on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// No address was given.
    NoAddress,
    /// An option cannot work.
    Config(ConfigError),
    /// The operating system refuses.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address to listen on: give at least one"),
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "{address} is in use: stop what listens there, or choose another port (0 takes a free one)")
            }
            Self::Bind(address, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "no permission to listen on {address}: choose a port above 1023")
            }
            Self::Bind(address, error) => write!(f, "can't listen on {address}: {error}"),
        }
    }
}

impl error::Error for ListenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Bind(_, error) => Some(error),
            Self::Config(error) => Some(error),
            Self::NoAddress => None,
        }
    }
}

/// The session is over, and this is why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClosed(pub CloseReason);

impl fmt::Display for SessionClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session over: {}", self.0)
    }
}

impl error::Error for SessionClosed {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn lack_of_descriptors_is_not_blamed_on_the_server() {
        let path = Path { remote: SocketAddr::from(([192, 0, 2, 1], 443)), local: None };
        let fails = |code: i32| {
            let fault = PathFault::Tcp(Arc::new(io::Error::from_raw_os_error(code)));
            ConnectError::Paths(vec![PathFailure { path, fault }]).to_string()
        };
        let text = fails(24); // EMFILE
        assert!(text.contains("raise `ulimit -n`") && !text.contains("listening"), "{text}");
        assert!(fails(111).contains("is a server listening there"));
    }
}
