//! Which TCP connection carries new stream data: what all policies have in common. The default policy is in `earliest`, those
//! that predict nothing are in `simple`.
//!
//! Records are pulled: a scheduler is only asked whether the one that has room right now may take the next record. Which
//! streams may use it is decided before (attachment).

mod chooser;
mod earliest;
mod simple;
mod views;

use core::time::Duration;

pub use self::earliest::EarliestDelivery;
pub use self::simple::{ActiveStandby, Aggregate, LowestRtt, Redundant, RoundRobin};

use crate::wire::ids::ConnectionId;

/// What a scheduler knows about one TCP connection that stream data may be put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpView {
    /// Which.
    pub tcp: ConnectionId,
    /// Its smoothed round-trip time; `None` before the first acknowledgment.
    pub smoothed_rtt: Option<Duration>,
    /// The smallest seen.
    pub min_rtt: Option<Duration>,
    /// Bytes on the wire in records that wait for an acknowledgment.
    pub bytes_in_flight: u64,
    /// How many bytes a second it delivers, headers included; `None` as long as there was never more to send than it took, and
    /// when nothing was sent on it for some seconds.
    pub delivery_rate: Option<u64>,
    /// How many bytes a second it has been seen to deliver.
    pub least_rate: u64,
    /// Bytes given to the socket since it joined.
    pub bytes_sent: u64,
    /// The same, counted from where the least used of the others stood when it joined: what shares are measured by.
    pub share: u64,
    /// Its socket had no room for what there was when it was asked last.
    pub blocked: bool,
    /// To be used only when no other lives.
    pub backup: bool,
}

/// The answer of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// Put new data on it.
    Send,
    /// Put nothing new on it for now. It is asked again at the next poll.
    Wait,
    /// Put new data on it or, if there is none, what others have sent and is not acknowledged yet.
    Duplicate,
}

/// A policy. Called for each record that could carry stream data; must not take long.
///
/// The answer must follow from what is shown alone: the session asks when it builds a record, and also to tell whether it
/// could build one. To stay alive a policy must never answer [`Choice::Wait`] for every TCP connection that is not blocked.
pub trait Scheduler: Send {
    /// Whether `all[asked]` may take the next piece of a stream. `all` is sorted by connection ID and has every TCP
    /// connection that may carry this stream, `asked` among them. `unsent`: bytes that all streams together could send now.
    fn choose(&self, asked: usize, all: &[TcpView], unsent: u64) -> Choice;

    /// Whether it ever answers [`Choice::Duplicate`]. A policy that never does should say so: it saves a search through all
    /// streams for what could be sent twice.
    fn duplicates(&self) -> bool {
        true
    }
}

/// Whether `all[asked]` has to stand back because it is a backup and another is not.
fn is_held_back(asked: usize, all: &[TcpView]) -> bool {
    all[asked].backup && all.iter().any(|other| !other.backup)
}
