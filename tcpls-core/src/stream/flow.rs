//! Flow control in both directions: how much the peer may send (a window that grows by itself) and how much this side
//! may send (a limit that the peer raises). The same types serve the session and each stream.

use core::time::Duration;

use super::MAX_OFFSET;
use crate::error::PeerMisbehaved;
use crate::time::Time;

/// The round trip assumed until one was measured.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// What the owner knows about time: now, and a typical round trip of the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) round_trip: Option<Duration>,
}

/// How much the peer may send: `limit`, which runs ahead of what was consumed by the window's size.
///
/// An update is due when half of the window, or more, could be given back. If the application consumed that half within
/// two round trips, the window holds the sender back or soon will (the sender needs a full window per round trip to
/// keep the path busy while an update travels), and it is doubled, up to `max_size`. A slow reader's window stays as it is.
/// Without a clock every update doubles it: still bounded.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: u64,
    max_size: u64,
    limit: u64,
    received: u64,
    consumed: u64,
    renewed: Time,
}

impl Window {
    pub(super) fn new(size: u64, max_size: u64, now: Time) -> Self {
        Self { size, max_size: max_size.max(size), limit: size.min(MAX_OFFSET), received: 0, consumed: 0, renewed: now }
    }

    /// No limit and never an update, for a session without TCPLS.
    pub(super) fn unlimited() -> Self {
        Self { size: 0, max_size: 0, limit: u64::MAX, received: 0, consumed: 0, renewed: Time::ZERO }
    }

    /// What was received: the highest offset of a stream, or the sum of these for the session.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What was received and is neither read nor given up.
    pub(super) fn unconsumed(&self) -> u64 {
        self.received - self.consumed
    }

    /// Whether `more` bytes may come.
    pub(super) fn check(&self, more: u64) -> Result<(), PeerMisbehaved> {
        let total = self.received.checked_add(more).ok_or(PeerMisbehaved::FlowControl)?;
        if total > self.limit { Err(PeerMisbehaved::FlowControl) } else { Ok(()) }
    }

    /// `more` bytes came; they passed [`Window::check`].
    pub(super) fn receive(&mut self, more: u64) {
        self.received = self.received.saturating_add(more);
    }

    /// `bytes` were read, or will never be. Never more than were received.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.received);
    }

    /// Whether the peer should hear of a higher limit.
    pub(super) fn update_is_due(&self) -> bool {
        let gain = self.target().saturating_sub(self.limit);
        gain >= (self.size / 2).max(1)
    }

    /// The limit to tell the peer now. Never falls.
    pub(super) fn renew(&mut self, clock: Clock) -> u64 {
        if self.update_is_due() {
            self.tune(clock);
        }
        self.limit = self.limit.max(self.target());
        self.limit
    }

    fn target(&self) -> u64 {
        self.consumed.saturating_add(self.size).min(MAX_OFFSET)
    }

    fn tune(&mut self, clock: Clock) {
        let round_trip = clock.round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        if clock.now.saturating_since(self.renewed) < round_trip.saturating_mul(2) {
            self.size = self.size.saturating_mul(2).min(self.max_size);
        }
        self.renewed = clock.now;
    }
}

/// How much this side may send: what the peer allows, less what was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    limit: u64,
    used: u64,
}

impl Credit {
    /// As much as offsets can express.
    pub(super) const UNLIMITED: Self = Self { limit: MAX_OFFSET, used: 0 };

    /// Raises the limit; a lower one is old news that was overtaken. Says whether it rose.
    pub(super) fn raise(&mut self, limit: u64) -> bool {
        let limit = limit.min(MAX_OFFSET);
        let rises = limit > self.limit;
        self.limit = self.limit.max(limit);
        rises
    }

    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
    }

    /// What was sent so far.
    pub(super) fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(millis: u64) -> Clock {
        Clock { now: Time::from_millis(millis), round_trip: Some(Duration::from_millis(10)) }
    }

    fn take(window: &mut Window, bytes: u64) {
        window.check(bytes).unwrap();
        window.receive(bytes);
        window.consume(bytes);
    }

    #[test]
    fn the_limit_is_exact() {
        let mut window = Window::new(100, 100, Time::ZERO);
        assert_eq!(window.check(100), Ok(()));
        assert_eq!(window.check(101), Err(PeerMisbehaved::FlowControl));
        window.receive(60);
        assert_eq!(window.check(40), Ok(()));
        assert_eq!(window.check(41), Err(PeerMisbehaved::FlowControl));
        assert_eq!(window.check(u64::MAX), Err(PeerMisbehaved::FlowControl));
    }

    #[test]
    fn an_update_is_due_when_half_of_the_window_was_read() {
        let mut window = Window::new(100, 100, Time::ZERO);
        take(&mut window, 49);
        assert!(!window.update_is_due());
        take(&mut window, 1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(0)), 150);
        assert!(!window.update_is_due());
    }

    #[test]
    fn a_window_of_one_byte_still_moves() {
        let mut window = Window::new(1, 1, Time::ZERO);
        take(&mut window, 1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(0)), 2);
    }

    #[test]
    fn a_window_drained_within_two_round_trips_doubles_up_to_its_maximum() {
        let mut window = Window::new(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(19)), 50 + 200);
        take(&mut window, 200);
        assert_eq!(window.renew(clock(38)), 250 + 300);
        take(&mut window, 300);
        assert_eq!(window.renew(clock(57)), 550 + 300);
    }

    #[test]
    fn a_slow_reader_keeps_its_window() {
        let mut window = Window::new(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(20)), 150);
    }

    #[test]
    fn saying_a_lost_limit_again_neither_tunes_nor_lowers_it() {
        let mut window = Window::new(100, 800, Time::ZERO);
        take(&mut window, 50);
        let limit = window.renew(clock(1));
        assert_eq!(window.renew(clock(2)), limit);
        assert_eq!(window.renew(clock(3)), limit);
    }

    #[test]
    fn an_unlimited_window_is_never_renewed() {
        let mut window = Window::unlimited();
        take(&mut window, 1 << 61);
        assert!(!window.update_is_due());
    }

    #[test]
    fn credit_never_falls_and_is_capped_at_the_largest_offset() {
        let mut credit = Credit::default();
        assert!(credit.raise(10));
        assert!(!credit.raise(5));
        credit.spend(4);
        assert_eq!(credit.left(), 6);
        assert!(credit.raise(u64::MAX));
        assert_eq!(credit.left(), MAX_OFFSET - 4);
    }
}
