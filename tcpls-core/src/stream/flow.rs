//! Flow control: windows that bound what a peer may make this side hold, and grow as fast as the application reads.

use core::time::Duration;

use crate::time::Time;

/// Without a round-trip time yet, a window that is read within this time is taken to hold the peer back.
const GUESSED_RTT: Duration = Duration::from_millis(50);

/// A receive window: the peer may send up to `granted`, counted from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    granted: u64,
    size: u64,
    max_size: u64,
    /// Bytes that were read, or given back without reading.
    consumed: u64,
    renewed: Time,
}

impl Window {
    pub(super) fn new(size: u64, max_size: u64) -> Self {
        Self { granted: size, size, max_size: max_size.max(size), consumed: 0, renewed: Time::ZERO }
    }

    /// A window that nothing ever exceeds.
    pub(super) fn unlimited() -> Self {
        Self { granted: u64::MAX, size: u64::MAX, max_size: u64::MAX, consumed: 0, renewed: Time::ZERO }
    }

    /// What the peer may send in all.
    pub(super) fn granted(&self) -> u64 {
        self.granted
    }

    /// The application took `bytes`; true if the peer should hear of a new limit: half of the window is used up.
    pub(super) fn consume(&mut self, bytes: u64) -> bool {
        self.consumed = self.consumed.saturating_add(bytes);
        self.granted != u64::MAX && self.wanted() - self.granted >= self.size / 2
    }

    fn wanted(&self) -> u64 {
        self.consumed.saturating_add(self.size).max(self.granted)
    }

    /// The new limit. A window that was used up within two round trips is what holds the peer back: it doubles.
    pub(super) fn renew(&mut self, now: Time, rtt: Option<Duration>) -> u64 {
        if now - self.renewed < 2 * rtt.unwrap_or(GUESSED_RTT) {
            self.size = self.size.saturating_mul(2).min(self.max_size);
        }
        self.renewed = now;
        self.granted = self.wanted();
        self.granted
    }
}

/// What the peer allows this side to send in all on the session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    max: u64,
    used: u64,
}

impl Credit {
    pub(super) fn raise(&mut self, max: u64) {
        self.max = self.max.max(max);
    }

    pub(super) fn left(&self) -> u64 {
        self.max - self.used
    }

    pub(super) fn spend(&mut self, bytes: u64) {
        self.used += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_limit_is_due_when_half_of_the_window_was_read() {
        let mut window = Window::new(100, 100);
        assert!(!window.consume(49));
        assert!(window.consume(1));
        assert_eq!(window.renew(Time::from_millis(500), None), 150);
        assert!(!window.consume(49));
    }

    #[test]
    fn a_window_that_is_used_up_within_two_round_trips_doubles_up_to_its_maximum() {
        let (rtt, mut window) = (Some(Duration::from_millis(10)), Window::new(100, 250));
        window.consume(50);
        assert_eq!(window.renew(Time::from_millis(1000), rtt), 150, "the first renewal says nothing");
        window.consume(50);
        assert_eq!(window.renew(Time::from_millis(1019), rtt), 300);
        window.consume(100);
        assert_eq!(window.renew(Time::from_millis(1030), rtt), 450, "250 is the most");
        window.consume(125);
        assert_eq!(window.renew(Time::from_millis(1050), rtt), 575, "20 ms is slow enough");
    }

    #[test]
    fn an_unlimited_window_is_never_renewed() {
        let mut window = Window::unlimited();
        assert!(!window.consume(u64::MAX) && !window.consume(u64::MAX));
    }
}
