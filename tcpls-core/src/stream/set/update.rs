//! Changes to a stream with all their consequences: the session's sums, the stream's turn to send, frames and events that
//! become due, and its end. [`Streams::update`] is the one way to change a stream.

use super::{Shared, Stream, Streams};
use crate::event::StreamEvent;
use crate::stream::ControlKey;
use crate::stream::ended::Ended;
use crate::wire::ids::StreamId;

/// The cause of a change to a stream. The changes that bulk data causes for each record have few consequences, which
/// saves work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another change.
    Any,
    /// The application wrote, up to the room.
    Write,
    /// A piece was taken to be sent. The room to write does not change, because the piece was counted before.
    Send,
    /// Some data was acknowledged.
    Ack,
    /// Data arrived.
    Receive,
    /// The application read.
    Read,
}

impl Cause {
    /// Affects unsent data.
    fn may_change_unsent(self) -> bool {
        matches!(self, Self::Any | Self::Write | Self::Send)
    }

    /// Affects unacknowledged data, and what of it is to be sent.
    fn may_change_sending(self) -> bool {
        self.may_change_unsent() || self == Self::Ack
    }

    /// Blocked streams may be able to write.
    fn may_free_room(self) -> bool {
        matches!(self, Self::Any | Self::Ack)
    }

    /// Affects received data that is not read.
    fn may_change_receiving(self) -> bool {
        matches!(self, Self::Any | Self::Receive | Self::Read)
    }

    /// The application has read data, or stopped reading.
    fn may_be_read(self) -> bool {
        matches!(self, Self::Any | Self::Read)
    }

    /// One of the halves may have ended.
    fn may_end(self) -> bool {
        !matches!(self, Self::Write | Self::Send)
    }
}

/// The contribution of a stream to the session's sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) to_send: usize,
    pub(super) to_read: usize,
    pub(super) ready: u64,
    pub(super) again: u64,
    pub(super) fresh: u64,
    pub(super) beyond: u64,
}

impl Stream {
    pub(super) fn load(&self) -> Load {
        let unsent = self.send.unsent();
        let fresh = unsent.min(self.send.credit_left());
        Load {
            to_send: self.send.buffered(),
            to_read: self.recv.memory(),
            ready: self.recv.ready(),
            again: self.send.to_send_again(),
            fresh,
            beyond: unsent - fresh,
        }
    }
}

impl Streams {
    /// Changes a stream, and applies all consequences: the session's sums, its turn to send, pending frames and events,
    /// and its end. `None` if there is no such stream.
    pub(super) fn update<R>(&mut self, id: StreamId, change: impl FnOnce(&mut Stream, &mut Shared) -> R) -> Option<R> {
        self.update_by(Cause::Any, id, change)
    }

    /// The same for a known cause, which determines the possible consequences. The cause is a constant at each call, so
    /// that the others are not checked.
    #[inline(always)]
    pub(super) fn update_by<R>(
        &mut self,
        cause: Cause,
        id: StreamId,
        change: impl FnOnce(&mut Stream, &mut Shared) -> R,
    ) -> Option<R> {
        let stream = self.map.get_mut(&id)?;
        let shares = if cause.may_free_room() { self.shared.shares_if_others_are_blocked(stream) } else { None };
        let before = stream.load();
        let counts = stream.recv.growth_counts();
        let result = change(stream, &mut self.shared);
        if cause.may_change_unsent() {
            self.shared.settle_unsent(stream, before);
        }
        if cause.may_change_sending() {
            self.shared.settle_send(id, stream, before);
        }
        if cause.may_free_room() && stream.blocked {
            self.shared.wake_writer(id, stream);
        }
        if cause.may_change_receiving() {
            self.shared.settle_recv(id, stream, before);
        }
        if cause.may_be_read() && stream.recv.window_update_is_due() {
            self.shared.due.insert(ControlKey::MaxStreamData(id));
        }
        if cause.may_be_read() && counts && !stream.recv.growth_counts() {
            self.shared.growth.give_back(&stream.recv);
        }
        if cause.may_end() && stream.is_over() {
            let ended = Ended { send: stream.send.end(), recv: stream.recv.end() };
            self.shared.ended.insert(id, ended);
            self.shared.below -= u32::from(stream.priority < 0);
            self.map.remove(&id);
            self.shared.stream_is_over(id);
        }
        if let Some(shares) = shares {
            self.wake_writers_after(shares);
        }
        Some(result)
    }

    pub(super) fn update_all(&mut self, change: impl Fn(&mut Stream, &mut Shared)) {
        let ids: Vec<StreamId> = self.map.keys().copied().collect();
        for id in ids {
            self.update(id, &change);
        }
    }
}

impl Shared {
    /// Updates the sums of unsent data for a stream.
    fn settle_unsent(&mut self, stream: &Stream, before: Load) {
        let now = stream.load();
        self.fresh = self.fresh - before.fresh + now.fresh;
        self.beyond = self.beyond - before.beyond + now.beyond;
    }

    /// Updates everything else that depends on a stream's sending half.
    fn settle_send(&mut self, id: StreamId, stream: &mut Stream, before: Load) {
        let now = stream.load();
        self.buffered_to_send = self.buffered_to_send - before.to_send + now.to_send;
        self.again = self.again - before.again + now.again;
        self.schedule.place(&mut stream.place, id, stream.priority, stream.send.need());
        if stream.send.take_delivered() {
            self.events.push_back(StreamEvent::Delivered { id });
        }
    }

    /// Updates everything that depends on a stream's received data.
    fn settle_recv(&mut self, id: StreamId, stream: &mut Stream, before: Load) {
        self.buffered_to_read = self.buffered_to_read - before.to_read + stream.recv.memory();
        self.ready_to_read = self.ready_to_read - before.ready + stream.recv.ready();
        if self.window.update_is_due() {
            self.due.insert(ControlKey::MaxData);
        }
        if stream.recv.take_readable() {
            self.events.push_back(StreamEvent::Readable { id });
        }
    }

    /// Removes an ended stream, and gives the peer credit for another if it was the peer's.
    fn stream_is_over(&mut self, id: StreamId) {
        for key in [ControlKey::MaxStreamData(id), ControlKey::ResetStream(id), ControlKey::StopSending(id)] {
            self.due.remove(&key);
        }
        self.blocked.remove(id);
        if self.draft_only {
            return self.allow_another(id.initiator());
        }
        if id.initiator() != self.side && !self.plain {
            self.closed_by_peer += 1;
            let gain = self.fresh_limit_of_peer().saturating_sub(self.limit_of_peer);
            if gain >= (self.limits.streams / 4).max(1) {
                self.due.insert(ControlKey::MaxStreams);
            }
        }
    }
}
