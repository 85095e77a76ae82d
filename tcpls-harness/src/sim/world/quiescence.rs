//! Checks of a session after a quiet time: the client has all its tokens, and closing takes only the round trips that
//! it needs.

use std::time::Duration;

use tcpls_core::{State, Time};

use crate::sim::hosts::driver::Driver;
use crate::sim::scenario::{Fault, FaultKind, Scenario, Scheduler, Transport};

/// After so long without news of a TCP connection all that was lost has been sent again: what is not acknowledged costs one
/// its life in 10 s by default, and random scenarios give it no longer; joins take half of that.
const QUIET: Duration = Duration::from_secs(12);
/// The time of closing besides round trips: delayed acknowledgments.
const SPARE: Duration = Duration::from_millis(500);

/// How a session was when it was closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiescence {
    since: Time,
    at: Time,
    established: bool,
}

impl Quiescence {
    /// The ends of a session as they are now.
    pub(super) fn of(now: Time, ends: [Option<&Driver>; 2]) -> Self {
        Self {
            since: ends.iter().flatten().map(|driver| driver.disturbed).max().unwrap_or(now),
            at: now,
            established: ends.iter().all(|end| end.is_some_and(|end| end.conn.state() == State::Established)),
        }
    }

    fn is_quiet(&self) -> bool {
        self.established && self.at - self.since >= QUIET
    }

    /// Whether the client has fewer tokens than the server is to keep it supplied with (docs/protocol.md, D32).
    pub(super) fn lacks_tokens(&self, ends: [Option<&Driver>; 2]) -> Option<String> {
        let [Some(client), Some(server)] = ends else { return None };
        let free = server.conn.max_tcp_connections().saturating_sub(server.conn.tcp_connections().count());
        let wanted = server.spare_tokens.min(free).max(1);
        let has = client.conn.tokens();
        (self.is_quiet() && has < wanted).then(|| format!("the client has {has} tokens of {wanted} after a quiet time"))
    }

    /// Whether an end has not answered a request for a TCP option.
    pub(super) fn owes_answers(&self, ends: [Option<&Driver>; 2]) -> Option<String> {
        let waiting = ends.into_iter().flatten().map(|driver| driver.unanswered).sum::<usize>();
        (self.is_quiet() && waiting > 0).then(|| format!("{waiting} requests for TCP options have no answer"))
    }

    /// Whether closing took longer than it needs where every TCP connection works. Packets may be lost, and queues filled by
    /// others or with what was sent twice: then it depends on them.
    pub(super) fn closes_late(&self, now: Time, scenario: &Scenario, ends: [Option<&Driver>; 2]) -> Option<String> {
        let alone = scenario.clients == 1 && scenario.transport == Transport::Pipes && !is_redundant(scenario);
        if !alone || !self.is_quiet() || scenario.fault.iter().any(|fault| may_matter(fault, self.at)) {
            return None;
        }
        let longest = scenario.path.iter().map(|path| path.delay.0 + path.jitter.0).max().unwrap_or_default();
        let closed = ends.iter().flatten().map(|driver| driver.closed_at.unwrap_or(now)).max()?;
        let took = closed - self.at;
        (took > SPARE + longest * 8)
            .then(|| format!("closing took {:.3} s although nothing stood in its way", took.as_secs_f64()))
    }
}

/// Whether an end sends everything on all TCP connections, or does for some time.
fn is_redundant(scenario: &Scenario) -> bool {
    let by_actions = scenario.action.iter().map(|action| action.scheduler);
    [scenario.client.scheduler, scenario.server.scheduler]
        .into_iter()
        .chain(by_actions)
        .any(|s| s == Some(Scheduler::Redundant))
}

/// Whether a fault can have to do with what happens from `at` on: it is not long over, it waits for bytes, or it may have left
/// a TCP connection that only one end believes in.
fn may_matter(fault: &Fault, at: Time) -> bool {
    use FaultKind::{Corrupt, Fin, Forget, Reset, ResetClient, ResetServer, Restart};
    let end = if matches!(fault.kind, Reset | Fin | Restart) { Some(fault.at) } else { fault.until };
    let mute = matches!(fault.kind, Corrupt | Forget | ResetClient | ResetServer);
    mute || end.is_none_or(|end| Time::ZERO + end.0 + QUIET > at)
}
