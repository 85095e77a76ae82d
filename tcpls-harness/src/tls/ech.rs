//! Encrypted ClientHello of a client (RFC 9849), with the HPKE of aws-lc-rs.

use core::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::{ALL_SUPPORTED_SUITES, DH_KEM_X25519_HKDF_SHA256_AES_128};
use rustls::crypto::hpke::Hpke;
use rustls::pki_types::EchConfigListBytes;
use rustls::pki_types::pem::PemObject;

use super::{TlsError, failure};

/// What PEM text begins with.
const PEM: &[u8] = b"-----BEGIN ";

/// How a client encrypts its ClientHello: with a server's configuration, or not at all while it pretends to.
#[derive(Clone)]
pub struct Ech(EchMode);

impl Ech {
    /// Reads a server's configurations (`ECHConfigList`) and takes the first that can be used. `bytes` is the list
    /// itself, its base64 text, as `ech=` in the server's HTTPS record in DNS has it, or PEM text (`ECHCONFIG`).
    ///
    /// # Errors
    /// It is something else, or no configuration can be used.
    pub fn from_config_list(bytes: &[u8]) -> Result<Self, TlsError> {
        let text = bytes.trim_ascii();
        let list = if text.starts_with(PEM) {
            EchConfigListBytes::from_pem_slice(text).map_err(|error| failure("no ECHCONFIG (PEM)", error))?
        } else if let Ok(list) = STANDARD.decode(text) {
            EchConfigListBytes::from(list)
        } else {
            EchConfigListBytes::from(bytes)
        };
        let config = EchConfig::new(list, ALL_SUPPORTED_SUITES)
            .map_err(|error| failure("no usable configuration of Encrypted ClientHello", error))?;
        Ok(Self(config.into()))
    }

    /// Reads them from a file.
    ///
    /// # Errors
    /// As [`Ech::from_config_list`], or the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, TlsError> {
        let what = || format!("can't use the ECH configuration in {}", path.display());
        let bytes = std::fs::read(path).map_err(|error| failure(what(), error))?;
        Self::from_config_list(&bytes).map_err(|error| failure(what(), error))
    }

    /// Sends an extension that looks like Encrypted ClientHello, with a random key (GREASE). The server's name stays
    /// visible.
    ///
    /// # Errors
    /// The library cannot make a key.
    pub fn grease() -> Result<Self, TlsError> {
        let suite: &dyn Hpke = DH_KEM_X25519_HKDF_SHA256_AES_128;
        let (public, _) = suite.generate_key_pair().map_err(|error| failure("no key for GREASE ECH", error))?;
        Ok(Self(EchMode::Grease(EchGreaseConfig::new(suite, public))))
    }

    pub(super) fn mode(&self) -> EchMode {
        self.0.clone()
    }
}

impl fmt::Debug for Ech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            EchMode::Enable(_) => "Ech(Enable)",
            EchMode::Grease(_) => "Ech(Grease)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list with one configuration for `public.test`: X25519, HKDF-SHA256, AES-128-GCM.
    fn list() -> Vec<u8> {
        let name = b"public.test";
        let key_config = [&[7, 0, 0x20, 0, 32][..], &[9; 32], &[0, 4, 0, 1, 0, 1]].concat();
        let contents = [&key_config[..], &[0, name.len() as u8], name, &[0, 0]].concat();
        let config = [&[0xfe, 0x0d, 0, contents.len() as u8][..], &contents].concat();
        [&[0, config.len() as u8][..], &config].concat()
    }

    #[test]
    fn configurations_are_read_from_bytes_base64_and_pem() {
        let base64 = STANDARD.encode(list());
        let pem = format!("-----BEGIN ECHCONFIG-----\n{base64}\n-----END ECHCONFIG-----\n");
        for bytes in [list(), base64.clone().into(), format!(" {base64}\n").into(), pem.into()] {
            let ech = Ech::from_config_list(&bytes).unwrap();
            assert!(matches!(ech.mode(), EchMode::Enable(_)));
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let mut unknown = list();
        unknown[2] = 0xfa; // another version of the extension
        let cut = &list()[..20];
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bytes in [&b""[..], b"GREASE", cut, &unknown, pem] {
            assert!(Ech::from_config_list(bytes).is_err(), "{bytes:?}");
        }
        let error = Ech::from_file(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
