//! A set of stream offsets, kept as sorted ranges that neither overlap nor touch.
//!
//! Sets here have one to four ranges in practice (one per TCP connection that carries a stream), so a sorted queue beats
//! a tree: no allocation once it has grown, and taking from the front is O(1). Called by `send`.

use std::collections::VecDeque;

use core::ops::Range;

/// Offsets, as sorted ranges with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet {
    ranges: VecDeque<Range<u64>>,
    len: u64,
}

impl RangeSet {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many offsets are in it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.ranges.front().cloned()
    }

    /// Adds `range`; returns how many offsets of it are new.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let first = self.ranges.partition_point(|r| r.end < range.start);
        let last = self.ranges.partition_point(|r| r.start <= range.end);
        if first == last {
            let new = range.end - range.start;
            self.ranges.insert(first, range);
            self.len += new;
            return new;
        }
        let new = range.end - range.start - self.covered(first..last, &range);
        let merged = range.start.min(self.ranges[first].start)..range.end.max(self.ranges[last - 1].end);
        self.ranges[first] = merged;
        self.ranges.drain(first + 1..last);
        self.len += new;
        new
    }

    /// Takes `range` out; returns how many offsets of it were there.
    pub(super) fn remove(&mut self, range: Range<u64>) -> u64 {
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        let last = self.ranges.partition_point(|r| r.start < range.end);
        if first >= last || range.is_empty() {
            return 0;
        }
        let removed = self.covered(first..last, &range);
        let before = self.ranges[first].start..range.start;
        let after = range.end..self.ranges[last - 1].end;
        self.ranges.drain(first..last);
        for part in [after, before] {
            if !part.is_empty() {
                self.ranges.insert(first, part);
            }
        }
        self.len -= removed;
        removed
    }

    /// Takes out everything below `offset`.
    pub(super) fn remove_below(&mut self, offset: u64) {
        while let Some(first) = self.ranges.front_mut() {
            self.len -= first.end.min(offset).saturating_sub(first.start);
            if first.end > offset {
                first.start = first.start.max(offset);
                return;
            }
            self.ranges.pop_front();
        }
    }

    /// Takes out the lowest offsets, of one range, at most `max` of them.
    pub(super) fn pop_first(&mut self, max: u64) -> Option<Range<u64>> {
        let first = self.ranges.front_mut()?;
        let taken = first.start..first.end.min(first.start.saturating_add(max));
        self.len -= taken.end - taken.start;
        if taken.end == first.end {
            self.ranges.pop_front();
        } else {
            first.start = taken.end;
        }
        Some(taken)
    }

    /// The parts of `within` that are not in the set, in order.
    pub(super) fn gaps(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.partition_point(|r| r.end <= within.start);
        let mut ranges = self.ranges.range(first..);
        let mut at = within.start;
        core::iter::from_fn(move || {
            while at < within.end {
                let next = ranges.next().filter(|r| r.start < within.end).cloned();
                let covered = next.unwrap_or(within.end..within.end);
                let gap = at..covered.start;
                at = covered.end;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }

    /// How many offsets of `range` lie in the ranges with these indexes, each of which touches it.
    fn covered(&self, indexes: Range<usize>, range: &Range<u64>) -> u64 {
        let overlap = |r: &Range<u64>| r.end.min(range.end).saturating_sub(r.start.max(range.start));
        self.ranges.range(indexes).map(overlap).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &[Range<u64>]) -> RangeSet {
        let mut set = RangeSet::default();
        for range in ranges {
            set.insert(range.clone());
        }
        set
    }

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(set(&[0..2, 4..6, 2..4]), set(&[0..3, 3..6]));
        assert_eq!(set(&[0..2, 4..6, 2..4]).ranges.len(), 1);
        assert_eq!(set(&[0..2, 4..6]).ranges, [0..2, 4..6]);
    }

    #[test]
    fn insert_counts_only_what_is_new() {
        let mut set = set(&[2..4, 6..8]);
        assert_eq!(set.insert(0..10), 6);
        assert_eq!(set.insert(3..7), 0);
        assert_eq!(set.insert(5..5), 0);
    }

    #[test]
    fn remove_splits_a_range() {
        let mut set = set(&[0..5, 5..10]);
        assert_eq!(set.remove(4..6), 2);
        assert_eq!(set.ranges, [0..4, 6..10]);
        assert_eq!(set.remove(5..6), 0);
        assert_eq!(set.remove(2..2), 0);
    }

    #[test]
    fn removing_everything_leaves_nothing() {
        let mut set = set(&[1..2, 3..8]);
        set.remove_below(8);
        assert!(set.is_empty());
        assert_eq!(set.pop_first(1), None);
    }

    #[test]
    fn popping_takes_the_lowest_offsets_of_one_range() {
        let mut set = set(&[3..8, 9..12]);
        assert_eq!(set.pop_first(2), Some(3..5));
        assert_eq!(set.pop_first(100), Some(5..8));
        assert_eq!(set.pop_first(u64::MAX), Some(9..12));
        assert_eq!(set.pop_first(1), None);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(Range<u64>),
        Remove(Range<u64>),
        RemoveBelow(u64),
        Pop(u64),
        Gaps(Range<u64>),
    }

    fn any_range() -> impl Strategy<Value = Range<u64>> {
        (0u64..64, 0u64..16).prop_map(|(start, len)| start..start + len)
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => any_range().prop_map(Op::Insert),
            2 => any_range().prop_map(Op::Remove),
            1 => (0u64..32).prop_map(Op::RemoveBelow),
            1 => (1u64..8).prop_map(Op::Pop),
            2 => any_range().prop_map(Op::Gaps),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_numbers(ops in proptest::collection::vec(any_op(), 0..64)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for op in ops {
                match op {
                    Op::Insert(r) => {
                        let new = r.clone().filter(|n| model.insert(*n)).count() as u64;
                        prop_assert_eq!(set.insert(r), new);
                    }
                    Op::Remove(r) => {
                        let removed = r.clone().filter(|n| model.remove(n)).count() as u64;
                        prop_assert_eq!(set.remove(r), removed);
                    }
                    Op::RemoveBelow(n) => {
                        model.retain(|m| *m >= n);
                        set.remove_below(n);
                    }
                    Op::Pop(max) => match set.pop_first(max) {
                        None => prop_assert!(model.is_empty()),
                        Some(taken) => {
                            prop_assert!(!taken.is_empty() && taken.end - taken.start <= max);
                            for n in taken {
                                prop_assert_eq!(model.pop_first(), Some(n));
                            }
                        }
                    },
                    Op::Gaps(r) => {
                        let gaps: Vec<u64> = set.gaps(r.clone()).flatten().collect();
                        prop_assert_eq!(gaps, r.filter(|n| !model.contains(n)).collect::<Vec<_>>());
                    }
                }
                prop_assert_eq!(set.len(), model.len() as u64);
                prop_assert!(set.ranges.iter().all(|r| !r.is_empty()));
                prop_assert!(set.ranges.iter().zip(set.ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                prop_assert_eq!(set.ranges.iter().cloned().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
