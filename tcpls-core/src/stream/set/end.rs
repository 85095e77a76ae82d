//! How streams end with their session, and what was not delivered by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Blocked, Ending, Schedule, Streams};
use crate::wire::ids::{ErrorCode, Side, StreamId};

impl Streams {
    /// The peer sends no more: receiving halves that are not complete end with `ReadError::Truncated`, after what is in order.
    /// Returns whether there were any.
    pub(crate) fn truncate(&mut self) -> bool {
        self.shared.ending.truncated = true;
        let ids: Vec<StreamId> = self.map.keys().copied().collect();
        let cut = |id| self.update(id, |stream, _| stream.recv.truncate()) == Some(true);
        let any = ids.into_iter().map(cut).fold(false, core::ops::BitOr::bitor);
        self.shared.ending.has_cut |= any;
        any
    }

    /// Whether a receiving half ended with `ReadError::Truncated`.
    pub(crate) fn is_truncated(&self) -> bool {
        self.shared.ending.has_cut
    }

    /// The session is closed by an error: nothing is readable or writable any more, and no memory is held.
    pub(crate) fn abort(&mut self) {
        self.shared.undelivered = self.undelivered();
        self.map = BTreeMap::new();
        let shared = &mut self.shared;
        shared.ending =
            Ending { writing_stopped: true, outgoing_dropped: true, truncated: true, aborted: true, ..shared.ending };
        shared.below = 0;
        shared.schedule = Schedule::default();
        shared.blocked = Blocked::default();
        shared.due = BTreeSet::new();
        shared.events = VecDeque::new();
        (shared.buffered_to_send, shared.buffered_to_read, shared.ready_to_read) = (0, 0, 0);
        (shared.again, shared.fresh, shared.beyond) = (0, 0, 0);
        shared.accepted = shared.opened_by_peer;
    }

    /// No more writes are taken and no stream is opened. What is buffered still goes out; streams that the application
    /// has not finished stay unfinished.
    pub(crate) fn stop_writing(&mut self) {
        self.shared.ending.writing_stopped = true;
        for id in self.shared.blocked.take() {
            self.update(id, |stream, _| stream.blocked = false);
        }
    }

    /// The peer takes no more: everything unsent or unacknowledged is dropped, and writes fail.
    pub(crate) fn drop_outgoing(&mut self) {
        self.stop_writing();
        self.shared.ending.outgoing_dropped = true;
        self.shared.due.clear();
        self.shared.undelivered = self.undelivered();
        self.update_all(|stream, _| stream.send.drop_all());
    }

    /// Bytes that were written and are not acknowledged, and ends of streams; those included that were given up with the
    /// session. Looks at every stream.
    pub(crate) fn undelivered(&self) -> u64 {
        self.shared.undelivered + self.map.values().map(|stream| stream.send.undelivered()).sum::<u64>()
    }

    /// Whether the application may still write to any stream. Looks at every stream.
    pub(crate) fn has_writers(&self) -> bool {
        self.map.values().any(|stream| stream.send.check_open().is_ok())
    }

    /// Whether all that was written is acknowledged, ends and resets included. Looks at every stream.
    pub(crate) fn is_flushed(&self) -> bool {
        self.map.values().all(|stream| stream.send.is_flushed())
    }

    /// Whether the application of a plain session has neither taken the one stream nor written to it.
    pub(crate) fn is_untouched(&self) -> bool {
        let is_taken =
            if self.shared.side == Side::Client { !self.shared.plain_to_open } else { self.shared.accepted > 0 };
        !is_taken && self.map.get(&StreamId(0)).is_some_and(|stream| stream.send.is_untouched())
    }

    /// The code with which this endpoint gave up the one stream of a plain session, once it does not read it any more either.
    pub(crate) fn given_up(&self) -> Option<ErrorCode> {
        let error = self.shared.plain_reset?;
        let only = self.map.get(&StreamId(0));
        let is_read = only.is_some_and(|stream| !stream.recv.is_over() && !stream.recv.is_stopped());
        (!is_read).then_some(error)
    }
}
