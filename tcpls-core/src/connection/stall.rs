//! A TCP connection whose answer is overdue is stalled (RFC 7829: Potentially Failed). The session reinjects its data
//! on others before it is known to be lost, and sends no new data on it while another makes progress. An answer ends
//! the stall; without one, the TCP connection is lost after the user timeout (`timers`). TCP itself needs seconds to
//! detect a dark path.
//!
//! Two kinds of answer can be overdue: the peer's acknowledgment of a record, which also shows that its process works;
//! and, if the driver reports `TcpInfo`, a segment from the peer's kernel, whose absence shows a dark path much sooner.

use core::time::Duration;

use super::carried::Carried;
use super::record::Item;
use super::{Connection, trace};
use crate::event::{Event, TcpEvent};
use crate::tcp::Tcp;
use crate::tcp::silence::TcpInfo;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// The smallest time for an answer before the first acknowledgment.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The same if neither TCP nor the handshake or join shows the round-trip time.
pub(super) const UNKNOWN_PATIENCE: Duration = Duration::from_millis(3500);
/// The longest timeout that a slow peer can cause for the session and its TCP connections.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// The longest time that data in flight is assumed to need: the most that may be in flight (D75) and a segment, at
/// 4 kbit/s.
const MAX_CARRYING: Duration = Duration::from_secs(5);
/// Bytes on the wire of a full segment.
pub(super) const SEGMENT: u64 = 1500;
/// The smallest margin above the round-trip time and the peer's ack delay, because timers and process schedulers are
/// inexact.
const MIN_MARGIN: Duration = Duration::from_millis(15);

impl Connection {
    /// Returns whether TCP connection `tcp` is stalled ([`TcpEvent::Stalled`]).
    pub fn is_stalled(&self, tcp: ConnectionId) -> bool {
        self.tcps.get(tcp).is_some_and(|entry| entry.liveness().is_stalled())
    }

    /// Reports the TCP stack's state of TCP connection `tcp`. Optional; with it, the session detects a dark path much
    /// sooner.
    ///
    /// A driver that has called it once should call it again, for all TCP connections, before each
    /// [`Connection::handle_timeout`]: the session judges a stall by the latest report.
    pub fn handle_tcp_info(&mut self, tcp: ConnectionId, info: TcpInfo) {
        self.trace.call(|_| Item::HandleTcpInfo { tcp, info });
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().handle_tcp_info(info);
        }
    }

    /// Returns when `entry` becomes stalled without an acknowledgment; `None` if it is stalled, or no answer is due.
    pub(super) fn stall_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        if entry.liveness().is_stalled() || !entry.is_up() || self.peer_is_mute() {
            return None;
        }
        // A peer that knows only the draft acknowledges nothing while its application does not read; its kernel does.
        let has_better_sign = self.is_draft_only() && entry.liveness().kernel_rtt().is_some();
        let since = self.owes_since(entry).filter(|_| !has_better_sign);
        let record = since.map(|since| since + self.patience(entry));
        let silence = entry.liveness().silence_deadline(|| entry.commit().time_for(SEGMENT));
        match (record, silence) {
            (Some(record), Some(silence)) => Some(record.min(silence)),
            (record, silence) => record.or(silence),
        }
    }

    /// Returns since when an acknowledgment is due on `entry`. Its records may only wait in a queue: if there is no
    /// other TCP connection, bytes that arrive and bytes that the peer's kernel acknowledges are an answer, too.
    #[inline]
    fn owes_since(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let since = entry.waiting_since()?;
        if self.has_other(entry) {
            return Some(since);
        }
        Some(since.max(entry.liveness().progressed() + entry.liveness().gap() * 2))
    }

    /// Returns the probe timeout of RFC 9002, 6.2.1, with a wider margin, because TCP delivers in order and a
    /// retransmission delays everything behind it.
    ///
    /// It is at least as long as the data in flight takes on the path, if the rate is known: the estimate may come from
    /// much shorter records.
    pub(super) fn patience(&self, entry: &Tcp<Carried>) -> Duration {
        let answer = self.answer_time(entry).unwrap_or(UNKNOWN_PATIENCE);
        if entry.rtt().smoothed().is_some() { answer } else { answer.max(FIRST_PATIENCE) }
    }

    /// Returns how long an answer may take; `None` if nothing is known of the path.
    fn answer_time(&self, entry: &Tcp<Carried>) -> Option<Duration> {
        let margin = MIN_MARGIN + self.control.parameters().max_ack_delay();
        // The answer may wait behind a record of the peer.
        let carrying = entry.commit().time_for(entry.sent().bytes() + SEGMENT).min(MAX_CARRYING);
        let (rtt, min_rtt) = match entry.rtt().smoothed() {
            Some(smoothed) => (smoothed + (entry.rtt().variation() * 4).max(margin), entry.rtt().min()),
            None => (expected_rtt(entry)? * 2 + margin, expected_rtt(entry)),
        };
        Some(rtt.max(min_rtt.unwrap_or_default() + margin + carrying))
    }

    /// Returns the longer of `timeout` and the time in which the slowest TCP connection answers (at most 10 s).
    ///
    /// A shorter timeout would end the session while an answer is in flight.
    pub(super) fn at_least_an_answer(&self, timeout: Duration) -> Duration {
        if timeout >= LONGEST_ANSWER {
            return timeout;
        }
        let up = self.tcps.iter().filter(|entry| entry.is_up());
        let longest = up.filter_map(|entry| self.answer_time(entry)).max();
        timeout.max(longest.unwrap_or_default().min(LONGEST_ANSWER))
    }

    /// Marks TCP connections whose deadline has passed as stalled.
    pub(super) fn mark_stalled(&mut self, now: Time) {
        let silent = |entry: &&Tcp<Carried>| self.stall_deadline(entry).is_some_and(|at| at <= now);
        let silent: Vec<ConnectionId> = self.tcps.iter().filter(silent).map(|entry| entry.id()).collect();
        silent.into_iter().for_each(|tcp| self.mark_one_stalled(now, tcp));
    }

    pub(super) fn mark_one_stalled(&mut self, now: Time, tcp: ConnectionId) {
        let owed_since = self.tcps.get(tcp).and_then(|entry| self.owes_since(entry));
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().stall(now);
            self.trace.emit(|| trace::Event::Stalled { tcp, owed_since, in_flight: entry.sent().bytes() });
            self.events.push_back(Event::Tcp(TcpEvent::Stalled { tcp }));
        }
    }

    /// If at least one TCP connection is not stalled: requeues the data of stalled ones, once, and reports them to the
    /// peer as backups. If only lanes are not, bulk data stays where it is.
    pub(super) fn hedge(&mut self) {
        while let Some((tcp, keeps_bulk)) = self.next_to_hedge() {
            let Some(mut entry) = self.tcps.remove(tcp) else { return };
            let owes_status = entry.liveness().owes_status();
            let bytes =
                if keeps_bulk { self.requeue_all_but_bulk(&mut entry) } else { Some(self.requeue_all(&mut entry)) };
            entry.live().status_noted();
            self.tcps.insert(entry);
            if owes_status || bytes.is_some() {
                self.trace.emit(|| trace::Event::Hedged { tcp, bytes: bytes.unwrap_or(0) });
                self.repeat_acks();
            }
            if owes_status {
                self.control.owe_status(tcp);
            }
        }
    }

    /// Returns the next one to hedge, and whether it keeps its bulk data.
    fn next_to_hedge(&self) -> Option<(ConnectionId, bool)> {
        let hedge = |entry: &Tcp<Carried>| {
            if !self.is_bypassed(entry) {
                return None;
            }
            let keeps_bulk = !self.is_relieved(entry);
            let has_more = if keeps_bulk { entry.sent().has_to_examine() } else { entry.sent().has_to_requeue() };
            (has_more || entry.liveness().owes_status()).then_some((entry.id(), keeps_bulk))
        };
        self.tcps.iter().find_map(hedge)
    }

    /// An answer arrived on `tcp`: ends its stall.
    pub(super) fn clear_stall(&mut self, now: Time, tcp: ConnectionId) {
        let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| entry.liveness().is_stalled()) else { return };
        if entry.live().resume(now) {
            self.control.owe_status(tcp);
        }
        self.trace.emit(|| trace::Event::Resumed { tcp });
        self.events.push_back(Event::Tcp(TcpEvent::Resumed { tcp }));
        self.drop_spare_tokens();
    }
}

/// Returns the round-trip time of a TCP connection before the first acknowledgment: that of TCP, or the duration of the
/// handshake or join.
pub(super) fn expected_rtt(entry: &Tcp<Carried>) -> Option<Duration> {
    entry.rtt().smoothed().or(entry.liveness().kernel_rtt()).or(entry.rtt().opening())
}
