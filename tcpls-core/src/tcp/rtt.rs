//! The round-trip time of one TCP connection, from acknowledgments (RFC 9002, 5, without the peer's ack delay, which ACK
//! frames do not carry).

use core::time::Duration;

/// Estimates from samples; all `None` before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rtt {
    /// What the handshake or the join took.
    opening: Option<Duration>,
    smoothed: Option<Duration>,
    variation: Duration,
    min: Option<Duration>,
}

impl Rtt {
    /// The handshake or the join took `opening`: a round trip at least.
    pub(crate) fn expect(&mut self, opening: Duration) {
        self.opening = Some(opening);
    }

    /// What the handshake or the join took; `None` if its messages arrived in one flight, or are not over.
    pub(crate) fn opening(&self) -> Option<Duration> {
        self.opening
    }

    /// Takes in one sample.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.variation) = (Some(rtt), rtt / 2);
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((smoothed * 7 + rtt) / 8);
    }

    /// Exponentially weighted mean, a new sample weighing 1/8.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Mean deviation, a new sample weighing 1/4.
    pub(crate) fn variation(&self) -> Duration {
        self.variation
    }

    /// The smallest sample.
    pub(crate) fn min(&self) -> Option<Duration> {
        self.min
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_is_taken_as_it_is_and_later_ones_move_the_mean_by_an_eighth() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.smoothed(), None);
        rtt.sample(Duration::from_millis(80));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(80)));
        rtt.sample(Duration::from_millis(160));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(90)));
        assert_eq!(rtt.variation(), Duration::from_millis(50));
        assert_eq!(rtt.min(), Some(Duration::from_millis(80)));
    }
}
