//! Builds records for a TCP connection with room, and seals them in the caller's buffer.
//!
//! No record is sealed ahead of time: its contents are taken from the pending data when it is built. So the scheduler
//! decides as late as possible, and a lost TCP connection leaves no ciphertext behind.

use arrayvec::ArrayVec;

use super::Connection;
use super::carried::{Carried, Outgoing};
use super::chunks::MAX_CHUNKS;
use super::keys::KeyError;
use super::post_handshake::key_update_message;
use super::record::{Item, Returned};
use super::records::RECORD_OVERHEAD;
use super::schedule::TcpView;
use super::trace::Event;
use crate::error::CloseReason;
use crate::stream::Chunk;
use crate::tcp::sent::Backlog;
use crate::tcp::{Keep, Tcp};
use crate::time::Time;
use crate::wire::frame::STREAM_OVERHEAD;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, MAX_PLAINTEXT};

/// Below this much room no record is begun. The longest control frame (a TCP option) and all ACKs fit.
const MIN_ROOM: usize = 256;

/// Buffers that are kept from record to record.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) frames: Outgoing,
    pub(super) carried: Vec<Carried>,
    views: Vec<TcpView>,
    /// Whether `views` are right, except for the TCP connection that is polled.
    pub(super) views_are_right: bool,
}

/// The result of an attempt to build a record.
pub(super) enum Built {
    Record,
    /// There is nothing to send.
    Nothing,
    /// There is something to send, and no room for it.
    NoRoom,
    /// Other bytes have to be sent or received before the first record.
    TooEarly,
}

impl Connection {
    /// Appends the next records for TCP connection `tcp` to `out`, at most `room` bytes, and returns their number.
    ///
    /// It returns 0 if there is nothing to send on `tcp` now, or if `room` is too small; 256 bytes are always enough.
    /// Appended bytes count as sent. After each `handle_*` and each command, call it for every TCP connection with room
    /// until all return 0. After [`TcpEvent::Discarded`], call it once more for the final bytes on that socket.
    ///
    /// [`TcpEvent::Discarded`]: crate::event::TcpEvent::Discarded
    pub fn poll_transmit(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> usize {
        self.record_at(now, || Item::PollTransmit { now, tcp, room });
        let written = self.fill(now, tcp, room, out);
        self.trace.returned(|| Returned::Value(written as u64));
        written
    }

    fn fill(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> usize {
        self.trace.set_now(now);
        self.streams.advance(now);
        self.streams.begin_batch(room);
        self.note_reading(now);
        self.scratch.views_are_right = false;
        let start = out.len();
        let room = room.min(self.joins.early_room(tcp));
        let end = start.saturating_add(room);
        self.send_early(now, tcp);
        self.take_raw(tcp, room, out);
        let last = loop {
            match self.build_record(now, tcp, end.saturating_sub(out.len()), out) {
                Built::Record => self.renew_keys(now, tcp),
                built => break built,
            }
        };
        let written = out.len() - start;
        let is_held = self.is_held(tcp);
        if let Some(entry) = self.tcps.get_mut(tcp) {
            let blocked = match last {
                Built::NoRoom => Some(true),
                Built::Nothing => Some(false),
                Built::TooEarly | Built::Record => None,
            };
            entry.handle_poll(now, written, blocked, is_held);
        }
        if written > 0 {
            self.joins.handle_written(tcp, written);
            if self.plain || self.peer_is_mute() {
                self.ending.note_progress(now);
            }
            self.advance_closing(now);
            self.trace_state();
        }
        written
    }

    /// Reports that the socket of TCP connection `tcp` takes no bytes now, so that others send what would go there.
    ///
    /// Call it for each full socket before you fill the others. It is optional: the session also notices when
    /// [`Connection::poll_transmit`] has more to append than there is room for.
    pub fn handle_full(&mut self, now: Time, tcp: ConnectionId) {
        self.poll_transmit(now, tcp, 0, &mut Vec::new());
    }

    /// Returns whether [`Connection::poll_transmit`] would append anything, given enough room.
    pub fn wants_write(&self, tcp: ConnectionId) -> bool {
        if self.final_bytes.contains_key(&tcp) {
            return true;
        }
        let Some(entry) = self.tcps.get(tcp) else { return false };
        if self.joins.early_room(tcp) < MIN_ROOM {
            return false;
        }
        if entry.has_raw() || !entry.may_seal() || entry.close_notify_sent() || self.is_silent(entry) {
            return entry.has_raw() || !self.established && self.has_early_data(tcp);
        }
        self.joins.has_stand_in(tcp)
            || self.ending.wants_notify()
            || self.keys.as_ref().is_some_and(|keys| keys.seal_target() > entry.seal_generation())
            || if self.plain { self.has_plain_data(tcp) } else { self.has_frames(entry) }
    }

    /// Returns whether there is nothing to send on any TCP connection. This holds after each record of a request or an
    /// answer, and is cheaper to test than to build another record.
    fn is_silent(&self, entry: &Tcp<Carried>) -> bool {
        let is_owed = |entry: &Tcp<Carried>| entry.received().is_owed();
        !entry.liveness().wants_ping()
            && self.streams.is_quiet()
            && self.control.is_quiet()
            && self.streams.given_up().is_none()
            && !self.ending.wants_notify()
            && self.keys.as_ref().is_some_and(|keys| keys.seal_target() == entry.seal_generation())
            && !(self.tcps.len() > 1 && self.scheduler.duplicates())
            && !self.tcps.iter().any(is_owed)
            && !self.joins.has_stand_in(entry.id())
    }

    /// Whether a record of frames could be made for this TCP connection.
    fn has_frames(&self, entry: &Tcp<Carried>) -> bool {
        entry.liveness().wants_ping()
            || if self.is_bypassed(entry) {
                !self.is_relieved(entry) && self.has_stream_data(entry.id())
            } else {
                self.has_frames_for(entry)
            }
    }

    fn has_frames_for(&self, entry: &Tcp<Carried>) -> bool {
        let has_control = if self.is_spared(entry) {
            self.control.begins_as_backup(entry.id(), &self.tcps)
        } else {
            self.control.has_something_for(entry.id(), &self.tcps) || self.streams.has_control()
        };
        has_control
            || self.tcps.iter().any(|other| self.owes_ack(other, entry, self.last_heard))
            || self.has_stream_data(entry.id())
    }

    /// Bytes that need no sealing: handshake flights, hellos, final bytes.
    fn take_raw(&mut self, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) {
        let raw = match self.tcps.get_mut(tcp) {
            Some(entry) => entry.raw(),
            None => match self.final_bytes.get_mut(&tcp) {
                Some(words) => words,
                None => return,
            },
        };
        if raw.is_empty() {
            return; // as nearly always
        }
        let taken = raw.len().min(room);
        out.extend(raw.drain(..taken));
        if raw.is_empty() {
            *raw = Vec::new();
            self.final_bytes.remove(&tcp);
        }
    }

    fn build_record(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> Built {
        let Some(entry) = self.tcps.get(tcp).filter(|entry| entry.may_seal() && !entry.has_raw()) else {
            return Built::TooEarly;
        };
        if entry.close_notify_sent() || self.is_silent(entry) {
            return Built::Nothing;
        }
        if room < MIN_ROOM {
            if self.joins.is_resuming(tcp) {
                return Built::TooEarly; // no more before the server's flight
            }
            return if self.wants_write(tcp) { Built::NoRoom } else { Built::Nothing };
        }
        let start = out.len();
        match self.fill_record(now, tcp, room, out) {
            Ok(built) => built,
            Err(_) => {
                out.truncate(start);
                self.end_session(now, CloseReason::AeadLimit);
                Built::Nothing
            }
        }
    }

    fn fill_record(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> Result<Built, KeyError> {
        if self.step_keys(tcp, out)? || self.write_stand_in(now, tcp, room, out)? {
            return Ok(Built::Record);
        }
        if self.ending.wants_notify() {
            return self.write_end(now, tcp, room, out).map(|()| Built::Record);
        }
        let max = (room - RECORD_OVERHEAD).min(MAX_PLAINTEXT);
        if self.plain { self.write_plain(tcp, room, out) } else { self.write_frames(now, tcp, max, out) }
    }

    fn write_end(&mut self, now: Time, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> Result<(), KeyError> {
        if self.plain {
            self.write_last_alert(tcp, self.plain_farewell(), out)
        } else {
            self.write_closing(now, tcp, room, out)
        }
    }

    /// Sends a KeyUpdate if this TCP connection seals with an older generation than the others. A join that has sent
    /// nothing begins with the newest generation instead.
    fn step_keys(&mut self, tcp: ConnectionId, out: &mut Vec<u8>) -> Result<bool, KeyError> {
        let (Some(keys), Some(entry)) = (&self.keys, self.tcps.get_mut(tcp)) else { return Err(KeyError::NoKeys) };
        if tcp != ConnectionId::FIRST {
            entry.begin_with(keys.seal_target());
        }
        if entry.seal_generation() >= keys.seal_target() {
            return Ok(false);
        }
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(&key_update_message(false));
        let number = self.seal_record(tcp, ContentType::Handshake, out, start, Keep::Nothing)?;
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.key_update_sealed(number);
            self.trace.emit(|| Event::KeyUpdateSent { tcp, generation: entry.seal_generation() });
        }
        self.forget_keys();
        Ok(true)
    }

    /// One record of frames: the largest Stream frame first, control frames after it, ACKs last (draft E05, E06), so that
    /// the receiver finds the data at offset 0 and processes the ACKs first.
    fn write_frames(&mut self, now: Time, tcp: ConnectionId, max: usize, out: &mut Vec<u8>) -> Result<Built, KeyError> {
        let start = out.len();
        let mut frames = core::mem::take(&mut self.scratch.frames);
        frames.clear();
        let (mut chunks, mut acks) = (ArrayVec::new(), ArrayVec::new());
        let (mut reserve, mut is_relieved) = (0, false);
        if let Some(entry) = self.tcps.get(tcp).filter(|entry| self.is_bypassed(entry)) {
            is_relieved = self.is_relieved(entry);
            self.fill_ping(tcp, &mut frames);
        } else {
            self.fill_control(tcp, max, &mut frames);
            reserve = self.ack_reserve(now, tcp);
        }
        if !is_relieved {
            self.take_chunks(tcp, max.saturating_sub(frames.control.len() + reserve), &mut chunks);
        }
        if reserve > 0 {
            let goes_anyway = !chunks.is_empty() || !frames.control.is_empty();
            self.take_acks(now, tcp, goes_anyway, &mut acks);
        }
        if chunks.is_empty() && frames.control.is_empty() && acks.is_empty() {
            self.scratch.frames = frames;
            return Ok(Built::Nothing);
        }
        out.extend_from_slice(&[0; HEADER_LEN]);
        self.write_chunks(now, tcp, &chunks, out);
        if !chunks.is_empty() {
            self.ending.half.note_sent(now);
        }
        out.extend_from_slice(&frames.control);
        self.write_acks(&acks, out);
        frames.carried.extend(chunks.iter().map(|chunk| Carried::Chunk(*chunk)));
        let keep = if frames.ack_eliciting || !chunks.is_empty() {
            // Control frames are too short to show a rate.
            let backlog = if chunks.is_empty() { Backlog::None } else { self.backlog(tcp) };
            Keep::Record { now, carried: &frames.carried, backlog }
        } else {
            Keep::Nothing
        };
        let sealed = self.seal_record(tcp, ContentType::ApplicationData, out, start, keep);
        self.scratch.frames = frames;
        sealed.map(|_| Built::Record)
    }

    /// What waits behind the record that is built: a sender that filled the socket last time sends at the path's rate.
    fn backlog(&self, tcp: ConnectionId) -> Backlog {
        let Some(entry) = self.tcps.get(tcp) else { return Backlog::None };
        if entry.is_full() {
            Backlog::Full
        } else if self.streams.unsent() > 0 && !entry.is_lane() {
            Backlog::Some
        } else {
            Backlog::None
        }
    }

    /// Pieces of stream data for one record, each of another stream (draft E07), the largest first.
    // draft E06
    fn take_chunks(&mut self, tcp: ConnectionId, mut budget: usize, chunks: &mut ArrayVec<Chunk, MAX_CHUNKS>) {
        let mut views = core::mem::take(&mut self.scratch.views);
        if self.tcps.len() > 1 {
            self.update_views(tcp, self.scratch.views_are_right, &mut views);
            self.scratch.views_are_right = true;
        } else {
            views.clear();
        }
        if let Some(entry) = self.tcps.get(tcp) {
            let carried = entry.sent().carried_bytes();
            // The receiving application may wait for what is sent again, and gets it once a record is complete.
            let most = match self.streams.has_lost_data() {
                true => entry.commit().reinjected_record(carried),
                false => entry.commit().record(carried),
            };
            budget = if self.is_full(entry) { 0 } else { budget.min(most.saturating_sub(RECORD_OVERHEAD)) };
        }
        while budget > STREAM_OVERHEAD && !chunks.is_full() {
            let Some(chunk) = self.next_chunk(tcp, &views, chunks, budget - STREAM_OVERHEAD) else { break };
            budget -= STREAM_OVERHEAD + usize::from(chunk.len);
            chunks.push(chunk);
        }
        if chunks.len() > 1 {
            chunks.sort_by_key(|chunk| core::cmp::Reverse(chunk.len));
        }
        self.scratch.views = views;
    }
}
