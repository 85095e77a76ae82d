//! One direction of a TCP connection: its bytes in order, from segments in any order.

use std::collections::BTreeMap;

/// Bytes, and pieces, that may wait for bytes before them. A window is rarely larger.
const MAX_WAITING: usize = 4 << 20;
const MAX_PIECES: usize = 4096;
/// What a piece takes beside its bytes.
const OVERHEAD: usize = 96;

/// The state of one direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// The sequence number of the first byte.
    first: Option<u32>,
    /// How many bytes were passed on.
    next: u64,
    /// Pieces behind a gap, by their offset.
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    has_overflowed: bool,
}

impl Half {
    /// A SYN gives the number of the first byte. Once there is data, another one changes nothing.
    pub(super) fn handle_syn(&mut self, seq: u32) {
        if self.next == 0 && self.waiting.is_empty() {
            self.first = Some(seq.wrapping_add(1));
        }
    }

    /// Takes a segment's data, and passes on what is in order. Without a SYN, the first segment is the beginning.
    pub(super) fn handle(&mut self, seq: u32, data: &[u8], mut on_bytes: impl FnMut(&[u8])) {
        if data.is_empty() || self.has_overflowed {
            return;
        }
        let first = *self.first.get_or_insert(seq);
        // A segment is less than 2³¹ bytes from what is due.
        let distance = seq.wrapping_sub(first.wrapping_add(self.next as u32)) as i32;
        let Some(offset) = self.next.checked_add_signed(i64::from(distance)) else { return };
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(new) = data.get(known..).filter(|new| !new.is_empty()) else { return };
        if offset > self.next {
            self.keep(offset, new);
            return;
        }
        self.next += new.len() as u64;
        on_bytes(new);
        while let Some(piece) = self.waiting.first_entry().filter(|piece| *piece.key() <= self.next) {
            let (offset, bytes) = piece.remove_entry();
            self.waiting_bytes -= bytes.len();
            let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
            if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
                self.next += new.len() as u64;
                on_bytes(new);
            }
        }
    }

    fn keep(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.waiting.get(&offset).map_or(0, Vec::len);
        if known >= bytes.len() {
            return;
        }
        let waiting = self.waiting_bytes - known + bytes.len();
        if waiting > MAX_WAITING || (known == 0 && self.waiting.len() == MAX_PIECES) {
            *self = Self { has_overflowed: true, ..Self::default() };
            return;
        }
        self.waiting_bytes = waiting;
        self.waiting.insert(offset, bytes.to_vec());
    }

    /// Whether bytes are missing in front of others that were captured.
    pub(super) fn has_gap(&self) -> bool {
        self.has_overflowed || !self.waiting.is_empty()
    }

    /// What is kept, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.waiting_bytes + self.waiting.len() * OVERHEAD
    }

    /// Forgets what waits, because the rest is not needed.
    pub(super) fn give_up(&mut self) {
        *self = Self { has_overflowed: true, next: self.next, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn handle(half: &mut Half, seq: u32, data: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        half.handle(seq, data, |bytes| got.extend_from_slice(bytes));
        got
    }

    #[test]
    fn retransmissions_and_keep_alives_are_passed_on_once() {
        let mut half = Half::default();
        half.handle_syn(u32::MAX - 1);
        assert_eq!(handle(&mut half, u32::MAX, b"abc"), b"abc");
        assert_eq!(handle(&mut half, u32::MAX, b"abcde"), b"de");
        assert_eq!(handle(&mut half, 3, b"\0"), b"", "a keep-alive repeats the last byte");
        assert_eq!(handle(&mut half, 4, b"f"), b"f", "sequence numbers wrap");
        assert!(!half.has_gap());
    }

    #[test]
    fn ports_that_were_refused_before_begin_anew() {
        let mut half = Half::default();
        half.handle_syn(7);
        half.handle_syn(1_000_000);
        assert_eq!(handle(&mut half, 1_000_001, b"ab"), b"ab");
        half.handle_syn(5);
        assert_eq!(handle(&mut half, 1_000_003, b"c"), b"c");
    }

    #[test]
    fn pieces_count_for_more_than_their_bytes() {
        let mut half = Half::default();
        half.handle_syn(0);
        (0..100).for_each(|number| drop(handle(&mut half, 10 + 2 * number, b"x")));
        assert_eq!(half.memory(), 100 + 100 * OVERHEAD);
    }

    #[test]
    fn bytes_behind_a_gap_wait_within_a_bound() {
        let mut half = Half::default();
        half.handle_syn(0);
        assert_eq!(handle(&mut half, 4, b"def"), b"");
        assert!(half.has_gap());
        assert_eq!(handle(&mut half, 1, b"abcd"), b"abcdef");
        for number in 0..100 {
            handle(&mut half, 100 + number * 65536, &[7; 65536]);
            assert!(half.waiting_bytes <= MAX_WAITING);
        }
        assert!(half.has_gap());
        assert_eq!(handle(&mut half, 7, b"g"), b"", "what comes later is given up");
    }

    #[test]
    fn pieces_behind_a_gap_are_bounded() {
        let mut half = Half::default();
        half.handle_syn(0);
        for number in 0..2 * MAX_PIECES as u32 {
            handle(&mut half, 10 + 2 * number, b"x");
        }
        assert!(half.has_overflowed && half.waiting.is_empty());
    }

    #[test]
    fn streams_may_be_longer_than_the_sequence_space() {
        let mut half = Half { first: Some(5), next: (3 << 32) - 2, ..Half::default() };
        assert_eq!(handle(&mut half, 3, b"abcd"), b"abcd");
        assert_eq!(handle(&mut half, 10, b"g"), b"");
        assert_eq!(handle(&mut half, 6, b"xefx"), b"efxg", "it overlaps what came and what waits");
        assert_eq!((half.next, half.memory()), ((3 << 32) + 6, 0));
    }

    #[test]
    fn longer_piece_replaces_a_shorter_one_at_its_place() {
        let mut half = Half::default();
        half.handle_syn(0);
        for (piece, memory) in [(&b"cd"[..], 2), (b"cdef", 4), (b"cde", 4), (b"cdef", 4)] {
            assert_eq!(handle(&mut half, 3, piece), b"");
            assert_eq!(half.memory(), memory + OVERHEAD);
        }
        assert_eq!(handle(&mut half, 5, b"ef"), b"");
        assert_eq!(handle(&mut half, 1, b"ab"), b"abcdef");
        assert_eq!((half.memory(), half.has_gap()), (0, false));
    }

    #[test]
    fn first_segment_without_a_syn_is_the_beginning_and_older_ones_are_ignored() {
        let mut half = Half::default();
        assert_eq!(handle(&mut half, 100, b"abc"), b"abc");
        assert_eq!(handle(&mut half, 90, b"0123456789"), b"");
        assert_eq!(handle(&mut half, 98, b"__abcd"), b"", "it began before the first byte that is known");
        assert_eq!(handle(&mut half, 103, b"d"), b"d");
    }

    #[test]
    fn what_is_given_up_keeps_nothing_and_takes_nothing() {
        let mut half = Half::default();
        half.handle_syn(0);
        handle(&mut half, 5, b"x");
        half.give_up();
        assert_eq!((handle(&mut half, 1, b"a"), half.memory()), (Vec::new(), 0));
    }

    proptest! {
        #[test]
        fn segments_in_any_order_give_the_bytes_in_order(
            first in any::<u32>(),
            pieces in proptest::collection::vec((0usize..400, 1usize..60), 1..40),
        ) {
            let whole: Vec<u8> = (0..500u32).map(|byte| byte as u8).collect();
            let mut half = Half::default();
            half.handle_syn(first.wrapping_sub(1));
            let mut got = Vec::new();
            for (at, len) in pieces {
                got.extend(handle(&mut half, first.wrapping_add(at as u32), &whole[at..at + len]));
                prop_assert!(whole.starts_with(&got));
            }
            got.extend(handle(&mut half, first, &whole));
            prop_assert_eq!(got, whole);
            prop_assert!(!half.has_gap());
        }
    }
}
