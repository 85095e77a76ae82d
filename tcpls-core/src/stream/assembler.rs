//! Puts received pieces of a stream into order. Pieces that come in order are handed on as they are; those that come early
//! wait. The first copy of a byte counts.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

/// What a waiting piece costs besides its bytes.
const OVERHEAD: usize = 64;
/// Pieces below this length are copied, so that a few bytes never keep a large receive buffer alive.
const COPY_BELOW: usize = 512;
/// So are pieces that fill less than this part of their record.
const COPY_BELOW_PART: usize = 4;
/// Small pieces are gathered up to this length.
const GATHER: usize = 1024;

/// More ranges with gaps between them than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyGaps;

#[derive(Debug)]
pub(super) struct Assembler {
    /// Disjoint pieces by offset; the first may start at `read`.
    pieces: BTreeMap<u64, Bytes>,
    /// Offset of the next byte to be read.
    read: u64,
    /// Bytes in `pieces`.
    held: usize,
    gaps: usize,
    max_gaps: usize,
}

impl Assembler {
    pub(super) fn new(max_gaps: usize) -> Self {
        Self { pieces: BTreeMap::new(), read: 0, held: 0, gaps: 0, max_gaps }
    }

    /// Offset of the next byte to be read.
    pub(super) fn offset(&self) -> u64 {
        self.read
    }

    /// Whether a read would give something.
    pub(super) fn is_readable(&self) -> bool {
        self.pieces.first_key_value().is_some_and(|(start, _)| *start == self.read)
    }

    /// Memory held, overhead included.
    pub(super) fn memory(&self) -> usize {
        self.held + self.pieces.len() * OVERHEAD
    }

    /// Takes in `data` at `offset`, which came in a record of `record_len` bytes; returns how many of its bytes are new.
    pub(super) fn insert(&mut self, offset: u64, data: Bytes, record_len: usize) -> Result<u64, TooManyGaps> {
        let mut data = compact(data, record_len);
        let end = offset + data.len() as u64;
        let mut at = offset.max(self.read);
        if let Some((start, before)) = self.pieces.range(..=at).next_back() {
            at = at.max(start + before.len() as u64);
        }
        let mut fresh = 0;
        while at < end {
            data.advance((at - (end - data.len() as u64)) as usize);
            let next = self.pieces.range(at..end).next().map(|(start, piece)| (*start, *start + piece.len() as u64));
            let (stop, resume) = next.unwrap_or((end, end));
            let part = data.split_to((stop - at) as usize);
            fresh += part.len() as u64;
            self.put(at, part)?;
            at = resume;
        }
        Ok(fresh)
    }

    /// Stores a piece that overlaps none.
    fn put(&mut self, at: u64, piece: Bytes) -> Result<(), TooManyGaps> {
        if piece.is_empty() {
            return Ok(());
        }
        let end = at + piece.len() as u64;
        let before = self.pieces.range_mut(..at).next_back().filter(|(start, held)| **start + held.len() as u64 == at);
        let joins_before = before.is_some() || at == self.read;
        let joins_after = self.pieces.contains_key(&end);
        match (joins_before, joins_after) {
            (false, false) if self.gaps >= self.max_gaps => return Err(TooManyGaps),
            (false, false) => self.gaps += 1,
            (true, true) => self.gaps -= usize::from(self.gaps > 0),
            _ => {}
        }
        self.held += piece.len();
        let before = self.pieces.range_mut(..at).next_back().filter(|(start, held)| **start + held.len() as u64 == at);
        match before {
            Some((_, held)) if held.len() + piece.len() <= GATHER => *held = join(held, &piece),
            _ => _ = self.pieces.insert(at, piece),
        }
        Ok(())
    }

    /// The next bytes in order, at most `max`.
    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let mut first = self.pieces.first_entry().filter(|first| *first.key() == self.read && max > 0)?;
        let part = if first.get().len() <= max {
            first.remove()
        } else {
            let part = first.get_mut().split_to(max);
            let rest = first.remove();
            self.pieces.insert(self.read + max as u64, rest);
            part
        };
        self.read += part.len() as u64;
        self.held -= part.len();
        Some(part)
    }

    /// Forgets everything and reads on from `offset`.
    pub(super) fn skip_to(&mut self, offset: u64) {
        self.pieces.clear();
        (self.held, self.gaps) = (0, 0);
        self.read = self.read.max(offset);
    }
}

fn compact(data: Bytes, record_len: usize) -> Bytes {
    let small = data.len() < COPY_BELOW || data.len() < record_len / COPY_BELOW_PART;
    if small && !data.is_empty() { Bytes::copy_from_slice(&data) } else { data }
}

fn join(a: &[u8], b: &[u8]) -> Bytes {
    let mut joined = BytesMut::with_capacity(a.len() + b.len());
    joined.extend_from_slice(a);
    joined.extend_from_slice(b);
    joined.freeze()
}
