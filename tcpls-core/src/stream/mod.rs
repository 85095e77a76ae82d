//! All streams of a session: what applications wrote and read, reassembly, flow control, who is sent next.
//!
//! Nothing here knows a record or the state of a TCP connection: a `ConnectionId` is only a label that a stream is attached
//! to. Called by the connection layer alone.

mod assembler;
mod flow;
mod range_set;
mod recv;
mod send;
mod set;

pub(crate) use self::set::Streams;
use crate::wire::ids::{ErrorCode, StreamId};

/// The longest chunk: what fits into a Stream frame's 16-bit length; a record holds less.
const MAX_CHUNK: usize = u16::MAX as usize;

/// A piece of stream data in a record, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) id: StreamId,
    pub(crate) offset: u64,
    pub(crate) len: u16,
    pub(crate) fin: bool,
}

/// A frame about streams, with its values as they are at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    MaxData { maximum: u64 },
    MaxStreamData { id: StreamId, maximum: u64 },
    MaxStreams { maximum: u32 },
    ResetStream { id: StreamId, error: ErrorCode, final_size: u64 },
    StopSending { id: StreamId, error: ErrorCode },
}

/// Which frame that is: all that has to be remembered of it until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ControlKey {
    MaxData,
    MaxStreams,
    MaxStreamData(StreamId),
    ResetStream(StreamId),
    StopSending(StreamId),
}

impl Control {
    pub(crate) fn key(&self) -> ControlKey {
        match *self {
            Self::MaxData { .. } => ControlKey::MaxData,
            Self::MaxStreamData { id, .. } => ControlKey::MaxStreamData(id),
            Self::MaxStreams { .. } => ControlKey::MaxStreams,
            Self::ResetStream { id, .. } => ControlKey::ResetStream(id),
            Self::StopSending { id, .. } => ControlKey::StopSending(id),
        }
    }
}
