//! How far the receive windows of streams grow: together by so much that streams which are not read leave room in the
//! session's window for others.
//!
//! What a stream may hold is its window. If windows grew without regard to each other, two streams could hold all that the
//! session may, and all others would stand still when those two are not read.

use crate::config::Config;
use crate::stream::flow::Clock;
use crate::stream::recv::RecvHalf;

/// The session's window has room for this many streams with initial windows, whatever others have grown to; if that is
/// more than half of it, half of it is kept.
const KEPT_STREAMS: u64 = 16;

/// What all windows have grown, and may grow.
#[derive(Debug)]
pub(super) struct Growth {
    initial: u64,
    max: u64,
    /// The sum over all streams.
    used: u64,
}

impl Growth {
    pub(super) fn new(config: &Config) -> Self {
        let all = config.max_session_window;
        let kept = config.initial_stream_window.saturating_mul(KEPT_STREAMS).min(all / 2);
        Self { initial: config.initial_stream_window, max: all - kept, used: 0 }
    }

    /// What this stream's window has grown.
    pub(super) fn of(&self, recv: &RecvHalf) -> u64 {
        recv.growth(self.initial)
    }

    /// A stream's window had grown by `before`; it changed.
    pub(super) fn settle(&mut self, before: u64, recv: &RecvHalf) {
        self.used = self.used - before + self.of(recv);
    }

    /// The stream's limit to report to the peer, if that is still of use; its window grows if there is cause and room.
    pub(super) fn renew(&mut self, clock: Clock, recv: &mut RecvHalf) -> Option<u64> {
        let before = self.of(recv);
        let limit = recv.renew_window(clock, self.max.saturating_sub(self.used));
        self.settle(before, recv);
        limit
    }
}
