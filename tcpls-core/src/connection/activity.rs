//! When a session is idle: no stream is open, and the application asks for no sign of life. TCP connections that are lost and
//! joined again, and what they say to each other about that, do not keep a session: behind a proxy that ends quiet TCP
//! connections it would never end.
//!
//! While streams are open, whatever the peer says counts, and probes ask for it in time (`probe`).

use core::time::Duration;

use super::Connection;
use super::probe::ProbeInterval;
use crate::time::Time;
use crate::wire::frame::Parameters;
use crate::wire::ids::ConnectionId;

/// The last activity of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    last: Time,
    /// A Ping of the application's is under way.
    asked: bool,
}

impl Activity {
    pub(super) fn new(now: Time) -> Self {
        Self { last: now, asked: false }
    }

    /// When it was.
    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// The application asks for a sign of life.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Something that counts came.
    pub(super) fn note(&mut self, at: Time) {
        self.last = self.last.max(at);
    }

    /// An acknowledgment of something new came; it may be the sign of life.
    pub(super) fn answered(&mut self, now: Time) {
        if core::mem::take(&mut self.asked) {
            self.last = now;
        }
    }
}

impl Connection {
    /// A Ping came. One in the first record of a join says that the TCP connection is there, and nothing about the session.
    pub(super) fn note_ping(&mut self, now: Time, tcp: ConnectionId) {
        let is_join = |records: u64| tcp != ConnectionId::FIRST && records <= 1;
        if self.tcps.get(tcp).is_some_and(|entry| !is_join(entry.counters().records_received)) {
            self.activity.note(now);
        }
    }

    /// A stranded session has a deadline of its own, and so has one whose peer will say nothing more. A plain session lives as
    /// long as bytes move, in either direction: a peer that only receives says nothing there.
    pub(super) fn idle_deadline(&self) -> Option<Time> {
        if !self.established || self.stranded_until.is_some() || self.peer_is_mute() {
            return None;
        }
        let timeout = self.at_least_an_answer(self.idle_timeout?);
        let mut last = self.activity.last;
        if self.streams.len() > 0 {
            // What was sent after a pause is given as long to be answered.
            last = self.tcps.iter().filter_map(|entry| entry.sent().waiting_since()).fold(last, Time::max);
        }
        if self.plain {
            let moved = self.tcps.get(ConnectionId::FIRST).map(|entry| entry.liveness().moved_or_taken());
            last = moved.map_or(last, |moved| last.max(moved));
        }
        Some(last + timeout)
    }

    /// The shorter of what both ends want.
    pub(super) fn set_idle_timeout(&mut self, parameters: &Parameters) {
        let peer = (parameters.idle_timeout_ms > 0).then(|| Duration::from_millis(parameters.idle_timeout_ms));
        self.idle_timeout = [self.config.idle_timeout, peer].into_iter().flatten().min();
        self.probe_interval = ProbeInterval::new(&self.config, self.idle_timeout);
    }
}
