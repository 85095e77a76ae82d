//! Certificates of the command's own side: a server's, given, or made at the start with a key that is kept; and a client's,
//! for servers that require one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tcpls_core::crypto::TlsServer;

use super::Outcome;
use super::library::Library;
use super::state::StateArgs;
use super::validity::Validity;
use crate::net::Listener;
use crate::tls::{Identity, TlsOptions};

/// The certificate of a client.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientIdentityArgs {
    /// Client certificate chain in PEM, for a server that requires one
    #[arg(long, value_name = "PEM", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the client certificate in PEM
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl ClientIdentityArgs {
    pub(crate) fn load(&self) -> Outcome<Option<Identity>> {
        let (Some(cert), Some(key)) = (&self.cert, &self.key) else { return Ok(None) };
        Ok(Some(Identity::from_files(cert, key)?))
    }
}

/// The certificate that a server shows, and those that it requires of clients.
#[derive(Clone, Debug, clap::Args)]
pub struct IdentityArgs {
    /// Certificate chain in PEM, the server's own certificate first
    #[arg(long, value_name = "PEM", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of the certificate in PEM
    #[arg(long, value_name = "PEM", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Require a client certificate that is in this PEM file, or issued by one in it
    #[arg(long, value_name = "PEM")]
    pub client_ca: Option<PathBuf>,
    /// Name in the self-signed certificate, besides localhost and the listening addresses; repeat it for several
    /// names
    #[arg(long, value_name = "NAME", conflicts_with = "cert")]
    pub name: Vec<String>,
    /// File to write the self-signed certificate to
    #[arg(long, value_name = "FILE", default_value = "tcpls-ca.pem", conflicts_with = "cert")]
    pub ca_out: PathBuf,
    /// TLS library
    #[cfg(feature = "openssl")]
    #[arg(long, value_name = "LIBRARY", value_enum, default_value_t)]
    pub tls: Library,
    /// Where the private key is kept.
    #[command(flatten)]
    pub state: StateArgs,
    /// Do not accept TCP connections that join by TLS resumptions, only those that join in the form of the draft
    #[arg(long)]
    pub no_resumed_joins: bool,
    /// Send the certificates compressed (RFC 8879) to clients that can decompress them, and accept compressed ones
    #[cfg(feature = "cert-compression")]
    #[arg(long)]
    pub cert_compression: bool,
}

impl IdentityArgs {
    /// The given certificate, or a self-signed one for the addresses that are listened on.
    pub(crate) fn load(&self, listened: &[SocketAddr]) -> Outcome<Identity> {
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            return Ok(Identity::from_files(cert, key)?);
        }
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let listened = listened.iter().filter(|address| !address.ip().is_unspecified());
        names.extend(listened.map(|address| address.ip().to_string()).chain(self.name.iter().cloned()));
        names.sort();
        names.dedup();
        Ok(Identity::kept_in(&self.state.directory()?.key(), &names)?)
    }

    /// The TLS configuration of the server with this certificate.
    pub(crate) fn server(
        &self,
        identity: &Identity,
        protocols: &[&[u8]],
        early_data: bool,
    ) -> Outcome<Arc<dyn TlsServer>> {
        #[cfg(feature = "openssl")]
        let library = self.tls;
        #[cfg(not(feature = "openssl"))]
        let library = Library::default();
        let options = TlsOptions::default();
        #[cfg(feature = "cert-compression")]
        let options = options.with(|options| options.cert_compression = self.cert_compression);
        let takes = (early_data, !self.no_resumed_joins);
        library.server(identity, protocols, self.client_ca.as_deref(), &options, takes)
    }

    /// Reads the files again, and has `listener` use them for new sessions. If one is unusable, nothing changes. A certificate
    /// of the server's own making stays as long as its key does: clients have copies of it.
    pub(crate) fn renew(
        &self,
        current: &mut Identity,
        listener: &Listener,
        protocols: &[&[u8]],
        early_data: bool,
    ) -> Outcome {
        let loaded = self.load(listener.local_addresses())?;
        let stays = self.cert.is_none() && loaded.pin()? == current.pin()?;
        let shown = if stays { &*current } else { &loaded };
        let tls = self.server(shown, protocols, early_data)?;
        if !stays {
            // Last of what can fail: clients must not get a certificate that the server does not show.
            self.write_ca(&loaded)?;
            *current = loaded;
        }
        listener.set_tls(tls);
        Ok(())
    }

    /// A warning for each given certificate that clients refuse today, or soon.
    pub(crate) fn warnings(&self, identity: &Identity) -> Vec<String> {
        let Some(file) = &self.cert else { return Vec::new() };
        let (file, now) = (file.display(), SystemTime::now());
        let warning = |validity: Validity| match validity.complaint(now) {
            Some(complaint) => {
                Some(format!("a certificate in {file} {complaint}: clients refuse it until it is renewed"))
            }
            None => validity.expiry(now).map(|expiry| format!("a certificate in {file} {expiry}: renew it before")),
        };
        let validities = identity.certificates().iter().filter_map(|certificate| Validity::of(certificate));
        validities.filter_map(warning).collect()
    }

    /// Writes a self-signed certificate to the file that clients pass with --ca, and returns the file.
    pub(crate) fn write_ca(&self, identity: &Identity) -> Outcome<Option<PathBuf>> {
        if self.cert.is_some() {
            return Ok(None);
        }
        std::fs::write(&self.ca_out, identity.certificate_pem()).map_err(|error| {
            let file = self.ca_out.display();
            format!("can't write the certificate to {file}: {error}; choose another place with --ca-out")
        })?;
        Ok(Some(self.ca_out.clone()))
    }
}
