//! What to report of TCP connections that end.
//!
//! A server that was started anew refuses each join of a session that it does not know, and the client tries with each of
//! its tokens: the same reason is reported once.

use std::collections::BTreeSet;

use tcpls_core::error::TcpFault;
use tcpls_core::event::TcpEvent;
use tcpls_core::wire::ids::ConnectionId;

/// The TCP connections that are part of a session, and why others did not become part of it.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    joined: BTreeSet<ConnectionId>,
    /// The reasons since one joined.
    failures: Vec<TcpFault>,
}

impl Joins {
    /// Notes one that is part of the session.
    pub(crate) fn add(&mut self, tcp: ConnectionId) {
        self.joined.insert(tcp);
        self.failures.clear();
    }

    /// Handles an event; returns what to report of its TCP connection, if that has ended.
    pub(crate) fn note(&mut self, event: &TcpEvent) -> Option<String> {
        match event {
            TcpEvent::Joined { tcp } => {
                self.add(*tcp);
                None
            }
            TcpEvent::Lost { tcp, fault } => {
                let was_part = self.joined.remove(tcp);
                (*fault != TcpFault::SessionClosed).then(|| self.end(was_part, *fault)).flatten()
            }
            _ => None,
        }
    }

    fn end(&mut self, was_part: bool, fault: TcpFault) -> Option<String> {
        if was_part {
            return Some(format!("{}: {fault}", if fault.was_meant() { "closed" } else { "lost" }));
        }
        if self.failures.contains(&fault) {
            return None;
        }
        self.failures.push(fault);
        let hint = match fault {
            TcpFault::Alert(_) => "; a server that was started anew does not know the session",
            _ => "",
        };
        Some(format!("did not join: {fault}{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(tcp: u32, fault: TcpFault) -> TcpEvent {
        TcpEvent::Lost { tcp: ConnectionId(tcp), fault }
    }

    #[test]
    fn the_same_reason_why_joins_fail_is_reported_once_until_one_succeeds() {
        let mut joins = Joins::default();
        joins.add(ConnectionId::FIRST);
        let refused =
            "did not join: alert 47 (illegal_parameter); a server that was started anew does not know the session";
        let reports: Vec<_> = [
            lost(0, TcpFault::Reset),
            lost(1, TcpFault::Alert(47)),
            lost(2, TcpFault::Alert(47)),
            lost(3, TcpFault::JoinTimeout),
            lost(4, TcpFault::Alert(47)),
            TcpEvent::Joined { tcp: ConnectionId(5) },
            lost(6, TcpFault::Alert(47)),
            lost(5, TcpFault::Retired),
            lost(7, TcpFault::SessionClosed),
        ]
        .iter()
        .filter_map(|event| joins.note(event))
        .collect();
        assert_eq!(reports, ["lost: reset", refused, "did not join: join timed out", refused, "closed: retired"]);
    }
}
