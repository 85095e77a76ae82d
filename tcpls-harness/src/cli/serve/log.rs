//! What happens on a server, for people or as JSON.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

use crate::cli::limits::Bounds;
use crate::cli::output;
use crate::cli::units::size;

/// What happens, as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Happening<'a> {
    Limits(Bounds),
    Listening { addresses: &'a [SocketAddr], ca: Option<&'a Path> },
    SessionBegan { session: u64, tcpls: bool },
    Tcp { session: u64, tcp: u32, happening: String },
    Request { session: u64, path: &'a str, bytes: Option<u64>, error: Option<String> },
    SessionEnded { session: u64, reason: String },
    Reloaded { root: &'a Path },
    ReloadFailed { error: String },
    Stopping { signal: String },
    Warning { warning: String },
}

impl fmt::Display for Happening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limits(bounds) => bounds.fmt(f),
            Self::Listening { addresses, ca } => {
                let addresses: Vec<String> =
                    addresses.iter().map(|address| format!("listening on {address}")).collect();
                f.write_str(&addresses.join("\n"))?;
                match ca {
                    Some(ca) => write!(f, "\nself-signed certificate in {}: clients need --ca {0}", ca.display()),
                    None => Ok(()),
                }
            }
            Self::SessionBegan { session, tcpls } => {
                write!(f, "session {session}: began, {}", if *tcpls { "TCPLS" } else { "plain TLS 1.3" })
            }
            Self::Tcp { session, tcp, happening } => write!(f, "session {session}: tcp {tcp} {happening}"),
            Self::Request { session, path, bytes: Some(bytes), .. } => {
                write!(f, "session {session}: GET {path}: {}", size(*bytes))
            }
            Self::Request { session, path, error, .. } => {
                write!(f, "session {session}: GET {path}: {}", error.as_deref().unwrap_or("failed"))
            }
            Self::SessionEnded { session, reason } => write!(f, "session {session}: {reason}"),
            Self::Reloaded { root } => write!(f, "files read again; serving {}", root.display()),
            Self::ReloadFailed { error } => write!(f, "kept the files read before: {error}"),
            Self::Warning { warning } => write!(f, "warning: {warning}"),
            Self::Stopping { signal } => {
                write!(f, "{signal}: closing the sessions; a second signal ends the server at once")
            }
        }
    }
}

/// Tells what happens, in one of two languages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    pub(super) json: bool,
}

impl Log {
    pub(super) fn tell(self, happening: &Happening<'_>) {
        if self.json { output::event(happening) } else { output::tell(happening) }
    }
}
