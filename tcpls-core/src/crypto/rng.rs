//! Randomness that can be replayed: a generator that is as good as its seed, and the same for the same seed.
//!
//! The core never asks the operating system. Called by whoever needs session IDs, randoms or random-looking padding.

use core::fmt;

use super::aead::Prf;

/// 32 bytes that all randomness of one session, or of one endpoint, is made from.
///
/// The caller must take them from the operating system's CSPRNG, afresh for each object that wants a seed: whoever
/// knows or repeats a seed knows or repeats what is made from it. Only tests and simulations choose seeds themselves.
#[derive(Clone)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A CSPRNG: HMAC-SHA-256 in counter mode, with a new key after each use, so that its state betrays nothing of what it
/// gave before.
#[derive(Debug)]
pub struct Rng {
    key: Prf,
}

impl Rng {
    /// The generator of `seed` for the purpose named by `label`; different labels give independent generators.
    pub fn new(seed: &Seed, label: &[u8]) -> Self {
        Self { key: Prf::new(&Prf::new(&seed.0).sign(&[label])) }
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        for (counter, chunk) in (1u64..).zip(out.chunks_mut(32)) {
            let block = self.key.sign(&[&counter.to_be_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        self.key = Prf::new(&self.key.sign(&[&0u64.to_be_bytes()]));
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_and_label_give_the_same_bytes() {
        let draw = || {
            let mut rng = Rng::new(&Seed([7; 32]), b"label");
            (rng.bytes::<5>(), rng.bytes::<100>())
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn another_seed_or_label_gives_other_bytes() {
        let draw = |seed, label: &[u8]| Rng::new(&Seed([seed; 32]), label).bytes::<32>();
        assert_ne!(draw(1, b"a"), draw(2, b"a"));
        assert_ne!(draw(1, b"a"), draw(1, b"b"));
    }

    #[test]
    fn no_block_comes_twice() {
        let mut rng = Rng::new(&Seed([0; 32]), b"");
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let bytes = rng.bytes::<320>();
            assert!(bytes.chunks(32).all(|block| seen.insert(block.to_vec())));
        }
    }

    #[test]
    fn bits_are_balanced() {
        let ones: u32 = Rng::new(&Seed([3; 32]), b"").bytes::<10_000>().iter().map(|byte| byte.count_ones()).sum();
        assert!((39_000..41_000).contains(&ones), "{ones} of 80000 bits are set");
    }

    #[test]
    fn odd_lengths_are_filled_to_the_end() {
        for len in 0..100 {
            let fill = |canary| {
                let mut out = vec![canary; len];
                Rng::new(&Seed([9; 32]), b"").fill(&mut out);
                out
            };
            assert_eq!(fill(0x00), fill(0xff));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", Seed([0x41; 32])), "Seed(..)");
        assert_eq!(format!("{:?}", Rng::new(&Seed([0x41; 32]), b"")), "Rng { key: Prf(..) }");
    }
}
