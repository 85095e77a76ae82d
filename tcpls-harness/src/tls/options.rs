//! What a TLS configuration can have besides certificates and trust.

use rustls::{ClientConfig, ConfigBuilder, Error, ServerConfig, WantsVerifier, WantsVersions};

#[cfg(feature = "aws-lc-rs")]
use super::Ech;

/// Additions to a TLS configuration with rustls, all off by default.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Whether this endpoint compresses its certificates for peers that can decompress them, and offers to decompress
    /// the peer's (RFC 8879), by brotli or zlib. A middlebox can see the offer of a client in its ClientHello.
    #[cfg(feature = "cert-compression")]
    pub cert_compression: bool,
    /// Client: hides the server's name (RFC 9849), or pretends to. A server's configuration does not use it.
    #[cfg(feature = "aws-lc-rs")]
    pub ech: Option<Ech>,
}

impl TlsOptions {
    /// Returns the options with some of them changed.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Whether nothing is on: OpenSSL has none of this.
    #[cfg(all(feature = "cli", feature = "openssl"))]
    pub(crate) fn is_default(&self) -> bool {
        #[cfg(feature = "aws-lc-rs")]
        let has_ech = self.ech.is_some();
        #[cfg(not(feature = "aws-lc-rs"))]
        let has_ech = false;
        !self.compresses() && !has_ech
    }

    /// TLS 1.3 alone, with Encrypted ClientHello if it is on.
    pub(super) fn builder(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsVersions>,
    ) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
        #[cfg(feature = "aws-lc-rs")]
        if let Some(ech) = &self.ech {
            return builder.with_ech(ech.mode());
        }
        builder.with_protocol_versions(&[&rustls::version::TLS13])
    }

    pub(super) fn apply_to_client(&self, config: &mut ClientConfig) {
        if !self.compresses() {
            // rustls would offer what another package in the build has asked for.
            (config.cert_compressors, config.cert_decompressors) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn apply_to_server(&self, config: &mut ServerConfig) {
        if !self.compresses() {
            (config.cert_compressors, config.cert_decompressors) = (Vec::new(), Vec::new());
        }
    }

    fn compresses(&self) -> bool {
        #[cfg(feature = "cert-compression")]
        return self.cert_compression;
        #[cfg(not(feature = "cert-compression"))]
        return false;
    }
}
