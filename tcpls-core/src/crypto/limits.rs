//! How often a key may be used: counters over all TCP connections of a session, because they share one key.
//!
//! The limits come from the AEAD (`SealKey::confidentiality_limit`, `OpenKey::integrity_limit`) or from the
//! configuration; the session decides what happens when one is reached.

use core::fmt;

/// Records that one generation of sealing keys may still protect, over all TCP connections.
///
/// A new generation of keys starts with a new budget.
#[derive(Clone, Debug)]
pub(crate) struct SealBudget {
    used: u64,
    limit: u64,
}

impl SealBudget {
    /// A budget of `limit` records, `used` of which were sealed already (by the TLS handshake: half-RTT data, tickets).
    pub(crate) const fn new(limit: u64, used: u64) -> Self {
        Self { used, limit }
    }

    /// Counts a record that is about to be sealed. It must not be sealed if this fails.
    pub(crate) fn spend(&mut self) -> Result<(), LimitReached> {
        spend(&mut self.used, self.limit)
    }

    /// Whether half of the budget is used: a key update is due.
    pub(crate) const fn wants_update(&self) -> bool {
        self.used >= self.limit / 2
    }

    /// Whether one more record may be sealed.
    pub(crate) const fn has_left(&self) -> bool {
        self.used < self.limit
    }

    /// Records sealed with this generation.
    #[cfg(test)]
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }
}

/// Records that may fail to open before the session must end, over all TCP connections and all generations of keys
/// (as RFC 9001, 6.6 counts them).
#[derive(Clone, Debug)]
pub(crate) struct OpenBudget {
    failed: u64,
    limit: u64,
}

impl OpenBudget {
    /// A budget of `limit` records.
    pub(crate) const fn new(limit: u64) -> Self {
        Self { failed: 0, limit }
    }

    /// Counts a record that failed to open. The session must end if this fails.
    pub(crate) fn spend(&mut self) -> Result<(), LimitReached> {
        spend(&mut self.failed, self.limit)
    }

    /// Records that failed to open.
    #[cfg(test)]
    pub(crate) const fn failed(&self) -> u64 {
        self.failed
    }
}

fn spend(used: &mut u64, limit: u64) -> Result<(), LimitReached> {
    if *used >= limit {
        return Err(LimitReached);
    }
    *used += 1;
    Ok(())
}

/// The limit of a key is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key has been used as often as it may be")
    }
}

impl core::error::Error for LimitReached {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_to_the_last_record_and_no_further() {
        let mut budget = SealBudget::new(3, 0);
        assert_eq!([(); 5].map(|()| budget.spend()), [Ok(()), Ok(()), Ok(()), Err(LimitReached), Err(LimitReached)]);
        assert_eq!(budget.used(), 3);
    }

    #[test]
    fn reached_limit_is_named_in_the_error() {
        assert_eq!(LimitReached.to_string(), "the key has been used as often as it may be");
    }

    #[test]
    fn an_update_is_due_when_half_of_the_budget_is_used() {
        let mut budget = SealBudget::new(4, 0);
        budget.spend().unwrap();
        assert!(!budget.wants_update());
        budget.spend().unwrap();
        assert!(budget.wants_update());
    }

    #[test]
    fn records_sealed_by_the_handshake_count() {
        let mut budget = SealBudget::new(4, 3);
        assert!(budget.wants_update());
        assert_eq!([budget.spend(), budget.spend()], [Ok(()), Err(LimitReached)]);
    }

    #[test]
    fn a_handshake_that_used_more_than_the_limit_leaves_nothing() {
        assert_eq!(SealBudget::new(2, u64::MAX).spend(), Err(LimitReached));
    }

    #[test]
    fn failures_are_counted_up_to_the_integrity_limit() {
        let mut budget = OpenBudget::new(2);
        assert_eq!([(); 3].map(|()| budget.spend()), [Ok(()), Ok(()), Err(LimitReached)]);
        assert_eq!(budget.failed(), 2);
    }
}
