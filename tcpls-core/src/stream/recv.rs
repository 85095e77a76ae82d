//! The receiving half of one stream: its final size, its window, and how it ends.
//!
//! It ends in one of four ways: read to the FIN, reset by the peer, stopped by this endpoint, or cut short with the
//! session. `set` has the session's window: methods here return how many bytes count against it.

use bytes::Bytes;

use super::MAX_OFFSET;
use super::assembler::Assembler;
use super::ended::RecvEnd;
use super::flow::{Clock, Window};
use crate::error::{ReadError, Violation};
use crate::wire::ids::{ErrorCode, StreamId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Data is arriving, or has arrived up to the FIN.
    Open,
    /// The peer reset the stream; the application's next read reports it.
    Reset(ErrorCode),
    /// The application has stopped reading.
    Stopped(ErrorCode),
    /// The session ended before the stream: data in order can be read, then an error.
    Truncated,
}

/// The receiving half of a stream.
#[derive(Debug)]
pub(super) struct RecvHalf {
    id: StreamId,
    assembler: Assembler,
    window: Window,
    final_size: Option<u64>,
    state: State,
    /// The application knows how it ended.
    over: bool,
    /// Whether a Readable event was reported, and no read has returned Blocked since.
    told: bool,
}

impl RecvHalf {
    pub(super) fn new(id: StreamId, window: Window, max_gaps: usize) -> Self {
        let assembler = Assembler::new(max_gaps);
        Self { id, assembler, window, final_size: None, state: State::Open, over: false, told: false }
    }

    /// Checks a Stream frame without a change. Returns the number of new bytes that it counts against the window.
    pub(super) fn check_data(&self, offset: u64, len: usize, fin: bool) -> Result<u64, Violation> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= MAX_OFFSET);
        let end = end.ok_or(Violation::OffsetTooLarge(self.id.0))?;
        self.check_end(end, fin)
    }

    /// The same for a Reset Stream frame.
    pub(super) fn check_reset(&self, final_size: u64) -> Result<u64, Violation> {
        if final_size > MAX_OFFSET {
            return Err(Violation::OffsetTooLarge(self.id.0));
        }
        self.check_end(final_size, true)
    }

    fn check_end(&self, end: u64, is_final: bool) -> Result<u64, Violation> {
        let past = self.final_size.is_some_and(|size| end > size || (is_final && end != size));
        if past || (is_final && end < self.window.received()) {
            return Err(Violation::FinalSize(self.id.0));
        }
        let more = end.saturating_sub(self.window.received());
        self.window.check(more)?;
        Ok(more)
    }

    /// Bytes of data held.
    pub(super) fn held(&self) -> usize {
        self.assembler.held()
    }

    /// Takes in a Stream frame that [`RecvHalf::check_data`] found to add `more` bytes. Returns how many of them
    /// will never be read.
    pub(super) fn handle_data(
        &mut self,
        offset: u64,
        fin: bool,
        data: Bytes,
        record_len: usize,
        more: u64,
    ) -> Result<u64, Violation> {
        self.window.receive(more);
        if fin {
            self.set_final_size(offset + data.len() as u64);
        }
        if self.state == State::Open && !self.over {
            let inserted = self.assembler.insert(offset, data, record_len);
            inserted.map_err(|_| Violation::TooManyGaps(self.id.0))?;
            return Ok(0);
        }
        Ok(if matches!(self.state, State::Stopped(_)) { self.give_up_unread() } else { 0 })
    }

    /// Takes in a Reset Stream frame that [`RecvHalf::check_reset`] found to add `more` bytes. Returns how many bytes
    /// will never be read.
    pub(super) fn handle_reset(&mut self, error: ErrorCode, final_size: u64, more: u64) -> u64 {
        self.window.receive(more);
        if self.state == State::Open && !self.is_complete() {
            self.state = State::Reset(error);
            self.told = false; // it is reported although data is unread
        }
        self.set_final_size(final_size);
        if self.state == State::Open { 0 } else { self.give_up_unread() }
    }

    /// The next bytes in order, of one piece, at most `max`; `None` at the end of the stream.
    pub(super) fn read(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        match self.state {
            State::Stopped(_) => return Err(ReadError::Stopped),
            State::Reset(error) => {
                self.over = true;
                return Err(ReadError::Reset(error));
            }
            State::Open | State::Truncated => {}
        }
        if let Some(data) = self.assembler.read(max) {
            self.window.consume(data.len() as u64);
            return Ok(Some(data));
        }
        self.read_end()
    }

    /// Returns why the data will not be complete, although some of it may be unread.
    pub(super) fn failure(&self) -> Option<ReadError> {
        match self.state {
            _ if self.over => None,
            State::Reset(error) => Some(ReadError::Reset(error)),
            State::Truncated => Some(ReadError::Truncated),
            State::Open | State::Stopped(_) => None,
        }
    }

    /// Returns the result of a read without buffered data.
    fn read_end(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.is_complete() {
            self.over = true;
            return Ok(None);
        }
        if self.state == State::Truncated {
            self.over = true;
            return Err(ReadError::Truncated);
        }
        self.told = false;
        Err(ReadError::Blocked)
    }

    /// The application reads no more. Returns how many bytes will read, now that this is known.
    pub(super) fn stop(&mut self, error: ErrorCode) -> Result<u64, ReadError> {
        match self.state {
            State::Stopped(_) => return Err(ReadError::Stopped),
            _ if self.over => return Err(ReadError::Unknown),
            State::Open => self.state = State::Stopped(error),
            // Nothing comes any more: no need to ask the peer.
            State::Reset(_) | State::Truncated => self.over = true,
        }
        self.over |= self.final_size.is_some();
        Ok(self.give_up_unread())
    }

    /// The peer sends no more on the session: missing data will not arrive. Returns whether the application still
    /// reads.
    pub(super) fn truncate(&mut self) -> bool {
        let is_cut = self.state == State::Open && !self.is_complete();
        if is_cut {
            self.state = State::Truncated;
            self.assembler.drop_early();
        }
        self.over |= matches!(self.state, State::Stopped(_));
        is_cut
    }

    /// Whether a Readable event is due; it counts as given then.
    pub(super) fn take_readable(&mut self) -> bool {
        let due = !self.told && !self.over && self.is_readable();
        self.told |= due;
        due
    }

    fn is_readable(&self) -> bool {
        match self.state {
            State::Open => self.assembler.is_ready() || self.is_complete(),
            State::Reset(_) | State::Truncated => true,
            State::Stopped(_) => false,
        }
    }

    /// How it ended, given that it has.
    pub(super) fn end(&self) -> RecvEnd {
        match self.state {
            State::Open => RecvEnd::Complete,
            State::Reset(error) => RecvEnd::Reset(error),
            State::Stopped(_) => RecvEnd::Stopped,
            State::Truncated => RecvEnd::Truncated,
        }
    }

    /// Whether the half has ended for the application and for the peer.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the application has stopped reading.
    pub(super) fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped(_))
    }

    /// The code for the Stop Sending frame, if that is still worth sending.
    pub(super) fn stop_code(&self) -> Option<ErrorCode> {
        match self.state {
            State::Stopped(error) if self.final_size.is_none() => Some(error),
            _ => None,
        }
    }

    /// Whether a higher limit should be sent to the peer.
    pub(super) fn window_update_is_due(&self) -> bool {
        self.takes_data() && self.window.update_is_due()
    }

    /// The limit to report to the peer, if that is still of use. The window grows by at most `growth`.
    pub(super) fn renew_window(&mut self, clock: Clock, growth: u64) -> Option<u64> {
        self.takes_data().then(|| self.window.renew(clock, growth))
    }

    /// What the window has grown beyond `initial`, as long as data may be held because of it.
    pub(super) fn growth(&self, initial: u64) -> u64 {
        if self.growth_counts() { self.window_growth(initial) } else { 0 }
    }

    /// Whether data may be held because of what the window has grown. Once it is not, it never is again.
    pub(super) fn growth_counts(&self) -> bool {
        !self.over && matches!(self.state, State::Open | State::Truncated)
    }

    /// What the window has grown beyond `initial`.
    pub(super) fn window_growth(&self, initial: u64) -> u64 {
        self.window.size().saturating_sub(initial)
    }

    /// Bytes up to the highest offset received.
    pub(super) fn received(&self) -> u64 {
        self.window.received()
    }

    /// Memory held for what is not read.
    pub(super) fn memory(&self) -> usize {
        self.assembler.memory()
    }

    /// Bytes that the application can read now.
    pub(super) fn ready(&self) -> u64 {
        self.assembler.ready()
    }

    /// Whether data that arrived at `offset` waits for data before it.
    pub(super) fn waits_at(&self, offset: u64) -> bool {
        self.state == State::Open && self.assembler.next_offset() <= offset
    }

    /// Bytes held in shared read buffers.
    pub(super) fn in_buffers(&self) -> usize {
        self.assembler.shared()
    }

    /// Copies data out of shared read buffers.
    pub(super) fn leave_buffers(&mut self) {
        self.assembler.unshare();
    }

    /// Whether the peer may still send, and the application read.
    pub(super) fn takes_data(&self) -> bool {
        self.state == State::Open && self.final_size.is_none()
    }

    /// Whether everything up to the FIN has arrived.
    fn is_complete(&self) -> bool {
        self.final_size == Some(self.assembler.next_offset())
    }

    fn set_final_size(&mut self, size: u64) {
        self.final_size = Some(size);
        self.over |= matches!(self.state, State::Stopped(_));
    }

    fn give_up_unread(&mut self) -> u64 {
        self.assembler.clear();
        let unread = self.window.unconsumed();
        self.window.consume(unread);
        unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    const ID: StreamId = StreamId(4);

    fn half() -> RecvHalf {
        RecvHalf::new(ID, Window::of_stream(100, 100, Time::ZERO), 8)
    }

    fn receive(half: &mut RecvHalf, offset: u64, data: &'static str, fin: bool) -> Result<u64, Violation> {
        let more = half.check_data(offset, data.len(), fin)?;
        half.handle_data(offset, fin, Bytes::from_static(data.as_bytes()), data.len(), more)
    }

    fn reset(half: &mut RecvHalf, final_size: u64) -> Result<u64, Violation> {
        let more = half.check_reset(final_size)?;
        Ok(half.handle_reset(ErrorCode(9), final_size, more))
    }

    #[test]
    fn the_end_comes_after_the_last_byte() {
        let mut half = half();
        receive(&mut half, 0, "hello", true).unwrap();
        assert_eq!(half.read(3), Ok(Some(Bytes::from("hel"))));
        assert_eq!(half.read(3), Ok(Some(Bytes::from("lo"))));
        assert!(!half.is_over());
        assert_eq!(half.read(3), Ok(None));
        assert!(half.is_over());
        assert_eq!(half.stop(ErrorCode(9)), Err(ReadError::Unknown), "there is nothing to stop any more");
    }

    #[test]
    fn only_streams_not_read_any_more_are_over_when_the_session_ends() {
        let (mut stopped, mut read) = (half(), half());
        stopped.stop(ErrorCode(9)).unwrap();
        for half in [&mut stopped, &mut read] {
            half.truncate();
        }
        assert_eq!((stopped.is_over(), read.is_over()), (true, false));
    }

    #[test]
    fn a_fin_that_overtakes_the_data_waits_for_it() {
        let mut half = half();
        receive(&mut half, 5, "", true).unwrap();
        assert!(!half.take_readable());
        assert_eq!(half.read(9), Err(ReadError::Blocked));
        receive(&mut half, 0, "hello", false).unwrap();
        assert!(half.take_readable());
    }

    #[test]
    fn final_sizes_must_agree_with_each_other_and_with_the_data() {
        let finished = || {
            let mut half = half();
            receive(&mut half, 0, "hello", true).unwrap();
            half
        };
        let wrong = Err(Violation::FinalSize(ID.0));
        assert_eq!(receive(&mut finished(), 5, "x", false), wrong);
        assert_eq!(receive(&mut finished(), 0, "hell", true), wrong);
        assert_eq!(receive(&mut finished(), 9, "", true), wrong);
        assert_eq!(reset(&mut finished(), 6), wrong);
        assert_eq!(reset(&mut finished(), 4), wrong);
        assert_eq!(receive(&mut finished(), 0, "hello", true), Ok(0));
        let mut open = half();
        receive(&mut open, 10, "x", false).unwrap();
        assert_eq!(receive(&mut open, 5, "", true), wrong);
        assert_eq!(reset(&mut open, 10), wrong);
    }

    #[test]
    fn offsets_beyond_the_largest_are_refused_without_overflow() {
        let wrong = Err(Violation::OffsetTooLarge(ID.0));
        for offset in [MAX_OFFSET, 1 << 63, u64::MAX] {
            assert_eq!(half().check_data(offset, 1, false), wrong);
        }
        assert_eq!(half().check_reset(MAX_OFFSET + 1), wrong);
        assert_eq!(half().check_data(MAX_OFFSET - 1, 1, false), Err(Violation::FlowControl));
    }

    #[test]
    fn reset_counts_its_final_size_and_returns_unread_credit() {
        let mut half = half();
        receive(&mut half, 0, "hello", false).unwrap();
        half.read(2).unwrap();
        assert_eq!(half.check_reset(50), Ok(45));
        assert_eq!(half.check_reset(101), Err(Violation::FlowControl));
        assert_eq!(reset(&mut half, 50), Ok(48));
        assert_eq!(half.memory(), 0);
        assert_eq!(reset(&mut half, 50), Ok(0));
        assert!(!half.is_over());
        assert_eq!(half.read(1), Err(ReadError::Reset(ErrorCode(9))));
        assert!(half.is_over());
    }

    #[test]
    fn a_reset_of_a_stream_that_is_all_here_is_too_late() {
        let mut half = half();
        receive(&mut half, 0, "hello", true).unwrap();
        assert_eq!(reset(&mut half, 5), Ok(0));
        assert_eq!(half.read(9), Ok(Some(Bytes::from("hello"))));
        assert_eq!(half.read(9), Ok(None));
    }

    #[test]
    fn data_after_a_stop_is_dropped_and_returned_as_credit() {
        let mut half = half();
        receive(&mut half, 0, "hello", false).unwrap();
        assert_eq!(half.stop(ErrorCode(3)), Ok(5));
        assert_eq!(half.stop_code(), Some(ErrorCode(3)));
        assert_eq!(half.read(1), Err(ReadError::Stopped));
        assert_eq!(receive(&mut half, 5, "more", false), Ok(4));
        assert_eq!(half.memory(), 0);
        assert!(!half.is_over());
        assert_eq!(reset(&mut half, 20), Ok(11));
        assert!(half.is_over());
        assert_eq!(half.stop_code(), None);
    }

    #[test]
    fn stopping_a_stream_whose_end_is_known_asks_nothing_of_the_peer() {
        let mut half = half();
        receive(&mut half, 0, "hello", true).unwrap();
        assert_eq!(half.stop(ErrorCode(3)), Ok(5));
        assert_eq!(half.stop_code(), None);
        assert!(half.is_over());
    }

    #[test]
    fn cut_short_stream_reads_to_the_first_gap_then_returns_truncated() {
        let mut half = half();
        receive(&mut half, 0, "ab", false).unwrap();
        receive(&mut half, 3, "d", true).unwrap();
        half.truncate();
        assert_eq!(half.read(9), Ok(Some(Bytes::from("ab"))));
        assert_eq!(half.read(9), Err(ReadError::Truncated));
        assert!(half.is_over());
    }

    #[test]
    fn a_complete_stream_is_not_cut_short() {
        let mut half = half();
        receive(&mut half, 0, "ab", true).unwrap();
        half.truncate();
        assert_eq!(half.read(9), Ok(Some(Bytes::from("ab"))));
        assert_eq!(half.read(9), Ok(None));
    }

    #[test]
    fn readable_is_reported_once_until_a_read_is_blocked() {
        let mut half = half();
        receive(&mut half, 0, "ab", false).unwrap();
        assert!(half.take_readable());
        receive(&mut half, 2, "cd", false).unwrap();
        assert!(!half.take_readable());
        while half.read(9).is_ok() {}
        assert!(!half.take_readable());
        receive(&mut half, 4, "e", false).unwrap();
        assert!(half.take_readable());
    }

    #[test]
    fn no_window_update_once_the_final_size_is_known() {
        let mut half = half();
        receive(&mut half, 0, "0123456789012345678901234567890123456789012345678901234567890", false).unwrap();
        half.read(99).unwrap();
        assert!(half.window_update_is_due());
        receive(&mut half, 61, "", true).unwrap();
        assert!(!half.window_update_is_due());
        assert_eq!(half.renew_window(Clock::default(), 0), None);
    }
}
