//! Identifiers on the wire. Every layer may import this file; it imports nothing.

use core::fmt;

/// One of the two endpoints of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The endpoint that opens all TCP connections (draft, 4.2).
    Client,
    /// The endpoint that accepts TCP connections and issues tokens.
    Server,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

impl Side {
    /// Returns the other endpoint.
    pub const fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The 32-bit connection ID: identifies a *TCP connection* of a session (draft, 4.2.1).
///
/// A value of this type is called `tcp` everywhere, because the type `Connection` is the session.
// draft I15
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

impl ConnectionId {
    /// The TCP connection that carried the TLS handshake.
    pub const FIRST: Self = Self(0);
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp {}", self.0)
    }
}

/// A stream's 32-bit ID: even if the client opened it, odd if the server did (draft, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The `index`-th stream (from 0) that `side` opens; `None` past the last one, index 2³¹ − 1.
    // draft I05
    pub const fn new(side: Side, index: u32) -> Option<Self> {
        if index > u32::MAX / 2 {
            return None;
        }
        Some(Self(index * 2 + matches!(side, Side::Server) as u32))
    }

    /// Returns the endpoint that opened it.
    pub const fn initiator(self) -> Side {
        if self.0.is_multiple_of(2) { Side::Client } else { Side::Server }
    }

    /// How many streams its initiator had opened before it.
    pub const fn index(self) -> u32 {
        self.0 / 2
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// The number of a record on one TCP connection in one direction, as ACK frames count it.
///
/// It counts from 0 since the application keys first came into use there and never goes back, while the
/// AEAD's own sequence restarts at a key update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordSeq(pub u64);

impl RecordSeq {
    /// The number after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Identifies an advertised address (draft, 5.2.7): the same one for the whole session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressId(pub u8);

/// Identifies a request for a TCP option, counted per endpoint and session from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionRequestId(pub u32);

impl fmt::Display for OptionRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option request {}", self.0)
    }
}

/// A token's 32 opaque bytes, with which a client joins one TCP connection.
///
/// `Debug` shows none of its bytes. Comparison takes constant time.
#[derive(Clone, Copy)]
pub struct Token(pub [u8; 32]);

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        let mut difference = 0;
        for (a, b) in self.0.iter().zip(&other.0) {
            difference |= a ^ b;
        }
        core::hint::black_box(difference) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Identifies a session at all endpoints that share a token secret.
///
/// The 12 bytes are random, except that in a farm the first two are the server's ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 12]);

impl SessionId {
    /// Returns the server that has the session. Meaningless for a session of a server without an ID.
    pub const fn server(self) -> ServerId {
        ServerId(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// Returns the same ID, as one of `server`'s.
    pub(crate) const fn of(mut self, server: ServerId) -> Self {
        [self.0[0], self.0[1]] = server.0.to_be_bytes();
        self
    }
}

/// Identifies a server of a farm, whose processes share a token secret: one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u16);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server {}", self.0)
    }
}

/// An error code chosen by the application or by the protocol (see `error::code`), as frames carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub u32);

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_read_as_what_they_name() {
        assert_eq!(ConnectionId(3).to_string(), "tcp 3");
        assert_eq!(StreamId(4).to_string(), "stream 4");
        assert_eq!(ErrorCode(0x1f).to_string(), "0x1f");
        assert_eq!(ServerId(7).to_string(), "server 7");
        assert_eq!(OptionRequestId(5).to_string(), "option request 5");
    }

    #[test]
    fn first_two_bytes_of_a_session_id_are_the_servers() {
        let id = SessionId([9; 12]).of(ServerId(0x0102));
        assert_eq!((id, id.server()), (SessionId([1, 2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]), ServerId(0x0102)));
    }

    #[test]
    fn a_token_is_not_shown_in_a_log() {
        assert_eq!(format!("{:?}", Token([7; 32])), "Token(..)");
    }
}
