//! Policies without prediction, for comparison and for known paths.

use super::{Choice, Scheduler, TcpView, is_held_back};

/// Fills every socket with room. Each TCP connection runs at its own rate and one stream gets the sum, but waits for
/// the slowest. Backups wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aggregate;

impl Scheduler for Aggregate {
    fn name(&self) -> &'static str {
        "aggregate"
    }

    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        if is_held_back(asked, all) { Choice::Wait } else { Choice::Send }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

/// Uses the TCP connection with the lowest smoothed round-trip time first; others take only data for which faster ones
/// have no room. One without a measurement counts as fastest, so that it gets one.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowestRtt;

impl Scheduler for LowestRtt {
    fn name(&self) -> &'static str {
        "lowest-rtt"
    }

    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        if is_held_back(asked, all) {
            return Choice::Wait;
        }
        let rank = |view: &TcpView| (view.smoothed_rtt.unwrap_or_default(), view.tcp);
        let me = &all[asked];
        let better_is_free =
            all.iter().any(|other| other.backup == me.backup && !other.blocked && rank(other) < rank(me));
        if better_is_free { Choice::Wait } else { Choice::Send }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

/// Gives equal shares: a TCP connection waits while another that is not blocked has sent less by more than
/// [`RoundRobin::QUANTUM`].
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl RoundRobin {
    /// Bytes that one may be ahead of another.
    pub const QUANTUM: u64 = 64 * 1024;
}

impl Scheduler for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        if is_held_back(asked, all) {
            return Choice::Wait;
        }
        let me = &all[asked];
        let other_is_behind = all
            .iter()
            .any(|other| other.backup == me.backup && !other.blocked && other.share + Self::QUANTUM < me.share);
        if other_is_behind { Choice::Wait } else { Choice::Send }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

/// Sends everything on every TCP connection; the first copy that arrives counts. It uses the rate of all paths to get
/// the delay of the fastest one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redundant;

impl Scheduler for Redundant {
    fn name(&self) -> &'static str {
        "redundant"
    }

    fn choose(&self, _asked: usize, _all: &[TcpView], _unsent: u64) -> Choice {
        Choice::Duplicate
    }
}

/// Uses one TCP connection at a time: the oldest that is not a backup.
#[derive(Clone, Copy, Debug, Default)]
pub struct ActiveStandby;

impl Scheduler for ActiveStandby {
    fn name(&self) -> &'static str {
        "active-standby"
    }

    fn choose(&self, asked: usize, all: &[TcpView], _unsent: u64) -> Choice {
        let first = all.iter().min_by_key(|view| (view.backup, view.tcp));
        if first.is_some_and(|first| first.tcp == all[asked].tcp) { Choice::Send } else { Choice::Wait }
    }

    fn duplicates(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::wire::ids::ConnectionId;

    fn view(tcp: u32, rtt_ms: u64) -> TcpView {
        TcpView {
            tcp: ConnectionId(tcp),
            smoothed_rtt: Some(Duration::from_millis(rtt_ms)),
            min_rtt: None,
            bytes_in_flight: 0,
            delivery_rate: None,
            least_rate: 0,
            bytes_sent: 0,
            share: 0,
            blocked: false,
            backup: false,
            lane: false,
            bulk: false,
            stalled: false,
        }
    }

    #[test]
    fn only_duplicating_policies_send_data_twice() {
        let all = [view(0, 9), view(1, 1), TcpView { backup: true, ..view(2, 1) }];
        let policies: [&dyn Scheduler; 5] = [&Aggregate, &LowestRtt, &RoundRobin, &Redundant, &ActiveStandby];
        for policy in policies {
            assert_eq!(answers(policy, &all).contains(&Choice::Duplicate), policy.duplicates());
        }
    }

    fn answers(policy: &dyn Scheduler, all: &[TcpView]) -> Vec<Choice> {
        (0..all.len()).map(|asked| policy.choose(asked, all, 0)).collect()
    }

    #[test]
    fn aggregation_uses_all_and_backups_only_when_alone() {
        let backup = TcpView { backup: true, ..view(2, 1) };
        assert_eq!(answers(&Aggregate, &[view(0, 9), view(1, 1), backup]), [Choice::Send, Choice::Send, Choice::Wait]);
        assert_eq!(answers(&Aggregate, &[backup]), [Choice::Send]);
    }

    #[test]
    fn lowest_rtt_is_used_first_until_it_is_blocked() {
        let (slow, fast) = (view(0, 50), view(1, 10));
        assert_eq!(answers(&LowestRtt, &[slow, fast]), [Choice::Wait, Choice::Send]);
        let blocked = TcpView { blocked: true, ..fast };
        assert_eq!(answers(&LowestRtt, &[slow, blocked]), [Choice::Send, Choice::Send]);
    }

    #[test]
    fn round_robin_holds_back_a_tcp_connection_a_quantum_ahead_of_one_with_room() {
        let ahead = TcpView { share: RoundRobin::QUANTUM + 1, ..view(0, 1) };
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
