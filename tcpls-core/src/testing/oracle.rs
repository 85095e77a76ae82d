//! Invariants of one endpoint of a session, for any calls and any network.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::connection::Connection;
use crate::event::{Event, TcpEvent};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, OptionRequestId};

/// Memory for reading beyond the window, in bytes: the unused rest of receive buffers, and one record.
const SLACK: u64 = 1 << 20;
/// Requests for TCP options that the peer may have open.
const MAX_REQUESTS: usize = 16;
/// With this much room, in bytes, a TCP connection that wants to write does write.
const ENOUGH_ROOM: usize = 256;

/// Checks one end: the order of its events, its bounds on memory, and its promises about writing.
///
/// It never panics: it collects complaints, so that a simulator can report them with the rest of a run.
#[derive(Debug)]
pub struct Oracle {
    read_bound: u64,
    send_bound: usize,
    /// The last of `Joined`, `Lost` and `Discarded` for each TCP connection.
    ranks: BTreeMap<ConnectionId, u8>,
    /// Those that were `Joined`.
    joined: BTreeSet<ConnectionId>,
    stalled: BTreeSet<ConnectionId>,
    /// Requests for TCP options that the peer has sent, and those that it has answered.
    requested: BTreeSet<OptionRequestId>,
    answered: BTreeSet<OptionRequestId>,
    closed: bool,
    complaints: Vec<String>,
}

impl Oracle {
    /// Returns an oracle for an end with this configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            read_bound: config.max_session_window.max(config.initial_session_window).saturating_add(SLACK),
            send_bound: config.send_buffer,
            ranks: BTreeMap::new(),
            joined: BTreeSet::new(),
            stalled: BTreeSet::new(),
            requested: BTreeSet::new(),
            answered: BTreeSet::new(),
            closed: false,
            complaints: Vec::new(),
        }
    }

    /// Adds a complaint of the caller's.
    pub fn complain(&mut self, what: String) {
        self.complaints.push(what);
    }

    /// Everything that was wrong so far.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Calls [`Connection::poll_transmit`] once and checks it. Returns the number of bytes appended to `out`.
    pub fn transmit(
        &mut self,
        conn: &mut Connection,
        now: Time,
        tcp: ConnectionId,
        room: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let (wanted, before) = (conn.wants_write(tcp), out.len());
        let len = conn.poll_transmit(now, tcp, room, out);
        let appended = out.len() - before;
        if len != appended {
            self.complain(format!("poll_transmit returned {len} and appended {appended} bytes on {tcp}"));
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
        len
    }

    /// Checks the order of events; to be called with each event of [`Connection::poll_event`].
    pub fn event(&mut self, event: &Event) {
        if self.closed {
            self.complain(format!("{event:?} after Closed"));
        }
        self.closed |= matches!(event, Event::Closed { .. });
        let is_first = match event {
            Event::TcpOption { request: Some(request), .. } => self.requested.insert(*request),
            Event::TcpOptionAnswered { request, .. } => self.answered.insert(*request),
            _ => true,
        };
        if !is_first {
            self.complain(format!("{event:?} comes twice"));
        }
        let Event::Tcp(event) = event else { return };
        let fits = match event {
            TcpEvent::Joined { tcp } => {
                self.joined.insert(*tcp);
                self.rank(*tcp, 1)
            }
            TcpEvent::Lost { tcp, .. } => {
                self.stalled.remove(tcp);
                self.rank(*tcp, 2)
            }
            // A join that failed: its token may be used again.
            TcpEvent::Discarded { tcp } if self.ranks.get(tcp) == Some(&2) && !self.joined.contains(tcp) => {
                self.ranks.remove(tcp).is_some()
            }
            TcpEvent::Discarded { tcp } => self.rank(*tcp, 3),
            TcpEvent::Stalled { tcp } => self.ranks.get(tcp) == Some(&1) && self.stalled.insert(*tcp),
            TcpEvent::Resumed { tcp } => self.ranks.get(tcp) == Some(&1) && self.stalled.remove(tcp),
            TcpEvent::Status { tcp, .. } => self.ranks.get(tcp) <= Some(&1),
        };
        if !fits {
            self.complain(format!("{event:?} comes out of order"));
        }
    }

    fn rank(&mut self, tcp: ConnectionId, rank: u8) -> bool {
        self.ranks.insert(tcp, rank).unwrap_or(0) < rank
    }

    /// Checks the bounds on memory, and that a session that is over holds and waits for nothing.
    ///
    /// To be called when all events have been taken.
    pub fn check(&mut self, conn: &Connection) {
        let stats = conn.stats();
        if stats.bytes_to_read as u64 > self.read_bound {
            self.complain(format!("{} bytes are held for reading", stats.bytes_to_read));
        }
        if stats.bytes_to_send > self.send_bound {
            self.complain(format!("{} bytes are held for sending", stats.bytes_to_send));
        }
        if conn.open_option_requests() > MAX_REQUESTS {
            self.complain(format!("{} requests for options are held", conn.open_option_requests()));
        }
        if self.closed != conn.close_reason().is_some() {
            self.complain("the event Closed and the state disagree".to_owned());
        }
        if self.closed && (conn.tcp_connections().next().is_some() || conn.poll_timeout().is_some()) {
            self.complain("a session that is over has TCP connections, or waits for something".to_owned());
        }
        if self.closed && (stats.bytes_to_send > 0 || !stats.tcp.is_empty()) {
            self.complain(format!("a session that is over holds something to send: {stats:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CloseReason, TcpFault};

    const TCP: ConnectionId = ConnectionId(3);

    fn complaints(events: &[Event]) -> usize {
        let mut oracle = Oracle::new(&Config::default());
        events.iter().for_each(|event| oracle.event(event));
        oracle.complaints().len()
    }

    #[test]
    fn events_out_of_order_are_found() {
        let joined = Event::Tcp(TcpEvent::Joined { tcp: TCP });
        let lost = Event::Tcp(TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset });
        let discarded = Event::Tcp(TcpEvent::Discarded { tcp: TCP });
        let stalled = Event::Tcp(TcpEvent::Stalled { tcp: TCP });
        let closed = Event::Closed { reason: CloseReason::Stranded };
        let option = Event::TcpOption { tcp: TCP, kind: 28, value: vec![0, 30], request: Some(OptionRequestId(0)) };
        assert_eq!(
            complaints(&[
                joined.clone(),
                stalled.clone(),
                option.clone(),
                lost.clone(),
                discarded.clone(),
                closed.clone()
            ]),
            0
        );
        for wrong in [
            vec![lost.clone(), joined.clone()],
            vec![joined.clone(), joined.clone()],
            vec![discarded, lost],
            vec![option.clone(), option],
            vec![stalled.clone()],
            vec![joined.clone(), stalled.clone(), stalled],
            vec![closed.clone(), joined],
            vec![closed.clone(), closed],
        ] {
            assert_eq!(complaints(&wrong), 1, "{wrong:?}");
        }
    }
}
