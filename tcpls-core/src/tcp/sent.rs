//! The contents of this endpoint's unacknowledged records on one TCP connection, so that they can be sent again on
//! another (draft, 4.2.3). References only, never ciphertext.

use core::time::Duration;
use std::collections::VecDeque;

use super::rate::{Delivered, RateSample};
use crate::error::Violation;
use crate::time::Time;
use crate::wire::ids::RecordSeq;

/// Records that room is kept for when none is outstanding: a quiet session should not remember how busy it was.
const KEPT: usize = 32;

/// Records in the order they were sealed. Those that carry nothing worth keeping only take a number.
#[derive(Debug)]
pub(crate) struct SentLog<C> {
    next: RecordSeq,
    records: VecDeque<Sent>,
    /// The contents of `records`, in the same order, without an allocation per record.
    carried: VecDeque<C>,
    /// How many of `carried`, from the front, were requeued already.
    requeued: u32,
    /// How many of them were examined one by one.
    examined: u32,
    bytes: u64,
    /// What the peer has acknowledged, and when it last did.
    delivered: Delivered,
    /// Since when an answer is due, if one is.
    since: Time,
}

/// How an ACK frame arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// On the TCP connection whose records it names.
    Own,
    /// On another one: it may have been due for a long time, and shows only that what it covers arrived at some time.
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    seq: RecordSeq,
    at: Time,
    carried: u16,
    bytes: u16,
    backlog: Backlog,
    /// As it was when this was sent.
    delivered: Delivered,
}

/// What waited behind a record when it was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backlog {
    /// Nothing: the path could have carried more.
    None,
    /// More stream data, but TCP may have had nothing in flight before: the path could have carried more.
    Some,
    /// More than TCP or the path took: the sender is as fast as the path.
    Full,
}

/// The effect of one acknowledgment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    /// Bytes on the wire of the ack-eliciting records that are newly acknowledged.
    pub(crate) bytes: u64,
    /// From sealing the newest of them until now.
    pub(crate) rtt: Option<Duration>,
    /// How fast they were delivered.
    pub(crate) rate: Option<RateSample>,
    /// More waited behind the newest of them.
    pub(crate) had_more: bool,
    /// It came on another TCP connection, and covers only records from before a stall began or ended last: it does not
    /// show what the path carries now.
    pub(crate) is_late: bool,
}

impl<C> Default for SentLog<C> {
    fn default() -> Self {
        Self {
            next: RecordSeq(0),
            records: VecDeque::new(),
            carried: VecDeque::new(),
            requeued: 0,
            examined: 0,
            bytes: 0,
            delivered: Delivered::default(),
            since: Time::ZERO,
        }
    }
}

impl<C> SentLog<C> {
    /// Starts counting at `next`: records that the TLS library sealed during the handshake count too.
    pub(crate) fn start_at(&mut self, next: RecordSeq) {
        self.next = next;
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> RecordSeq {
        self.next
    }

    /// Gives a number to a record that does not elicit an acknowledgment and carries nothing.
    pub(crate) fn skip(&mut self) -> RecordSeq {
        let seq = self.next;
        self.next = seq.next();
        seq
    }

    /// Gives a number to an ack-eliciting record of `bytes` bytes on the wire; what it carries was given to
    /// [`SentLog::carry`] just before, `carried` items.
    pub(crate) fn push(&mut self, now: Time, bytes: u16, carried: u16, backlog: Backlog) -> RecordSeq {
        if self.records.is_empty() {
            (self.delivered.at, self.since) = (now, now);
        }
        let (seq, delivered) = (self.skip(), self.delivered);
        self.records.push_back(Sent { seq, at: now, carried, bytes, backlog, delivered });
        self.bytes += u64::from(bytes);
        seq
    }

    /// Like [`SentLog::push`], for what arrives ahead of the next record, and is acknowledged with it: it takes no number.
    pub(crate) fn push_ahead(&mut self, now: Time, bytes: u16, carried: u16) {
        if self.records.is_empty() {
            (self.delivered.at, self.since) = (now, now);
        }
        let (seq, delivered) = (self.next, self.delivered);
        self.records.push_back(Sent { seq, at: now, carried, bytes, backlog: Backlog::None, delivered });
        self.bytes += u64::from(bytes);
    }

    /// Notes one thing that the record under construction carries.
    pub(crate) fn carry(&mut self, item: C) {
        self.carried.push_back(item);
    }

    /// Takes in an acknowledgment of everything up to `highest`; `acked` is called for what those records carried.
    /// `judged`: when a stall of the TCP connection began or ended last.
    pub(crate) fn ack(
        &mut self,
        now: Time,
        highest: RecordSeq,
        route: Route,
        judged: Time,
        mut acked: impl FnMut(C),
    ) -> Result<Acked, Violation> {
        if highest >= self.next {
            return Err(Violation::AckOfUnsent);
        }
        let mut outcome = Acked::default();
        let mut newest = None;
        while let Some(record) = self.records.front().copied().filter(|record| record.seq <= highest) {
            self.records.pop_front();
            // Nearly always one: for that a drain is slow.
            (0..record.carried).filter_map(|_| self.carried.pop_front()).for_each(&mut acked);
            if self.requeued | self.examined > 0 {
                self.requeued = self.requeued.saturating_sub(u32::from(record.carried));
                self.examined = self.examined.saturating_sub(u32::from(record.carried));
            }
            outcome.bytes += u64::from(record.bytes);
            newest = Some(record);
        }
        if let Some(newest) = newest {
            self.bytes -= outcome.bytes;
            self.delivered = Delivered { bytes: self.delivered.bytes + outcome.bytes, at: now };
            outcome.is_late = route == Route::Other && newest.at < judged;
            if !outcome.is_late {
                outcome.rtt = Some(now - newest.at);
                let is_lower_bound = newest.backlog != Backlog::Full;
                outcome.rate = RateSample::between(newest.delivered, self.delivered, is_lower_bound);
                outcome.had_more = newest.backlog != Backlog::None;
            }
            self.since = match route {
                Route::Own => now,
                Route::Other => self.records.front().map_or(now, |oldest| oldest.at.max(self.since)),
            };
        }
        if self.records.is_empty() {
            self.records.shrink_to(KEPT);
            self.carried.shrink_to(KEPT);
        }
        Ok(outcome)
    }

    /// Frees unused memory.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.records.shrink_to_fit();
        self.carried.shrink_to_fit();
    }

    /// Memory of the notes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.records.capacity() * size_of::<Sent>() + self.carried.capacity() * size_of::<C>()
    }

    /// Everything that unacknowledged records carried and that this has not given before, oldest first; it stays noted,
    /// because a late acknowledgment may still tell that some of it arrived.
    pub(crate) fn requeue(&mut self) -> impl Iterator<Item = &C> {
        let before = core::mem::replace(&mut self.requeued, count(&self.carried));
        self.carried.iter().skip(before as usize)
    }

    /// The same for a caller that requeues some of it: without what either has given before.
    pub(crate) fn examine(&mut self) -> impl Iterator<Item = &mut C> {
        let before = self.requeued.max(self.examined);
        self.examined = count(&self.carried);
        self.carried.iter_mut().skip(before as usize)
    }

    /// Whether [`SentLog::examine`] would give anything.
    pub(crate) fn has_to_examine(&self) -> bool {
        self.requeued.max(self.examined) < count(&self.carried)
    }

    /// Whether [`SentLog::requeue`] would give anything.
    pub(crate) fn has_to_requeue(&self) -> bool {
        self.requeued < count(&self.carried)
    }

    /// Everything that unacknowledged records carried.
    pub(crate) fn carried(&self) -> impl Iterator<Item = &C> {
        self.carried.iter()
    }

    /// Whether every ack-eliciting record is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many ack-eliciting records are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes on the wire of unacknowledged records.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes on the wire of acknowledged records.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.bytes
    }

    /// Bytes on the wire of all records, acknowledged or not.
    pub(crate) fn carried_bytes(&self) -> u64 {
        self.delivered.bytes + self.bytes
    }

    /// Since when an acknowledgment is due; `None` if none is.
    pub(crate) fn waiting_since(&self) -> Option<Time> {
        (!self.records.is_empty()).then_some(self.since)
    }
}

/// Bounded by the limit on unacknowledged records.
fn count<C>(carried: &VecDeque<C>) -> u32 {
    u32::try_from(carried.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_with(records: &[&[u8]]) -> SentLog<u8> {
        let mut log = SentLog::default();
        for (at, carried) in records.iter().enumerate() {
            carried.iter().for_each(|item| log.carry(*item));
            log.push(Time::from_millis(at as u64), 100, carried.len() as u16, Backlog::Full);
        }
        log
    }

    #[test]
    fn an_acknowledgment_covers_all_records_up_to_its_number() {
        let mut log = log_with(&[b"a", b"bc", b"d"]);
        let mut acked = Vec::new();
        let outcome =
            log.ack(Time::from_millis(10), RecordSeq(1), Route::Own, Time::ZERO, |item| acked.push(item)).unwrap();
        assert_eq!(acked, b"abc");
        assert_eq!((outcome.bytes, outcome.rtt), (200, Some(Duration::from_millis(9))));
        assert_eq!(log.requeue().copied().collect::<Vec<_>>(), b"d");
        assert_eq!(log.bytes(), 100);
    }

    #[test]
    fn the_rate_is_measured_from_the_acknowledgment_before_a_record_was_sent_to_its_own() {
        let mut log = log_with(&[b"a"]);
        log.ack(Time::from_millis(50), RecordSeq(0), Route::Own, Time::ZERO, |_| ()).unwrap();
        log.carry(b'b');
        log.push(Time::from_millis(60), 100, 1, Backlog::Full);
        log.carry(b'c');
        log.push(Time::from_millis(61), 200, 1, Backlog::None);
        let outcome = log.ack(Time::from_millis(110), RecordSeq(2), Route::Own, Time::ZERO, |_| ()).unwrap();
        let before = Delivered { bytes: 100, at: Time::from_millis(60) };
        let after = Delivered { bytes: 400, at: Time::from_millis(110) };
        assert_eq!(outcome.rate, RateSample::between(before, after, true));
    }

    #[test]
    fn repeated_acknowledgment_has_no_effect() {
        let mut log = log_with(&[b"a", b"b"]);
        log.ack(Time::ZERO, RecordSeq(1), Route::Own, Time::ZERO, |_| ()).unwrap();
        let again = log
            .ack(Time::ZERO, RecordSeq(0), Route::Own, Time::ZERO, |_| panic!("nothing is acknowledged twice"))
            .unwrap();
        assert_eq!(again, Acked::default());
    }

    #[test]
    fn an_acknowledgment_of_a_record_that_was_not_sent_is_an_error() {
        let mut log = log_with(&[b"a"]);
        assert_eq!(log.ack(Time::ZERO, RecordSeq(1), Route::Own, Time::ZERO, |_| ()), Err(Violation::AckOfUnsent));
        assert_eq!(
            log.ack(Time::ZERO, RecordSeq(u64::MAX), Route::Own, Time::ZERO, |_| ()),
            Err(Violation::AckOfUnsent)
        );
        assert_eq!(log.requeue().count(), 1, "and nothing is freed by it");
        assert_eq!(
            SentLog::<u8>::default().ack(Time::ZERO, RecordSeq(0), Route::Own, Time::ZERO, |_| ()),
            Err(Violation::AckOfUnsent)
        );
    }

    #[test]
    fn contents_of_a_record_are_requeued_once() {
        let mut log = log_with(&[b"a", b"bc"]);
        assert_eq!(log.requeue().copied().collect::<Vec<_>>(), b"abc");
        log.carry(b'd');
        log.push(Time::ZERO, 100, 1, Backlog::Full);
        log.ack(Time::ZERO, RecordSeq(0), Route::Own, Time::ZERO, |_| ()).unwrap();
        assert!(log.has_to_requeue());
        assert_eq!(log.requeue().copied().collect::<Vec<_>>(), b"d");
        assert_eq!(log.requeue().count(), 0);
        assert!(!log.has_to_requeue());
    }

    #[test]
    fn records_that_carry_nothing_take_a_number_and_no_memory() {
        let mut log = SentLog::<u8>::default();
        (0..1000).for_each(|_| _ = log.skip());
        assert!(log.is_empty() && log.records.capacity() == 0);
        assert_eq!(log.next, RecordSeq(1000));
        log.ack(Time::ZERO, RecordSeq(999), Route::Own, Time::ZERO, |_| ()).unwrap();
    }

    #[test]
    fn after_bulk_little_memory_is_kept() {
        let mut log = SentLog::<u8>::default();
        for _ in 0..1000 {
            log.carry(1);
            log.push(Time::ZERO, 100, 1, Backlog::Full);
        }
        log.ack(Time::ZERO, RecordSeq(999), Route::Own, Time::ZERO, |_| ()).unwrap();
        assert!(log.records.capacity() <= 2 * KEPT && log.carried.capacity() <= 2 * KEPT);
    }

    #[test]
    fn waiting_starts_with_the_first_unacknowledged_record_and_restarts_with_progress() {
        let mut log = log_with(&[b"a", b"b"]);
        assert_eq!(log.waiting_since(), Some(Time::ZERO));
        log.ack(Time::from_millis(7), RecordSeq(0), Route::Own, Time::ZERO, |_| ()).unwrap();
        assert_eq!(log.waiting_since(), Some(Time::from_millis(7)));
        log.ack(Time::from_millis(8), RecordSeq(1), Route::Own, Time::ZERO, |_| ()).unwrap();
        assert_eq!(log.waiting_since(), None);
    }

    #[test]
    fn acks_on_another_route_show_only_that_records_arrived() {
        let (ms, mut log) = (Time::from_millis, log_with(&[b"a", b"b", b"c"]));
        let outcome = log.ack(ms(50), RecordSeq(0), Route::Other, ms(0), |_| ()).unwrap();
        assert_eq!((outcome.rtt, outcome.is_late), (Some(Duration::from_millis(50)), false));
        assert_eq!(log.waiting_since(), Some(ms(1)));
        let late = log.ack(ms(60), RecordSeq(1), Route::Other, ms(20), |_| ()).unwrap();
        assert_eq!(late, Acked { bytes: 100, is_late: true, ..Acked::default() });
        assert_eq!(log.waiting_since(), Some(ms(2)));
    }
}
