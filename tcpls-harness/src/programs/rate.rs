//! A limit on how often something happens.

use std::time::Duration;

/// A token bucket: `burst` at once, and one more for each `interval`.
#[derive(Debug)]
pub(super) struct Rate {
    burst: u32,
    interval: Duration,
    left: u32,
    /// When the next one is added, unless it is full.
    next: Duration,
}

impl Rate {
    pub(super) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, left: burst, next: Duration::ZERO }
    }

    /// Takes one, if there is one. `now` is any clock's time that does not go back.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        if self.left == self.burst {
            self.next = now + self.interval;
        } else if now >= self.next {
            let more = 1 + (now - self.next).as_nanos() / self.interval.as_nanos();
            let more = u32::try_from(more).unwrap_or(u32::MAX).min(self.burst - self.left);
            self.left += more;
            self.next += self.interval * more;
            if self.left == self.burst {
                self.next = now + self.interval;
            }
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_followed_by_one_for_each_interval() {
        let at = Duration::from_millis;
        let mut rate = Rate::new(3, at(100));
        let taken = |rate: &mut Rate, now| (0..9).filter(|_| rate.take(now)).count();
        assert_eq!(taken(&mut rate, at(50)), 3);
        assert_eq!(taken(&mut rate, at(149)), 0);
        assert_eq!(taken(&mut rate, at(150)), 1);
        assert_eq!(taken(&mut rate, at(399)), 2);
        assert_eq!(taken(&mut rate, at(400)), 0);
        assert_eq!(taken(&mut rate, at(100_000_000)), 3);
    }
}
