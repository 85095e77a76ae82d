//! Half-close: the peer has sent close_notify without Close Session. It sends no more data on the session, and may
//! still receive (draft, 4.5).
//!
//! While the peer keeps a TCP connection without close_notify, it can acknowledge, and this endpoint continues to send.
//! A reader must not wait forever: data in flight on other TCP connections has the close timeout to arrive. After
//! close_notify on all TCP connections, no acknowledgment and no limit can arrive: this endpoint sends what the windows
//! allow, and ends the session.

use super::Connection;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// Times of progress since the peer's close_notify.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HalfClose {
    began: Time,
    /// The peer can acknowledge nothing, since `began`.
    is_mute: bool,
    /// When new stream data last arrived.
    received: Time,
    /// When stream data was last sent to a peer that cannot acknowledge.
    sent: Time,
    /// Whether streams without an end have been cut short.
    is_judged: bool,
}

impl HalfClose {
    pub(super) fn begin(&mut self, now: Time) {
        *self = Self { began: now, received: now, sent: now, ..Self::default() };
    }

    /// Updates whether the peer can acknowledge. Once it cannot, the time begins in which the application may answer.
    fn set_mute(&mut self, now: Time, is_mute: bool) {
        if is_mute && !self.is_mute {
            (self.began, self.sent) = (now, now);
        }
        self.is_mute = is_mute;
    }

    /// New stream data arrived.
    pub(super) fn note_received(&mut self, now: Time) {
        self.received = now;
    }

    /// Stream data was sent.
    pub(super) fn note_sent(&mut self, now: Time) {
        self.sent = now;
    }
}

impl Connection {
    /// Returns whether the FIN after the peer's close_notify on `tcp` ends only one direction: written data is still
    /// sent, as in a plain session. If the peer has closed both directions, it answers with a reset.
    pub(super) fn takes_what_is_written(&self, tcp: ConnectionId) -> bool {
        self.tcps.contains(tcp) && self.peer_is_mute() && !self.ending.is_closing()
    }

    /// Returns the next deadline of a half-closed session.
    pub(super) fn half_close_deadline(&self) -> Option<Time> {
        if !self.ending.is_half_closed() || self.ending.is_closing() || self.plain {
            return None;
        }
        let half = &self.ending.half;
        if self.peer_is_mute() {
            let at_last = half.began + self.config.close_limit;
            return Some((half.sent + self.config.close_timeout).min(at_last));
        }
        // On a slow path a record takes time. Answers to probes are small, and arrive complete.
        let open = self.tcps.iter().filter(|entry| !entry.close_notify_received());
        let partial = open.filter_map(|entry| entry.liveness().partial_at()).max().unwrap_or_default();
        let moved = half.received.max(partial.min(half.received + self.config.close_limit));
        // What waits in a socket that is not read has arrived.
        let mut open = self.tcps.iter().filter(|entry| !entry.close_notify_received());
        let moved = open.try_fold(moved, |moved, entry| Some(moved.max(entry.read_since()?)))?;
        (!half.is_judged).then(|| moved + self.at_least_an_answer(self.config.close_timeout))
    }

    /// Ends a half-closed session when nothing more can arrive or be sent; returns whether the session is closing.
    pub(super) fn advance_half_close(&mut self, now: Time) -> bool {
        if !self.ending.is_half_closed() {
            return false;
        }
        self.ending.half.set_mute(now, self.peer_is_mute());
        let Some(deadline) = self.half_close_deadline() else { return false };
        let is_due = deadline <= now;
        let is_over = if self.peer_is_mute() {
            is_due || !self.streams.has_writers() && !self.tcps.ids().any(|tcp| self.has_stream_data(tcp))
        } else if is_due {
            self.ending.half.is_judged = true;
            self.streams.truncate()
        } else {
            false
        };
        if is_over {
            self.ending.answer_half_close(now, &self.config);
            self.streams.stop_writing();
            self.drop_claims();
        }
        is_over
    }
}
