//! The sending half of a stream: what was written and is not acknowledged, and which parts of it are to be sent.
//!
//! Data is held once, in the pieces that it was written in; records take copies of ranges. A lost range is merged back
//! into `again`: recovery is that one operation.

use core::ops::Range;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::range_set::RangeSet;
use super::{Chunk, MAX_CHUNK};
use crate::error::WriteError;
use crate::wire::ids::{ErrorCode, StreamId};

/// Small writes are gathered until this much has come.
const GATHER: usize = 64 * 1024;
/// Writes of at least this much are a piece of their own.
const OWN_PIECE: usize = 16 * 1024;

/// What becomes of a thing that is said once and must arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// To be sent, or sent again.
    Due,
    /// Sent, not acknowledged.
    Sent,
    /// Acknowledged.
    Acked,
}

#[derive(Debug)]
pub(super) struct SendHalf {
    id: StreamId,
    /// Whole pieces with the offset of their first byte.
    pieces: VecDeque<(u64, Bytes)>,
    /// The piece that small writes go to, behind all others.
    tail: BytesMut,
    tail_start: u64,
    /// Everything below is acknowledged and forgotten.
    base: u64,
    /// Everything from here on was never sent.
    next: u64,
    written: u64,
    /// Lost ranges, to be sent again.
    again: RangeSet,
    /// Acknowledged ranges above `base`.
    acked: RangeSet,
    /// The peer's limit.
    max: u64,
    fin: Option<Fate>,
    reset: Option<(ErrorCode, Fate)>,
    /// The peer takes no more on the whole session.
    given_up: bool,
    /// The peer reads no more.
    pub(super) stopped: Option<ErrorCode>,
    /// The application waits for room.
    pub(super) blocked: bool,
}

impl SendHalf {
    pub(super) fn new(id: StreamId, max: u64) -> Self {
        Self {
            id,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            tail_start: 0,
            base: 0,
            next: 0,
            written: 0,
            again: RangeSet::default(),
            acked: RangeSet::default(),
            max,
            fin: None,
            reset: None,
            given_up: false,
            stopped: None,
            blocked: false,
        }
    }

    /// Whether the application may still write.
    pub(super) fn check_open(&self) -> Result<(), WriteError> {
        match self.stopped {
            Some(error) => Err(WriteError::Stopped(error)),
            None if self.fin.is_some() || self.reset.is_some() => Err(WriteError::Finished),
            None => Ok(()),
        }
    }

    /// Appends a copy of `data`.
    pub(super) fn write(&mut self, data: &[u8]) {
        if data.len() >= OWN_PIECE {
            return self.write_chunk(Bytes::copy_from_slice(data));
        }
        self.tail.extend_from_slice(data);
        self.written += data.len() as u64;
        if self.tail.len() >= GATHER {
            self.close_tail();
        }
    }

    /// Appends `data` itself.
    pub(super) fn write_chunk(&mut self, data: Bytes) {
        self.close_tail();
        let start = self.written;
        self.written += data.len() as u64;
        self.tail_start = self.written;
        self.pieces.push_back((start, data));
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let piece = self.tail.split().freeze();
            self.pieces.push_back((self.tail_start, piece));
            self.tail_start = self.written;
        }
    }

    /// Bytes held for this stream.
    pub(super) fn buffered(&self) -> u64 {
        self.written - self.base
    }

    pub(super) fn finish(&mut self) {
        self.fin.get_or_insert(Fate::Due);
    }

    /// Gives everything up; returns how many bytes that freed. The final size is what was ever sent.
    pub(super) fn reset(&mut self, error: ErrorCode) -> u64 {
        let freed = self.buffered();
        self.reset = Some((error, Fate::Due));
        self.fin = None;
        self.drop_data();
        freed
    }

    /// The session ends: what was not delivered never will be.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.drop_data();
    }

    fn drop_data(&mut self) {
        self.pieces = VecDeque::new();
        self.tail = BytesMut::new();
        self.again = RangeSet::default();
        self.acked = RangeSet::default();
        (self.written, self.base, self.tail_start) = (self.next, self.next, self.next);
    }

    /// The reset to be told to the peer: its code and the final size.
    pub(super) fn reset_due(&mut self) -> Option<(ErrorCode, u64)> {
        let (error, fate) = self.reset.as_mut().filter(|(_, fate)| *fate == Fate::Due)?;
        *fate = Fate::Sent;
        Some((*error, self.next))
    }

    pub(super) fn reset_acked(&mut self) {
        if let Some((_, fate)) = &mut self.reset {
            *fate = Fate::Acked;
        }
    }

    /// True if it is due again.
    pub(super) fn reset_lost(&mut self) -> bool {
        let lost = self.reset.as_mut().filter(|(_, fate)| *fate == Fate::Sent);
        lost.map(|(_, fate)| *fate = Fate::Due).is_some()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.reset.is_some()
    }

    /// Takes in the peer's limit, which never shrinks.
    pub(super) fn set_max(&mut self, max: u64) {
        self.max = self.max.max(max);
    }

    /// Whether something is to be sent that needs no credit of the session: lost ranges, a FIN behind everything.
    pub(super) fn has_again(&self) -> bool {
        !self.is_dead() && (!self.again.is_empty() || self.has_bare_fin())
    }

    /// Whether there is data that was never sent and that the peer's limit for this stream allows.
    pub(super) fn has_fresh(&self) -> bool {
        !self.is_dead() && self.next < self.written.min(self.max)
    }

    fn is_dead(&self) -> bool {
        self.given_up || self.reset.is_some()
    }

    fn has_bare_fin(&self) -> bool {
        self.fin == Some(Fate::Due) && self.next == self.written && self.again.is_empty()
    }

    /// The next lost piece, or the FIN if nothing is left but that.
    pub(super) fn take_again(&mut self, max: usize) -> Option<Chunk> {
        if self.is_dead() {
            return None;
        }
        let Some(range) = self.again.first() else {
            return self.has_bare_fin().then(|| self.chunk(self.written..self.written));
        };
        let end = range.end.min(range.start + max.min(MAX_CHUNK) as u64);
        self.again.remove(range.start..end);
        Some(self.chunk(range.start..end))
    }

    /// The next piece that was never sent, at most `credit` bytes.
    pub(super) fn take_fresh(&mut self, max: usize, credit: u64) -> Option<Chunk> {
        let len = (self.written.min(self.max).saturating_sub(self.next)).min(credit).min(max.min(MAX_CHUNK) as u64);
        if self.is_dead() || len == 0 {
            return None;
        }
        let start = self.next;
        self.next += len;
        Some(self.chunk(start..self.next))
    }

    /// What was sent from `cursor` on and is not acknowledged, whether or not it is lost: for another TCP connection to
    /// send too.
    pub(super) fn duplicate(&self, cursor: u64, max: usize) -> Option<Chunk> {
        if self.is_dead() {
            return None;
        }
        let mut found = None;
        self.acked.for_gaps(cursor.max(self.base)..self.next, |gap| _ = found.get_or_insert(gap));
        let range = found?;
        let end = range.end.min(range.start + max.min(MAX_CHUNK) as u64);
        let fin = self.fin.is_some_and(|fate| fate != Fate::Acked) && end == self.written;
        Some(Chunk { id: self.id, offset: range.start, len: (end - range.start) as u16, fin })
    }

    /// A chunk for `range`, with FIN if it reaches the end.
    fn chunk(&mut self, range: Range<u64>) -> Chunk {
        let fin = self.fin.is_some_and(|fate| fate != Fate::Acked) && range.end == self.written;
        if fin {
            self.fin = Some(Fate::Sent);
        }
        Chunk { id: self.id, offset: range.start, len: (range.end - range.start) as u16, fin }
    }

    /// Appends the bytes of `chunk` to `out`.
    pub(super) fn copy(&self, chunk: &Chunk, out: &mut Vec<u8>) {
        let (mut at, end) = (chunk.offset, chunk.offset + u64::from(chunk.len));
        let first = self.pieces.partition_point(|(start, piece)| start + piece.len() as u64 <= at);
        for (start, piece) in self.pieces.range(first..) {
            if at >= end {
                return;
            }
            at += append(piece, *start, at..end, out);
        }
        if at < end {
            append(&self.tail, self.tail_start, at..end, out);
        }
    }

    /// The peer has `chunk`; returns how many bytes that freed.
    pub(super) fn acked(&mut self, chunk: &Chunk) -> u64 {
        if self.is_dead() {
            return 0;
        }
        let range = chunk.offset..chunk.offset + u64::from(chunk.len);
        if chunk.fin && self.fin.is_some() {
            self.fin = Some(Fate::Acked);
        }
        if range.start < self.base && range.end <= self.base {
            return 0;
        }
        self.again.remove(range.clone());
        self.acked.insert(range);
        let Some(first) = self.acked.first().filter(|first| first.start <= self.base) else { return 0 };
        let freed = first.end.saturating_sub(self.base);
        self.base = self.base.max(first.end);
        self.acked.forget_below(self.base);
        while self.pieces.front().is_some_and(|(start, piece)| start + piece.len() as u64 <= self.base) {
            self.pieces.pop_front();
        }
        if self.tail_start < self.base && self.base == self.written {
            self.tail.clear();
            self.tail_start = self.base;
        }
        freed
    }

    /// The TCP connection that carried `chunk` is lost; returns how many bytes of it have to go out again.
    pub(super) fn lost(&mut self, chunk: &Chunk) -> u64 {
        if self.is_dead() {
            return 0;
        }
        if chunk.fin && self.fin == Some(Fate::Sent) {
            self.fin = Some(Fate::Due);
        }
        let end = (chunk.offset + u64::from(chunk.len)).min(self.next);
        let mut requeued = 0;
        let again = &mut self.again;
        self.acked.for_gaps(chunk.offset.max(self.base)..end, |gap| requeued += again.insert(gap));
        requeued
    }

    /// Whether all that was written arrived, the FIN too if there is one.
    pub(super) fn is_flushed(&self) -> bool {
        self.given_up
            || match self.reset {
                Some((_, fate)) => fate == Fate::Acked,
                None => self.base == self.written && self.fin.is_none_or(|fate| fate == Fate::Acked),
            }
    }

    /// Whether nothing will ever happen on this half again.
    pub(super) fn is_over(&self) -> bool {
        self.given_up || self.is_delivered() || self.reset.is_some_and(|(_, fate)| fate == Fate::Acked)
    }

    /// Whether everything up to the FIN arrived.
    pub(super) fn is_delivered(&self) -> bool {
        self.fin == Some(Fate::Acked) && self.base == self.written && !self.is_dead()
    }
}

/// Appends the part of `piece`, which starts at offset `start`, that lies in `range`; returns its length.
fn append(piece: &[u8], start: u64, range: Range<u64>, out: &mut Vec<u8>) -> u64 {
    let from = (range.start - start) as usize;
    let to = piece.len().min((range.end - start) as usize);
    out.extend_from_slice(&piece[from..to]);
    (to - from) as u64
}
