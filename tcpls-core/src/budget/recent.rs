//! What a holder delivered in the last 30 s.

use crate::time::Time;

/// Time is cut into epochs of this length.
const EPOCH_NANOS: u64 = 5_000_000_000;
/// Epochs that count as recent, the current one included.
const EPOCHS: u64 = 6;

/// The epoch that `now` is in.
pub(super) fn epoch(now: Time) -> u64 {
    now.as_nanos() / EPOCH_NANOS
}

/// Bytes delivered in each of the last [`EPOCHS`].
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    /// The newest epoch; `bytes` is indexed by epoch modulo [`EPOCHS`].
    newest: u64,
    bytes: [u64; EPOCHS as usize],
}

impl Recent {
    pub(super) fn add(&mut self, epoch: u64, bytes: u64) {
        self.advance(epoch);
        let bucket = &mut self.bytes[(self.newest % EPOCHS) as usize];
        *bucket = bucket.saturating_add(bytes);
    }

    /// Forgets what was delivered before `epoch` and the five before it.
    pub(super) fn advance(&mut self, epoch: u64) {
        let passed = epoch.saturating_sub(self.newest).min(EPOCHS);
        for step in 1..=passed {
            self.bytes[((epoch - passed + step) % EPOCHS) as usize] = 0;
        }
        self.newest = self.newest.max(epoch);
    }

    pub(super) fn sum(&self) -> u64 {
        self.bytes.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// The epoch from which on the sum is smaller; `None` if it is 0.
    pub(super) fn next_change(&self) -> Option<u64> {
        let oldest = self.newest.saturating_sub(EPOCHS - 1);
        (oldest..=self.newest).find(|epoch| self.bytes[(epoch % EPOCHS) as usize] > 0).map(|epoch| epoch + EPOCHS)
    }
}
