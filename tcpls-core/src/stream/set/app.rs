//! What applications do with streams.

use bytes::Bytes;

use super::{Entry, Streams};
use crate::error::{OpenStreamError, ReadError, WriteError};
use crate::stream::ControlKey;
use crate::wire::ids::{ConnectionId, ErrorCode, StreamId};

impl Streams {
    /// Opens the next stream of this side (draft I05, I06).
    pub(crate) fn open(&mut self) -> Result<StreamId, OpenStreamError> {
        if self.closed_to_writes {
            return Err(OpenStreamError::Closed);
        }
        let id = StreamId::new(self.side, self.next_own).ok_or(OpenStreamError::Exhausted)?;
        if self.next_own >= self.own_limit {
            self.open_refused = true;
            return Err(if self.plain { OpenStreamError::Plain } else { OpenStreamError::Limit });
        }
        self.next_own += 1;
        self.insert(id);
        Ok(id)
    }

    /// The next stream that the peer opened.
    pub(crate) fn accept(&mut self) -> Option<StreamId> {
        self.accepting.pop_front()
    }

    /// Copies as much of `data` as there is room for.
    pub(crate) fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        let room = self.room(id)?;
        let taken = data.len().min(room);
        self.note_block(id, taken < data.len());
        self.with(id, |entry, _| entry.send.write(&data[..taken]));
        if taken == 0 && !data.is_empty() { Err(WriteError::Blocked) } else { Ok(taken) }
    }

    /// Takes as much off the front of `data` as there is room for.
    pub(crate) fn write_chunk(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        let room = self.room(id)?;
        let part = data.split_to(data.len().min(room));
        let taken = part.len();
        self.note_block(id, !data.is_empty());
        if taken > 0 {
            self.with(id, |entry, _| entry.send.write_chunk(part));
        }
        if taken == 0 && !data.is_empty() { Err(WriteError::Blocked) } else { Ok(taken) }
    }

    fn room(&self, id: StreamId) -> Result<usize, WriteError> {
        if self.closed_to_writes {
            return Err(WriteError::Closed);
        }
        let entry = self.entries.get(&id).ok_or(WriteError::Unknown)?;
        entry.send.check_open()?;
        let stream = self.stream_send_buffer.saturating_sub(entry.send.buffered());
        let room = stream.min(self.send_buffer.saturating_sub(self.buffered));
        Ok(usize::try_from(room).unwrap_or(usize::MAX))
    }

    fn note_block(&mut self, id: StreamId, blocked: bool) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|_| blocked) {
            entry.send.blocked = true;
            self.waiting_for_room.insert(id);
        }
    }

    /// Nothing more will be written (draft I07).
    pub(crate) fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        if self.closed_to_writes {
            return Err(WriteError::Closed);
        }
        self.writable(id)?;
        self.with(id, |entry, _| entry.send.finish());
        Ok(())
    }

    /// Gives the stream's sending half up.
    pub(crate) fn reset(&mut self, id: StreamId, error: ErrorCode) -> Result<(), WriteError> {
        let entry = self.entries.get(&id).ok_or(WriteError::Unknown)?;
        if entry.send.is_reset() || entry.send.is_over() {
            return Err(WriteError::Finished);
        }
        self.reset_sending(id, error);
        Ok(())
    }

    pub(super) fn reset_sending(&mut self, id: StreamId, error: ErrorCode) {
        self.with(id, |entry, _| _ = entry.send.reset(error));
        self.controls.insert(ControlKey::ResetStream(id));
        self.tell_room();
    }

    /// The next bytes, or `None` at the end.
    pub(crate) fn read(&mut self, id: StreamId, max: usize) -> Result<Option<Bytes>, ReadError> {
        self.with(id, |entry, all| {
            let read = entry.recv.read(max);
            if let Ok(Some(data)) = &read {
                all.took(id, entry, data.len() as u64);
            }
            read
        })
        .unwrap_or(Err(ReadError::Unknown))
    }

    /// The application took bytes: both windows move.
    fn took(&mut self, id: StreamId, entry: &mut Entry, bytes: u64) {
        if entry.recv.window.consume(bytes) && entry.recv.wants_window() {
            self.controls.insert(ControlKey::MaxStreamData(id));
        }
        self.give_back(bytes);
    }

    /// Reads no more.
    pub(crate) fn stop(&mut self, id: StreamId, error: ErrorCode) -> Result<(), ReadError> {
        let stopped = self.with(id, |entry, all| {
            let unread = entry.recv.stop()?;
            all.give_back(unread);
            entry.stop_error = error;
            Ok(entry.recv.wants_stop())
        });
        if stopped.unwrap_or(Err(ReadError::Unknown))? {
            self.controls.insert(ControlKey::StopSending(id));
        }
        Ok(())
    }

    pub(crate) fn set_priority(&mut self, id: StreamId, priority: i8) -> Result<(), WriteError> {
        self.with(id, |entry, _| entry.priority = priority).ok_or(WriteError::Unknown)
    }

    /// Lets `tcp` carry the stream; beyond the eighth, attaching has no effect.
    pub(crate) fn attach(&mut self, id: StreamId, tcp: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.attached.contains(&tcp)) {
            _ = entry.attached.try_push(tcp);
        }
    }

    pub(crate) fn detach(&mut self, id: StreamId, tcp: ConnectionId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.attached.retain(|attached| *attached != tcp);
        }
    }

    /// `tcp` is gone: a stream that was attached to it alone may use any.
    pub(crate) fn forget_tcp(&mut self, tcp: ConnectionId) {
        for entry in self.entries.values_mut() {
            entry.attached.retain(|attached| *attached != tcp);
            entry.repeated.remove(&tcp);
        }
    }

    fn writable(&self, id: StreamId) -> Result<(), WriteError> {
        self.entries.get(&id).ok_or(WriteError::Unknown)?.send.check_open()
    }

    /// The peer sends no more: streams without an end are cut short, after what came of them was read (draft I28).
    pub(crate) fn truncate(&mut self) {
        self.read_side_over = true;
        for id in self.ids() {
            self.with(id, |entry, _| entry.recv.truncate());
        }
    }

    /// Everything goes: nothing can be read or written any more.
    pub(crate) fn abort(&mut self) {
        self.drop_outgoing();
        self.closed_to_writes = true;
        self.entries.clear();
        self.accepting.clear();
        self.events.clear();
        (self.unread, self.buffered) = (0, 0);
    }

    /// No more writes are taken; what was written still goes out.
    pub(crate) fn stop_writing(&mut self) {
        self.closed_to_writes = true;
        for id in core::mem::take(&mut self.waiting_for_room) {
            self.events.push_back(crate::event::StreamEvent::Writable { id });
        }
    }

    /// The peer takes no more: what was not delivered goes.
    pub(crate) fn drop_outgoing(&mut self) {
        for id in self.ids() {
            self.with(id, |entry, _| entry.send.give_up());
        }
        self.again.clear();
        self.fresh.clear();
        self.controls.clear();
    }

    /// Whether all that was written is acknowledged, ends and resets too.
    pub(crate) fn is_flushed(&self) -> bool {
        self.controls.is_empty() && self.entries.values().all(|entry| entry.send.is_flushed())
    }

    fn ids(&self) -> Vec<StreamId> {
        self.entries.keys().copied().collect()
    }
}
