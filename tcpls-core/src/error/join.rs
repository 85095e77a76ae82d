//! Reasons for which a server refuses a join.

use core::fmt;

use super::Alert;

/// Why a server refused a TCP connection that presented a token of a session. Each reason has the alert that the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// The token is used up, or the session never issued it.
    Token,
    /// As many TCP connections as may claim the token, or the session, were waiting to be authenticated.
    Crowded,
    /// The session is closing, or without TCPLS.
    Closing,
    /// The ClientHello does not fit the session: another server name, application protocol or cipher suite.
    Hello,
    /// Bytes that are not TLS records.
    NotTls,
    /// Records that a join does not have.
    Malformed,
    /// The first record did not decrypt: the client does not have the session's keys.
    NotAuthenticated,
    /// Another TCP connection with the same token was authenticated first.
    Overtaken,
    /// It was not authenticated in time.
    Timeout,
}

impl JoinRefusal {
    /// Returns the alert that the client gets.
    pub const fn alert(self) -> Alert {
        match self {
            Self::Token | Self::Crowded | Self::Closing | Self::Hello | Self::Overtaken => Alert::IllegalParameter,
            Self::NotTls => Alert::DecodeError,
            Self::Malformed => Alert::UnexpectedMessage,
            Self::NotAuthenticated => Alert::BadRecordMac,
            Self::Timeout => Alert::UserCanceled,
        }
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "its token is used up, or was never issued",
            Self::Crowded => "too many joins of its session are waiting to be authenticated",
            Self::Closing => "its session is closing",
            Self::Hello => {
                "its ClientHello has another server name, application protocol or cipher suite than its session"
            }
            Self::NotTls => "it sent bytes that are not TLS records",
            Self::Malformed => "it sent records that a join does not have",
            Self::NotAuthenticated => "its first record did not decrypt with the keys of its session",
            Self::Overtaken => "another TCP connection with the same token was authenticated first",
            Self::Timeout => "it was not authenticated in time",
        })
    }
}
