//! The positions of one TCP connection's records in the chains of keys, in both directions, and their numbers.

use super::Tcp;
use super::sent::Backlog;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq};

/// The position of one direction of a TCP connection in the chain of key generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyPosition {
    /// The generation of the next record.
    pub(crate) generation: u32,
    /// The AEAD's sequence number for it; back to 0 at each key update (RFC 8446, 5.3).
    pub(crate) aead_seq: u64,
}

/// What the session stores of a record until it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep<'a, C> {
    /// It elicits no acknowledgment.
    Nothing,
    /// It elicits one.
    Record {
        now: Time,
        /// Contents that are requeued if the TCP connection is lost.
        carried: &'a [C],
        backlog: Backlog,
    },
}

/// The position of this endpoint's next record, and what the peer is known to have of the generations before.
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

impl<C> Tcp<C> {
    /// The handshake is complete: the TLS library has sealed and opened this many records with the first generation of keys.
    pub(crate) fn begin_at(&mut self, sealed: u64, opened: u64) {
        (self.sealing.at.aead_seq, self.open.aead_seq) = (sealed, opened);
        self.sent.start_at(RecordSeq(sealed));
        self.received.start_at(RecordSeq(opened));
    }

    /// Its first record uses this generation of this endpoint's keys; no effect once there was one.
    pub(crate) fn begin_with(&mut self, generation: u32) {
        if self.sealing.is_fresh() {
            self.sealing.at.generation = generation;
        }
    }

    /// Makes the next record: `seal` gets its place in the chain of keys, and moves it on; returns its number. `bytes` are those
    /// on the wire.
    // draft I19
    #[inline]
    pub(crate) fn seal_next<E>(
        &mut self,
        bytes: usize,
        keep: Keep<'_, C>,
        seal: impl FnOnce(ConnectionId, &mut KeyPosition) -> Result<(), E>,
    ) -> Result<RecordSeq, E>
    where
        C: Copy,
    {
        self.sealing.begin();
        seal(self.id, &mut self.sealing.at)?;
        Ok(self.number_next(bytes, keep))
    }

    /// Gives a number to a record that was sealed elsewhere.
    #[inline]
    pub(crate) fn number_next(&mut self, bytes: usize, keep: Keep<'_, C>) -> RecordSeq
    where
        C: Copy,
    {
        self.counters.records_sent += 1;
        match keep {
            Keep::Nothing => self.sent.skip(),
            Keep::Record { now, carried, backlog } => {
                carried.iter().for_each(|item| self.sent.carry(*item));
                self.sent.push(now, bytes as u16, carried.len() as u16, backlog)
            }
        }
    }

    /// The record with this number was a KeyUpdate of this endpoint's.
    pub(crate) fn key_update_sealed(&mut self, number: RecordSeq) {
        self.sealing.step(number);
    }

    /// Opens the peer's next record: `open` gets its place in the chain of keys, and moves it on.
    #[inline]
    pub(crate) fn open_next<E>(
        &mut self,
        open: impl FnOnce(ConnectionId, &mut KeyPosition) -> Result<(), E>,
    ) -> Result<(), E> {
        open(self.id, &mut self.open)?;
        self.received.count();
        self.counters.records_received += 1;
        Ok(())
    }

    /// Returns the position of this endpoint's next record in the chain of keys.
    pub(crate) fn seal_position(&self) -> &KeyPosition {
        &self.sealing.at
    }

    /// The peer's KeyUpdate arrived: `step` moves on to the next generation of its keys.
    pub(crate) fn key_update_opened<E>(
        &mut self,
        step: impl FnOnce(&mut KeyPosition) -> Result<(), E>,
    ) -> Result<(), E> {
        step(&mut self.open)
    }

    /// The generation of this endpoint's keys that its next record uses.
    pub(crate) fn seal_generation(&self) -> u32 {
        self.sealing.at.generation
    }

    /// The generation of the peer's keys that the next record should use.
    pub(crate) fn open_generation(&self) -> u32 {
        self.open.generation
    }

    /// The peer has everything up to `highest`; the generation that it has shown to have, if it is the newest in use here.
    pub(crate) fn confirmed_generation(&mut self, highest: RecordSeq) -> Option<u32> {
        self.sealing.acked(highest)
    }

    /// Whether the peer may still need an older generation than `target` for what is under way.
    pub(crate) fn lags(&self, target: u32) -> bool {
        self.sealing.lags(target)
    }

    /// Whether a record was sealed under its number: a nonce is used.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.sealing.is_fresh()
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
