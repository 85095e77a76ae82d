//! `tcpls status`: what a running command does, over a local socket for its user alone.
//!
//! `registry` knows the sessions of a process; `serve` answers those who ask, at a `socket`; `client` asks, `report` has what
//! is said, and `view` shows it.

#[cfg(unix)]
mod client;
#[cfg(unix)]
mod registry;
#[cfg(unix)]
mod report;
#[cfg(unix)]
mod serve;
#[cfg(unix)]
pub(crate) mod socket;
#[cfg(unix)]
mod view;

use std::path::PathBuf;

#[cfg(unix)]
pub(super) use self::registry::{add, add_numbered, number_of, set_no_session};
#[cfg(unix)]
pub(super) use self::serve::offer;
use super::{Outcome, report as reporting};

/// Show the sessions of a running command
///
/// Shows the paths of each session with interface, addresses, state, round-trip time, bits per second, bytes, and the last
/// failure and its cause; and the streams with their targets. The commands socks, forward, pipe, get, proxy and serve answer,
/// at a socket in $XDG_RUNTIME_DIR/tcpls, or in the directory run of their state directory, that only their user can open.
/// Several running commands are listed.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Show it again each second, until the command ends: in place on a terminal, else one after the other
    #[arg(long)]
    pub watch: bool,
    /// Process ID of the command
    #[arg(long, value_name = "PID", conflicts_with = "socket")]
    pub pid: Option<u32>,
    /// Socket of the command, or a directory with sockets
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print the status as JSON; with --watch, an object each second
    #[arg(long)]
    pub json: bool,
}

/// Where a command answers `tcpls status`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SocketArgs {
    /// Socket at which "tcpls status" asks this command. Default: a file in $XDG_RUNTIME_DIR/tcpls, or in the directory run
    /// of the default state directory
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

/// Shows the status of running commands.
///
/// # Errors
/// No command answers.
#[cfg(unix)]
pub async fn run(args: Args) -> Outcome {
    reporting::or_error(client::run(&args).await, args.json)
}

/// There are no Unix sockets.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub async fn run(args: Args) -> Outcome {
    let text = "tcpls status is not available on this system, which has no Unix sockets; use --metrics for servers";
    reporting::or_error(Err(text.into()), args.json)
}

#[cfg(not(unix))]
pub(super) use self::absent::{add, add_numbered, number_of, offer, set_no_session};

#[cfg(not(unix))]
mod absent {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::cli::Outcome;
    use crate::net::{Monitor, Session};

    pub(crate) fn add(_session: &Session) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn add_numbered(_number: u64, _session: &Session) {}

    pub(crate) fn set_no_session(_reason: Option<String>) {}

    pub(crate) fn number_of(_session: &Monitor) -> Option<u64> {
        None
    }

    pub(crate) fn offer(_command: &'static str, path: Option<&Path>) -> Outcome<Option<()>> {
        match path {
            None => Ok(None),
            Some(_) => Err("--status-socket is not available on this system, which has no Unix sockets".into()),
        }
    }
}
