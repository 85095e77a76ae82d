//! What makes the handshakes of many sessions: a TLS library with its configuration, as a client or a server has it.

use core::fmt;
use std::sync::Arc;

use super::Handshake;
use crate::error::HandshakeError;

/// Makes the handshakes of a client: a TLS library with trust, certificates and application protocols.
///
/// A driver holds one as `Arc<dyn TlsClient>` and knows no library.
/// [`RustlsClient`](crate::crypto::rustls::RustlsClient) is one, and so is an [`Arc`] of one. What the handshakes have
/// in common is here, such as tickets of earlier sessions. Whether a client accepts a server without TCPLS, and which
/// application protocols it offers then, is part of the configuration, too: see [`Offer`](super::Offer).
///
/// `Debug` shows no key.
///
/// A provider implements it for its library; an application may, to choose among configurations:
#[cfg_attr(feature = "rustls", doc = "```")]
#[cfg_attr(not(feature = "rustls"), doc = "```ignore")]
/// use tcpls_core::HandshakeError;
/// use tcpls_core::crypto::rustls::RustlsClient;
/// use tcpls_core::crypto::{Handshake, TlsClient};
///
/// #[derive(Debug)]
/// struct ByName {
///     inside: RustlsClient,
///     outside: RustlsClient,
/// }
///
/// impl TlsClient for ByName {
///     fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
///         let chosen: &dyn TlsClient = if server_name.ends_with(".internal") { &self.inside } else { &self.outside };
///         chosen.handshake(server_name)
///     }
/// }
/// ```
pub trait TlsClient: fmt::Debug + Send + Sync {
    /// Starts a handshake with the server called `server_name`: a DNS name, or an IP address as text. Its certificate
    /// must be valid for that name.
    ///
    /// A driver may start several for one session, on different TCP connections, and drop all but one. The call does
    /// not block.
    ///
    /// # Errors
    /// The library cannot start a handshake with its configuration, or `server_name` is invalid (kind `Configuration`).
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError>;
}

/// Makes the handshakes of a server: a TLS library with certificates, tickets and application protocols.
///
/// A driver holds one as `Arc<dyn TlsServer>` and knows no library.
/// [`RustlsServer`](crate::crypto::rustls::RustlsServer) is one, and so is an [`Arc`] of one. The same handshake serves
/// clients with and without TCPLS: where [`Handshake::tcpls`] returns `Some(false)`, the session is a plain TLS
/// connection. A provider without that fallback fails the handshake instead.
///
/// `Debug` shows no key.
pub trait TlsServer: fmt::Debug + Send + Sync {
    /// Starts a handshake with a client that has just connected. The call does not block.
    ///
    /// # Errors
    /// The library cannot start a handshake with its configuration.
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError>;
}

impl<T: TlsClient + ?Sized> TlsClient for Arc<T> {
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        T::handshake(self, server_name)
    }
}

impl<T: TlsServer + ?Sized> TlsServer for Arc<T> {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        T::handshake(self)
    }
}
