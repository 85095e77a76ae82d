//! A server with Encrypted ClientHello (RFC 9849), made from the provider for rustls, which has none: the ClientHello is
//! decrypted in front of rustls, and the server's randomness is chosen such that the client sees that ECH was accepted.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ring::{digest, hmac};
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
use rustls::crypto::aws_lc_rs::kx_group::X25519;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::EchConfigListBytes;
use rustls::{CipherSuite, Error, NamedGroup};
use tcpls_core::crypto::Agreed;

use super::*;

/// The version of RFC 9849, and the extension's type.
const ECH: u16 = 0xfe0d;
const OUTER_EXTENSIONS: u16 = 0xfd00;
/// A handshake message's header and the version that a ServerHello begins with are in front of its random bytes.
const RANDOM: usize = 4 + 2;

pub(super) fn suite() -> &'static dyn Hpke {
    DH_KEM_X25519_HKDF_SHA256_AES_128
}

/// What the operator of such a server has.
pub(super) struct Keys {
    /// An ECHConfig.
    config: Vec<u8>,
    private: HpkePrivateKey,
}

impl Keys {
    pub(super) fn new(public_name: &str) -> Self {
        let (public, private) = suite().generate_key_pair().unwrap();
        Self { config: config(&public, public_name), private }
    }

    /// What clients find in DNS.
    pub(super) fn config_list(&self) -> EchConfigListBytes<'static> {
        prefixed16(&self.config).into()
    }

    /// The record with the inner ClientHello that the record with the outer one carries.
    pub(super) fn decrypt(&self, record: &[u8]) -> Vec<u8> {
        let outer = Hello::parse(&record[9..]);
        let ech = &outer.extensions.iter().find(|(ty, _)| *ty == ECH).unwrap().1;
        assert_eq!(ech[..1], [0], "it is the outer one");
        let enc_len = usize::from(u16::from_be_bytes([ech[6], ech[7]]));
        let (enc, payload) = (&ech[8..8 + enc_len], &ech[8 + enc_len + 2..]);
        // What is authenticated: the outer ClientHello with zeros in the place of the payload.
        let mut aad = record[9..].to_vec();
        let at = aad.windows(payload.len()).position(|window| window == payload).unwrap();
        aad[at..at + payload.len()].fill(0);
        let info = [b"tls ech\0", &self.config[..]].concat();
        let enc = EncapsulatedSecret(enc.to_vec());
        let encoded = suite().open(&enc, &info, &aad, payload, &self.private).unwrap();
        let mut inner = Hello::parse(&encoded);
        inner.session_id = outer.session_id;
        inner.extensions =
            inner.extensions.into_iter().flat_map(|extension| unfold(extension, &outer.extensions)).collect();
        inner.record()
    }
}

/// RFC 9849, 4.
fn config(public: &HpkePublicKey, public_name: &str) -> Vec<u8> {
    let name_len = u8::try_from(public_name.len()).unwrap();
    let contents = [
        &[7, 0x00, 0x20][..], // its ID, and DHKEM(X25519, HKDF-SHA256)
        &prefixed16(&public.0),
        &[0, 4, 0, 1, 0, 1], // HKDF-SHA256, AES-128-GCM
        &[64, name_len],
        public_name.as_bytes(),
        &[0, 0],
    ];
    [&ECH.to_be_bytes()[..], &prefixed16(&contents.concat())].concat()
}

fn prefixed16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// The extensions that one of the inner ClientHello stands for (RFC 9849, 5.1).
fn unfold(extension: (u16, Vec<u8>), outer: &[(u16, Vec<u8>)]) -> Vec<(u16, Vec<u8>)> {
    if extension.0 != OUTER_EXTENSIONS {
        return vec![extension];
    }
    let (types, _) = extension.1[1..].as_chunks();
    let find = |ty: &[u8; 2]| outer.iter().find(|(other, _)| *other == u16::from_be_bytes(*ty)).unwrap().clone();
    types.iter().map(find).collect()
}

/// The fields of a ClientHello.
struct Hello {
    /// Version and random bytes.
    head: Vec<u8>,
    session_id: Vec<u8>,
    /// Suites and compression methods with their lengths.
    offers: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

impl Hello {
    fn parse(body: &[u8]) -> Self {
        let at16 = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let suites = 35 + usize::from(body[34]);
        let compression = suites + 2 + at16(suites);
        let mut at = compression + 1 + usize::from(body[compression]);
        let (offers, end) = (body[suites..at].to_vec(), at + 2 + at16(at));
        at += 2;
        let mut extensions = Vec::new();
        while at < end {
            let len = at16(at + 2);
            extensions.push((at16(at) as u16, body[at + 4..at + 4 + len].to_vec()));
            at += 4 + len;
        }
        Self { head: body[..34].to_vec(), session_id: body[35..suites].to_vec(), offers, extensions }
    }

    fn record(&self) -> Vec<u8> {
        let extension = |(ty, body): &(u16, Vec<u8>)| [&ty.to_be_bytes()[..], &prefixed16(body)].concat();
        let extensions: Vec<u8> = self.extensions.iter().flat_map(extension).collect();
        let session_id_len = [u8::try_from(self.session_id.len()).unwrap()];
        let body = [&self.head[..], &session_id_len, &self.session_id, &self.offers, &prefixed16(&extensions)].concat();
        let message = [&[1], &u32::try_from(body.len()).unwrap().to_be_bytes()[1..], &body].concat();
        [&[22, 3, 1][..], &prefixed16(&message)].concat()
    }
}

/// The server's side of a handshake with Encrypted ClientHello.
pub(super) struct EchServer {
    /// Absent at a server that gets the inner ClientHello from another in front of it.
    keys: Option<Keys>,
    inside: Option<Box<dyn Handshake>>,
}

impl EchServer {
    pub(super) fn boxed(keys: Option<Keys>) -> Box<dyn Handshake> {
        Box::new(Self { keys, inside: None })
    }

    fn inside(&mut self) -> &mut dyn Handshake {
        &mut **self.inside.as_mut().unwrap()
    }
}

impl Handshake for EchServer {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        if let Some(inside) = &mut self.inside {
            return inside.handle_record(record);
        }
        let inner = self.keys.as_ref().map_or_else(|| record.to_vec(), |keys| keys.decrypt(record));
        let exchange: &'static RememberingExchange = Box::leak(Box::default());
        let (_, server_hello) = answer(&inner, exchange, [0; 8]);
        let accepted = confirmation(&inner[5..], &server_hello);
        self.inside = Some(answer(&inner, exchange, accepted).0);
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        self.inside.iter_mut().for_each(|inside| inside.write(out));
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.inside().write_half_rtt(plaintext, out)
    }

    fn is_complete(&self) -> bool {
        self.inside.as_ref().is_some_and(|inside| inside.is_complete())
    }

    fn tcpls(&self) -> Option<bool> {
        self.inside.as_ref()?.tcpls()
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        self.inside.unwrap().finish()
    }
}

/// A handshake whose ServerHello ends its random bytes with `last`, and that ServerHello; none of its bytes are taken.
fn answer(inner: &[u8], exchange: &'static RememberingExchange, last: [u8; 8]) -> (Box<dyn Handshake>, Vec<u8>) {
    let start = || {
        let mut provider = default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        provider.kx_groups = vec![exchange];
        provider.secure_random = Box::leak(Box::new(Chosen { last }));
        let server = RustlsServer::new(Arc::new(server_of(provider, 1)), &[]).unwrap();
        let mut handshake = server.handshake().unwrap();
        handshake.handle_record(&mut inner.to_vec()).unwrap();
        handshake
    };
    let mut flight = Vec::new();
    start().write(&mut flight);
    let len = usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    (start(), flight[5..5 + len].to_vec())
}

/// The last of the ServerHello's random bytes, which say that the server has the inner ClientHello (RFC 9849, 7.2).
fn confirmation(inner: &[u8], server_hello: &[u8]) -> [u8; 8] {
    let mut server_hello = server_hello.to_vec();
    server_hello[RANDOM + 24..RANDOM + 32].fill(0);
    let transcript = digest::digest(&digest::SHA256, &[inner, &server_hello].concat());
    let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), &inner[RANDOM..RANDOM + 32]);
    let label = b"tls13 ech accept confirmation";
    let info = [&[0, 8, label.len() as u8][..], label, &[32], transcript.as_ref(), &[1]].concat();
    let okm = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()), &info);
    okm.as_ref()[..8].try_into().unwrap()
}

/// The same for each purpose, except the last bytes of 32, as a ServerHello has them.
#[derive(Debug)]
struct Chosen {
    last: [u8; 8],
}

impl SecureRandom for Chosen {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        bytes.fill(0x5a);
        if bytes.len() == 32 {
            bytes[24..].copy_from_slice(&self.last);
        }
        Ok(())
    }
}

/// X25519 that has the same answer for the same key.
#[derive(Debug, Default)]
struct RememberingExchange {
    /// By the peer's public key: this endpoint's public key and the shared secret.
    answers: Mutex<BTreeMap<Vec<u8>, [Vec<u8>; 2]>>,
}

impl SupportedKxGroup for RememberingExchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        X25519.start()
    }

    fn start_and_complete(&self, peer: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let mut answers = self.answers.lock().unwrap();
        if !answers.contains_key(peer) {
            let done = X25519.start_and_complete(peer)?;
            answers.insert(peer.to_vec(), [done.pub_key, done.secret.secret_bytes().to_vec()]);
        }
        let [pub_key, secret] = answers[peer].clone();
        Ok(CompletedKeyExchange { group: NamedGroup::X25519, pub_key, secret: SharedSecret::from(secret) })
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
