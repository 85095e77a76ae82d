//! Joins that are TLS resumptions (decision D147): the TLS library makes the client's hello and the server's flight.
//!
//! Their keys protect nothing of the session. As in any join, the first record of the session's that decrypts authenticates the
//! peer. Where a resumption has further records of the TLS library (EndOfEarlyData, Finished, tickets), the session
//! sends records of its own that are as long: stand-ins.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::BytesMut;

use super::instance::Stranger;
use crate::connection::Connection;
use crate::connection::carried::Outgoing;
use crate::connection::input::Opened;
use crate::connection::keys::KeyError;
use crate::connection::records::RECORD_OVERHEAD;
use crate::crypto::{Handshake, JoinName};
use crate::error::{HandshakeError, HandshakeErrorKind, TcpFault, Violation};
use crate::tcp::Keep;
use crate::tcp::sent::Backlog;
use crate::time::Time;
use crate::wire::frame;
use crate::wire::hello::{self, ExtensionTypes};
use crate::wire::ids::{ConnectionId, Token};
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader};

/// Bytes that a client may send behind its hello before the server's flight: no more than a server skips that takes the hello
/// for one of a new session.
const EARLY_DATA: usize = 14 << 10;
/// A record that stands for a Finished has at least this much Padding: shorter stand-ins are for EndOfEarlyData.
const MIN_FINISHED: usize = 24;
/// And at most this much behind that.
const MAX_BEHIND: usize = 8;
/// Records of tickets whose lengths are remembered.
const MAX_TICKETS: usize = 8;

/// The joins of one session that are resumptions.
#[derive(Default)]
pub(super) struct Resumptions {
    /// Client: those that wait for the server's flight.
    waiting: BTreeMap<ConnectionId, Waiting>,
    /// Client: those that a server without the session has answered.
    strangers: BTreeMap<ConnectionId, Stranger>,
    /// Client: when another instance of the server first answered.
    other_instance: Option<Time>,
    /// The peer's address on the first TCP connection, if the driver has set it.
    pub(super) began_at: Option<SocketAddr>,
    /// The lengths on the wire of stand-ins that are due.
    stand_ins: BTreeMap<ConnectionId, VecDeque<usize>>,
    /// Server: where the stand-in for the client's Finished has not arrived.
    unfinished: BTreeSet<ConnectionId>,
    /// Server: the lengths on the wire of the records with the session's tickets.
    tickets: Vec<usize>,
}

struct Waiting {
    tls: Box<dyn Handshake>,
    /// Bytes that may still be sent.
    room: usize,
}

impl Resumptions {
    pub(super) fn forget_tcp(&mut self, tcp: ConnectionId) {
        self.waiting.remove(&tcp);
        self.strangers.remove(&tcp);
        self.stand_ins.remove(&tcp);
        self.unfinished.remove(&tcp);
    }

    pub(super) fn handshakes(&self) -> usize {
        self.waiting.len() + self.strangers.len()
    }

    pub(super) fn add_stranger(&mut self, tcp: ConnectionId, stranger: Stranger) {
        self.strangers.insert(tcp, stranger);
    }

    /// Another instance of the server answers now; returns when one did first, before that.
    pub(super) fn note_other_instance(&mut self, now: Time) -> Option<Time> {
        let before = self.other_instance;
        self.other_instance.get_or_insert(now);
        before
    }

    #[inline]
    pub(super) fn is_resuming(&self, tcp: ConnectionId) -> bool {
        let are_none = self.waiting.is_empty() && self.strangers.is_empty(); // as nearly always
        !are_none && (self.waiting.contains_key(&tcp) || self.strangers.contains_key(&tcp))
    }

    #[inline]
    pub(super) fn early_room(&self, tcp: ConnectionId) -> usize {
        if self.waiting.is_empty() {
            return usize::MAX; // as nearly always
        }
        self.waiting.get(&tcp).map_or(usize::MAX, |waiting| waiting.room)
    }

    #[inline]
    pub(super) fn handle_written(&mut self, tcp: ConnectionId, bytes: usize) {
        if !self.waiting.is_empty() {
            let waiting = self.waiting.get_mut(&tcp);
            waiting.into_iter().for_each(|waiting| waiting.room = waiting.room.saturating_sub(bytes));
        }
    }

    /// The length on the wire of the next stand-in.
    #[inline]
    pub(super) fn stand_in(&self, tcp: ConnectionId) -> Option<usize> {
        if self.stand_ins.is_empty() {
            return None; // as nearly always
        }
        self.stand_ins.get(&tcp)?.front().copied()
    }

    fn take_stand_in(&mut self, tcp: ConnectionId) {
        if let Some(due) = self.stand_ins.get_mut(&tcp) {
            due.pop_front();
            if due.is_empty() {
                self.stand_ins.remove(&tcp);
            }
        }
    }

    /// Stand-ins of these lengths are due.
    fn owe(&mut self, tcp: ConnectionId, lengths: impl IntoIterator<Item = usize>) {
        let lengths = lengths.into_iter().filter(|len| *len > RECORD_OVERHEAD);
        let mut lengths = lengths.peekable();
        if lengths.peek().is_some() {
            self.stand_ins.entry(tcp).or_default().extend(lengths);
        }
    }

    /// Server: a join became a TCP connection; the stand-in for the client's Finished follows.
    pub(super) fn await_finished(&mut self, tcp: ConnectionId) {
        self.unfinished.insert(tcp);
    }
}

impl Connection {
    /// Client: appends the hello of a resumption to `out`. Returns false if the server does not take it, or the TLS library
    /// cannot make it: it needs a ticket of the session.
    pub(super) fn begin_resumption(
        &mut self,
        tcp: ConnectionId,
        token: &Token,
        zero_rtt: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        // With Encrypted ClientHello the library would hide the token, and the server take the join for a new session.
        let is_hidden = !matches!(self.identity.join_name, JoinName::Shown);
        let has_them = self.control.parameters().has_resumed_joins() && !is_hidden;
        let Some(mut tls) = self.keys.as_mut().filter(|_| has_them).and_then(|keys| keys.join(token, zero_rtt)) else {
            return false;
        };
        tls.write(out);
        self.joins.resumptions.waiting.insert(tcp, Waiting { tls, room: out.len() + EARLY_DATA });
        true
    }

    /// Client: handles a record of the server's flight. The server has the token if it resumes.
    pub(in crate::connection) fn handle_join_flight(&mut self, now: Time, tcp: ConnectionId, mut record: BytesMut) {
        if let Some(stranger) = self.joins.resumptions.strangers.remove(&tcp) {
            return self.hear_stranger(now, tcp, stranger, record);
        }
        let (Some(entry), Some(waiting)) = (self.tcps.get_mut(tcp), self.joins.resumptions.waiting.get_mut(&tcp))
        else {
            return;
        };
        if self.trace.judge_retry(|| is_retry_request(&record, &self.extensions)) {
            return self.lose_tcp(now, tcp, TcpFault::JoinRefused, None); // no data may follow the hello any more
        }
        let outcome = waiting.tls.handle_record(&mut record);
        let mut out = Vec::new();
        waiting.tls.write(&mut out);
        if let Err(error) = outcome {
            entry.raw().append(&mut out);
            return self.lose_tcp(now, tcp, fault(&error), None);
        }
        if !waiting.tls.is_complete() {
            return entry.raw().append(&mut out);
        }
        let is_resumed = waiting.tls.is_resumed();
        let waiting = self.joins.resumptions.waiting.remove(&tcp);
        if !is_resumed {
            entry.raw().append(&mut out);
            let agreed = waiting.and_then(|waiting| waiting.tls.finish().ok());
            return self.meet_stranger(now, tcp, agreed);
        }
        let is_protected = |record: &&[u8]| record.first() == Some(&(ContentType::ApplicationData as u8));
        records(&out).filter(|record| !is_protected(record)).for_each(|record| entry.raw().extend_from_slice(record));
        entry.hello_answered(&[]);
        self.joins.resumptions.owe(tcp, records(&out).filter(is_protected).map(<[u8]>::len));
    }

    /// Server: the TLS library has sent the session's tickets, behind the first `before` bytes that wait.
    pub(in crate::connection) fn note_tickets(&mut self, before: usize) {
        let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) else { return };
        if self.control.parameters().has_resumed_joins() {
            let sent = first.raw().get(before..).unwrap_or_default();
            self.joins.resumptions.tickets = records(sent).map(<[u8]>::len).take(MAX_TICKETS).collect();
        }
    }

    /// Server: if this record stands for the client's Finished, those for the tickets are due.
    #[inline]
    pub(in crate::connection) fn note_finished(&mut self, tcp: ConnectionId, content: &Result<Opened, Violation>) {
        if !self.joins.resumptions.unfinished.is_empty()
            && content.as_ref().is_ok_and(is_finished)
            && self.joins.resumptions.unfinished.remove(&tcp)
        {
            let tickets = self.joins.resumptions.tickets.clone();
            self.joins.resumptions.owe(tcp, tickets);
        }
    }

    /// Appends a stand-in to `out`, if one is due: Padding, and at its end what is due in the first record of a join, a Ping and
    /// the status of a backup. It is cut short where there is not enough room.
    pub(in crate::connection) fn write_stand_in(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, KeyError> {
        let Some(len) = self.joins.resumptions.stand_in(tcp) else { return Ok(false) };
        self.joins.resumptions.take_stand_in(tcp);
        let len = len.min(room);
        let (start, mut frames) = (out.len(), Outgoing::default());
        self.fill_control(tcp, 0, &mut frames);
        let padding = (len - RECORD_OVERHEAD).saturating_sub(frames.control.len());
        out.resize(start + HEADER_LEN + padding, frame::ty::PADDING);
        out.extend_from_slice(&frames.control);
        let keep = match frames.ack_eliciting {
            true => Keep::Record { now, carried: &frames.carried, backlog: Backlog::None },
            false => Keep::Nothing,
        };
        self.seal_record(tcp, ContentType::ApplicationData, out, start, keep)?;
        Ok(true)
    }
}

/// Whether a record is as a client's stand-in for Finished: Padding, and at most a Ping, Lane and a status behind it.
fn is_finished(opened: &Opened) -> bool {
    let padding = opened.content.iter().take_while(|byte| **byte == frame::ty::PADDING).count();
    opened.content_type == ContentType::ApplicationData as u8
        && padding >= MIN_FINISHED
        && opened.content.len() - padding <= MAX_BEHIND
}

/// Whether the server asks for another ClientHello.
fn is_retry_request(record: &[u8], extensions: &ExtensionTypes) -> bool {
    let message = record.get(HEADER_LEN..).unwrap_or_default();
    record.first() == Some(&(ContentType::Handshake as u8))
        && hello::split_message(message)
            .and_then(|(_, body)| hello::parse_server_hello(body, extensions))
            .is_ok_and(|hello| hello.is_retry_request)
}

fn fault(error: &HandshakeError) -> TcpFault {
    match error.kind() {
        HandshakeErrorKind::PeerAlert(alert) => TcpFault::Alert(alert.0),
        _ => TcpFault::JoinRefused,
    }
}

/// The records in what a TLS library has written.
fn records(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    core::iter::from_fn(move || {
        let header = RecordHeader::parse(bytes).ok()??;
        let (record, rest) = bytes.split_at_checked(header.record_len())?;
        bytes = rest;
        Some(record)
    })
}
