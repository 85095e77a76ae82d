//! Generated certificates, with the feature `self-signed`.

use std::path::Path;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::{Identity, TlsError, failure};
use crate::private;

impl Identity {
    /// A new self-signed certificate for `names`, DNS names or IP addresses; a client that is to trust it needs
    /// [`Identity::certificate_pem`].
    ///
    /// # Errors
    /// A name is neither.
    pub fn self_signed(names: &[impl AsRef<str>]) -> Result<Self, TlsError> {
        Self::signed_by(KeyPair::generate().map_err(no_key)?, names)
    }

    /// A self-signed certificate for `names` with the private key in the PEM file `path`. If there is no such file, it is
    /// created with a new key, for this user alone.
    ///
    /// The certificate is made anew at each call, so that its names are those of today. Clients that trust an earlier one
    /// with the same key, or its [`Pin`](super::Pin), trust this one, too.
    ///
    /// # Errors
    /// The file holds something else, can't be read or written, or other users may read it; or a name is invalid.
    pub fn kept_in(path: &Path, names: &[impl AsRef<str>]) -> Result<Self, TlsError> {
        if let Some(found) = Self::found_in(path, names)? {
            return Ok(found);
        }
        let made = KeyPair::generate().map_err(no_key)?.serialize_pem();
        // If another process was faster, its key is the one.
        private::create(path, &made)
            .map_err(|error| failure(format_args!("can't keep a private key in {}", path.display()), error))?;
        Self::found_in(path, names)?
            .ok_or_else(|| failure("can't make a private key", format_args!("{} was removed", path.display())))
    }

    /// Makes a certificate for names with the private key in a file; `None` if there is no such file.
    ///
    /// # Errors
    /// The key can't be used, or others may read it, or a name is invalid.
    pub(crate) fn found_in(path: &Path, names: &[impl AsRef<str>]) -> Result<Option<Self>, TlsError> {
        let text = match private::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read,
        };
        let text =
            text.map_err(|error| failure(format_args!("can't use the private key in {}", path.display()), error))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| failure(format_args!("no private key (PEM) in {}", path.display()), error))?;
        let key = KeyPair::try_from(&key)
            .map_err(|error| failure(format_args!("can't use the private key in {}", path.display()), error))?;
        Self::signed_by(key, names).map(Some)
    }

    fn signed_by(key: KeyPair, names: &[impl AsRef<str>]) -> Result<Self, TlsError> {
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let parameters = rcgen::CertificateParams::new(names);
        let cert = parameters.and_then(|parameters| parameters.self_signed(&key));
        let cert = cert.map_err(|error| failure("can't make a certificate for these names", error))?;
        Ok(Self::of(&CertifiedKey { cert, signing_key: key }))
    }

    fn of(made: &CertifiedKey<KeyPair>) -> Self {
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Self { pem: made.cert.pem(), chain: vec![made.cert.der().clone()], key }
    }
}

fn no_key(error: rcgen::Error) -> TlsError {
    failure("can't make a private key", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Trust;

    #[test]
    fn kept_key_outlives_a_change_of_names() {
        let directory = std::env::temp_dir().join(format!("tcpls-kept-{}", std::process::id()));
        private::directory(&directory).unwrap();
        let path = directory.join("key.pem");
        let first = Identity::kept_in(&path, &["a.example"]).unwrap();
        let second = Identity::kept_in(&path, &["b.example", "192.0.2.1"]).unwrap();
        assert_eq!(first.pin(), second.pin());
        // A file of an earlier version has the certificate in front of the key.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{}{text}", first.certificate_pem())).unwrap();
        assert_eq!(Identity::kept_in(&path, &["a.example"]).unwrap().pin(), first.pin());
        std::fs::write(&path, first.certificate_pem()).unwrap();
        let error = Identity::kept_in(&path, &["a.example"]).unwrap_err().to_string();
        assert!(error.contains("no private key") && error.contains("key.pem"), "{error}");
        // The old certificate, as a trust anchor, has issued the new one: the name and the key are the same.
        assert!(Trust::Pem(first.certificate_pem().to_owned()).client(&[b"x"]).is_ok());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
