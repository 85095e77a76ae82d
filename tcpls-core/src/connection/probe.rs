//! Probes: while streams are open, the session sends a Ping on a TCP connection that has received nothing for a while.
//! So it detects a dark path before it needs it, and even without data to send. The interval doubles while only answers
//! arrive, but stays short enough to prevent the session from being idle. Backups are not probed while another TCP
//! connection is used: their paths may be metered.
//!
//! A TCP connection that the peer makes a backup is probed at once, because the peer may receive nothing on it. The
//! application can request a Ping, too.

use core::time::Duration;

use super::Connection;
use super::carried::Carried;
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
    /// `None` if quiet ones are not probed.
    first: Option<Duration>,
    longest: Duration,
    /// Backups get no probes.
    spares_backups: bool,
}

impl ProbeInterval {
    pub(super) fn new(config: &Config, idle_timeout: Option<Duration>) -> Self {
        let longest = idle_timeout.map_or(Duration::MAX, |idle| (idle / 2).max(MIN_INTERVAL));
        Self { first: config.probe_after, longest, spares_backups: false }
    }

    /// Returns when the next probe of `entry` is due: at once if the peer made it a backup. While an answer is
    /// outstanding, or a Ping is about to be sent, none is: it shows the same.
    pub(super) fn deadline(self, entry: &Tcp<Carried>) -> Option<Time> {
        let live = entry.liveness();
        if !entry.is_active() || live.is_stalled() || live.wants_ping() || !entry.sent().is_empty() {
            return None;
        }
        let first = self.first.filter(|_| !(self.spares_backups && entry.is_backup()));
        live.reported_at().or_else(|| first.map(|first| live.next_probe(first, self.longest)))
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

    /// Returns when to probe TCP connections; `None` if none is probed, because nothing waits for an answer.
    pub(super) fn probe_interval(&self) -> Option<ProbeInterval> {
        let probes = self.established && !self.plain && self.is_open() && self.streams.len() > 0;
        probes.then(|| ProbeInterval { spares_backups: self.spares_backups(), ..self.probe_interval })
    }

    /// Sends the probes that are due.
    #[inline]
    pub(super) fn probe_the_quiet(&mut self, now: Time) {
        let Some(interval) = self.probe_interval() else { return };
        let is_quiet = |entry: &Tcp<Carried>| interval.deadline(entry).is_some_and(|at| at <= now);
        for entry in self.tcps.iter_mut().filter(|entry| is_quiet(entry)) {
            entry.live().probe(now);
            self.trace.emit(|| Event::Probed { tcp: entry.id() });
        }
    }
}
