//! How much may be under way on a TCP connection before stream data has to wait for acknowledgments, whatever the socket takes.

use core::time::Duration;

use super::Connection;
use super::pending::Carried;
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;
use crate::wire::record::MAX_PLAINTEXT;

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
        let has_many = entry.sent.len() >= self.config.max_unacknowledged_records as usize;
        has_many && !self.ends_unacknowledged() || self.is_committed(entry)
    }

    /// Whether one more record would be more than the path should be given ahead.
    #[inline]
    fn is_committed(&self, entry: &Tcp<Carried>) -> bool {
        let in_flight = entry.sent.bytes();
        in_flight > 0
            && !entry.commit.allows(in_flight + MAX_PLAINTEXT as u64)
            && self.is_beyond_limit(entry, in_flight)
    }

    fn is_beyond_limit(&self, entry: &Tcp<Carried>, in_flight: u64) -> bool {
        if self.ends_unacknowledged() {
            return false;
        }
        let ack_delay = self.peer_parameters.map_or(0, |parameters| parameters.max_ack_delay_ms.min(1 << 14));
        let limit = entry.commit.limit(entry.rtt.min().unwrap_or_default(), Duration::from_millis(ack_delay));
        let record = entry.commit.record(entry.sent.carried_bytes()).min(MAX_PLAINTEXT) as u64;
        in_flight + record > limit.max(record)
    }

    /// Whether the sender is as fast as the path, although its socket is not full.
    pub(super) fn is_held(&self, tcp: ConnectionId) -> bool {
        self.streams.unsent() > 0 && self.tcps.get(tcp).is_some_and(|entry| self.is_committed(entry))
    }
}
