//! As long as streams are open, an application waits for data: a TCP connection on which nothing arrived for a while is
//! pinged, so that a dark path is noticed before it is needed, and by an endpoint that has nothing to send. Less and less
//! often while nothing but answers comes; but often enough to keep the session from being idle, for that is what an open
//! stream says it is not.

use core::time::Duration;

use super::Connection;
use super::control::Carried;
use super::trace::Event;
use crate::config::Config;
use crate::tcp::Tcp;
use crate::time::Time;

/// The shortest time between probes, however short the idle timeout is.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long a TCP connection of a session may be quiet. It is asked for with each deadline, and changes once.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeInterval {
    first: Duration,
    longest: Duration,
}

impl ProbeInterval {
    /// `None` if probes are turned off.
    pub(super) fn new(config: &Config, idle_timeout: Option<Duration>) -> Option<Self> {
        let longest = idle_timeout.map_or(Duration::MAX, |idle| (idle / 2).max(MIN_INTERVAL));
        config.probe_after.map(|first| Self { first, longest })
    }

    /// When `entry` will have been quiet for too long.
    pub(super) fn deadline(self, entry: &Tcp<Carried>) -> Option<Time> {
        let waits = entry.is_active() && !entry.liveness().is_stalled() && entry.sent().is_empty();
        waits.then(|| entry.liveness().next_probe(self.first, self.longest))
    }
}

impl Connection {
    /// How long a TCP connection may be quiet; `None` if for as long as it likes.
    pub(super) fn probe_interval(&self) -> Option<ProbeInterval> {
        let probes = self.established && !self.plain && self.is_open() && self.streams.len() > 0;
        self.probe_interval.filter(|_| probes)
    }

    /// Pings those that were quiet for too long.
    pub(super) fn probe_the_quiet(&mut self, now: Time) {
        let Some(interval) = self.probe_interval() else { return };
        let is_quiet = |entry: &Tcp<Carried>| interval.deadline(entry).is_some_and(|at| at <= now);
        for entry in self.tcps.iter_mut().filter(|entry| is_quiet(entry)) {
            entry.live().probe(now);
            self.trace.emit(|| Event::Probed { tcp: entry.id() });
        }
    }
}
