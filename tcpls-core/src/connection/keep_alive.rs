//! Keep-alive: Pings that prevent a session without streams from being idle. Backups get none while another TCP
//! connection is used: their paths may be metered.

use core::time::Duration;

use super::Connection;
use super::carried::Carried;
use super::record::Item;
use crate::tcp::Tcp;
use crate::time::Time;

/// The shortest time between two of them.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The interval of keep-alives, and when the last was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    last: Time,
}

impl Connection {
    /// Sets the keep-alive: after `interval` without activity, the session sends a Ping on each active TCP connection,
    /// except on backups while another works. `None`, the default, sends none.
    ///
    /// The interval is raised to 100 ms, and lowered to half of the idle timeout. A Ping is activity for the peer, too,
    /// so one endpoint with a keep-alive is enough. A peer that does not answer is detected after the user timeout. No
    /// effect in a session without TCPLS.
    pub fn set_keep_alive(&mut self, interval: Option<Duration>) {
        self.trace.call(|_| Item::SetKeepAlive { interval });
        self.keep_alive.interval = interval;
    }

    /// Returns when the next Pings are due.
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

    /// Sends the Pings if they are due.
    #[inline]
    pub(super) fn keep_alive_if_due(&mut self, now: Time) {
        if self.keep_alive_deadline().is_some_and(|at| at <= now) {
            self.keep_alive_now(now);
        }
    }

    fn keep_alive_now(&mut self, now: Time) {
        self.keep_alive.last = now;
        let spares_backups = self.spares_backups();
        let is_asked = |entry: &&mut Tcp<Carried>| entry.is_active() && !(spares_backups && entry.is_backup());
        for entry in self.tcps.iter_mut().filter(is_asked) {
            entry.live().ask();
            self.activity.ask();
        }
    }
}
