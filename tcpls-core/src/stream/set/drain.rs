//! Draining the session: which streams of either endpoint are served, and the refusal of the others
//! (`docs/protocol.md`, 8).

use super::{Shared, Streams};
use crate::error::{Violation, code};
use crate::event::StreamEvent;
use crate::stream::ControlKey;
use crate::wire::ids::StreamId;

/// How many streams are served, counted from the first of the session; `None` while there is no limit.
#[derive(Debug, Default)]
pub(super) struct Drain {
    /// Streams of the peer: this endpoint drains the session.
    of_peer: Option<u32>,
    /// Streams of this endpoint: the peer drains the session.
    own: Option<u32>,
}

impl Drain {
    /// Whether either endpoint drains the session.
    pub(super) fn has_begun(&self) -> bool {
        self.of_peer.is_some() || self.own.is_some()
    }

    /// Whether this endpoint serves the peer's stream with this index.
    pub(super) fn serves(&self, index: u32) -> bool {
        self.of_peer.is_none_or(|served| index < served)
    }

    /// The session turns out to be plain: its one stream is served, because no frame could refuse it.
    pub(super) fn serve_plain_stream(&mut self) {
        self.of_peer = self.of_peer.and(Some(1));
    }

    /// The session turns out to be draft-only: all streams are served, because no frame could refuse one.
    pub(super) fn serve_all(&mut self) {
        self.of_peer = self.of_peer.and(Some(u32::MAX));
    }
}

impl Streams {
    /// This endpoint drains the session: of the peer's streams it serves those that exist or have existed, and in a session
    /// with only the draft's frames all. Returns how many that are.
    pub(crate) fn drain(&mut self) -> u32 {
        self.shared.report_available(); // the next attempt to open fails for another reason
        // Without a frame that refuses a stream, all are served.
        let served = if self.shared.draft_only { u32::MAX } else { self.shared.opened_by_peer };
        *self.shared.drain.of_peer.get_or_insert(served)
    }

    /// Whether either endpoint drains the session.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.drain.has_begun()
    }

    /// A Drain frame: of the streams of this endpoint, the peer serves the first `count`. The others end as if the peer had
    /// reset and stopped them. Returns whether that is new.
    pub(crate) fn handle_drain(&mut self, count: u32) -> Result<bool, Violation> {
        let shared = &mut self.shared;
        match shared.drain.own {
            Some(known) if known == count => return Ok(false),
            None if count <= shared.opened_here => shared.drain.own = Some(count),
            _ => return Err(Violation::Drain),
        }
        shared.report_available(); // the next attempt to open fails for another reason
        let side = shared.side;
        let is_refused = |id: &StreamId| id.initiator() == side && id.index() >= count;
        let refused: Vec<StreamId> = self.map.keys().copied().filter(is_refused).collect();
        for id in refused {
            self.handle_stop_sending(id, code::NOT_PROCESSED)?;
            self.handle_reset(id, code::NOT_PROCESSED, 0)?;
        }
        Ok(true)
    }

    /// Resets and stops a stream of the peer that is not served.
    pub(super) fn refuse(&mut self, id: StreamId) {
        self.update(id, |stream, shared| {
            // A new stream can be reset and stopped, unless the session has ended.
            if !shared.ending.outgoing_dropped && stream.send.reset(code::NOT_PROCESSED).is_ok() {
                shared.due.insert(ControlKey::ResetStream(id));
                shared.due.insert(ControlKey::StopSending(id));
            }
            _ = stream.recv.stop(code::NOT_PROCESSED);
        });
    }
}

impl Shared {
    /// Reports that an attempt to open a stream, which was refused for the limit, can be made again.
    pub(super) fn report_available(&mut self) {
        if core::mem::take(&mut self.open_refused) && !self.ending.writing_stopped {
            self.events.push_back(StreamEvent::Available);
        }
    }
}
