//! Why TCP connections are lost.

use core::fmt;

use super::alert::AlertDescription;

/// Why a TCP connection was lost. The session continues if it has, or gets, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TcpFault {
    /// The peer sent a FIN, and the session has not ended.
    Fin,
    /// The socket was reset.
    Reset,
    /// The socket failed in another way.
    Io,
    /// This host's interface went down, or the local address was removed.
    PathDown,
    /// The peer reported that it lost this TCP connection, with its reason.
    PeerReset(u8),
    /// The bytes received are not a TLS record.
    NotTls,
    /// A record longer than TLS allows.
    RecordOverflow,
    /// A record of a type that is not allowed here.
    UnexpectedRecord,
    /// A record that failed to decrypt: an attacker or a broken middlebox on the path.
    BadRecord,
    /// A plaintext alert, or a fatal one before the TCP connection was authenticated.
    Alert(u8),
    /// A join that did not succeed in time.
    JoinTimeout,
    /// A join got an answer that no server of the session sends.
    JoinRefused,
    /// No acknowledgment arrived within the user timeout.
    UserTimeout,
    /// This endpoint retired it: at the application's request, or to make room for one that joined.
    Retired,
    /// The session ended.
    SessionClosed,
}

impl TcpFault {
    /// The reason in Connection Reset of a retired TCP connection.
    pub(crate) const REASON_RETIRED: u8 = 5;
    /// The reason in Connection Reset of one whose path is down.
    pub(crate) const REASON_PATH_DOWN: u8 = 6;

    /// Whether an endpoint retired the TCP connection intentionally, or the session ended: its path has no fault.
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
            Self::PathDown => f.write_str("its interface is down, or its local address was removed"),
            Self::PeerReset(reason) => match reset_reason(*reason) {
                Some(name) => write!(f, "closed by the peer (reason {reason}: {name})"),
                None => write!(f, "closed by the peer (reason {reason})"),
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

/// The meaning of the codes in Connection Reset with reason (decision D50).
const fn reset_reason(reason: u8) -> Option<&'static str> {
    Some(match reason {
        1 => "its socket ended",
        2 => "invalid bytes, or a record that failed to decrypt",
        3 => "an alert",
        4 => "a timeout",
        TcpFault::REASON_RETIRED => "retired",
        TcpFault::REASON_PATH_DOWN => "its interface is down, or its address was removed",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_peer_are_shown_with_their_meaning() {
        let shown = TcpFault::PeerReset(6).to_string();
        assert_eq!(shown, "closed by the peer (reason 6: its interface is down, or its address was removed)");
        assert_eq!(TcpFault::PeerReset(7).to_string(), "closed by the peer (reason 7)");
    }
}
