//! When a Ping probes a quiet TCP connection: the interval grows while only answers arrive.

use core::time::Duration;

use crate::time::Time;

/// Doublings of the time between probes.
const MAX_DOUBLINGS: u32 = 4;

/// When one TCP connection was probed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Probes {
    last: Time,
    in_a_row: u32,
}

impl Probes {
    /// Stream data went over it.
    pub(crate) fn forget(&mut self) {
        self.in_a_row = 0;
    }

    /// It is probed now.
    pub(crate) fn note(&mut self, now: Time) {
        self.last = now;
        self.in_a_row = (self.in_a_row + 1).min(MAX_DOUBLINGS);
    }

    /// When to probe next, if nothing comes after what was `heard` last: no later than after `longest`.
    pub(crate) fn next(&self, heard: Time, quiet: Duration, longest: Duration) -> Time {
        heard.max(self.last) + quiet.saturating_mul(1 << self.in_a_row).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_doubles_the_time_to_the_next_up_to_sixteen_times_until_there_is_data() {
        let (mut probes, quiet) = (Probes::default(), Duration::from_secs(2));
        let mut heard = Time::from_millis(1000);
        for seconds in [2, 4, 8, 16, 32, 32] {
            assert_eq!(probes.next(heard, quiet, Duration::MAX), heard + Duration::from_secs(seconds));
            heard += Duration::from_secs(seconds);
            probes.note(heard);
        }
        assert_eq!(probes.next(heard, quiet, Duration::from_secs(5)), heard + Duration::from_secs(5));
        probes.forget();
        assert_eq!(probes.next(heard, quiet, Duration::from_secs(5)), heard + quiet);
    }
}
