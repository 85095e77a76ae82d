//! A TLS library that says what a recording says, and keys that protect nothing.
//!
//! A record is sealed by leaving it as it is. It opens if its tag names the generation of the keys; the replay writes the
//! tags. So a session takes the same way through its generations of keys, and a record that failed to decrypt fails again.

use super::super::item::Item;
use super::super::lock::lock;
use super::super::names;
use super::super::recorder::SharedScript;
use super::super::tls::{self, TlsState};
use crate::crypto::{
    Agreed, EarlyData, Handshake, KeySchedule, Offer, OpenError, OpenKey, OpenKeys, SealKey, SealKeys, TAG_LEN,
};
use crate::error::{HandshakeError, HandshakeErrorKind};
use crate::wire::record::HEADER_LEN;

/// The longest certificate, in bytes: more than any chain that TLS libraries take.
const MAX_CERTIFICATE: usize = 1 << 17;

/// The tag of a record that opens with keys of this generation; `None`: with none.
pub(super) fn tag(generation: Option<u32>) -> [u8; TAG_LEN] {
    let mut tag = [0xff; TAG_LEN];
    if let Some(generation) = generation {
        tag[..4].copy_from_slice(&generation.to_be_bytes());
        tag[4..].fill(0);
    }
    tag
}

/// The recording says something else than the session asks.
fn unexpected() -> HandshakeError {
    HandshakeError::new(HandshakeErrorKind::Other, "the recording has no answer to this")
}

fn fail(error: u8, alert: u8) -> Result<(), HandshakeError> {
    match names::failure_of(error, alert) {
        None => Ok(()),
        Some(kind) => Err(HandshakeError::new(kind, "")),
    }
}

/// A handshake whose answers are those of the script.
pub(super) struct ReplayedHandshake {
    script: SharedScript,
    state: TlsState,
}

impl ReplayedHandshake {
    pub(super) fn new(script: SharedScript) -> Self {
        let mut this = Self { script, state: TlsState::default() };
        this.take_state();
        this
    }

    fn next(&mut self) -> Option<Item> {
        lock(&self.script).tls.pop_front()
    }

    /// Takes what the library said of itself after a call, if that had changed.
    fn take_state(&mut self) {
        let mut script = lock(&self.script);
        if !matches!(script.tls.front(), Some(Item::TlsState { .. })) {
            return;
        }
        if let Some(Item::TlsState { bits, alpn, early, .. }) = script.tls.pop_front() {
            self.state = TlsState { bits, alpn: alpn.map(|name| name.0), early: early.map(|early| early.0) };
        }
    }

    fn has(&self, bit: u8) -> bool {
        self.state.bits & bit != 0
    }
}

/// Records of these lengths and content types.
fn write_records(lengths: &[u16], types: &[u8], out: &mut Vec<u8>) {
    for (len, content_type) in lengths.iter().zip(types) {
        let (start, len) = (out.len(), usize::from(*len));
        out.resize(start + len, 0);
        if *content_type != 0 && len >= HEADER_LEN {
            let [high, low] = ((len - HEADER_LEN) as u16).to_be_bytes();
            out[start..start + HEADER_LEN].copy_from_slice(&[*content_type, 3, 3, high, low]);
        }
    }
}

impl Handshake for ReplayedHandshake {
    fn handle_record(&mut self, _record: &mut [u8]) -> Result<(), HandshakeError> {
        let outcome = match self.next() {
            Some(Item::TlsHandled { error, alert }) => fail(error, alert),
            _ => Err(unexpected()),
        };
        self.take_state();
        outcome
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        if let Some(Item::TlsWrote { records, types }) = self.next() {
            write_records(&records, &types, out);
        }
        self.take_state();
    }

    fn write_half_rtt(&mut self, _plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let sealed = match self.next() {
            Some(Item::TlsSealed { done, records, types }) => {
                write_records(&records, &types, out);
                done
            }
            _ => false,
        };
        self.take_state();
        sealed
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.state.early.as_deref()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.write_half_rtt(plaintext, out)
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        let content = match self.next() {
            Some(Item::TlsEarly { is_some: true, content }) => Some(content.0),
            _ => None,
        };
        self.take_state();
        content
    }

    fn is_complete(&self) -> bool {
        self.has(tls::COMPLETE)
    }

    fn tcpls(&self) -> Option<bool> {
        self.has(tls::TCPLS_KNOWN).then(|| self.has(tls::TCPLS))
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.state.alpn.as_deref()
    }

    fn is_draft_only(&self) -> bool {
        self.has(tls::DRAFT_ONLY)
    }

    fn is_resumed(&self) -> bool {
        self.has(tls::RESUMED)
    }

    fn resumes_joins(&self) -> bool {
        self.has(tls::RESUMES_JOINS)
    }

    fn finish(mut self: Box<Self>) -> Result<Agreed, HandshakeError> {
        match self.next() {
            Some(Item::TlsFailed { error, alert }) => {
                fail(error, alert)?;
                Err(unexpected())
            }
            Some(item) => agreed(item, self.script),
            None => Err(unexpected()),
        }
    }
}

fn agreed(item: Item, script: SharedScript) -> Result<Agreed, HandshakeError> {
    let Item::TlsAgreed {
        bits,
        offer,
        application_protocol,
        alpn,
        server_name,
        early_token,
        certificates,
        early_data,
        suite,
        sealed,
        opened,
        seal_limit,
        open_limit,
    } = item
    else {
        return Err(unexpected());
    };
    let keys = ReplayedKeys { generation: 0, limit: seal_limit };
    let open = ReplayedKeys { generation: 0, limit: open_limit };
    let schedule = Box::new(ReplayedSchedule { script, seal: keys, open });
    // Numbers of a file that end at once are a difference, not an overflow.
    let (sealed, opened) = (sealed.min(1 << 62), opened.min(1 << 62));
    let mut agreed = Agreed::new(suite, (sealed, keys.seal_keys()), (opened, open.open_keys()), schedule);
    agreed.tcpls = bits & 1 != 0;
    agreed.draft_only = bits & 2 != 0;
    agreed.offer = match offer {
        1 => Offer::Protocols,
        2 => Offer::Tcpls,
        _ => Offer::Anything,
    };
    agreed.application_protocol = application_protocol.map(|name| name.0);
    agreed.alpn = alpn.map(|name| name.0);
    agreed.server_name = server_name.map(|name| name.text());
    agreed.early_token = early_token.map(|token| token.0);
    agreed.peer_certificates = certificates.into_iter().map(|len| vec![0; len.min(MAX_CERTIFICATE)]).collect();
    agreed.early_data = match early_data {
        1 => EarlyData::Accepted,
        2 => EarlyData::Rejected,
        _ => EarlyData::None,
    };
    Ok(agreed)
}

/// One generation of one direction's keys.
#[derive(Clone, Copy)]
struct ReplayedKeys {
    generation: u32,
    limit: u64,
}

impl ReplayedKeys {
    const fn next(self) -> Self {
        Self { generation: self.generation.saturating_add(1), ..self }
    }

    fn seal_keys(self) -> SealKeys {
        SealKeys { key: Box::new(self), iv: [0; 12] }
    }

    fn open_keys(self) -> OpenKeys {
        OpenKeys { key: Box::new(self), iv: [0; 12] }
    }
}

impl SealKey for ReplayedKeys {
    fn seal(&self, _nonce: [u8; 12], _aad: &[u8], _in_out: &mut [u8]) -> [u8; TAG_LEN] {
        tag(Some(self.generation))
    }

    fn confidentiality_limit(&self) -> u64 {
        self.limit
    }
}

impl OpenKey for ReplayedKeys {
    fn open(&self, _nonce: [u8; 12], _aad: &[u8], in_out: &mut [u8]) -> Result<(), OpenError> {
        if in_out.ends_with(&tag(Some(self.generation))) { Ok(()) } else { Err(OpenError) }
    }

    fn integrity_limit(&self) -> u64 {
        self.limit
    }
}

struct ReplayedSchedule {
    script: SharedScript,
    seal: ReplayedKeys,
    open: ReplayedKeys,
}

impl ReplayedSchedule {
    fn next(&mut self) -> Option<Item> {
        lock(&self.script).tls.pop_front()
    }
}

impl KeySchedule for ReplayedSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        match self.next() {
            Some(Item::TlsKeys { direction: 0, done: true }) => {
                self.seal = self.seal.next();
                Ok(self.seal.seal_keys())
            }
            _ => Err(unexpected()),
        }
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        match self.next() {
            Some(Item::TlsKeys { direction: 1, done: true }) => {
                self.open = self.open.next();
                Ok(self.open.open_keys())
            }
            _ => Err(unexpected()),
        }
    }

    fn handle_new_session_ticket(&mut self, _body: &[u8]) -> Result<(), HandshakeError> {
        match self.next() {
            Some(Item::TlsTicket { done: true }) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn join(&mut self, _token: &[u8; 32], _early_data: bool) -> Option<Box<dyn Handshake>> {
        match self.next() {
            Some(Item::TlsJoin { done: true }) => Some(Box::new(ReplayedHandshake::new(self.script.clone()))),
            _ => None,
        }
    }
}
