//! How much may be under way on a TCP connection before stream data has to wait for acknowledgments, whatever the socket takes.

use super::Connection;
use super::control::Carried;
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;
use crate::wire::record::MAX_PLAINTEXT;

/// What is under way at most on a TCP connection that was never acknowledged anything, if there is another: as much as TCP sends
/// at once (RFC 6928).
const INITIAL_WINDOW: u64 = 10 * 1460;

impl Connection {
    /// Whether so much waits for an acknowledgment that stream data has to wait, too: many records, for what each carries is
    /// noted, and with records of a byte the notes are much larger than what the send buffer counts; or as many bytes as the
    /// path should be given ahead. What will never be acknowledged goes out as the socket takes it: none of it frees room in
    /// the send buffer, which bounds it.
    pub(super) fn has_enough_under_way(&self, tcp: ConnectionId) -> bool {
        self.tcps.get(tcp).is_some_and(|entry| self.is_full(entry))
    }

    /// The same, of `entry`.
    pub(super) fn is_full(&self, entry: &Tcp<Carried>) -> bool {
        let has_many = entry.sent().len() >= self.config.max_unacknowledged_records as usize;
        has_many && !self.ends_unacknowledged() || self.is_committed(entry)
    }

    /// Whether one more record would be more than the path should be given ahead.
    #[inline]
    fn is_committed(&self, entry: &Tcp<Carried>) -> bool {
        let in_flight = entry.sent().bytes();
        in_flight > 0
            && (in_flight >= INITIAL_WINDOW && self.is_untried(entry)
                || !entry.commit().allows(in_flight + MAX_PLAINTEXT as u64) && self.is_beyond_limit(entry, in_flight))
    }

    /// Whether another TCP connection carries what `entry` does not, of which no acknowledgment has shown how fast it is.
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

    /// Whether the sender is as fast as the path, although its socket is not full.
    pub(super) fn is_held(&self, tcp: ConnectionId) -> bool {
        self.streams.unsent() > 0 && self.tcps.get(tcp).is_some_and(|entry| self.is_committed(entry))
    }
}
