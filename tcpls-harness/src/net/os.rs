//! The clock and the random numbers of the operating system, in the shapes that the core takes them in.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tcpls_core::crypto::rng::Seed;
use tcpls_core::time::Time;

use crate::tls::provider;

/// All sessions of a process share one origin of time.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Now, as the core counts time.
pub(crate) fn now() -> Time {
    Time::ZERO + origin().elapsed()
}

/// The core's `time` as the runtime counts it. A time too far away to be counted is a year from now: a task that wakes up
/// then finds that there is nothing to do.
pub(crate) fn instant(time: Time) -> Instant {
    let origin = origin();
    origin
        .checked_add(Duration::from_nanos(time.as_nanos()))
        .unwrap_or_else(|| Instant::now() + Duration::from_secs(365 * 24 * 3600))
}

/// 32 unpredictable bytes, from the generator that TLS uses.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    provider().secure_random.fill(&mut bytes).expect("an operating system without random numbers can run no TLS");
    bytes
}

/// A seed for one session or one endpoint.
pub(crate) fn seed() -> Seed {
    Seed(random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_and_back_into_an_instant() {
        let before = Instant::now();
        let time = now();
        assert!(now() >= time);
        assert!(instant(time + Duration::from_secs(1)) >= before + Duration::from_secs(1));
        assert!(instant(Time::MAX) > Instant::now());
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(random(), random());
    }
}
