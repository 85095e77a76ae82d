//! Which paths a client's TCP connections run on, and which of them are to be tried again. Plain bookkeeping: who tries them
//! is `keeper`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tcpls_core::connection::{Connection, State};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;

use super::advice::Advice;
use super::socket::SocketOptions;

/// What a client does by itself when TCP connections are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the application does.
    Nothing,
    /// It joins a TCP connection when the last was lost, on whichever path can be connected to first.
    Session,
    /// It joins another TCP connection on each path whose own was lost or has fallen silent.
    #[default]
    Paths,
}

/// What a session keeps of a client's options for TCP connections to come.
pub(crate) struct Joining {
    pub(crate) socket: SocketOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) keep: Keep,
    pub(crate) advice: Advice,
}

/// From where to where a TCP connection of the client's runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) remote: SocketAddr,
    /// `None` leaves it to the routes.
    pub(crate) local: Option<SocketAddr>,
}

/// A path to be tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redial {
    pub(crate) path: Path,
    /// The TCP connection on it that is silent; `None` if it was lost.
    pub(crate) silent: Option<ConnectionId>,
}

/// A client's paths.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// By TCP connection, those that are joining too.
    used: BTreeMap<ConnectionId, Path>,
    /// To be tried again by a task, and being tried by one.
    due: Vec<Redial>,
    dialing: BTreeSet<Path>,
    /// Addresses that the server has withdrawn.
    withdrawn: BTreeSet<SocketAddr>,
}

impl Paths {
    /// TCP connection `tcp` runs on `path`.
    pub(crate) fn set(&mut self, tcp: ConnectionId, path: Path) {
        self.used.insert(tcp, path);
    }

    /// Another TCP connection is there instead of `tcp`.
    pub(crate) fn replaced(&mut self, tcp: ConnectionId) {
        self.used.remove(&tcp);
    }

    /// What an event means for paths.
    pub(crate) fn hear(&mut self, event: &Event) {
        match event {
            Event::Tcp(TcpEvent::Stalled { tcp }) => {
                if let Some(path) = self.used.get(tcp).copied() {
                    self.redial(Redial { path, silent: Some(*tcp) });
                }
            }
            Event::Tcp(TcpEvent::Lost { tcp, fault }) => {
                if let Some(path) = self.used.remove(tcp).filter(|_| !fault.was_meant()) {
                    self.redial(Redial { path, silent: None });
                }
            }
            Event::AddressWithdrawn { address, .. } => _ = self.withdrawn.insert(*address),
            Event::AddressAdvertised { address, .. } => _ = self.withdrawn.remove(address),
            _ => {}
        }
    }

    /// One task tries a path at a time.
    fn redial(&mut self, redial: Redial) {
        if self.dialing.insert(redial.path) {
            self.due.push(redial);
        }
    }

    /// Whether a task is wanted for some path.
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The paths that a task is wanted for.
    pub(crate) fn take_due(&mut self) -> Vec<Redial> {
        std::mem::take(&mut self.due)
    }

    /// The task for this path has ended.
    pub(crate) fn dialed(&mut self, path: Path) {
        self.dialing.remove(&path);
    }

    /// Whether a new TCP connection is still wanted there.
    pub(crate) fn wants(&self, conn: &Connection, redial: &Redial, keep: Keep) -> bool {
        let stranded = matches!(conn.state(), State::Stranded { .. });
        let open = stranded || conn.state() == State::Established;
        let taken = self.used.iter().any(|(tcp, path)| *path == redial.path && Some(*tcp) != redial.silent);
        let wanted = match keep {
            Keep::Nothing => false,
            Keep::Session => stranded,
            Keep::Paths => redial.silent.is_none_or(|tcp| conn.is_stalled(tcp)),
        };
        open && wanted && !taken && !self.withdrawn.contains(&redial.path.remote)
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::error::TcpFault;

    use super::*;

    const TCP: ConnectionId = ConnectionId(3);
    const PATH: Path =
        Path { remote: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7), local: None };

    fn due_after(event: TcpEvent) -> usize {
        let mut paths = Paths::default();
        paths.set(TCP, PATH);
        paths.hear(&Event::Tcp(event));
        paths.take_due().len()
    }

    #[test]
    fn a_path_is_tried_again_after_a_loss_that_nobody_wanted() {
        assert_eq!(due_after(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset }), 1);
        assert_eq!(due_after(TcpEvent::Stalled { tcp: TCP }), 1);
        assert_eq!(due_after(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Retired }), 0);
        assert_eq!(due_after(TcpEvent::Lost { tcp: TCP, fault: TcpFault::PeerReset(5) }), 0);
        assert_eq!(due_after(TcpEvent::Lost { tcp: ConnectionId(4), fault: TcpFault::Reset }), 0);
    }

    #[test]
    fn one_task_at_a_time_tries_a_path() {
        let mut paths = Paths::default();
        paths.set(TCP, PATH);
        paths.hear(&Event::Tcp(TcpEvent::Stalled { tcp: TCP }));
        paths.hear(&Event::Tcp(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset }));
        assert_eq!(paths.take_due().len(), 1);
        paths.dialed(PATH);
        paths.set(TCP, PATH);
        paths.hear(&Event::Tcp(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset }));
        assert!(paths.has_due());
    }
}
