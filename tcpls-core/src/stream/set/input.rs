//! What frames from the peer do to streams. An error ends the session.

use bytes::Bytes;

use super::Streams;
use crate::error::PeerMisbehaved;
use crate::event::StreamEvent;
use crate::stream::ControlKey;
use crate::stream::recv::Progress;
use crate::wire::ids::{ErrorCode, StreamId};

impl Streams {
    /// Stream data; returns how many bytes of it are new. It came in a record of `record_len` bytes.
    pub(crate) fn handle_stream(
        &mut self,
        id: StreamId,
        offset: u64,
        fin: bool,
        data: Bytes,
        record_len: usize,
    ) -> Result<u64, PeerMisbehaved> {
        self.admit(id)?;
        let progress = self.with(id, |entry, all| {
            let credit = all.window.granted() - all.received;
            entry.recv.receive(offset, fin, data, record_len, credit)
        });
        self.note_progress(progress).map(|progress| progress.fresh)
    }

    /// The peer gives a stream up.
    pub(crate) fn handle_reset(
        &mut self,
        id: StreamId,
        error: ErrorCode,
        final_size: u64,
    ) -> Result<(), PeerMisbehaved> {
        self.admit(id)?;
        let progress = self.with(id, |entry, all| {
            let credit = all.window.granted() - all.received;
            entry.recv.reset(error, final_size, credit)
        });
        self.note_progress(progress).map(|_| ())
    }

    fn note_progress(
        &mut self,
        progress: Option<Result<Progress, PeerMisbehaved>>,
    ) -> Result<Progress, PeerMisbehaved> {
        let progress = progress.unwrap_or(Ok(Progress::default()))?;
        self.received += progress.grown;
        if progress.given_back > 0 {
            self.give_back(progress.given_back);
        }
        Ok(progress)
    }

    /// The peer reads no more: the sending half is reset with the same code.
    pub(crate) fn handle_stop_sending(&mut self, id: StreamId, error: ErrorCode) -> Result<(), PeerMisbehaved> {
        self.admit(id)?;
        let told = self.with(id, |entry, _| {
            let open = entry.send.stopped.is_none() && !entry.send.is_over() && !entry.send.is_reset();
            entry.send.stopped = entry.send.stopped.or(Some(error));
            open
        });
        if told == Some(true) {
            self.reset_sending(id, error);
            self.events.push_back(StreamEvent::Stopped { id, error });
        }
        Ok(())
    }

    pub(crate) fn handle_max_data(&mut self, maximum: u64) {
        self.credit.raise(maximum);
    }

    pub(crate) fn handle_max_stream_data(&mut self, id: StreamId, maximum: u64) -> Result<(), PeerMisbehaved> {
        self.admit(id)?;
        self.raise_stream_limit(id, maximum);
        Ok(())
    }

    pub(crate) fn handle_max_streams(&mut self, maximum: u32) {
        if maximum > self.own_limit {
            self.own_limit = maximum;
            if core::mem::take(&mut self.open_refused) {
                self.events.push_back(StreamEvent::Available);
            }
        }
    }

    pub(super) fn raise_stream_limit(&mut self, id: StreamId, maximum: u64) {
        self.with(id, |entry, _| entry.send.set_max(maximum));
    }

    /// Whether the peer may speak of this stream; opens it if it is the peer's and new. Streams that are over are nothing to
    /// complain about: frames are idempotent.
    fn admit(&mut self, id: StreamId) -> Result<(), PeerMisbehaved> {
        if id.initiator() == self.side {
            let opened = id.index() < self.next_own;
            return if opened { Ok(()) } else { Err(PeerMisbehaved::StreamOfWrongSide(id.0)) };
        }
        if id.index() >= self.peer_limit {
            return Err(PeerMisbehaved::TooManyStreams(id.0));
        }
        self.open_peer_streams_up_to(id.index());
        Ok(())
    }

    pub(crate) fn control_acked(&mut self, key: &ControlKey) {
        if let ControlKey::ResetStream(id) = *key {
            self.with(id, |entry, _| entry.send.reset_acked());
        }
    }
}
