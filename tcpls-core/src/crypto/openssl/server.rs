//! The server's side of the OpenSSL provider: completes an `SslAcceptor` and starts handshakes from it.

use core::fmt;

use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder};

use super::complete;
use super::driver::Driver;
use super::errors::{library, refused_configuration};
use super::extensions::Policy;
use crate::crypto::{Handshake, TlsServer, alpn};
use crate::error::HandshakeError;

/// Starts a server's handshakes, with the certificates, suites and tickets of the user's OpenSSL configuration.
#[derive(Clone)]
pub struct OpensslServer {
    acceptor: SslAcceptor,
    policy: Policy,
}

impl OpensslServer {
    /// Completes `acceptor`. `application_protocols`, most wanted first, are accepted over TCPLS and, if the client does
    /// not speak it, over plain TLS. A client may negotiate TCPLS by ALPN or by TLS extensions (decision D132).
    ///
    /// It sets the callbacks for ALPN and key logs and the session ID context, allows TLS 1.3 alone, and accepts no early
    /// data. A callback for server names must not change to another context, whose key log the provider does not see:
    /// such a handshake fails.
    ///
    /// # Errors
    /// OpenSSL cannot use TLS 1.3, or a protocol's name is empty, longer than 249 bytes, or one of TCPLS.
    pub fn new(mut acceptor: SslAcceptorBuilder, application_protocols: &[&[u8]]) -> Result<Self, HandshakeError> {
        let names = alpn::names(application_protocols)?;
        complete(&mut acceptor).map_err(refused_configuration)?;
        set_up_tickets(&mut acceptor).map_err(refused_configuration)?;
        acceptor.set_alpn_select_callback(move |_, offered| select(&names, offered).ok_or(AlpnError::ALERT_FATAL));
        Ok(Self { acceptor: acceptor.build(), policy: Policy::Any })
    }

    /// Returns a copy to which a client that knows only the draft is one without TCPLS. Otherwise the session with it has only
    /// the draft's frames: see [`Connection::is_draft_only`].
    ///
    /// [`Connection::is_draft_only`]: crate::connection::Connection::is_draft_only
    #[must_use]
    pub fn with_parameters(&self) -> Self {
        Self { policy: Policy::Parameters, ..self.clone() }
    }
}

/// Sets up tickets: without early data, and with a session ID context, which servers that ask for certificates need to resume.
fn set_up_tickets(acceptor: &mut SslAcceptorBuilder) -> Result<(), ErrorStack> {
    acceptor.set_session_id_context(b"tcpls")?;
    acceptor.set_max_early_data(0)
}

/// Selects the first of `names` among the names that the client offers, each with a byte of length.
fn select<'a>(names: &[Vec<u8>], offered: &'a [u8]) -> Option<&'a [u8]> {
    let find = |wanted: &Vec<u8>| {
        let mut rest = offered;
        while let Some((&len, after)) = rest.split_first() {
            let (name, others) = after.split_at_checked(usize::from(len))?;
            if name == wanted {
                return Some(name);
            }
            rest = others;
        }
        None
    };
    names.iter().find_map(find)
}

impl TlsServer for OpensslServer {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        let tls = Ssl::new(self.acceptor.context()).map_err(library)?;
        Ok(Box::new(Driver::server(tls, self.policy)?))
    }
}

impl fmt::Debug for OpensslServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslServer").finish_non_exhaustive()
    }
}
