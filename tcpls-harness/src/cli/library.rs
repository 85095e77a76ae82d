//! The TLS library that the command uses: `--tls`, in builds with OpenSSL.

use std::path::Path;
use std::sync::Arc;

use tcpls_core::HandshakeError;
#[cfg(feature = "openssl")]
use tcpls_core::crypto::openssl::{OpensslClient, OpensslTickets};
use tcpls_core::crypto::rustls::{EarlyTickets, RustlsClient};
use tcpls_core::crypto::{Handshake, TlsClient, TlsServer};

use super::Outcome;
use crate::tls::{Identity, TlsOptions, Trust};

/// Servers whose tickets a client keeps: a command has one.
const SERVERS: usize = 1;
#[cfg(feature = "openssl")]
const NO_OPTIONS: &str =
    "certificate compression and Encrypted ClientHello need rustls: leave out --cert-compression and --ech, or --tls";

/// A library for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "openssl", derive(clap::ValueEnum))]
pub enum Library {
    /// rustls
    #[default]
    Rustls,
    /// OpenSSL, which writes no session keys to SSLKEYLOGFILE
    #[cfg(feature = "openssl")]
    Openssl,
    /// OpenSSL; a client negotiates TCPLS by the draft's TLS extension instead of ALPN, with a server that uses OpenSSL
    #[cfg(feature = "openssl")]
    OpensslExtensions,
}

/// A client's TLS configuration.
#[derive(Clone, Debug)]
pub(crate) enum Client {
    Rustls(RustlsClient),
    #[cfg(feature = "openssl")]
    Openssl(OpensslClient),
}

impl Client {
    /// Refuses servers without TCPLS.
    pub(crate) fn tcpls_only(self) -> Self {
        match self {
            Self::Rustls(client) => Self::Rustls(client.tcpls_only()),
            #[cfg(feature = "openssl")]
            Self::Openssl(client) => Self::Openssl(client.tcpls_only()),
        }
    }
}

impl Client {
    /// Sends early data in sessions that resume an earlier one of this process.
    pub(crate) fn with_early_data(self) -> Self {
        match self {
            Self::Rustls(client) => Self::Rustls(client.with_early_data(Arc::new(EarlyTickets::new(SERVERS)))),
            #[cfg(feature = "openssl")]
            Self::Openssl(client) => Self::Openssl(client.with_early_data(Arc::new(OpensslTickets::new(SERVERS)))),
        }
    }

    /// Resumes sessions with `tickets`, and sends early data if asked to.
    #[cfg(feature = "openssl")]
    pub(crate) fn with_tickets(self, tickets: Arc<OpensslTickets>, early_data: bool) -> Outcome<Self> {
        match self {
            Self::Rustls(_) => {
                Err("rustls can't store sessions: leave out --session-cache, or add --tls openssl".into())
            }
            Self::Openssl(client) if early_data => Ok(Self::Openssl(client.with_early_data(tickets))),
            Self::Openssl(client) => Ok(Self::Openssl(client.with_resumption(tickets))),
        }
    }

    /// Joins TCP connections in the form of the draft alone, as OpenSSL does in any case.
    pub(crate) fn without_resumed_joins(self) -> Self {
        match self {
            Self::Rustls(client) => Self::Rustls(client.without_resumed_joins()),
            #[cfg(feature = "openssl")]
            Self::Openssl(client) => Self::Openssl(client),
        }
    }
}

impl TlsClient for Client {
    fn handshake(&self, server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        match self {
            Self::Rustls(client) => TlsClient::handshake(client, server_name),
            #[cfg(feature = "openssl")]
            Self::Openssl(client) => TlsClient::handshake(client, server_name),
        }
    }
}

impl Library {
    pub(crate) fn client(
        self,
        trust: &Trust,
        protocols: &[&[u8]],
        identity: Option<&Identity>,
        options: &TlsOptions,
    ) -> Outcome<Client> {
        Ok(match self {
            Self::Rustls => Client::Rustls(trust.client_with(protocols, identity, options)?),
            #[cfg(feature = "openssl")]
            _ if !options.is_default() => return Err(NO_OPTIONS.into()),
            #[cfg(feature = "openssl")]
            Self::Openssl => Client::Openssl(trust.openssl_client_as(protocols, identity)?),
            #[cfg(feature = "openssl")]
            Self::OpensslExtensions => Client::Openssl(trust.openssl_client_as(protocols, identity)?.by_extensions()),
        })
    }

    /// A server's configuration; both forms of negotiation are accepted where there are two.
    pub(crate) fn server(
        self,
        identity: &Identity,
        protocols: &[&[u8]],
        clients: Option<&Path>,
        options: &TlsOptions,
        (early_data, resumed_joins): (bool, bool),
    ) -> Outcome<Arc<dyn TlsServer>> {
        Ok(match self {
            Self::Rustls => {
                let tls = identity.server_with(protocols, clients, options)?;
                let tls = if early_data { tls.with_early_data()? } else { tls };
                Arc::new(if resumed_joins { tls } else { tls.without_resumed_joins() })
            }
            #[cfg(feature = "openssl")]
            _ if !options.is_default() => return Err(NO_OPTIONS.into()),
            #[cfg(feature = "openssl")]
            Self::Openssl | Self::OpensslExtensions => {
                let tls = identity.openssl_server_for(protocols, clients)?;
                Arc::new(if early_data { tls.with_early_data()? } else { tls })
            }
        })
    }
}
