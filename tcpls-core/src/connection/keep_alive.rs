//! Pings that keep a session without streams from being idle, if the application wants that.

use core::time::Duration;

use super::Connection;
use crate::time::Time;

/// The shortest time between two of them.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// When the application wants them, and when the last went out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    last: Time,
}

impl Connection {
    /// Keeps the session alive: after `interval` without activity, a Ping goes out on each TCP connection in use. `None`, as
    /// at the start, sends none.
    ///
    /// An interval below 100 ms counts as 100 ms, one above half of the idle timeout as that. The peer counts a Ping as
    /// activity, so one side that keeps the session alive is enough; a peer that does not answer is noticed after the user
    /// timeout. Without effect on a session without TCPLS.
    pub fn set_keep_alive(&mut self, interval: Option<Duration>) {
        self.keep_alive.interval = interval;
    }

    /// When the next Pings are due.
    #[inline]
    pub(super) fn keep_alive_deadline(&self) -> Option<Time> {
        self.keep_alive.interval.and_then(|interval| self.keep_alive_at(interval)) // there is none, as nearly always
    }

    fn keep_alive_at(&self, interval: Duration) -> Option<Time> {
        if !self.established || self.plain || !self.is_open() || self.stranded_until.is_some() || self.peer_is_mute() {
            return None;
        }
        let longest = self.idle_timeout.map_or(Duration::MAX, |idle| (idle / 2).max(MIN_INTERVAL));
        Some(self.activity.last().max(self.keep_alive.last) + interval.clamp(MIN_INTERVAL, longest))
    }

    /// Sends them if they are.
    #[inline]
    pub(super) fn keep_alive_if_due(&mut self, now: Time) {
        if self.keep_alive_deadline().is_some_and(|at| at <= now) {
            self.keep_alive_now(now);
        }
    }

    fn keep_alive_now(&mut self, now: Time) {
        self.keep_alive.last = now;
        for entry in self.tcps.iter_mut().filter(|entry| entry.is_active()) {
            entry.live().ask();
            self.activity.ask();
        }
    }
}
