//! As long as streams are open, somebody waits for something: a TCP connection on which nothing was heard for a while is
//! pinged, so that one that went dark is suspected before it is needed, and by a side that has nothing to send. Less and less
//! often while nothing but answers comes; but often enough to keep the session from being idle, for that is what an open
//! stream says it is not.

use core::time::Duration;

use super::Connection;
use super::pending::Carried;
use crate::tcp::Tcp;
use crate::time::Time;

/// The shortest time between probes, however short the idle timeout is.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl Connection {
    /// When `entry` will have been quiet for too long.
    pub(super) fn probe_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let quiet = self.config.probe_after.filter(|_| self.established && !self.plain && self.is_open())?;
        let waits = entry.is_active() && !entry.suspect && entry.sent.is_empty() && self.streams.len() > 0;
        if !waits {
            return None;
        }
        let longest = self.idle_timeout.map_or(Duration::MAX, |idle| (idle / 2).max(MIN_INTERVAL));
        Some(entry.probes.next(entry.heard, quiet, longest))
    }

    /// Pings those that were quiet for too long.
    pub(super) fn probe_the_quiet(&mut self, now: Time) {
        let quiet = |entry: &&Tcp<Carried>| self.probe_deadline(entry).is_some_and(|at| at <= now);
        let quiet: Vec<_> = self.tcps.iter().filter(quiet).map(|entry| entry.id).collect();
        for tcp in quiet {
            if let Some(entry) = self.tcps.get_mut(tcp) {
                entry.ping = true;
                entry.probes.note(now);
            }
        }
    }
}
