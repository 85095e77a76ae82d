//! What streams put into records: whose turn it is, and what became of what was sent.

use std::collections::BTreeSet;

use super::{Entry, Streams, Turn};
use crate::stream::{Chunk, Control, ControlKey};
use crate::wire::ids::{ConnectionId, StreamId};

impl Streams {
    /// The next piece of stream data for a record on `tcp`, at most `max` bytes of it: lost data before new data, higher
    /// priority before lower, equal ones in turn. It counts as sent. Skipping streams that are attached elsewhere takes time
    /// proportional to their number.
    pub(crate) fn next_chunk(&mut self, tcp: ConnectionId, max: usize) -> Option<Chunk> {
        let again = self.first_turn(&self.again, tcp);
        let fresh = if self.credit.left() > 0 { self.first_turn(&self.fresh, tcp) } else { None };
        // Of one stream both may be due: what was lost is older.
        let again_first = match (again, fresh) {
            (Some(again), Some(fresh)) => again.0 <= fresh.0,
            (Some(_), None) => true,
            _ => false,
        };
        let id = if again_first { again?.2 } else { fresh?.2 };
        self.with(id, |entry, all| {
            all.rounds += 1;
            entry.round = all.rounds;
            if again_first {
                return entry.send.take_again(max);
            }
            let chunk = entry.send.take_fresh(max, all.credit.left());
            all.credit.spend(chunk.map_or(0, |chunk| u64::from(chunk.len)));
            chunk
        })
        .flatten()
    }

    /// Whether [`Streams::next_chunk`] would give something.
    pub(crate) fn has_data(&self, tcp: ConnectionId) -> bool {
        self.first_turn(&self.again, tcp).is_some()
            || (self.credit.left() > 0 && self.first_turn(&self.fresh, tcp).is_some())
    }

    fn first_turn(&self, turns: &BTreeSet<Turn>, tcp: ConnectionId) -> Option<Turn> {
        let may_use = |id: &StreamId| self.entries.get(id).is_some_and(|entry| entry.may_use(tcp));
        turns.iter().find(|(_, _, id)| may_use(id)).copied()
    }

    /// A piece that others have sent and that is not acknowledged, for `tcp` to send too. Each TCP connection goes over
    /// everything once.
    pub(crate) fn next_duplicate(&mut self, tcp: ConnectionId, max: usize) -> Option<Chunk> {
        let (id, chunk) = self.entries.iter().find_map(|(id, entry)| Some((*id, duplicate(entry, tcp, max)?)))?;
        if let Some(entry) = self.entries.get_mut(&id) {
            // One past the end notes that a FIN was repeated too.
            let end = chunk.offset + u64::from(chunk.len) + u64::from(chunk.fin);
            entry.repeated.insert(tcp, end);
        }
        Some(chunk)
    }

    /// `tcp` sent `chunk` itself: it need not repeat it.
    pub(crate) fn note_sent(&mut self, tcp: ConnectionId, chunk: &Chunk) {
        if let Some(entry) = self.entries.get_mut(&chunk.id) {
            let cursor = entry.repeated.entry(tcp).or_insert(0);
            if *cursor == chunk.offset {
                *cursor += u64::from(chunk.len) + u64::from(chunk.fin);
            }
        }
    }

    /// Appends the chunk's bytes to `out`: the one copy on the way out.
    pub(crate) fn copy_chunk(&self, chunk: &Chunk, out: &mut Vec<u8>) {
        if let Some(entry) = self.entries.get(&chunk.id) {
            entry.send.copy(chunk, out);
        }
    }

    /// The next frame about streams that is due, with values as they are now. One that has lost its meaning is skipped.
    pub(crate) fn next_control(&mut self) -> Option<Control> {
        while let Some(key) = self.controls.pop_first() {
            let control = match key {
                ControlKey::MaxData => Some(Control::MaxData { maximum: self.window.renew(self.now, self.rtt) }),
                ControlKey::MaxStreams => Some(self.max_streams_frame()),
                ControlKey::MaxStreamData(id) => self.max_stream_data_frame(id),
                ControlKey::ResetStream(id) => self.reset_frame(id),
                ControlKey::StopSending(id) => self.stop_frame(id),
            };
            if control.is_some() {
                return control;
            }
        }
        None
    }

    pub(crate) fn has_control(&self) -> bool {
        !self.controls.is_empty()
    }

    fn max_streams_frame(&mut self) -> Control {
        self.peer_limit = self.peer_over.saturating_add(self.max_streams).min(1 << 31);
        Control::MaxStreams { maximum: self.peer_limit }
    }

    fn max_stream_data_frame(&mut self, id: StreamId) -> Option<Control> {
        let (now, rtt) = (self.now, self.rtt);
        let entry = self.entries.get_mut(&id).filter(|entry| entry.recv.wants_window())?;
        Some(Control::MaxStreamData { id, maximum: entry.recv.window.renew(now, rtt) })
    }

    fn reset_frame(&mut self, id: StreamId) -> Option<Control> {
        let (error, final_size) = self.entries.get_mut(&id)?.send.reset_due()?;
        Some(Control::ResetStream { id, error, final_size })
    }

    fn stop_frame(&self, id: StreamId) -> Option<Control> {
        let entry = self.entries.get(&id).filter(|entry| entry.recv.wants_stop())?;
        Some(Control::StopSending { id, error: entry.stop_error })
    }

    /// The peer has the chunk.
    pub(crate) fn chunk_acked(&mut self, chunk: &Chunk) {
        let freed = self.with(chunk.id, |entry, _| entry.send.acked(chunk));
        if freed.is_some_and(|freed| freed > 0) {
            self.tell_room();
        }
    }

    /// The TCP connection that carried the chunk is lost; returns how many bytes of it have to go out again.
    pub(crate) fn chunk_lost(&mut self, chunk: &Chunk) -> u64 {
        self.with(chunk.id, |entry, _| entry.send.lost(chunk)).unwrap_or(0)
    }

    /// The TCP connection that carried the frame is lost.
    pub(crate) fn control_lost(&mut self, key: &ControlKey) {
        let due = match *key {
            ControlKey::ResetStream(id) => self.entries.get_mut(&id).is_some_and(|entry| entry.send.reset_lost()),
            _ => true,
        };
        if due {
            self.controls.insert(*key);
        }
    }
}

fn duplicate(entry: &Entry, tcp: ConnectionId, max: usize) -> Option<Chunk> {
    if !entry.may_use(tcp) {
        return None;
    }
    let cursor = entry.repeated.get(&tcp).copied().unwrap_or(0);
    entry.send.duplicate(cursor, max)
}
