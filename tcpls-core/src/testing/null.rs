//! Crypto that protects nothing, for simulations and fuzzing.
//!
//! The handshake agrees on keys that anyone can compute. Sealing leaves the plaintext as it is and adds a checksum.

mod early;
mod joins;

use self::early::Early;
pub use self::early::{NullTicket, NullTickets};
use self::joins::Join;
use crate::crypto::{
    Agreed, EarlyData, Handshake, KeySchedule, OpenError, OpenKey, OpenKeys, SealKey, SealKeys, TAG_LEN,
};
use crate::error::{HandshakeError, HandshakeErrorKind};
use crate::wire::ids::Side;
use crate::wire::record::{ContentType, HEADER_LEN, MAX_PLAINTEXT, RecordHeader};

/// The types of the messages that follow the ClientHello.
const SERVER_FLIGHT: u8 = 2;
/// The same, from a server that accepts early data.
const SERVER_FLIGHT_AND_EARLY_DATA: u8 = 8;
const FINISHED: u8 = 20;
/// The negotiated protocol.
const ALPN: &[u8] = b"tcpls";
/// The name that the ClientHello shows, and that both ends agree on.
const SERVER_NAME: &str = "server.test";
/// Where the length of the session ID is in a ClientHello, in which a ticket travels.
const SESSION_ID: usize = 43;

/// A handshake that encrypts nothing.
///
/// It consists of a ClientHello, the server's flight and a Finished. Each but the first carries a checksum of the messages
/// before it, so that the handshake fails if the network changes a byte.
pub struct NullHandshake {
    side: Side,
    mode: Mode,
    tcpls: bool,
    draft_only: bool,
    transcript: u64,
    /// The input of keys: the transcript up to the server's flight.
    secret: u64,
    out: Vec<u8>,
    /// The server's 0.5-RTT records.
    sealed: u64,
    heard: bool,
    complete: bool,
    early: Early,
    resumes_joins: bool,
    /// This is the handshake of a join.
    join: Option<Join>,
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
            draft_only: false,
            transcript: 0,
            secret: 0,
            out: Vec::new(),
            sealed: 0,
            heard: false,
            complete: false,
            early: Early::default(),
            resumes_joins: false,
            join: None,
        };
        if side == Side::Client {
            handshake.say_hello(random, &[]);
        }
        handshake
    }

    /// Starts the handshake of a client that offers a ticket, and may send early data with it.
    pub fn resuming(random: [u8; 32], ticket: NullTicket) -> Self {
        let mut handshake = Self::new(Side::Client, random);
        handshake.say_hello(random, &ticket.id());
        handshake.early = Early::client(ticket, NullKey::new(handshake.mode, handshake.transcript));
        handshake
    }

    /// Starts the handshake of a server that accepts early data with these tickets.
    pub fn accepting(tickets: NullTickets) -> Self {
        Self { early: Early::server(tickets), ..Self::new(Side::Server, [0; 32]) }
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

    /// Starts a server's handshake like [`NullHandshake::lenient`] that takes records of application data as early data, until
    /// another one completes it.
    pub fn lenient_accepting() -> Self {
        Self { early: Early::lenient(NullKey::new(Mode::Lenient, 0)), ..Self::lenient(Side::Server) }
    }

    /// Starts a handshake like [`NullHandshake::lenient`] that agrees on plain TLS instead of TCPLS.
    pub fn plain(side: Side) -> Self {
        Self { tcpls: false, ..Self::lenient(side) }
    }

    fn say_hello(&mut self, random: [u8; 32], ticket: &[u8]) {
        self.out = client_hello(random, ticket);
        self.transcript = mix(0, &self.out);
    }

    /// Client: takes the server's flight in either form.
    fn hear_flight(&mut self, record: &[u8]) -> Result<(), HandshakeError> {
        if self.early.is_offered() && self.hear(record, SERVER_FLIGHT_AND_EARLY_DATA).is_ok() {
            self.early.accept();
            return Ok(());
        }
        self.hear(record, SERVER_FLIGHT)
    }

    /// Server: takes the ClientHello.
    fn hear_hello(&mut self, record: &[u8]) {
        self.transcript = mix(0, record);
        let id = record.get(SESSION_ID).and_then(|len| record.get(SESSION_ID + 1..)?.get(..usize::from(*len)));
        let key = NullKey::new(self.mode, self.transcript);
        let is_accepted = id.is_some_and(|id| self.early.take_ticket(id, key));
        self.say(if is_accepted { SERVER_FLIGHT_AND_EARLY_DATA } else { SERVER_FLIGHT });
        self.secret = self.transcript;
    }

    /// The Finished covers how much early data was accepted, as EndOfEarlyData shows it in TLS.
    fn cover_early_data(&mut self) {
        if self.early.outcome() == EarlyData::Accepted {
            self.transcript = mix(self.transcript, &self.early.records().to_be_bytes());
        }
    }

    /// Returns the same handshake, but it agrees on the draft's frames alone (decision D142).
    #[must_use]
    pub fn draft_only(self) -> Self {
        Self { draft_only: true, ..self }
    }

    /// Returns the same handshake, but joins of its session are resumptions, if those of the peer are, too.
    #[must_use]
    pub fn resuming_joins(self) -> Self {
        Self { resumes_joins: true, ..self }
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
        NullKey::new(self.mode, mix(self.secret, &[sealer as u8]))
    }
}

/// As short as a ClientHello that names the server can be.
fn client_hello(random: [u8; 32], session_id: &[u8]) -> Vec<u8> {
    let (len, name_len) = (session_id.len() as u8, SERVER_NAME.len() as u8);
    let body = 52 + len + name_len;
    let mut hello = vec![22, 3, 1, 0, body + 4, 1, 0, 0, body, 3, 3];
    hello.extend_from_slice(&random);
    hello.push(len);
    hello.extend_from_slice(session_id);
    hello.extend_from_slice(&[0, 2, 0x13, 0x01, 1, 0]);
    hello.extend_from_slice(&[0, name_len + 9, 0, 0, 0, name_len + 5, 0, name_len + 3, 0, 0, name_len]);
    hello.extend_from_slice(SERVER_NAME.as_bytes());
    hello
}

fn nonce(number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
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
        let is_protected = record.first() == Some(&(ContentType::ApplicationData as u8));
        if self.mode == Mode::Lenient {
            if is_protected && self.early.outcome() == EarlyData::Accepted {
                return self.early.receive(record);
            }
            self.complete = true;
            return Ok(());
        }
        match (self.side, self.heard) {
            (Side::Client, _) if self.hear_resumption(record) => self.complete = true,
            (Side::Client, _) => {
                self.hear_flight(record)?;
                self.secret = self.transcript;
                self.cover_early_data();
                self.say(FINISHED);
                self.complete = true;
            }
            (Side::Server, false) => {
                if !self.resume(record)? {
                    self.hear_hello(record);
                }
            }
            (Side::Server, true) if is_protected => self.early.receive(record)?,
            (Side::Server, true) => {
                self.cover_early_data();
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
        let is_early = self.early.outcome() == EarlyData::Accepted;
        if self.side == Side::Client || self.complete || self.mode == Mode::Lenient && !is_early {
            return false;
        }
        self.key(Side::Server).seal_record(self.sealed, plaintext, out);
        self.sealed += 1;
        true
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.early.state()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let may_write = !self.heard && !plaintext.is_empty() && self.early.may_seal(plaintext.len());
        if may_write {
            self.write(out);
            self.early.seal(plaintext, out);
        }
        may_write
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        self.early.take_received()
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.early.set_terms(terms);
    }

    fn alpn(&self) -> Option<&[u8]> {
        (self.heard && self.tcpls).then_some(ALPN)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn tcpls(&self) -> Option<bool> {
        (self.heard || self.mode == Mode::Lenient).then_some(self.tcpls)
    }

    fn is_draft_only(&self) -> bool {
        self.draft_only
    }

    fn is_resumed(&self) -> bool {
        self.join.as_ref().is_some_and(Join::is_resumed)
    }

    fn resumes_joins(&self) -> bool {
        self.resumes_joins
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let (seal, open) = (self.key(self.side), self.key(self.side.peer()));
        let joins = self.resumes_joins.then_some((self.side, self.secret));
        let schedule = Box::new(NullSchedule { seal, open, joins });
        let agreed = Agreed::new(0x1301, (self.sealed, seal.seal_keys()), (0, open.open_keys()), schedule);
        let mut agreed = agreed.with_alpn(self.tcpls.then_some(ALPN));
        agreed.draft_only = self.draft_only;
        agreed.server_name = Some(SERVER_NAME.into());
        agreed.early_data = self.early.outcome();
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
    fn new(mode: Mode, secret: u64) -> Self {
        Self { mode, secret }
    }

    /// Appends a record of application data, the `number`th with this key.
    fn seal_record(self, number: u64, plaintext: &[u8], out: &mut Vec<u8>) {
        let header = RecordHeader::encode_protected(plaintext.len() + 1 + TAG_LEN);
        let mut sealed = [plaintext, &[ContentType::ApplicationData as u8]].concat();
        let tag = self.seal(nonce(number), &header, &mut sealed);
        out.extend_from_slice(&[&header[..], &sealed, &tag].concat());
    }

    /// Returns the content of such a record.
    fn open_record(self, number: u64, record: &mut [u8]) -> Result<Vec<u8>, OpenError> {
        let (header, body) = record.split_at_mut_checked(HEADER_LEN).ok_or(OpenError)?;
        self.open(nonce(number), header, body)?;
        let inner = body.len().checked_sub(TAG_LEN + 1).and_then(|len| body.get(..len)).ok_or(OpenError)?;
        Ok(inner.to_vec())
    }

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
    /// The end and the secret of the session, if its joins are resumptions.
    joins: Option<(Side, u64)>,
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

    fn can_join(&self) -> bool {
        self.joins.is_some()
    }

    fn join(&mut self, token: &[u8; 32], early_data: bool) -> Option<Box<dyn Handshake>> {
        let (side, secret) = self.joins?;
        Some(Box::new(NullHandshake::join(side, secret, token, early_data)))
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
