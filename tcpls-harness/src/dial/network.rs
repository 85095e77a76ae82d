//! Changes of this host's network, as operating systems report them. A TCP connection without a link stalls at once, is
//! closed when another works or after [`ABSENCE`], and its pair is not dialed until the local address is back.
//!
//! An address that comes back in time keeps its TCP connections: DHCP clients, for example, remove addresses and add
//! them again.

use std::net::IpAddr;
use std::time::Duration;

use tcpls_core::connection::{Connection, TcpEnd};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::local::is_link_local;
use super::pair::{Link, Live, Pair};
use super::{Action, Device, DialPolicy, Dialer, Path};

/// How long a local address may be away before TCP connections from it are closed, while no other works.
const ABSENCE: Duration = Duration::from_secs(5);

/// A change of this host's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkChange {
    /// A local address cannot be used any more: it was removed, or its interface is down.
    AddressLost(IpAddr),
    /// A local address can be used again, or for the first time.
    AddressFound(IpAddr),
    /// An interface is down, or has no address any more. Its addresses are reported, too.
    DeviceLost(Device),
    /// An interface is up and has an address: its first, which may be a link-local one.
    DeviceFound(Device),
    /// The host was suspended and runs again. Its clock may have stopped in between, and its peers may have given up.
    Resumed,
}

impl NetworkChange {
    fn concerns(self, local: Option<IpAddr>) -> bool {
        match self {
            Self::AddressLost(address) | Self::AddressFound(address) => local == Some(address),
            Self::DeviceLost(_) | Self::DeviceFound(_) => false,
            Self::Resumed => true,
        }
    }

    fn is_loss(self) -> bool {
        matches!(self, Self::AddressLost(_) | Self::DeviceLost(_))
    }

    /// Whether dials on `path` begin there.
    fn is_at(self, path: &Path) -> bool {
        match self {
            Self::AddressLost(address) | Self::AddressFound(address) => {
                path.local.is_some_and(|local| local.ip().to_canonical() == address)
            }
            Self::DeviceLost(device) | Self::DeviceFound(device) => path.device == Some(device),
            Self::Resumed => true,
        }
    }

    /// Whether dials on `path` may succeed now that failed before. A path without an address can begin at any that is
    /// found, of its family; link-local ones lead to each other alone.
    fn may_help(self, path: &Path) -> bool {
        match self {
            Self::AddressFound(address) if path.local.is_none() => {
                let remote = path.remote.ip().to_canonical();
                address.is_ipv4() == remote.is_ipv4() && is_link_local(address) == is_link_local(remote)
            }
            _ => !self.is_loss() && self.is_at(path),
        }
    }
}

/// Reports a change to a session and to what decides about its TCP connections: those that it concerns stall, except
/// when an address is found.
pub fn report_change(now: Time, change: NetworkChange, conn: &mut Connection, dialer: Option<&mut dyn DialPolicy>) {
    let local = |tcp: &ConnectionId| conn.local_address(*tcp).map(|address| address.ip().to_canonical());
    let concerned: Vec<ConnectionId> = conn.tcp_connections().filter(|tcp| change.concerns(local(tcp))).collect();
    if let Some(dialer) = dialer {
        dialer.handle_network(now, change, &concerned);
    }
    if !matches!(change, NetworkChange::AddressFound(_)) {
        concerned.into_iter().for_each(|tcp| conn.handle_path_down(now, tcp));
    }
}

impl Dialer {
    /// Reports a change of this host's network, which concerns these TCP connections of the session.
    pub fn handle_network(&mut self, now: Time, change: NetworkChange, concerned: &[ConnectionId]) {
        for pair in &mut self.pairs {
            if change.is_at(&pair.path) {
                pair.is_cut = change.is_loss() || (pair.is_cut && change == NetworkChange::Resumed);
            }
            if change.may_help(&pair.path) {
                pair.note_link(now);
                // Middleboxes that cut idle TCP connections are no reason here to wait for a stream.
                pair.was_used &= pair.live.is_some();
            }
        }
        for tcp in concerned {
            match self.pairs.iter_mut().find(|pair| pair.is_on(*tcp)) {
                Some(pair) => pair.note_change(now, change),
                None => self.note_change_of_other(*tcp, change),
            }
        }
    }

    /// A TCP connection that joins, or a lane, has lost its link: nothing is gained by waiting.
    fn note_change_of_other(&mut self, tcp: ConnectionId, change: NetworkChange) {
        if change.is_loss() {
            self.actions.push_back(Action::Reset { tcp, why: TcpEnd::PathDown });
        }
    }

    /// Closes TCP connections without a link, if another works or their time is up.
    pub(super) fn close_cut(&mut self, now: Time) {
        let has_other = self.pairs.iter().any(Pair::answers);
        for live in self.pairs.iter_mut().filter_map(|pair| pair.live.as_mut()) {
            if let Link::Lost(since) = live.link
                && (has_other || since + ABSENCE <= now)
            {
                live.link = Link::Closing;
                self.actions.push_back(Action::Reset { tcp: live.tcp, why: TcpEnd::PathDown });
            }
        }
    }

    /// Returns when the first of them is closed in any case.
    pub(super) fn cut_deadline(&self) -> Option<Time> {
        let lost = |live: Live| if let Link::Lost(since) = live.link { Some(since + ABSENCE) } else { None };
        self.pairs.iter().filter_map(|pair| pair.live.and_then(lost)).min()
    }
}

impl Pair {
    /// The link of its TCP connection has changed.
    fn note_change(&mut self, now: Time, change: NetworkChange) {
        let Some(live) = &mut self.live else { return };
        match (change, live.link) {
            (_, Link::Closing) | (NetworkChange::AddressLost(_), Link::Lost(_)) => return,
            (NetworkChange::AddressLost(_), _) => live.link = Link::Lost(now),
            (NetworkChange::AddressFound(_), _) if !live.silent => return,
            _ => live.link = Link::Doubted,
        }
        live.silent = true;
        self.note_link(now);
    }
}
