//! The limits on data in flight of a TCP connection, beyond which stream data waits for acknowledgments even if the
//! socket has room.

use super::Connection;
use super::carried::Carried;
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;
use crate::wire::record::MAX_PLAINTEXT;

/// The most data in flight on a TCP connection without an acknowledgment so far, if there is another one: TCP's initial
/// window (RFC 6928).
const INITIAL_WINDOW: u64 = 10 * 1460;

impl Connection {
    /// Returns whether stream data has to wait for acknowledgments: the number of records has reached its limit (the
    /// references to one-byte records take more memory than the send buffer counts), or the data in flight has. Data
    /// that will never be acknowledged does not wait; the send buffer bounds it.
    pub(super) fn has_enough_under_way(&self, tcp: ConnectionId) -> bool {
        self.tcps.get(tcp).is_some_and(|entry| self.is_full(entry))
    }

    /// The same, of `entry`.
    pub(super) fn is_full(&self, entry: &Tcp<Carried>) -> bool {
        let has_many = entry.sent().len() >= self.config.max_unacknowledged_records as usize;
        has_many && !self.ends_unacknowledged() || self.is_committed(entry)
    }

    /// Whether one more record would exceed the limit on data in flight.
    #[inline]
    fn is_committed(&self, entry: &Tcp<Carried>) -> bool {
        let in_flight = entry.sent().bytes();
        in_flight > 0
            && (in_flight >= INITIAL_WINDOW && self.is_untried(entry)
                || !entry.commit().allows(in_flight + MAX_PLAINTEXT as u64) && self.is_beyond_limit(entry, in_flight))
    }

    /// Whether no acknowledgment has shown the rate of `entry`, and another TCP connection can carry the data.
    fn is_untried(&self, entry: &Tcp<Carried>) -> bool {
        entry.rtt().smoothed().is_none() && self.has_other(entry) && !self.ends_unacknowledged()
    }

    fn is_beyond_limit(&self, entry: &Tcp<Carried>, in_flight: u64) -> bool {
        if self.ends_unacknowledged() {
            return false;
        }
        let limit =
            entry.commit().limit(entry.rtt().min().unwrap_or_default(), self.control.parameters().max_ack_delay());
        let record = entry.commit().record(entry.sent().carried_bytes()).min(MAX_PLAINTEXT) as u64;
        in_flight + record > limit.max(record)
    }

    /// Whether the sender sends at the path's rate, although the socket is not full.
    pub(super) fn is_held(&self, tcp: ConnectionId) -> bool {
        self.streams.unsent() > 0 && self.tcps.get(tcp).is_some_and(|entry| self.is_committed(entry))
    }
}
