//! What can go wrong, by whose fault: the peer's ([`PeerMisbehaved`]), the path's ([`TcpFault`]), the caller's (one
//! small enum per call), or nobody's ([`CloseReason`]).

use core::fmt;

use crate::wire::ids::ErrorCode;

/// TLS alert descriptions that this crate sends (RFC 8446, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Alert {
    /// 0: this side sends no more data on the session (draft, 4.5).
    CloseNotify = 0,
    /// 10
    UnexpectedMessage = 10,
    /// 20: a record failed to decrypt.
    BadRecordMac = 20,
    /// 22
    RecordOverflow = 22,
    /// 40
    HandshakeFailure = 40,
    /// 47: also the answer to a join whose token is not valid (draft, 5.1.2).
    IllegalParameter = 47,
    /// 50
    DecodeError = 50,
    /// 70: the peer speaks no TLS 1.3.
    ProtocolVersion = 70,
    /// 80
    InternalError = 80,
    /// 90
    UserCanceled = 90,
    /// 120
    NoApplicationProtocol = 120,
}

/// Error codes that the protocol itself sends in Close Session, Reset Stream and Stop Sending. They have the top bit
/// set; the rest of the space is the application's.
pub mod code {
    use super::ErrorCode;

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
}

/// A rule that the peer broke *inside* authentic records: it is the peer that is broken, not the path, so the session
/// ends. One variant per rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// A frame type that is not in the table, or is not allowed in this session.
    UnknownFrame(u8),
    /// A frame's fields did not fit in what was left of the record.
    TruncatedFrame(u8),
    /// A field has a value that it can't have (address version, connection status, parameter twice …).
    InvalidField(u8),
    /// A record with neither a frame nor an alert.
    EmptyRecord,
    /// A record whose inner plaintext is longer than TLS allows (RFC 8446, 5.4).
    RecordOverflow,
    /// A client sent a token.
    TokenFromClient,
    /// A token's sequence number is 0, or came before with another value.
    ConflictingToken(u32),
    /// More tokens than a client stores.
    TooManyTokens,
    /// More addresses than an endpoint stores.
    TooManyAddresses,
    /// An acknowledgment of a record that was never sent.
    AckOfUnsent,
    /// A frame names a TCP connection that never was, or the one it travels on.
    UnknownTcp(u32),
    /// A stream that only this side may open.
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
    /// Parameters twice, or a frame that needs them came before.
    Parameters,
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

impl PeerMisbehaved {
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
            Self::InvalidField(_) | Self::Parameters | Self::ConflictingToken(_) => Alert::IllegalParameter,
            Self::IntegrityLimit => Alert::BadRecordMac,
            Self::RecordOverflow => Alert::RecordOverflow,
            _ => Alert::UnexpectedMessage,
        }
    }
}

impl fmt::Display for PeerMisbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFrame(ty) => write!(f, "frame type {ty:#04x} is not known here"),
            Self::TruncatedFrame(ty) => write!(f, "frame of type {ty:#04x} is cut short"),
            Self::InvalidField(ty) => write!(f, "frame of type {ty:#04x} has a field with a value it can't have"),
            Self::EmptyRecord => f.write_str("record without a frame"),
            Self::RecordOverflow => f.write_str("record longer than TLS allows"),
            Self::TokenFromClient => f.write_str("token from a client"),
            Self::ConflictingToken(n) => write!(f, "token {n} conflicts with what came before"),
            Self::TooManyTokens => f.write_str("too many tokens"),
            Self::TooManyAddresses => f.write_str("too many addresses"),
            Self::AckOfUnsent => f.write_str("acknowledgment of a record that was not sent"),
            Self::UnknownTcp(n) => write!(f, "frame names TCP connection {n}, which it may not"),
            Self::StreamOfWrongSide(n) => write!(f, "stream {n} is not the peer's to open"),
            Self::TooManyStreams(n) => write!(f, "stream {n} is beyond the limit"),
            Self::FlowControl => f.write_str("data beyond a flow-control limit"),
            Self::FinalSize(n) => write!(f, "stream {n} has two final sizes, or data past the final size"),
            Self::OffsetTooLarge(n) => write!(f, "stream {n} has an offset beyond 2^62"),
            Self::TooManyGaps(n) => write!(f, "stream {n} has too many gaps"),
            Self::Parameters => f.write_str("session parameters missing or sent twice"),
            Self::EnhanceYourCalm => f.write_str("too much overhead for too little data"),
            Self::FatalAlert(n) => write!(f, "alert {n}"),
            Self::HandshakeMessage => f.write_str("post-handshake message that can't be"),
            Self::TooManyKeyUpdates => f.write_str("too many key updates"),
            Self::IntegrityLimit => f.write_str("too many records failed to decrypt"),
        }
    }
}

impl core::error::Error for PeerMisbehaved {}

/// Why one TCP connection is of no more use. The session lives on if it has, or gets, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TcpFault {
    /// The peer's FIN came while the session goes on.
    Fin,
    /// The socket was reset.
    Reset,
    /// The socket failed in another way.
    Io,
    /// The peer says that it lost this TCP connection, with its reason.
    PeerReset(u8),
    /// Bytes that are no TLS record.
    NotTls,
    /// A record longer than TLS allows.
    RecordOverflow,
    /// A record type that can't come here.
    UnexpectedRecord,
    /// A record that failed to decrypt: an attacker or a broken middlebox on the path.
    BadRecord,
    /// The peer sent an alert in clear, or a fatal one before the TCP connection was proven.
    Alert(u8),
    /// A join that did not succeed in time.
    JoinTimeout,
    /// A join that the peer answered with something else.
    JoinRefused,
    /// No acknowledgment came for the user timeout.
    UserTimeout,
    /// This side retired it, as the application asked, or to make room for one that joined.
    Retired,
    /// The session ended.
    SessionClosed,
}

impl TcpFault {
    /// The reason in Connection Reset that says: retired on purpose.
    pub(crate) const REASON_RETIRED: u8 = 5;

    /// Whether this side's or the peer's application left the TCP connection on purpose, or the session ended: nothing is
    /// wrong with its path.
    pub const fn was_meant(self) -> bool {
        matches!(self, Self::Retired | Self::PeerReset(Self::REASON_RETIRED) | Self::SessionClosed)
    }
}

impl fmt::Display for TcpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fin => f.write_str("ended by the peer"),
            Self::Reset => f.write_str("reset"),
            Self::Io => f.write_str("socket error"),
            Self::PeerReset(reason) => write!(f, "given up by the peer (reason {reason})"),
            Self::NotTls => f.write_str("bytes that are not TLS"),
            Self::RecordOverflow => f.write_str("oversized record"),
            Self::UnexpectedRecord => f.write_str("unexpected record type"),
            Self::BadRecord => f.write_str("record failed to decrypt"),
            Self::Alert(n) => write!(f, "alert {n}"),
            Self::JoinTimeout => f.write_str("join timed out"),
            Self::JoinRefused => f.write_str("join refused"),
            Self::UserTimeout => f.write_str("no acknowledgment in time"),
            Self::Retired => f.write_str("retired"),
            Self::SessionClosed => f.write_str("session closed"),
        }
    }
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side's application closed it.
    Local {
        /// What the application gave.
        error: ErrorCode,
    },
    /// The peer closed it.
    Peer {
        /// What the peer gave; 0 if it sent close_notify alone.
        error: ErrorCode,
        /// Text for people, as sent; at most 1 KiB of it is kept.
        reason: Vec<u8>,
    },
    /// The peer broke the protocol.
    Misbehaved(PeerMisbehaved),
    /// The TLS handshake failed, at this side's judgment or the peer's.
    Handshake(HandshakeError),
    /// The handshake did not end in time.
    HandshakeTimeout,
    /// The only TCP connection ended before the handshake did.
    LostInHandshake(TcpFault),
    /// Nothing was heard for the idle timeout.
    IdleTimeout,
    /// No TCP connection was left for the session timeout.
    Stranded,
    /// The AEAD limits are reached and the keys could not be renewed.
    AeadLimit,
    /// A session without TCPLS lost its TCP connection.
    PlainTcpEnded(TcpFault),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { error } => write!(f, "closed by this side (error {error})"),
            Self::Peer { error, reason } if reason.is_empty() => write!(f, "closed by the peer (error {error})"),
            Self::Peer { error, reason } => {
                write!(f, "closed by the peer (error {error}): {}", String::from_utf8_lossy(reason))
            }
            Self::Misbehaved(rule) => write!(f, "peer misbehaved: {rule}"),
            Self::Handshake(error) => write!(f, "handshake failed: {error}"),
            Self::HandshakeTimeout => f.write_str("handshake timed out"),
            Self::LostInHandshake(fault) => write!(f, "TCP connection ended during the handshake: {fault}"),
            Self::IdleTimeout => f.write_str("idle timeout"),
            Self::Stranded => f.write_str("no TCP connection left"),
            Self::AeadLimit => f.write_str("key used up"),
            Self::PlainTcpEnded(fault) => write!(f, "TCP connection ended: {fault}"),
        }
    }
}

/// Why a TLS handshake failed, in the words of the TLS library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeError {
    /// What the TLS library says.
    pub message: String,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for HandshakeError {}

macro_rules! call_errors {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
        impl core::error::Error for $name {}
    )*};
}

call_errors! {
    /// Why no stream could be opened.
    OpenStreamError {
        /// The peer allows no more for now; `StreamEvent::Available` says when it does.
        Limit => "the peer allows no more streams for now",
        /// The session's 2³¹ stream numbers of this side are used up.
        Exhausted => "this session's stream numbers are used up",
        /// A session without TCPLS has only stream 0.
        Plain => "the peer does not speak TCPLS: there is only stream 0",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why a TCP connection could not be opened.
    OpenTcpError {
        /// Only clients open TCP connections.
        Server => "only clients open TCP connections",
        /// No token in hand; `Event::TokensAvailable` says when there is one.
        NoToken => "no token left to join with",
        /// The handshake has not come far enough.
        TooEarly => "the handshake is not far enough to join",
        /// A session without TCPLS has one TCP connection only.
        Plain => "the peer does not speak TCPLS: there is only one TCP connection",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why a TCP connection could not be retired, attached to, or given a status.
    TcpError {
        /// It never was, or is gone.
        Unknown => "no such TCP connection",
        /// It is the last one: close the session instead.
        Last => "it is the session's last TCP connection",
        /// A session without TCPLS has one TCP connection only.
        Plain => "the peer does not speak TCPLS",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why an address could not be advertised or withdrawn.
    AddressError {
        /// 256 addresses were advertised already.
        Exhausted => "all 256 address IDs are used up",
        /// 16 addresses are advertised already, those included of whose withdrawal the peer may not have heard.
        TooMany => "the peer takes no more addresses at once",
        /// No such address is advertised.
        Unknown => "no such address",
        /// The peer does not speak TCPLS.
        Plain => "the peer does not speak TCPLS",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
}

/// Why a write to a stream took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WriteError {
    /// No room for now; `StreamEvent::Writable` says when there is.
    Blocked,
    /// The peer reads no more of this stream, with its code.
    Stopped(ErrorCode),
    /// The stream was finished or reset by this side.
    Finished,
    /// No such stream, or it is over.
    Unknown,
    /// The session is closing or closed.
    Closed,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked => f.write_str("no room for now"),
            Self::Stopped(error) => write!(f, "the peer reads no more (error {error})"),
            Self::Finished => f.write_str("the stream is finished or reset"),
            Self::Unknown => f.write_str("no such stream"),
            Self::Closed => f.write_str("the session is closed"),
        }
    }
}

impl core::error::Error for WriteError {}

/// Why a read from a stream gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReadError {
    /// Nothing for now; `StreamEvent::Readable` says when there is.
    Blocked,
    /// The peer gave the stream up, with its code.
    Reset(ErrorCode),
    /// The session ended before the stream did: what was read is not all (draft, 4.5).
    Truncated,
    /// This side said that it reads no more.
    Stopped,
    /// No such stream, or it is over.
    Unknown,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked => f.write_str("nothing to read for now"),
            Self::Reset(error) => write!(f, "the peer reset the stream (error {error})"),
            Self::Truncated => f.write_str("the session ended before the stream did"),
            Self::Stopped => f.write_str("this side stopped reading"),
            Self::Unknown => f.write_str("no such stream"),
        }
    }
}

impl core::error::Error for ReadError {}
