//! The receiving half of a stream: order, end, and how much the peer may send.

use bytes::Bytes;

use super::assembler::Assembler;
use super::flow::Window;
use crate::error::{PeerMisbehaved, ReadError};
use crate::wire::ids::{ErrorCode, StreamId};

/// The largest stream offset.
const MAX_OFFSET: u64 = 1 << 62;

#[derive(Debug)]
pub(super) struct RecvHalf {
    id: StreamId,
    assembler: Assembler,
    pub(super) window: Window,
    /// The end of what the peer has sent, as far as is known: what counts against the session's window.
    highest: u64,
    final_size: Option<u64>,
    state: End,
    /// The application waits for something to read.
    pub(super) waiting: bool,
}

/// How the half ends, other than by its FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// The peer gave it up, and the application has not heard.
    Reset(ErrorCode),
    /// The session ended first.
    Truncated,
    /// The application reads no more.
    Stopped,
    /// The application has read the end, or heard of the reset.
    Over,
}

/// What a frame changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// New bytes of data.
    pub(super) fresh: u64,
    /// How far `highest` moved: the session's window counts it.
    pub(super) grown: u64,
    /// Bytes that nobody will read: they go back to the session's window.
    pub(super) given_back: u64,
}

impl RecvHalf {
    pub(super) fn new(id: StreamId, window: Window, max_gaps: usize) -> Self {
        let assembler = Assembler::new(max_gaps);
        Self { id, assembler, window, highest: 0, final_size: None, state: End::Open, waiting: true }
    }

    /// Data, in any order, again and again. `credit` is what the session's window has left.
    pub(super) fn receive(
        &mut self,
        offset: u64,
        fin: bool,
        data: Bytes,
        record_len: usize,
        credit: u64,
    ) -> Result<Progress, PeerMisbehaved> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= MAX_OFFSET);
        let end = end.ok_or(PeerMisbehaved::OffsetTooLarge(self.id.0))?;
        self.check_size(end, fin)?;
        let grown = end.saturating_sub(self.highest);
        if end > self.window.granted() || grown > credit {
            return Err(PeerMisbehaved::FlowControl);
        }
        self.highest += grown;
        if fin {
            self.final_size = Some(end);
        }
        if self.state != End::Open {
            return Ok(Progress { given_back: grown, grown, fresh: 0 });
        }
        let fresh =
            self.assembler.insert(offset, data, record_len).map_err(|_| PeerMisbehaved::TooManyGaps(self.id.0))?;
        Ok(Progress { fresh, grown, given_back: 0 })
    }

    /// The peer gives the stream up at `final_size`.
    pub(super) fn reset(&mut self, error: ErrorCode, final_size: u64, credit: u64) -> Result<Progress, PeerMisbehaved> {
        if final_size > MAX_OFFSET {
            return Err(PeerMisbehaved::OffsetTooLarge(self.id.0));
        }
        self.check_size(final_size, true)?;
        let grown = final_size.saturating_sub(self.highest);
        if final_size > self.window.granted() || grown > credit {
            return Err(PeerMisbehaved::FlowControl);
        }
        self.highest += grown;
        // Only a FIN makes what was read the whole; a reset right behind it does not.
        let complete = self.is_all_read();
        self.final_size = Some(final_size);
        match self.state {
            End::Open if complete => Ok(Progress { grown, ..Progress::default() }),
            End::Open => {
                let unread = self.highest - self.assembler.offset();
                self.assembler.skip_to(self.highest);
                self.state = End::Reset(error);
                Ok(Progress { given_back: unread, grown, fresh: 0 })
            }
            _ => Ok(Progress { given_back: grown, grown, fresh: 0 }),
        }
    }

    /// One final size, and nothing beyond it (RFC 9000, 4.5, which the draft is silent about).
    fn check_size(&self, end: u64, is_final: bool) -> Result<(), PeerMisbehaved> {
        let wrong = match self.final_size {
            Some(size) => end > size || (is_final && end != size),
            None => is_final && end < self.highest,
        };
        if wrong { Err(PeerMisbehaved::FinalSize(self.id.0)) } else { Ok(()) }
    }

    fn is_all_read(&self) -> bool {
        self.final_size == Some(self.assembler.offset())
    }

    /// Whether a read would give anything but `Blocked`.
    pub(super) fn is_readable(&self) -> bool {
        match self.state {
            End::Open => self.assembler.is_readable() || self.is_all_read(),
            End::Reset(_) | End::Truncated => true,
            End::Stopped | End::Over => false,
        }
    }

    /// The next bytes, or the end.
    pub(super) fn read(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        match self.state {
            End::Stopped => return Err(ReadError::Stopped),
            End::Over => return Err(ReadError::Unknown),
            End::Reset(error) => {
                self.state = End::Over;
                return Err(ReadError::Reset(error));
            }
            End::Open | End::Truncated => {}
        }
        if let Some(data) = self.assembler.read(max) {
            return Ok(Some(data));
        }
        if self.is_all_read() {
            self.state = End::Over;
            return Ok(None);
        }
        if self.state == End::Truncated {
            self.state = End::Over;
            return Err(ReadError::Truncated);
        }
        self.waiting = true;
        Err(ReadError::Blocked)
    }

    /// The application reads no more; returns the bytes that it leaves unread.
    pub(super) fn stop(&mut self) -> Result<u64, ReadError> {
        match self.state {
            End::Stopped => Err(ReadError::Stopped),
            End::Over => Err(ReadError::Unknown),
            End::Open | End::Reset(_) | End::Truncated => {
                let unread = if self.state == End::Open { self.highest - self.assembler.offset() } else { 0 };
                self.assembler.skip_to(self.highest);
                self.state = if matches!(self.state, End::Open) { End::Stopped } else { End::Over };
                Ok(unread)
            }
        }
    }

    /// Nothing more will come.
    pub(super) fn truncate(&mut self) {
        match self.state {
            End::Open => self.state = End::Truncated,
            End::Stopped => self.state = End::Over,
            _ => {}
        }
    }

    /// Whether the application needs more window: it reads, and the end is not known.
    pub(super) fn wants_window(&self) -> bool {
        self.state == End::Open && self.final_size.is_none()
    }

    /// Whether asking the peer to stop still has a meaning.
    pub(super) fn wants_stop(&self) -> bool {
        self.state == End::Stopped && self.final_size.is_none()
    }

    pub(super) fn memory(&self) -> usize {
        self.assembler.memory()
    }

    /// Whether nothing will ever happen on this half again.
    pub(super) fn is_over(&self) -> bool {
        self.state == End::Over || (self.state == End::Stopped && self.final_size.is_some())
    }
}
