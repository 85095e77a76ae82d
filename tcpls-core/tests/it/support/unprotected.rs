//! A TLS provider without TLS, for plain sessions: it agrees at once, on keys that protect nothing.

use tcpls_core::crypto::{
    Agreed, Handshake, HandshakeFailure, KeySchedule, Offer, OpenError, OpenKey, OpenKeys, SealKey, SealKeys, TAG_LEN,
};
use tcpls_core::error::HandshakeError;

/// A handshake that agrees at once on no TCPLS and on keys that protect nothing, so that a test can write any record.
#[derive(Default)]
pub struct Unprotected {
    complete: bool,
}

struct NoKey;

impl SealKey for NoKey {
    fn seal(&self, _nonce: [u8; 12], _aad: &[u8], _in_out: &mut [u8]) -> [u8; TAG_LEN] {
        [0; TAG_LEN]
    }

    fn confidentiality_limit(&self) -> u64 {
        u64::MAX
    }
}

impl OpenKey for NoKey {
    fn open(&self, _nonce: [u8; 12], _aad: &[u8], _in_out: &mut [u8]) -> Result<(), OpenError> {
        Ok(())
    }

    fn integrity_limit(&self) -> u64 {
        u64::MAX
    }
}

impl KeySchedule for NoKey {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        Ok(SealKeys { key: Box::new(NoKey), iv: [0; 12] })
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        Ok(OpenKeys { key: Box::new(NoKey), iv: [0; 12] })
    }

    fn handle_new_session_ticket(&mut self, _body: &[u8]) -> Result<(), HandshakeError> {
        Ok(())
    }
}

impl Handshake for Unprotected {
    fn handle_record(&mut self, _record: &mut [u8]) -> Result<(), HandshakeFailure> {
        self.complete = true;
        Ok(())
    }

    fn write(&mut self, _out: &mut Vec<u8>) {}

    fn write_half_rtt(&mut self, _plaintext: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn tcpls(&self) -> Option<bool> {
        Some(false)
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        Ok(Agreed {
            tcpls: false,
            offer: Offer::Anything,
            application_protocol: None,
            alpn: None,
            server_name: None,
            early_token: None,
            peer_certificates: Vec::new(),
            suite: 0x1301,
            seal: (0, SealKeys { key: Box::new(NoKey), iv: [0; 12] }),
            open: (0, OpenKeys { key: Box::new(NoKey), iv: [0; 12] }),
            schedule: Box::new(NoKey),
        })
    }
}
