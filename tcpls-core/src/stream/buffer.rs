//! The bytes of one stream that the application wrote and the peer has not acknowledged, by offset.
//!
//! Bytes are appended at the end, by copy or as shared buffers, and released from the front; any range in between may
//! be copied out any number of times. `send` knows which bytes are sent or acknowledged.

use std::collections::VecDeque;

use core::mem;
use core::ops::Range;

use bytes::Bytes;

/// Small writes are collected in segments of at most this size.
const SEGMENT: usize = 64 << 10;
/// A shared buffer shorter than this is copied: a segment of its own would cost more than its bytes.
const SMALL: usize = 2 << 10;
/// An emptied buffer up to this size is kept for the next write.
const KEPT: usize = 4 << 10;

#[derive(Debug)]
struct Segment {
    start: u64,
    bytes: Bytes,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The written bytes from `base` to `end`.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    base: u64,
    /// Full segments, each starting where the one before ends.
    segments: VecDeque<Segment>,
    tail_start: u64,
    /// The segment that still grows.
    tail: Vec<u8>,
}

impl SendBuffer {
    /// An empty one whose first byte will be at `offset`.
    pub(super) fn starting_at(offset: u64) -> Self {
        Self { base: offset, tail_start: offset, ..Self::default() }
    }

    /// The offset of the first byte held.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The offset after the last byte written.
    pub(super) fn end(&self) -> u64 {
        self.tail_start + self.tail.len() as u64
    }

    /// How many bytes are held.
    pub(super) fn len(&self) -> usize {
        (self.end() - self.base) as usize
    }

    /// Appends a copy of `data`.
    pub(super) fn push_slice(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.tail.len() >= SEGMENT {
                self.seal_tail();
            }
            let (now, later) = data.split_at(data.len().min(SEGMENT - self.tail.len()));
            self.grow_tail(now.len());
            self.tail.extend_from_slice(now);
            data = later;
        }
    }

    /// Appends `data` without a copy, unless it is so small that a copy is cheaper.
    pub(super) fn push_bytes(&mut self, data: Bytes) {
        if data.len() < SMALL {
            return self.push_slice(&data);
        }
        self.seal_tail();
        let start = self.tail_start;
        self.tail_start += data.len() as u64;
        self.segments.push_back(Segment { start, bytes: data });
    }

    /// Appends the bytes of `range` to `out`, without those no longer or not yet held.
    pub(super) fn copy(&self, range: Range<u64>, out: &mut Vec<u8>) {
        if range.start < self.tail_start {
            let first = self.segments.partition_point(|s| s.end() <= range.start);
            for segment in self.segments.range(first..).take_while(|s| s.start < range.end) {
                out.extend_from_slice(part(&segment.bytes, segment.start, &range));
            }
        }
        if range.end > self.tail_start {
            out.extend_from_slice(part(&self.tail, self.tail_start, &range));
        }
    }

    /// Releases everything below `offset`, which becomes the new base.
    pub(super) fn release(&mut self, offset: u64) {
        self.base = offset.clamp(self.base, self.end());
        while self.segments.front().is_some_and(|s| s.end() <= self.base) {
            self.segments.pop_front();
        }
        if self.base == self.end() {
            self.tail_start = self.base;
            self.tail.clear();
            self.tail.shrink_to(KEPT);
        }
    }

    /// Doubles the tail's room until `more` bytes fit, up to a whole segment.
    fn grow_tail(&mut self, more: usize) {
        let needed = self.tail.len() + more;
        if needed > self.tail.capacity() {
            let capacity = needed.max(self.tail.capacity() * 2).min(SEGMENT);
            self.tail.reserve_exact(capacity - self.tail.len());
        }
    }

    fn seal_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let bytes = Bytes::from(mem::take(&mut self.tail));
        let start = self.tail_start;
        self.tail_start += bytes.len() as u64;
        self.segments.push_back(Segment { start, bytes });
    }
}

/// The part of `bytes`, which start at offset `start`, that lies in `range`.
fn part<'a>(bytes: &'a [u8], start: u64, range: &Range<u64>) -> &'a [u8] {
    let from = range.start.saturating_sub(start).min(bytes.len() as u64) as usize;
    let to = range.end.saturating_sub(start).min(bytes.len() as u64) as usize;
    bytes.get(from..to).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copied(buffer: &SendBuffer, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        buffer.copy(range, &mut out);
        out
    }

    #[test]
    fn small_writes_share_a_segment() {
        let mut buffer = SendBuffer::default();
        for _ in 0..1000 {
            buffer.push_slice(b"0123456789");
        }
        assert!(buffer.segments.is_empty());
        assert_eq!(buffer.len(), 10_000);
        assert_eq!(copied(&buffer, 9_995..10_000), b"56789");
    }

    #[test]
    fn the_first_byte_may_have_any_offset() {
        let mut buffer = SendBuffer::starting_at(100);
        buffer.push_slice(b"abc");
        assert_eq!((buffer.base(), buffer.end(), buffer.len()), (100, 103, 3));
        assert_eq!(copied(&buffer, 101..103), b"bc");
    }

    #[test]
    fn no_segment_is_longer_than_it_may_be() {
        let mut buffer = SendBuffer::default();
        buffer.push_slice(&[1; 10]);
        buffer.push_slice(&[2; 3 * SEGMENT]);
        assert_eq!(buffer.segments.iter().map(|s| s.bytes.len()).collect::<Vec<_>>(), [SEGMENT; 3]);
        assert_eq!(buffer.tail.len(), 10);
    }

    #[test]
    fn the_tail_grows_with_what_it_holds_up_to_a_segment() {
        let mut buffer = SendBuffer::default();
        let mut sizes = std::collections::BTreeSet::new();
        for _ in 0..SEGMENT / 100 {
            buffer.push_slice(&[0; 100]);
            assert!(buffer.tail.capacity() < 2 * buffer.tail.len() && buffer.tail.capacity() <= SEGMENT);
            sizes.insert(buffer.tail.capacity());
        }
        assert!(sizes.len() < 12, "it does not double: {sizes:?}");
    }

    #[test]
    fn a_small_shared_buffer_is_copied() {
        let mut buffer = SendBuffer::default();
        buffer.push_bytes(Bytes::from(vec![1; SMALL - 1]));
        assert!(buffer.segments.is_empty());
        buffer.push_bytes(Bytes::from(vec![2; SMALL]));
        assert_eq!((buffer.segments.len(), buffer.len()), (2, 2 * SMALL - 1));
    }

    #[test]
    fn a_large_shared_buffer_is_not_copied() {
        let data = Bytes::from(vec![7; 100_000]);
        let mut buffer = SendBuffer::default();
        buffer.push_slice(b"x");
        buffer.push_bytes(data.clone());
        assert_eq!(buffer.segments[1].bytes.as_ptr(), data.as_ptr());
    }

    #[test]
    fn released_bytes_are_freed_and_never_copied_out() {
        let mut buffer = SendBuffer::default();
        buffer.push_bytes(Bytes::from(vec![1; 5000]));
        buffer.push_slice(&[2; 100]);
        buffer.release(5050);
        assert!(buffer.segments.is_empty());
        assert_eq!((buffer.base(), buffer.end(), buffer.len()), (5050, 5100, 50));
        assert_eq!(copied(&buffer, 4000..4500), b"");
        buffer.release(u64::MAX);
        assert_eq!((buffer.base(), buffer.len()), (5100, 0));
        assert_eq!(copied(&buffer, 0..u64::MAX), b"");
    }

    #[test]
    fn an_emptied_tail_keeps_little_memory() {
        let mut buffer = SendBuffer::default();
        buffer.push_slice(&[0; SEGMENT]);
        buffer.release(SEGMENT as u64);
        assert!(buffer.tail.capacity() <= KEPT);
    }

    proptest! {
        #[test]
        fn any_held_range_reads_back(
            writes in proptest::collection::vec((any::<bool>(), 0usize..9000), 1..30),
            cuts in proptest::collection::vec((0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0), 1..20),
        ) {
            let (mut buffer, mut model) = (SendBuffer::default(), Vec::<u8>::new());
            for (shared, len) in writes {
                let data: Vec<u8> = (0..len).map(|i| ((model.len() + i) % 251) as u8).collect();
                model.extend_from_slice(&data);
                if shared { buffer.push_bytes(data.into()) } else { buffer.push_slice(&data) }
            }
            prop_assert_eq!(buffer.end(), model.len() as u64);
            for (release, from, to) in cuts {
                buffer.release((buffer.base() as f64 + release * 0.2 * buffer.len() as f64) as u64);
                let base = buffer.base();
                let a = base + (from * buffer.len() as f64) as u64;
                let b = base + (to * buffer.len() as f64) as u64;
                prop_assert_eq!(copied(&buffer, a..b), model.get(a as usize..b as usize).unwrap_or_default());
            }
        }
    }
}
