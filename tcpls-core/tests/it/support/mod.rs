//! What the tests share: a world in which two ends of a session (`end`) talk over simulated TCP connections (`pair`, `pipe`),
//! with every nonce watched (`ledger`), TLS that comes out the same in every run (`tls`), and a scripted peer that can break
//! every rule (`peer`); and plain sessions without any protection (`unprotected`).

pub mod end;
pub mod ledger;
pub mod pair;
pub mod peer;
pub mod pipe;
pub mod tls;
pub mod unprotected;

pub use self::pair::{Pair, Setup};
pub use self::tls::Tls;
pub use tcpls_core::wire::ids::Side::{self, Client, Server};
