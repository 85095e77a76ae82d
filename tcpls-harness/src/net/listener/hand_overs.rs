//! Counts the joins that pass between the servers of a farm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the joins that a listener passes on to other servers of its farm, and accepts from them. Clones count
/// together.
#[derive(Clone, Debug, Default)]
pub struct HandOvers(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    passed_on: AtomicU64,
    open: AtomicU64,
    accepted: AtomicU64,
    bytes: AtomicU64,
}

impl HandOvers {
    /// Returns how many joins were passed on to other servers.
    pub fn passed_on(&self) -> u64 {
        self.0.passed_on.load(Ordering::Relaxed)
    }

    /// Returns how many of those have not ended.
    pub fn open(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Returns how many joins other servers passed on to this one, with an authentic header.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Returns how many bytes were carried for other servers, in both directions.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Counts a join that is passed on. It is open until the result is dropped.
    pub(super) fn begin(&self) -> Open {
        self.0.passed_on.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Counts a join that another server passed on.
    pub(super) fn accept(&self) {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
    }
}

/// A join that is passed on.
#[derive(Debug)]
pub(super) struct Open(HandOvers);

impl Open {
    /// Counts bytes that were carried.
    pub(super) fn carried(&self, bytes: u64) {
        self.0.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
