//! A TLS 1.3 server by hand (RFC 8446), for one client: it puts anything in EncryptedExtensions, which no library does. It is
//! written independently of the provider, and knows one cipher suite, X25519 and Ed25519.

use openssl::derive::Deriver;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::{Id, PKey};
use openssl::sign::Signer;

use super::CERTIFICATE;
use crate::crypto::aead::Suite;
use crate::crypto::nonce::nonce;
use crate::crypto::{OpenKeys, SealKeys};
use crate::wire::ids::ConnectionId;
use crate::wire::record::RecordHeader;

/// TLS_AES_128_GCM_SHA256.
const SUITE: [u8; 2] = [0x13, 0x01];
const X25519: [u8; 2] = [0, 0x1d];
const KEY_SHARE: [u8; 2] = [0, 51];
const ED25519: [u8; 2] = [0x08, 0x07];

/// A server that has answered a ClientHello.
pub(super) struct RawServer {
    /// Its flight: ServerHello, then one record for each message, EncryptedExtensions first.
    pub(super) flight: Vec<Vec<u8>>,
    /// Its application keys.
    pub(super) seal: SealKeys,
    /// The client's application keys.
    pub(super) open: OpenKeys,
}

impl RawServer {
    /// Answers the record with a ClientHello; EncryptedExtensions are spread over records of at most `piece` bytes.
    pub(super) fn answer(hello: &[u8], extensions: &[(u16, &[u8])], piece: usize) -> Self {
        let hello = &hello[5..];
        let (session_id, share) = parse_hello(hello);
        let key = PKey::generate_x25519().unwrap();
        let peer = PKey::public_key_from_raw_bytes(&share, Id::X25519).unwrap();
        let mut deriver = Deriver::new(&key).unwrap();
        deriver.set_peer(&peer).unwrap();
        let shared = deriver.derive_to_vec().unwrap();

        let own_share = [&KEY_SHARE[..], &[0, 36], &X25519, &[0, 32], &key.raw_public_key().unwrap()].concat();
        let hello_extensions = [&[0, 43, 0, 2, 3, 4][..], &own_share].concat();
        let head = [&[3, 3][..], &[9; 32], &[session_id.len() as u8], &session_id, &SUITE, &[0]].concat();
        let server_hello = message(2, &[&head[..], &vector(2, &hello_extensions)].concat());
        let mut transcript = [hello, &server_hello].concat();

        let early = hmac(&[0; 32], &[0; 32]);
        let handshake = hmac(&expand(&early, "derived", &digest(b""), 32), &shared);
        let secret = expand(&handshake, "s hs traffic", &digest(&transcript), 32);
        let master = hmac(&expand(&handshake, "derived", &digest(b""), 32), &[0; 32]);

        let listed = extensions.iter().map(|(code, data)| [&code.to_be_bytes()[..], &vector(2, data)].concat());
        let encrypted_extensions = message(8, &vector(2, &listed.collect::<Vec<_>>().concat()));
        let entry = [&vector(3, CERTIFICATE)[..], &[0, 0]].concat();
        let certificate = message(11, &[&[0][..], &vector(3, &entry)].concat());
        transcript.extend([&encrypted_extensions[..], &certificate].concat());
        let signed = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", &digest(&transcript)].concat();
        let signer = PKey::private_key_from_raw_bytes(&[1; 32], Id::ED25519).unwrap();
        let signature = Signer::new_without_digest(&signer).unwrap().sign_oneshot_to_vec(&signed).unwrap();
        let verify = message(15, &[&ED25519[..], &vector(2, &signature)].concat());
        transcript.extend_from_slice(&verify);
        let finished = message(20, &hmac(&expand(&secret, "finished", b"", 32), &digest(&transcript)));
        transcript.extend_from_slice(&finished);

        let keys = seal_keys(&secret);
        let mut flight = vec![[&[22, 3, 3][..], &vector(2, &server_hello)].concat()];
        let messages = encrypted_extensions.chunks(piece).chain([&certificate[..], &verify, &finished]);
        flight.extend((0..).zip(messages).map(|(number, content)| seal(&keys, number, 22, content)));
        let application = |label: &str| expand(&master, label, &digest(&transcript), 32);
        let (own, clients) = (application("s ap traffic"), application("c ap traffic"));
        Self { flight, seal: seal_keys(&own), open: open_keys(&clients) }
    }

    /// One record under the application keys.
    pub(super) fn seal(&self, number: u64, content_type: u8, content: &[u8]) -> Vec<u8> {
        seal(&self.seal, number, content_type, content)
    }
}

fn seal(keys: &SealKeys, number: u64, content_type: u8, content: &[u8]) -> Vec<u8> {
    let header = RecordHeader::encode_protected(content.len() + 17);
    let mut inner = [content, &[content_type]].concat();
    let tag = keys.key.seal(nonce(&keys.iv, ConnectionId::FIRST, number), &header, &mut inner);
    [&header[..], &inner, &tag].concat()
}

fn iv(secret: &[u8]) -> [u8; 12] {
    expand(secret, "iv", b"", 12).try_into().unwrap()
}

fn seal_keys(secret: &[u8]) -> SealKeys {
    SealKeys { key: Suite::Aes128Gcm.seal_key(&expand(secret, "key", b"", 16)).unwrap(), iv: iv(secret) }
}

fn open_keys(secret: &[u8]) -> OpenKeys {
    OpenKeys { key: Suite::Aes128Gcm.open_key(&expand(secret, "key", b"", 16)).unwrap(), iv: iv(secret) }
}

/// The session ID and the X25519 share of a ClientHello.
fn parse_hello(hello: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut rest = &hello[4 + 2 + 32..];
    let session_id = take(&mut rest, 1).to_vec();
    take(&mut rest, 2);
    take(&mut rest, 1);
    let mut extensions = take(&mut rest, 2);
    while let Some((code, mut after)) = extensions.split_first_chunk::<2>() {
        let mut data = take(&mut after, 2);
        extensions = after;
        if *code != KEY_SHARE {
            continue;
        }
        let mut shares = take(&mut data, 2);
        while let Some((group, mut after)) = shares.split_first_chunk::<2>() {
            let share = take(&mut after, 2);
            shares = after;
            if *group == X25519 {
                return (session_id, share.to_vec());
            }
        }
    }
    panic!("the client sent no share of X25519");
}

/// Takes a vector whose length has `size` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (len, after) = rest.split_at(size);
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    let (content, after) = after.split_at(len);
    *rest = after;
    content
}

/// A vector whose length has `size` bytes.
fn vector(size: usize, content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes()[4 - size..], content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &vector(3, body)].concat()
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    hash(MessageDigest::sha256(), bytes).unwrap().to_vec()
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(data).unwrap()
}

/// HKDF-Expand-Label, for at most 32 bytes.
fn expand(secret: &[u8], label: &str, context: &[u8], len: usize) -> Vec<u8> {
    let label = [b"tls13 ", label.as_bytes()].concat();
    let info = [&(len as u16).to_be_bytes()[..], &vector(1, &label), &vector(1, context), &[1]].concat();
    let mut out = hmac(secret, &info);
    out.truncate(len);
    out
}
