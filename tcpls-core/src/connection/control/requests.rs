//! Requests for TCP options and their answers, in both directions (`docs/protocol.md`, TCP Option Request).
//!
//! An endpoint sends a request only if its ID is less than [`MAX_OPEN`] above the lowest one without an answer. So
//! both endpoints hold at most that many, and a request with a higher ID shows that the older answers have arrived.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use crate::error::{AskOptionError, Violation};
use crate::event::OptionOutcome;
use crate::wire::frame;
use crate::wire::ids::{ConnectionId, OptionRequestId};

/// From the lowest request without an answer on, this many may be sent.
pub(super) const MAX_OPEN: u32 = 16;

/// One request of this endpoint's.
#[derive(Debug)]
pub(super) struct Request {
    tcp: ConnectionId,
    kind: u8,
    value: Vec<u8>,
}

impl Request {
    pub(super) fn frame(&self, id: OptionRequestId) -> frame::TcpOptionRequest<'_> {
        frame::TcpOptionRequest { id, tcp: self.tcp, kind: self.kind, value: &self.value }
    }
}

/// This endpoint's requests that have no answer yet.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<OptionRequestId, Request>,
    next: u32,
}

impl Requests {
    /// Adds one, if the peer may get it now.
    pub(super) fn open(
        &mut self,
        tcp: ConnectionId,
        kind: u8,
        value: &[u8],
    ) -> Result<OptionRequestId, AskOptionError> {
        let lowest = self.open.first_key_value().map_or(self.next, |(id, _)| id.0);
        let after = self.next.checked_add(1).filter(|_| self.next - lowest < MAX_OPEN);
        let id = OptionRequestId(self.next);
        self.next = after.ok_or(AskOptionError::TooMany)?;
        self.open.insert(id, Request { tcp, kind, value: value.to_vec() });
        Ok(id)
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        let values: usize = self.open.values().map(|request| request.value.capacity()).sum();
        values + self.open.len() * size_of::<(OptionRequestId, Request)>()
    }

    /// Returns it, if it has no answer yet.
    pub(super) fn get(&self, id: OptionRequestId) -> Option<&Request> {
        self.open.get(&id)
    }

    /// The peer has answered; returns TCP connection and kind of the request at the first answer.
    pub(super) fn close(&mut self, id: OptionRequestId) -> Result<Option<(ConnectionId, u8)>, Violation> {
        if id.0 >= self.next {
            return Err(Violation::OptionRequest(id.0));
        }
        let request = self.open.remove(&id);
        if self.open.is_empty() {
            self.open = BTreeMap::new(); // a session may be one of many
        }
        Ok(request.map(|request| (request.tcp, request.kind)))
    }
}

/// What is known about one request of the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It has not arrived: a later one overtook it.
    Missing,
    /// The application has not answered it.
    Open,
    Answered(OptionOutcome),
}

/// The peer's requests: the last [`MAX_OPEN`] at most.
#[derive(Debug, Default)]
pub(super) struct PeerRequests {
    /// The ID of the first one in the list.
    first: u32,
    known: VecDeque<Known>,
}

impl PeerRequests {
    /// A request arrived; returns whether for the first time, and the requests whose answers the peer now has for sure.
    pub(super) fn take(
        &mut self,
        id: OptionRequestId,
    ) -> Result<(bool, impl Iterator<Item = OptionRequestId> + use<>), Violation> {
        let settled = self.settle(id)?;
        let index = id.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let place = index.and_then(|index| self.known.get_mut(index)).filter(|known| **known == Known::Missing);
        let is_new = place.is_some();
        place.into_iter().for_each(|known| *known = Known::Open);
        Ok((is_new, settled.map(OptionRequestId)))
    }

    /// Makes room for the request; what is forgotten for that.
    fn settle(&mut self, id: OptionRequestId) -> Result<Range<u32>, Violation> {
        let first = self.first;
        let is_unanswered = |known: &Known| !matches!(known, Known::Answered(_));
        let answered = self.known.iter().position(is_unanswered).unwrap_or(self.known.len()) as u32;
        if id.0.saturating_sub(first) >= answered + MAX_OPEN {
            return Err(Violation::OptionRequest(id.0));
        }
        while (self.known.len() as u32) <= id.0.saturating_sub(first) && id.0 >= first {
            self.known.push_back(Known::Missing);
        }
        while self.known.len() > MAX_OPEN as usize {
            self.known.pop_front();
            self.first += 1;
        }
        Ok(first..self.first)
    }

    /// The application answers; returns whether it has not answered this before.
    pub(super) fn answer(&mut self, id: OptionRequestId, outcome: OptionOutcome) -> bool {
        let place = id.0.checked_sub(self.first).and_then(|index| self.known.get_mut(index as usize));
        let open = place.filter(|known| **known == Known::Open);
        let is_open = open.is_some();
        open.into_iter().for_each(|known| *known = Known::Answered(outcome));
        is_open
    }

    /// Returns the answer, while the peer may need it.
    pub(super) fn outcome(&self, id: OptionRequestId) -> Option<OptionOutcome> {
        match id.0.checked_sub(self.first).and_then(|index| self.known.get(index as usize)) {
            Some(Known::Answered(outcome)) => Some(*outcome),
            _ => None,
        }
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        self.known.capacity() * size_of::<Known>()
    }

    /// How many wait for the application's answer.
    pub(super) fn open(&self) -> usize {
        self.known.iter().filter(|known| **known == Known::Open).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: ConnectionId = ConnectionId(3);
    const DONE: OptionOutcome = OptionOutcome::Applied;

    fn take(requests: &mut PeerRequests, id: u32) -> Result<(bool, Vec<u32>), Violation> {
        requests.take(OptionRequestId(id)).map(|(is_new, settled)| (is_new, settled.map(|id| id.0).collect()))
    }

    #[test]
    fn at_most_16_requests_are_sent_from_the_first_without_an_answer_on() {
        let mut requests = Requests::default();
        let ask = |requests: &mut Requests| requests.open(TCP, 28, &[0, 30]).map(|id| id.0);
        (0..MAX_OPEN).for_each(|n| assert_eq!(ask(&mut requests), Ok(n)));
        assert_eq!(ask(&mut requests), Err(AskOptionError::TooMany));
        assert_eq!(requests.close(OptionRequestId(1)), Ok(Some((TCP, 28))));
        assert_eq!(ask(&mut requests), Err(AskOptionError::TooMany), "the first has no answer");
        assert_eq!(requests.close(OptionRequestId(0)), Ok(Some((TCP, 28))));
        assert_eq!((ask(&mut requests), ask(&mut requests)), (Ok(16), Ok(17)));
        assert_eq!(ask(&mut requests), Err(AskOptionError::TooMany));
    }

    #[test]
    fn second_answer_is_ignored_and_answer_to_nothing_is_a_violation() {
        let mut requests = Requests::default();
        requests.open(TCP, 254, b"reno").unwrap();
        assert_eq!(requests.close(OptionRequestId(0)), Ok(Some((TCP, 254))));
        assert_eq!(requests.close(OptionRequestId(0)), Ok(None));
        assert_eq!(requests.close(OptionRequestId(1)), Err(Violation::OptionRequest(1)));
    }

    #[test]
    fn requests_are_reported_once_in_any_order_of_arrival() {
        let mut requests = PeerRequests::default();
        assert_eq!(take(&mut requests, 2), Ok((true, vec![])));
        assert_eq!(take(&mut requests, 2), Ok((false, vec![])));
        assert_eq!(take(&mut requests, 0), Ok((true, vec![])));
        assert_eq!(requests.open(), 2);
        assert!(requests.answer(OptionRequestId(2), DONE) && !requests.answer(OptionRequestId(2), DONE));
        assert!(!requests.answer(OptionRequestId(1), DONE), "it has not arrived");
        assert_eq!(take(&mut requests, 2), Ok((false, vec![])), "it is answered");
        assert_eq!(take(&mut requests, 1), Ok((true, vec![])));
    }

    #[test]
    fn request_beyond_the_limit_is_a_violation_until_the_first_is_answered() {
        let mut requests = PeerRequests::default();
        (0..MAX_OPEN).for_each(|id| assert_eq!(take(&mut requests, id), Ok((true, vec![]))));
        assert_eq!(take(&mut requests, 16), Err(Violation::OptionRequest(16)));
        assert_eq!(take(&mut PeerRequests::default(), u32::MAX), Err(Violation::OptionRequest(u32::MAX)));
        requests.answer(OptionRequestId(1), DONE);
        assert_eq!(take(&mut requests, 16), Err(Violation::OptionRequest(16)), "the first is not answered");
        requests.answer(OptionRequestId(0), DONE);
        assert_eq!(take(&mut requests, 17), Ok((true, vec![0, 1])), "the peer has these answers");
        assert_eq!(take(&mut requests, 18), Err(Violation::OptionRequest(18)));
        assert_eq!(take(&mut requests, 0), Ok((false, vec![])), "a late copy");
        assert_eq!(requests.outcome(OptionRequestId(0)), None);
    }

    #[test]
    fn memory_for_requests_is_bounded_however_many_there_are() {
        let mut requests = PeerRequests::default();
        for id in 0..1000 {
            assert_eq!(take(&mut requests, id).map(|(is_new, _)| is_new), Ok(true));
            assert!(requests.answer(OptionRequestId(id), DONE));
            assert_eq!(requests.outcome(OptionRequestId(id)), Some(DONE));
            assert!(requests.known.len() <= MAX_OPEN as usize);
        }
    }
}
