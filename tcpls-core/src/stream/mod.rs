//! All streams of one session: written data that is not acknowledged, received data that is not read, and the limits on
//! both.
//!
//! This layer knows no records, TCP state or keys. A TCP connection is an opaque label: streams are attached to it, and
//! data is pulled for it. The session's state machine is the only caller: it takes the next [`Chunk`] or [`Control`]
//! when it fills a record, stores what each record carries, and reports later whether that was acknowledged or lost
//! with its TCP connection. Loss is one operation: what was lost becomes pending again.
//!
//! ```text
//!           set (Streams)              one entry point per frame and per call
//!   schedule  flow  credit  send  recv whose turn it is, windows, the two halves of a stream
//!          range_set  buffer  assembler
//! ```

mod assembler;
mod buffer;
mod credit;
mod ended;
mod flow;
mod range_set;
mod recv;
mod schedule;
mod send;
mod set;

pub(crate) use set::{Streams, Unread, Waste};

use core::ops::Range;

use crate::wire::ids::{ConnectionId, ErrorCode, StreamId};

/// The largest offset that a stream's end may have, and the largest flow-control limit: 2⁶².
pub(crate) const MAX_OFFSET: u64 = 1 << 62;

/// The state of the sending half of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendProgress {
    /// The stream is not finished, or not all of it is acknowledged.
    UnderWay,
    /// The peer has acknowledged all data and the end, or this endpoint's reset.
    Over,
    /// The peer has stopped reading, with its code.
    Stopped(ErrorCode),
    /// The session ended before all was acknowledged.
    Lost,
    /// There is no such stream, or it ended so long ago that its end is not remembered.
    Unknown,
}

/// What an application wants of a stream beside others: little delay, or much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamClass {
    /// Interactive while at most 64 KiB of it are unacknowledged and were written lately (64 KiB for each second), if its
    /// priority is above 0, or is 0 while a stream with a lower one is open, or if its peer sent it by a lane; bulk
    /// otherwise.
    #[default]
    ByPriority,
    /// Always interactive: it may use lanes.
    Interactive,
    /// Never interactive.
    Bulk,
}

/// A stream with data to send, as the choice of a TCP connection for it sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: StreamId,
    /// The TCP connections that it is attached to; none: it may use any.
    pub(crate) attached: &'a [ConnectionId],
    /// Whether it may use lanes.
    pub(crate) is_interactive: bool,
}

/// A piece of a stream's data, or its end, in a record. The bytes stay in the stream until they are acknowledged; a
/// record stores only this reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Whose data.
    pub(crate) id: StreamId,
    /// Its first offset.
    pub(crate) offset: u64,
    /// How many bytes; 0 only with `fin`.
    pub(crate) len: u16,
    /// Whether the stream ends here.
    pub(crate) fin: bool,
    /// Whether it was requeued when its TCP connection stalled, and bulk data was not. A mark here keeps what a record
    /// stores as small as a chunk.
    pub(crate) hedged: bool,
}

impl Chunk {
    /// The offset after its last byte.
    pub(crate) const fn end(&self) -> u64 {
        self.offset + self.len as u64
    }

    /// The offsets of its bytes.
    pub(crate) const fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }
}

/// A frame about streams that carries no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// How many bytes the peer may send on all streams together.
    MaxData { maximum: u64 },
    /// How many bytes the peer may send on this stream.
    MaxStreamData { id: StreamId, maximum: u64 },
    /// How many streams the peer may open over the session's life.
    MaxStreams { maximum: u32 },
    /// This endpoint resets the stream, after `final_size` bytes.
    ResetStream { id: StreamId, error: ErrorCode, final_size: u64 },
    /// This endpoint reads no more of the stream.
    StopSending { id: StreamId, error: ErrorCode },
}

impl Control {
    /// The reference that a record stores: enough to make the frame again, with current values, if the record is lost.
    pub(crate) const fn key(&self) -> ControlKey {
        match *self {
            Self::MaxData { .. } => ControlKey::MaxData,
            Self::MaxStreamData { id, .. } => ControlKey::MaxStreamData(id),
            Self::MaxStreams { .. } => ControlKey::MaxStreams,
            Self::ResetStream { id, .. } => ControlKey::ResetStream(id),
            Self::StopSending { id, .. } => ControlKey::StopSending(id),
        }
    }
}

/// Identifies a [`Control`] without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ControlKey {
    /// Session flow control.
    MaxData,
    /// Stream flow control.
    MaxStreamData(StreamId),
    /// Credit to open streams.
    MaxStreams,
    /// A stream's sending side given up.
    ResetStream(StreamId),
    /// A stream's receiving side given up.
    StopSending(StreamId),
}
