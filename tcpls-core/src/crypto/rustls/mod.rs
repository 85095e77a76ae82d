//! The TLS handshake by rustls, unmodified: the only place that uses it.
//!
//! rustls does not allow additional TLS extensions, so TCPLS is agreed by ALPN (RFC 7301): each application protocol NAME is
//! offered as `tcpls+NAME`, or `tcpls` alone where there is none, ahead of the plain names. rustls runs the handshake
//! only; afterwards its secrets are taken out, and records are sealed and opened by this crate's own keys.
//!
//! Here: the names. `client` and `server` complete the user's configurations, `driver` runs the handshake, `secrets`
//! turns what rustls extracts into keys. Called by the owner of a session, who passes the handshake on to it.

mod client;
mod driver;
mod errors;
mod secrets;
mod server;
#[cfg(test)]
mod tests;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

pub use self::client::RustlsClient;
use self::errors::misconfigured;
pub use self::server::RustlsServer;
use crate::error::HandshakeError;

/// The ALPN name of TCPLS without an application protocol.
const TCPLS: &[u8] = b"tcpls";
/// What precedes the application protocol in the ALPN name of TCPLS with one.
const TCPLS_PREFIX: &[u8] = b"tcpls+";

/// The ALPN names to offer, most wanted first. Without `application_protocols`, those of the user's configuration count.
fn alpn_names(application_protocols: &[&[u8]], configured: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let plain: Vec<Vec<u8>> = match application_protocols {
        [] => configured.to_vec(),
        names => names.iter().map(|name| name.to_vec()).collect(),
    };
    if plain.iter().any(|name| !is_usable(name)) {
        return Err(misconfigured(
            "an application protocol's name must have 1 to 249 bytes and must not be one of TCPLS",
        ));
    }
    if plain.is_empty() {
        return Ok(vec![TCPLS.to_vec()]);
    }
    let tcpls = plain.iter().map(|name| [TCPLS_PREFIX, name].concat());
    Ok(tcpls.chain(plain.iter().cloned()).collect())
}

/// Whether `name` can be offered both plainly and as one of TCPLS; an ALPN name has at most 255 bytes.
fn is_usable(name: &[u8]) -> bool {
    (1..=255 - TCPLS_PREFIX.len()).contains(&name.len()) && !is_tcpls(name)
}

/// Whether the ALPN name that was agreed means TCPLS.
fn is_tcpls(name: &[u8]) -> bool {
    name == TCPLS || name.starts_with(TCPLS_PREFIX)
}

/// The application protocol that an ALPN name stands for.
fn application_protocol(name: &[u8]) -> Option<&[u8]> {
    if name == TCPLS {
        return None;
    }
    Some(name.strip_prefix(TCPLS_PREFIX).unwrap_or(name))
}

/// Whether a configuration allows TLS 1.3.
///
/// rustls does not show which versions a configuration allows, but refuses one without TLS 1.3 for QUIC: `probe` tries
/// that. It can tell only where a suite can be used with QUIC, which every suite of rustls's own providers can.
fn allows_tls13(provider: &CryptoProvider, probe: impl FnOnce() -> bool) -> bool {
    let suites = || provider.cipher_suites.iter().filter_map(SupportedCipherSuite::tls13);
    if suites().any(|suite| suite.quic.is_some()) { probe() } else { suites().next().is_some() }
}
