//! Parts of a model of a stream: which bytes arrived, and their expected values. It is as simple as possible, so that
//! it is correct by inspection.

use core::ops::Range;

use tcpls_core::StreamId;

/// The byte that every stream has at `offset`, in either direction.
pub(crate) fn byte(id: StreamId, offset: u64) -> u8 {
    (offset ^ (offset >> 8)) as u8 ^ (id.0 as u8).wrapping_mul(37)
}

/// The bytes at `range`.
pub(crate) fn pattern(id: StreamId, range: Range<u64>) -> Vec<u8> {
    range.map(|offset| byte(id, offset)).collect()
}

/// A set of offsets: ranges in ascending order that neither overlap nor touch.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.0.push(range);
        self.0.sort_by_key(|range| range.start);
        self.0.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
    }

    /// The lowest offset that is not in it.
    pub(crate) fn prefix(&self) -> u64 {
        self.0.first().filter(|first| first.start == 0).map_or(0, |first| first.end)
    }

    /// How many ranges lie above the prefix.
    pub(crate) fn gaps(&self) -> usize {
        self.0.iter().filter(|range| range.start > 0).count()
    }

    pub(crate) fn overlaps(&self, other: &Range<u64>) -> bool {
        self.0.iter().any(|range| range.start < other.end && other.start < range.end)
    }

    /// How many offsets it has.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }
}
