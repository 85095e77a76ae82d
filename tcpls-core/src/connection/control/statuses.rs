//! The Connection Statuses in flight. On two TCP connections an older one may arrive last, so the next one about a TCP
//! connection waits for the one before, unless that is on a TCP connection that is lost or stalled.

use std::collections::BTreeMap;

use crate::connection::carried::StatusId;
use crate::wire::ids::ConnectionId;

/// The newest one about a TCP connection.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    number: u32,
    is_awaited: bool,
}

/// What an acknowledgment of a Connection Status shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The peer has the newest one.
    Known,
    /// It may have arrived after a newer one.
    Overtaken,
    /// Nothing: the TCP connection that it is about is lost.
    Void,
}

/// By the TCP connection that they are about.
#[derive(Debug, Default)]
pub(super) struct Statuses(BTreeMap<ConnectionId, Newest>);

impl Statuses {
    /// One is sent.
    pub(super) fn sent(&mut self, about: ConnectionId) -> StatusId {
        let newest = self.0.entry(about).or_default();
        *newest = Newest { number: newest.number.wrapping_add(1), is_awaited: true };
        StatusId { about, number: newest.number }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        if self.0.is_empty() {
            self.0 = BTreeMap::new();
        }
    }

    /// Whether the next one has to wait.
    pub(super) fn is_awaited(&self, about: ConnectionId) -> bool {
        self.0.get(&about).is_some_and(|newest| newest.is_awaited)
    }

    /// The peer has acknowledged one.
    pub(super) fn acked(&mut self, status: StatusId) -> Outcome {
        match self.0.get_mut(&status.about) {
            Some(newest) if newest.number == status.number => {
                newest.is_awaited = false;
                Outcome::Known
            }
            Some(_) => Outcome::Overtaken,
            None => Outcome::Void,
        }
    }

    /// One may not have arrived; returns whether it has to be sent again.
    pub(super) fn lost(&mut self, status: StatusId) -> bool {
        let Some(newest) = self.0.get_mut(&status.about) else { return false };
        newest.is_awaited &= newest.number != status.number;
        true
    }

    /// The TCP connection that they are about is lost.
    pub(super) fn forget(&mut self, about: ConnectionId) {
        self.0.remove(&about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_status_waits_for_the_newest_alone() {
        let (mut statuses, tcp) = (Statuses::default(), ConnectionId(1));
        assert!(!statuses.is_awaited(tcp));
        let old = statuses.sent(tcp);
        assert!(statuses.is_awaited(tcp) && statuses.lost(old) && !statuses.is_awaited(tcp));
        let new = statuses.sent(tcp);
        assert!(statuses.lost(old) && statuses.is_awaited(tcp), "only the old one is lost");
        assert_eq!(statuses.acked(old), Outcome::Overtaken);
        assert!(statuses.is_awaited(tcp));
        assert_eq!(statuses.acked(new), Outcome::Known);
        assert!(!statuses.is_awaited(tcp));
        statuses.forget(tcp);
        assert_eq!((statuses.acked(new), statuses.lost(new)), (Outcome::Void, false));
    }
}
