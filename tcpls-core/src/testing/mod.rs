//! A kit for tests of sessions: deterministic TLS, crypto that protects nothing, and oracles. Feature `testing`.
//!
//! Nothing here is for production: the keys are public. The items of this module may change in any release.

pub mod ledger;
pub mod null;
pub mod tls;

pub use self::ledger::Ledger;
pub use self::null::NullHandshake;
pub use self::tls::Tls;

use crate::crypto::rng::Seed;

/// Returns a seed made from a small number. The same number gives the same seed.
pub fn seed(number: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Seed(bytes)
}
