//! Expectations of a new TCP connection: how long its join takes, and its rate.

use core::time::Duration;

use crate::connection::Connection;
use crate::tcp::life::Grace;
use crate::time::Time;

/// Maximum time limit of a join in a slow session.
const MAX_BEHIND_OTHERS: Duration = Duration::from_secs(30);
/// Approximate bytes of a join in one direction.
const HELLO: u32 = 1000;

impl Connection {
    /// Returns when a join that begins now fails. The join may have to wait behind data in flight of other TCP
    /// connections. The peer is not authenticated, so this time is not added to the extension that received bytes give.
    pub(super) fn join_grace(&self, now: Time) -> Grace {
        let live = self.tcps.iter().filter_map(|entry| entry.rtt().smoothed()).max();
        let slowest = live.or_else(|| self.lost.values().filter_map(|lost| lost.tcp.rtt().smoothed()).max());
        let behind_others = slowest.unwrap_or_default().saturating_mul(3).min(MAX_BEHIND_OTHERS);
        let timeout = self.config.join_timeout;
        Grace::new(now, timeout.max(behind_others), timeout.saturating_mul(Grace::MOST))
    }

    /// Returns how long the hellos of a join, and the data with them, take at the expected rate, behind the data in
    /// flight. A join counts as unanswered only after this additional time. Zero unless the path is known to be slow.
    pub fn expected_join_time(&self) -> Duration {
        let rate = self.expected_rate().filter(|rate| *rate > 0);
        let hellos = rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs(1).saturating_mul(2 * HELLO) / u32::try_from(rate).unwrap_or(u32::MAX)
        });
        let waits = self.tcps.iter().filter_map(|entry| entry.rtt().smoothed().zip(entry.rtt().min()));
        let queue = waits.map(|(smoothed, min)| smoothed.saturating_sub(min)).max().unwrap_or_default();
        let gap = self.tcps.iter().map(|entry| entry.liveness().gap()).max().unwrap_or_default();
        (hellos.max(gap * 2) + queue).min(MAX_BEHIND_OTHERS)
    }

    /// Returns the expected rate of a new TCP connection without measurements: that of the fastest other one, or of the
    /// lost ones if there is none.
    pub(in crate::connection) fn expected_rate(&self) -> Option<u64> {
        let live = self.tcps.iter().filter_map(|entry| entry.commit().rate()).max();
        live.or_else(|| self.lost.values().filter_map(|lost| lost.tcp.commit().rate()).max())
    }
}
