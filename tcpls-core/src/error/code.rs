//! Error codes that the protocol itself sends in Close Session, Reset Stream and Stop Sending. They have the top bit
//! set; the rest of the space is the application's.

use core::fmt;

use crate::wire::ids::ErrorCode;

/// No error.
pub const NO_ERROR: ErrorCode = ErrorCode(0);
/// A violation of the protocol without a code of its own.
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
/// A bug in the sender.
pub const INTERNAL: ErrorCode = ErrorCode(0x8000_0008);
/// The session was idle for the idle timeout.
pub const IDLE_TIMEOUT: ErrorCode = ErrorCode(0x8000_0009);
/// The sender needs the resources of the session for other sessions.
pub const OVERLOADED: ErrorCode = ErrorCode(0x8000_000a);
/// The sender drains the session and has not processed this stream: it is safe to repeat on another session.
pub const NOT_PROCESSED: ErrorCode = ErrorCode(0x8000_000b);

/// Returns the name of a code of the protocol (`docs/protocol.md`, section 8); `None` for codes of applications.
pub const fn name(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        NO_ERROR => "no error",
        PROTOCOL_VIOLATION => "protocol violation",
        FRAME_ENCODING => "frame encoding",
        FLOW_CONTROL => "flow control",
        FINAL_SIZE => "final size",
        STREAM_STATE => "stream state",
        ENHANCE_YOUR_CALM => "enhance your calm",
        AEAD_LIMIT => "AEAD limit",
        INTERNAL => "internal",
        IDLE_TIMEOUT => "idle timeout",
        OVERLOADED => "overloaded",
        NOT_PROCESSED => "not processed",
        _ => return None,
    })
}

/// A code with its name, if it has one: `error 0x80000003, flow control`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named(pub(super) ErrorCode);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) if self.0 == NO_ERROR => f.write_str(name),
            Some(name) => write!(f, "error {}, {name}", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_protocol_are_shown_with_their_names() {
        assert_eq!(Named(NO_ERROR).to_string(), "no error");
        assert_eq!(Named(FLOW_CONTROL).to_string(), "error 0x80000003, flow control");
        assert_eq!(Named(ErrorCode(0x101)).to_string(), "error 0x101");
    }
}
