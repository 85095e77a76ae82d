//! What travels: identifiers, frames, TLS records and the apparent handshake of a join. [`frame`] and [`record`] are the
//! codecs: they need no session and are meant for tools, tests and fuzzing, too.
//!
//! Pure encoding and decoding. Nothing here knows a session, a stream's state or a key; no decoder panics, reads out
//! of bounds or does more work than its input is long, whatever the bytes.

pub(crate) mod codec;
pub mod frame;
#[cfg_attr(not(feature = "testing"), allow(unreachable_pub, reason = "the feature `testing` shows it to tests"))]
pub(crate) mod hello;
pub mod ids;
pub mod record;

pub use self::hello::ExtensionTypes;
