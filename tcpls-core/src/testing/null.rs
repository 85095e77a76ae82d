//! Crypto that protects nothing, for simulations and fuzzing.
//!
//! The handshake agrees on keys that anyone can compute. Sealing leaves the plaintext as it is and adds a checksum.

use crate::crypto::{Agreed, Handshake, KeySchedule, OpenError, OpenKey, OpenKeys, SealKey, SealKeys, TAG_LEN};
use crate::error::{HandshakeError, HandshakeErrorKind};
use crate::wire::ids::Side;
use crate::wire::record::{MAX_PLAINTEXT, RecordHeader};

/// The types of the messages that follow the ClientHello.
const SERVER_FLIGHT: u8 = 2;
const FINISHED: u8 = 20;

/// A handshake that encrypts nothing.
///
/// It consists of a ClientHello, the server's flight and a Finished. Each but the first carries a checksum of the messages
/// before it, so that the handshake fails if the network changes a byte.
pub struct NullHandshake {
    side: Side,
    mode: Mode,
    tcpls: bool,
    transcript: u64,
    /// The input of keys: the transcript up to the server's flight.
    secret: u64,
    out: Vec<u8>,
    /// The server's 0.5-RTT records.
    sealed: u64,
    heard: bool,
    complete: bool,
}

/// How much a checksum matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Strict,
    /// For fuzzers, which find no checksums.
    Lenient,
}

impl NullHandshake {
    /// Starts the handshake of one end. `random` is the client random; a server ignores it.
    pub fn new(side: Side, random: [u8; 32]) -> Self {
        let mut handshake = Self {
            side,
            mode: Mode::Strict,
            tcpls: true,
            transcript: 0,
            secret: 0,
            out: Vec::new(),
            sealed: 0,
            heard: false,
            complete: false,
        };
        if side == Side::Client {
            handshake.out = client_hello(random);
            handshake.transcript = mix(0, &handshake.out);
        }
        handshake
    }

    /// Starts a handshake that sends nothing and completes with the first record, whatever it contains.
    ///
    /// Its keys open every record whose 16-byte tag does not begin with 0xff: a fuzzer or a test can write records without
    /// computing checksums.
    pub fn lenient(side: Side) -> Self {
        let mut handshake = Self::new(side, [0; 32]);
        handshake.out.clear();
        handshake.mode = Mode::Lenient;
        handshake
    }

    /// Starts a handshake like [`NullHandshake::lenient`] that agrees on plain TLS instead of TCPLS.
    pub fn plain(side: Side) -> Self {
        Self { tcpls: false, ..Self::lenient(side) }
    }

    fn say(&mut self, message_type: u8) {
        let record = message(message_type, self.transcript);
        self.transcript = mix(self.transcript, &record);
        self.out.extend_from_slice(&record);
    }

    fn hear(&mut self, record: &[u8], message_type: u8) -> Result<(), HandshakeError> {
        if record != message(message_type, self.transcript) {
            return Err(HandshakeError::new(HandshakeErrorKind::Violation, "checksum or message type is wrong"));
        }
        self.transcript = mix(self.transcript, record);
        Ok(())
    }

    fn key(&self, sealer: Side) -> NullKey {
        NullKey { mode: self.mode, secret: mix(self.secret, &[sealer as u8]) }
    }
}

/// As short as a ClientHello can be.
fn client_hello(random: [u8; 32]) -> Vec<u8> {
    let mut hello = vec![22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
    hello.extend_from_slice(&random);
    hello.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0, 0, 0]);
    hello
}

fn message(message_type: u8, transcript: u64) -> Vec<u8> {
    [&[22, 3, 3, 0, 12, message_type, 0, 0, 8], &transcript.to_be_bytes()[..]].concat()
}

/// A checksum that changes with every bit. Eight bytes at a time: simulations spend their time elsewhere.
fn mix(state: u64, bytes: &[u8]) -> u64 {
    let step = |state: u64, word: u64| (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(state, |state, word| step(state, u64::from_le_bytes(*word)));
    let state = rest.iter().fold(state, |state, byte| step(state, u64::from(*byte) + 1));
    step(state, bytes.len() as u64)
}

impl Handshake for NullHandshake {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        if self.mode == Mode::Lenient {
            self.complete = true;
            return Ok(());
        }
        match (self.side, self.heard) {
            (Side::Client, _) => {
                self.hear(record, SERVER_FLIGHT)?;
                self.secret = self.transcript;
                self.say(FINISHED);
                self.complete = true;
            }
            (Side::Server, false) => {
                self.transcript = mix(0, record);
                self.say(SERVER_FLIGHT);
                self.secret = self.transcript;
            }
            (Side::Server, true) => {
                self.hear(record, FINISHED)?;
                self.complete = true;
            }
        }
        self.heard = true;
        Ok(())
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        if self.side == Side::Client || self.mode == Mode::Lenient {
            return false;
        }
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.sealed.to_be_bytes());
        self.sealed += 1;
        let len = (plaintext.len() + 1 + TAG_LEN) as u16;
        let header = [&[23, 3, 3], &len.to_be_bytes()[..]].concat();
        let mut sealed = [plaintext, &[23]].concat();
        let tag = self.key(Side::Server).seal(nonce, &header, &mut sealed);
        out.extend_from_slice(&[&header[..], &sealed, &tag].concat());
        true
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn tcpls(&self) -> Option<bool> {
        (self.heard || self.mode == Mode::Lenient).then_some(self.tcpls)
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let (seal, open) = (self.key(self.side), self.key(self.side.peer()));
        let schedule = Box::new(NullSchedule { seal, open });
        let agreed = Agreed::new(0x1301, (self.sealed, seal.seal_keys()), (0, open.open_keys()), schedule);
        let mut agreed = agreed.with_alpn(self.tcpls.then_some(b"tcpls"));
        agreed.server_name = Some("server.test".into());
        Ok(agreed)
    }
}

/// Returns a record that the keys of [`NullHandshake::lenient`] and [`NullHandshake::plain`] open.
///
/// `content` is cut to the 2^14 bytes that a record can hold.
pub fn lenient_record(content_type: u8, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(MAX_PLAINTEXT)];
    let header = RecordHeader::encode_protected(content.len() + 1 + TAG_LEN);
    [&header, content, &[content_type], &[0; TAG_LEN]].concat()
}

/// One generation of one direction's keys.
#[derive(Clone, Copy, Debug)]
struct NullKey {
    mode: Mode,
    secret: u64,
}

impl NullKey {
    fn next(self) -> Self {
        Self { secret: mix(self.secret, b"next"), ..self }
    }

    fn seal_keys(self) -> SealKeys {
        SealKeys { key: Box::new(self), iv: [0; 12] }
    }

    fn open_keys(self) -> OpenKeys {
        OpenKeys { key: Box::new(self), iv: [0; 12] }
    }

    /// The first byte is never 0xff: to lenient keys that means a bad record.
    fn tag(self, nonce: [u8; 12], aad: &[u8], content: &[u8]) -> [u8; TAG_LEN] {
        let sum = mix(mix(mix(self.secret, &nonce), aad), content);
        let mut tag = [0; TAG_LEN];
        tag[8..].copy_from_slice(&sum.to_be_bytes());
        tag
    }
}

impl SealKey for NullKey {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        self.tag(nonce, aad, in_out)
    }

    fn confidentiality_limit(&self) -> u64 {
        1 << 20
    }
}

impl OpenKey for NullKey {
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Result<(), OpenError> {
        let (content, tag) = in_out.split_at_checked(in_out.len().wrapping_sub(TAG_LEN)).ok_or(OpenError)?;
        let fits = match self.mode {
            Mode::Strict => tag == self.tag(nonce, aad, content),
            Mode::Lenient => tag[0] != 0xff,
        };
        if fits { Ok(()) } else { Err(OpenError) }
    }

    fn integrity_limit(&self) -> u64 {
        1 << 10
    }
}

struct NullSchedule {
    seal: NullKey,
    open: NullKey,
}

impl KeySchedule for NullSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        self.seal = self.seal.next();
        Ok(self.seal.seal_keys())
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        self.open = self.open.next();
        Ok(self.open.open_keys())
    }

    fn handle_new_session_ticket(&mut self, _body: &[u8]) -> Result<(), HandshakeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_on_keys_and_a_flipped_bit_does_not_open() {
        let mut client = NullHandshake::new(Side::Client, [1; 32]);
        let mut server = NullHandshake::new(Side::Server, [0; 32]);
        let mut flight = Vec::new();
        client.write(&mut flight);
        server.handle_record(&mut flight).unwrap();
        flight.clear();
        server.write(&mut flight);
        client.handle_record(&mut flight).unwrap();
        flight.clear();
        client.write(&mut flight);
        server.handle_record(&mut flight).unwrap();
        let (client, server) = (Box::new(client).finish().unwrap(), Box::new(server).finish().unwrap());
        let mut record = b"content".to_vec();
        let tag = client.seal.1.key.seal([5; 12], b"header", &mut record);
        record.extend_from_slice(&tag);
        assert_eq!(server.open.1.key.open([5; 12], b"header", &mut record.clone()), Ok(()));
        assert_eq!(server.open.1.key.open([6; 12], b"header", &mut record.clone()), Err(OpenError));
        for bit in 0..record.len() * 8 {
            let mut broken = record.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(server.open.1.key.open([5; 12], b"header", &mut broken), Err(OpenError), "bit {bit}");
        }
    }

    #[test]
    fn a_handshake_that_was_tampered_with_fails() {
        let mut client = NullHandshake::new(Side::Client, [1; 32]);
        let mut server = NullHandshake::new(Side::Server, [0; 32]);
        let mut flight = Vec::new();
        client.write(&mut flight);
        flight[20] ^= 1;
        server.handle_record(&mut flight).unwrap();
        flight.clear();
        server.write(&mut flight);
        assert!(client.handle_record(&mut flight).is_err());
    }
}
