//! TLS alerts (RFC 8446, 6).

use core::fmt;

/// TLS alert descriptions that this crate sends (RFC 8446, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Alert {
    /// 0: the sender sends no more data on the session (draft, 4.5).
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
    /// 70: the peer does not support TLS 1.3.
    ProtocolVersion = 70,
    /// 80
    InternalError = 80,
    /// 90
    UserCanceled = 90,
    /// 120
    NoApplicationProtocol = 120,
}

/// The description of a received alert, known or not. Displays its name: `alert 47 (illegal_parameter)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    /// Returns the name in IANA's registry of TLS alerts; `None` if it has none.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            21 => "decryption_failed",
            22 => "record_overflow",
            30 => "decompression_failure",
            40 => "handshake_failure",
            41 => "no_certificate",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            60 => "export_restriction",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            100 => "no_renegotiation",
            109 => "missing_extension",
            110 => "unsupported_extension",
            111 => "certificate_unobtainable",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            114 => "bad_certificate_hash_value",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            121 => "ech_required",
            _ => return None,
        })
    }

    /// Whether a TLS 1.3 server sends it only about the client's certificate, or the lack of one.
    pub(crate) const fn is_about_certificate(self) -> bool {
        matches!(self.0, 42..=46 | 48 | 49 | 51 | 116)
    }

    /// Whether it reports that the bytes on a TCP connection were not a valid record (decision D54).
    pub(crate) const fn is_about_the_path(self) -> bool {
        matches!(self.0, 10 | 20 | 22) // unexpected_message, bad_record_mac, record_overflow
    }

    /// The likely cause, if a handshake was refused with it.
    const fn hint(self) -> Option<&'static str> {
        Some(match self.0 {
            40 => "no cipher suite or key exchange in common",
            42..=46 | 48 => "it does not accept this endpoint's certificate",
            49 => "it accepts this endpoint's certificate, but denies access",
            50 => "it could not decode a message",
            51 => "it could not verify a signature, possibly of this endpoint's certificate",
            70 => "no version of TLS in common",
            112 => "it has no certificate for this name",
            116 => "it requires a client certificate",
            120 => "no application protocol in common",
            _ => return None,
        })
    }

    /// The kind of handshake error, if the peer refused the handshake with it.
    pub(crate) fn refusal(self) -> String {
        let hint = self.hint().map(|hint| format!(": {hint}")).unwrap_or_default();
        format!("the peer refused it with {self}{hint}")
    }
}

impl fmt::Display for AlertDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "alert {} ({name})", self.0),
            None => write!(f, "alert {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_shown_with_their_names() {
        assert_eq!(AlertDescription(47).to_string(), "alert 47 (illegal_parameter)");
        assert_eq!(AlertDescription(116).to_string(), "alert 116 (certificate_required)");
        assert_eq!(AlertDescription(200).to_string(), "alert 200");
        // rustls has the same numbers; it spells two names differently.
        for number in 0..=u8::MAX {
            let foreign = format!("{:?}", rustls::AlertDescription::from(number)).to_lowercase();
            let foreign = foreign.replace("recognised", "recognized").replace("encryptedclienthello", "ech");
            if let Some(name) = AlertDescription(number).name().filter(|_| !foreign.starts_with("unknown(")) {
                assert_eq!(foreign, name.replace('_', ""), "{number}");
            }
        }
    }
}
