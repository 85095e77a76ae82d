//! Lanes: TCP connections beside the one that a pair has, which the session keeps free of bulk data. The session names
//! the TCP connection whose path lacks one; here one is dialed on its pair, and retired when lanes are no longer needed.
//!
//! A lane is a convenience: it takes neither the last place nor the last token, is not dialed while no TCP connection
//! answers, and a lane that was lost waits before the next.

use std::time::Duration;

use tcpls_core::connection::{JoinOptions, TcpEnd};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::pair::Pair;
use super::{Action, AttemptId, Dialer, Keep};

/// The delay after a lane that did not join, or was lost; it doubles with each.
const PAUSE: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 6;

/// How far the lane of a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its TCP connection is being established.
    Connecting(AttemptId),
    /// It joins; the ID is `None` until the driver has reported it.
    Joining(AttemptId, Option<ConnectionId>),
    Live(ConnectionId),
}

/// The lane of one pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    stage: Option<(Stage, Time)>,
    /// Lanes in a row that failed, and the earliest next dial.
    failures: u32,
    next: Time,
}

impl Lane {
    fn fail(&mut self, now: Time) {
        self.stage = None;
        self.next = now + PAUSE * (1 << self.failures.min(MAX_DOUBLINGS));
        self.failures += 1;
    }

    fn attempt(&self) -> Option<AttemptId> {
        match self.stage?.0 {
            Stage::Connecting(attempt) | Stage::Joining(attempt, _) => Some(attempt),
            Stage::Live(_) => None,
        }
    }

    pub(super) fn is(&self, tcp: ConnectionId) -> bool {
        match self.stage {
            Some((Stage::Live(mine) | Stage::Joining(_, Some(mine)), _)) => mine == tcp,
            _ => false,
        }
    }
}

impl Dialer {
    /// Decides what is due for lanes.
    pub(super) fn keep_lanes(&mut self, now: Time) {
        for index in 0..self.pairs.len() {
            self.expire_lane(now, index);
        }
        if self.lanes_are_needed() {
            if let Some(index) = self.lane_deadline().filter(|(_, at)| *at <= now).map(|(index, _)| index) {
                self.dial_lane(now, index);
            }
        } else {
            (0..self.pairs.len()).for_each(|index| self.leave_lane(index));
        }
    }

    /// Returns when a decision about lanes changes by time alone.
    pub(super) fn lanes_deadline(&self) -> Option<Time> {
        let ends = self.pairs.iter().filter_map(|pair| self.attempt_deadline(pair));
        let is_there = self.pairs.iter().any(|pair| pair.lane.stage.is_some());
        let until = self.view.lanes_until.filter(|at| is_there && self.advanced < *at && *at < Time::MAX);
        let next = self.lane_deadline().map(|(_, at)| at).filter(|at| *at > self.advanced);
        ends.chain(until).chain(next).min()
    }

    fn lanes_are_needed(&self) -> bool {
        self.view.lanes_until.is_some_and(|until| self.advanced < until)
    }

    /// Returns the pair that lacks a lane, and when to dial it.
    fn lane_deadline(&self) -> Option<(usize, Time)> {
        let has_room = self.view.tcp_connections + 2 <= self.view.limit && self.view.tokens >= 2;
        let beside = self.view.wants_lane.filter(|_| {
            has_room && self.lanes_are_needed() && self.urgent_since.is_none() && self.options.keep != Keep::Nothing
        })?;
        let index = self.pairs.iter().position(|pair| pair.is_on(beside))?;
        let pair = &self.pairs[index];
        let is_free = pair.lane.stage.is_none() && !pair.joins_as_backup() && !pair.withdrawn && !self.is_barred(pair);
        is_free.then_some((index, pair.lane.next))
    }

    /// Returns when the attempt to get a lane on `pair` has taken too long.
    fn attempt_deadline(&self, pair: &Pair) -> Option<Time> {
        let (stage, since) = pair.lane.stage?;
        let patience = match stage {
            Stage::Connecting(_) => self.options.connect_timeout,
            Stage::Joining(..) => self.options.connect_timeout.saturating_add(self.view.join_time),
            Stage::Live(_) => return None,
        };
        Some(since + patience)
    }

    fn expire_lane(&mut self, now: Time, index: usize) {
        if self.attempt_deadline(&self.pairs[index]).is_none_or(|at| at > now) {
            return;
        }
        let lane = &mut self.pairs[index].lane;
        match lane.stage {
            Some((Stage::Connecting(attempt), _)) => {
                self.actions.push_back(Action::Abandon { attempt, timed_out: true })
            }
            Some((Stage::Joining(_, Some(tcp)), _)) => {
                self.actions.push_back(Action::Reset { tcp, why: TcpEnd::JoinTimeout });
            }
            _ => {}
        }
        lane.fail(now);
    }

    fn dial_lane(&mut self, now: Time, index: usize) {
        let attempt = self.name();
        let pair = &mut self.pairs[index];
        pair.lane.stage = Some((Stage::Connecting(attempt), now));
        self.actions.push_back(Action::Connect { attempt, path: pair.path });
    }

    /// Lanes are not needed any more. One that is joining is retired once it has joined.
    fn leave_lane(&mut self, index: usize) {
        let is_alone = !self.pairs.iter().any(Pair::answers);
        let lane = &mut self.pairs[index].lane;
        match lane.stage {
            Some((Stage::Connecting(attempt), _)) => {
                self.actions.push_back(Action::Abandon { attempt, timed_out: false })
            }
            Some((Stage::Live(tcp), _)) if !is_alone => self.actions.push_back(Action::Retire { tcp }),
            _ => return,
        }
        lane.stage = None;
    }

    /// TCP of a lane is connected; returns whether it is needed, or `None` if the attempt is none for a lane.
    pub(super) fn lane_connected(&mut self, now: Time, attempt: AttemptId) -> Option<bool> {
        let is_possible = self.view.tokens >= 2 && self.view.tcp_connections + 2 <= self.view.limit;
        let zero_rtt = self.options.zero_rtt;
        let pair = self.pairs.iter_mut().find(|pair| pair.lane.attempt() == Some(attempt))?;
        if !is_possible {
            pair.lane.fail(now);
            return Some(false);
        }
        pair.lane.stage = Some((Stage::Joining(attempt, None), now));
        let options = JoinOptions::default().with(|join| {
            join.zero_rtt = zero_rtt && pair.sends_early();
            join.lane = true;
        });
        self.actions.push_back(Action::Join { attempt, options });
        self.view.tokens -= 1;
        self.view.tcp_connections += 1;
        Some(true)
    }

    /// An attempt failed; returns whether it was one for a lane.
    pub(super) fn lane_failed(&mut self, now: Time, attempt: AttemptId) -> bool {
        let pair = self.pairs.iter_mut().find(|pair| pair.lane.attempt() == Some(attempt));
        pair.map(|pair| pair.lane.fail(now)).is_some()
    }

    /// The join of a lane has begun under this connection ID.
    pub(super) fn lane_joining(&mut self, attempt: AttemptId, tcp: ConnectionId) {
        for pair in &mut self.pairs {
            if let Some((Stage::Joining(mine, name), _)) = &mut pair.lane.stage
                && *mine == attempt
            {
                *name = Some(tcp);
            }
        }
    }

    pub(super) fn note_lane_joined(&mut self, now: Time, tcp: ConnectionId) {
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.lane.is(tcp)) {
            pair.lane.stage = Some((Stage::Live(tcp), now));
            pair.lane.failures = 0;
        }
    }

    pub(super) fn note_lane_lost(&mut self, now: Time, tcp: ConnectionId) {
        if let Some(pair) = self.pairs.iter_mut().find(|pair| pair.lane.is(tcp)) {
            pair.lane.fail(now);
        }
    }

    /// The path of an attempt that is one for a lane.
    pub(super) fn lane_path(&self, attempt: AttemptId) -> Option<super::Path> {
        self.pairs.iter().find(|pair| pair.lane.attempt() == Some(attempt)).map(|pair| pair.path)
    }

    /// The session has ended.
    pub(super) fn end_lanes(&mut self) {
        for pair in &mut self.pairs {
            if let Some((Stage::Connecting(attempt), _)) = pair.lane.stage.take() {
                self.actions.push_back(Action::Abandon { attempt, timed_out: false });
            }
        }
    }
}
