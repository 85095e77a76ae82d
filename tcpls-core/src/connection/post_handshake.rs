//! Messages of TLS after the handshake: alerts, New Session Tickets, KeyUpdates.

use super::Connection;
use super::keys::KeyError;
use super::trace::{Event, Limit};
use crate::error::{Alert, AlertDescription, CloseReason, HandshakeError, TcpFault, Violation};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, Side};

/// Tickets that are passed to the TLS library in one session, which stores them: the peer decides how many it sends.
const MAX_TICKETS: u32 = 4;
/// The longest post-handshake message.
const MAX_MESSAGE: usize = 1 << 16;
/// Records that one message may be spread over.
const MAX_FRAGMENTS: u32 = 64;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Incomplete post-handshake messages. They arrive on the first TCP connection, except KeyUpdate, which is never split.
#[derive(Debug, Default)]
pub(super) struct Messages {
    partial: Vec<u8>,
    fragments: u32,
    tickets: u32,
}

impl Connection {
    /// An alert inside a protected record.
    pub(super) fn handle_alert(&mut self, now: Time, tcp: ConnectionId, body: &[u8]) {
        let &[_, description] = body else { return self.fail_session(now, Violation::FatalAlert(255)) };
        if description == Alert::CloseNotify as u8 {
            self.handle_close_notify(now, tcp);
        } else if self.ending.peer_reason().is_none() && self.refuses_handshake(description) {
            self.end_session(now, CloseReason::Handshake(HandshakeError::refused(AlertDescription(description))));
        } else if self.ending.peer_reason().is_none() && AlertDescription(description).is_about_the_path() {
            // Records of this endpoint were damaged on this path; the alert concerns only this TCP connection. A peer that
            // ends the session sends Close Session first.
            self.lose_tcp(now, tcp, TcpFault::Alert(description), None);
        } else if description != Alert::UserCanceled as u8 {
            self.handle_fatal_alert(now, description);
        } else if let Err(rule) = self.flood.charge(now, 1) {
            self.fail_session(now, rule);
        }
    }

    /// Whether an alert says that the peer does not accept the handshake that this endpoint has finished: it comes before the
    /// peer's Session Parameters (decision D110) or, on the fallback too, is about the client's certificate.
    fn refuses_handshake(&self, description: u8) -> bool {
        let is_about_certificate = AlertDescription(description).is_about_certificate();
        description != Alert::UserCanceled as u8
            && (!self.is_announced() || self.side == Side::Client && is_about_certificate)
    }

    fn handle_fatal_alert(&mut self, now: Time, description: u8) {
        if self.plain {
            // The peer's half was cut short. It reads nothing any more, so nothing is sent.
            return self.lose_plain(now, TcpFault::Alert(description), None);
        }
        let reason = self.ending.peer_reason().unwrap_or(CloseReason::Violation(Violation::FatalAlert(description)));
        self.end_session(now, reason);
    }

    /// Handshake messages inside a protected record.
    pub(super) fn handle_handshake_message(&mut self, now: Time, tcp: ConnectionId, body: &[u8]) {
        if let Err(rule) = self.take_messages(now, tcp, body) {
            self.fail_session(now, rule);
        }
    }

    fn take_messages(&mut self, now: Time, tcp: ConnectionId, body: &[u8]) -> Result<(), Violation> {
        self.flood.charge(now, 1)?;
        self.messages.fragments += 1;
        if body.is_empty()
            || self.messages.partial.len() + body.len() > MAX_MESSAGE
            || self.messages.fragments > MAX_FRAGMENTS
        {
            return Err(Violation::HandshakeMessage);
        }
        // Only messages on the first TCP connection, tickets, may span records.
        let is_first = tcp == ConnectionId::FIRST;
        let mut messages = if is_first { core::mem::take(&mut self.messages.partial) } else { Vec::new() };
        messages.extend_from_slice(body);
        let mut rest = &messages[..];
        while let Some((kind, body, after)) = split_message(rest) {
            rest = after;
            self.messages.fragments = 0;
            // The keys change behind a KeyUpdate: nothing may follow it in its record (RFC 8446, 5.1).
            if kind == KEY_UPDATE && !rest.is_empty() {
                return Err(Violation::HandshakeMessage);
            }
            self.take_message(now, tcp, kind, body)?;
        }
        if is_first {
            self.messages.partial = rest.to_vec();
        }
        if is_first || rest.is_empty() { Ok(()) } else { Err(Violation::HandshakeMessage) }
    }

    fn take_message(&mut self, now: Time, tcp: ConnectionId, kind: u8, body: &[u8]) -> Result<(), Violation> {
        match (kind, body) {
            (NEW_SESSION_TICKET, _) if self.side == Side::Client => self.take_ticket(body),
            (KEY_UPDATE, &[request @ (0 | 1)]) => self.take_key_update(now, tcp, request == 1),
            _ => Err(Violation::HandshakeMessage),
        }
    }

    fn take_ticket(&mut self, body: &[u8]) -> Result<(), Violation> {
        self.messages.tickets = self.messages.tickets.saturating_add(1);
        if self.messages.tickets > MAX_TICKETS {
            self.limits.tickets_dropped += 1;
            self.trace.emit(|| Event::LimitReached { limit: Limit::Tickets, tcp: None });
            return Ok(());
        }
        self.remember_terms();
        let taken = self.keys.as_mut().map(|keys| keys.handle_new_session_ticket(body));
        if matches!(taken, Some(Err(_))) { Err(Violation::HandshakeMessage) } else { Ok(()) }
    }

    /// The peer's next record on `tcp` uses the next generation of its keys.
    fn take_key_update(&mut self, now: Time, tcp: ConnectionId, requested: bool) -> Result<(), Violation> {
        let (Some(keys), Some(entry)) = (&mut self.keys, self.tcps.get_mut(tcp)) else { return Ok(()) };
        let before = keys.open_current();
        let stepped = entry.key_update_opened(|at| keys.step_open(at));
        stepped.map_err(|_: KeyError| Violation::TooManyKeyUpdates)?;
        self.trace.emit(|| Event::KeyUpdateReceived { tcp, generation: entry.open_generation(), requested });
        if keys.open_current() > before {
            self.key_updates.1 += 1;
            self.flood.key_update(now)?; // the other TCP connections can only follow
        }
        // All requests before the answer is sent get one answer (RFC 8446, 4.6.3), and so do those on several TCP
        // connections with the same generation.
        let is_new = requested && self.renewal.handle_request(entry.open_generation());
        if is_new && entry.seal_generation() == keys.seal_target() {
            self.renewal.owed = true;
            self.start_owed_key_update(now, Some(tcp));
        }
        self.forget_keys();
        Ok(())
    }
}

/// Returns the first complete handshake message, and the bytes behind it.
fn split_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    let (body, after) = rest.split_at_checked(len)?;
    Some((kind, body, after))
}

/// A KeyUpdate message (RFC 8446, 4.6.3).
pub(super) const fn key_update_message(request: bool) -> [u8; 5] {
    [KEY_UPDATE, 0, 0, 1, request as u8]
}
