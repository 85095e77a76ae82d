//! Where one TCP connection's records stand in the chains of keys, in both directions.

use crate::wire::ids::RecordSeq;

/// Where one direction of a TCP connection stands in the chain of key generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPosition {
    /// Which generation the next record uses.
    pub(crate) generation: u32,
    /// The AEAD's sequence number for it; back to 0 at each key update (RFC 8446, 5.3).
    pub(crate) aead_seq: u64,
}

/// The position of this side's next record, and what the peer is known to have of the generations before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sealing {
    pub(super) at: KeyPosition,
    /// The oldest generation that the peer may still need to open its records: that of the first, or a later one that was
    /// acknowledged on it. `None` before the first.
    arrived: Option<u32>,
    /// The first record that was, or will be, sealed with the generation of `at`.
    since: RecordSeq,
}

impl Sealing {
    /// A record is about to be sealed.
    pub(super) fn begin(&mut self) {
        self.arrived.get_or_insert(self.at.generation);
    }

    /// Whether no record was sealed yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.arrived.is_none()
    }

    /// The record with this number was a KeyUpdate: those behind it use the next generation.
    pub(super) fn step(&mut self, key_update: RecordSeq) {
        self.since = key_update.next();
        self.at = KeyPosition { generation: self.at.generation + 1, aead_seq: 0 };
    }

    /// The peer has everything up to `highest`; the generation that it has shown to have with that, if it is the newest in use.
    pub(super) fn acked(&mut self, highest: RecordSeq) -> Option<u32> {
        if highest < self.since {
            return None;
        }
        self.arrived = Some(self.at.generation);
        self.arrived
    }

    /// Whether the peer may still need an older generation than `target` for what is under way.
    pub(super) fn lags(&self, target: u32) -> bool {
        self.arrived.is_some_and(|arrived| arrived < target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_lags_until_it_acknowledges_a_record_behind_the_key_update() {
        let mut sealing = Sealing::default();
        assert!(sealing.is_fresh() && !sealing.lags(1));
        sealing.begin();
        assert!(!sealing.is_fresh() && sealing.lags(1));
        sealing.step(RecordSeq(4));
        assert_eq!(sealing.at, KeyPosition { generation: 1, aead_seq: 0 });
        assert_eq!(sealing.acked(RecordSeq(4)), None, "the KeyUpdate itself is sealed with the generation before");
        assert!(sealing.lags(1));
        assert_eq!(sealing.acked(RecordSeq(5)), Some(1));
        assert!(!sealing.lags(1) && sealing.lags(2));
    }
}
