//! The effects of the peer's frames on streams. An error ends the session, so partial changes before it do not matter.
//!
//! Every frame is idempotent, and frames for ended streams are ignored (draft I38), because after the loss of a TCP
//! connection its frames arrive again on another.

use bytes::Bytes;

use super::{Cause, Streams, Waste, Window};
use crate::error::Violation;
use crate::event::StreamEvent;
use crate::stream::ControlKey;
use crate::wire::ids::{ErrorCode, Side, StreamId};

impl Streams {
    /// A Stream frame, from a record of `record_len` bytes.
    pub(crate) fn handle_stream(
        &mut self,
        id: StreamId,
        offset: u64,
        fin: bool,
        data: Bytes,
        record_len: usize,
    ) -> Result<u64, Violation> {
        self.find(id)?;
        let result = self.update_by(Cause::Receive, id, |stream, shared| {
            let more = stream.recv.check_data(offset, data.len(), fin)?;
            receive(&mut shared.window, more)?;
            let held = stream.recv.held();
            stream.is_early |= shared.is_early;
            let unread = stream.recv.handle_data(offset, fin, data, record_len, more)?;
            shared.window.consume(unread);
            Ok((stream.recv.held() - held) as u64)
        });
        result.unwrap_or(Ok(0))
    }

    /// A Reset Stream frame: the peer sends no more on the stream, of which `final_size` bytes were sent.
    pub(crate) fn handle_reset(&mut self, id: StreamId, error: ErrorCode, final_size: u64) -> Result<(), Violation> {
        self.find(id)?;
        let result = self.update(id, |stream, shared| {
            let more = stream.recv.check_reset(final_size)?;
            receive(&mut shared.window, more)?;
            let unread = stream.recv.handle_reset(error, final_size, more);
            shared.window.consume(unread);
            Ok(())
        });
        result.unwrap_or(Ok(()))
    }

    /// A Stop Sending frame: the peer reads no more of the stream. It is answered with a Reset Stream of the same code.
    /// Returns the unsent data that is dropped.
    pub(crate) fn handle_stop_sending(&mut self, id: StreamId, error: ErrorCode) -> Result<Waste, Violation> {
        self.find(id)?;
        let wasted = self.update(id, |stream, shared| {
            let waste = shared.waste(stream);
            if !stream.send.handle_stop(error) {
                return Waste::default();
            }
            shared.due.insert(ControlKey::ResetStream(id));
            shared.events.push_back(StreamEvent::Stopped { id, error });
            waste
        });
        Ok(wasted.unwrap_or_default())
    }

    /// A Max Data frame. A lower limit than before is ignored.
    /// Whether it was needed: all credit was used up.
    pub(crate) fn handle_max_data(&mut self, maximum: u64) -> bool {
        let before = self.shared.shares_if_blocked();
        let was_needed = self.shared.credit.raise_if_spent(maximum);
        if let Some(before) = before {
            self.wake_writers_after(before);
        }
        was_needed
    }

    /// A Max Stream Data frame.
    /// Whether it was needed: all credit was used up.
    pub(crate) fn handle_max_stream_data(&mut self, id: StreamId, maximum: u64) -> Result<bool, Violation> {
        self.find(id)?;
        let was_needed = self.update(id, |stream, _| stream.send.raise_limit(maximum));
        Ok(was_needed.unwrap_or(false))
    }

    /// A Max Streams frame: how many streams this endpoint may open over the session's life.
    pub(crate) fn handle_max_streams(&mut self, maximum: u32) {
        let shared = &mut self.shared;
        if maximum <= shared.limit_here {
            return;
        }
        shared.limit_here = maximum;
        shared.report_available();
    }

    /// Checks that the peer may use stream `id`, and opens it, with those before it, if the peer just has. Afterwards
    /// it exists, or is over.
    // draft I05: who opens which.
    fn find(&mut self, id: StreamId) -> Result<(), Violation> {
        if self.shared.ending.aborted {
            return Ok(());
        }
        if self.shared.plain && id != StreamId(0) {
            return Err(Violation::StreamOfWrongSide(id.0));
        }
        if id.initiator() == self.shared.side {
            let known = id.index() < self.shared.opened_here;
            return if known { Ok(()) } else { Err(Violation::StreamOfWrongSide(id.0)) };
        }
        if id.index() >= self.shared.limit_of_peer {
            return Err(Violation::TooManyStreams(id.0));
        }
        self.open_for_peer(id.index());
        Ok(())
    }

    /// Opens the peer's streams up to the one with this index: records on different TCP connections overtake each
    /// other, so the first frame may be of any of them. Bounded by the limit, which counts streams that are not over.
    fn open_for_peer(&mut self, index: u32) {
        let (peer, first): (Side, u32) = (self.shared.side.peer(), self.shared.opened_by_peer);
        if index < first {
            return;
        }
        if self.shared.accepted == first && self.shared.drain.serves(first) {
            self.shared.events.push_back(StreamEvent::Opened);
        }
        self.shared.opened_by_peer = index + 1;
        for id in (first..=index).filter_map(|index| StreamId::new(peer, index)) {
            self.create(id);
            if !self.shared.drain.serves(id.index()) {
                self.refuse(id);
            }
        }
    }
}

/// Counts `more` bytes against the session's window.
fn receive(window: &mut Window, more: u64) -> Result<(), Violation> {
    window.check(more)?;
    window.receive(more);
    Ok(())
}
