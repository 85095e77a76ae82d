//! What travels: identifiers, frames, TLS records and the apparent handshake of a join.
//!
//! Pure encoding and decoding. Nothing here knows a session, a stream's state or a key.

pub mod codec;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod record;
