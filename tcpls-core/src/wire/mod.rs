//! What travels: identifiers, frames, TLS records and the apparent handshake of a join.
//!
//! Pure encoding and decoding. Nothing here knows a session, a stream's state or a key; no decoder panics, reads out
//! of bounds or does more work than its input is long, whatever the bytes.

pub(crate) mod codec;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod record;
