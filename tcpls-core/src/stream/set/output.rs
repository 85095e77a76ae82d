//! The stream data and control frames that the session takes when it fills a record, and their acknowledgment or loss.
//!
//! A chunk costs a search among the streams in line (one step, plus one for each stream ahead that is attached to other
//! TCP connections only) and O(log n) for the stream's next turn.

use core::ops::Range;

use super::{Cause, Shared, Stream, Streams};
use crate::stream::{Candidate, Chunk, Control, ControlKey};
use crate::wire::ids::{ConnectionId, StreamId};

/// A batch of records holds this many turns of streams, so that none waits long on a slow path, whose batches are small.
const TURNS: usize = 3;
/// The longest turn, in bytes: the receiver of a stream gets this much of it at once.
const MAX_TURN: usize = 64 << 10;
/// A piece that is at least half of a record.
const LONG: u32 = 8 << 10;

impl Streams {
    /// Records are about to be made of the next pieces, `room` bytes in all.
    #[inline]
    pub(crate) fn begin_batch(&mut self, room: usize) {
        self.shared.turn = (room / TURNS).min(MAX_TURN) as u32;
    }

    /// The next piece of stream data for a record on `tcp`, at most `max` bytes of it. It counts as in flight until
    /// [`Streams::chunk_acked`] or [`Streams::chunk_lost`]. Never empty, except for the end of a stream.
    // draft I08
    pub(crate) fn next_chunk(&mut self, tcp: ConnectionId, max: usize) -> Option<Chunk> {
        self.next_chunk_where(tcp, max, |_| true)
    }

    /// The same, of a stream that `may` lets pass.
    pub(crate) fn next_chunk_where(
        &mut self,
        tcp: ConnectionId,
        max: usize,
        may: impl Fn(Candidate<'_>) -> bool,
    ) -> Option<Chunk> {
        let first = self.shared.schedule.first(self.shared.credit.left() > 0).filter(|_| max > 0)?;
        if let Some(chunk) = self.take_chunk(first, tcp, max, &may) {
            return Some(chunk); // nearly always: the stream is looked up once
        }
        let other = self.next_stream(tcp, &may)?;
        self.take_chunk(other, tcp, max, may)
    }

    /// The next piece of stream `id`, if `may` lets the stream pass.
    fn take_chunk(
        &mut self,
        id: StreamId,
        tcp: ConnectionId,
        max: usize,
        may: impl Fn(Candidate<'_>) -> bool,
    ) -> Option<Chunk> {
        let taken = self.update_by(Cause::Send, id, |stream, shared| {
            if !stream.may_use(tcp) || !may(stream.candidate(id, shared)) {
                return None;
            }
            let (chunk, fresh) = stream.send.next_chunk(clamp(max), shared.credit.left())?;
            shared.credit.spend(fresh);
            if shared.redundant {
                stream.send.set_carried(tcp, &chunk);
            }
            if shared.schedule.is_contended() && stream.send.need().is_some() && stream.ends_turn(&chunk, shared.turn) {
                shared.schedule.rotate(&mut stream.place);
            }
            Some(chunk)
        });
        taken.flatten()
    }

    /// Whether [`Streams::next_chunk`] would give anything for `tcp`.
    pub(crate) fn has_data(&self, tcp: ConnectionId) -> bool {
        self.has_data_where(tcp, |_| true)
    }

    /// Whether [`Streams::next_chunk_where`] would give anything.
    pub(crate) fn has_data_where(&self, tcp: ConnectionId, may: impl Fn(Candidate<'_>) -> bool) -> bool {
        self.next_stream(tcp, may).is_some()
    }

    /// Whether no stream has anything to send that was not sent, and no frame about streams is due.
    pub(crate) fn is_quiet(&self) -> bool {
        self.shared.due.is_empty() && self.shared.schedule.is_empty()
    }

    /// Redundant mode from now on: what each TCP connection carries is remembered.
    pub(crate) fn track_carriers(&mut self) {
        self.shared.redundant = true;
    }

    /// Redundant mode: a piece that is in flight on other TCP connections, but was not carried by `tcp`, of a stream that
    /// `may` lets pass. What was sent before [`Streams::track_carriers`] counts as not carried. Looks at every stream
    /// that may use `tcp`.
    pub(crate) fn next_duplicate_where(
        &mut self,
        tcp: ConnectionId,
        max: usize,
        may: impl Fn(Candidate<'_>) -> bool,
    ) -> Option<Chunk> {
        let shared = &self.shared;
        let is_it = |(id, stream): &(&StreamId, &mut Box<Stream>)| {
            stream.may_use(tcp) && may(stream.candidate(**id, shared)) && stream.send.has_duplicate(tcp)
        };
        let (_, stream) = self.map.iter_mut().find(is_it).filter(|_| max > 0)?;
        self.shared.redundant = true;
        let chunk = stream.send.next_duplicate(tcp, clamp(max))?;
        stream.send.set_carried(tcp, &chunk);
        Some(chunk)
    }

    /// Whether [`Streams::next_duplicate_where`] would give anything.
    pub(crate) fn has_duplicate_where(&self, tcp: ConnectionId, may: impl Fn(Candidate<'_>) -> bool) -> bool {
        let is_one = |id: StreamId, stream: &Stream| stream.may_use(tcp) && may(stream.candidate(id, &self.shared));
        let mut ones = self.map.iter().filter(|(id, stream)| is_one(**id, stream));
        ones.any(|(_, stream)| stream.send.has_duplicate(tcp))
    }

    /// Appends the chunk's bytes to `out`: the one copy on the way out. To be called right after the chunk was given;
    /// later, bytes may have been acknowledged or given up, and nothing is appended for them.
    pub(crate) fn copy_chunk(&self, chunk: &Chunk, out: &mut Vec<u8>) {
        if let Some(stream) = self.map.get(&chunk.id) {
            stream.send.copy(chunk, out);
        }
    }

    /// The next control frame that is due, with the values of now.
    pub(crate) fn next_control(&mut self) -> Option<Control> {
        while let Some(key) = self.shared.due.pop_first() {
            if let Some(control) = self.make_control(key) {
                return Some(control);
            }
        }
        None
    }

    /// Whether [`Streams::next_control`] would probably give something: a frame that was due may have become
    /// pointless since.
    pub(crate) fn has_control(&self) -> bool {
        !self.shared.due.is_empty()
    }

    /// The records with these bytes of stream `id` are acknowledged, and with `fin` the one with its end.
    pub(crate) fn acked(&mut self, id: StreamId, range: Range<u64>, fin: bool) {
        let acked = |stream: &mut Stream, shared: &mut Shared| shared.delivered += stream.send.handle_acked(range, fin);
        self.update_by(Cause::Ack, id, acked);
    }

    /// The record with this chunk is acknowledged.
    pub(crate) fn chunk_acked(&mut self, chunk: &Chunk) {
        self.acked(chunk.id, chunk.range(), chunk.fin);
    }

    /// The record with this chunk is lost with its TCP connection. What of it is neither acknowledged, nor pending
    /// already, nor given up is pending again; returns how many bytes that is.
    pub(crate) fn chunk_lost(&mut self, chunk: &Chunk) -> u64 {
        self.update(chunk.id, |stream, _| stream.send.handle_lost(chunk)).unwrap_or(0)
    }

    /// The record with this control frame is acknowledged.
    pub(crate) fn control_acked(&mut self, key: &ControlKey) {
        if let ControlKey::ResetStream(id) = key {
            self.update(*id, |stream, _| stream.send.handle_reset_acked());
        }
    }

    /// The record with this control frame is lost: it is pending again, with new values, if it still has a meaning.
    pub(crate) fn control_lost(&mut self, key: &ControlKey) {
        let shared = &mut self.shared;
        let still_due = !shared.ending.outgoing_dropped
            && match *key {
                ControlKey::MaxData | ControlKey::MaxStreams => true,
                ControlKey::MaxStreamData(id) => self.map.get_mut(&id).is_some_and(|s| s.recv.takes_data()),
                ControlKey::ResetStream(id) => self.map.get_mut(&id).is_some_and(|s| s.send.handle_reset_lost()),
                ControlKey::StopSending(id) => self.map.get(&id).is_some_and(|s| s.recv.stop_code().is_some()),
            };
        if still_due {
            shared.due.insert(*key);
        }
    }

    fn next_stream(&self, tcp: ConnectionId, may: impl Fn(Candidate<'_>) -> bool) -> Option<StreamId> {
        let credit = self.shared.credit.left() > 0;
        let fits = |id: &StreamId| {
            self.map.get(id).is_some_and(|stream| stream.may_use(tcp) && may(stream.candidate(*id, &self.shared)))
        };
        let first = self.shared.schedule.first(credit)?;
        if fits(&first) {
            return Some(first); // no need to line up the others
        }
        self.shared.schedule.line(credit).skip(1).find(fits)
    }

    /// Returns the frame of `key`; `None` if it has no meaning any more.
    fn make_control(&mut self, key: ControlKey) -> Option<Control> {
        let shared = &mut self.shared;
        Some(match key {
            ControlKey::MaxData => Control::MaxData { maximum: shared.window.renew(shared.clock, u64::MAX) },
            ControlKey::MaxStreams => {
                shared.limit_of_peer = shared.limit_of_peer.max(shared.fresh_limit_of_peer());
                Control::MaxStreams { maximum: shared.limit_of_peer }
            }
            ControlKey::MaxStreamData(id) => {
                let recv = &mut self.map.get_mut(&id)?.recv;
                let maximum = shared.growth.renew(shared.clock, recv)?;
                Control::MaxStreamData { id, maximum }
            }
            ControlKey::ResetStream(id) => {
                let (error, final_size) = self.map.get_mut(&id)?.send.take_reset()?;
                Control::ResetStream { id, error, final_size }
            }
            ControlKey::StopSending(id) => {
                let error = self.map.get(&id)?.recv.stop_code()?;
                Control::StopSending { id, error }
            }
        })
    }
}

impl Stream {
    /// A piece was taken. Returns whether its turn is over: one more as long would exceed `turn` bytes, or it is so short
    /// that other streams share the record.
    fn ends_turn(&mut self, chunk: &Chunk, turn: u32) -> bool {
        let len = u32::from(chunk.len);
        self.taken += len;
        let is_over = len < LONG || self.taken + len > turn;
        if is_over {
            self.taken = 0;
        }
        is_over
    }
}

/// A chunk's length has 16 bits.
fn clamp(max: usize) -> u64 {
    max.min(usize::from(u16::MAX)) as u64
}
