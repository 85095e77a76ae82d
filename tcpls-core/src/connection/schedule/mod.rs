//! Scheduling: which TCP connection carries new stream data. `earliest` is the default policy, `simple` has those
//! without prediction.
//!
//! Scheduling is by pulling: a scheduler only decides whether a TCP connection with room takes the next record. The
//! streams that may use it are determined before (attachment).

mod chooser;
mod earliest;
mod simple;
mod views;

use core::time::Duration;

pub use self::earliest::EarliestDelivery;
pub use self::simple::{ActiveStandby, Aggregate, LowestRtt, Redundant, RoundRobin};

use crate::wire::ids::ConnectionId;

/// What a scheduler knows about one TCP connection that may carry stream data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpView {
    /// The TCP connection.
    pub tcp: ConnectionId,
    /// Its smoothed round-trip time; `None` before the first acknowledgment.
    pub smoothed_rtt: Option<Duration>,
    /// The smallest round-trip time measured.
    pub min_rtt: Option<Duration>,
    /// Bytes on the wire of unacknowledged records.
    pub bytes_in_flight: u64,
    /// The rate at which it delivers, in bytes per second with headers; `None` before there was more to send than it
    /// took, and when nothing was sent on it for some seconds.
    pub delivery_rate: Option<u64>,
    /// The highest rate measured so far, in bytes per second.
    pub least_rate: u64,
    /// Bytes written to the socket since it joined.
    pub bytes_sent: u64,
    /// The same, plus the bytes of the least used other one when it joined: the basis of shares.
    pub share: u64,
    /// Whether its socket had no room for all data at the last poll.
    pub blocked: bool,
    /// Whether it is a backup: used only when no other is live.
    pub backup: bool,
    /// Whether it is a lane, which carries bulk data only if there is nothing else, or the policy sends data twice.
    pub lane: bool,
    /// Whether it carried bulk data within the last second: interactive data would wait behind it.
    pub bulk: bool,
    /// Whether it is stalled, and only lanes are not: it carries bulk data only.
    pub stalled: bool,
}

/// The answer of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Send new data on it.
    Send,
    /// Send no new data on it now. The scheduler is asked again at the next poll.
    Wait,
    /// Send new data on it or, if there is none, unacknowledged data of others.
    Duplicate,
}

/// A scheduling policy, called for each record that could carry stream data. It must not block.
///
/// The choice must depend only on the arguments: the session asks when it builds a record, and also to determine
/// whether it could build one. A policy must not return [`Choice::Wait`] for every TCP connection that is not blocked,
/// or the session makes no progress.
///
/// A view has no addresses: they are the driver's, and most policies need none. A policy that prefers a path shares a set
/// of connection IDs with the application, which knows the path of each TCP connection when
/// [`TcpEvent::Joined`](crate::TcpEvent::Joined) reports it.
pub trait Scheduler: Send {
    /// Decides whether `all[asked]` takes the next piece of a stream. `all` has every TCP connection that may carry
    /// this stream, sorted by connection ID. `unsent` is the number of bytes that all streams together could send now.
    fn choose(&self, asked: usize, all: &[TcpView], unsent: u64) -> Choice;

    /// Returns the name of the policy in recordings ([`record`](crate::record)). A replay repeats the decisions of a policy
    /// that it does not know by name.
    fn name(&self) -> &'static str {
        ""
    }

    /// Returns whether the policy ever chooses [`Choice::Duplicate`]. A policy that never does should return false,
    /// which saves a search through all streams for data to duplicate.
    fn duplicates(&self) -> bool {
        true
    }
}

/// Whether `all[asked]` has to wait because it is a backup and another is not.
/// Returns the policy with this name.
pub(in crate::connection) fn by_name(name: &[u8]) -> Option<Box<dyn Scheduler>> {
    let all: [Box<dyn Scheduler>; 6] = [
        Box::new(EarliestDelivery),
        Box::new(Aggregate),
        Box::new(LowestRtt),
        Box::new(RoundRobin),
        Box::new(Redundant),
        Box::new(ActiveStandby),
    ];
    all.into_iter().find(|policy| policy.name().as_bytes() == name)
}

fn is_held_back(asked: usize, all: &[TcpView]) -> bool {
    all[asked].backup && all.iter().any(|other| !other.backup)
}
