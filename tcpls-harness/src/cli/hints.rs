//! Describes sessions that could not be established or that ended, with dates and names for people, and hints.

use std::error::Error;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error as TlsError, OtherError};
use tcpls_core::error::{AlertDescription, CloseReason, HandshakeError, HandshakeErrorKind as Kind};

use super::uplinks;
use super::validity::{expired, not_yet_valid};
use crate::net::interfaces::has_strict_filter;
use crate::net::{ConnectError, PathFailure, PathFault};
use crate::tls::WrongKey;

/// certificate_required (RFC 8446, 6).
const CERTIFICATE_REQUIRED: AlertDescription = AlertDescription(116);
/// no_application_protocol (RFC 7301, 3.2).
const NO_APPLICATION_PROTOCOL: AlertDescription = AlertDescription(120);

/// What a command knows about its servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hints<'a> {
    /// The file with the trusted certificates, if the command line names one.
    pub(crate) ca: Option<&'a Path>,
    /// The hint for a server with a self-signed certificate.
    pub(crate) self_made: &'static str,
}

impl Hints<'_> {
    /// Describes why there is no session, with a hint.
    pub(crate) fn of_connect(&self, error: &ConnectError) -> String {
        let mut hint = None;
        let text = match error {
            ConnectError::Tls(error) => {
                hint = self.hint(error);
                format!("the TLS configuration can't be used: {}", describe(error))
            }
            ConnectError::Paths(failures) if failures.iter().any(is_handshake) => {
                let errors = failures.iter().filter_map(|failure| handshake_error(&failure.fault));
                hint = errors.filter_map(|error| self.hint(error)).next();
                match failures.as_slice() {
                    [failure] => describe_path(failure),
                    failures => {
                        let lines = failures.iter().map(|failure| format!("\n  {}", describe_path(failure)));
                        format!("no session over any of {} paths{}", failures.len(), lines.collect::<String>())
                    }
                }
            }
            error => {
                if let ConnectError::Paths(failures) = error {
                    hint = failures.iter().find_map(|failure| uplinks::hint(failure, has_strict_filter));
                }
                error.to_string()
            }
        };
        with_hint(text, hint)
    }

    /// Describes why a session ended, with a hint.
    pub(crate) fn of_end(&self, reason: &CloseReason) -> String {
        let hint = if let CloseReason::Handshake(error) = reason { self.hint(error) } else { None };
        with_hint(describe_end(reason), hint)
    }

    fn hint(&self, error: &HandshakeError) -> Option<String> {
        let hint = match error.kind() {
            Kind::UnknownIssuer => self.other_issuer(),
            Kind::BadCertificate if error.source().is_some_and(|source| source.is::<WrongKey>()) => other_key(),
            Kind::BadCertificate => match certificate_error(error)? {
                // Certificates that servers made themselves have one issuer's name, and keys of their own.
                CertificateError::BadSignature => self.other_issuer(),
                CertificateError::Other(OtherError(other)) if other.is::<WrongKey>() => other_key(),
                _ => return None,
            },
            Kind::CertificateExpired => "the server has to renew it; pass --insecure to test without".to_owned(),
            Kind::CertificateNotYetValid => "check the clocks of both machines".to_owned(),
            Kind::WrongName => "use a name that is in the certificate".to_owned(),
            Kind::PeerAlert(CERTIFICATE_REQUIRED) => {
                "the server demands a certificate of its clients: pass --cert and --key".to_owned()
            }
            Kind::PeerAlert(NO_APPLICATION_PROTOCOL) | Kind::NoApplicationProtocol => {
                "the server speaks another application protocol: is it the right port?".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    fn other_issuer(&self) -> String {
        match self.ca {
            Some(file) => format!(
                "it was not issued by a certificate in {}: is that file of this server, and of its last start?",
                file.display()
            ),
            None => self.self_made.to_owned(),
        }
    }
}

fn other_key() -> String {
    "it is another server, or its key was replaced: ask its operator for a new invite".to_owned()
}

fn with_hint(text: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{text}; {hint}"),
        None => text,
    }
}

fn handshake_error(fault: &PathFault) -> Option<&HandshakeError> {
    match fault {
        PathFault::Handshake(CloseReason::Handshake(error)) => Some(error),
        _ => None,
    }
}

fn is_handshake(failure: &PathFailure) -> bool {
    handshake_error(&failure.fault).is_some()
}

fn describe_path(failure: &PathFailure) -> String {
    match &failure.fault {
        PathFault::Handshake(reason) => format!("no session with {}: {}", failure.path, describe_end(reason)),
        _ => failure.to_string(),
    }
}

fn describe_end(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Handshake(error) => format!("handshake failed: {}", describe(error)),
        reason => reason.to_string(),
    }
}

/// The error of rustls about the peer's certificate, if that is the cause.
fn certificate_error(error: &HandshakeError) -> Option<&CertificateError> {
    match error.source()?.downcast_ref()? {
        TlsError::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

/// The text of the TLS library, but dates instead of seconds, and names instead of types.
fn describe(error: &HandshakeError) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Some(cause) = certificate_error(error) else { return error.to_string() };
    let cause = match cause {
        CertificateError::ExpiredContext { not_after, .. } => expired(not_after.as_secs(), now),
        CertificateError::NotValidYetContext { not_before, .. } => not_yet_valid(not_before.as_secs(), now),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("not valid for name {:?}; only valid for {names}", expected.to_str())
        }
        CertificateError::Other(OtherError(other)) => return other.to_string(),
        _ => return error.to_string(),
    };
    format!("invalid peer certificate: certificate {cause}")
}

/// A name as rustls presents it, `DnsName("localhost")`, without its type.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::dial;

    const SELF_MADE: &str = "name its file with --ca";

    fn hints(ca: Option<&str>) -> Hints<'_> {
        Hints { ca: ca.map(Path::new), self_made: SELF_MADE }
    }

    fn of(error: CertificateError) -> HandshakeError {
        TlsError::InvalidCertificate(error).into()
    }

    fn refused(alert: AlertDescription) -> HandshakeError {
        HandshakeError::refused(alert)
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn failed(error: HandshakeError) -> PathFailure {
        let path = dial::Path { remote: SocketAddr::from(([192, 0, 2, 1], 443)), local: None, device: None };
        PathFailure { path, fault: PathFault::Handshake(CloseReason::Handshake(error)) }
    }

    #[test]
    fn the_hint_on_ca_is_given_only_where_it_helps() {
        for error in [CertificateError::UnknownIssuer, CertificateError::BadSignature].map(of) {
            assert_eq!(hints(None).hint(&error).as_deref(), Some(SELF_MADE));
            let hint = hints(Some("ca.pem")).hint(&error).unwrap();
            assert!(hint.contains("not issued by a certificate in ca.pem"), "{hint}");
        }
        let others = [CertificateError::Expired, CertificateError::NotValidYet, CertificateError::NotValidForName];
        let others = others.map(of).into_iter().chain([CERTIFICATE_REQUIRED, NO_APPLICATION_PROTOCOL].map(refused));
        for error in others {
            let hint = hints(Some("ca.pem")).hint(&error).unwrap();
            assert!(!hint.contains("ca.pem"), "{error}: {hint}");
            assert_eq!(hints(None).hint(&error), Some(hint), "{error}");
        }
        for error in [of(CertificateError::Revoked), refused(AlertDescription(80))] {
            assert_eq!(hints(None).hint(&error), None, "{error}");
        }
    }

    #[test]
    fn each_cause_has_a_hint_of_its_own() {
        let hint = |error| hints(None).hint(&error).unwrap();
        assert!(hint(of(CertificateError::Expired)).contains("renew"));
        assert!(hint(of(CertificateError::NotValidYet)).contains("clocks"));
        assert!(hint(of(CertificateError::NotValidForName)).contains("name that is in the certificate"));
        assert!(hint(refused(CERTIFICATE_REQUIRED)).contains("--cert and --key"));
        assert!(hint(refused(NO_APPLICATION_PROTOCOL)).contains("right port"));
        assert!(hint(TlsError::NoApplicationProtocol.into()).contains("right port"));
    }

    #[test]
    fn seconds_are_shown_as_dates_and_names_without_their_types() {
        let expired = CertificateError::ExpiredContext { time: at(1), not_after: at(86_400) };
        assert!(describe(&of(expired)).starts_with("invalid peer certificate: certificate expired 1970-01-02 ("));
        let early = CertificateError::NotValidYetContext { time: at(1), not_before: at(4_102_444_800) };
        assert!(describe(&of(early)).contains("certificate is not valid before 2100-01-01 (in "));
        let presented = ["DnsName(\"localhost\")", "IpAddress(::1)", "x"].map(str::to_owned).to_vec();
        let expected = ServerName::try_from("wrong.example").unwrap();
        let text = describe(&of(CertificateError::NotValidForNameContext { expected, presented }));
        assert!(text.ends_with("not valid for name \"wrong.example\"; only valid for localhost, ::1, x"), "{text}");
    }

    #[test]
    fn another_key_than_the_pinned_one_is_explained() {
        let other = of(CertificateError::Other(OtherError(Arc::new(WrongKey::of(b"x")))));
        assert!(describe(&other).starts_with("the server has another public key: "));
        assert!(hints(None).hint(&other).unwrap().contains("invite"));
    }

    #[test]
    fn hint_is_given_once_for_all_paths() {
        let failures = [1, 2].map(|_| failed(of(CertificateError::Expired))).to_vec();
        let text = hints(None).of_connect(&ConnectError::Paths(failures));
        assert!(
            text.starts_with("no session over any of 2 paths\n  no session with 192.0.2.1:443: handshake failed: ")
        );
        assert_eq!(text.matches("renew").count(), 1, "{text}");
        let end = CloseReason::Handshake(refused(CERTIFICATE_REQUIRED));
        assert!(hints(None).of_end(&end).ends_with("--cert and --key"));
        assert_eq!(hints(None).of_end(&CloseReason::IdleTimeout), CloseReason::IdleTimeout.to_string());
    }
}
