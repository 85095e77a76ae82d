//! How ended streams ended, as far as the application may not know: a stream is dropped when both halves have ended,
//! and the peer's error code for one of them is often the last frame of the stream.

use std::collections::VecDeque;

use super::SendProgress;
use crate::error::{ReadError, WriteError};
use crate::wire::ids::{ErrorCode, StreamId};

/// How many of the newest ended streams are remembered: the default number of open streams of both endpoints.
const MAX_ENDED: usize = 256;

/// How the sending half of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendEnd {
    /// All data was delivered, or this endpoint reset it.
    Over,
    /// The peer reads no more.
    Stopped(ErrorCode),
    /// The session ended first.
    Lost,
}

impl SendEnd {
    pub(super) fn progress(self) -> SendProgress {
        match self {
            Self::Over => SendProgress::Over,
            Self::Stopped(error) => SendProgress::Stopped(error),
            Self::Lost => SendProgress::Lost,
        }
    }
}

/// How the receiving half of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecvEnd {
    /// All data was read.
    Complete,
    /// The peer reset it.
    Reset(ErrorCode),
    /// The session ended first.
    Truncated,
    /// This endpoint stopped it.
    Stopped,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) send: SendEnd,
    pub(super) recv: RecvEnd,
}

impl Ended {
    /// Whether it contains anything that the application did not cause itself, or may not have seen.
    fn is_remarkable(self) -> bool {
        self.send != SendEnd::Over || matches!(self.recv, RecvEnd::Reset(_) | RecvEnd::Truncated)
    }

    /// Returns the error of a write now.
    pub(super) fn write_error(self) -> WriteError {
        match self.send {
            SendEnd::Over => WriteError::Unknown,
            SendEnd::Stopped(error) => WriteError::Stopped(error),
            SendEnd::Lost => WriteError::Closed,
        }
    }

    /// Returns the result of a read now; `Ok`: the end of the stream.
    pub(super) fn read_error(self) -> Result<(), ReadError> {
        match self.recv {
            RecvEnd::Complete => Ok(()),
            RecvEnd::Reset(error) => Err(ReadError::Reset(error)),
            RecvEnd::Truncated => Err(ReadError::Truncated),
            RecvEnd::Stopped => Err(ReadError::Stopped),
        }
    }
}

/// The newest of them.
#[derive(Debug, Default)]
pub(super) struct EndedStreams {
    remembered: VecDeque<(StreamId, Ended)>,
    /// Whether older ones have been dropped.
    has_forgotten: bool,
}

impl EndedStreams {
    /// Stream `id` has ended.
    pub(super) fn insert(&mut self, id: StreamId, ended: Ended) {
        if !ended.is_remarkable() {
            return;
        }
        self.remembered.push_back((id, ended));
        if self.remembered.len() > MAX_ENDED {
            self.remembered.pop_front();
            self.has_forgotten = true;
        }
    }

    /// Returns how the ended stream `id` ended. `None`: as its application requested, unless older ones were dropped.
    pub(super) fn get(&self, id: StreamId) -> Option<Ended> {
        self.remembered.iter().rev().find(|(ended, _)| *ended == id).map(|(_, ended)| *ended)
    }

    /// Whether an ended stream that is not remembered may have ended in any way.
    pub(super) fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_256_ends_with_a_code_are_remembered() {
        let stopped = Ended { send: SendEnd::Stopped(ErrorCode(4)), recv: RecvEnd::Complete };
        let mut streams = EndedStreams::default();
        for number in 0..MAX_ENDED as u32 {
            streams.insert(StreamId(4 * number), stopped);
            streams.insert(StreamId(4 * number + 2), Ended { send: SendEnd::Over, recv: RecvEnd::Complete });
        }
        assert_eq!((streams.get(StreamId(0)), streams.get(StreamId(2))), (Some(stopped), None));
        assert!(!streams.has_forgotten());
        streams.insert(StreamId(1), stopped);
        assert_eq!((streams.get(StreamId(0)), streams.get(StreamId(1))), (None, Some(stopped)));
        assert!(streams.has_forgotten());
    }
}
