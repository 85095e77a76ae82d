//! The TLS handshake by rustls 0.23, unmodified: the only place that uses it.
//!
//! rustls does not allow additional TLS extensions, so ALPN negotiates TCPLS ([`alpn`](super::alpn)). rustls runs only
//! the handshake. Then its secrets are extracted, and this crate seals and opens records with its own keys.
//!
//! `client` and `server` complete the user's configurations, `driver` runs the handshake, `secrets` derives keys from
//! the extracted secrets, and `joins` starts the handshakes of joins that are resumptions. The driver of a session starts
//! a handshake here and passes it to the session.

mod client;
mod driver;
mod early;
mod errors;
mod joins;
mod secrets;
mod server;
#[cfg(test)]
mod tests;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

pub use self::client::RustlsClient;
pub use self::early::EarlyTickets;
pub use self::server::RustlsServer;

/// Early data that a server accepts, and skips if it rejects it: room for what a client may send, and for the overhead of
/// its records, which counts only where it is skipped.
const MAX_EARLY_DATA: u32 = 16 << 10;

/// Whether a configuration allows TLS 1.3.
///
/// rustls does not show which versions a configuration allows, but refuses one without TLS 1.3 for QUIC: `probe` tries
/// that. It can tell only where a suite can be used with QUIC, which every suite of rustls's own providers can.
fn allows_tls13(provider: &CryptoProvider, probe: impl FnOnce() -> bool) -> bool {
    let suites = || provider.cipher_suites.iter().filter_map(SupportedCipherSuite::tls13);
    if suites().any(|suite| suite.quic.is_some()) { probe() } else { suites().next().is_some() }
}
