//! Watches this host's network for the sessions of client commands.

use std::io::ErrorKind;

use super::output;
use crate::net::{NetworkMonitor, Session};

/// Reports changes of this host's network to the session until it ends; `joins_new` adds paths from interfaces that come
/// up. Without a monitor, the session finds out when answers are overdue.
pub(crate) async fn watch_network(session: Session, joins_new: bool) {
    let watched = match NetworkMonitor::new() {
        Ok(monitor) => monitor.joining_new_interfaces(joins_new).report_to(&session).await,
        Err(error) => Err(error),
    };
    if let Err(error) = watched
        && error.kind() != ErrorKind::Unsupported
    {
        output::tell(format_args!("tcpls: can't watch the network of this host: {error}"));
    }
}
