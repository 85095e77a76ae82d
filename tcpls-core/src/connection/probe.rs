//! Probes: while streams are open, the session sends a Ping on a TCP connection that has received nothing for a while.
//! So it detects a dark path before it needs it, and even without data to send. The interval doubles while only answers
//! arrive, but stays short enough to prevent the session from being idle.
//!
//! The session also pings a TCP connection when the application asks for it, or when the peer makes it a backup: the peer
//! may receive nothing on it.

use core::time::Duration;

use super::Connection;
use super::control::Carried;
use super::trace::Event;
use crate::config::Config;
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// The shortest interval of probes, for any idle timeout.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long a TCP connection may be quiet. Computed once, because each deadline needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeInterval {
    first: Duration,
    longest: Duration,
}

impl ProbeInterval {
    /// `None` if probes are disabled.
    pub(super) fn new(config: &Config, idle_timeout: Option<Duration>) -> Option<Self> {
        let longest = idle_timeout.map_or(Duration::MAX, |idle| (idle / 2).max(MIN_INTERVAL));
        config.probe_after.map(|first| Self { first, longest })
    }

    /// Returns when the next probe of `entry` is due.
    pub(super) fn deadline(self, entry: &Tcp<Carried>) -> Option<Time> {
        let waits = entry.is_active() && !entry.liveness().is_stalled() && entry.sent().is_empty();
        waits.then(|| entry.liveness().next_probe(self.first, self.longest))
    }
}

impl Connection {
    /// Makes a Ping due on `tcp`.
    pub(super) fn ask(&mut self, tcp: ConnectionId) {
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().ask();
            self.activity.ask();
        }
    }

    /// Returns how long a TCP connection may be quiet; `None` if there is no limit.
    pub(super) fn probe_interval(&self) -> Option<ProbeInterval> {
        let probes = self.established && !self.plain && self.is_open() && self.streams.len() > 0;
        self.probe_interval.filter(|_| probes)
    }

    /// Sends the probes that are due.
    pub(super) fn probe_the_quiet(&mut self, now: Time) {
        let Some(interval) = self.probe_interval() else { return };
        let is_quiet = |entry: &Tcp<Carried>| interval.deadline(entry).is_some_and(|at| at <= now);
        for entry in self.tcps.iter_mut().filter(|entry| is_quiet(entry)) {
            entry.live().probe(now);
            self.trace.emit(|| Event::Probed { tcp: entry.id() });
        }
    }
}
