//! What the tests share: a world in which two ends of a session (`end`) talk over simulated TCP connections (`pair`, `pipe`),
//! and a scripted peer that can break every rule (`peer`).

pub mod end;
pub mod pair;
pub mod peer;
pub mod pipe;

pub use self::pair::{Pair, Setup};
pub use tcpls_core::testing::{Ledger, NullHandshake, Tls, seed, tls};
pub use tcpls_core::wire::ids::Side::{self, Client, Server};
