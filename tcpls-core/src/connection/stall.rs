//! A TCP connection that owes an answer for too long is stalled (RFC 7829: potentially failed): what it carries goes out on
//! others before the verdict is in, and nothing new is put on it as long as another answers. An answer ends the stall; if
//! none comes, the user timeout ends the TCP connection (`timers`). TCP itself would need seconds to find out that a path is dark.
//!
//! Two answers can be owed: the peer's acknowledgment of a record, which also shows that its process lives; and, where the
//! owner asks the TCP stack, a segment from the peer's kernel, which shows much sooner that the path does not.

use core::time::Duration;

use super::control::Carried;
use super::{Connection, trace};
use crate::event::{Event, TcpEvent};
use crate::tcp::Tcp;
use crate::tcp::silence::TcpInfo;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// How long an answer may take at least before an acknowledgment has shown how long it takes.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// The same if neither TCP nor the handshake or join shows how long a round trip takes.
pub(super) const UNKNOWN_PATIENCE: Duration = Duration::from_millis(3500);
/// A peer that answers slowly puts off the timeouts of the session and its TCP connections to this at most.
pub(super) const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// The longest that what is under way is taken to need: what may be under way (D75) and a segment, at 4 kbit/s.
const MAX_CARRYING: Duration = Duration::from_secs(5);
/// Bytes on the wire of a full segment.
pub(super) const SEGMENT: u64 = 1500;
/// What is added to the round-trip time and the peer's ack delay at least, for timers and schedulers are not exact.
const MIN_MARGIN: Duration = Duration::from_millis(15);

impl Connection {
    /// Whether TCP connection `tcp` owes an answer for longer than it should ([`TcpEvent::Stalled`]).
    pub fn is_stalled(&self, tcp: ConnectionId) -> bool {
        self.tcps.get(tcp).is_some_and(|entry| entry.liveness().is_stalled())
    }

    /// What the TCP stack says about TCP connection `tcp`. Optional; a dark path is noticed much sooner with it.
    ///
    /// A driver that calls it once for a TCP connection should do so again, for all, before each [`Connection::handle_timeout`]
    /// that is due: silence is judged by the latest report.
    pub fn handle_tcp_info(&mut self, tcp: ConnectionId, info: TcpInfo) {
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().handle_tcp_info(info);
        }
    }

    /// When `entry` is stalled if nothing is acknowledged. `None` if it is already, or owes nothing.
    pub(super) fn stall_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        if entry.liveness().is_stalled() || !entry.is_up() || self.peer_is_mute() {
            return None;
        }
        let record = self.owes_since(entry).map(|since| since + self.patience(entry));
        let silence = entry.liveness().silence_deadline(|| entry.commit().time_for(SEGMENT));
        match (record, silence) {
            (Some(record), Some(silence)) => Some(record.min(silence)),
            (record, silence) => record.or(silence),
        }
    }

    /// Since when `entry` owes an acknowledgment. What it carries may just wait behind others in a queue: where there is no other
    /// TCP connection to go to, bytes that come and bytes that its kernel acknowledges are an answer too.
    fn owes_since(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let since = entry.sent().waiting_since()?;
        if self.has_other(entry) {
            return Some(since);
        }
        Some(since.max(entry.liveness().progressed() + entry.liveness().gap() * 2))
    }

    /// The probe timeout of RFC 9002, 6.2.1, with a wider margin: TCP delivers in order, and a segment that it
    /// sends again delays all behind it.
    ///
    /// Never less than what is under way takes on the path, as far as that is known: the estimate may come from records that
    /// were much shorter.
    pub(super) fn patience(&self, entry: &Tcp<Carried>) -> Duration {
        let answer = self.answer_time(entry).unwrap_or(UNKNOWN_PATIENCE);
        if entry.rtt().smoothed().is_some() { answer } else { answer.max(FIRST_PATIENCE) }
    }

    /// How long an answer may take; `None` if nothing is known of the path.
    fn answer_time(&self, entry: &Tcp<Carried>) -> Option<Duration> {
        let margin = MIN_MARGIN + self.control.parameters().max_ack_delay();
        // The answer may wait behind a record of the peer's.
        let carrying = entry.commit().time_for(entry.sent().bytes() + SEGMENT).min(MAX_CARRYING);
        let (rtt, min_rtt) = match entry.rtt().smoothed() {
            Some(smoothed) => (smoothed + (entry.rtt().variation() * 4).max(margin), entry.rtt().min()),
            None => (expected_rtt(entry)? * 2 + margin, expected_rtt(entry)),
        };
        Some(rtt.max(min_rtt.unwrap_or_default() + margin + carrying))
    }

    /// `timeout`, or as long as the slowest TCP connection may take to answer if that is longer: at most 10 s.
    ///
    /// A shorter timeout of the session would end it while an answer is under way.
    pub(super) fn at_least_an_answer(&self, timeout: Duration) -> Duration {
        if timeout >= LONGEST_ANSWER {
            return timeout;
        }
        let up = self.tcps.iter().filter(|entry| entry.is_up());
        let longest = up.filter_map(|entry| self.answer_time(entry)).max();
        timeout.max(longest.unwrap_or_default().min(LONGEST_ANSWER))
    }

    /// Marks TCP connections whose time is up as stalled.
    pub(super) fn mark_stalled(&mut self, now: Time) {
        let silent = |entry: &&Tcp<Carried>| self.stall_deadline(entry).is_some_and(|at| at <= now);
        let silent: Vec<ConnectionId> = self.tcps.iter().filter(silent).map(|entry| entry.id()).collect();
        for tcp in silent {
            let owed_since = self.tcps.get(tcp).and_then(|entry| self.owes_since(entry));
            if let Some(entry) = self.tcps.get_mut(tcp) {
                entry.live().stall();
                self.trace.emit(|| trace::Event::Stalled { tcp, owed_since, in_flight: entry.sent().bytes() });
                self.events.push_back(Event::Tcp(TcpEvent::Stalled { tcp }));
            }
        }
    }

    /// As soon as one TCP connection is not stalled: requeues there, once, what stalled ones carry, and advertises those to
    /// the peer as backup.
    pub(super) fn hedge(&mut self) {
        while let Some(tcp) = self.next_to_hedge() {
            let Some(mut entry) = self.tcps.remove(tcp) else { return };
            let bytes = self.requeue_all(&mut entry);
            self.trace.emit(|| trace::Event::Hedged { tcp, bytes });
            entry.live().status_noted();
            self.tcps.insert(entry);
            self.repeat_acks();
            self.control.owe_status(tcp);
        }
    }

    fn next_to_hedge(&self) -> Option<ConnectionId> {
        let owes = |entry: &&Tcp<Carried>| {
            entry.liveness().is_stalled() && (entry.liveness().owes_status() || entry.sent().has_to_requeue())
        };
        self.tcps.iter().filter(owes).find(|entry| self.is_bypassed(entry)).map(|entry| entry.id())
    }

    /// Something came back on `tcp`: it lives.
    pub(super) fn clear_stall(&mut self, now: Time, tcp: ConnectionId) {
        let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| entry.liveness().is_stalled()) else { return };
        if entry.live().resume(now) {
            self.control.owe_status(tcp);
        }
        self.trace.emit(|| trace::Event::Resumed { tcp });
        self.events.push_back(Event::Tcp(TcpEvent::Resumed { tcp }));
    }
}

/// The round-trip time of a TCP connection, before an acknowledgment has shown it: what TCP knows, or what the handshake or
/// the join took.
pub(super) fn expected_rtt(entry: &Tcp<Carried>) -> Option<Duration> {
    entry.rtt().smoothed().or(entry.liveness().kernel_rtt()).or(entry.rtt().opening())
}
