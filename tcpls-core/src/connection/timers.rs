//! Deadlines. There is no table of timers: each deadline follows from state, and one function merges them with their reason.

use core::time::Duration;

use super::Connection;
use super::control::{Carried, PARAMETERS_TIMEOUT};
use super::stall::LONGEST_ANSWER;
use super::trace::Event;
use crate::error::{CloseReason, TcpFault};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// Why a session wants to be woken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// The handshake has taken too long.
    Handshake,
    /// A join, from this endpoint or the peer's, has taken too long.
    Join,
    /// An acknowledgment can be held back no longer.
    Ack,
    /// A TCP connection owes an answer for longer than it should.
    Silence,
    /// A TCP connection was quiet while streams are open.
    Probe,
    /// The application wants a session kept alive that is quiet.
    KeepAlive,
    /// A TCP connection that is left intentionally carries nothing any more.
    Leave,
    /// A key update that was asked for soon after another may start.
    KeyUpdate,
    /// A TCP connection made no progress for the user timeout; on a plain session, for the idle timeout.
    UserTimeout,
    /// Nothing was heard for the idle timeout.
    Idle,
    /// No TCP connection joined in time.
    Stranded,
    /// The peer has fallen silent before its Session Parameters came.
    Parameters,
    /// The peer sends no more, and nothing moved since for the close timeout.
    HalfClose,
    /// Closing has taken too long, or made no progress for too long.
    Close,
}

/// Bytes of unfinished records put off the user timeout, up to this multiple of it after the last record that opened.
const MOST_WITHOUT_RECORD: u32 = 6;

/// TCP may need this multiple of a segment's transmission time to repeat one that was lost.
const SEGMENTS_TO_REPEAT: u32 = 10;

impl Connection {
    /// When [`Connection::handle_timeout`] is to be called, if nothing happens before. `None`: never. It can change with
    /// every call on the session.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next_deadline().map(|(at, _)| at)
    }

    /// Why; for logs and simulations.
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.next_deadline().map(|(_, reason)| reason)
    }

    /// Time has passed. Early or late calls are harmless: only what is due happens. Afterwards, no deadline lies at or before
    /// `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.trace.set_now(now);
        if self.ending.is_closed() {
            return;
        }
        if self.trace.is_on() {
            self.trace_timeout(now);
        }
        if let Some(reason) = self.final_timeout(now) {
            return self.time_out(now, reason);
        }
        let live = self.tcps.len();
        self.tcps.iter_mut().for_each(|entry| entry.expire_ack_delay(now));
        self.expire_claims(now);
        let mut late = Vec::new(); // `collect` costs more than to find that there is none
        for entry in self.tcps.iter() {
            self.overdue(entry, now).into_iter().for_each(|fault| late.push((entry.id(), fault)));
        }
        late.into_iter().for_each(|(tcp, fault)| self.lose_tcp(now, tcp, fault, None));
        self.start_due_key_update(now);
        self.mark_stalled(now);
        self.probe_the_quiet(now);
        self.keep_alive_if_due(now);
        self.settle(now);
        // Timeouts of the session wait for the slowest TCP connection, which may have been lost just now.
        if self.tcps.len() < live
            && !self.ending.is_closed()
            && let Some(reason) = self.final_timeout(now)
        {
            self.time_out(now, reason);
        }
    }

    #[cold]
    fn trace_timeout(&mut self, now: Time) {
        let due = self.next_deadline().filter(|(at, _)| *at <= now);
        due.into_iter().for_each(|(_, reason)| self.trace.emit(|| Event::TimedOut { reason }));
    }

    fn next_deadline(&self) -> Option<(Time, TimeoutReason)> {
        if self.ending.is_closed() {
            return None;
        }
        let mut first: Option<(Time, TimeoutReason)> = None;
        let mut consider = |at: Option<Time>, reason| {
            if let Some(at) = at
                && first.is_none_or(|first| (at, reason) < first)
            {
                first = Some((at, reason));
            }
        };
        consider(self.handshake_deadline(), TimeoutReason::Handshake);
        consider(self.joins.deadline(), TimeoutReason::Join);
        consider(self.idle_deadline(), TimeoutReason::Idle);
        consider(self.keep_alive_deadline(), TimeoutReason::KeepAlive);
        consider(self.stuck_deadline(), TimeoutReason::UserTimeout);
        consider(self.stranded_until, TimeoutReason::Stranded);
        consider(self.renewal_deadline(), TimeoutReason::KeyUpdate);
        consider(self.close_deadline(), TimeoutReason::Close);
        consider(self.half_close_deadline(), TimeoutReason::HalfClose);
        consider(self.parameters_deadline(), TimeoutReason::Parameters);
        let probes = self.probe_interval();
        for entry in self.tcps.iter() {
            consider(entry.join_deadline(), TimeoutReason::Join);
            consider(entry.received().deadline(), TimeoutReason::Ack);
            consider(self.stall_deadline(entry), TimeoutReason::Silence);
            consider(probes.and_then(|interval| interval.deadline(entry)), TimeoutReason::Probe);
            consider(self.leave_deadline(entry), TimeoutReason::Leave);
            consider(self.user_deadline(entry), TimeoutReason::UserTimeout);
        }
        first
    }

    /// The first deadline that ends the session and has passed.
    fn final_timeout(&self, now: Time) -> Option<TimeoutReason> {
        let passed = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if passed(self.handshake_deadline()) {
            Some(TimeoutReason::Handshake)
        } else if passed(self.close_deadline()) {
            Some(TimeoutReason::Close)
        } else if passed(self.parameters_deadline()) {
            Some(TimeoutReason::Parameters)
        } else if passed(self.stranded_until) {
            Some(TimeoutReason::Stranded)
        } else if passed(self.stuck_deadline()) {
            Some(TimeoutReason::UserTimeout)
        } else if passed(self.idle_deadline()) {
            Some(TimeoutReason::Idle)
        } else {
            None
        }
    }

    fn time_out(&mut self, now: Time, reason: TimeoutReason) {
        match reason {
            TimeoutReason::Handshake => self.end_handshake(CloseReason::HandshakeTimeout),
            TimeoutReason::Stranded => self.conclude(CloseReason::Stranded),
            TimeoutReason::Parameters => self.end_session(now, CloseReason::HandshakeTimeout),
            TimeoutReason::UserTimeout => self.lose_plain(now, TcpFault::UserTimeout, None),
            TimeoutReason::Idle => self.end_session(now, CloseReason::IdleTimeout),
            _ => {
                let reason = self.ending.planned_reason();
                self.end_session(now, reason);
            }
        }
    }

    /// When a session is given up whose peer has begun to send frames and fallen silent before its Session Parameters: they may
    /// have been lost, and it has as long to come back as one without a TCP connection.
    fn parameters_deadline(&self) -> Option<Time> {
        let is_awaited = self.control.parameters().is_awaited() && self.is_open();
        is_awaited.then(|| self.last_heard + self.config.session_timeout.max(PARAMETERS_TIMEOUT))
    }

    fn handshake_deadline(&self) -> Option<Time> {
        if self.established {
            return None;
        }
        let first = self.tcps.get(ConnectionId::FIRST)?;
        Some(self.handshake_deadline.end(first.liveness().moved()))
    }

    /// When a plain session ends because data waits and the socket takes none of it, whatever the peer sends meanwhile.
    fn stuck_deadline(&self) -> Option<Time> {
        if !self.plain || !self.established {
            return None;
        }
        let entry = self.tcps.get(ConnectionId::FIRST)?;
        Some(entry.liveness().stuck_since()? + self.idle_timeout?)
    }

    /// As long as bytes move, in either direction, what was sent may just wait behind others. But an attacker on the path can
    /// make bytes move: before the session is idle for want of a record that opens, the TCP connection is lost, for another may
    /// live.
    fn user_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let since = entry.sent().waiting_since().filter(|_| entry.is_up() && !self.peer_is_mute())?;
        let peer = self.control.parameters().user_timeout();
        let timeout = peer.map_or(self.config.user_timeout, |peer| peer.min(self.config.user_timeout));
        // It is not lost before it is stalled.
        let least = if timeout < LONGEST_ANSWER { self.patience(entry).min(LONGEST_ANSWER) } else { timeout };
        let patience = self.slowness(entry).min(timeout.saturating_mul(2)).saturating_add(timeout).max(least);
        let longest = timeout.saturating_mul(MOST_WITHOUT_RECORD);
        let longest = self.idle_timeout.map_or(longest, |idle| longest.min(idle - idle / 8)).max(timeout).max(least);
        Some(
            (since.max(entry.liveness().progressed()) + patience).min(since.max(entry.liveness().heard_at()) + longest),
        )
    }

    /// How much longer to wait for a TCP connection that there is no other to take the place of: TCP repeats a lost segment after
    /// some times what a segment takes on its path, and the next only after that.
    fn slowness(&self, entry: &Tcp<Carried>) -> Duration {
        if self.has_other(entry) {
            return Duration::ZERO;
        }
        let segment = entry.commit().time_for(super::stall::SEGMENT).max(entry.liveness().gap());
        segment.saturating_mul(SEGMENTS_TO_REPEAT)
    }

    fn overdue(&self, entry: &Tcp<Carried>, now: Time) -> Option<TcpFault> {
        if entry.join_deadline().is_some_and(|at| at <= now) {
            Some(TcpFault::JoinTimeout)
        } else if self.user_deadline(entry).is_some_and(|at| at <= now) {
            Some(TcpFault::UserTimeout)
        } else {
            None
        }
    }
}
