//! When a session is idle: no stream is open, and the application sends no Ping. The loss and join of TCP connections,
//! and the frames about that, do not count as activity: behind a proxy that ends quiet TCP connections the session
//! would never end.
//!
//! While streams are open, every record of the peer counts, and probes elicit one in time (`probe`).

use core::time::Duration;

use super::Connection;
use super::probe::ProbeInterval;
use super::record::Item;
use crate::config::MIN_TIMEOUT;
use crate::time::Time;
use crate::wire::frame::Parameters;
use crate::wire::ids::ConnectionId;

/// The last activity of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    last: Time,
    /// A Ping of the application is in flight.
    asked: bool,
    /// When the timeout of a plain session was set.
    limited: Time,
}

impl Activity {
    pub(super) fn new(now: Time) -> Self {
        Self { last: now, asked: false, limited: now }
    }

    /// The time of the last activity.
    pub(super) fn last(&self) -> Time {
        self.last
    }

    /// When the timeout of a plain session was set: it starts at that time, whatever happened before.
    pub(super) fn limited(&self) -> Time {
        self.limited
    }

    /// Records that such a Ping is due.
    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// Activity of the peer arrived.
    pub(super) fn note(&mut self, at: Time) {
        self.last = self.last.max(at);
    }

    /// A new acknowledgment arrived; it may answer the Ping.
    pub(super) fn answered(&mut self, now: Time) {
        if core::mem::take(&mut self.asked) {
            self.last = now;
        }
    }
}

impl Connection {
    /// Replaces the idle timeout of a session without TCPLS, where no peer announces one. It starts now. `None`: the
    /// session is never idle, and may wait for any time until its socket takes data. No effect in a session with TCPLS.
    ///
    /// [`Config::idle_timeout`](crate::config::Config::idle_timeout) applies to both kinds of sessions, but Pings keep
    /// only those with TCPLS. An application that sets `None` needs another sign that the peer is there, such as
    /// TCP's keep-alive. A timeout is raised to 100 ms.
    pub fn set_plain_idle_timeout(&mut self, now: Time, timeout: Option<Duration>) {
        self.trace.call(|_| Item::SetPlainIdleTimeout { now, timeout });
        if self.plain {
            self.idle_timeout = timeout.map(|timeout| timeout.max(MIN_TIMEOUT));
            self.activity.limited = now;
        }
    }

    /// A Ping arrived. One in the first record of a join only shows the TCP connection, and is no activity of the
    /// session.
    pub(super) fn note_ping(&mut self, now: Time, tcp: ConnectionId) {
        let is_join = |records: u64| tcp != ConnectionId::FIRST && records <= 1;
        if self.tcps.get(tcp).is_some_and(|entry| !is_join(entry.counters().records_received)) {
            self.activity.note(now);
        }
    }

    /// Returns when the session is idle for too long. A stranded session has a deadline of its own, and so has one
    /// whose peer sends no more. A plain session is active while bytes move in either direction, because a peer that
    /// only receives sends nothing there.
    pub(super) fn idle_deadline(&self) -> Option<Time> {
        if !self.established || self.stranded_until.is_some() || self.peer_is_mute() {
            return None;
        }
        let timeout = self.at_least_an_answer(self.idle_timeout?);
        let mut last = self.activity.last;
        if self.streams.len() > 0 {
            // The answer to data that was sent after a pause has the full timeout.
            last = self.tcps.iter().filter_map(|entry| entry.sent().waiting_since()).fold(last, Time::max);
        }
        if self.plain {
            let moved = self.tcps.get(ConnectionId::FIRST).map(|entry| entry.liveness().moved_or_taken());
            last = moved.map_or(last, |moved| last.max(moved)).max(self.activity.limited);
        }
        Some(last + timeout)
    }

    /// The shorter timeout of both endpoints.
    pub(super) fn set_idle_timeout(&mut self, parameters: &Parameters) {
        let peer = (parameters.idle_timeout_ms > 0).then(|| Duration::from_millis(parameters.idle_timeout_ms));
        self.idle_timeout = [self.config.idle_timeout, peer].into_iter().flatten().min();
        self.probe_interval = ProbeInterval::new(&self.config, self.idle_timeout);
    }
}
