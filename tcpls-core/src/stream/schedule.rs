//! The order in which streams send: higher priority first, equal priorities in turns.
//!
//! Streams with data to send are in one of two queues, by whether the data needs credit of the session. When the
//! session has no credit, the queue of new data is skipped; no stream changes its queue when credit runs out or
//! returns. Every change is O(log n). The caller decides which streams may use a TCP connection: it iterates over
//! [`Schedule::line`] until it finds one, so each stream that is attached elsewhere costs one step.

use std::collections::BTreeSet;

use crate::wire::ids::StreamId;

/// The credit that a stream's next piece of data needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: it was sent before, or is only the end of the stream.
    Nothing,
    /// Session flow-control credit.
    Credit,
}

/// Bits of a turn's number, below its rank.
const NUMBER_BITS: u32 = 56;

/// A stream's place in line; streams compare by it in the order of their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// The rank of the stream's priority in the upper 8 bits, and the number of the turn: one comparison decides. At a turn in
    /// each nanosecond, 56 bits of numbers last for two years.
    order: u64,
    id: StreamId,
}

impl Turn {
    fn new(priority: i8, number: u64, id: StreamId) -> Self {
        Self { order: rank(priority) << NUMBER_BITS | number, id }
    }

    fn has_priority(self, priority: i8) -> bool {
        self.order >> NUMBER_BITS == rank(priority)
    }

    /// The turn with this number, of the same stream and priority.
    fn renewed(self, number: u64) -> Self {
        Self { order: self.order >> NUMBER_BITS << NUMBER_BITS | number, ..self }
    }
}

/// 0 for the highest priority, 255 for the lowest.
fn rank(priority: i8) -> u64 {
    u64::from(i8::MAX.abs_diff(priority))
}

/// The place of a stream in the queues. The stream stores it itself, so that no search is needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    turn: Turn,
    need: Need,
}

/// The two lines.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    free: BTreeSet<Turn>,
    fresh: BTreeSet<Turn>,
    next_number: u64,
}

impl Schedule {
    /// Puts stream `id` in the queue for `need`, or in none. It keeps its turn if it has one and its priority is the
    /// same.
    pub(super) fn place(&mut self, place: &mut Option<Place>, id: StreamId, priority: i8, need: Option<Need>) {
        let keeps = place.map(|old| old.turn).filter(|turn| turn.has_priority(priority));
        if let Some(old) = *place {
            if Some(old.need) == need && keeps.is_some() {
                return;
            }
            self.line_mut(old.need).remove(&old.turn);
        }
        *place = need.map(|need| {
            let turn = keeps.unwrap_or_else(|| Turn::new(priority, self.take_number(), id));
            self.line_mut(need).insert(turn);
            Place { turn, need }
        });
    }

    /// Stream `id` had its turn: it goes behind all others of its priority.
    pub(super) fn rotate(&mut self, place: &mut Option<Place>) {
        let Some(place) = place else { return };
        self.line_mut(place.need).remove(&place.turn);
        place.turn = place.turn.renewed(self.take_number());
        self.line_mut(place.need).insert(place.turn);
    }

    /// Frees the nodes that empty lines keep.
    pub(super) fn shrink_to_fit(&mut self) {
        [&mut self.free, &mut self.fresh]
            .into_iter()
            .filter(|line| line.is_empty())
            .for_each(|line| *line = BTreeSet::new());
    }

    /// Whether more than one stream can send.
    pub(super) fn is_contended(&self) -> bool {
        self.free.len() + self.fresh.len() > 1
    }

    /// Whether no stream can send, with credit or without.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_empty() && self.fresh.is_empty()
    }

    /// The first of [`Schedule::line`].
    pub(super) fn first(&self, credit: bool) -> Option<StreamId> {
        let fresh = self.fresh.first().filter(|_| credit);
        match (self.free.first(), fresh) {
            (Some(a), Some(b)) => Some(a.min(b).id),
            (a, b) => a.or(b).map(|turn| turn.id),
        }
    }

    /// The streams that can send, in order; without credit only those that need none.
    pub(super) fn line(&self, credit: bool) -> impl Iterator<Item = StreamId> + '_ {
        let mut free = self.free.iter().peekable();
        let mut fresh = self.fresh.iter().take(if credit { usize::MAX } else { 0 }).peekable();
        core::iter::from_fn(move || {
            let fresh_is_first = match (free.peek(), fresh.peek()) {
                (Some(a), Some(b)) => b < a,
                (None, _) => true,
                (_, None) => false,
            };
            let turn = if fresh_is_first { fresh.next() } else { free.next() };
            turn.map(|turn| turn.id)
        })
    }

    fn line_mut(&mut self, need: Need) -> &mut BTreeSet<Turn> {
        match need {
            Need::Nothing => &mut self.free,
            Need::Credit => &mut self.fresh,
        }
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(schedule: &Schedule, credit: bool) -> Vec<u32> {
        let line: Vec<u32> = schedule.line(credit).map(|id| id.0).collect();
        assert_eq!(schedule.first(credit).map(|id| id.0), line.first().copied());
        line
    }

    fn three(priorities: [i8; 3], needs: [Need; 3]) -> (Schedule, [Option<Place>; 3]) {
        let (mut schedule, mut places) = (Schedule::default(), [None; 3]);
        for i in 0..3 {
            schedule.place(&mut places[i], StreamId(i as u32), priorities[i], Some(needs[i]));
        }
        (schedule, places)
    }

    #[test]
    fn higher_priority_goes_first() {
        assert_eq!(line(&three([-1, 0, 7], [Need::Credit; 3]).0, true), [2, 1, 0]);
        assert_eq!(line(&three([i8::MIN, i8::MAX, -1], [Need::Credit; 3]).0, true), [1, 2, 0]);
    }

    #[test]
    fn equal_priorities_take_turns() {
        let (mut schedule, mut places) = three([0; 3], [Need::Credit; 3]);
        schedule.rotate(&mut places[0]);
        assert_eq!(line(&schedule, true), [1, 2, 0]);
        schedule.rotate(&mut places[1]);
        assert_eq!(line(&schedule, true), [2, 0, 1]);
    }

    #[test]
    fn without_credit_only_streams_that_need_none_are_in_line() {
        let (schedule, _) = three([0, 0, 5], [Need::Credit, Need::Nothing, Need::Credit]);
        assert_eq!(line(&schedule, false), [1]);
        assert_eq!(line(&schedule, true), [2, 0, 1]);
    }

    #[test]
    fn a_stream_that_changes_lines_keeps_its_turn() {
        let (mut schedule, mut places) = three([0; 3], [Need::Credit; 3]);
        schedule.place(&mut places[0], StreamId(0), 0, Some(Need::Nothing));
        assert_eq!(line(&schedule, true), [0, 1, 2]);
    }

    #[test]
    fn leaving_the_line_loses_the_turn() {
        let (mut schedule, mut places) = three([0; 3], [Need::Credit; 3]);
        schedule.place(&mut places[0], StreamId(0), 0, None);
        assert_eq!(line(&schedule, true), [1, 2]);
        schedule.place(&mut places[0], StreamId(0), 0, Some(Need::Credit));
        assert_eq!(line(&schedule, true), [1, 2, 0]);
    }

    #[test]
    fn a_new_priority_takes_effect_at_once() {
        let (mut schedule, mut places) = three([0; 3], [Need::Credit; 3]);
        schedule.place(&mut places[2], StreamId(2), 1, Some(Need::Credit));
        assert_eq!(line(&schedule, true), [2, 0, 1]);
    }
}
