//! The server's side of the OpenSSL provider: completes an `SslAcceptor` and starts handshakes from it.

use core::fmt;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslAcceptorBuilder, SslSessionCacheMode};

use super::driver::Driver;
use super::early::MAX_EARLY_DATA;
use super::errors::{library, misconfigured, refused_configuration};
use super::extensions::Policy;
use super::gate::{Gate, Tickets};
use super::shared::{NO_ANTI_REPLAY, SharedSessions, share};
use super::{complete, notes_index};
use crate::crypto::{Handshake, TlsServer, alpn};
use crate::error::HandshakeError;

/// Starts a server's handshakes, with the certificates, suites and tickets of the user's OpenSSL configuration.
#[derive(Clone)]
pub struct OpensslServer {
    acceptor: SslAcceptor,
    policy: Policy,
    /// Whether each session is given out once, by OpenSSL or by the store.
    may_take_early_data: bool,
    takes_early_data: bool,
    /// The tickets with which clients resume sessions.
    tickets: Tickets,
}

impl OpensslServer {
    /// Completes `acceptor`. `application_protocols`, most wanted first, are accepted over TCPLS and, if the client does
    /// not speak it, over plain TLS. A client may negotiate TCPLS by ALPN or by TLS extensions (decision D132).
    ///
    /// It sets the callbacks for ALPN and key logs and the session ID context, allows TLS 1.3 alone, and accepts no early
    /// data: see [`with_early_data`](Self::with_early_data). A callback for server names must not change to another
    /// context, whose key log the provider does not see: such a handshake fails.
    ///
    /// # Errors
    /// OpenSSL cannot use TLS 1.3, or a protocol's name is empty, longer than 249 bytes, or one of TCPLS.
    pub fn new(acceptor: SslAcceptorBuilder, application_protocols: &[&[u8]]) -> Result<Self, HandshakeError> {
        Self::with_store(acceptor, application_protocols, None)
    }

    /// The same, with sessions in `store`. Servers that share it resume each other's sessions, and each ticket works once among
    /// all of them, with early data ([`with_early_data`](Self::with_early_data)) and without. They need the same
    /// certificates and, where clients have certificates, the same trust in them: a session is not verified again. Of a
    /// client's chain, a resumed session has the first certificate.
    ///
    /// It also sets the mode of the session cache, the options `SSL_OP_NO_TICKET` and `SSL_OP_NO_ANTI_REPLAY`, and the
    /// callbacks for new sessions and for looking sessions up.
    ///
    /// # Errors
    /// As with [`new`](Self::new).
    pub fn with_shared_sessions(
        acceptor: SslAcceptorBuilder,
        application_protocols: &[&[u8]],
        store: Arc<dyn SharedSessions>,
    ) -> Result<Self, HandshakeError> {
        Self::with_store(acceptor, application_protocols, Some(store))
    }

    fn with_store(
        mut acceptor: SslAcceptorBuilder,
        application_protocols: &[&[u8]],
        store: Option<Arc<dyn SharedSessions>>,
    ) -> Result<Self, HandshakeError> {
        let names = alpn::names(application_protocols)?;
        complete(&mut acceptor).map_err(refused_configuration)?;
        let tickets = match store {
            Some(store) => {
                share(&mut acceptor, notes_index().map_err(library)?);
                Tickets::Shared(store)
            }
            None => Tickets::Own(Arc::default()),
        };
        set_up_tickets(&mut acceptor).map_err(refused_configuration)?;
        let is_shared = matches!(tickets, Tickets::Shared(_));
        let may_take_early_data = is_shared || gives_out_sessions_once(&mut acceptor);
        acceptor.set_alpn_select_callback(move |_, offered| select(&names, offered).ok_or(AlpnError::ALERT_FATAL));
        let (acceptor, policy) = (acceptor.build(), Policy::Any);
        Ok(Self { acceptor, policy, may_take_early_data, takes_early_data: false, tickets })
    }

    /// Returns a copy that accepts early data of clients that resume a session: requests that arrive with the ClientHello.
    /// [`Stream::is_early`](crate::connection::Stream::is_early) tells them apart.
    ///
    /// OpenSSL keeps the sessions in memory, and each ticket works once: a copy of a first flight is rejected. Other servers
    /// do not know these sessions, unless they share a store
    /// ([`with_shared_sessions`](Self::with_shared_sessions)); without one, a client of a farm has early data only with the
    /// server that it has used before.
    ///
    /// # Errors
    /// The configuration disables OpenSSL's cache of sessions, or its protection against copies (`SSL_OP_NO_ANTI_REPLAY`).
    pub fn with_early_data(&self) -> Result<Self, HandshakeError> {
        if !self.may_take_early_data {
            return Err(misconfigured("early data needs tickets that work once, of sessions in OpenSSL's cache"));
        }
        Ok(Self { takes_early_data: true, ..self.clone() })
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

/// Whether OpenSSL accepts early data only once with each ticket.
fn gives_out_sessions_once(acceptor: &mut SslAcceptorBuilder) -> bool {
    // OpenSSL shows the mode only to who sets it.
    let mode = acceptor.set_session_cache_mode(SslSessionCacheMode::SERVER);
    acceptor.set_session_cache_mode(mode);
    let is_cached = mode.contains(SslSessionCacheMode::SERVER) && !mode.intersects(SslSessionCacheMode::NO_INTERNAL);
    is_cached && acceptor.options().bits() >> NO_ANTI_REPLAY & 1 == 0
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
        let mut tls = Ssl::new(self.acceptor.context()).map_err(library)?;
        if self.takes_early_data {
            tls.set_max_early_data(MAX_EARLY_DATA).map_err(library)?;
        }
        let gate = Gate::new(&self.tickets, self.takes_early_data);
        Ok(Box::new(Driver::server(tls, self.policy, gate)?))
    }
}

impl fmt::Debug for OpensslServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpensslServer").finish_non_exhaustive()
    }
}
