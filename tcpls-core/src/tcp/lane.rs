//! Whether a TCP connection is a lane, which is kept free of bulk data, and whether it carries bulk data now.

use core::time::Duration;

use super::Tcp;
use crate::time::Time;

/// This many bytes of bulk streams within [`WINDOW`] are bulk data.
const ENOUGH: u64 = 32 * 1024;
/// The time in which they move, and for which the TCP connection then counts as carrying bulk data.
const WINDOW: Duration = Duration::from_secs(1);

/// The use of one TCP connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lane {
    is_lane: bool,
    /// The peer does not know: its first record here reports it.
    owes_notice: bool,
    /// When counting began, and what bulk streams have moved since then, in either direction.
    counted: (Time, u64),
    /// When that was enough.
    bulk_at: Option<Time>,
}

impl Lane {
    fn note(&mut self, now: Time, bytes: u64) {
        if now - self.counted.0 >= WINDOW {
            self.counted = (now, 0);
        }
        self.counted.1 += bytes;
        if self.counted.1 >= ENOUGH {
            self.bulk_at = Some(now);
        }
    }
}

impl<C> Tcp<C> {
    /// It is a lane from now on, by decision of this endpoint: its first record notifies the peer.
    pub(crate) fn join_as_lane(&mut self) {
        (self.lane.is_lane, self.lane.owes_notice) = (true, true);
    }

    /// It is a lane, by decision of the peer.
    pub(crate) fn handle_lane(&mut self) {
        self.lane.is_lane = true;
    }

    pub(crate) fn is_lane(&self) -> bool {
        self.lane.is_lane
    }

    /// Whether the record under construction has to notify the peer.
    pub(crate) fn take_lane_notice(&mut self) -> bool {
        core::mem::take(&mut self.lane.owes_notice)
    }

    /// Data of bulk streams went out or arrived on it.
    #[inline]
    pub(crate) fn note_bulk(&mut self, now: Time, bytes: u64) {
        self.lane.note(now, bytes);
    }

    /// Whether it carries bulk data: small data on it would wait in queues.
    pub(crate) fn carries_bulk(&self, now: Time) -> bool {
        self.lane.bulk_at.is_some_and(|at| now < at + WINDOW)
    }

    /// Whether it runs on the same path as `other`, as far as the driver has set addresses: the client's ports differ.
    pub(crate) fn shares_path(&self, other: &Self) -> bool {
        self.remote == other.remote && self.local.map(|local| local.ip()) == other.local.map(|local| local.ip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::TcpState;
    use crate::wire::ids::ConnectionId;

    #[test]
    fn bulk_is_much_data_within_a_second_and_lasts_a_second_longer() {
        let mut tcp: Tcp<()> = Tcp::new(ConnectionId(1), TcpState::Handshaking, Time::ZERO);
        let at = Time::from_millis;
        for tenth in 0..100 {
            tcp.note_bulk(at(tenth * 100), ENOUGH / 11);
            assert!(!tcp.carries_bulk(at(tenth * 100)), "a little all the time");
        }
        tcp.note_bulk(at(20_000), ENOUGH - 1);
        assert!(!tcp.carries_bulk(at(20_000)));
        tcp.note_bulk(at(20_999), 1);
        assert!(tcp.carries_bulk(at(20_999)) && tcp.carries_bulk(at(21_998)) && !tcp.carries_bulk(at(21_999)));
    }
}
