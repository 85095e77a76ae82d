//! The end of a session: Close Session, close_notify, and what a rule broken by the peer brings (draft, 4.5).

use core::time::Duration;

use super::Connection;
use super::addresses::PeerAddresses;
use super::half_close::HalfClose;
use super::pending::Due;
use crate::config::Config;
use crate::error::{Alert, CloseReason, PeerMisbehaved};
use crate::event::Event;
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
    peer_notified: bool,
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
        self.peer_notified
    }

    /// What was written is delivered, then the session ends as the peer wanted.
    pub(super) fn answer_half_close(&mut self, now: Time, config: &Config) {
        self.request = Some(Request::HalfClosed);
        self.clock = Some(Clock::start(now, config));
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
    fn is_crossing(&self) -> bool {
        let is_clean = |error: &ErrorCode| *error == ErrorCode::default();
        let own = matches!(&self.request, Some(Request::Own(error, _)) if is_clean(error));
        own && self.peer.as_ref().is_some_and(|(error, _)| is_clean(error))
    }

    /// Nothing is lost by ending when the last TCP connection goes.
    pub(super) fn may_end_without_tcp(&self) -> bool {
        self.notify || self.peer_notified
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

impl Connection {
    /// Ends the session. With `error` 0 what was written is delivered first, as long as the peer takes something within each
    /// [`Config::close_timeout`], and [`Config::close_limit`] in all; with any other it is dropped. Whether all was delivered
    /// is what [`Connection::undelivered`] says then. `reason` is text for people; 1 KiB of it is sent. Calling it again
    /// changes nothing.
    ///
    /// [`Config::close_timeout`]: crate::config::Config::close_timeout
    /// [`Config::close_limit`]: crate::config::Config::close_limit
    pub fn close(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        if !self.is_open() {
            return;
        }
        if !self.established {
            return self.abandon_handshake(error);
        }
        let reason = reason.get(..reason.len().min(MAX_REASON)).unwrap_or_default().to_vec();
        self.ending.request = Some(Request::Own(error, reason));
        self.ending.clock = Some(Clock::start(now, &self.config));
        self.streams.stop_writing();
        if error != ErrorCode::default() {
            self.ending.clock = Some(Clock::fixed(now, &self.config));
            self.streams.drop_outgoing();
        }
        self.drop_claims();
        self.settle(now);
        self.conclude_if_alone();
    }

    /// When closing is cut short. What the peer's kernel acknowledges counts as progress too: a record can be acknowledged only
    /// when it is whole, which takes a slow path a while.
    pub(super) fn close_deadline(&self) -> Option<Time> {
        let clock = self.ending.clock.filter(|_| !self.ending.is_closed())?;
        let taken = self.tcps.iter().map(|entry| entry.life.acked_at()).max().unwrap_or_default();
        Some((clock.progress.max(taken) + clock.timeout).min(clock.at_last))
    }

    /// Returns how many written bytes are not delivered, as far as this side knows.
    ///
    /// These are bytes that the peer has not acknowledged and neither side has given up. The end of a finished stream
    /// counts as one. Once the session is over, this is what was lost with it.
    ///
    /// On a plain TLS session, bytes that the socket took count as delivered. If both ends close at once, data under way
    /// is not acknowledged any more, and counts as undelivered.
    pub fn undelivered(&self) -> u64 {
        self.streams.undelivered()
    }

    /// Without a TCP connection a session that is closing has come to its end: none can join it any more.
    pub(super) fn conclude_if_alone(&mut self) {
        if self.tcps.is_empty() && (self.ending.is_closing() || self.ending.may_end_without_tcp()) {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    fn abandon_handshake(&mut self, error: ErrorCode) {
        if let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) {
            first.raw.extend_from_slice(&crate::crypto::plaintext_alert(Alert::UserCanceled));
        }
        self.end_handshake(CloseReason::Local { error });
    }

    /// The peer's Close Session: it takes no more data.
    pub(super) fn handle_close_session(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        if self.ending.peer.is_some() || self.ending.is_closed() {
            return;
        }
        let kept = reason.get(..reason.len().min(MAX_REASON)).unwrap_or_default();
        self.ending.peer = Some((error, kept.to_vec()));
        self.events.push_back(Event::PeerClosing { error });
        self.streams.stop_writing();
        self.drop_claims();
        self.ending.request.get_or_insert(Request::Answer);
        self.ending.clock.get_or_insert(Clock::fixed(now, &self.config));
        if !self.ending.is_crossing() {
            self.streams.drop_outgoing();
            self.ending.notify = true;
        }
    }

    /// The peer's close_notify on `tcp`: it sends no more on the session; on other TCP connections data may still be on its
    /// way.
    // draft I28
    pub(super) fn handle_close_notify(&mut self, now: Time, tcp: ConnectionId) {
        if self.plain {
            return self.handle_plain_end(now, tcp);
        }
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.peer_notified = true;
        }
        if !self.ending.peer_notified {
            self.ending.half.begin(now);
        }
        if !self.ending.peer_notified && self.ending.peer.is_none() {
            self.events.push_back(Event::PeerClosing { error: ErrorCode::default() });
        }
        self.ending.peer_notified = true;
        self.end_reading_if_drained();
    }

    /// The peer has said that it sends no more, and no TCP connection is left that may still bring what it sent before:
    /// streams without an end are cut short.
    pub(super) fn end_reading_if_drained(&mut self) {
        if self.ending.peer_notified && self.tcps.iter().all(|entry| entry.peer_notified) {
            self.streams.truncate();
        }
    }

    /// Takes the next step of closing, if its time has come.
    // draft I29
    pub(super) fn advance_closing(&mut self, now: Time) {
        if self.ending.is_closed() {
            return;
        }
        if self.ending.request.is_none() && !self.advance_half_close(now) {
            return;
        }
        if self.plain {
            return self.advance_plain_closing(now);
        }
        self.ending.notify |= self.has_said_all();
        // A TCP connection that is stuck does not keep the others: the peer has heard it on one of them.
        let heard = self.tcps.iter().any(|entry| entry.notified);
        let said = self.tcps.iter().all(|entry| entry.notified || entry.blocked || !entry.may_seal);
        if self.ending.peer_notified && heard && said && self.has_heard_all() {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// Whether close_notify may go out: all that was written is acknowledged or, if the peer acknowledges no more, because it
    /// has closed at the same time or said close_notify everywhere, given to the sockets.
    fn has_said_all(&self) -> bool {
        if self.ends_unacknowledged() {
            return !self.tcps.ids().any(|tcp| self.has_stream_data(tcp));
        }
        // Which TCP connections are backups matters no more, and a status may have to wait for one that is dark.
        let due = self.pending.first(|due| !matches!(due, Due::Status(_)));
        self.streams.is_flushed() && due.is_none()
    }

    /// Whether what is still to be sent will never be acknowledged: the peer has closed too, or said all it had to say.
    pub(super) fn ends_unacknowledged(&self) -> bool {
        self.ending.is_crossing() || self.peer_is_mute()
    }

    /// Whether nothing of the peer's can be under way any more. It matters only if the peer has closed at the same time: else
    /// it has dropped what it had to send.
    fn has_heard_all(&self) -> bool {
        !self.ending.is_crossing() || self.tcps.iter().all(|entry| entry.peer_notified || !entry.is_up())
    }

    /// The peer broke a rule inside authentic records: the session ends at once, with the reason on every TCP connection.
    pub(super) fn fail_session(&mut self, now: Time, rule: PeerMisbehaved) {
        self.say_farewell(now, rule.code(), rule.to_string().as_bytes(), rule.alert());
        self.streams.abort();
        self.conclude(CloseReason::Misbehaved(rule));
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

    /// The session is over. Every socket may be closed once its last words are out.
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
        self.peer_addresses = PeerAddresses::default(); // no more of them is to be connected to
        self.keys = None;
        self.handshake = None;
        self.gone.clear();
        self.ending.reason = Some(reason);
    }
}
