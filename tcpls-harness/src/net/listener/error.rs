//! Errors of creating a listener.

use std::net::SocketAddr;
use std::{error, fmt, io};

use tcpls_core::error::ConfigError;

/// Why a listener could not be created.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// No address was given.
    NoAddress,
    /// An option is invalid.
    Config(ConfigError),
    /// A socket that was passed can't be used.
    Socket(io::Error),
    /// The operating system refused it.
    Bind(SocketAddr, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("no address to listen on: give at least one"),
            Self::Socket(error) => write!(f, "can't use a listening socket that was passed: {error}"),
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
    /// What `Display` does not show.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Bind(_, error) | Self::Socket(error) => error.source(),
            _ => None,
        }
    }
}
