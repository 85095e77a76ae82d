//! What the fuzz targets share: a handshake and keys that encrypt nothing, so that the fuzzer gets inside a session. They
//! are those of the simulator.

use tcpls_core::crypto::TAG_LEN;

#[path = "../../tcpls-harness/src/sim/null.rs"]
mod null;

pub use null::NullHandshake;

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
