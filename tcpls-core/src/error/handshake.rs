//! Why TLS handshakes fail, in terms that hold for every TLS library.

use core::error::Error;
use core::fmt;
use std::sync::Arc;

use super::alert::{Alert, AlertDescription};
use super::text::Escaped;

/// Why a TLS handshake failed.
///
/// [`HandshakeError::kind`] is the same with every TLS library. [`Error::source`] is the error of the library in use,
/// if it returned one; it can be downcast. `Display` shows the library's text, which may quote the peer, and escapes
/// control and bidirectional characters; the `Display` of the source escapes nothing. Two errors are equal if kind and
/// text are.
#[derive(Clone)]
pub struct HandshakeError {
    kind: HandshakeErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// The kind of a failure of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HandshakeErrorKind {
    /// The TLS configuration of this endpoint is invalid.
    Configuration,
    /// A certificate of the peer has expired.
    CertificateExpired,
    /// A certificate of the peer is not valid yet; one of the clocks may be wrong.
    CertificateNotYetValid,
    /// No trusted certificate of this endpoint issued the peer's.
    UnknownIssuer,
    /// The server's certificate is for other names.
    WrongName,
    /// The peer's certificate is invalid for another reason: revoked, malformed, wrong signature, other purpose.
    BadCertificate,
    /// The peer has no certificate, and this endpoint requires one.
    NoCertificate,
    /// The endpoints have no application protocol in common.
    NoApplicationProtocol,
    /// The endpoints have no TLS version, cipher suite, key exchange or signature algorithm in common.
    Incompatible,
    /// The peer refused the handshake with this alert.
    PeerAlert(AlertDescription),
    /// The peer closed the session during the handshake.
    PeerClosed,
    /// The peer violated TLS, or exceeded a limit of this endpoint.
    Violation,
    /// Something else, such as an error of the TLS library or the operating system.
    Other,
}

impl HandshakeError {
    /// Returns an error of this kind; `message` is for people.
    pub fn new(kind: HandshakeErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the TLS library's error.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into().into()), ..self }
    }

    /// Returns the error of a handshake that the peer refused with this alert; close_notify is
    /// [`HandshakeErrorKind::PeerClosed`].
    pub fn refused(alert: AlertDescription) -> Self {
        if alert == AlertDescription(Alert::CloseNotify as u8) {
            return Self::new(HandshakeErrorKind::PeerClosed, "the peer closed the session during the handshake");
        }
        Self::new(HandshakeErrorKind::PeerAlert(alert), alert.refusal())
    }

    /// Returns the kind of the failure.
    pub const fn kind(&self) -> HandshakeErrorKind {
        self.kind
    }
}

impl PartialEq for HandshakeError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.message == other.message
    }
}

impl Eq for HandshakeError {}

impl fmt::Debug for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(self.message.as_bytes()).fmt(f)
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_the_source_is_the_library_error() {
        let error =
            HandshakeError::new(HandshakeErrorKind::WrongName, "not for \"\u{1b}[31m\"").with_source(fmt::Error);
        assert_eq!(error.to_string(), "not for \"\\u{1b}[31m\"");
        assert!(error.source().is_some_and(|source| source.is::<fmt::Error>()));
        assert_eq!(error, HandshakeError::new(HandshakeErrorKind::WrongName, "not for \"\u{1b}[31m\""));
    }
}
