//! Why a call could not do what it was asked for.

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
        /// It never existed, or has ended.
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
        /// 16 addresses are advertised already, withdrawn ones that the peer has not acknowledged included.
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
            Self::Stopped(error) => write!(f, "the peer reads no more ({})", Named(*error)),
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
            Self::Reset(error) => write!(f, "the peer reset the stream ({})", Named(*error)),
            Self::Truncated => f.write_str("the session ended before the stream did"),
            Self::Stopped => f.write_str("this side stopped reading"),
            Self::Unknown => f.write_str("no such stream"),
        }
    }
}

impl core::error::Error for ReadError {}
