//! Error codes that the protocol itself sends in Close Session, Reset Stream and Stop Sending. They have the top bit
//! set; the rest of the space is the application's.

use crate::wire::ids::ErrorCode;

/// Nothing is wrong.
pub const NO_ERROR: ErrorCode = ErrorCode(0);
/// The peer broke a rule of the protocol that has no code of its own.
pub const PROTOCOL_VIOLATION: ErrorCode = ErrorCode(0x8000_0001);
/// A frame that could not be decoded, or of unknown type.
pub const FRAME_ENCODING: ErrorCode = ErrorCode(0x8000_0002);
/// More data or streams than allowed.
pub const FLOW_CONTROL: ErrorCode = ErrorCode(0x8000_0003);
/// Data past the final size, or two final sizes.
pub const FINAL_SIZE: ErrorCode = ErrorCode(0x8000_0004);
/// A stream that the peer may not use.
pub const STREAM_STATE: ErrorCode = ErrorCode(0x8000_0005);
/// Too much overhead for too little data.
pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(0x8000_0006);
/// The AEAD limits are reached.
pub const AEAD_LIMIT: ErrorCode = ErrorCode(0x8000_0007);
/// A bug at the end that sends it.
pub const INTERNAL: ErrorCode = ErrorCode(0x8000_0008);
/// Nothing was heard for the idle timeout.
pub const IDLE_TIMEOUT: ErrorCode = ErrorCode(0x8000_0009);
/// The end that sends it needs what the session holds for other sessions.
pub const OVERLOADED: ErrorCode = ErrorCode(0x8000_000a);
