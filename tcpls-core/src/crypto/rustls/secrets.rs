//! Derives keys from the secrets that rustls extracts after a handshake, and those of every later generation.

use std::sync::Arc;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion};

use super::early::SessionTickets;
use super::errors::failure;
use crate::crypto::aead::{Prf, Suite};
use crate::crypto::{KeySchedule, OpenKeys, SealKeys};
use crate::error::{HandshakeError, HandshakeErrorKind as Kind};

/// The secrets after a handshake.
pub(super) struct Extracted {
    pub(super) suite: Suite,
    pub(super) seal: (u64, SealKeys),
    pub(super) open: (u64, OpenKeys),
    pub(super) schedule: Box<dyn KeySchedule>,
}

/// Derives keys from the secrets of rustls, if their suite can seal records of a session.
pub(super) fn extracted(
    secrets: ExtractedSecrets,
    schedule: impl Negotiated + KeySchedule + 'static,
) -> Result<Extracted, HandshakeError> {
    let (version, code) = schedule.negotiated();
    if version != ProtocolVersion::TLSv1_3 {
        return Err(failure(Kind::Incompatible, "the peer does not speak TLS 1.3"));
    }
    let suite =
        Suite::from_code(code).ok_or_else(|| failure(Kind::Incompatible, "the cipher suite is not supported"))?;
    let ((sealed, tx), (opened, rx)) = (secrets.tx, secrets.rx);
    Ok(Extracted {
        suite,
        seal: (sealed, seal_keys(&tx)?),
        open: (opened, open_keys(&rx)?),
        schedule: Box::new(schedule),
    })
}

fn seal_keys(secrets: &ConnectionTrafficSecrets) -> Result<SealKeys, HandshakeError> {
    let (suite, key, iv) = parts(secrets)?;
    let key = suite.seal_key(key).ok_or_else(wrong_length)?;
    Ok(SealKeys { key, iv })
}

fn open_keys(secrets: &ConnectionTrafficSecrets) -> Result<OpenKeys, HandshakeError> {
    let (suite, key, iv) = parts(secrets)?;
    let key = suite.open_key(key).ok_or_else(wrong_length)?;
    Ok(OpenKeys { key, iv })
}

/// The key of the ages that the tickets of joins have, from the first application keys of the client.
pub(super) fn ticket_ages(client: &ConnectionTrafficSecrets) -> Result<Prf, HandshakeError> {
    let (_, key, iv) = parts(client)?;
    Ok(Prf::new(&Prf::new(&[key, &iv].concat()).sign(&[b"tcpls ticket age"])))
}

/// Suite, key and IV. Only an IV of 12 bytes has room for a connection ID and a sequence number.
fn parts(secrets: &ConnectionTrafficSecrets) -> Result<(Suite, &[u8], [u8; 12]), HandshakeError> {
    let (suite, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
        _ => return Err(failure(Kind::Incompatible, "the cipher suite is not supported")),
    };
    Ok((suite, key.as_ref(), iv.as_ref().try_into().map_err(|_| wrong_length())?))
}

fn wrong_length() -> HandshakeError {
    failure(Kind::Other, "the cipher suite's key or IV has an unexpected length")
}

/// The version and the cipher suite of a handshake.
pub(super) trait Negotiated {
    fn negotiated(&self) -> (ProtocolVersion, u16);
}

impl<Data> Negotiated for KernelConnection<Data> {
    fn negotiated(&self) -> (ProtocolVersion, u16) {
        (self.protocol_version(), u16::from(self.negotiated_cipher_suite().suite()))
    }
}

/// A client's later keys and its tickets.
pub(super) struct ClientSchedule {
    pub(super) kernel: KernelConnection<ClientConnectionData>,
    /// The ALPN name of the session.
    pub(super) alpn: Vec<u8>,
    pub(super) early: Option<Arc<SessionTickets>>,
}

impl Negotiated for ClientSchedule {
    fn negotiated(&self) -> (ProtocolVersion, u16) {
        self.kernel.negotiated()
    }
}

impl KeySchedule for ClientSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        seal_keys(&self.kernel.update_tx_secret()?.1)
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        open_keys(&self.kernel.update_rx_secret()?.1)
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        Ok(self.kernel.handle_new_session_ticket(body)?)
    }

    fn remember(&mut self, state: &[u8]) {
        self.early.iter().for_each(|tickets| tickets.remember(&self.alpn, state));
    }
}

impl KeySchedule for KernelConnection<ServerConnectionData> {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        seal_keys(&self.update_tx_secret()?.1)
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        open_keys(&self.update_rx_secret()?.1)
    }

    fn handle_new_session_ticket(&mut self, _body: &[u8]) -> Result<(), HandshakeError> {
        Err(failure(Kind::Violation, "clients do not send session tickets"))
    }
}
