//! Lanes: TCP connections that are kept free of bulk data, so that neither a lost segment of it nor what waits in a
//! socket delays interactive streams. The scheduler keeps the two apart (`schedule::chooser`); this file notices when
//! they share a path, which is when the client should open a lane.

use core::time::Duration;

use super::carried::Carried;
use super::{Connection, trace};
use crate::config::Lanes;
use crate::error::Violation;
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, RecordSeq, Side};

/// How long interactive streams, or bulk data, may pause before lanes are not needed any more.
const PAUSE: Duration = Duration::from_secs(10);

/// When interactive streams and bulk data moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contention {
    interactive: Option<Time>,
    bulk: Option<Time>,
}

impl Contention {
    /// Until when both share the session, unless they move again.
    fn until(&self) -> Option<Time> {
        Some(self.interactive?.min(self.bulk?) + PAUSE)
    }
}

impl Connection {
    /// Client: returns a TCP connection on whose path one more is needed now, joined as a lane
    /// ([`JoinOptions::lane`](super::JoinOptions::lane)); `None` if there is none, or the peer does not know lanes.
    ///
    /// With [`Lanes::Auto`], that is one which carries bulk data, while interactive streams are in use; backups and
    /// stalled ones are not offered, nor those to addresses where the server accepts no joins, and none is if the session has
    /// as many TCP connections as it may have. Two TCP connections are on the same path if they have the same remote address and the same local IP address
    /// ([`Connection::set_tcp_addresses`]); a lane without addresses counts as one on every path. A driver need not comply.
    pub fn wants_lane(&self) -> Option<ConnectionId> {
        let has_room = self.tcps.len() < self.max_tcp_connections();
        if self.side == Side::Server || !self.is_open() || !self.has_lanes() || !has_room {
            return None;
        }
        let (always, now) = (self.config.lanes == Lanes::Always, self.last_heard);
        let is_needed = always || self.contention.until().is_some_and(|until| now < until);
        let is_busy = |entry: &&Tcp<Carried>| {
            entry.is_active()
                && !entry.is_lane()
                && !entry.is_backup()
                && !entry.liveness().is_stalled()
                && (always || entry.carries_bulk(now))
        };
        let may_join = |entry: &&Tcp<Carried>| entry.remote_address().is_none_or(|remote| self.may_join_at(remote));
        let is_alone = |entry: &&Tcp<Carried>| {
            let serves = |lane: &Tcp<Carried>| lane.addresses().next().is_none() || lane.shares_path(entry);
            !self.tcps.iter().any(|lane| lane.is_lane() && lane.leave().is_none() && serves(lane))
        };
        self.tcps.iter().filter(|_| is_needed).filter(is_busy).filter(may_join).find(is_alone).map(|entry| entry.id())
    }

    /// Returns until when lanes are needed, unless more data moves: 10 s after data of interactive streams or bulk data
    /// moved last, whichever was earlier. Afterwards a driver should retire those that it has opened.
    pub fn lanes_until(&self) -> Option<Time> {
        match self.config.lanes {
            Lanes::Off => None,
            Lanes::Auto => self.contention.until(),
            Lanes::Always => Some(Time::MAX),
        }
    }

    /// Whether both endpoints keep bulk data off lanes.
    pub(super) fn has_lanes(&self) -> bool {
        self.config.lanes != Lanes::Off && self.control.parameters().peer_knows_lanes()
    }

    /// The client keeps bulk data off this TCP connection, and wants the same of this server. Once either may have sent
    /// stream data on it, it does not become a lane.
    pub(super) fn note_lane(&mut self, tcp: ConnectionId) -> Result<(), Violation> {
        if self.side == Side::Client {
            return Err(Violation::LaneFromServer);
        }
        let is_first = |entry: &Tcp<Carried>| tcp != ConnectionId::FIRST && entry.received().newest() == RecordSeq(0);
        let knows_lanes = self.config.lanes != Lanes::Off;
        if let Some(entry) = self.tcps.get_mut(tcp).filter(|entry| knows_lanes && is_first(entry)) {
            entry.handle_lane();
            self.streams.tell_classes_apart();
            self.trace.emit(|| trace::Event::LaneDeclared { tcp });
        }
        Ok(())
    }

    /// Data of a stream moved on `tcp`, in either direction.
    #[inline(never)]
    pub(super) fn note_data(&mut self, now: Time, tcp: ConnectionId, bytes: u64, is_interactive: bool) {
        if is_interactive {
            self.contention.interactive = Some(now);
        } else if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.note_bulk(now, bytes);
            if entry.carries_bulk(now) {
                self.contention.bulk = Some(now);
            }
        }
    }
}
