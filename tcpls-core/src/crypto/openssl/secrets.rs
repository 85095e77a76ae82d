//! Traffic secrets from OpenSSL's key log, and the keys that follow from them (RFC 8446, 7.1 to 7.3).

use core::fmt;
use core::hint::black_box;
use std::sync::OnceLock;

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};

use super::errors::{failure, library};
use crate::crypto::aead::Suite;
use crate::crypto::{OpenKeys, SealKeys};
use crate::error::{HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::ids::Side;

/// Secrets of one handshake, as its key log shows them: for application data, and for the server's flight.
#[derive(Default)]
pub(super) struct Log {
    server_handshake: OnceLock<Secret>,
    client: OnceLock<Secret>,
    server: OnceLock<Secret>,
}

impl Log {
    /// Takes one line of a key log: a label, the client's random, a secret.
    pub(super) fn take_line(&self, line: &str) {
        let mut words = line.split(' ');
        let place = match words.next() {
            Some("CLIENT_TRAFFIC_SECRET_0") => &self.client,
            Some("SERVER_TRAFFIC_SECRET_0") => &self.server,
            Some("SERVER_HANDSHAKE_TRAFFIC_SECRET") => &self.server_handshake,
            _ => return,
        };
        if let Some(secret) = words.nth(1).and_then(Secret::from_hex) {
            _ = place.set(secret);
        }
    }

    /// The secret of the server's flight, once it exists.
    pub(super) fn server_handshake_secret(&self) -> Option<&Secret> {
        self.server_handshake.get()
    }

    /// The secret under which `side` sends, once it exists.
    pub(super) fn secret_of(&self, side: Side) -> Option<&Secret> {
        match side {
            Side::Client => self.client.get(),
            Side::Server => self.server.get(),
        }
    }
}

/// Key material, overwritten when it is dropped.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl Secret {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let pairs = text.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?));
        bytes.collect::<Option<Vec<u8>>>().map(Self)
    }

    /// HKDF-Expand-Label without a context.
    fn expand(&self, suite: Suite, label: &str, len: usize) -> Result<Self, ErrorStack> {
        let hash = if suite == Suite::Aes256Gcm { Md::sha384() } else { Md::sha256() };
        let label = [b"tls13 ", label.as_bytes()].concat();
        let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], &label, &[0]].concat();
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_mode(HkdfMode::EXPAND_ONLY)?;
        hkdf.set_hkdf_md(hash)?;
        hkdf.set_hkdf_key(&self.0)?;
        hkdf.add_hkdf_info(&info)?;
        let mut out = Self(vec![0; len]);
        hkdf.derive(Some(&mut out.0))?;
        Ok(out)
    }

    /// The secret of the next generation.
    pub(super) fn next(&self, suite: Suite) -> Result<Self, HandshakeError> {
        self.expand(suite, "traffic upd", self.0.len()).map_err(library)
    }

    fn key_and_iv(&self, suite: Suite) -> Result<(Self, [u8; 12]), HandshakeError> {
        let key_len = if suite == Suite::Aes128Gcm { 16 } else { 32 };
        let key = self.expand(suite, "key", key_len).map_err(library)?;
        let iv = self.expand(suite, "iv", 12).map_err(library)?;
        Ok((key, iv.0.as_slice().try_into().map_err(|_| wrong_length())?))
    }

    /// Keys to seal records with.
    pub(super) fn seal_keys(&self, suite: Suite) -> Result<SealKeys, HandshakeError> {
        let (key, iv) = self.key_and_iv(suite)?;
        Ok(SealKeys { key: suite.seal_key(&key.0).ok_or_else(wrong_length)?, iv })
    }

    /// Keys to open records with.
    pub(super) fn open_keys(&self, suite: Suite) -> Result<OpenKeys, HandshakeError> {
        let (key, iv) = self.key_and_iv(suite)?;
        Ok(OpenKeys { key: suite.open_key(&key.0).ok_or_else(wrong_length)?, iv })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        black_box(&mut self.0);
    }
}

fn wrong_length() -> HandshakeError {
    failure(Kind::Other, "the cipher suite's key or IV has an unexpected length")
}
