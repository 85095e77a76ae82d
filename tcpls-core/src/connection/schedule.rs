//! Which TCP connection carries new stream data. Records are pulled: a scheduler is only asked whether the one that has
//! room right now may take the next record. Which streams may use it is decided before (attachment).

use core::time::Duration;

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
    /// Bytes given to the socket since it joined.
    pub bytes_sent: u64,
    /// Its socket had no room for what there was when it was asked last.
    pub blocked: bool,
    /// To be used only when no other lives.
    pub backup: bool,
}

/// The answer of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// connection that may carry this stream, `asked` among them.
    fn choose(&self, asked: usize, all: &[TcpView]) -> Choice;
}

/// Which streams' data one TCP connection may take right now.
pub(super) struct Chooser<'a> {
    policy: &'a dyn Scheduler,
    tcp: ConnectionId,
    active: &'a [TcpView],
    /// The answer for streams that are attached to none: all of them get the same.
    unattached: Choice,
}

impl<'a> Chooser<'a> {
    /// `active` are the TCP connections in use; those that open or are being left are not.
    pub(super) fn new(policy: &'a dyn Scheduler, tcp: ConnectionId, active: &'a [TcpView]) -> Self {
        Self { policy, tcp, active, unattached: ask(policy, tcp, active) }
    }

    /// Whether data is to go out on several TCP connections.
    pub(super) fn is_redundant(&self) -> bool {
        self.unattached == Choice::Duplicate
    }

    /// What it may do for a stream that is attached to `attached`. Asked for each stream, so that nobody stands back for
    /// one that may not carry the stream: it would wait for ever.
    pub(super) fn choice(&self, attached: &[ConnectionId]) -> Choice {
        if attached.is_empty() {
            return self.unattached;
        }
        let usable = self.active.iter().filter(|view| attached.contains(&view.tcp));
        ask(self.policy, self.tcp, &usable.copied().collect::<Vec<_>>())
    }
}

fn ask(policy: &dyn Scheduler, tcp: ConnectionId, usable: &[TcpView]) -> Choice {
    match usable.iter().position(|view| view.tcp == tcp) {
        // Opening or being left: used only when nothing better lives.
        None if usable.is_empty() => Choice::Send,
        None => Choice::Wait,
        Some(_) if usable.len() == 1 => Choice::Send,
        Some(asked) => policy.choose(asked, usable),
    }
}

/// Whether `all[asked]` has to stand back because it is a backup and another is not.
fn is_held_back(asked: usize, all: &[TcpView]) -> bool {
    all[asked].backup && all.iter().any(|other| !other.backup)
}

/// The default: every TCP connection takes what its socket has room for, so that each runs at its own speed and one stream
/// gets the sum. Backups wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aggregate;

impl Scheduler for Aggregate {
    fn choose(&self, asked: usize, all: &[TcpView]) -> Choice {
        if is_held_back(asked, all) { Choice::Wait } else { Choice::Send }
    }
}

/// The TCP connection with the lowest smoothed round-trip time first; others take only what it and those before them have
/// no room for. One without an estimate counts as fastest, so that it gets one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowestRtt;

impl Scheduler for LowestRtt {
    fn choose(&self, asked: usize, all: &[TcpView]) -> Choice {
        if is_held_back(asked, all) {
            return Choice::Wait;
        }
        let rank = |view: &TcpView| (view.smoothed_rtt.unwrap_or_default(), view.tcp);
        let me = &all[asked];
        let better_is_free =
            all.iter().any(|other| other.backup == me.backup && !other.blocked && rank(other) < rank(me));
        if better_is_free { Choice::Wait } else { Choice::Send }
    }
}

/// Equal shares: a TCP connection waits while another that is not blocked has sent more than [`RoundRobin::QUANTUM`] less.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl RoundRobin {
    /// Bytes that one may be ahead of another.
    pub const QUANTUM: u64 = 64 * 1024;
}

impl Scheduler for RoundRobin {
    fn choose(&self, asked: usize, all: &[TcpView]) -> Choice {
        if is_held_back(asked, all) {
            return Choice::Wait;
        }
        let me = &all[asked];
        let other_is_behind = all.iter().any(|other| {
            other.backup == me.backup && !other.blocked && other.bytes_sent + Self::QUANTUM < me.bytes_sent
        });
        if other_is_behind { Choice::Wait } else { Choice::Send }
    }
}

/// Everything on every TCP connection: the first copy that arrives counts. Costs the sum of the paths, gains the fastest at
/// every moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundant;

impl Scheduler for Redundant {
    fn choose(&self, _asked: usize, _all: &[TcpView]) -> Choice {
        Choice::Duplicate
    }
}

/// One TCP connection at a time, the oldest that is no backup; the others stand by.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveStandby;

impl Scheduler for ActiveStandby {
    fn choose(&self, asked: usize, all: &[TcpView]) -> Choice {
        let first = all.iter().min_by_key(|view| (view.backup, view.tcp));
        if first.is_some_and(|first| first.tcp == all[asked].tcp) { Choice::Send } else { Choice::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(tcp: u32, rtt_ms: u64) -> TcpView {
        TcpView {
            tcp: ConnectionId(tcp),
            smoothed_rtt: Some(Duration::from_millis(rtt_ms)),
            min_rtt: None,
            bytes_in_flight: 0,
            bytes_sent: 0,
            blocked: false,
            backup: false,
        }
    }

    fn answers(policy: &dyn Scheduler, all: &[TcpView]) -> Vec<Choice> {
        (0..all.len()).map(|asked| policy.choose(asked, all)).collect()
    }

    #[test]
    fn aggregation_lets_all_send_but_backups_only_when_alone() {
        let backup = TcpView { backup: true, ..view(2, 1) };
        assert_eq!(answers(&Aggregate, &[view(0, 9), view(1, 1), backup]), [Choice::Send, Choice::Send, Choice::Wait]);
        assert_eq!(answers(&Aggregate, &[backup]), [Choice::Send]);
    }

    #[test]
    fn the_lowest_rtt_goes_first_until_it_is_blocked() {
        let (slow, fast) = (view(0, 50), view(1, 10));
        assert_eq!(answers(&LowestRtt, &[slow, fast]), [Choice::Wait, Choice::Send]);
        let blocked = TcpView { blocked: true, ..fast };
        assert_eq!(answers(&LowestRtt, &[slow, blocked]), [Choice::Send, Choice::Send]);
    }

    #[test]
    fn round_robin_holds_back_who_is_a_quantum_ahead_of_one_that_has_room() {
        let ahead = TcpView { bytes_sent: RoundRobin::QUANTUM + 1, ..view(0, 1) };
        assert_eq!(answers(&RoundRobin, &[ahead, view(1, 1)]), [Choice::Wait, Choice::Send]);
        let blocked = TcpView { blocked: true, ..view(1, 1) };
        assert_eq!(answers(&RoundRobin, &[ahead, blocked]), [Choice::Send, Choice::Send]);
    }

    #[test]
    fn a_standby_waits_for_the_oldest_that_is_no_backup() {
        let backup = TcpView { backup: true, ..view(0, 1) };
        assert_eq!(
            answers(&ActiveStandby, &[backup, view(1, 1), view(2, 1)]),
            [Choice::Wait, Choice::Send, Choice::Wait]
        );
    }
}
