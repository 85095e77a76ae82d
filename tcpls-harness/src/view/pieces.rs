//! The table of pieces: each range of a stream that a record carried, with the TCP connection and the reason if it was
//! not for the first time.

use super::columns::Column;

/// Why bytes of a stream go out, or arrive, once more. The page knows them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Why {
    /// They do not: all are new.
    New = 0,
    /// The TCP connection that carried them was lost.
    Reinjected = 1,
    /// The TCP connection that carried them was stalled.
    Hedged = 2,
    /// They went over several TCP connections on purpose.
    Redundant = 3,
    /// They arrived before.
    Duplicate = 4,
    /// The same TCP connection carried them before, as early data that was rejected.
    Repeated = 5,
}

/// The number of reasons.
pub(super) const REASONS: usize = 6;

/// A range of a stream in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The number of the record's event.
    pub(super) event: usize,
    pub(super) stream: u64,
    pub(super) start: u64,
    pub(super) len: u64,
    /// The number of bytes that are new.
    pub(super) fresh: u64,
    pub(super) why: Why,
}

/// The pieces, in order of their events.
#[derive(Debug)]
pub(super) struct Pieces {
    event: Column,
    stream: Column,
    start: Column,
    len: Column,
    /// The bytes that are not new.
    again: Column,
    why: Column,
}

impl Pieces {
    pub(super) fn new() -> Self {
        let [stream, start, len, again, why] = Default::default();
        Self { event: Column::ascending(), stream, start, len, again, why }
    }

    pub(super) fn push(&mut self, piece: &Piece) {
        self.event.push(piece.event as u64);
        self.stream.push(piece.stream);
        self.start.push(piece.start);
        self.len.push(piece.len);
        self.again.push(piece.len.saturating_sub(piece.fresh));
        self.why.push(piece.why as u64);
    }

    pub(super) fn len(&self) -> usize {
        self.event.len()
    }

    pub(super) fn columns(&self) -> [(&'static str, &Column); 6] {
        [
            ("piece-event", &self.event),
            ("piece-stream", &self.stream),
            ("piece-start", &self.start),
            ("piece-len", &self.len),
            ("piece-again", &self.again),
            ("piece-why", &self.why),
        ]
    }
}
