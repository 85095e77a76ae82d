//! Why TCP connections are lost.

use core::fmt;

use super::alert::AlertDescription;

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
    /// The peer sent an alert in clear, or a fatal one before the TCP connection was authenticated.
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
            Self::PeerReset(reason) => match reset_reason(*reason) {
                Some(name) => write!(f, "given up by the peer (reason {reason}: {name})"),
                None => write!(f, "given up by the peer (reason {reason})"),
            },
            Self::NotTls => f.write_str("bytes that are not TLS"),
            Self::RecordOverflow => f.write_str("oversized record"),
            Self::UnexpectedRecord => f.write_str("unexpected record type"),
            Self::BadRecord => f.write_str("record failed to decrypt"),
            Self::Alert(n) => AlertDescription(*n).fmt(f),
            Self::JoinTimeout => f.write_str("join timed out"),
            Self::JoinRefused => f.write_str("join refused"),
            Self::UserTimeout => f.write_str("no acknowledgment in time"),
            Self::Retired => f.write_str("retired"),
            Self::SessionClosed => f.write_str("session closed"),
        }
    }
}

/// What the reasons in Connection Reset with reason mean (decision D50).
const fn reset_reason(reason: u8) -> Option<&'static str> {
    Some(match reason {
        1 => "its socket ended",
        2 => "bad bytes, or a record that failed to decrypt",
        3 => "an alert",
        4 => "a timeout",
        TcpFault::REASON_RETIRED => "retired",
        _ => return None,
    })
}
