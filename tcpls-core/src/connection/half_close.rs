//! The peer has said close_notify, and no Close Session: it sends no more on the session, and may still take what this side
//! sends (draft, 4.5).
//!
//! As long as it keeps a TCP connection on which it has not said so, it can acknowledge, and this side goes on sending. But a
//! reader must not wait for what never comes: what is under way elsewhere has the close timeout to arrive. On a TCP connection
//! with close_notify no acknowledgment and no limit comes any more, so where all have it, this side writes what the windows
//! allow and ends the session.

use super::Connection;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// When something moved since the peer's close_notify.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HalfClose {
    began: Time,
    /// The peer can acknowledge nothing any more, since `began`.
    is_mute: bool,
    /// The last new stream data that came.
    received: Time,
    /// The last stream data that went out to a peer that acknowledges nothing.
    sent: Time,
    /// Streams without an end were cut short, if there were any.
    is_judged: bool,
}

impl HalfClose {
    pub(super) fn begin(&mut self, now: Time) {
        *self = Self { began: now, received: now, sent: now, ..Self::default() };
    }

    /// Whether the peer can acknowledge anything. From when it can't, the application has time to answer.
    fn set_mute(&mut self, now: Time, is_mute: bool) {
        if is_mute && !self.is_mute {
            (self.began, self.sent) = (now, now);
        }
        self.is_mute = is_mute;
    }

    /// New stream data came.
    pub(super) fn note_received(&mut self, now: Time) {
        self.received = now;
    }

    /// Stream data went out.
    pub(super) fn note_sent(&mut self, now: Time) {
        self.sent = now;
    }
}

impl Connection {
    /// Whether the FIN behind the peer's close_notify on `tcp` is the end of one direction only: what is written here
    /// still goes out, as on a plain session. If the peer has closed both, it answers with a reset.
    pub(super) fn takes_what_is_written(&self, tcp: ConnectionId) -> bool {
        self.tcps.contains(tcp) && self.peer_is_mute() && !self.ending.is_closing()
    }

    /// When a session that the peer has half closed is judged, or ends.
    pub(super) fn half_close_deadline(&self) -> Option<Time> {
        if !self.ending.is_half_closed() || self.ending.is_closing() || self.plain {
            return None;
        }
        let half = &self.ending.half;
        if self.peer_is_mute() {
            let at_last = half.began + self.config.close_limit;
            return Some((half.sent + self.config.close_timeout).min(at_last));
        }
        // On a slow path a record takes a while. Answers to probes are small, and whole at once.
        let open = self.tcps.iter().filter(|entry| !entry.close_notify_received());
        let partial = open.filter_map(|entry| entry.liveness().partial_at()).max().unwrap_or_default();
        let moved = half.received.max(partial.min(half.received + self.config.close_limit));
        (!half.is_judged).then(|| moved + self.at_least_an_answer(self.config.close_timeout))
    }

    /// Ends what the peer half closed, once nothing can be expected or sent; whether the session is closing now.
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
