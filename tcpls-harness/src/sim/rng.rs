//! Reproducible randomness: all random numbers of a run come from one seed. ChaCha gives the same numbers on every
//! machine. Each purpose has a stream of its own, so that further draws for one do not change another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tcpls_core::Seed;

/// The purpose of a stream of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Network = 1,
    Client,
    Server,
    Scenario = 5,
    Middleboxes,
    Clients,
    Queues,
    Extremes,
    Streams,
    Actions,
    Servers,
    Slow,
    Flood,
    Bounds,
    Applications,
    Links,
    Lanes,
    Groups,
    Drains,
    EarlyData,
    Farm,
    Farms,
    Options,
    ResumedJoins,
    Settings,
}

/// A stream of random numbers that follow from the seed of a run.
#[derive(Clone, Debug)]
pub struct SimRng(ChaCha8Rng);

impl SimRng {
    pub(crate) fn new(seed: u64, purpose: Purpose) -> Self {
        Self::numbered(seed, purpose, 0)
    }

    /// The same for one of several, numbered from 0; the first has what [`SimRng::new`] gives.
    pub(crate) fn numbered(seed: u64, purpose: Purpose, number: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(purpose as u64 + ((number as u64) << 32));
        Self(generator)
    }

    /// Returns a number less than `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number that is at least `low` and at most `high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Returns true once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns true with this probability, from 0 to 1.
    pub fn happens(&mut self, probability: f64) -> bool {
        ((self.0.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// A seed for one end.
    pub(crate) fn seed(&mut self) -> Seed {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_always_give_the_same_numbers() {
        let draw = |seed, purpose| SimRng::new(seed, purpose).below(u64::MAX);
        assert_eq!(draw(7, Purpose::Network), draw(7, Purpose::Network));
        assert_ne!(draw(7, Purpose::Network), draw(7, Purpose::Client));
        assert_ne!(draw(7, Purpose::Network), draw(8, Purpose::Network));
    }

    #[test]
    fn numbers_keep_to_their_bounds_and_reach_them() {
        let mut rng = SimRng::new(1, Purpose::Network);
        let drawn: Vec<u64> = (0..100).map(|_| rng.between(3, 6)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&6)));
        assert!((0..100).all(|_| rng.happens(1.0) && !rng.happens(0.0)));
        assert_eq!(rng.below(0), 0);
    }
}
