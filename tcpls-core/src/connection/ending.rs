//! The end of a session, whatever it comes from: what is known of it, and the step that concludes it.

use core::time::Duration;

use super::Connection;
use super::half_close::HalfClose;
use super::trace::Event;
use crate::config::Config;
use crate::error::{Alert, CloseReason, HandshakeError, TcpFault, Violation};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode};

/// The longest reason that is sent or kept.
const MAX_REASON: usize = 1024;

/// How far the end has come.
#[derive(Default)]
pub(super) struct Ending {
    /// This side's application, or its answer to the peer, wants to end the session.
    request: Option<Request>,
    /// Everything that was to be delivered is: close_notify goes out on each TCP connection.
    notify: bool,
    clock: Option<Clock>,
    /// What the peer's Close Session said.
    peer: Option<(ErrorCode, Vec<u8>)>,
    close_notify_received: bool,
    pub(super) half: HalfClose,
    reason: Option<CloseReason>,
    told: bool,
}

/// How long closing may take.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// When closing began, or something was delivered since.
    progress: Time,
    /// Without progress, it ends so long after that.
    timeout: Duration,
    /// And then at the latest.
    at_last: Time,
}

impl Clock {
    fn start(now: Time, config: &Config) -> Self {
        Self { progress: now, timeout: config.close_timeout, at_last: now + config.close_limit }
    }

    /// Nothing is to be delivered: progress changes nothing.
    fn fixed(now: Time, config: &Config) -> Self {
        Self { at_last: now + config.close_timeout, ..Self::start(now, config) }
    }
}

enum Request {
    /// With a Close Session frame.
    Own(ErrorCode, Vec<u8>),
    /// The peer was first: close_notify alone is the answer.
    Answer,
    /// The peer said close_notify alone, and what it still takes is delivered.
    HalfClosed,
}

impl Ending {
    pub(super) fn is_closed(&self) -> bool {
        self.reason.is_some()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.request.is_some()
    }

    /// The peer has said that it sends no more.
    pub(super) fn is_half_closed(&self) -> bool {
        self.close_notify_received
    }

    /// What was written is delivered, then the session ends as the peer wanted.
    pub(super) fn answer_half_close(&mut self, now: Time, config: &Config) {
        self.request = Some(Request::HalfClosed);
        self.clock = Some(Clock::start(now, config));
    }

    /// This side's application ends the session. What was written is delivered first if `error` is 0.
    pub(super) fn request(&mut self, now: Time, error: ErrorCode, reason: &[u8], config: &Config) {
        let is_clean = error == ErrorCode::default();
        self.request = Some(Request::Own(error, cut(reason)));
        self.clock = Some(if is_clean { Clock::start(now, config) } else { Clock::fixed(now, config) });
    }

    /// The peer's Close Session came; false if one was known. It takes no more data, unless both have closed at once.
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

    /// The peer's close_notify came on one of its TCP connections; true if it is the first sign that it ends the session.
    pub(super) fn handle_notify(&mut self, now: Time) -> bool {
        let is_first = !core::mem::replace(&mut self.close_notify_received, true);
        if is_first {
            self.half.begin(now);
        }
        is_first && self.peer.is_none()
    }

    /// How long closing may take without progress; `None` if the session is not closing.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.clock.filter(|_| !self.is_closed()).map(|clock| clock.timeout)
    }

    /// When closing is cut short, if nothing was delivered after `taken` and `timeout` may pass without progress.
    pub(super) fn deadline(&self, taken: Time, timeout: Duration) -> Option<Time> {
        let clock = self.clock.filter(|_| !self.is_closed())?;
        Some((clock.progress.max(taken) + timeout).min(clock.at_last))
    }

    /// Whether close_notify is to go out now.
    pub(super) fn wants_notify(&self) -> bool {
        self.notify && self.reason.is_none()
    }

    /// Everything that was to be delivered is.
    pub(super) fn start_notify(&mut self) {
        self.notify = true;
    }

    /// New stream data came. Two that close at once wait for each other's.
    pub(super) fn note_received(&mut self, now: Time) {
        self.half.note_received(now);
        if self.is_crossing() {
            self.note_progress(now);
        }
    }

    /// Something of what is still to be delivered was.
    pub(super) fn note_progress(&mut self, now: Time) {
        if let Some(clock) = &mut self.clock {
            clock.progress = clock.progress.max(now);
        }
    }

    pub(super) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_ref()
    }

    /// The reason, once and only once.
    pub(super) fn take_closed_event(&mut self) -> Option<CloseReason> {
        let reason = self.reason.clone().filter(|_| !self.told)?;
        self.told = true;
        Some(reason)
    }

    /// What the peer said, if it did.
    pub(super) fn peer_reason(&self) -> Option<CloseReason> {
        self.peer.clone().map(|(error, reason)| CloseReason::Peer { error, reason })
    }

    /// Both ends have closed at once, and neither wants anything dropped: each delivers what it had to say.
    pub(super) fn is_crossing(&self) -> bool {
        let is_clean = |error: &ErrorCode| *error == ErrorCode::default();
        let own = matches!(&self.request, Some(Request::Own(error, _)) if is_clean(error));
        own && self.peer.as_ref().is_some_and(|(error, _)| is_clean(error))
    }

    /// Nothing is lost by ending when the last TCP connection goes.
    pub(super) fn may_end_without_tcp(&self) -> bool {
        self.notify || self.close_notify_received
    }

    /// The error and the text of this side's Close Session; `None` if it answers the peer's.
    pub(super) fn close_session(&self) -> Option<(ErrorCode, Vec<u8>)> {
        match &self.request {
            Some(Request::Own(error, text)) => Some((*error, text.clone())),
            Some(Request::HalfClosed) => Some((ErrorCode::default(), Vec::new())),
            Some(Request::Answer) | None => None,
        }
    }

    /// Why the session will have ended.
    pub(super) fn planned_reason(&self) -> CloseReason {
        match &self.request {
            Some(Request::Own(error, _)) => CloseReason::Local { error: *error },
            _ => self.peer_reason().unwrap_or(CloseReason::Peer { error: ErrorCode::default(), reason: Vec::new() }),
        }
    }
}

/// As much of a reason as is sent or kept.
fn cut(reason: &[u8]) -> Vec<u8> {
    reason.get(..reason.len().min(MAX_REASON)).unwrap_or_default().to_vec()
}

impl Connection {
    /// Without a TCP connection a session that is closing has come to its end: none can join it any more.
    pub(super) fn conclude_if_alone(&mut self) {
        if self.tcps.is_empty() && (self.ending.is_closing() || self.ending.may_end_without_tcp()) {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// The peer has said that it sends no more, and no TCP connection is left that may still bring what it sent before:
    /// streams without an end are cut short.
    pub(super) fn end_reading_if_drained(&mut self) {
        if self.ending.close_notify_received && self.tcps.iter().all(|entry| entry.close_notify_received()) {
            self.streams.truncate();
        }
    }

    /// The peer broke a rule inside authentic records: the session ends at once, with the reason on every TCP connection.
    pub(super) fn fail_session(&mut self, now: Time, rule: Violation) {
        self.say_farewell(now, rule.code(), rule.to_string().as_bytes(), rule.alert());
        self.streams.abort();
        self.conclude(CloseReason::Violation(rule));
    }

    /// The session ends at once for a reason that is no protocol violation.
    pub(super) fn end_session(&mut self, now: Time, reason: CloseReason) {
        let code = match &reason {
            CloseReason::IdleTimeout => crate::error::code::IDLE_TIMEOUT,
            CloseReason::AeadLimit => crate::error::code::AEAD_LIMIT,
            CloseReason::Local { error } => *error,
            _ => ErrorCode::default(),
        };
        let alert = if self.plain { self.plain_farewell() } else { Alert::CloseNotify };
        let text = self.ending.close_session().map(|(_, text)| text).unwrap_or_default();
        self.say_farewell(now, code, &text, alert);
        self.conclude(reason);
    }

    /// The session is over. Every socket may be closed once its final bytes are sent.
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
        self.ending.reason.iter().for_each(|reason| self.trace.emit(|| Event::Closed { reason }));
    }

    /// Moves what the TLS library has to send into the first TCP connection's queue.
    pub(super) fn flush_handshake(&mut self) {
        if let (Some(tls), Some(first)) = (&mut self.handshake, self.tcps.get_mut(ConnectionId::FIRST)) {
            tls.write(first.raw());
        }
    }

    pub(super) fn fail_handshake(&mut self, error: HandshakeError) {
        self.end_handshake(CloseReason::Handshake(error));
    }

    /// The session ends before it began; what TLS still has to say (an alert) goes out.
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
