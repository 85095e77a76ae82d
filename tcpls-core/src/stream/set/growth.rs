//! The growth of the streams' receive windows: their sum is limited, so that unread streams leave room in the session's
//! window for others.
//!
//! A stream may hold as much data as its window allows. If windows grew independently, two unread streams could fill
//! the memory of the session, and block all others.

use crate::config::Config;
use crate::stream::flow::Clock;
use crate::stream::recv::RecvHalf;

/// The session's window has room for this many streams with initial windows, or for [`Config::max_streams`] if that is more,
/// whatever others have grown to; if that is more than half of it, half of it is kept.
const KEPT_STREAMS: u32 = 16;

/// The sum of the growth of all windows, and its limit.
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
        let streams = config.max_streams.max(KEPT_STREAMS);
        let kept = config.initial_stream_window.saturating_mul(streams.into()).min(all / 2);
        Self { initial: config.initial_stream_window, max: all - kept, used: 0 }
    }

    /// The growth of this stream's window.
    pub(super) fn of(&self, recv: &RecvHalf) -> u64 {
        recv.growth(self.initial)
    }

    /// A stream holds nothing because of its window any more.
    pub(super) fn give_back(&mut self, recv: &RecvHalf) {
        self.used -= recv.window_growth(self.initial);
    }

    /// The stream's limit to report to the peer, if that is still of use; its window grows if there is cause and room.
    pub(super) fn renew(&mut self, clock: Clock, recv: &mut RecvHalf) -> Option<u64> {
        let before = self.of(recv);
        let limit = recv.renew_window(clock, self.max.saturating_sub(self.used));
        self.used = self.used - before + self.of(recv);
        limit
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::stream::flow::Window;
    use crate::time::Time;
    use crate::wire::ids::StreamId;

    fn growth() -> Growth {
        Growth::new(&Config { initial_stream_window: 100, max_session_window: 3200, ..Config::default() })
    }

    fn stream() -> RecvHalf {
        RecvHalf::new(StreamId(0), Window::of_stream(100, 1600, Time::ZERO), 8)
    }

    /// Receives and reads data until the window no longer grows. Returns its growth.
    fn run(growth: &mut Growth, recv: &mut RecvHalf, offset: &mut u64) -> u64 {
        for _ in 0..1000 {
            let more = recv.check_data(*offset, 50, false).unwrap();
            recv.handle_data(*offset, false, Bytes::from_static(&[0; 50]), 50, more).unwrap();
            *offset += 50;
            recv.read(50).unwrap();
            if recv.window_update_is_due() {
                growth.renew(Clock::default(), recv);
            }
        }
        growth.of(recv)
    }

    #[test]
    fn windows_grow_together_by_what_16_initial_ones_leave() {
        let mut growth = growth();
        let (mut a, mut b) = (stream(), stream());
        let (mut a_offset, mut b_offset) = (0, 0);
        assert_eq!(run(&mut growth, &mut a, &mut a_offset), 1500);
        assert_eq!(run(&mut growth, &mut b, &mut b_offset), 100);
        assert_eq!(growth.used, 1600);
        let before = growth.of(&a);
        assert!(before > 0);
        a.handle_data(a_offset, true, Bytes::new(), 1, 0).unwrap();
        assert_eq!(growth.of(&a), before, "its end was not read: it may still hold much");
        a.read(1).unwrap();
        assert!(!a.growth_counts());
        growth.give_back(&a);
        assert_eq!(run(&mut growth, &mut b, &mut b_offset), 1500);
    }

    #[test]
    fn room_is_kept_for_as_many_streams_as_there_may_be() {
        let config = |max_streams| Config { max_streams, initial_stream_window: 100, ..Config::default() };
        let kept = |max_streams| Config::default().max_session_window - Growth::new(&config(max_streams)).max;
        assert_eq!([1, 16, 17, 2048].map(kept), [1600, 1600, 1700, 204_800]);
    }

    #[test]
    fn half_of_a_small_session_is_there_to_grow_into() {
        let config = Config { initial_stream_window: 1000, max_session_window: 1000, ..Config::default() };
        assert_eq!(Growth::new(&config).max, 500);
    }
}
