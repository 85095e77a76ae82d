//! The end of a session: its cause, its progress, and the step that concludes it.

use core::time::Duration;

use super::Connection;
use super::half_close::HalfClose;
use super::trace::Event;
use crate::config::Config;
use crate::error::{Alert, AlertDescription, CloseReason, HandshakeError, TcpFault, Violation};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode};

/// The longest reason that is sent or stored, in bytes.
const MAX_REASON: usize = 1024;

/// The stages of the end.
#[derive(Default)]
pub(super) struct Ending {
    /// This endpoint ends the session: for its application, or as the answer to the peer.
    request: Option<Request>,
    /// All data is delivered: close_notify goes out on each TCP connection.
    notify: bool,
    clock: Option<Clock>,
    /// The content of the peer's Close Session.
    peer: Option<(ErrorCode, Vec<u8>)>,
    close_notify_received: bool,
    pub(super) half: HalfClose,
    reason: Option<CloseReason>,
    told: bool,
}

/// How long closing may take.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// When closing began, or data was last delivered.
    progress: Time,
    /// The time without progress after which it ends.
    timeout: Duration,
    /// The latest end.
    at_last: Time,
}

impl Clock {
    fn start(now: Time, config: &Config) -> Self {
        Self { progress: now, timeout: config.close_timeout, at_last: now + config.close_limit }
    }

    /// No data is to be delivered: progress has no effect.
    fn fixed(now: Time, config: &Config) -> Self {
        Self { at_last: now + config.close_timeout, ..Self::start(now, config) }
    }
}

enum Request {
    /// With a Close Session frame.
    Own(ErrorCode, Vec<u8>),
    /// The answer to the peer's Close Session: close_notify alone.
    Answer,
    /// The peer sent close_notify alone; written data is delivered as far as the peer takes it.
    HalfClosed,
}

impl Ending {
    pub(super) fn is_closed(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.request.is_some()
    }

    /// The peer has sent close_notify.
    pub(super) fn is_half_closed(&self) -> bool {
        self.close_notify_received
    }

    /// Delivers written data, then ends the session, as the peer requested.
    pub(super) fn answer_half_close(&mut self, now: Time, config: &Config) {
        self.request = Some(Request::HalfClosed);
        self.clock = Some(Clock::start(now, config));
    }

    /// The application ends the session. Written data is delivered first if `error` is 0.
    pub(super) fn request(&mut self, now: Time, error: ErrorCode, reason: &[u8], config: &Config) {
        let is_clean = error == ErrorCode::default();
        self.request = Some(Request::Own(error, cut(reason)));
        self.clock = Some(if is_clean { Clock::start(now, config) } else { Clock::fixed(now, config) });
    }

    /// Handles the peer's Close Session; returns false for a repeated one. The peer accepts no more data, unless both
    /// endpoints closed at once.
    pub(super) fn handle_request(&mut self, now: Time, error: ErrorCode, reason: &[u8], config: &Config) -> bool {
        if self.peer.is_some() || self.is_closed() {
            return false;
        }
        self.peer = Some((error, cut(reason)));
        self.request.get_or_insert(Request::Answer);
        self.clock.get_or_insert(Clock::fixed(now, config));
        self.notify |= !self.is_crossing();
        true
    }

    /// Handles the peer's close_notify; returns true if it is the first sign that the peer ends the session.
    pub(super) fn handle_notify(&mut self, now: Time) -> bool {
        let is_first = !core::mem::replace(&mut self.close_notify_received, true);
        if is_first {
            self.half.begin(now);
        }
        is_first && self.peer.is_none()
    }

    /// Returns how long closing may take without progress; `None` if the session is not closing.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.clock.filter(|_| !self.is_closed()).map(|clock| clock.timeout)
    }

    /// Returns when closing is cut short if no data is delivered after `taken`, with `timeout` without progress.
    pub(super) fn deadline(&self, taken: Time, timeout: Duration) -> Option<Time> {
        let clock = self.clock.filter(|_| !self.is_closed())?;
        Some((clock.progress.max(taken) + timeout).min(clock.at_last))
    }

    /// Returns whether close_notify is to be sent now.
    pub(super) fn wants_notify(&self) -> bool {
        self.notify && self.reason.is_none()
    }

    /// All data is delivered.
    pub(super) fn start_notify(&mut self) {
        self.notify = true;
    }

    /// New stream data arrived. Endpoints that close at once wait for each other's data.
    pub(super) fn note_received(&mut self, now: Time) {
        self.half.note_received(now);
        if self.is_crossing() {
            self.note_progress(now);
        }
    }

    /// Some of the remaining data was delivered.
    pub(super) fn note_progress(&mut self, now: Time) {
        if let Some(clock) = &mut self.clock {
            clock.progress = clock.progress.max(now);
        }
    }

    pub(super) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_ref()
    }

    /// Returns the reason, only once.
    pub(super) fn take_closed_event(&mut self) -> Option<CloseReason> {
        let reason = self.reason.clone().filter(|_| !self.told)?;
        self.told = true;
        Some(reason)
    }

    /// Returns the content of the peer's Close Session, if it arrived.
    pub(super) fn peer_reason(&self) -> Option<CloseReason> {
        self.peer.clone().map(|(error, reason)| CloseReason::Peer { error, reason })
    }

    /// Returns whether both endpoints have closed at once with error 0: each delivers its written data.
    pub(super) fn is_crossing(&self) -> bool {
        let is_clean = |error: &ErrorCode| *error == ErrorCode::default();
        let own = matches!(&self.request, Some(Request::Own(error, _)) if is_clean(error));
        own && self.peer.as_ref().is_some_and(|(error, _)| is_clean(error))
    }

    /// Returns whether the session can end with its last TCP connection without loss of data.
    pub(super) fn may_end_without_tcp(&self) -> bool {
        self.notify || self.close_notify_received
    }

    /// Returns the error and text of this endpoint's Close Session; `None` if it answers the peer's.
    pub(super) fn close_session(&self) -> Option<(ErrorCode, Vec<u8>)> {
        match &self.request {
            Some(Request::Own(error, text)) => Some((*error, text.clone())),
            Some(Request::HalfClosed) => Some((ErrorCode::default(), Vec::new())),
            Some(Request::Answer) | None => None,
        }
    }

    /// Returns the reason that the session ends with.
    pub(super) fn planned_reason(&self) -> CloseReason {
        match &self.request {
            Some(Request::Own(error, _)) => CloseReason::Local { error: *error },
            _ => self.peer_reason().unwrap_or(CloseReason::Peer { error: ErrorCode::default(), reason: Vec::new() }),
        }
    }
}

/// Returns the part of a reason that is sent or stored.
fn cut(reason: &[u8]) -> Vec<u8> {
    reason.get(..reason.len().min(MAX_REASON)).unwrap_or_default().to_vec()
}

impl Connection {
    /// Ends a closing session without a TCP connection: none can join any more.
    pub(super) fn conclude_if_alone(&mut self) {
        if self.tcps.is_empty() && (self.ending.is_closing() || self.ending.may_end_without_tcp()) {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// Cuts short streams without an end, if the peer has sent close_notify and no TCP connection is left that can
    /// carry earlier data.
    pub(super) fn end_reading_if_drained(&mut self) {
        if self.ending.close_notify_received && self.tcps.iter().all(|entry| entry.close_notify_received()) {
            self.streams.truncate();
        }
    }

    /// Ends the session at once after a violation inside an authentic record, with the reason on every TCP connection.
    pub(super) fn fail_session(&mut self, now: Time, rule: Violation) {
        // Without Close Session, some alerts would cost the peer no more than a TCP connection (decision D54).
        let misleads = self.is_draft_only() && AlertDescription(rule.alert() as u8).is_about_the_path();
        let alert = if misleads { Alert::IllegalParameter } else { rule.alert() };
        self.say_farewell(now, rule.code(), rule.to_string().as_bytes(), alert);
        self.streams.abort();
        self.conclude(CloseReason::Violation(rule));
    }

    /// Ends the session at once for a reason other than a protocol violation.
    pub(super) fn end_session(&mut self, now: Time, reason: CloseReason) {
        let code = match &reason {
            CloseReason::IdleTimeout => crate::error::code::IDLE_TIMEOUT,
            CloseReason::AeadLimit => crate::error::code::AEAD_LIMIT,
            CloseReason::Local { error } => *error,
            _ => ErrorCode::default(),
        };
        let alert = if self.plain {
            self.plain_farewell()
        } else if self.is_draft_only() {
            Self::draft_farewell(code)
        } else {
            Alert::CloseNotify
        };
        let text = self.ending.close_session().map(|(_, text)| text).unwrap_or_default();
        self.say_farewell(now, code, &text, alert);
        self.conclude(reason);
    }

    /// Concludes the session. The driver may close every socket once its final bytes are sent.
    // draft E04
    pub(super) fn conclude(&mut self, reason: CloseReason) {
        if self.ending.is_closed() {
            return;
        }
        self.discard_all();
        self.drop_claims();
        self.streams.stop_writing();
        self.streams.drop_outgoing();
        self.streams.truncate();
        self.stranded_until = None;
        self.control.forget_peer_addresses();
        self.keys = None;
        self.handshake = None;
        self.lost.clear();
        self.ending.reason = Some(reason);
        self.trace_state();
        let truncated = self.streams.is_truncated();
        self.ending.reason.iter().for_each(|reason| self.trace.emit(|| Event::Closed { reason, truncated }));
    }

    /// Moves the pending bytes of the TLS library into the queue of the first TCP connection.
    pub(super) fn flush_handshake(&mut self) {
        if let (Some(tls), Some(first)) = (&mut self.handshake, self.tcps.get_mut(ConnectionId::FIRST)) {
            tls.write(first.raw());
        }
    }

    pub(super) fn fail_handshake(&mut self, error: HandshakeError) {
        self.end_handshake(CloseReason::Handshake(error));
    }

    /// Ends the session during the handshake; a pending alert of the TLS library is still sent.
    pub(super) fn end_handshake(&mut self, reason: CloseReason) {
        self.flush_handshake();
        self.handshake = None;
        self.conclude(reason);
    }

    pub(super) fn abandon_handshake(&mut self, error: ErrorCode) {
        if let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) {
            first.raw().extend_from_slice(&crate::crypto::plaintext_alert(Alert::UserCanceled));
        }
        self.end_handshake(CloseReason::Local { error });
    }

    pub(super) fn lose_in_handshake(&mut self, fault: TcpFault, alert: Option<Alert>) {
        if let (Some(first), Some(alert)) = (self.tcps.get_mut(ConnectionId::FIRST), alert) {
            first.raw().extend_from_slice(&crate::crypto::plaintext_alert(alert));
        }
        self.end_handshake(CloseReason::LostInHandshake(fault));
    }
}
