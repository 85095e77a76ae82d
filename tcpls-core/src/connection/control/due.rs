//! The pending control frames of a session: a set of references, each made into a frame only when a record is built,
//! from the state at that time.
//!
//! Because it is a set, loss recovery is one operation: what a lost TCP connection carried is merged into it.

use std::collections::BTreeSet;

use crate::connection::carried::Due;

/// The set of pending frames.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeSet<Due>);

impl Pending {
    pub(super) fn insert(&mut self, due: Due) {
        self.0.insert(due);
    }

    pub(super) fn contains(&self, due: Due) -> bool {
        self.0.contains(&due)
    }

    pub(super) fn remove(&mut self, due: Due) {
        self.0.remove(&due);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Due) -> bool) {
        self.0.retain(keep);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if self.0.is_empty() {
            self.0 = BTreeSet::new();
        }
    }

    /// Returns the first one that `allowed` accepts.
    pub(super) fn first(&self, mut allowed: impl FnMut(&Due) -> bool) -> Option<Due> {
        if self.0.is_empty() {
            return None; // as nearly always
        }
        self.0.iter().find(|due| allowed(due)).copied()
    }
}
