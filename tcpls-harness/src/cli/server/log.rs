//! The log of a server, for people or as JSON.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;

use crate::cli::limits::Bounds;
use crate::cli::text::visible;
use crate::cli::units::size;
use crate::cli::validity::timestamp;
use crate::cli::{Outcome, metrics, output, status};

/// What happens, as `--json` prints it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Happening<'a> {
    Limits(Bounds),
    Listening {
        addresses: &'a [SocketAddr],
        ca: Option<&'a Path>,
    },
    SessionBegan {
        session: u64,
        client: Option<SocketAddr>,
        tcpls: bool,
    },
    Tcp {
        session: u64,
        tcp: u32,
        client: Option<SocketAddr>,
        happening: String,
    },
    Connected {
        session: u64,
        client: Option<SocketAddr>,
        user: Option<&'a str>,
        target: String,
    },
    Refused {
        session: u64,
        client: Option<SocketAddr>,
        user: Option<&'a str>,
        target: Option<String>,
        reason: String,
    },
    ListeningFor {
        session: u64,
        client: Option<SocketAddr>,
        user: Option<&'a str>,
        address: SocketAddr,
    },
    StoppedListening {
        session: u64,
        client: Option<SocketAddr>,
        address: SocketAddr,
    },
    Ended {
        session: u64,
        client: Option<SocketAddr>,
        target: String,
        to_target: u64,
        to_client: u64,
        how: &'static str,
    },
    Request {
        session: u64,
        client: Option<SocketAddr>,
        method: &'a str,
        path: &'a str,
        status: Option<u16>,
        bytes: Option<u64>,
        error: Option<String>,
    },
    SessionEnded {
        session: u64,
        client: Option<SocketAddr>,
        joins_refused: u64,
        reason: String,
    },
    HandshakeFailed {
        client: SocketAddr,
        reason: String,
    },
    JoinFailed {
        session: Option<u64>,
        client: SocketAddr,
        reason: String,
    },
    HandshakesFailed {
        more: u64,
    },
    RequestsRefused {
        more: u64,
    },
    Reloaded {
        root: &'a Path,
    },
    ReloadedUsers {
        users: usize,
    },
    ReloadFailed {
        error: String,
    },
    Stopping {
        signal: String,
    },
    Draining {
        limit: String,
    },
    Drained,
    Warning {
        warning: String,
    },
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
                    Some(ca) => write!(
                        f,
                        "\nself-signed certificate in {}: clients without an invite need --ca {0}",
                        ca.display()
                    ),
                    None => Ok(()),
                }
            }
            Self::SessionBegan { session, client, tcpls } => {
                let protocol = if *tcpls { "TCPLS" } else { "plain TLS 1.3" };
                write!(f, "session {session}{}: began, {protocol}", From(*client))
            }
            Self::Tcp { session, tcp, client, happening } => {
                write!(f, "session {session}: tcp {tcp}{} {happening}", From(*client))
            }
            Self::Request { session, client, method, path, status, bytes, error } => {
                write!(f, "session {session}{}: {method} {path}: ", From(*client))?;
                status.map_or(Ok(()), |status| write!(f, "{status}, "))?;
                match bytes {
                    Some(bytes) => f.write_str(&size(*bytes)),
                    None => f.write_str(error.as_deref().unwrap_or("failed")),
                }
            }
            Self::Connected { session, client, user, target } => {
                write!(f, "session {session}{}: connected to {target}{}", From(*client), For(*user))
            }
            Self::Refused { session, client, user, target, reason } => {
                let target = target.as_deref().unwrap_or("a request");
                write!(f, "session {session}{}: refused {target}{}: {reason}", From(*client), For(*user))
            }
            Self::ListeningFor { session, client, user, address } => {
                write!(f, "session {session}{}: listening on {address}{}", From(*client), For(*user))
            }
            Self::StoppedListening { session, client, address } => {
                write!(f, "session {session}{}: stopped listening on {address}", From(*client))
            }
            Self::Ended { session, client, target, to_target, to_client, how } => {
                let (to_target, to_client) = (size(*to_target), size(*to_client));
                write!(f, "session {session}{}: {target} {how}, ", From(*client))?;
                write!(f, "{to_target} to it and {to_client} from it")
            }
            Self::HandshakeFailed { client, reason } => write!(f, "handshake from {client} failed: {reason}"),
            Self::JoinFailed { session, client, reason } => {
                session.map_or(Ok(()), |session| write!(f, "session {session}: "))?;
                write!(f, "join from {client} refused: {reason}")
            }
            Self::RequestsRefused { more } => write!(f, "{more} more requests of unknown clients were refused"),
            Self::HandshakesFailed { more } => write!(f, "{more} more handshakes failed"),
            Self::SessionEnded { session, client, joins_refused, reason } => {
                write!(f, "session {session}{}: ended: {reason}", From(*client))?;
                match joins_refused {
                    0 => Ok(()),
                    refused => write!(f, "; it refused {refused} joins"),
                }
            }
            Self::Reloaded { root } => write!(f, "files read again; serving {}", root.display()),
            Self::ReloadedUsers { users } => write!(f, "files read again; {users} users"),
            Self::ReloadFailed { error } => write!(f, "kept the files read before: {error}"),
            Self::Warning { warning } => write!(f, "warning: {warning}"),
            Self::Draining { limit } => {
                write!(f, "draining: no longer listening; connections may go on for {limit}")
            }
            Self::Drained => f.write_str("all sessions have ended"),
            Self::Stopping { signal } => {
                write!(f, "{signal}: closing the sessions; a second signal ends the server at once")
            }
        }
    }
}

/// The address of a client, if it is known.
struct From(Option<SocketAddr>);

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |client| write!(f, " from {client}"))
    }
}

/// The user that a client is, if it is known.
struct For<'a>(Option<&'a str>);

impl fmt::Display for For<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |user| write!(f, " for {}", visible(user)))
    }
}

/// A line of the log as JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    happening: &'a Happening<'a>,
}

/// How a server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people, on standard error
    Text,
    /// One JSON object per line, on standard output
    Json,
}

/// Options of a server's log.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// Format of the log
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log: Format,
    /// The same as --log json
    #[arg(long)]
    pub json: bool,
    /// Serve metrics for Prometheus at this address, for example 127.0.0.1:9464, until SIGUSR1: sessions, TCP
    /// connections, streams, bytes, joins, stalls, failed handshakes and refused requests by reason. There is no
    /// authentication
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// The status.
    #[command(flatten)]
    pub status: status::SocketArgs,
}

impl LogArgs {
    /// The log.
    pub(crate) fn log(&self) -> Log {
        Log { json: self.json || self.log == Format::Json }
    }

    /// Begins to serve metrics, if they are wanted.
    pub(crate) fn serve_metrics(&self) -> Outcome {
        if let Some(address) = self.metrics {
            metrics::start(address)?;
        }
        Ok(())
    }
}

/// Logs what happens, for people or as JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    pub(crate) json: bool,
}

impl Log {
    pub(crate) fn warn(self, warnings: Vec<String>) {
        for warning in warnings {
            self.tell(&Happening::Warning { warning });
        }
    }

    pub(crate) fn tell(self, happening: &Happening<'_>) {
        let time = timestamp(SystemTime::now());
        if self.json {
            output::event(&Line { time, happening });
        } else {
            let lines: Vec<String> = happening.to_string().lines().map(|line| format!("{time} {line}")).collect();
            output::tell(lines.join("\n"));
        }
    }
}
