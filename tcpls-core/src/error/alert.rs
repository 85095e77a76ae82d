//! TLS alerts (RFC 8446, 6).

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
