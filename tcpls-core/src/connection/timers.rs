//! Deadlines. There is no table of timers: each deadline follows from state, and one function merges them with their reason.

use core::time::Duration;

use super::Connection;
use super::carried::Carried;
use super::control::PARAMETERS_TIMEOUT;
use super::record::Item;
use super::stall::LONGEST_ANSWER;
use super::trace::Event;
use crate::error::{CloseReason, TcpFault};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// Why a session has to be woken at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// The handshake has taken too long.
    Handshake,
    /// A join, from this endpoint or the peer's, has taken too long.
    Join,
    /// A delayed acknowledgment is due.
    Ack,
    /// An answer on a TCP connection is overdue: it stalls.
    Silence,
    /// A TCP connection was quiet while streams are open: it is probed.
    Probe,
    /// A keep-alive of the application is due.
    KeepAlive,
    /// A retiring TCP connection can be discarded.
    Leave,
    /// A requested key update that had to wait may start.
    KeyUpdate,
    /// A TCP connection made no progress for the user timeout; on a plain session, for the idle timeout.
    UserTimeout,
    /// The session was idle for the idle timeout.
    Idle,
    /// No TCP connection joined in time.
    Stranded,
    /// The peer has stopped sending before its Session Parameters arrived.
    Parameters,
    /// The peer has sent close_notify, and there was no progress for the close timeout.
    HalfClose,
    /// The session is drained, or the limit for that has passed.
    Drain,
    /// Closing took too long, or made no progress for too long.
    Close,
}

/// Bytes of incomplete records extend the user timeout, up to this multiple of it after the last record that decrypted.
const MOST_WITHOUT_RECORD: u32 = 6;

/// TCP may need this multiple of a segment's transmission time to retransmit a lost segment.
const SEGMENTS_TO_REPEAT: u32 = 10;

impl Connection {
    /// Returns when to call [`Connection::handle_timeout`]; `None` if no deadline is set. Every call on the session can
    /// change it.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.next_deadline().map(|(at, _)| at)
    }

    /// Returns the reason of that deadline, for logs and simulations.
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.next_deadline().map(|(_, reason)| reason)
    }

    /// Handles all deadlines that have passed. Early and late calls are valid. Afterwards, no deadline is at or before
    /// `now`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.record_at(now, || Item::HandleTimeout { now });
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
        // The session's timeouts depend on the slowest TCP connection, which may just have been lost.
        if self.tcps.len() < live
            && !self.ending.is_closed()
            && let Some(reason) = self.final_timeout(now)
        {
            self.time_out(now, reason);
        }
    }

    /// A call at `now` begins: a recording has the deadline before it, too.
    #[inline(always)]
    pub(super) fn record_at(&mut self, now: Time, call: impl FnOnce() -> Item) {
        if self.trace.is_recording() {
            self.record_deadline(now, &call());
        }
    }

    #[cold]
    #[inline(never)]
    fn record_deadline(&mut self, now: Time, call: &Item) {
        let due = self.trace.wants_deadline(now).then(|| self.next_deadline());
        self.trace.call(|_| call.clone());
        due.into_iter().for_each(|due| self.trace.add_deadline(due));
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
        consider(self.drain_deadline(), TimeoutReason::Drain);
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

    /// Returns the first expired deadline that ends the session.
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

    /// Returns when a session ends whose peer has sent frames, and then nothing before its Session Parameters. They may
    /// have been lost; the peer has as much time as in a session without a TCP connection.
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

    /// Returns when a plain session ends because its socket takes none of the waiting data, even if the peer sends.
    fn stuck_deadline(&self) -> Option<Time> {
        if !self.plain || !self.established {
            return None;
        }
        let entry = self.tcps.get(ConnectionId::FIRST)?;
        Some(entry.liveness().stuck_since()?.max(self.activity.limited()) + self.idle_timeout?)
    }

    /// While bytes move in either direction, sent data may only wait in a queue. But an attacker on the path can make
    /// bytes move. So the TCP connection is lost before the session is idle for lack of an authentic record: another
    /// one may work.
    fn user_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let since = entry.waiting_since().filter(|_| entry.is_up() && !self.peer_is_mute())?;
        let timeout = self.user_timeout();
        // A TCP connection is not lost before it is stalled.
        let least = if timeout < LONGEST_ANSWER { self.patience(entry).min(LONGEST_ANSWER) } else { timeout };
        let patience = self.slowness(entry).min(timeout.saturating_mul(2)).saturating_add(timeout).max(least);
        let longest = timeout.saturating_mul(MOST_WITHOUT_RECORD);
        let longest = self.idle_timeout.map_or(longest, |idle| longest.min(idle - idle / 8)).max(timeout).max(least);
        Some(
            (since.max(entry.liveness().progressed()) + patience).min(since.max(entry.liveness().heard_at()) + longest),
        )
    }

    /// Returns the user timeout, the shorter of both endpoints'. A peer that knows only the draft acknowledges nothing while
    /// its application does not read: it has the idle timeout.
    fn user_timeout(&self) -> Duration {
        let own = self.config.user_timeout;
        if self.is_draft_only() {
            return own.max(self.idle_timeout.unwrap_or(own.saturating_mul(MOST_WITHOUT_RECORD)));
        }
        self.control.parameters().user_timeout().map_or(own, |peer| peer.min(own))
    }

    /// Returns how much longer to wait for the only TCP connection: TCP retransmits a lost segment after several
    /// transmission times of a segment on its path, and the next one only after that.
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
