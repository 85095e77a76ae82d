//! A TCP connection that owes an answer for too long is suspect: what it carries goes out on others before the verdict is in,
//! and nothing new is put on it as long as another answers. An acknowledgment clears it; if none comes, the user timeout
//! ends it (`timers`). TCP itself would need seconds to find out that a path is dark.

use core::time::Duration;

use super::Connection;
use super::pending::{Carried, Due};
use crate::event::TcpEvent;
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// How long an answer may take before there is an estimate.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// What is added to the round-trip time and the peer's ack delay at least, for timers and schedulers are not exact.
const MIN_MARGIN: Duration = Duration::from_millis(15);

impl Connection {
    /// Whether TCP connection `tcp` owes an answer for longer than it should ([`TcpEvent::Stalled`]).
    pub fn is_stalled(&self, tcp: ConnectionId) -> bool {
        self.tcps.get(&tcp).is_some_and(|entry| entry.suspect)
    }

    /// When `entry` becomes suspect if nothing is acknowledged. `None` if it is already, owes nothing, or is alone, so that
    /// suspicion would change nothing.
    pub(super) fn suspicion_deadline(&self, entry: &Tcp<Carried>) -> Option<Time> {
        if entry.suspect || !entry.is_up() || !self.tcps.values().any(|other| other.id != entry.id && other.is_active())
        {
            return None;
        }
        entry.sent.waiting_since().map(|since| since + self.patience(entry))
    }

    /// The probe timeout of RFC 9002, 6.2.1, with a wider margin: TCP delivers in order, and a segment that it
    /// sends again delays all behind it.
    fn patience(&self, entry: &Tcp<Carried>) -> Duration {
        let Some(smoothed) = entry.rtt.smoothed() else { return FIRST_PATIENCE };
        let ack_delay = self.peer_parameters.map_or(0, |parameters| parameters.max_ack_delay_ms.min(1 << 14));
        smoothed + (entry.rtt.variation() * 4).max(MIN_MARGIN + Duration::from_millis(ack_delay))
    }

    /// Those whose time is up become suspect.
    pub(super) fn suspect_the_silent(&mut self, now: Time) {
        let silent = |entry: &&Tcp<Carried>| self.suspicion_deadline(entry).is_some_and(|at| at <= now);
        let silent: Vec<ConnectionId> = self.tcps.values().filter(silent).map(|entry| entry.id).collect();
        silent.into_iter().for_each(|tcp| self.suspect(tcp));
    }

    /// Hedges: what `tcp` carries may go out again on others, once.
    fn suspect(&mut self, tcp: ConnectionId) {
        let Some(mut entry) = self.tcps.remove(&tcp) else { return };
        entry.suspect = true;
        entry.counters.requeued_bytes += self.requeue_all(&mut entry);
        self.tcps.insert(tcp, entry);
        self.tcp_event(TcpEvent::Stalled { tcp });
        self.pending.insert(Due::Status(tcp));
    }

    /// The peer acknowledged something on `tcp`: it lives.
    pub(super) fn clear_suspicion(&mut self, tcp: ConnectionId) {
        if let Some(entry) = self.tcps.get_mut(&tcp).filter(|entry| entry.suspect) {
            entry.suspect = false;
            self.tcp_event(TcpEvent::Resumed { tcp });
            self.pending.insert(Due::Status(tcp));
        }
    }

    /// Whether `entry` is suspect and another TCP connection is not: then it carries nothing new.
    pub(super) fn is_shunned(&self, entry: &Tcp<Carried>) -> bool {
        entry.suspect && self.tcps.values().any(|other| other.is_active() && !other.suspect)
    }
}
