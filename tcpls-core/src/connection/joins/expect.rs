//! What a new TCP connection may be expected to do: how long its join takes, and how much it carries.

use core::time::Duration;

use crate::connection::Connection;
use crate::tcp::life::Grace;
use crate::time::Time;

/// The longest that a join waits because others of the session take long.
const MAX_BEHIND_OTHERS: Duration = Duration::from_secs(30);
/// Bytes that a join takes in one direction, about.
const HELLO: u32 = 1000;

impl Connection {
    /// When a join fails that begins now. It may have to wait behind what others have under way, and so behind as much as they
    /// do; but the peer is not authenticated, so that this does not add to what bytes that move put off.
    pub(super) fn join_grace(&self, now: Time) -> Grace {
        let live = self.tcps.iter().filter_map(|entry| entry.rtt().smoothed()).max();
        let slowest = live.or_else(|| self.lost.values().filter_map(|lost| lost.tcp.rtt().smoothed()).max());
        let behind_others = slowest.unwrap_or_default().saturating_mul(3).min(MAX_BEHIND_OTHERS);
        let timeout = self.config.join_timeout;
        Grace::new(now, timeout.max(behind_others), timeout.saturating_mul(Grace::MOST))
    }

    /// How long the hellos of a join, and what goes with them, take at the rate that there is reason to expect, behind what is
    /// under way: what to add before a join counts as unanswered. Zero if nothing points to a slow path.
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

    /// What a new TCP connection may be expected to carry until it has shown more: as much as the best of the others, or of
    /// those that were lost if there is none.
    pub(in crate::connection) fn expected_rate(&self) -> Option<u64> {
        let live = self.tcps.iter().filter_map(|entry| entry.commit().rate()).max();
        live.or_else(|| self.lost.values().filter_map(|lost| lost.tcp.commit().rate()).max())
    }
}
