//! A kit for tests of sessions: a pair of ends in virtual time, deterministic TLS, null crypto, a scripted peer, and
//! oracles. Feature `testing`.
//!
//! Nothing here is for production: the keys are public. The items of this module may change in any release.

pub mod ledger;
pub mod null;
mod oracle;
mod pair;
pub mod peer;
pub mod tls;

pub use self::ledger::Ledger;
pub use self::null::NullHandshake;
pub use self::oracle::Oracle;
pub use self::pair::{End, Flow, Inbox, Pair, Role, Setup};
pub use self::peer::Peer;
pub use self::tls::Tls;

use crate::crypto::rng::Seed;

/// The AEADs of TLS 1.3, for the benchmark.
#[doc(hidden)]
pub mod aead {
    pub use crate::crypto::aead::*;
}

/// The apparent handshake of a join, for the project's own tests and fuzz targets.
#[doc(hidden)]
pub mod hello {
    pub use crate::wire::hello::*;
}

/// Returns a seed made from a small number. The same number gives the same seed.
pub fn seed(number: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Seed(bytes)
}

/// Returns `len` bytes in which no part is like another. The same length gives the same bytes.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[0]
    };
    (0..len).map(step).collect()
}
