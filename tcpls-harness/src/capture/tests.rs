//! Hellos, key logs and sealed records for the tests of this module.

use tcpls_core::ConnectionId;
use tcpls_core::crypto::nonce::nonce;
use tcpls_core::crypto::{Suite, TAG_LEN};
use tcpls_core::wire::record::RecordHeader;

use super::keys::Secret;

/// The random bytes of the ClientHello of session `number`.
pub(super) fn random(number: u16) -> [u8; 32] {
    let mut random = [7; 32];
    random[..2].copy_from_slice(&number.to_be_bytes());
    random
}

/// The application secret of session `number`, of each side another.
pub(super) fn secret(number: u16, is_server: bool) -> [u8; 32] {
    let mut secret = random(number);
    secret[31] = u8::from(is_server);
    secret
}

/// A key log with the application secrets of sessions 0, 1, ….
pub(super) fn key_log(sessions: u16) -> super::KeyLog {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines = (0..sessions).flat_map(|number| {
        [("CLIENT", false), ("SERVER", true)].map(|(side, is_server)| {
            format!("{side}_TRAFFIC_SECRET_0 {} {}\n", hex(&random(number)), hex(&secret(number, is_server)))
        })
    });
    super::KeyLog::parse(lines.collect::<String>().as_bytes()).unwrap()
}

/// A record with this content, sealed under a secret for AES-128-GCM after some key updates.
pub(super) fn sealed(
    secret: &[u8],
    (tcp, generation, sequence): (u32, u32, u64),
    content_type: u8,
    content: &[u8],
) -> Vec<u8> {
    let mut secret = Secret::new(Suite::Aes128Gcm, secret).unwrap();
    for _ in 0..generation {
        secret = secret.next().unwrap();
    }
    let (key, len, iv) = secret.key_and_iv().unwrap();
    let key = Suite::Aes128Gcm.seal_key(&key[..len]).unwrap();
    let mut inner = [content, &[content_type]].concat();
    let mut record = RecordHeader::encode_protected(inner.len() + TAG_LEN).to_vec();
    let tag = key.seal(nonce(&iv, ConnectionId(tcp), sequence), &record, &mut inner);
    record.extend(inner);
    record.extend(tag);
    record
}

/// A plaintext record with a handshake message.
pub(super) fn message(ty: u8, body: &[u8]) -> Vec<u8> {
    let message = [&[ty, 0][..], &(body.len() as u16).to_be_bytes(), body].concat();
    [&[22, 3, 3][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

/// A ClientHello with these extensions.
pub(super) fn client_hello(random: &[u8; 32], extensions: &[u8]) -> Vec<u8> {
    let len = (extensions.len() as u16).to_be_bytes();
    message(1, &[&[3, 3][..], random, &[0, 0, 2, 0x13, 1, 1, 0], &len, extensions].concat())
}

/// A ServerHello for AES-128-GCM.
pub(super) fn server_hello() -> Vec<u8> {
    message(2, &[&[3, 3][..], &[9; 32], &[0, 0x13, 1, 0, 0, 0]].concat())
}
