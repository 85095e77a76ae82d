//! Maps errors of OpenSSL to kinds that are the same for every TLS library.

use core::error::Error as AnyError;

use openssl::error::ErrorStack;
use openssl::ssl::{Error, ErrorCode};
use openssl::x509::X509VerifyResult;

use crate::error::{AlertDescription, HandshakeError, HandshakeErrorKind as Kind};

/// The number of the TLS code among OpenSSL's libraries (`ERR_LIB_SSL`).
const TLS: i32 = 20;
/// A reason above this is an alert of the peer's (`SSL_AD_REASON_OFFSET`).
const ALERTS: i32 = 1000;

/// The configuration of this endpoint is invalid.
pub(super) fn misconfigured(message: &str) -> HandshakeError {
    failure(Kind::Configuration, message)
}

/// OpenSSL refuses the configuration of this endpoint.
pub(super) fn refused_configuration(error: ErrorStack) -> HandshakeError {
    failure(Kind::Configuration, &format!("OpenSSL refuses the configuration: {error}")).with_source(error)
}

/// The handshake stopped without an error of OpenSSL's.
pub(super) fn failure(kind: Kind, message: &str) -> HandshakeError {
    HandshakeError::new(kind, message)
}

/// OpenSSL failed at something that depends on no peer.
pub(super) fn library(error: ErrorStack) -> HandshakeError {
    failure(Kind::Other, &format!("OpenSSL failed: {error}")).with_source(error)
}

/// The handshake failed; `verified` is the judgement of the peer's certificate, `refusal` the application's reason for it.
pub(super) fn failed(
    error: Error,
    verified: X509VerifyResult,
    refusal: Option<Box<dyn AnyError + Send + Sync>>,
) -> HandshakeError {
    if error.code() == ErrorCode::ZERO_RETURN {
        return HandshakeError::refused(AlertDescription(0)).with_source(error);
    }
    // The error of the TLS code comes after those that led to it.
    let errors = error.ssl_error().map(ErrorStack::errors).unwrap_or_default();
    let Some(last) = errors.iter().rev().find(|error| error.library_code() == TLS) else {
        return failure(Kind::Other, &format!("OpenSSL failed: {error}")).with_source(error);
    };
    let reason = last.reason_code();
    if let Some(alert) = reason.checked_sub(ALERTS).and_then(|alert| u8::try_from(alert).ok()) {
        return HandshakeError::refused(AlertDescription(alert)).with_source(error);
    }
    let text = last.reason().unwrap_or("an error without a name");
    let (kind, message) = match reason {
        CERTIFICATE_VERIFY_FAILED => match refusal {
            Some(why) => return HandshakeError::new(certificate(verified), why.to_string()).with_source(why),
            None => (certificate(verified), format!("{text}: {verified}")),
        },
        _ => (kind(reason), text.to_owned()),
    };
    HandshakeError::new(kind, message).with_source(error)
}

const CERTIFICATE_VERIFY_FAILED: i32 = 134;

/// By OpenSSL's reasons (`sslerr.h`).
fn kind(reason: i32) -> Kind {
    match reason {
        // peer did not return a certificate
        199 => Kind::NoCertificate,
        // no application protocol
        235 => Kind::NoApplicationProtocol,
        // no suitable key share, no suitable signature algorithm, no shared cipher, unsupported protocol, unsupported SSL version,
        // wrong SSL version, no suitable groups, no shared signature algorithms, version too low, no shared groups
        101 | 118 | 193 | 258 | 259 | 266 | 295 | 376 | 396 | 410 => Kind::Incompatible,
        // no certificate assigned, no certificate set, no ciphers available, no private key assigned, no protocols available
        177 | 179 | 181 | 190 | 191 => Kind::Configuration,
        // errors of OpenSSL itself, such as a lack of memory (`ERR_R_FATAL`, `err.h`)
        ..=99 | 0x1_0000.. => Kind::Other,
        _ => Kind::Violation,
    }
}

/// By OpenSSL's results of verification (`x509_vfy.h`).
fn certificate(verified: X509VerifyResult) -> Kind {
    match verified.as_raw() {
        9 => Kind::CertificateNotYetValid,
        10 => Kind::CertificateExpired,
        // no issuer, self-signed certificate, self-signed certificate in the chain, no local issuer, no signature verified
        2 | 18 | 19 | 20 | 21 => Kind::UnknownIssuer,
        62 | 64 => Kind::WrongName,
        _ => Kind::BadCertificate,
    }
}
