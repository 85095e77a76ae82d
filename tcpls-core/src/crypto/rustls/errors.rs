//! Maps errors of rustls to kinds that are the same for every TLS library.

use rustls::{CertificateError, Error, PeerIncompatible};

use crate::error::{AlertDescription, HandshakeError, HandshakeErrorKind as Kind};

/// The configuration of this endpoint is invalid.
pub(super) fn misconfigured(message: &str) -> HandshakeError {
    HandshakeError::new(Kind::Configuration, message)
}

/// The handshake stopped without an error of rustls.
pub(super) fn failure(kind: Kind, message: &str) -> HandshakeError {
    HandshakeError::new(kind, message)
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        let neutral = match &error {
            Error::AlertReceived(alert) => Self::refused(AlertDescription(u8::from(*alert))),
            Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(_)) => Self::new(
                Kind::Incompatible,
                "the server rejected Encrypted ClientHello: it no longer has the keys of this configuration",
            ),
            error => Self::new(kind(error), error.to_string()),
        };
        neutral.with_source(error)
    }
}

fn kind(error: &Error) -> Kind {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InvalidCertRevocationList(_) => Kind::BadCertificate,
        Error::NoCertificatesPresented => Kind::NoCertificate,
        Error::NoApplicationProtocol => Kind::NoApplicationProtocol,
        Error::PeerIncompatible(_) => Kind::Incompatible,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::DecryptError
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord => Kind::Violation,
        Error::UnsupportedNameType | Error::BadMaxFragmentSize | Error::InconsistentKeys(_) => Kind::Configuration,
        _ => Kind::Other,
    }
}

fn certificate(error: &CertificateError) -> Kind {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Kind::CertificateExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Kind::CertificateNotYetValid,
        CertificateError::UnknownIssuer => Kind::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Kind::WrongName,
        _ => Kind::BadCertificate,
    }
}

#[cfg(test)]
mod tests {
    use core::error::Error as _;

    use rustls::PeerIncompatible;

    use super::*;

    #[test]
    fn each_rustls_error_has_a_kind_and_stays_the_source() {
        for (error, kind) in [
            (Error::InvalidCertificate(CertificateError::Expired), Kind::CertificateExpired),
            (Error::InvalidCertificate(CertificateError::NotValidYet), Kind::CertificateNotYetValid),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Kind::UnknownIssuer),
            (Error::InvalidCertificate(CertificateError::NotValidForName), Kind::WrongName),
            (Error::InvalidCertificate(CertificateError::Revoked), Kind::BadCertificate),
            (Error::NoCertificatesPresented, Kind::NoCertificate),
            (Error::NoApplicationProtocol, Kind::NoApplicationProtocol),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), Kind::Incompatible),
            (Error::AlertReceived(rustls::AlertDescription::UnknownCA), Kind::PeerAlert(AlertDescription(48))),
            (Error::PeerSentOversizedRecord, Kind::Violation),
            (Error::UnsupportedNameType, Kind::Configuration),
            (Error::FailedToGetRandomBytes, Kind::Other),
        ] {
            let neutral = HandshakeError::from(error.clone());
            assert_eq!(neutral.kind(), kind, "{error}");
            assert_eq!(neutral.source().and_then(|source| source.downcast_ref::<Error>()), Some(&error));
        }
    }
}
