//! A set of stream offsets as sorted, disjoint ranges. Nearly always it holds none or one, so it is a plain vector.

use core::ops::Range;

/// Disjoint, non-adjacent, non-empty ranges in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// Adds a range; returns how many of its offsets were new.
    pub(crate) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let first = self.0.partition_point(|known| known.end < range.start);
        let last = self.0.partition_point(|known| known.start <= range.end);
        if first == last {
            let added = range.end - range.start;
            self.0.insert(first, range);
            return added;
        }
        let covered: u64 = self.0[first..last].iter().map(|known| overlap(known, &range)).sum();
        let merged = self.0[first].start.min(range.start)..self.0[last - 1].end.max(range.end);
        self.0[first] = merged;
        self.0.drain(first + 1..last);
        range.end - range.start - covered
    }

    /// Takes a range out; returns how many of its offsets were there.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let first = self.0.partition_point(|known| known.end <= range.start);
        let last = self.0.partition_point(|known| known.start < range.end);
        if first >= last {
            return 0;
        }
        let removed = self.0[first..last].iter().map(|known| overlap(known, &range)).sum();
        let left = self.0[first].start..range.start;
        let right = range.end..self.0[last - 1].end;
        let rest = [left, right].into_iter().filter(|part| part.start < part.end);
        self.0.splice(first..last, rest);
        removed
    }

    /// The lowest range.
    pub(crate) fn first(&self) -> Option<Range<u64>> {
        self.0.first().cloned()
    }

    /// Forgets everything below `offset`.
    pub(crate) fn forget_below(&mut self, offset: u64) {
        self.remove(0..offset);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `gap` for the parts of `range` that are not in the set, in order.
    pub(crate) fn for_gaps(&self, range: Range<u64>, mut gap: impl FnMut(Range<u64>)) {
        let first = self.0.partition_point(|known| known.end <= range.start);
        let mut at = range.start;
        for known in self.0[first..].iter().take_while(|known| known.start < range.end) {
            if known.start > at {
                gap(at..known.start);
            }
            at = at.max(known.end);
        }
        if at < range.end {
            gap(at..range.end);
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}
