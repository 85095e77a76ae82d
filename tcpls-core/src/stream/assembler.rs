//! Reassembles one stream's data. Data in order passes through without a copy; data that arrives early waits in a tree
//! by offset.
//!
//! The memory that a peer can occupy is bounded by the caller's flow control times a small constant: the number of gaps
//! is limited; a small piece is copied, so that it does not keep a large record alive; and small neighbors are joined,
//! so that two neighboring copies together are never shorter than [`JOINED`]. Called by `recv`.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

/// Data shorter than this is copied.
const SMALL: usize = 512;
/// Data is copied if its record is more than this many times longer: the data of four streams that share a record is
/// not.
const PINNED: usize = 4;
/// Bytes that such a record may have besides their data.
const FRAMING: usize = 256;
/// Neighbouring copies are joined up to this length.
const JOINED: usize = 1024;
/// Memory of a piece besides its bytes: its share of a half-full tree, a buffer's header, and the overhead of the
/// allocator.
const OVERHEAD: usize = 160;

/// One contiguous piece of received data.
#[derive(Debug)]
enum Piece {
    /// Shares the buffer that the record was decrypted in.
    Shared(Bytes),
    /// A copy too long to be joined with others.
    Copied(Bytes),
    /// A short copy, which may grow.
    Own(BytesMut),
}

impl Piece {
    fn new(data: Bytes, record_len: usize) -> Self {
        if data.len() < SMALL {
            return Self::Own(BytesMut::from(&data[..]));
        }
        if data.len().saturating_mul(PINNED).saturating_add(FRAMING) < record_len {
            return Self::Copied(Bytes::copy_from_slice(&data));
        }
        Self::Shared(data)
    }

    fn len(&self) -> usize {
        match self {
            Self::Shared(bytes) | Self::Copied(bytes) => bytes.len(),
            Self::Own(bytes) => bytes.len(),
        }
    }

    /// Its capacity beyond its bytes.
    fn slack(&self) -> usize {
        match self {
            Self::Shared(_) | Self::Copied(_) => 0,
            Self::Own(bytes) => bytes.capacity() - bytes.len(),
        }
    }

    /// Its length, if it shares the buffer of a record.
    fn shared(&self) -> usize {
        match self {
            Self::Shared(bytes) => bytes.len(),
            Self::Copied(_) | Self::Own(_) => 0,
        }
    }

    /// Copies it out of the buffer of its record.
    fn unshare(&mut self) {
        if let Self::Shared(bytes) = self {
            *self = Self::Copied(Bytes::copy_from_slice(bytes));
        }
    }

    /// Whether it is a copy that others may be appended to.
    #[inline]
    fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Appends `next` if both are small copies; otherwise returns it.
    fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Own(a), Self::Own(b)) if a.len() + b.len() <= JOINED => {
                a.extend_from_slice(&b);
                None
            }
            (_, next) => Some(next),
        }
    }

    fn split_to(&mut self, len: usize) -> Bytes {
        match self {
            Self::Shared(bytes) | Self::Copied(bytes) => bytes.split_to(len),
            Self::Own(bytes) => bytes.split_to(len).freeze(),
        }
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) | Self::Copied(bytes) => bytes,
            Self::Own(bytes) => bytes.freeze(),
        }
    }
}

/// More gaps than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyGaps;

/// Received data from the read offset on.
#[derive(Debug)]
pub(super) struct Assembler {
    /// Offset of the first byte in `ready`.
    read: u64,
    /// Offset after the last byte in `ready`: the lowest byte that is missing.
    next: u64,
    /// Data that can be read, in order.
    ready: VecDeque<Piece>,
    /// Data that arrived early: above `next`, not overlapping.
    early: BTreeMap<u64, Piece>,
    /// The number of gaps: one before each contiguous range of `early`.
    gaps: usize,
    max_gaps: usize,
    /// Bytes in both.
    bytes: usize,
    /// Those of them that share the buffers of their records.
    shared: usize,
    /// Room in the pieces of both beyond their bytes.
    slack: usize,
}

impl Assembler {
    pub(super) fn new(max_gaps: usize) -> Self {
        let (ready, early) = (VecDeque::new(), BTreeMap::new());
        Self { read: 0, next: 0, ready, early, gaps: 0, max_gaps, bytes: 0, shared: 0, slack: 0 }
    }

    /// The lowest offset that has not arrived.
    pub(super) fn next_offset(&self) -> u64 {
        self.next
    }

    /// Whether there is anything to read.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes that can be read in order.
    pub(super) fn ready(&self) -> u64 {
        if self.ready.is_empty() { 0 } else { self.next - self.read }
    }

    /// Memory held, including the overhead of pieces.
    pub(super) fn memory(&self) -> usize {
        self.bytes + self.slack + (self.ready.len() + self.early.len()) * OVERHEAD
    }

    /// Bytes that share the buffers of their records.
    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    /// Copies what shares the buffers of its records.
    pub(super) fn unshare(&mut self) {
        if self.shared > 0 {
            self.ready.iter_mut().chain(self.early.values_mut()).for_each(Piece::unshare);
            self.shared = 0;
        }
    }

    /// Bytes of data held.
    pub(super) fn held(&self) -> usize {
        self.bytes
    }

    /// Stores data at `offset`, from a record of `record_len` bytes. Bytes that are already there are kept, and not
    /// compared. The caller ensures that `offset` plus the length does not overflow.
    pub(super) fn insert(&mut self, offset: u64, data: Bytes, record_len: usize) -> Result<(), TooManyGaps> {
        if offset == self.next && self.early.is_empty() && !data.is_empty() {
            return self.place(offset, Piece::new(data, record_len)); // nearly always: as it is, not a slice of it
        }
        let end = offset + data.len() as u64;
        let mut at = self.covered_to(offset, end);
        while at < end {
            let stop = self.early.range(at..).next().map_or(end, |(start, _)| end.min(*start));
            let missing = data.slice((at - offset) as usize..(stop - offset) as usize);
            self.place(at, Piece::new(missing, record_len))?;
            at = self.covered_to(stop, end);
        }
        Ok(())
    }

    /// Removes and returns at most `max` bytes in order, of one piece.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let first = self.ready.front_mut()?;
        let (is_shared, slack) = (first.shared() > 0, first.slack());
        let data = if max < first.len() {
            let data = first.split_to(max);
            self.slack = self.slack - slack + first.slack();
            data
        } else {
            self.slack -= slack;
            self.ready.pop_front()?.into_bytes()
        };
        self.read += data.len() as u64;
        self.bytes -= data.len();
        self.shared -= if is_shared { data.len() } else { 0 };
        Some(data)
    }

    /// Drops data that arrived early, because the gap before it will not be filled.
    pub(super) fn drop_early(&mut self) {
        for piece in core::mem::take(&mut self.early).values() {
            self.bytes -= piece.len();
            self.shared -= piece.shared();
            self.slack -= piece.slack();
        }
        self.gaps = 0;
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.drop_early();
        self.ready = VecDeque::new();
        (self.bytes, self.shared, self.slack) = (0, 0, 0);
    }

    /// Returns the first missing offset from `at` on, or a value of at least `end` if there is none below. It searches
    /// only up to `end`: a long range behind must not slow down each piece before it.
    fn covered_to(&self, at: u64, end: u64) -> u64 {
        let mut at = at.max(self.next);
        while at < end
            && let Some(next) = self.early.range(..=at).next_back().map(end_of).filter(|next| *next > at)
        {
            at = next;
        }
        at
    }

    /// Inserts a piece where there is no data.
    fn place(&mut self, offset: u64, piece: Piece) -> Result<(), TooManyGaps> {
        self.bytes += piece.len();
        self.shared += piece.shared();
        self.slack += piece.slack();
        if offset != self.next {
            return self.place_early(offset, piece);
        }
        self.push_ready(piece);
        if self.early.first_key_value().is_some_and(|(start, _)| *start == self.next) {
            self.gaps -= 1;
        }
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() == self.next) {
            let piece = entry.remove();
            self.push_ready(piece);
        }
        Ok(())
    }

    fn push_ready(&mut self, piece: Piece) {
        self.next += piece.len() as u64;
        let rest = match self.ready.back_mut() {
            Some(last) => join(last, piece, &mut self.slack),
            None => Some(piece),
        };
        if let Some(piece) = rest {
            self.ready.push_back(piece);
        }
    }

    /// Inserts a piece behind a gap, and joins it with small neighbors on either side.
    fn place_early(&mut self, offset: u64, piece: Piece) -> Result<(), TooManyGaps> {
        let end = offset + piece.len() as u64;
        let before = self.early.range(..offset).next_back().is_some_and(|entry| end_of(entry) == offset);
        let after = self.early.contains_key(&end);
        match (before, after) {
            (false, false) if self.gaps >= self.max_gaps => return Err(TooManyGaps),
            (false, false) => self.gaps += 1,
            (true, true) => self.gaps -= 1,
            _ => {}
        }
        self.early.insert(offset, piece);
        if after {
            self.join_at(end);
        }
        if before {
            self.join_at(offset);
        }
        Ok(())
    }

    /// Joins the early piece that starts at `offset` to the one that ends there, if both are small.
    fn join_at(&mut self, offset: u64) {
        let Some(piece) = self.early.remove(&offset) else { return };
        let rest = match self.early.range_mut(..offset).next_back() {
            Some((_, before)) => join(before, piece, &mut self.slack),
            None => Some(piece),
        };
        if let Some(piece) = rest {
            self.early.insert(offset, piece);
        }
    }
}

/// Appends `piece` to `last` if both are small copies, and brings `slack` up to date; otherwise gives it back.
#[inline]
fn join(last: &mut Piece, piece: Piece, slack: &mut usize) -> Option<Piece> {
    if !last.is_own() {
        return Some(piece); // as nearly always
    }
    let before = last.slack() + piece.slack();
    let rest = last.join(piece);
    if rest.is_none() {
        *slack = *slack - before + last.slack();
    }
    rest
}

/// The offset after an early piece.
fn end_of((start, piece): (&u64, &Piece)) -> u64 {
    start + piece.len() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The byte that every test stream has at `offset`.
    fn byte(offset: u64) -> u8 {
        (offset % 251) as u8
    }

    fn data(offset: u64, len: usize) -> Bytes {
        (offset..offset + len as u64).map(byte).collect()
    }

    /// Inserts the right bytes for `offset`, in a record that holds nothing else.
    fn insert(assembler: &mut Assembler, offset: u64, len: usize) -> Result<(), TooManyGaps> {
        assembler.insert(offset, data(offset, len), len)
    }

    fn read_all(assembler: &mut Assembler) -> Vec<u8> {
        core::iter::from_fn(|| assembler.read(usize::MAX)).flatten().collect()
    }

    #[test]
    fn data_in_order_is_not_copied() {
        let mut assembler = Assembler::new(0);
        let record = data(0, 16_000);
        assembler.insert(0, record.clone(), 16_000).unwrap();
        assert_eq!(assembler.read(100).unwrap().as_ptr(), record.as_ptr());
        assert_eq!(assembler.read(usize::MAX).unwrap().as_ptr(), record[100..].as_ptr());
        assert_eq!(assembler.read(1), None);
        assert_eq!(assembler.memory(), 0);
    }

    #[test]
    fn early_data_waits_and_is_not_copied_either() {
        let mut assembler = Assembler::new(1);
        let late = data(1000, 9000);
        assembler.insert(1000, late.clone(), 9000).unwrap();
        assert!(!assembler.is_ready());
        insert(&mut assembler, 0, 1000).unwrap();
        assert_eq!(assembler.read(usize::MAX).unwrap(), data(0, 1000));
        assert_eq!(assembler.read(usize::MAX).unwrap().as_ptr(), late.as_ptr());
    }

    #[test]
    fn a_small_part_of_a_large_record_is_copied() {
        let mut assembler = Assembler::new(0);
        let record = data(0, 16_000);
        assembler.insert(0, record.slice(..3_935), record.len()).unwrap();
        assembler.insert(3_935, record.slice(3_935..7_871), record.len()).unwrap();
        assert_ne!(assembler.read(usize::MAX).unwrap().as_ptr(), record.as_ptr());
        assert_eq!(assembler.read(usize::MAX).unwrap().as_ptr(), record[3_935..].as_ptr());
    }

    #[test]
    fn the_first_copy_of_a_byte_wins() {
        let mut assembler = Assembler::new(4);
        assembler.insert(2, Bytes::from_static(b"cd"), 2).unwrap();
        assembler.insert(0, Bytes::from_static(b"ABXXEF"), 6).unwrap();
        assembler.insert(0, Bytes::from_static(b"??????G"), 7).unwrap();
        assert_eq!(read_all(&mut assembler), b"ABcdEFG");
    }

    #[test]
    fn one_byte_at_even_offsets_is_refused_past_the_limit() {
        let mut assembler = Assembler::new(100);
        for i in 1..=100 {
            insert(&mut assembler, i * 2, 1).unwrap();
        }
        assert_eq!(insert(&mut assembler, 300, 1), Err(TooManyGaps));
    }

    #[test]
    fn filling_a_gap_makes_room_for_another() {
        let mut assembler = Assembler::new(2);
        insert(&mut assembler, 2, 1).unwrap();
        insert(&mut assembler, 4, 1).unwrap();
        insert(&mut assembler, 3, 1).unwrap();
        insert(&mut assembler, 9, 1).unwrap();
        assert_eq!(insert(&mut assembler, 20, 1), Err(TooManyGaps));
    }

    /// Memory per byte, when a megabyte arrived in one-byte pieces in the given order.
    fn cost(offsets: impl Iterator<Item = u64>) -> f64 {
        let mut assembler = Assembler::new(1024);
        let count = offsets.map(|offset| insert(&mut assembler, offset, 1).unwrap()).count();
        assembler.memory() as f64 / count as f64
    }

    #[test]
    fn single_bytes_cost_little_in_any_order() {
        const N: u64 = 1 << 15;
        let blocks = |f: fn(u64) -> u64| (0..N / 1024).flat_map(move |b| (0..1024).map(move |i| b * 1024 + f(i)));
        assert!(cost(0..N) < 1.3);
        assert!(cost(1..N) < 1.3);
        assert!(cost((1..N).rev()) < 1.3);
        assert!(cost((0..N).rev()) < 1.3);
        assert!(cost(blocks(|i| if i < 512 { 2 * i + 1 } else { (i - 512) * 2 })) < 1.3);
    }

    #[test]
    fn data_in_reverse_order_costs_the_same_per_piece() {
        let mut assembler = Assembler::new(1);
        let record = Bytes::from(vec![0; SMALL]);
        for i in (1..100_000).rev() {
            assembler.insert(i * SMALL as u64, record.clone(), SMALL).unwrap();
        }
        assert_eq!(assembler.early.len(), 99_999);
        assembler.insert(0, record, SMALL).unwrap();
        assert_eq!(assembler.next_offset(), 100_000 * SMALL as u64);
    }

    #[test]
    fn memory_counts_what_each_piece_costs_besides_its_bytes() {
        let mut assembler = Assembler::new(2);
        for offset in [0, 2000, 4000] {
            insert(&mut assembler, offset, 700).unwrap();
        }
        assert_eq!(assembler.memory(), 3 * (700 + OVERHEAD));
    }

    #[test]
    fn copies_are_joined_up_to_a_limit() {
        let mut assembler = Assembler::new(0);
        for i in 0..JOINED as u64 {
            insert(&mut assembler, 4 * i, 4).unwrap();
        }
        for i in 0..4 {
            assert_eq!(assembler.read(usize::MAX), Some(data(i * JOINED as u64, JOINED)));
        }
    }

    #[test]
    fn reading_exactly_what_is_there_leaves_nothing() {
        let mut assembler = Assembler::new(0);
        insert(&mut assembler, 0, 10).unwrap();
        assert_eq!(assembler.read(10), Some(data(0, 10)));
        assert!(!assembler.is_ready());
        assert_eq!(assembler.read(1), None);
    }

    #[test]
    fn dropping_early_data_keeps_data_in_order() {
        let mut assembler = Assembler::new(1);
        insert(&mut assembler, 0, 10).unwrap();
        insert(&mut assembler, 20, 10).unwrap();
        assembler.drop_early();
        assert_eq!(read_all(&mut assembler), data(0, 10));
        assert_eq!(assembler.memory(), 0);
        insert(&mut assembler, 10, 10).unwrap();
        assert_eq!(assembler.next_offset(), 20);
    }

    proptest! {
        #[test]
        fn any_overlapping_pieces_in_any_order_read_as_the_stream(
            pieces in proptest::collection::vec((0u64..6000, 0usize..1500, 0usize..20_000, 1usize..3000), 1..60),
        ) {
            let mut assembler = Assembler::new(1000);
            let mut model = vec![false; 8000];
            let mut read = Vec::new();
            for (offset, len, record_len, max) in pieces {
                // One in six fills the start, without which nothing could be read.
                let offset = offset.saturating_sub(1000);
                assembler.insert(offset, data(offset, len), record_len.max(len)).unwrap();
                model[offset as usize..offset as usize + len].fill(true);
                let next = model.iter().position(|here| !here).unwrap();
                prop_assert_eq!(assembler.next_offset(), next as u64);
                prop_assert_eq!(assembler.gaps, model[next..].windows(2).filter(|w| !w[0] && w[1]).count());
                prop_assert_eq!(assembler.bytes, model.iter().filter(|here| **here).count() - read.len());
                read.extend(assembler.read(max).unwrap_or_default());
                prop_assert_eq!(assembler.read, read.len() as u64);
            }
            read.extend(read_all(&mut assembler));
            prop_assert_eq!(read.len() as u64, assembler.next_offset());
            prop_assert!(read.iter().enumerate().all(|(i, b)| *b == byte(i as u64)));
        }
    }
}
