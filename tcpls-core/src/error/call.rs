//! Errors of calls.

use core::fmt;

use super::code::Named;
use crate::wire::ids::ErrorCode;

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
        /// The peer allows no more streams now; `StreamEvent::Available` reports when it does.
        Limit => "the peer allows no more streams for now",
        /// All 2³¹ stream numbers of this endpoint are used up.
        Exhausted => "this session's stream numbers are used up",
        /// A session without TCPLS has only stream 0.
        Plain => "the peer does not support TCPLS: there is only stream 0",
        /// One of the endpoints drains the session: open a new one.
        Draining => "the session is draining and takes no new streams",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why a TCP connection could not be opened.
    OpenTcpError {
        /// Only clients open TCP connections.
        Server => "only clients open TCP connections",
        /// The client has no token; `Event::TokensAvailable` reports when there is one.
        NoToken => "no token left to join with",
        /// The handshake is not complete.
        TooEarly => "the handshake is not complete",
        /// A session without TCPLS has one TCP connection only.
        Plain => "the peer does not support TCPLS: there is only one TCP connection",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why a TCP connection could not be retired, attached to, or given a status.
    TcpError {
        /// The TCP connection never existed, or has ended.
        Unknown => "no such TCP connection",
        /// It is the last TCP connection: close the session instead.
        Last => "it is the session's last TCP connection",
        /// A session without TCPLS has one TCP connection only.
        Plain => "the peer does not support TCPLS",
        /// The session has only the draft's frames, none of which serves for this.
        DraftOnly => "the peer supports only the draft's frames",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why the peer could not be asked to set a TCP option.
    AskOptionError {
        /// The TCP connection never existed, or has ended.
        Unknown => "no such TCP connection",
        /// The value has more than 64 bytes.
        TooLong => "the option's value is longer than 64 bytes",
        /// 16 requests wait for the peer's answer; `Event::TcpOptionAnswered` reports when there is room.
        TooMany => "too many requests wait for the peer's answer",
        /// The peer does not answer requests, or has not said so yet.
        NotSupported => "the peer takes no requests for TCP options",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
    /// Why an address could not be advertised or withdrawn.
    AddressError {
        /// 256 addresses have been advertised in this session.
        Exhausted => "all 256 address IDs are used up",
        /// 16 addresses are advertised now, including withdrawn ones whose removal the peer has not acknowledged.
        TooMany => "the peer takes no more addresses at once",
        /// This address is not advertised.
        Unknown => "no such address",
        /// The peer does not support TCPLS.
        Plain => "the peer does not support TCPLS",
        /// The session is closing or closed.
        Closed => "the session is closed",
    }
}

/// Why a write to a stream took no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no room now; `StreamEvent::Writable` reports when there is.
    Blocked,
    /// The peer has stopped reading this stream, with its code.
    Stopped(ErrorCode),
    /// This endpoint has finished or reset the stream.
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
            Self::Stopped(error) => write!(f, "the peer stopped reading ({})", Named(*error)),
            Self::Finished => f.write_str("the stream is finished or reset"),
            Self::Unknown => f.write_str("no such stream"),
            Self::Closed => f.write_str("the session is closed"),
        }
    }
}

impl core::error::Error for WriteError {}

/// Why a read from a stream returned no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no data now; `StreamEvent::Readable` reports when there is.
    Blocked,
    /// The peer has reset the stream, with its code.
    Reset(ErrorCode),
    /// The session ended before the stream did: the data is incomplete (draft, 4.5).
    Truncated,
    /// This endpoint has stopped reading.
    Stopped,
    /// No such stream, or it is over.
    Unknown,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocked => f.write_str("nothing to read for now"),
            Self::Reset(error) => write!(f, "the peer reset the stream ({})", Named(*error)),
            Self::Truncated => f.write_str("the session ended before the stream did"),
            Self::Stopped => f.write_str("this endpoint stopped reading"),
            Self::Unknown => f.write_str("no such stream"),
        }
    }
}

impl core::error::Error for ReadError {}
