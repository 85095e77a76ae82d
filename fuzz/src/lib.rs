//! What the fuzz targets share: a handshake and keys that encrypt nothing, so that the fuzzer gets inside a session. They
//! exist only here.

use tcpls_core::crypto::{
    Agreed, Handshake, HandshakeFailure, KeySchedule, OpenError, OpenKey, OpenKeys, SealKey, SealKeys, TAG_LEN,
};
use tcpls_core::error::HandshakeError;

/// A handshake that is over with the first record, whatever that is.
#[derive(Default)]
pub struct NullHandshake {
    complete: bool,
}

impl Handshake for NullHandshake {
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
        Some(true)
    }
    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        Ok(Agreed {
            tcpls: true,
            application_protocol: None,
            alpn: Some(b"tcpls".to_vec()),
            server_name: Some("localhost".into()),
            early_token: None,
            peer_certificates: Vec::new(),
            suite: 0x1301,
            seal: (0, seal_keys()),
            open: (0, open_keys()),
            schedule: Box::new(NullKeys),
        })
    }
}

struct NullKeys;

fn seal_keys() -> SealKeys {
    SealKeys { key: Box::new(NullKeys), iv: [0; 12] }
}

fn open_keys() -> OpenKeys {
    OpenKeys { key: Box::new(NullKeys), iv: [0; 12] }
}

impl SealKey for NullKeys {
    fn seal(&self, _nonce: [u8; 12], _aad: &[u8], _in_out: &mut [u8]) -> [u8; TAG_LEN] {
        [0; TAG_LEN]
    }
    fn confidentiality_limit(&self) -> u64 {
        1 << 20
    }
}

impl OpenKey for NullKeys {
    /// A tag that begins with 0xff fails, so that this way is explored too.
    fn open(&self, _nonce: [u8; 12], _aad: &[u8], in_out: &mut [u8]) -> Result<(), OpenError> {
        if in_out.len() >= TAG_LEN && in_out[in_out.len() - TAG_LEN] == 0xff { Err(OpenError) } else { Ok(()) }
    }
    fn integrity_limit(&self) -> u64 {
        1 << 10
    }
}

impl KeySchedule for NullKeys {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        Ok(seal_keys())
    }
    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        Ok(open_keys())
    }
    fn handle_new_session_ticket(&mut self, _body: &[u8]) -> Result<(), HandshakeError> {
        Ok(())
    }
}

/// A record that the null keys open: `content` of type `content_type`.
pub fn record(content_type: u8, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(1 << 14)];
    let len = content.len() + 1 + TAG_LEN;
    let mut record = vec![23, 3, 3, (len >> 8) as u8, len as u8];
    record.extend_from_slice(content);
    record.push(content_type);
    record.extend_from_slice(&[0; TAG_LEN]);
    record
}
