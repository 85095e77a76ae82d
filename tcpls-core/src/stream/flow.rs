//! Flow control in both directions: how much the peer may send (a window that grows by itself) and how much this side
//! may send (a limit that the peer raises). The same types serve the session and each stream.

use core::time::Duration;

use super::MAX_OFFSET;
use crate::error::Violation;
use crate::time::Time;

/// The round trip assumed until one was measured.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// What the owner knows about time: now, and a typical round trip of the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) round_trip: Option<Duration>,
}

/// The smallest gain that an update of the session's window is sent for, unless half of the window is less: reading byte
/// by byte what fills the session's memory must not cost a frame for each byte.
const MIN_GAIN: u64 = 64 << 10;

/// What a window's limit runs ahead of, by the window's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// What was consumed. A reader that stops holds the sender back: right for a stream.
    Consumed,
    /// What was received, as long as no more than the largest size is held. Streams that are not read do not hold the
    /// others back: right for the session, whose streams have windows of their own.
    Received,
}

/// How much the peer may send: `limit`, which runs ahead by the window's size.
///
/// An update is due when half of the window, or more, could be given back. If that half was used within two round trips,
/// the window holds the sender back or soon will (the sender needs a full window per round trip to keep the path busy
/// while an update travels), and it is doubled, up to `max_size`. A slow reader's window stays as it is.
/// Without a clock every update doubles it: still bounded.
#[derive(Clone, Debug)]
pub(super) struct Window {
    basis: Basis,
    size: u64,
    max_size: u64,
    limit: u64,
    /// How much must have been consumed, or received, before an update can be due.
    due_from: u64,
    received: u64,
    consumed: u64,
    renewed: Time,
}

impl Window {
    /// A stream's: it bounds what is held of it.
    pub(super) fn of_stream(size: u64, max_size: u64, now: Time) -> Self {
        Self::new(Basis::Consumed, size, max_size, now)
    }

    /// The session's: what is held of all streams is bounded by `max_size` alone.
    pub(super) fn of_session(size: u64, max_size: u64, now: Time) -> Self {
        Self::new(Basis::Received, size, max_size, now)
    }

    fn new(basis: Basis, size: u64, max_size: u64, now: Time) -> Self {
        let (max_size, limit) = (max_size.max(size), size.min(MAX_OFFSET));
        let due_from = due_from(basis, size, limit);
        Self { basis, size, max_size, limit, due_from, received: 0, consumed: 0, renewed: now }
    }

    /// No limit and never an update, for a session without TCPLS.
    pub(super) fn unlimited() -> Self {
        Self { limit: u64::MAX, ..Self::new(Basis::Consumed, 0, 0, Time::ZERO) }
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
    pub(super) fn check(&self, more: u64) -> Result<(), Violation> {
        let total = self.received.checked_add(more).ok_or(Violation::FlowControl)?;
        if total > self.limit { Err(Violation::FlowControl) } else { Ok(()) }
    }

    /// `more` bytes came; they passed [`Window::check`].
    pub(super) fn receive(&mut self, more: u64) {
        self.received = self.received.saturating_add(more);
    }

    /// `bytes` were read, or will never be. Never more than were received.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.received);
    }

    /// Whether a higher limit should be sent to the peer.
    #[inline]
    pub(super) fn update_is_due(&self) -> bool {
        let progress = if self.basis == Basis::Consumed { self.consumed } else { self.received };
        progress >= self.due_from && self.update_is_worth_it() // mostly it is too early
    }

    fn update_is_worth_it(&self) -> bool {
        let half = self.size / 2;
        let target = self.target();
        let least = match self.basis {
            Basis::Consumed => half,
            // What is held may leave less than a window: half of that, then.
            Basis::Received => half.min(MIN_GAIN).max(target.saturating_sub(self.received) / 2),
        };
        target.saturating_sub(self.limit) >= least.max(1)
    }

    /// The limit to report to the peer now. Never falls. The window grows by at most `growth`.
    pub(super) fn renew(&mut self, clock: Clock, growth: u64) -> u64 {
        if self.update_is_due() {
            self.tune(clock, growth);
        }
        self.limit = self.limit.max(self.target());
        self.due_from = due_from(self.basis, self.size, self.limit);
        self.limit
    }

    /// The window's size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    fn target(&self) -> u64 {
        let target = match self.basis {
            Basis::Consumed => self.consumed.saturating_add(self.size),
            Basis::Received => self.received.saturating_add(self.size).min(self.consumed.saturating_add(self.max_size)),
        };
        target.min(MAX_OFFSET)
    }

    fn tune(&mut self, clock: Clock, growth: u64) {
        let round_trip = clock.round_trip.unwrap_or(DEFAULT_ROUND_TRIP);
        if clock.now.saturating_since(self.renewed) < round_trip.saturating_mul(2) {
            let doubled = self.size.saturating_add(self.size.min(growth));
            self.size = doubled.min(self.max_size);
        }
        self.renewed = clock.now;
    }
}

/// The least progress that can make an update due: the limit would rise by half of the window, or by [`MIN_GAIN`].
fn due_from(basis: Basis, size: u64, limit: u64) -> u64 {
    let gain = match basis {
        Basis::Consumed => size / 2,
        Basis::Received => (size / 2).min(MIN_GAIN),
    };
    limit.saturating_add(gain.max(1)).saturating_sub(size)
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

    /// Raises the limit; whether nothing could have been sent without that.
    pub(super) fn raise_if_spent(&mut self, limit: u64) -> bool {
        let is_spent = self.left() == 0;
        self.raise(limit) && is_spent
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
        let mut window = Window::of_stream(100, 100, Time::ZERO);
        assert_eq!(window.check(100), Ok(()));
        assert_eq!(window.check(101), Err(Violation::FlowControl));
        window.receive(60);
        assert_eq!(window.check(40), Ok(()));
        assert_eq!(window.check(41), Err(Violation::FlowControl));
        assert_eq!(window.check(u64::MAX), Err(Violation::FlowControl));
    }

    #[test]
    fn an_update_is_due_when_half_of_the_window_was_read() {
        let mut window = Window::of_stream(100, 100, Time::ZERO);
        take(&mut window, 49);
        assert!(!window.update_is_due());
        take(&mut window, 1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(0), u64::MAX), 150);
        assert!(!window.update_is_due());
    }

    #[test]
    fn a_window_of_one_byte_still_moves() {
        let mut window = Window::of_stream(1, 1, Time::ZERO);
        take(&mut window, 1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(0), u64::MAX), 2);
    }

    #[test]
    fn a_window_drained_within_two_round_trips_doubles_up_to_its_maximum() {
        let mut window = Window::of_stream(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(19), u64::MAX), 50 + 200);
        take(&mut window, 200);
        assert_eq!(window.renew(clock(38), u64::MAX), 250 + 300);
        take(&mut window, 300);
        assert_eq!(window.renew(clock(57), u64::MAX), 550 + 300);
    }

    #[test]
    fn a_window_grows_by_what_it_may_and_no_more() {
        let mut window = Window::of_stream(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(1), 30), 50 + 130);
        take(&mut window, 130);
        assert_eq!(window.renew(clock(2), 0), 180 + 130);
        assert_eq!(window.size(), 130);
    }

    #[test]
    fn a_sessions_window_runs_ahead_of_what_came_until_its_maximum_is_held() {
        let mut window = Window::of_session(100, 300, Time::ZERO);
        window.receive(50);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(30), u64::MAX), 50 + 100, "nothing was read");
        window.receive(100);
        assert_eq!(window.renew(clock(60), u64::MAX), 150 + 100);
        window.receive(100);
        assert_eq!(window.renew(clock(90), u64::MAX), 300);
        window.receive(50);
        assert!(!window.update_is_due());
        assert_eq!(window.check(1), Err(Violation::FlowControl));
        window.consume(49);
        assert!(!window.update_is_due());
        window.consume(1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(120), u64::MAX), 350);
    }

    #[test]
    fn a_session_that_holds_much_gives_credit_for_the_little_that_is_left() {
        const MIB: u64 = 1 << 20;
        let mut window = Window::of_session(32 * MIB, 32 * MIB, Time::ZERO);
        window.receive(31 * MIB);
        for _ in 0..100 {
            window.check(MIB / 2).unwrap();
            take(&mut window, MIB / 2);
            assert!(window.update_is_due());
            window.renew(clock(1), u64::MAX);
        }
        window.receive(MIB);
        window.consume(1);
        assert!(!window.update_is_due(), "not for each byte");
    }

    #[test]
    fn a_slow_reader_keeps_its_window() {
        let mut window = Window::of_stream(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(20), u64::MAX), 150);
    }

    #[test]
    fn saying_a_lost_limit_again_neither_tunes_nor_lowers_it() {
        let mut window = Window::of_stream(100, 800, Time::ZERO);
        take(&mut window, 50);
        let limit = window.renew(clock(1), u64::MAX);
        assert_eq!(window.renew(clock(2), u64::MAX), limit);
        assert_eq!(window.renew(clock(3), u64::MAX), limit);
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
