//! A kit for tests of sessions: two ends in virtual time, deterministic TLS, null crypto, a scripted peer, oracles, and
//! strategies for `proptest`.
//!
//! Nothing here is for production: the keys are public. The items of this module may change in any release. Features:
//! `testing` for all but [`strategies`], which needs `testing-proptest`.
//!
//! ```toml
//! [dev-dependencies]
//! tcpls-core = { version = "0.1", features = ["testing-proptest"] }
//! ```
//!
//! | to test | use |
//! | --- | --- |
//! | two ends, TCP connections that stall, break or corrupt bytes | [`Pair`] |
//! | any operations and faults in any order | [`Model`] with [`strategies::ops`] |
//! | a session against a peer that violates the protocol | [`Peer`] |
//! | an event loop or a simulator | [`Oracle`] and [`Ledger`] around its ends, [`NullHandshake`] for speed |
//! | a TLS configuration, or a peer of plain TLS | [`Tls`] |
//! | the codecs | [`strategies::frame`], [`strategies::content`], [`strategies::record`] |
//!
//! # A property of two ends
//!
//! A TCP connection is reset at any moment of a transfer; all data arrives over the other one.
//!
//! ```
//! use proptest::prelude::*;
//! use tcpls_core::Side::{Client, Server};
//! use tcpls_core::testing::{Pair, bytes};
//!
//! proptest! {
//!     #![proptest_config(ProptestConfig::with_cases(20))]
//!     # /*
//!     #[test]
//!     # */
//!     fn a_reset_loses_no_data(len in 0..200_000usize, rounds in 0..12) {
//!         let mut pair = Pair::with_tcp_connections(2);
//!         let (data, lost) = (bytes(len), pair.live(Client)[0]);
//!         let stream = pair.open_stream(Client);
//!         pair.submit(Client, stream, &data);
//!         (0..rounds).for_each(|_| _ = pair.round());
//!         pair.cut(lost);
//!         pair.drive();
//!         prop_assert_eq!(pair.live(Server).len(), 1);
//!         prop_assert_eq!(pair.read_all(Server, stream), data);
//!     }
//! }
//! # a_reset_loses_no_data();
//! ```
//!
//! # Anything in any order
//!
//! ```
//! use proptest::prelude::*;
//! use tcpls_core::testing::{Model, Setup, strategies};
//!
//! proptest! {
//!     #![proptest_config(ProptestConfig::with_cases(5))]
//!     # /*
//!     #[test]
//!     # */
//!     fn everything_arrives_once_the_faults_are_over(ops in strategies::ops(1..60)) {
//!         let mut model = Model::new(Setup { tls: None, ..Setup::default() });
//!         model.run(&ops);
//!         model.heal();
//!         model.check_complete();
//!     }
//! }
//! # everything_arrives_once_the_faults_are_over();
//! ```
//!
//! # A peer that violates the protocol
//!
//! ```
//! use tcpls_core::error::Violation;
//! use tcpls_core::testing::Peer;
//! use tcpls_core::testing::peer::{FIRST, frames};
//!
//! let mut peer = Peer::client(); // the session under test is a server
//! peer.send(FIRST, &[frames::stream(1, 0, b"a stream that only servers open")]);
//! peer.assert_failed(Violation::StreamOfWrongSide(1));
//! ```

pub mod ledger;
pub mod null;
#[cfg(feature = "openssl")]
pub mod openssl;
mod ops;
mod oracle;
mod pair;
pub mod peer;
pub mod recordings;
#[cfg(feature = "testing-proptest")]
pub mod strategies;
pub mod tls;

pub use self::ledger::Ledger;
pub use self::null::{NullHandshake, NullTicket, NullTickets};
pub use self::ops::{Model, Op};
pub use self::oracle::Oracle;
pub use self::pair::{End, Flow, Inbox, Pair, Role, Setup};
pub use self::peer::Peer;
pub use self::recordings::Recordings;
pub use self::tls::Tls;

use crate::crypto::rng::Seed;

/// The AEADs of TLS 1.3, for the benchmark.
#[doc(hidden)]
pub mod aead {
    pub use crate::crypto::aead::*;
}

/// The hellos of joins, as a script of a [`Peer`] changes them.
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
