//! A session with only the draft's frames (decisions D142 to D145): no credit, no Reset Stream, no Stop Sending. TCP's
//! window is the only flow control. This file says how much the session holds, so that it can stop reading its sockets.

use super::{Shared, Streams, Window};
use crate::wire::ids::{Side, StreamId};

/// Streams of one side that may be open at once.
const MAX_OPEN: u32 = 4096;
/// Beyond twice the session's window, this much may be held that waits for data before it: sockets are read in blocks.
const MARGIN: u64 = 1 << 20;

/// How much received data the application has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// There is room for more.
    Little,
    /// The application could read much of it.
    Ready,
    /// Most of it waits for data before it, which may be on its way on another TCP connection.
    Early,
    /// The same, and it is more than the session holds for that.
    TooEarly,
}

impl Streams {
    /// The session has only the draft's frames. Called once, at the end of the handshake.
    pub(crate) fn make_draft_only(&mut self) {
        let shared = &mut self.shared;
        shared.draft_only = true;
        shared.window = Window::unlimited();
        shared.limits.streams = shared.limits.streams.max(MAX_OPEN);
        shared.limit_of_peer = shared.fresh_limit_of_peer();
        shared.drain.serve_all();
        self.set_peer_limits(u64::MAX, u64::MAX, MAX_OPEN);
    }

    /// Returns how much is unread. It is little below half of the session's largest window, or below all of it while
    /// written data is not acknowledged: acknowledgments come behind the peer's data.
    pub(crate) fn unread(&self) -> Unread {
        let (window, held) = (self.shared.limits.session_window, self.shared.buffered_to_read as u64);
        let limit = if self.shared.buffered_to_send > 0 { window } else { window / 2 };
        if held < limit {
            return Unread::Little; // as nearly always
        }
        if self.shared.ready_to_read >= limit / 2 {
            Unread::Ready
        } else if held < window.saturating_mul(2).saturating_add(MARGIN) {
            Unread::Early
        } else {
            Unread::TooEarly
        }
    }

    /// Whether data that arrived at `offset` waits for data before it.
    pub(crate) fn waits_at(&self, id: StreamId, offset: u64) -> bool {
        self.map.get(&id).is_some_and(|stream| stream.recv.waits_at(offset))
    }
}

impl Shared {
    /// A stream of `side` is over: that side may open another.
    pub(super) fn allow_another(&mut self, side: Side) {
        if side == self.side {
            self.limit_here = self.limit_here.saturating_add(1);
            self.report_available();
        } else {
            self.closed_by_peer += 1;
            self.limit_of_peer = self.fresh_limit_of_peer();
        }
    }
}
