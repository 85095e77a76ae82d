//! Generated certificates, with the feature `self-signed`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::{Identity, TlsError, failure};

impl Identity {
    /// A new self-signed certificate for `names`, DNS names or IP addresses; a client that is to trust it needs
    /// [`Identity::certificate_pem`].
    ///
    /// # Errors
    /// A name is neither.
    pub fn self_signed(names: &[impl AsRef<str>]) -> Result<Self, TlsError> {
        Ok(Self::of(&make(names)?))
    }

    /// The self-signed certificate and key in the PEM file `path`, or new ones for `names` if there is no such file: these
    /// are put there, for this user's eyes alone, and serve at the next start, so that clients' copies stay good.
    ///
    /// # Errors
    /// The file holds something else, it can't be written, or a name is none.
    pub fn kept_in(path: &Path, names: &[impl AsRef<str>]) -> Result<Self, TlsError> {
        if path.exists() {
            return Self::from_files(path, path);
        }
        let made = make(names)?;
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(path).and_then(|mut file| {
            file.write_all(made.cert.pem().as_bytes())?;
            file.write_all(made.signing_key.serialize_pem().as_bytes())
        });
        written.map_err(|error| failure(format_args!("can't keep the certificate in {}", path.display()), error))?;
        Ok(Self::of(&made))
    }

    fn of(made: &CertifiedKey<KeyPair>) -> Self {
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        Self { pem: made.cert.pem(), chain: vec![made.cert.der().clone()], key }
    }
}

fn make(names: &[impl AsRef<str>]) -> Result<CertifiedKey<KeyPair>, TlsError> {
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names);
    made.map_err(|error| failure("can't make a certificate for these names", error))
}
