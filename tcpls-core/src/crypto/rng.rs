//! Reproducible randomness: a CSPRNG that gives the same bytes for the same seed.
//!
//! The core never calls the operating system. Session IDs, TLS randoms and random-looking fields come from here.

use core::fmt;

use super::aead::Prf;

/// 32 bytes from which all randomness of one session, or of one endpoint, is generated.
///
/// The caller must take them from the operating system's CSPRNG, new ones for each object: who knows a seed knows
/// everything generated from it. Only tests and simulations choose seeds themselves.
#[derive(Clone)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Bytes that are made at once: a new key costs as much as two blocks.
const POOL: usize = 4 * 32;

/// A CSPRNG: HMAC-SHA-256 in counter mode, with a new key after each pool. Returned bytes are erased, so that its state
/// does not reveal earlier output.
pub struct Rng {
    key: Prf,
    pool: [u8; POOL],
    /// How many bytes of the pool were returned.
    used: usize,
}

impl Rng {
    /// Returns the generator of `seed` for the purpose `label`; different labels give independent generators.
    pub fn new(seed: &Seed, label: &[u8]) -> Self {
        Self { key: Prf::new(&Prf::new(&seed.0).sign(&[label])), pool: [0; POOL], used: POOL }
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            if self.used == POOL {
                self.refill();
            }
            let len = rest.len().min(POOL - self.used);
            let (now, later) = rest.split_at_mut(len);
            let given = &mut self.pool[self.used..self.used + len];
            now.copy_from_slice(given);
            given.fill(0);
            self.used += len;
            rest = later;
        }
    }

    fn refill(&mut self) {
        for (counter, block) in (1u64..).zip(self.pool.chunks_mut(32)) {
            block.copy_from_slice(&self.key.sign(&[&counter.to_be_bytes()]));
        }
        self.key = Prf::new(&self.key.sign(&[&0u64.to_be_bytes()]));
        self.used = 0;
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng(..)")
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
    fn returned_bytes_are_erased_from_the_state() {
        let mut rng = Rng::new(&Seed([5; 32]), b"");
        for len in [1, 31, 60, 36, 7] {
            let mut given = vec![0; len];
            rng.fill(&mut given);
            assert!(rng.pool[..rng.used].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_bytes_are_drawn() {
        let mut whole = [0; 300];
        Rng::new(&Seed([6; 32]), b"").fill(&mut whole);
        let mut rng = Rng::new(&Seed([6; 32]), b"");
        let mut pieces = Vec::new();
        for len in [1, 99, 127, 73] {
            let mut piece = vec![0; len];
            rng.fill(&mut piece);
            pieces.append(&mut piece);
        }
        assert_eq!(pieces, whole);
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
        assert_eq!(format!("{:?}", Rng::new(&Seed([0x41; 32]), b"")), "Rng(..)");
    }
}
