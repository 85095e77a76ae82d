//! Sockets whose end is not yet reported to the session.
//!
//! A middlebox that resets a TCP connection often resets it at both ends, and the peer's final ACK is in flight on
//! another. The data that it covers need not be reinjected, and would delay the missing data. So a session with other
//! TCP connections gets the report of a reset a moment later. Used by the driver.

use std::time::Duration;

use tcpls_core::connection::{Connection, TcpEnd};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

/// Maximum delay before a reset is reported to the session.
const MAX_GRACE: Duration = Duration::from_millis(5);

/// The sockets, in the order of their ends.
#[derive(Debug, Default)]
pub(crate) struct Endings(Vec<Ending>);

#[derive(Debug)]
struct Ending {
    tcp: ConnectionId,
    how: TcpEnd,
    tell_at: Time,
}

impl Endings {
    /// The socket of `tcp` has ended.
    pub(crate) fn add(&mut self, now: Time, tcp: ConnectionId, how: TcpEnd, conn: &Connection) {
        if !self.contains(tcp) {
            self.0.push(Ending { tcp, how, tell_at: now + grace(conn, tcp, how) });
        }
    }

    /// `tcp` names another TCP connection from now on.
    pub(crate) fn forget(&mut self, tcp: ConnectionId) {
        self.0.retain(|ending| ending.tcp != tcp);
    }

    /// Whether the end of `tcp` is still to be reported to the session.
    pub(crate) fn contains(&self, tcp: ConnectionId) -> bool {
        self.0.iter().any(|ending| ending.tcp == tcp)
    }

    /// Reports the ends that are due to the session; returns whether there were any.
    pub(crate) fn tell(&mut self, now: Time, conn: &mut Connection) -> bool {
        let due = self.due(now);
        due.iter().for_each(|(tcp, how)| conn.handle_tcp_end(now, *tcp, *how));
        !due.is_empty()
    }

    fn due(&mut self, now: Time) -> Vec<(ConnectionId, TcpEnd)> {
        self.0.extract_if(.., |ending| ending.tell_at <= now).map(|ending| (ending.tcp, ending.how)).collect()
    }

    /// When the next report is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.0.iter().map(|ending| ending.tell_at).min()
    }
}

/// Returns the delay of the report.
fn grace(conn: &Connection, tcp: ConnectionId, how: TcpEnd) -> Duration {
    let has_others = conn.tcp_connections().any(|other| other != tcp);
    let round_trip = conn.tcp_stats(tcp).and_then(|stats| stats.min_rtt).unwrap_or_default();
    grace_of(how, has_others, round_trip)
}

/// A quarter of the round trip, by which two paths may differ.
fn grace_of(how: TcpEnd, has_others: bool, round_trip: Duration) -> Duration {
    if how == TcpEnd::Reset && has_others { (round_trip / 4).min(MAX_GRACE) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn reset_is_reported_after_quarter_rtt_or_5_ms_if_other_connections_live() {
        assert_eq!(grace_of(TcpEnd::Reset, true, MS * 8), MS * 2);
        assert_eq!(grace_of(TcpEnd::Reset, true, MS * 100), MS * 5);
        assert_eq!(grace_of(TcpEnd::Reset, false, MS * 8), Duration::ZERO, "there is nothing to wait for");
        assert_eq!(grace_of(TcpEnd::Fin, true, MS * 8), Duration::ZERO, "all has come");
    }

    #[test]
    fn end_of_a_socket_is_reported_once_after_the_delay() {
        let (at, tcp) = (Time::from_millis(7), ConnectionId(1));
        let mut endings = Endings(vec![Ending { tcp, how: TcpEnd::Reset, tell_at: at }]);
        assert!(endings.contains(tcp));
        assert_eq!(endings.deadline(), Some(at));
        assert_eq!(endings.due(Time::from_millis(6)), []);
        assert_eq!(endings.due(at), [(tcp, TcpEnd::Reset)]);
        assert!(!endings.contains(tcp) && endings.deadline().is_none());
    }
}
