//! What must hold for one end at any moment, whatever the network does.

use std::collections::{BTreeMap, BTreeSet};

use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::{Config, Connection, ConnectionId};

/// What memory may exceed its bound by: the unused rest of receive buffers, and one record.
const SLACK: u64 = 1 << 20;
/// With so much room, a TCP connection that wants to write does.
const ENOUGH_ROOM: usize = 256;

/// Watches one end.
#[derive(Debug)]
pub(crate) struct Oracle {
    read_bound: u64,
    send_bound: usize,
    /// How far each TCP connection has come in `Joined`, `Lost`, `Discarded`.
    ranks: BTreeMap<ConnectionId, u8>,
    /// Those that were `Joined`.
    joined: BTreeSet<ConnectionId>,
    stalled: BTreeSet<ConnectionId>,
    closed: bool,
    /// The handshake was over.
    pub(crate) established: bool,
    pub(crate) lost: usize,
    bytes_received: u64,
    /// What was found wrong.
    pub(crate) complaints: Vec<String>,
}

impl Oracle {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            read_bound: config.max_session_window.max(config.initial_session_window) + SLACK,
            send_bound: config.send_buffer,
            ranks: BTreeMap::new(),
            joined: BTreeSet::new(),
            stalled: BTreeSet::new(),
            closed: false,
            established: false,
            lost: 0,
            bytes_received: 0,
            complaints: Vec::new(),
        }
    }

    pub(crate) fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    pub(crate) fn received(&mut self, len: usize) {
        self.bytes_received += len as u64;
    }

    /// Checks one `poll_transmit`.
    pub(crate) fn sent(
        &mut self,
        conn: &Connection,
        tcp: ConnectionId,
        wanted: bool,
        room: usize,
        len: usize,
        appended: usize,
    ) {
        if len != appended {
            self.complain(format!("poll_transmit said {len} and appended {appended} bytes on {tcp}"));
        }
        if len > room {
            self.complain(format!("poll_transmit wrote {len} bytes on {tcp} where there was room for {room}"));
        }
        if len > 0 && !wanted {
            self.complain(format!("{tcp} did not want to write, and wrote {len} bytes"));
        }
        if len == 0 && room >= ENOUGH_ROOM && conn.wants_write(tcp) {
            self.complain(format!("{tcp} wants to write, and does not"));
        }
    }

    /// Checks the order of events.
    pub(crate) fn hear(&mut self, event: &Event) {
        if self.closed {
            self.complain(format!("{event:?} after Closed"));
        }
        self.closed |= matches!(event, Event::Closed { .. });
        self.established |= matches!(event, Event::Established(_));
        let Event::Tcp(event) = event else { return };
        let fits = match event {
            TcpEvent::Joined { tcp } => {
                self.joined.insert(*tcp);
                self.rank(*tcp, 1)
            }
            TcpEvent::Lost { tcp, fault } => {
                self.lost += usize::from(!fault.was_meant());
                self.stalled.remove(tcp);
                self.rank(*tcp, 2)
            }
            // A join that came to nothing: its token may be used again.
            TcpEvent::Discarded { tcp } if self.ranks.get(tcp) == Some(&2) && !self.joined.contains(tcp) => {
                self.ranks.remove(tcp).is_some()
            }
            TcpEvent::Discarded { tcp } => self.rank(*tcp, 3),
            TcpEvent::Stalled { tcp } => self.ranks.get(tcp) == Some(&1) && self.stalled.insert(*tcp),
            TcpEvent::Resumed { tcp } => self.ranks.get(tcp) == Some(&1) && self.stalled.remove(tcp),
            TcpEvent::Status { tcp, .. } => self.ranks.get(tcp) <= Some(&1),
            _ => true,
        };
        if !fits {
            self.complain(format!("{event:?} comes out of order"));
        }
    }

    fn rank(&mut self, tcp: ConnectionId, rank: u8) -> bool {
        self.ranks.insert(tcp, rank).unwrap_or(0) < rank
    }

    /// Bounds on memory, and what follows from the end of a session.
    pub(crate) fn check(&mut self, conn: &Connection) {
        let stats = conn.stats();
        if stats.bytes_to_read as u64 > self.read_bound {
            self.complain(format!("{} bytes are held for reading", stats.bytes_to_read));
        }
        if stats.bytes_to_send > self.send_bound {
            self.complain(format!("{} bytes are held for sending", stats.bytes_to_send));
        }
        if self.closed != conn.close_reason().is_some() {
            self.complain("Closed was told and the state disagree".to_owned());
        }
        if self.closed && (conn.tcp_connections().next().is_some() || conn.poll_timeout().is_some()) {
            self.complain("a session that is over has TCP connections, or waits for something".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::error::{CloseReason, TcpFault};

    use super::*;

    const TCP: ConnectionId = ConnectionId(3);

    fn complaints(events: &[Event]) -> usize {
        let mut oracle = Oracle::new(&Config::default());
        events.iter().for_each(|event| oracle.hear(event));
        oracle.complaints.len()
    }

    #[test]
    fn events_out_of_order_are_found() {
        let joined = Event::Tcp(TcpEvent::Joined { tcp: TCP });
        let lost = Event::Tcp(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset });
        let discarded = Event::Tcp(TcpEvent::Discarded { tcp: TCP });
        let stalled = Event::Tcp(TcpEvent::Stalled { tcp: TCP });
        let closed = Event::Closed { reason: CloseReason::Stranded };
        assert_eq!(complaints(&[joined.clone(), stalled.clone(), lost.clone(), discarded.clone(), closed.clone()]), 0);
        for wrong in [
            vec![lost.clone(), joined.clone()],
            vec![joined.clone(), joined.clone()],
            vec![discarded, lost],
            vec![stalled.clone()],
            vec![joined.clone(), stalled.clone(), stalled],
            vec![closed.clone(), joined],
            vec![closed.clone(), closed],
        ] {
            assert_eq!(complaints(&wrong), 1, "{wrong:?}");
        }
    }
}
