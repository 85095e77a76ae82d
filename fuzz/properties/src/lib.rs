//! The properties of the fuzz targets: one function per target, which takes any input and panics if a property does not
//! hold.
//!
//! No fuzzer is needed here. `fuzz/fuzz_targets` calls these functions with what libFuzzer makes up, `tests/corpora.rs`
//! with the inputs that are kept in `fuzz/corpus`. Each file has one target; `choices`, `peer` and `model` are what they
//! share. The handshake and the keys, which encrypt nothing so that a fuzzer gets inside a session, are
//! `tcpls_core::testing`'s.

mod acks;
mod bytes;
mod capture;
mod choices;
mod early;
mod files;
mod frame;
mod hello;
mod invite;
mod joins;
mod model;
mod ops;
mod peer;
mod program;
mod proxy;
mod proxy_header;
mod reassembly;
mod record;
mod replay;
mod token;
mod view;

pub use self::acks::acks;
pub use self::bytes::bytes;
pub use self::capture::capture;
pub use self::early::early;
pub use self::files::files;
pub use self::frame::frame;
pub use self::hello::hello;
pub use self::invite::invite;
pub use self::joins::joins;
pub use self::ops::ops;
pub use self::program::program;
pub use self::proxy::proxy;
pub use self::proxy_header::proxy_header;
pub use self::reassembly::reassembly;
pub use self::record::record;
pub use self::replay::replay;
pub use self::token::token;
pub use self::view::view;
