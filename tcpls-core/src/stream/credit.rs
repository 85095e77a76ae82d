//! How much this endpoint may send: a limit that the peer raises. The same type serves the session and each stream.

use super::MAX_OFFSET;

/// How much this endpoint may send: what the peer allows, less what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    limit: u64,
    used: u64,
}

impl Credit {
    /// As much as offsets can express.
    pub(super) const UNLIMITED: Self = Self { limit: MAX_OFFSET, used: 0 };

    /// Raises the limit; a lower one is old news that was overtaken. Says whether it rose.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let limit = limit.min(MAX_OFFSET);
        let rises = limit > self.limit;
        self.limit = self.limit.max(limit);
        rises
    }

    /// Raises the limit; whether nothing could have been sent without that.
    pub(super) fn raise_if_spent(&mut self, limit: u64) -> bool {
        let is_spent = self.left() == 0;
        self.raise(limit) && is_spent
    }

    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Returns the bytes sent so far.
    pub(super) fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_never_falls_and_is_capped_at_the_largest_offset() {
        let mut credit = Credit::default();
        assert!(credit.raise(10));
        assert!(!credit.raise(5));
        credit.spend(4);
        assert_eq!(credit.left(), 6);
        assert!(credit.raise(u64::MAX));
        assert_eq!(credit.left(), MAX_OFFSET - 4);
    }
}
