//! How much the peer may send: a window that grows by itself. The same type serves the session and each stream; `credit` has
//! the other direction.

use core::time::Duration;

use super::MAX_OFFSET;
use crate::error::Violation;
use crate::time::Time;

/// The round trip assumed until one was measured.
const DEFAULT_ROUND_TRIP: Duration = Duration::from_millis(100);

/// What the driver knows about time: now, and a typical round trip of the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    pub(super) round_trip: Option<Duration>,
}

/// The smallest increase that is worth an update, unless half of the window is less: neither small windows, nor an
/// application that reads byte by byte from full memory, must cause a frame for every few bytes.
const MIN_GAIN: u64 = 64 << 10;
/// Otherwise an update is sent for this part of the window.
const UPDATES: u64 = 8;
/// A window holds what is used in this number of round trips. In slow start, a sender has twice in flight of what was used
/// in the last one, and doubles that while the update travels; and as much again arrives behind what one path lost.
const ROUND_TRIPS: u32 = 8;

/// The count that a window's limit exceeds by the window's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    /// Consumed bytes, for a stream: a reader that stops blocks the sender.
    Consumed,
    /// Received bytes, while at most the largest size is held, for the session: unread streams do not block the others,
    /// and have windows of their own.
    Received,
}

/// How much the peer may send: up to `limit`, which is ahead by the window's size.
///
/// An update is due when the limit can rise by an eighth of the window or more: [`gain`]. If the rate since the last
/// update uses up the window in fewer than [`ROUND_TRIPS`], the window limits the sender or soon will, and it is
/// doubled, up to `max_size`. The window of a slow reader keeps its size. Without a clock every update doubles it, up
/// to the same bound.
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
    /// When the last update was due, and what had been consumed, or received, by then.
    renewed: Time,
    renewed_at: u64,
}

impl Window {
    /// Creates the window of a stream: it bounds the data held of it.
    pub(super) fn of_stream(size: u64, max_size: u64, now: Time) -> Self {
        Self::new(Basis::Consumed, size, max_size, now)
    }

    /// The session's: what is held of all streams is bounded by `max_size` alone.
    pub(super) fn of_session(size: u64, max_size: u64, now: Time) -> Self {
        Self::new(Basis::Received, size, max_size, now)
    }

    fn new(basis: Basis, size: u64, max_size: u64, now: Time) -> Self {
        let (max_size, limit) = (max_size.max(size), size.min(MAX_OFFSET));
        let due_from = due_from(size, limit);
        Self { basis, size, max_size, limit, due_from, received: 0, consumed: 0, renewed: now, renewed_at: 0 }
    }

    /// No limit and never an update, for a session without TCPLS.
    pub(super) fn unlimited() -> Self {
        Self { limit: u64::MAX, ..Self::new(Basis::Consumed, 0, 0, Time::ZERO) }
    }

    /// Received bytes: the highest offset of a stream, or the sum of these for the session.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Received bytes that are neither read nor dropped.
    pub(super) fn unconsumed(&self) -> u64 {
        self.received - self.consumed
    }

    /// Checks whether `more` bytes are within the limit.
    pub(super) fn check(&self, more: u64) -> Result<(), Violation> {
        let total = self.received.checked_add(more).ok_or(Violation::FlowControl)?;
        if total > self.limit { Err(Violation::FlowControl) } else { Ok(()) }
    }

    /// `more` bytes arrived; they passed [`Window::check`].
    pub(super) fn receive(&mut self, more: u64) {
        self.received = self.received.saturating_add(more);
    }

    /// `bytes` were read, or never will be; never more than were received.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.received);
    }

    /// Whether a higher limit should be sent to the peer.
    #[inline]
    pub(super) fn update_is_due(&self) -> bool {
        self.progress() >= self.due_from && self.update_is_worth_it() // mostly it is too early
    }

    fn progress(&self) -> u64 {
        if self.basis == Basis::Consumed { self.consumed } else { self.received }
    }

    fn update_is_worth_it(&self) -> bool {
        let target = self.target();
        let least = match self.basis {
            Basis::Consumed => gain(self.size),
            // What is held may leave less than a window: the same part of that, then.
            Basis::Received => (self.size / 2).min(MIN_GAIN).max(target.saturating_sub(self.received) / UPDATES),
        };
        target.saturating_sub(self.limit) >= least.max(1)
    }

    /// The limit to report to the peer now. Never falls. The window grows by at most `growth`.
    pub(super) fn renew(&mut self, clock: Clock, growth: u64) -> u64 {
        if self.update_is_due() {
            self.tune(clock, growth);
        }
        self.limit = self.limit.max(self.target());
        self.due_from = due_from(self.size, self.limit);
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
        let (took, used) = (clock.now.saturating_since(self.renewed), self.progress() - self.renewed_at);
        let would_take = took.as_nanos() * u128::from(self.size);
        if would_take < round_trip.saturating_mul(ROUND_TRIPS).as_nanos() * u128::from(used) {
            let doubled = self.size.saturating_add(self.size.min(growth));
            self.size = doubled.min(self.max_size);
        }
        (self.renewed, self.renewed_at) = (clock.now, self.progress());
    }
}

/// Returns the smallest increase of the limit with an update, for a window of this size.
fn gain(size: u64) -> u64 {
    (size / UPDATES).max(MIN_GAIN.min(size / 2))
}

/// The least progress that can make an update due: the limit would rise by [`gain`]. Data that is held makes it due later, as it
/// takes more from what the limit could be than from what it has to rise by.
fn due_from(size: u64, limit: u64) -> u64 {
    limit.saturating_add(gain(size).max(1)).saturating_sub(size)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

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
    fn a_window_used_up_within_eight_round_trips_doubles_up_to_its_maximum() {
        let mut window = Window::of_stream(100, 300, Time::ZERO);
        take(&mut window, 50);
        assert_eq!(window.renew(clock(39), u64::MAX), 50 + 200);
        take(&mut window, 200);
        assert_eq!(window.renew(clock(78), u64::MAX), 250 + 300);
        take(&mut window, 300);
        assert_eq!(window.renew(clock(117), u64::MAX), 550 + 300);
    }

    #[test]
    fn an_update_of_a_large_window_is_due_when_an_eighth_was_read() {
        const MIB: u64 = 1 << 20;
        let mut window = Window::of_stream(MIB, MIB, Time::ZERO);
        take(&mut window, MIB / 8 - 1);
        assert!(!window.update_is_due());
        take(&mut window, 1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(0), u64::MAX), MIB + MIB / 8);
        let mut small = Window::of_stream(MIB / 4, MIB, Time::ZERO);
        take(&mut small, MIN_GAIN - 1);
        assert!(!small.update_is_due(), "not for every few bytes");
        take(&mut small, 1);
        assert!(small.update_is_due());
    }

    /// A sender in slow start over a path of 100 ms that carries at most `rate` bytes in a round trip, and a receiver that reads
    /// all that is in order. For `hole` steps from the first of them on, nothing is: 64 of them are a round trip. Returns the
    /// most steps in a row in which credit held the sender back, and how many updates were sent.
    fn slow_start(window: &mut Window, rate: u64, hole: core::ops::Range<u64>) -> (u32, u32) {
        const STEPS: u64 = 64;
        let (mut wanted, mut sent, mut limit, mut unread) = (0, 0, window.limit, 0);
        let (mut held_back, mut longest, mut updates) = (0, 0, 0);
        let (mut under_way, mut limits) = (VecDeque::<(u64, u64)>::new(), VecDeque::<(u64, u64)>::new());
        for step in 0..20 * STEPS {
            while limits.front().is_some_and(|(at, _)| *at <= step) {
                limit = limits.pop_front().unwrap().1;
            }
            let grown = 14_600.0 * 2_f64.powf(step as f64 / STEPS as f64);
            wanted += (grown as u64).min(rate) / STEPS;
            let may = limit.min(wanted);
            held_back = if may < wanted { held_back + 1 } else { 0 };
            longest = longest.max(held_back);
            under_way.push_back((step + STEPS / 2, may - sent));
            (wanted, sent) = (may, may);
            while under_way.front().is_some_and(|(at, _)| *at <= step) {
                let bytes = under_way.pop_front().unwrap().1;
                window.check(bytes).unwrap();
                window.receive(bytes);
                unread += bytes;
            }
            if !hole.contains(&step) {
                window.consume(core::mem::take(&mut unread));
            }
            if window.update_is_due() {
                let now = Time::from_nanos(step * 100_000_000 / STEPS);
                let clock = Clock { now, round_trip: Some(Duration::from_millis(100)) };
                limits.push_back((step + STEPS / 2, window.renew(clock, u64::MAX)));
                updates += 1;
            }
        }
        (longest, updates)
    }

    #[test]
    fn slow_start_never_waits_for_credit_even_behind_a_hole_of_a_round_trip() {
        const MIB: u64 = 1 << 20;
        for rate in [200_000, 1_500_000, 3_000_000] {
            for hole in [0..0, 320..384, 416..480, 512..576] {
                for new in [Window::of_stream, Window::of_session] {
                    let mut window = new(MIB, 16 * MIB, Time::ZERO);
                    let (held_back, updates) = slow_start(&mut window, rate, hole.clone());
                    let megabytes = window.received() / 1_000_000;
                    assert_eq!(held_back, 0, "{rate} bytes in a round trip, {hole:?}: {window:?}");
                    assert!(u64::from(updates) <= 4 + 4 * megabytes, "{updates} updates for {megabytes} MB");
                }
            }
        }
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
    fn session_window_follows_received_bytes_until_the_maximum_is_held() {
        let mut window = Window::of_session(100, 300, Time::ZERO);
        window.receive(50);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(40), u64::MAX), 50 + 100, "nothing was read");
        window.receive(100);
        assert_eq!(window.renew(clock(120), u64::MAX), 150 + 100);
        window.receive(100);
        assert_eq!(window.renew(clock(200), u64::MAX), 300);
        window.receive(50);
        assert!(!window.update_is_due());
        assert_eq!(window.check(1), Err(Violation::FlowControl));
        window.consume(49);
        assert!(!window.update_is_due());
        window.consume(1);
        assert!(window.update_is_due());
        assert_eq!(window.renew(clock(300), u64::MAX), 350);
    }

    #[test]
    fn full_session_gives_credit_for_its_remaining_room() {
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
        assert_eq!(window.renew(clock(40), u64::MAX), 150);
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
}
