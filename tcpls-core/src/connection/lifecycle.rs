//! The only module that makes TCP connections *active*, *retiring* or *lost*, changes the table of live ones, and emits
//! the events for it.

use core::time::Duration;

use super::carried::Carried;
use super::lost::Lost;
use super::stall::{UNKNOWN_PATIENCE, expected_rtt};
use super::{Connection, trace};
use crate::error::{Alert, CloseReason, TcpFault};
use crate::event::{Event, TcpEvent};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// Lost TCP connections that are remembered, because a late ACK still prevents reinjection.
const MAX_LOST: usize = 64;

/// If nothing arrives for a round trip and this time, no data is in flight.
const DRAIN_MARGIN: Duration = Duration::from_millis(50);

impl Connection {
    /// The handshake is complete: the first TCP connection can be used. [`Connection::welcome`] reports the event.
    pub(super) fn activate_first(&mut self, now: Time) {
        self.tcps.get_mut(ConnectionId::FIRST).into_iter().for_each(|first| first.activate(now));
    }

    /// Client: the first record that decrypts on a joining TCP connection makes it active.
    pub(super) fn activate_if_opening(&mut self, now: Time, tcp: ConnectionId) {
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| entry.is_opening()) {
            entry.activate(now);
            self.welcome(tcp);
        }
    }

    /// Server: a claim is authenticated, as `entry`.
    pub(super) fn adopt(&mut self, now: Time, mut entry: Tcp<Carried>) {
        let tcp = entry.id();
        entry.activate(now);
        self.tcps.insert(entry);
        self.welcome(tcp);
        self.make_room_for(now, tcp);
    }

    /// TCP connection `tcp` is active.
    pub(super) fn welcome(&mut self, tcp: ConnectionId) {
        let others = self.tcps.iter().filter(|other| other.id() != tcp && other.is_active() && !other.is_backup());
        // Lanes share no bulk data with the others.
        let head_start = others.filter(|other| !other.is_lane()).map(Tcp::share).min().unwrap_or(0);
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.start_behind(head_start);
        }
        self.trace.emit(|| trace::Event::Joined { tcp });
        self.events.push_back(Event::Tcp(TcpEvent::Joined { tcp }));
        self.leave_withdrawn_addresses();
        self.drop_spare_tokens();
        if self.stranded_until.take().is_some() {
            self.events.push_back(Event::Recovered);
        }
    }

    /// Client: a TCP connection answers. Returned tokens were visible on the wire: the server replaces them.
    pub(super) fn drop_spare_tokens(&mut self) {
        for tcp in self.joins.drop_spare() {
            self.control.owe_reset(tcp);
        }
    }

    /// The client always has a token, or it could not recover after the loss of all TCP connections. If it joins beyond
    /// the limit, the new TCP connection replaces the one that has been silent longest.
    fn make_room_for(&mut self, now: Time, newcomer: ConnectionId) {
        while self.tcps.len() > self.config.max_tcp_connections.max(1) as usize {
            let others = self.tcps.iter().filter(|entry| entry.id() != newcomer);
            let Some(silent) = others.min_by_key(|entry| entry.liveness().heard_at()).map(|entry| entry.id()) else {
                return;
            };
            let limit = trace::Limit::TcpConnections;
            self.trace.emit(|| trace::Event::LimitReached { limit, tcp: Some(silent) });
            self.lose_tcp(now, silent, TcpFault::Retired, None);
        }
    }

    /// Makes TCP connection `tcp` lost: requeues its data, notifies the peer on another, and asks the driver to close
    /// the socket after `alert` is sent.
    // draft I18
    pub(super) fn lose_tcp(&mut self, now: Time, tcp: ConnectionId, fault: TcpFault, alert: Option<Alert>) {
        let Some(mut entry) = self.tcps.remove(tcp) else { return };
        if !self.established {
            self.tcps.insert(entry);
            return self.lose_in_handshake(fault, alert);
        }
        if self.plain {
            self.tcps.insert(entry);
            return self.lose_plain(now, fault, alert);
        }
        let mut words = core::mem::take(entry.raw());
        if let Some(alert) = alert {
            self.alert_for(&mut entry, alert, &mut words);
        }
        let returns_token = self.returns_token(&entry, fault);
        if returns_token {
            words.clear(); // no more than its hello
        }
        self.put_final_bytes(tcp, words);
        self.requeue_statuses(&entry);
        let bytes = self.requeue_all(&mut entry);
        self.streams.forget_tcp(tcp);
        self.joins.forget_tcp(tcp);
        entry.owe_ack_again();
        self.repeat_acks();
        // The Ping is requeued: the loss must not make the session idle.
        let asked = entry.sent().waiting_since().filter(|_| self.streams.len() > 0);
        asked.into_iter().for_each(|at| self.activity.note(at));
        entry.shrink_to_fit(); // nothing will be added
        if returns_token {
            self.joins.give_back(tcp);
            self.control.join_failed(tcp);
        } else {
            self.control.tcp_lost(tcp, fault);
        }
        self.lost.insert(tcp, Lost { tcp: entry, fault });
        while self.lost.len() > MAX_LOST {
            self.lost.pop_first();
        }
        self.trace.emit(|| trace::Event::Lost { tcp, fault });
        self.trace.emit(|| trace::Event::Requeued { tcp, bytes });
        self.trace.emit(|| trace::Event::Discarded { tcp });
        self.events.push_back(Event::Tcp(TcpEvent::Lost { tcp, fault }));
        self.events.push_back(Event::Tcp(TcpEvent::Discarded { tcp }));
        self.replenish_tokens();
        self.forget_keys();
        self.end_reading_if_drained();
        self.strand_if_alone(now, fault);
    }

    /// Whether the token of a failed join can be used again: no byte arrived, so it probably never reached the server,
    /// and no record was sealed under its number, so no nonce can repeat. While another TCP connection answers, the
    /// server replaces the token instead.
    fn returns_token(&self, entry: &Tcp<Carried>, fault: TcpFault) -> bool {
        let is_silent = matches!(
            fault,
            TcpFault::Fin | TcpFault::Reset | TcpFault::Io | TcpFault::PathDown | TcpFault::JoinTimeout
        );
        let is_untouched = !entry.has_received() && !entry.has_sealed();
        let has_other = self.tcps.iter().any(|other| other.is_active() && !other.liveness().is_stalled());
        entry.is_opening() && is_silent && is_untouched && !has_other
    }

    /// Discards all sockets.
    pub(super) fn discard_all(&mut self) {
        while let Some(mut entry) = self.tcps.pop_first() {
            if entry.has_raw() {
                self.final_bytes.entry(entry.id()).or_default().append(entry.raw());
            }
            self.trace.emit(|| trace::Event::Discarded { tcp: entry.id() });
            self.events.push_back(Event::Tcp(TcpEvent::Discarded { tcp: entry.id() }));
        }
    }

    /// Strands a session without a TCP connection, unless both endpoints have ended it, or the client has no token:
    /// tokens arrive only over TCP connections. `fault` is that of the last TCP connection.
    // draft I18
    fn strand_if_alone(&mut self, now: Time, fault: TcpFault) {
        self.conclude_if_alone();
        if !self.tcps.is_empty() || self.ending.is_closed() {
            return;
        }
        if self.joins.is_out_of_tokens() {
            // Before the server's Session Parameters arrive, the session has not begun for the application.
            let is_announced = self.is_announced();
            return self.conclude(if is_announced {
                CloseReason::OutOfTokens { fault }
            } else {
                CloseReason::LostInHandshake(fault)
            });
        }
        if self.stranded_until.is_none() {
            self.control.stop_waiting();
            let until = now + self.session_timeout();
            self.stranded_until = Some(until);
            self.events.push_back(Event::Stranded { until });
        }
    }

    // draft I21
    pub(super) fn retire(&mut self, now: Time, tcp: ConnectionId) {
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| entry.is_active()) {
            entry.retire(now);
            self.trace.emit(|| trace::Event::Retiring { tcp });
            self.streams.forget_tcp(tcp);
            if self.is_draft_only() {
                self.tcps.get_mut(tcp).into_iter().for_each(|entry| entry.status_acked(now)); // the peer cannot be told
            }
            self.control.owe_status(tcp);
        }
    }

    /// Retires TCP connections to or from withdrawn addresses (draft E18), and joining ones as soon as they have
    /// joined.
    pub(super) fn leave_withdrawn_addresses(&mut self) {
        let uses = |entry: &&Tcp<Carried>| entry.addresses().any(|end| self.control.is_withdrawn(end));
        let leaving: Vec<ConnectionId> =
            self.tcps.iter().filter(|entry| entry.is_active()).filter(uses).map(|entry| entry.id()).collect();
        leaving.into_iter().for_each(|tcp| self.retire(self.last_heard, tcp));
    }

    /// Discards retiring TCP connections that carry no data, or whose time is up, while another is live.
    pub(super) fn let_retired_go(&mut self, now: Time) {
        while let Some(tcp) = self.next_to_let_go(now) {
            self.lose_tcp(now, tcp, TcpFault::Retired, None);
        }
    }

    fn next_to_let_go(&self, now: Time) -> Option<ConnectionId> {
        let is_done = |entry: &&Tcp<Carried>| self.leave_deadline(entry).is_some_and(|at| at <= now);
        self.tcps.iter().find(is_done).map(|entry| entry.id())
    }

    /// Returns when a retiring TCP connection can be discarded: its data is acknowledged, and the peer knows that it
    /// retires and sends nothing more on it. Or it is stalled: then its data was reinjected.
    pub(super) fn leave_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        let leave = entry.leave().filter(|_| self.tcps.iter().any(|other| other.is_active()))?;
        if entry.liveness().is_stalled() {
            return Some(leave.since);
        }
        let at_last = leave.since + self.config.user_timeout;
        let peer_knows = leave.peer_knows.filter(|_| entry.sent().is_empty());
        let quiet = expected_rtt(entry).unwrap_or(UNKNOWN_PATIENCE) + DRAIN_MARGIN;
        Some(peer_knows.map_or(at_last, |since| at_last.min(since.max(entry.liveness().heard_at()) + quiet)))
    }
}
