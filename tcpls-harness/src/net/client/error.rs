//! Errors of starting a session.

use std::{error, fmt, io};

use tcpls_core::error::{ConfigError, HandshakeError};

use crate::net::descriptors::are_used_up;
use crate::net::session::{PathFailure, PathFault};
use crate::net::socket::is_local;

/// Why no session could be established.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// No address was given, or none of the family of a local one.
    NoAddress,
    /// An option is invalid.
    Config(ConfigError),
    /// The TLS configuration can't be used for this server.
    Tls(HandshakeError),
    /// All paths failed; contains the fault of each.
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
                } else if is_tcp(|error| !is_local(error)) {
                    f.write_str("; does a server listen there, and do firewalls allow it?")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl error::Error for ConnectError {
    /// What `Display` does not show: the TLS library's error.
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Tls(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use super::*;
    use crate::dial::Path;

    #[test]
    fn lack_of_descriptors_is_not_blamed_on_the_server() {
        let path = Path { remote: SocketAddr::from(([192, 0, 2, 1], 443)), local: None, device: None };
        let fails = |code: i32| {
            let fault = PathFault::Tcp(Arc::new(io::Error::from_raw_os_error(code)));
            ConnectError::Paths(vec![PathFailure { path, fault }]).to_string()
        };
        let text = fails(24); // EMFILE
        assert!(text.contains("raise `ulimit -n`") && !text.contains("server listen"), "{text}");
        assert!(fails(111).contains("does a server listen there"));
    }
}
