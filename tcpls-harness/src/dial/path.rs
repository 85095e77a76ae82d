//! Pairs of addresses, and the order in which they are dialed.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use tcpls_core::wire::ids::ConnectionId;

use super::{Device, Local};

/// The two ends of a TCP connection of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// The server's address.
    pub remote: SocketAddr,
    /// The local address; port 0 selects a free one. `None` lets the operating system's routes decide.
    pub local: Option<SocketAddr>,
    /// The network interface that the TCP connection is bound to. `None` lets the routes decide.
    pub device: Option<Device>,
}

impl Path {
    /// Returns all pairs of a local end and a remote address of its family, in the order of dials: families alternate,
    /// beginning with that of the first remote address (RFC 8305, 4), and early pairs share as few ends as possible.
    /// Without local ends the routes decide.
    pub fn pairs(remotes: &[SocketAddr], locals: &[Local]) -> Vec<Self> {
        let family = |v4: bool| {
            let remotes: Vec<SocketAddr> = remotes.iter().copied().filter(|remote| remote.is_ipv4() == v4).collect();
            let any = if v4 { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
            let locals: Vec<Local> = locals.iter().copied().filter(|local| local.fits(&any)).collect();
            spread(&remotes, &locals)
        };
        let any = |remote: &SocketAddr| Self::from(*remote);
        let first_is_v4 = remotes.first().is_some_and(SocketAddr::is_ipv4);
        let (mut first, mut second): (VecDeque<Self>, VecDeque<Self>) = if locals.is_empty() {
            remotes.iter().map(any).partition(|path| path.remote.is_ipv4() == first_is_v4)
        } else {
            (family(first_is_v4).into(), family(!first_is_v4).into())
        };
        let mut pairs = Vec::with_capacity(first.len() + second.len());
        while !first.is_empty() || !second.is_empty() {
            pairs.extend(first.pop_front());
            pairs.extend(second.pop_front());
        }
        pairs
    }
}

impl From<SocketAddr> for Path {
    /// The path to `remote` that the operating system's routes select.
    fn from(remote: SocketAddr) -> Self {
        Local::default().to(remote)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = Local::of(self);
        if from == Local::default() { self.remote.fmt(f) } else { write!(f, "{} from {from}", self.remote) }
    }
}

/// Identifies paths whose TCP connections are backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backup {
    /// Those to this address.
    Remote(SocketAddr),
    /// Those from this one, of a metered link for example.
    Local(IpAddr),
}

impl Backup {
    pub(super) fn names(self, path: &Path) -> bool {
        match self {
            Self::Remote(remote) => path.remote == remote,
            Self::Local(local) => path.local.is_some_and(|other| other.ip() == local),
        }
    }
}

/// Each local end with each remote address, along the diagonals.
fn spread(remotes: &[SocketAddr], locals: &[Local]) -> Vec<Path> {
    let (long, short) = (remotes.len().max(locals.len()), remotes.len().min(locals.len()));
    let at = |diagonal: usize, index: usize| {
        let (remote, local) = if remotes.len() >= locals.len() {
            (index, (index + diagonal) % short)
        } else {
            ((index + diagonal) % short, index)
        };
        locals[local].to(remotes[remote])
    };
    (0..short).flat_map(|diagonal| (0..long).map(move |index| (diagonal, index))).map(|(d, i)| at(d, i)).collect()
}

/// The state of a pair of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathStatus {
    /// Which.
    pub path: Path,
    /// Its TCP connection in the session.
    pub tcp: Option<ConnectionId>,
    /// Whether that is stalled.
    pub silent: bool,
    /// Whether its TCP connections are backups.
    pub backup: bool,
    /// Whether it is used only while no other path answers: see [`Local::metered`].
    pub metered: bool,
}
