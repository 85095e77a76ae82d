//! Records what the TLS library says: its answers are all that a replay needs of it.
//!
//! Lengths and content types of records are kept, their bytes and all keys are not. The text of an error is not kept: it
//! may quote a name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::content::{self, Origin};
use super::fields::{Content, Name, Writer};
use super::format::Put;
use super::item::Item;
use super::lock::lock;
use super::names;
use super::privacy::Privacy;
use crate::crypto::{Agreed, EarlyData, Handshake, KeySchedule, Offer, OpenKeys, SealKeys};
use crate::error::HandshakeError;
use crate::wire::ids::Token;
use crate::wire::record::RecordHeader;

/// The code of [`Item::TlsEarly`], whose content is written in place.
const EARLY: u8 = 0x64;

/// What the wrappers of one session have seen and the recorder has not taken.
pub(super) struct TlsLog {
    is_dirty: AtomicBool,
    is_closed: AtomicBool,
    privacy: Privacy,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    writer: Writer,
    handshakes: u32,
}

impl TlsLog {
    pub(super) fn new(privacy: Privacy) -> Self {
        let (is_dirty, is_closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { is_dirty, is_closed, privacy, log: Mutex::default() }
    }

    #[inline]
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty.load(Ordering::Relaxed)
    }

    /// Moves what there is to `out`.
    #[cold]
    pub(super) fn take(&self, out: &mut Vec<u8>) {
        self.is_dirty.store(false, Ordering::Relaxed);
        out.append(&mut lock(&self.log).writer.bytes);
    }

    /// Memory of what is not taken, and of what is kept for more.
    pub(super) fn memory(&self) -> usize {
        lock(&self.log).writer.bytes.capacity()
    }

    /// Nothing more is taken.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn add(&self, item: &Item) {
        self.write(|writer| item.put(writer));
    }

    fn write(&self, write: impl FnOnce(&mut Writer)) {
        if !self.is_closed.load(Ordering::Relaxed) {
            write(&mut lock(&self.log).writer);
            self.is_dirty.store(true, Ordering::Relaxed);
        }
    }

    fn next_handshake(&self) -> u32 {
        let mut log = lock(&self.log);
        log.handshakes += 1;
        log.handshakes - 1
    }
}

/// A handshake that is recorded.
pub(super) struct RecordedHandshake {
    inner: Box<dyn Handshake>,
    log: Arc<TlsLog>,
    number: u32,
    state: Option<TlsState>,
}

/// What a handshake says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsState {
    pub(super) bits: u8,
    pub(super) alpn: Option<Vec<u8>>,
    pub(super) early: Option<Vec<u8>>,
}

pub(super) const COMPLETE: u8 = 1;
pub(super) const TCPLS_KNOWN: u8 = 2;
pub(super) const TCPLS: u8 = 4;
pub(super) const DRAFT_ONLY: u8 = 8;
pub(super) const RESUMED: u8 = 16;
pub(super) const RESUMES_JOINS: u8 = 32;

impl TlsState {
    fn of(tls: &dyn Handshake) -> Self {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let bits = bit(tls.is_complete(), COMPLETE)
            | bit(tls.tcpls().is_some(), TCPLS_KNOWN)
            | bit(tls.tcpls() == Some(true), TCPLS)
            | bit(tls.is_draft_only(), DRAFT_ONLY)
            | bit(tls.is_resumed(), RESUMED)
            | bit(tls.resumes_joins(), RESUMES_JOINS);
        Self { bits, alpn: tls.alpn().map(<[u8]>::to_vec), early: tls.early_state().map(<[u8]>::to_vec) }
    }
}

impl RecordedHandshake {
    pub(super) fn new(inner: Box<dyn Handshake>, log: &Arc<TlsLog>) -> Self {
        let mut this = Self { inner, log: Arc::clone(log), number: log.next_handshake(), state: None };
        this.note_state();
        this
    }

    fn note_state(&mut self) {
        let state = TlsState::of(self.inner.as_ref());
        if self.state.as_ref() == Some(&state) {
            return;
        }
        let privacy = &self.log.privacy;
        let alpn = state.alpn.as_deref().map(|name| Name(privacy.protocol(name)));
        let early = state.early.as_deref().map(|early| Name(hide_early(privacy, early)));
        self.log.add(&Item::TlsState { handshake: self.number, bits: state.bits, alpn, early });
        self.state = Some(state);
    }
}

/// What was kept with a ticket: numbers, and the name of an application protocol behind them.
fn hide_early(privacy: &Privacy, early: &[u8]) -> Vec<u8> {
    let (numbers, name) = early.split_at(early.len().min(crate::connection::early::TERMS_LEN));
    [numbers, &privacy.name(name)].concat()
}

/// Lengths and content types of records; what is left over has the type 0.
fn shape(mut bytes: &[u8]) -> (Vec<u16>, Vec<u8>) {
    let (mut lengths, mut types) = (Vec::new(), Vec::new());
    while !bytes.is_empty() {
        let header = RecordHeader::parse(bytes).ok().flatten().filter(|header| header.record_len() <= bytes.len());
        let len = header.map_or(bytes.len().min(usize::from(u16::MAX)), |header| header.record_len());
        lengths.push(len as u16);
        types.push(header.map_or(0, |header| header.content_type as u8));
        bytes = &bytes[len..];
    }
    (lengths, types)
}

fn failure(outcome: &Result<(), HandshakeError>) -> (u8, u8) {
    outcome.as_ref().map_or_else(|error| names::failure(error.kind()), |()| (0, 0))
}

impl Handshake for RecordedHandshake {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        let outcome = self.inner.handle_record(record);
        let (error, alert) = failure(&outcome);
        self.log.add(&Item::TlsHandled { error, alert });
        self.note_state();
        outcome
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        let before = out.len();
        self.inner.write(out);
        let (records, types) = shape(&out[before..]);
        self.log.add(&Item::TlsWrote { records, types });
        self.note_state();
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let done = self.inner.write_half_rtt(plaintext, out);
        let (records, types) = shape(&out[before..]);
        self.log.add(&Item::TlsSealed { done, records, types });
        self.note_state();
        done
    }

    fn early_state(&self) -> Option<&[u8]> {
        self.inner.early_state()
    }

    fn write_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let done = self.inner.write_early(plaintext, out);
        let (records, types) = shape(&out[before..]);
        self.log.add(&Item::TlsSealed { done, records, types });
        self.note_state();
        done
    }

    fn read_early(&mut self) -> Option<Vec<u8>> {
        let content = self.inner.read_early();
        let is_plain = self.inner.tcpls() != Some(true);
        let log = &self.log;
        match &content {
            None => log.add(&Item::TlsEarly { is_some: false, content: Content(Vec::new()) }),
            Some(content) => log.write(|writer| {
                writer.bytes.push(EARLY);
                writer.bytes.flag(true);
                if is_plain {
                    content::put_whole(log.privacy.is_full(), content, &mut writer.bytes);
                } else {
                    content::put_frames(&log.privacy, Origin::Peer, content, &mut writer.bytes);
                }
            }),
        }
        self.note_state();
        content
    }

    fn set_early_terms(&mut self, terms: &[u8]) {
        self.inner.set_early_terms(terms);
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    fn tcpls(&self) -> Option<bool> {
        self.inner.tcpls()
    }

    fn alpn(&self) -> Option<&[u8]> {
        self.inner.alpn()
    }

    fn is_draft_only(&self) -> bool {
        self.inner.is_draft_only()
    }

    fn is_resumed(&self) -> bool {
        self.inner.is_resumed()
    }

    fn resumes_joins(&self) -> bool {
        self.inner.resumes_joins()
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let log = self.log;
        match self.inner.finish() {
            Ok(agreed) => {
                log.add(&agreement(&log.privacy, &agreed));
                let schedule = Box::new(RecordedSchedule { inner: agreed.schedule, log });
                Ok(Agreed { schedule, ..agreed })
            }
            Err(error) => {
                let (kind, alert) = names::failure(error.kind());
                log.add(&Item::TlsFailed { error: kind, alert });
                Err(error)
            }
        }
    }
}

fn agreement(privacy: &Privacy, agreed: &Agreed) -> Item {
    Item::TlsAgreed {
        bits: u8::from(agreed.tcpls) | u8::from(agreed.draft_only) << 1,
        offer: match agreed.offer {
            Offer::Anything => 0,
            Offer::Protocols => 1,
            Offer::Tcpls => 2,
        },
        application_protocol: agreed.application_protocol.as_deref().map(|name| Name(privacy.name(name))),
        alpn: agreed.alpn.as_deref().map(|name| Name(privacy.protocol(name))),
        server_name: agreed.server_name.as_deref().map(|name| Name(privacy.name(name.as_bytes()))),
        early_token: agreed.early_token.map(|token| privacy.token(Token(token))),
        certificates: agreed.peer_certificates.iter().map(Vec::len).collect(),
        early_data: match agreed.early_data {
            EarlyData::None => 0,
            EarlyData::Accepted => 1,
            EarlyData::Rejected => 2,
        },
        suite: agreed.suite,
        sealed: agreed.seal.0,
        opened: agreed.open.0,
        seal_limit: agreed.seal.1.key.confidentiality_limit(),
        open_limit: agreed.open.1.key.integrity_limit(),
    }
}

/// Key schedules are recorded, too: whether they have further keys, and what they make of tickets.
struct RecordedSchedule {
    inner: Box<dyn KeySchedule>,
    log: Arc<TlsLog>,
}

impl KeySchedule for RecordedSchedule {
    fn next_seal(&mut self) -> Result<SealKeys, HandshakeError> {
        let keys = self.inner.next_seal();
        self.log.add(&Item::TlsKeys { direction: 0, done: keys.is_ok() });
        keys
    }

    fn next_open(&mut self) -> Result<OpenKeys, HandshakeError> {
        let keys = self.inner.next_open();
        self.log.add(&Item::TlsKeys { direction: 1, done: keys.is_ok() });
        keys
    }

    fn handle_new_session_ticket(&mut self, body: &[u8]) -> Result<(), HandshakeError> {
        let outcome = self.inner.handle_new_session_ticket(body);
        self.log.add(&Item::TlsTicket { done: outcome.is_ok() });
        outcome
    }

    fn remember(&mut self, state: &[u8]) {
        self.inner.remember(state);
    }

    fn memory(&self) -> usize {
        self.inner.memory()
    }

    fn can_join(&self) -> bool {
        self.inner.can_join()
    }

    fn join(&mut self, token: &[u8; 32], early_data: bool) -> Option<Box<dyn Handshake>> {
        let handshake = self.inner.join(token, early_data);
        self.log.add(&Item::TlsJoin { done: handshake.is_some() });
        handshake.map(|inner| Box::new(RecordedHandshake::new(inner, &self.log)) as Box<dyn Handshake>)
    }
}
