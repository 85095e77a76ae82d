//! The TLS library of both ends, wherever a test names none: rustls, or OpenSSL in a build with that feature if the environment
//! variable `TCPLS_TESTING_TLS` is `openssl`.

use std::sync::Arc;

use tcpls_core::crypto::rustls::EarlyTickets;
use tcpls_core::crypto::{TlsClient, TlsServer};
use tcpls_harness::tls::{Identity, Trust};

/// Whether that library is OpenSSL.
pub(crate) fn is_openssl() -> bool {
    cfg!(feature = "openssl") && std::env::var_os("TCPLS_TESTING_TLS").is_some_and(|library| library == "openssl")
}

/// A server's end.
pub(crate) fn server(identity: &Identity, protocol: &[u8]) -> Arc<dyn TlsServer> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(identity.openssl_server_for(&[protocol], None).unwrap());
    }
    Arc::new(identity.server(&[protocol]).unwrap())
}

/// The same, and accepts early data.
pub(crate) fn early_server(identity: &Identity, protocol: &[u8]) -> Arc<dyn TlsServer> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(identity.openssl_server_for(&[protocol], None).unwrap().with_early_data().unwrap());
    }
    Arc::new(identity.server(&[protocol]).unwrap().with_early_data().unwrap())
}

/// The same as [`server`], and takes joins in the form of the draft alone, as OpenSSL does in any case.
pub(crate) fn server_of_the_draft(identity: &Identity, protocol: &[u8]) -> Arc<dyn TlsServer> {
    if is_openssl() {
        return server(identity, protocol);
    }
    Arc::new(identity.server(&[protocol]).unwrap().without_resumed_joins())
}

/// A client's end.
pub(crate) fn client(trust: &Trust, protocol: &[u8]) -> Arc<dyn TlsClient> {
    client_as(trust, protocol, None)
}

/// The same, with a certificate of the client's.
pub(crate) fn client_as(trust: &Trust, protocol: &[u8], identity: Option<&Identity>) -> Arc<dyn TlsClient> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(trust.openssl_client_as(&[protocol], identity).unwrap());
    }
    Arc::new(trust.client_as(&[protocol], identity).unwrap())
}

/// The same as [`client`], with tickets of its own and early data.
pub(crate) fn early_client(trust: &Trust, protocol: &[u8]) -> Arc<dyn TlsClient> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(trust.openssl_client_as(&[protocol], None).unwrap().with_early_data(Arc::default()));
    }
    Arc::new(trust.client(&[protocol]).unwrap().with_early_data(Arc::new(EarlyTickets::default())))
}

/// The same as [`client`], and offers plain TLS alone.
pub(crate) fn plain_client(trust: &Trust, protocol: &[u8]) -> Arc<dyn TlsClient> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(trust.openssl_client_as(&[protocol], None).unwrap().without_tcpls().unwrap());
    }
    Arc::new(trust.client(&[protocol]).unwrap().without_tcpls().unwrap())
}

/// The same as [`client`], and offers TCPLS alone.
pub(crate) fn tcpls_client(trust: &Trust, protocol: &[u8]) -> Arc<dyn TlsClient> {
    #[cfg(feature = "openssl")]
    if is_openssl() {
        return Arc::new(trust.openssl_client_as(&[protocol], None).unwrap().tcpls_only());
    }
    Arc::new(trust.client(&[protocol]).unwrap().tcpls_only())
}

/// The same as [`client`], and joins in the form of the draft alone, as OpenSSL does in any case.
pub(crate) fn client_of_the_draft(trust: &Trust, protocol: &[u8]) -> Arc<dyn TlsClient> {
    if is_openssl() {
        return client(trust, protocol);
    }
    Arc::new(trust.client(&[protocol]).unwrap().without_resumed_joins())
}
