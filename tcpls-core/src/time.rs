//! Time as the core sees it: a number that the caller supplies.
//!
//! Nothing here reads a clock. Unlike `std::time::Instant`, a [`Time`] can be recorded, replayed, and produced by a
//! simulator.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time: nanoseconds since an origin that the caller chooses and keeps for the life of a session.
///
/// Arithmetic saturates: a deadline that would lie past the end of time (some 584 years after the origin) is
/// [`Time::MAX`], and the distance to a later point is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The caller's origin.
    pub const ZERO: Self = Self(0);
    /// A point in time that is never reached.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Seconds after the origin, with milliseconds or as many digits as requested: `0.040 s`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAX {
            return f.write_str("never");
        }
        write!(f, "{:.*} s", f.precision().unwrap_or(3), Duration::from_nanos(self.0).as_secs_f64())
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, rhs: Self) -> Duration {
        self.saturating_since(rhs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_prints_seconds_with_the_requested_digits() {
        let shown = |time: Time| time.to_string();
        assert_eq!(shown(Time::from_millis(40)), "0.040 s");
        assert_eq!(shown(Time::from_millis(61_000)), "61.000 s");
        assert_eq!(shown(Time::MAX), "never");
        assert_eq!(format!("{:.6}", Time::from_nanos(1_234_000)), "0.001234 s");
    }
}
