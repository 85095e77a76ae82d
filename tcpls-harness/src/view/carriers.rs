//! Which TCP connection carried which bytes of a stream, so that bytes that are sent again can be told from new ones.

use std::collections::BTreeMap;
use std::ops::Range;

/// The ranges of one direction of a stream, and the TCP connection that carried each last.
#[derive(Debug, Default)]
pub(super) struct Carriers {
    /// By start: end, and TCP connection. Ranges do not overlap.
    ranges: BTreeMap<u64, (u64, u32)>,
    /// The sum of their lengths.
    covered: u64,
}

/// What is known of a range that is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// The number of bytes that no TCP connection carried before.
    pub(super) fresh: u64,
    /// The TCP connection that carried the first of the other bytes.
    pub(super) before: Option<u32>,
}

impl Carriers {
    /// TCP connection `tcp` carries a range.
    pub(super) fn add(&mut self, range: Range<u64>, tcp: u32) -> Added {
        if range.is_empty() {
            return Added { fresh: 0, before: None };
        }
        let (mut known, mut before) = (0, None);
        let mut start = range.start;
        if let Some((&first, &(end, _))) = self.ranges.range(..range.start).next_back()
            && end > range.start
        {
            start = first;
        }
        // What is added may be a part of a range, or the rest of several: their other parts stay.
        let overlapping: Vec<u64> = self.ranges.range(start..range.end).map(|(start, _)| *start).collect();
        for start in overlapping {
            let Some((end, carrier)) = self.ranges.remove(&start) else { continue };
            known += end.min(range.end) - start.max(range.start);
            before = before.or(Some(carrier));
            if start < range.start {
                self.ranges.insert(start, (range.start, carrier));
            }
            if end > range.end {
                self.ranges.insert(range.end, (end, carrier));
            }
        }
        let fresh = range.end - range.start - known;
        self.covered += fresh;
        self.insert(range, tcp);
        Added { fresh, before }
    }

    /// Inserts a range that overlaps none, joined with its neighbors of the same TCP connection.
    fn insert(&mut self, mut range: Range<u64>, tcp: u32) {
        if let Some((&start, &(end, carrier))) = self.ranges.range(..range.start).next_back()
            && (end, carrier) == (range.start, tcp)
        {
            range.start = start;
        }
        if let Some(&(end, carrier)) = self.ranges.get(&range.end)
            && carrier == tcp
        {
            self.ranges.remove(&range.end);
            range.end = end;
        }
        self.ranges.insert(range.start, (range.end, tcp));
    }

    /// The number of bytes that were carried at least once.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(fresh: u64, before: Option<u32>) -> Added {
        Added { fresh, before }
    }

    #[test]
    fn bytes_that_were_carried_before_are_not_fresh() {
        let mut carriers = Carriers::default();
        assert_eq!(carriers.add(0..10, 0), added(10, None));
        assert_eq!(carriers.add(20..30, 1), added(10, None));
        assert_eq!(carriers.add(5..25, 2), added(10, Some(0)));
        assert_eq!(carriers.add(24..26, 0), added(0, Some(2)));
        assert_eq!(carriers.add(0..5, 1), added(0, Some(0)));
        assert_eq!(carriers.covered(), 30);
        assert_eq!(carriers.add(7..7, 1), added(0, None));
    }

    #[test]
    fn neighbors_of_the_same_tcp_connection_become_one_range() {
        let mut carriers = Carriers::default();
        for start in [0, 20, 10] {
            carriers.add(start..start + 10, 3);
        }
        assert_eq!(carriers.ranges.into_iter().collect::<Vec<_>>(), [(0, (30, 3))]);
    }

    #[test]
    fn ranges_agree_with_a_list_of_bytes() {
        let (mut carriers, mut bytes) = (Carriers::default(), [None; 64]);
        let mut random = 1u32;
        for turn in 0..2000 {
            if turn % 20 == 0 {
                (carriers, bytes) = (Carriers::default(), [None; 64]);
            }
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (start, len, tcp) = (random >> 26, (random >> 20) % 20, (random >> 17) % 3);
            let end = (start + len).min(64);
            let old = &bytes[start as usize..end.max(start) as usize];
            let expected = added(
                old.iter().filter(|carrier| carrier.is_none()).count() as u64,
                old.iter().find_map(|carrier| *carrier),
            );
            assert_eq!(carriers.add(u64::from(start)..u64::from(end), tcp), expected);
            bytes[start as usize..end.max(start) as usize].fill(Some(tcp));
            assert_eq!(carriers.covered(), bytes.iter().flatten().count() as u64);
        }
    }
}
