//! Scheduled events in order of time. Events at the same time happen in the order in which they were scheduled, so that
//! a run is reproducible.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tcpls_core::Time;

/// A heap of scheduled events.
#[derive(Debug)]
pub(crate) struct EventQueue<T> {
    entered: u64,
    heap: BinaryHeap<Reverse<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    at: Time,
    number: u64,
    what: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Default for EventQueue<T> {
    fn default() -> Self {
        Self { entered: 0, heap: BinaryHeap::new() }
    }
}

impl<T> EventQueue<T> {
    /// Schedules `what` for `at`.
    pub(crate) fn schedule(&mut self, at: Time, what: T) {
        self.heap.push(Reverse(Entry { at, number: self.entered, what }));
        self.entered += 1;
    }

    /// When the next event is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Removes and returns the next event at or before `now`.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<T> {
        if self.next().is_some_and(|at| at <= now) { self.heap.pop().map(|Reverse(entry)| entry.what) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_the_order_of_time_and_then_of_entry() {
        let mut events = EventQueue::default();
        for (at, what) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b'), (9, 'e')] {
            events.schedule(Time::from_millis(at), what);
        }
        let due: String = std::iter::from_fn(|| events.pop_due(Time::from_millis(2))).collect();
        assert_eq!((due.as_str(), events.next()), ("abcd", Some(Time::from_millis(9))));
    }
}
