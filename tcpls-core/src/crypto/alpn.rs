//! Negotiation of TCPLS by ALPN (RFC 7301): each application protocol NAME is offered as `tcpls+NAME`, or `tcpls` alone
//! without one, before the plain names.
//!
//! Every provider uses these functions, so that providers of different TLS libraries agree with each other.

use crate::error::{HandshakeError, HandshakeErrorKind};

/// The ALPN name of TCPLS without an application protocol.
const TCPLS: &[u8] = b"tcpls";
/// The prefix of ALPN names of TCPLS with an application protocol.
const TCPLS_PREFIX: &[u8] = b"tcpls+";

/// Returns the ALPN names of an endpoint that supports TCPLS and plain TLS, in order of preference: a client offers
/// them, a server selects the first that the client offers.
///
/// `application_protocols` are the plain names, the most wanted first; they may be none.
///
/// # Errors
/// A name is empty, longer than 249 bytes, or one of TCPLS.
pub fn names(application_protocols: &[impl AsRef<[u8]>]) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let plain = || application_protocols.iter().map(AsRef::as_ref);
    if !plain().all(is_usable) {
        return Err(HandshakeError::new(
            HandshakeErrorKind::Configuration,
            "an application protocol's name must have 1 to 249 bytes and must not be one of TCPLS",
        ));
    }
    if application_protocols.is_empty() {
        return Ok(vec![TCPLS.to_vec()]);
    }
    let tcpls = plain().map(|name| [TCPLS_PREFIX, name].concat());
    Ok(tcpls.chain(plain().map(<[u8]>::to_vec)).collect())
}

/// Whether `name` can be offered both plainly and as one of TCPLS; an ALPN name has at most 255 bytes.
fn is_usable(name: &[u8]) -> bool {
    (1..=255 - TCPLS_PREFIX.len()).contains(&name.len()) && !is_tcpls(name)
}

/// Returns whether the ALPN name that was agreed on means TCPLS.
pub fn is_tcpls(name: &[u8]) -> bool {
    name == TCPLS || name.starts_with(TCPLS_PREFIX)
}

/// Returns the application protocol that an ALPN name stands for.
pub fn application_protocol(name: &[u8]) -> Option<&[u8]> {
    if name == TCPLS {
        return None;
    }
    Some(name.strip_prefix(TCPLS_PREFIX).unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpls_names_precede_plain_names_of_the_same_protocols() {
        let offered = names(&[&b"h3"[..], b"h2"]).unwrap();
        assert_eq!(offered, [&b"tcpls+h3"[..], b"tcpls+h2", b"h3", b"h2"]);
        assert_eq!(offered.iter().map(|name| is_tcpls(name)).collect::<Vec<_>>(), [true, true, false, false]);
        let stand_for: Vec<_> = offered.iter().map(|name| application_protocol(name).unwrap()).collect();
        assert_eq!(stand_for, [b"h3", b"h2", b"h3", b"h2"]);
        let none: [&[u8]; 0] = [];
        assert_eq!(names(&none).unwrap(), [b"tcpls"]);
        assert_eq!(application_protocol(b"tcpls"), None);
    }

    #[test]
    fn names_that_cannot_be_offered_both_ways_are_refused() {
        for name in [&b""[..], b"tcpls", b"tcpls+h2", &[b'x'; 250]] {
            assert!(names(&[name]).is_err(), "{name:?}");
        }
        assert!(names(&[[b'x'; 249]]).is_ok());
    }
}
