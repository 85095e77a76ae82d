//! Requests for options that wait until the peer has answered others, in the order in which they were made.

use std::collections::{BTreeMap, VecDeque};

use tcpls_core::event::OptionOutcome;
use tcpls_core::wire::ids::{ConnectionId, OptionRequestId};
use tokio::sync::oneshot;

use crate::net::tcp_option::TcpOption;

/// Requests of the application's that may wait when it makes another, which may be about several TCP connections.
const MAX_QUEUED: usize = 256;

/// Who waits for the outcome.
pub(super) type Waiting = oneshot::Sender<OptionOutcome>;

/// A request that waits to be sent.
pub(super) struct Owed {
    /// `None`: it concerns no TCP connection, and names one that lives when it is sent.
    pub(super) tcp: Option<ConnectionId>,
    pub(super) kind: u8,
    pub(super) value: Vec<u8>,
    /// `None`: kept since before there was the TCP connection.
    pub(super) asker: Option<Waiting>,
}

impl Owed {
    pub(super) fn new(tcp: ConnectionId, option: &TcpOption, asker: Option<Waiting>) -> Self {
        let (kind, value) = option.encode();
        Self { tcp: Some(tcp), kind, value, asker }
    }
}

/// This endpoint's requests.
#[derive(Default)]
pub(super) struct Queue {
    owed: VecDeque<Owed>,
    /// Who waits for an answer of the peer's: at most 16.
    asked: BTreeMap<OptionRequestId, Waiting>,
}

impl Queue {
    /// Whether the application has to wait before it asks for more.
    pub(super) fn is_full(&self) -> bool {
        self.owed.iter().filter(|owed| owed.asker.is_some()).count() >= MAX_QUEUED
    }

    pub(super) fn push(&mut self, owed: Owed) {
        self.owed.push_back(owed);
    }

    /// The peer does not take it yet.
    pub(super) fn put_back(&mut self, owed: Owed) {
        self.owed.push_front(owed);
    }

    /// The one that the peer gets next.
    pub(super) fn pop(&mut self) -> Option<Owed> {
        let next = self.owed.pop_front();
        if next.is_none() {
            self.owed = VecDeque::new(); // a session may be one of many
        }
        next
    }

    /// The peer gets a request now.
    pub(super) fn note_asked(&mut self, request: OptionRequestId, asker: Waiting) {
        self.asked.insert(request, asker);
    }

    /// The peer has answered; returns who waits for it.
    pub(super) fn answered(&mut self, request: OptionRequestId) -> Option<Waiting> {
        self.asked.remove(&request)
    }

    /// A TCP connection is lost: its requests are not sent. Returns who waits for that.
    pub(super) fn forget(&mut self, tcp: ConnectionId) -> impl Iterator<Item = Waiting> {
        let (forgotten, rest): (VecDeque<_>, _) =
            std::mem::take(&mut self.owed).into_iter().partition(|owed| owed.tcp == Some(tcp));
        self.owed = rest;
        forgotten.into_iter().filter_map(|owed| owed.asker)
    }

    /// Nothing is asked or answered any more.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Waiting> {
        let Self { owed, asked } = std::mem::take(self);
        owed.into_iter().filter_map(|owed| owed.asker).chain(asked.into_values())
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        let values: usize = self.owed.iter().map(|owed| owed.value.capacity()).sum();
        self.owed.capacity() * size_of::<Owed>() + values + self.asked.len() * size_of::<(OptionRequestId, Waiting)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp_option::CongestionName;

    fn owed(tcp: u32, asker: Option<Waiting>) -> Owed {
        let option = TcpOption::CongestionControl(CongestionName::new("fifteen-letters").unwrap());
        Owed::new(ConnectionId(tcp), &option, asker)
    }

    #[test]
    fn memory_of_what_is_owed_is_counted_until_the_peer_has_it() {
        let mut queue = Queue::default();
        assert_eq!(queue.memory(), 0);
        (0..100).for_each(|tcp| queue.push(owed(tcp, None)));
        assert!(queue.memory() >= 100 * (size_of::<Owed>() + 15), "{}", queue.memory());
        while queue.pop().is_some() {}
        assert_eq!(queue.memory(), 0);
        queue.note_asked(OptionRequestId(0), oneshot::channel().0);
        assert!(queue.memory() > 0);
        assert!(queue.answered(OptionRequestId(0)).is_some() && queue.answered(OptionRequestId(0)).is_none());
        assert_eq!(queue.memory(), 0);
    }

    #[test]
    fn application_waits_when_256_of_its_requests_wait_and_what_is_kept_does_not_count() {
        let mut queue = Queue::default();
        (0..1000).for_each(|tcp| queue.push(owed(tcp, None)));
        for tcp in 0..256 {
            assert!(!queue.is_full());
            queue.push(owed(tcp, Some(oneshot::channel().0)));
        }
        assert!(queue.is_full());
        assert_eq!((queue.forget(ConnectionId(7)).count(), queue.is_full()), (1, false));
        assert_eq!(queue.forget(ConnectionId(999)).count(), 0, "it is kept, and no call waits");
        queue.note_asked(OptionRequestId(0), oneshot::channel().0);
        assert_eq!((queue.clear().count(), queue.memory()), (256, 0));
    }
}
