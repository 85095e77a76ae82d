//! Violations of the protocol by the peer.

use core::fmt;

use super::alert::{Alert, AlertDescription};
use super::code;
use crate::wire::ids::ErrorCode;

/// A violation *inside* authentic records. It is a fault of the peer, not of a path, so the session ends. One variant
/// per rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A frame type that is not in the table, or is not allowed in this session.
    UnknownFrame(u8),
    /// The fields of a frame exceed the rest of the record.
    TruncatedFrame(u8),
    /// A field has an invalid value (address version, connection status, repeated parameter …).
    InvalidField(u8),
    /// A record with neither a frame nor an alert.
    EmptyRecord,
    /// A record whose inner plaintext is longer than TLS allows (RFC 8446, 5.4).
    RecordOverflow,
    /// A frame that is not allowed in early data.
    EarlyFrame(u8),
    /// A client sent a token.
    TokenFromClient,
    /// A server sent Lane.
    LaneFromServer,
    /// The sequence number of a token is 0, or arrived before with another value.
    ConflictingToken(u32),
    /// More tokens than a client stores.
    TooManyTokens,
    /// More addresses than an endpoint stores.
    TooManyAddresses,
    /// An acknowledgment of a record that was never sent.
    AckOfUnsent,
    /// A frame names a TCP connection that never existed, or the one that carries the frame.
    UnknownTcp(u32),
    /// A stream that only this endpoint may open.
    StreamOfWrongSide(u32),
    /// More streams than allowed.
    TooManyStreams(u32),
    /// Data past a flow-control limit.
    FlowControl,
    /// Data past the final size, or a second, different final size.
    FinalSize(u32),
    /// A stream offset beyond 2⁶².
    OffsetTooLarge(u32),
    /// More ranges with gaps between them than allowed.
    TooManyGaps(u32),
    /// Other Session Parameters than before, or none in time.
    Parameters,
    /// Drain with another number than before, or of more streams than this endpoint has opened.
    Drain,
    /// A request for a TCP option beyond the limit, or an answer to one that was never sent.
    OptionRequest(u32),
    /// Too much overhead for too little data.
    EnhanceYourCalm,
    /// An alert that is not allowed here, or a fatal one.
    FatalAlert(u8),
    /// A post-handshake message that is unknown, cut short or too long.
    HandshakeMessage,
    /// More key updates than allowed.
    TooManyKeyUpdates,
    /// Too many records that failed to open.
    IntegrityLimit,
}

impl Violation {
    /// The code that Close Session carries.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::UnknownFrame(_) | Self::TruncatedFrame(_) | Self::InvalidField(_) | Self::EmptyRecord => {
                code::FRAME_ENCODING
            }
            Self::FlowControl | Self::TooManyStreams(_) => code::FLOW_CONTROL,
            Self::FinalSize(_) => code::FINAL_SIZE,
            Self::StreamOfWrongSide(_) => code::STREAM_STATE,
            Self::EnhanceYourCalm
            | Self::TooManyGaps(_)
            | Self::TooManyTokens
            | Self::TooManyAddresses
            | Self::TooManyKeyUpdates => code::ENHANCE_YOUR_CALM,
            Self::IntegrityLimit => code::AEAD_LIMIT,
            _ => code::PROTOCOL_VIOLATION,
        }
    }

    /// The fatal alert that follows it.
    pub const fn alert(self) -> Alert {
        match self {
            Self::UnknownFrame(_) | Self::TruncatedFrame(_) | Self::HandshakeMessage => Alert::DecodeError,
            Self::InvalidField(_)
            | Self::Parameters
            | Self::Drain
            | Self::OptionRequest(_)
            | Self::ConflictingToken(_) => Alert::IllegalParameter,
            Self::IntegrityLimit => Alert::BadRecordMac,
            Self::RecordOverflow => Alert::RecordOverflow,
            _ => Alert::UnexpectedMessage,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFrame(ty) => write!(f, "unknown frame type {ty:#04x}"),
            Self::TruncatedFrame(ty) => write!(f, "frame of type {ty:#04x} is truncated"),
            Self::InvalidField(ty) => write!(f, "frame of type {ty:#04x} has a field with an invalid value"),
            Self::EmptyRecord => f.write_str("record without a frame"),
            Self::RecordOverflow => f.write_str("record longer than TLS allows"),
            Self::EarlyFrame(ty) => write!(f, "frame of type {ty:#04x} in early data"),
            Self::TokenFromClient => f.write_str("token from a client"),
            Self::LaneFromServer => f.write_str("Lane from a server"),
            Self::ConflictingToken(n) => write!(f, "token {n} has another value than before"),
            Self::TooManyTokens => f.write_str("too many tokens"),
            Self::TooManyAddresses => f.write_str("too many addresses"),
            Self::AckOfUnsent => f.write_str("acknowledgment of a record that was not sent"),
            Self::UnknownTcp(n) => {
                write!(f, "frame names TCP connection {n}, which does not exist or carries the frame")
            }
            Self::StreamOfWrongSide(n) => write!(f, "stream {n} can be opened only by this endpoint"),
            Self::TooManyStreams(n) => write!(f, "stream {n} is beyond the limit"),
            Self::FlowControl => f.write_str("data beyond a flow-control limit"),
            Self::FinalSize(n) => write!(f, "stream {n} has two final sizes, or data past the final size"),
            Self::OffsetTooLarge(n) => write!(f, "stream {n} has an offset beyond 2^62"),
            Self::TooManyGaps(n) => write!(f, "stream {n} has too many gaps"),
            Self::Parameters => f.write_str("Session Parameters are missing, or differ from earlier ones"),
            Self::Drain => f.write_str("Drain names streams that were never opened, or differs from an earlier one"),
            Self::OptionRequest(n) => write!(f, "option request {n} is beyond the limit, or was never sent"),
            Self::EnhanceYourCalm => f.write_str("too much overhead for too little data"),
            Self::FatalAlert(n) => AlertDescription(*n).fmt(f),
            Self::HandshakeMessage => f.write_str("post-handshake message that TLS does not allow here"),
            Self::TooManyKeyUpdates => f.write_str("too many key updates"),
            Self::IntegrityLimit => f.write_str("too many records failed to decrypt"),
        }
    }
}

impl core::error::Error for Violation {}
