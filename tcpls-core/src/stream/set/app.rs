//! Calls of the application on streams: open, accept, write, finish, reset, read, stop, attach.
//!
//! Every call checks the stream's state first, and changes nothing if it returns an error.

use bytes::Bytes;

use super::{Cause, Stream, Streams};
use crate::error::{OpenStreamError, ReadError, WriteError};
use crate::stream::ended::Ended;
use crate::stream::{ControlKey, SendProgress};
use crate::wire::ids::{ConnectionId, ErrorCode, StreamId};

impl Streams {
    /// Opens the next stream of this endpoint. Its first data announces it to the peer.
    // draft I06: in sequence.
    // draft I04
    pub(crate) fn open(&mut self) -> Result<StreamId, OpenStreamError> {
        let shared = &mut self.shared;
        if shared.ending.writing_stopped {
            return Err(OpenStreamError::Closed);
        }
        if shared.plain {
            let first = core::mem::take(&mut shared.plain_to_open);
            return if first { Ok(StreamId(0)) } else { Err(OpenStreamError::Plain) };
        }
        if shared.drain.has_begun() {
            return Err(OpenStreamError::Draining);
        }
        let id = StreamId::new(shared.side, shared.opened_here).ok_or(OpenStreamError::Exhausted)?;
        if shared.opened_here >= shared.limit_here {
            shared.open_refused = true;
            return Err(OpenStreamError::Limit);
        }
        shared.opened_here += 1;
        self.create(id);
        Ok(id)
    }

    /// The next stream that the peer opened, in order.
    pub(crate) fn accept(&mut self) -> Option<StreamId> {
        let shared = &mut self.shared;
        if shared.accepted >= shared.opened_by_peer || !shared.drain.serves(shared.accepted) {
            return None;
        }
        let id = StreamId::new(shared.side.peer(), shared.accepted)?;
        shared.accepted += 1;
        Some(id)
    }

    /// Takes a copy of the front of `data`, as much as there is room for; returns how much that is.
    pub(crate) fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.write_with(id, data.len(), |stream, len| stream.send.write(data.get(..len).unwrap_or_default()))
    }

    /// Takes the front of `data` itself, as much as there is room for, off it; returns how much that is.
    ///
    /// The memory behind `data` is kept until the last byte of it is acknowledged, unless it is short.
    pub(crate) fn write_chunk(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        self.write_with(id, data.len(), |stream, len| stream.send.write_bytes(data.split_to(len)))
    }

    /// How many bytes a write would take now; at least one.
    pub(crate) fn writable(&mut self, id: StreamId) -> Result<usize, WriteError> {
        self.update_open(Cause::Write, id, |stream, shared| {
            stream.send.check_open()?;
            match shared.room_for(stream) {
                0 => {
                    stream.blocked = true;
                    shared.blocked.insert(id);
                    Err(WriteError::Blocked)
                }
                room => Ok(room),
            }
        })
    }

    fn write_with(
        &mut self,
        id: StreamId,
        offered: usize,
        take: impl FnOnce(&mut Stream, usize),
    ) -> Result<usize, WriteError> {
        self.update_open(Cause::Write, id, |stream, shared| {
            stream.send.check_open()?;
            let room = shared.room_for(stream);
            if offered > room {
                stream.blocked = true;
                shared.blocked.insert(id);
            }
            if room == 0 && offered > 0 {
                return Err(WriteError::Blocked);
            }
            let len = offered.min(room);
            take(stream, len);
            stream.note_written(len, shared);
            Ok(len)
        })
    }

    /// Says that all was written. A second call is refused.
    // draft I07
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        self.update_open(Cause::Any, id, |stream, _| stream.send.finish())
    }

    /// Gives up what is not acknowledged. Also when the session is closing, and after [`Streams::finish`].
    pub(crate) fn reset(&mut self, id: StreamId, error: ErrorCode) -> Result<(), WriteError> {
        let (plain, draft_only) = (self.shared.plain, self.shared.draft_only);
        if self.shared.ending.outgoing_dropped {
            return Err(WriteError::Closed);
        }
        let result = self.update(id, |stream, shared| {
            stream.send.reset(error)?;
            if plain {
                // There is no frame for it; the end of the session shows it.
                stream.send.handle_reset_acked();
                shared.plain_reset = Some(error);
            } else if draft_only {
                // There is no frame for it: the peer's stream stays without an end.
                stream.send.handle_reset_acked();
            } else {
                shared.due.insert(ControlKey::ResetStream(id));
            }
            Ok(())
        });
        result.unwrap_or(Err(WriteError::Unknown))
    }

    /// The next bytes in order, of one piece and without a copy, at most `max`. `None` is the end of the stream.
    pub(crate) fn read(&mut self, id: StreamId, max: usize) -> Result<Option<Bytes>, ReadError> {
        if self.shared.ending.aborted {
            return Err(ReadError::Truncated);
        }
        let result = self.update_by(Cause::Read, id, |stream, shared| {
            let data = stream.recv.read(max)?;
            let len = data.as_ref().map_or(0, Bytes::len) as u64;
            shared.window.consume(len);
            shared.delivered += len;
            Ok(data)
        });
        match result {
            Some(result) => result,
            None => {
                self.shared.ended.get(id).map_or(Err(ReadError::Unknown), |ended| ended.read_error().map(|()| None))
            }
        }
    }

    /// Returns the state of the sending half of a stream.
    pub(crate) fn sending(&self, id: StreamId) -> SendProgress {
        if let Some(stream) = self.map.get(&id) {
            return stream.send.progress();
        }
        let shared = &self.shared;
        let opened = if id.initiator() == shared.side { shared.opened_here } else { shared.opened_by_peer };
        match shared.ended.get(id) {
            Some(ended) => ended.send.progress(),
            None if id.index() >= opened || shared.ended.has_forgotten() => SendProgress::Unknown,
            None if shared.ending.aborted => SendProgress::Lost,
            None => SendProgress::Over,
        }
    }

    /// Returns why a stream's data will not be complete.
    pub(crate) fn read_failure(&self, id: StreamId) -> Option<ReadError> {
        if self.shared.ending.aborted {
            return Some(ReadError::Truncated); // as for `read`: no stream is left
        }
        self.map.get(&id)?.recv.failure()
    }

    /// Reads no more, and asks the peer to send no more.
    pub(crate) fn stop(&mut self, id: StreamId, error: ErrorCode) -> Result<(), ReadError> {
        let result = self.update(id, |stream, shared| {
            shared.window.consume(stream.recv.stop(error)?);
            if shared.draft_only {
                stream.recv.truncate(); // the peer cannot be asked; what it sends is dropped
                return Ok(());
            }
            if stream.recv.stop_code().is_some() && !shared.plain && !shared.ending.outgoing_dropped {
                shared.due.insert(ControlKey::StopSending(id));
            }
            Ok(())
        });
        result.unwrap_or(Err(ReadError::Unknown))
    }

    /// Lets the stream use `tcp`, and none that it is not attached to. Unknown streams are ignored.
    // draft I08
    pub(crate) fn attach(&mut self, id: StreamId, tcp: ConnectionId) {
        if let Some(stream) = self.map.get_mut(&id).filter(|stream| !stream.attached.contains(&tcp)) {
            stream.attached.push(tcp);
        }
    }

    /// Takes back [`Streams::attach`]. A stream attached to none may use any.
    pub(crate) fn detach(&mut self, id: StreamId, tcp: ConnectionId) {
        if let Some(stream) = self.map.get_mut(&id) {
            stream.attached.retain(|attached| *attached != tcp);
        }
    }

    /// `tcp` is lost: no stream is attached to it any more.
    pub(crate) fn forget_tcp(&mut self, tcp: ConnectionId) {
        for stream in self.map.values_mut() {
            stream.attached.retain(|attached| *attached != tcp);
            stream.send.forget_tcp(tcp);
        }
    }

    /// Like [`Streams::update_by`], for calls that the end of the session forbids.
    fn update_open<R>(
        &mut self,
        cause: Cause,
        id: StreamId,
        change: impl FnOnce(&mut Stream, &mut super::Shared) -> Result<R, WriteError>,
    ) -> Result<R, WriteError> {
        if self.shared.ending.writing_stopped {
            return Err(WriteError::Closed);
        }
        match self.update_by(cause, id, change) {
            Some(result) => result,
            None => Err(self.shared.ended.get(id).map_or(WriteError::Unknown, Ended::write_error)),
        }
    }
}
