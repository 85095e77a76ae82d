//! The network of a run, and the interface of both transports: sockets, as an operating system has them, on paths.
//!
//! | folder or file | subject |
//! | --- | --- |
//! | `pipes` | the fast transport: byte pipes over links |
//! | `packets` | the faithful transport: smoltcp over links that lose and reorder packets |
//! | `middleboxes` | middleboxes on a path of pipes |
//! | `link_model` | [`LinkModel`]: links of users |

mod faults;
pub(crate) mod link_model;
mod middleboxes;
pub(crate) mod packets;
pub(crate) mod pipes;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::BytesMut;
use tcpls_core::connection::TcpInfo;
use tcpls_core::{OptionOutcome, Side, TcpEnd, Time};

pub use self::link_model::LinkModel;
use crate::dial;
use crate::net::TcpOption;
use crate::sim::scenario::Fault;

/// The directions of a path, and its ends: the client's is the one that sends up.
const UP: usize = 0;
const DOWN: usize = 1;

/// Names a TCP connection of a run, at both of its ends. Counted from 0 as clients open them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SocketId(pub(crate) u64);

/// The addresses of path number `path`.
pub(crate) fn addresses(path: usize) -> dial::Path {
    let at = |host, port| SocketAddr::from((Ipv4Addr::new(10, 0, path as u8, host), port));
    dial::Path { remote: at(1, 443), local: Some(at(2, 0)), device: None }
}

/// How far the client's end of a TCP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    Waiting,
    Connected,
    Failed,
}

/// For whom something changed, at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Perhaps for any socket.
    Any,
    /// For these, and for no others.
    Sockets(BTreeSet<SocketId>),
}

impl Ready {
    /// Whether nothing changed for anyone.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Sockets(sockets) if sockets.is_empty())
    }
}

/// TCP between the client and the server, on numbered paths. No call waits; after any of them [`Network::take_ready`] says
/// who has something to look at.
pub(crate) trait Network {
    /// When [`Network::advance`] has something to do.
    fn next(&self) -> Option<Time>;
    /// What is due happens.
    fn advance(&mut self, now: Time);
    /// For which sockets something changed at this end since it was asked last.
    fn take_ready(&mut self, side: Side) -> Ready;

    /// The client opens a TCP connection.
    fn connect(&mut self, now: Time, path: usize) -> SocketId;
    /// What has become of that.
    fn opening(&self, socket: SocketId) -> Opening;
    /// The server takes a TCP connection that was opened to it; on which path it arrived.
    fn accept(&mut self) -> Option<(SocketId, usize)>;
    /// Moves what has arrived behind what is in `into`; how many bytes that were.
    fn read(&mut self, now: Time, side: Side, socket: SocketId, into: &mut BytesMut) -> usize;
    /// How it ended for `side`, once everything that arrived before has been read.
    fn end(&self, side: Side, socket: SocketId) -> Option<TcpEnd>;
    /// Whether there is room to write: what is unsent is below the limit.
    fn is_writable(&self, side: Side, socket: SocketId) -> bool;
    /// Writes all of `bytes`; more than fits waits as in an endless socket buffer.
    fn write(&mut self, now: Time, side: Side, socket: SocketId, bytes: &[u8]);
    /// How much may be unsent before there is no room to write (`TCP_NOTSENT_LOWAT`).
    fn set_unsent_limit(&mut self, side: Side, socket: SocketId, bytes: usize);
    /// Sets an option of the TCP stack.
    fn set_option(&mut self, side: Side, socket: SocketId, option: &TcpOption) -> OptionOutcome;
    /// What the TCP stack knows.
    fn tcp_info(&mut self, now: Time, side: Side, socket: SocketId) -> Option<TcpInfo>;
    /// Closes this end: what was written still goes out, then a FIN; what comes is not read.
    fn close(&mut self, now: Time, side: Side, socket: SocketId);
    /// Closes this end with a reset.
    fn reset(&mut self, now: Time, side: Side, socket: SocketId);

    /// What boxes on paths have killed since this was asked last, and why.
    fn take_killed(&mut self) -> Vec<String>;

    /// Something goes wrong, or (`over`) is over.
    fn fault(&mut self, now: Time, path: usize, fault: &Fault, over: bool);
}
