//! The sending half of one stream: which bytes are fresh, in flight, acknowledged, or to be sent again, and the same
//! for its end.
//!
//! For offsets, `base ≤ next ≤ end`: everything below `base` is acknowledged and released, nothing from `next` on was
//! sent. In between, a byte is in flight unless it is in `acked` or, because its TCP connection was lost, in `again`.
//! `set` has the limits of the session.

#[cfg(test)]
mod tests;

use core::ops::Range;

use bytes::Bytes;

use super::buffer::SendBuffer;
use super::credit::Credit;
use super::ended::SendEnd;
use super::range_set::RangeSet;
use super::schedule::Need;
use super::{Chunk, MAX_OFFSET, SendProgress};
use crate::error::WriteError;
use crate::wire::ids::{ConnectionId, ErrorCode, StreamId};

/// The progress of the stream's end, or of its reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// To be sent, possibly again.
    Due,
    /// Sent, and neither acknowledged nor lost.
    InFlight,
    /// Acknowledged.
    Acked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The application writes.
    Open,
    /// It wrote all; the end's progress.
    Finished(Progress),
    /// Reset, by the application or because the peer stopped reading.
    Reset(ErrorCode, Progress),
    /// The session accepts no more data.
    Dropped,
}

/// The data of a stream that one TCP connection has carried; only in redundant mode.
#[derive(Debug)]
struct Carried {
    tcp: ConnectionId,
    data: RangeSet,
    fin: bool,
}

/// The sending half of a stream.
#[derive(Debug)]
pub(super) struct SendHalf {
    id: StreamId,
    buffer: SendBuffer,
    /// Limit and use of the stream's flow control; what is used is `next`.
    credit: Credit,
    again: RangeSet,
    acked: RangeSet,
    state: State,
    /// The peer reads no more.
    stopped: Option<ErrorCode>,
    delivered_told: bool,
    carried: Vec<Carried>,
}

impl SendHalf {
    pub(super) fn new(id: StreamId, credit: Credit) -> Self {
        Self {
            id,
            buffer: SendBuffer::default(),
            credit,
            again: RangeSet::default(),
            acked: RangeSet::default(),
            state: State::Open,
            stopped: None,
            delivered_told: false,
            carried: Vec::new(),
        }
    }

    // Calls of the application.

    /// Whether the application may write, finish and reset.
    pub(super) fn check_open(&self) -> Result<(), WriteError> {
        match (self.state, self.stopped) {
            (_, Some(error)) => Err(WriteError::Stopped(error)),
            (State::Open, None) => Ok(()),
            (State::Finished(_) | State::Reset(..), None) => Err(WriteError::Finished),
            (State::Dropped, None) => Err(WriteError::Closed),
        }
    }

    /// How many more bytes offsets allow.
    pub(super) fn offsets_left(&self) -> u64 {
        MAX_OFFSET - self.buffer.end()
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.buffer.end()
    }

    pub(super) fn write(&mut self, data: &[u8]) {
        self.buffer.push_slice(data);
    }

    pub(super) fn write_bytes(&mut self, data: Bytes) {
        self.buffer.push_bytes(data);
    }

    pub(super) fn finish(&mut self) -> Result<(), WriteError> {
        self.check_open()?;
        self.state = State::Finished(Progress::Due);
        Ok(())
    }

    /// Drops unacknowledged data.
    pub(super) fn reset(&mut self, error: ErrorCode) -> Result<(), WriteError> {
        if !matches!(self.state, State::Finished(_)) || self.is_over() {
            self.check_open()?;
        }
        self.give_up(State::Reset(error, Progress::Due));
        Ok(())
    }

    /// Nothing of what was sent has arrived: all of it is to be sent for the first time, once there is credit.
    pub(super) fn rewind(&mut self) {
        self.credit = Credit::default();
        self.again = RangeSet::default();
        self.carried = Vec::new();
        match &mut self.state {
            State::Open => {}
            State::Finished(progress) => *progress = Progress::Due,
            State::Reset(..) | State::Dropped => self.buffer = SendBuffer::default(),
        }
    }

    // Effects of the peer.

    /// The peer has stopped reading. Returns whether that changes anything.
    pub(super) fn handle_stop(&mut self, error: ErrorCode) -> bool {
        if self.stopped.is_some() || self.is_over() || matches!(self.state, State::Reset(..)) {
            return false;
        }
        self.stopped = Some(error);
        self.give_up(State::Reset(error, Progress::Due));
        true
    }

    /// Whether that was needed: all credit was used up.
    pub(super) fn raise_limit(&mut self, limit: u64) -> bool {
        self.credit.raise_if_spent(limit)
    }

    /// Nothing is to be sent any more, not even a reset.
    pub(super) fn drop_all(&mut self) {
        if !self.is_over() {
            self.give_up(State::Dropped);
        }
    }

    fn give_up(&mut self, state: State) {
        self.state = state;
        self.buffer = SendBuffer::starting_at(self.next());
        self.again = RangeSet::default();
        self.acked = RangeSet::default();
        self.carried = Vec::new();
    }

    // Sending.

    /// Returns what the next chunk costs, if there is one.
    pub(super) fn need(&self) -> Option<Need> {
        if !self.again.is_empty() || self.fin_goes_at(self.next()) {
            return Some(Need::Nothing);
        }
        let may_send_fresh = self.next() < self.buffer.end() && self.credit.left() > 0;
        may_send_fresh.then_some(Need::Credit)
    }

    /// Bytes that are to be sent again.
    pub(super) fn to_send_again(&self) -> u64 {
        self.again.len()
    }

    /// How much this stream's flow control still allows to be sent for the first time.
    pub(super) fn credit_left(&self) -> u64 {
        self.credit.left()
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.buffer.end().saturating_sub(self.next())
    }

    /// Takes the next piece to send, lost ones first; `session_credit` bounds fresh ones. Also returns how many
    /// bytes of it are fresh.
    pub(super) fn next_chunk(&mut self, max: u64, session_credit: u64) -> Option<(Chunk, u64)> {
        if let Some(range) = self.again.pop_first(max) {
            return Some((self.chunk(range), 0));
        }
        let start = self.next();
        let fresh = max.min(session_credit).min(self.credit.left()).min(self.buffer.end().saturating_sub(start));
        if fresh == 0 && !self.fin_goes_at(start) {
            return None;
        }
        self.credit.spend(fresh);
        Some((self.chunk(start..start + fresh), fresh))
    }

    /// Takes a piece that is in flight, but was not carried by `tcp`.
    pub(super) fn next_duplicate(&mut self, tcp: ConnectionId, max: u64) -> Option<Chunk> {
        let fin_in_flight = self.state == State::Finished(Progress::InFlight);
        let end = self.buffer.end();
        match self.missing(tcp).next() {
            Some(gap) => {
                let range = gap.start..gap.end.min(gap.start.saturating_add(max));
                let fin = fin_in_flight && range.end == end;
                Some(Chunk {
                    id: self.id,
                    offset: range.start,
                    len: (range.end - range.start) as u16,
                    fin,
                    hedged: false,
                })
            }
            None if fin_in_flight && !self.carried(tcp).is_some_and(|c| c.fin) => {
                Some(Chunk { id: self.id, offset: end, len: 0, fin: true, hedged: false })
            }
            None => None,
        }
    }

    /// Whether [`SendHalf::next_duplicate`] would give anything.
    pub(super) fn has_duplicate(&self, tcp: ConnectionId) -> bool {
        let fin_in_flight = self.state == State::Finished(Progress::InFlight);
        self.missing(tcp).next().is_some() || (fin_in_flight && !self.carried(tcp).is_some_and(|c| c.fin))
    }

    /// Remembers, in redundant mode, that `tcp` carries `chunk`.
    pub(super) fn set_carried(&mut self, tcp: ConnectionId, chunk: &Chunk) {
        let index = self.carried.iter().position(|c| c.tcp == tcp).unwrap_or_else(|| {
            self.carried.push(Carried { tcp, data: RangeSet::default(), fin: false });
            self.carried.len() - 1
        });
        let carried = &mut self.carried[index];
        carried.data.insert(chunk.offset..chunk.end());
        carried.fin |= chunk.fin;
    }

    /// `tcp` is lost: forgets what it carried.
    pub(super) fn forget_tcp(&mut self, tcp: ConnectionId) {
        self.carried.retain(|c| c.tcp != tcp);
    }

    pub(super) fn copy(&self, chunk: &Chunk, out: &mut Vec<u8>) {
        self.buffer.copy(chunk.range(), out);
    }

    /// The error code and final size for the Reset Stream frame, if it is to be sent; it counts as sent then.
    pub(super) fn take_reset(&mut self) -> Option<(ErrorCode, u64)> {
        let State::Reset(error, progress @ Progress::Due) = &mut self.state else { return None };
        *progress = Progress::InFlight;
        Some((*error, self.credit.used()))
    }

    // Acknowledgment and loss.

    /// The bytes of `range` have arrived, and with `fin` the stream's end. Returns how many of them were not known to have.
    pub(super) fn handle_acked(&mut self, range: Range<u64>, fin: bool) -> u64 {
        if fin && matches!(self.state, State::Finished(_)) {
            self.state = State::Finished(Progress::Acked);
        }
        let range = self.in_flight_part(range);
        if range.is_empty() {
            return 0;
        }
        if range.start == self.buffer.base() && self.acked.is_empty() && self.again.is_empty() {
            self.forget_below(range.end); // in order, as nearly always
            return range.end - range.start;
        }
        self.again.remove(range.clone());
        let fresh = self.acked.insert(range);
        if let Some(done) = self.acked.first().filter(|first| first.start == self.buffer.base()) {
            self.acked.pop_first(u64::MAX);
            self.forget_below(done.end);
        }
        fresh
    }

    fn forget_below(&mut self, offset: u64) {
        self.buffer.release(offset);
        self.carried.iter_mut().for_each(|c| c.data.remove_below(offset));
    }

    /// The TCP connection that carried `chunk` is lost. Returns how many bytes are to be sent again because of it.
    pub(super) fn handle_lost(&mut self, chunk: &Chunk) -> u64 {
        if chunk.fin && self.state == State::Finished(Progress::InFlight) {
            self.state = State::Finished(Progress::Due);
        }
        self.acked.gaps(self.in_flight_part(chunk.range())).map(|gap| self.again.insert(gap)).sum()
    }

    pub(super) fn handle_reset_acked(&mut self) {
        if let State::Reset(_, progress) = &mut self.state {
            *progress = Progress::Acked;
        }
    }

    /// Returns whether the Reset Stream frame is to be sent again.
    pub(super) fn handle_reset_lost(&mut self) -> bool {
        let State::Reset(_, progress @ Progress::InFlight) = &mut self.state else { return false };
        *progress = Progress::Due;
        true
    }

    /// Whether a Delivered event is due; it counts as given then.
    pub(super) fn take_delivered(&mut self) -> bool {
        let due = self.is_delivered() && !self.delivered_told;
        self.delivered_told |= due;
        due
    }

    /// Returns its state.
    pub(super) fn progress(&self) -> SendProgress {
        if self.stopped.is_some() || self.is_over() { self.end().progress() } else { SendProgress::UnderWay }
    }

    /// How it ended, given that it has.
    pub(super) fn end(&self) -> SendEnd {
        match (self.stopped, self.state) {
            (Some(error), _) => SendEnd::Stopped(error),
            (None, State::Dropped) => SendEnd::Lost,
            (None, _) => SendEnd::Over,
        }
    }

    /// Whether nothing is left to be sent or acknowledged, now and later.
    pub(super) fn is_over(&self) -> bool {
        self.is_delivered() || matches!(self.state, State::Reset(_, Progress::Acked) | State::Dropped)
    }

    /// Whether all that the application has handed over so far is acknowledged.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_over() || (self.state == State::Open && self.buffered() == 0)
    }

    /// Written data that is neither dropped nor acknowledged; the end counts as one byte.
    pub(super) fn undelivered(&self) -> u64 {
        let end = match self.state {
            State::Open => 0,
            State::Finished(progress) => u64::from(progress != Progress::Acked),
            State::Reset(..) | State::Dropped => return 0,
        };
        self.buffered() as u64 - self.acked.len() + end
    }

    /// Whether nothing was ever written, nor the end.
    pub(super) fn is_untouched(&self) -> bool {
        self.state == State::Open && self.buffer.end() == 0
    }

    /// Bytes written and not acknowledged, or acknowledged behind some that are not.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn is_delivered(&self) -> bool {
        self.state == State::Finished(Progress::Acked) && self.buffered() == 0
    }

    /// The lowest offset that was never sent.
    fn next(&self) -> u64 {
        self.credit.used()
    }

    /// Whether a piece that ends at `offset` should say that the stream does.
    fn fin_goes_at(&self, offset: u64) -> bool {
        self.state == State::Finished(Progress::Due) && offset == self.buffer.end() && offset == self.next()
    }

    fn chunk(&mut self, range: Range<u64>) -> Chunk {
        let fin = self.fin_goes_at(range.end);
        if fin {
            self.state = State::Finished(Progress::InFlight);
        }
        Chunk { id: self.id, offset: range.start, len: (range.end - range.start) as u16, fin, hedged: false }
    }

    /// The part of `range` that was sent and is not forgotten.
    fn in_flight_part(&self, range: Range<u64>) -> Range<u64> {
        let sent_end = self.next().min(self.buffer.end());
        range.start.max(self.buffer.base())..range.end.min(sent_end)
    }

    /// Returns the data that is in flight only on other TCP connections.
    fn missing(&self, tcp: ConnectionId) -> impl Iterator<Item = Range<u64>> + '_ {
        let sent = self.buffer.base()..self.next().min(self.buffer.end());
        let not_acked = self.acked.gaps(sent);
        let in_flight = not_acked.flat_map(|range| self.again.gaps(range));
        let carried = self.carried(tcp).map(|c| &c.data);
        in_flight.filter_map(move |range| match carried {
            Some(carried) => carried.gaps(range).next(),
            None => Some(range),
        })
    }

    fn carried(&self, tcp: ConnectionId) -> Option<&Carried> {
        self.carried.iter().find(|c| c.tcp == tcp)
    }
}
