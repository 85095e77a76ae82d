//! Whether a tunnel's stream carries bulk data, sans-IO: its priority is lower then, so that the session keeps the other
//! streams apart from it (`docs/tunnels.md`).

use std::time::Duration;

use tcpls_core::time::Time;

/// A stream that moved more than this in a second, in both directions together, carries bulk data.
const LIMIT: u32 = 64 * 1024;
/// How long it takes until what has moved no longer counts.
const PERIOD: Duration = Duration::from_secs(1);
/// The priority of streams with bulk data. That of others is 0.
const BULK: i8 = -1;

/// How much a stream has moved lately: its bytes, less [`LIMIT`] for each [`PERIOD`], at most [`LIMIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    level: u32,
    as_of: Time,
    /// The stream takes no more for now: it would have moved more, so that nothing is subtracted.
    is_blocked: bool,
    is_bulk: bool,
}

impl Load {
    pub(super) fn new(now: Time) -> Self {
        Self { level: 0, as_of: now, is_blocked: false, is_bulk: false }
    }

    /// Reports that `len` bytes move, in either direction. Returns the stream's priority if it changes.
    pub(super) fn moves(&mut self, now: Time, len: usize) -> Option<i8> {
        self.advance(now);
        let was_bulk = self.is_bulk;
        let level = self.level.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        // A stream that was quiet, or slow for long, starts anew.
        self.is_bulk = level > LIMIT || self.level > 0 && was_bulk;
        self.level = level.min(LIMIT);
        (self.is_bulk != was_bulk).then_some(if self.is_bulk { BULK } else { 0 })
    }

    /// Reports whether the stream takes no more.
    pub(super) fn set_blocked(&mut self, now: Time, is_blocked: bool) {
        if self.is_blocked != is_blocked {
            self.advance(now);
            self.is_blocked = is_blocked;
        }
    }

    /// Subtracts what has left since.
    fn advance(&mut self, now: Time) {
        let ago = now.saturating_since(self.as_of).min(PERIOD);
        if !self.is_blocked {
            let left = ago.as_nanos() * u128::from(LIMIT) / PERIOD.as_nanos();
            self.level = self.level.saturating_sub(left as u32);
        }
        self.as_of = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(5_000);

    fn after(ms: u64) -> Time {
        START + Duration::from_millis(ms)
    }

    #[test]
    fn stream_is_bulk_once_it_has_moved_more_than_64_kib_in_a_second() {
        let mut load = Load::new(START);
        assert_eq!(load.moves(after(0), 40_000), None);
        assert_eq!(load.moves(after(100), 32_089), None, "6553 bytes no longer count");
        assert_eq!(load.moves(after(100), 1), Some(BULK));
        assert_eq!(load.moves(after(200), usize::MAX), None, "it is bulk already");
    }

    #[test]
    fn stream_of_keystrokes_and_screens_is_never_bulk() {
        let mut load = Load::new(START);
        for ms in (0..60_000).step_by(50) {
            assert_eq!(load.moves(after(ms), 3_000), None);
        }
    }

    #[test]
    fn bulk_stream_starts_anew_after_a_quiet_second() {
        let mut load = Load::new(START);
        assert_eq!(load.moves(after(0), 1_000_000), Some(BULK));
        assert_eq!(load.moves(after(990), 1), None);
        assert_eq!(load.moves(after(1_991), 1), Some(0));
        assert_eq!(load.moves(after(1_991), 65_535), None, "the first byte counts");
        assert_eq!(load.moves(after(1_991), 1), Some(BULK));
    }

    #[test]
    fn stream_stays_bulk_while_it_takes_no_more() {
        let mut load = Load::new(START);
        assert_eq!(load.moves(after(0), 1_000_000), Some(BULK));
        load.set_blocked(after(0), true);
        load.set_blocked(after(60_000), true);
        load.set_blocked(after(60_000), false);
        assert_eq!(load.moves(after(60_000), 8_000), None);
        assert_eq!(load.moves(after(61_001), 1), Some(0));
    }

    #[test]
    fn blocked_stream_that_has_moved_little_is_not_bulk() {
        let mut load = Load::new(START);
        load.set_blocked(after(0), true);
        assert_eq!(load.moves(after(60_000), 1), None);
    }
}
