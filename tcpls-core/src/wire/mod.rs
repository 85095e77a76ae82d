//! The wire format: identifiers, frames, TLS records and the apparent handshake of a join. [`frame`] and [`record`] are
//! codecs that need no session; tools, tests and fuzzing can use them, too.
//!
//! This layer only encodes and decodes. It knows no session, stream state or key. For any input, a decoder does not
//! panic or read out of bounds, and its work is linear in the length of the input.

pub(crate) mod codec;
pub mod frame;
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "the feature `testing` shows it to tests"))]
pub(crate) mod hello;
pub mod ids;
pub mod record;

pub use self::hello::ExtensionTypes;
