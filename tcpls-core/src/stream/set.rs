//! All streams of a session, what they share, and the one function that applies a change to a stream with all its
//! consequences ([`Streams::update`]).
//!
//! `app` has the calls of the application, `input` the effects of the peer's frames, `output` the contents of records
//! and their acknowledgment or loss, `room` the limits on writes, `growth` the growth of receive windows. A stream
//! exists from its opening until both halves have ended; memory is proportional to the number of existing streams, not
//! to their IDs (attacks 3 and 7).

mod app;
mod blocked;
mod class;
mod growth;
mod input;
mod output;
#[cfg(test)]
mod pair_tests;
mod pinned;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

pub(crate) use room::Waste;

use blocked::Blocked;
use class::Written;
use growth::Growth;

use super::credit::Credit;
use super::ended::{Ended, EndedStreams};
use super::flow::{Clock, Window};
use super::recv::RecvHalf;
use super::schedule::{Place, Schedule};
use super::send::SendHalf;
use super::{ControlKey, StreamClass};
use crate::config::Config;
use crate::event::StreamEvent;
use crate::stats::StreamStats;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

/// The maximum number of streams that one endpoint can open in a session: 2³¹.
const MAX_STREAMS: u32 = 1 << 31;

/// One stream.
#[derive(Debug)]
struct Stream {
    send: SendHalf,
    recv: RecvHalf,
    priority: i8,
    class: StreamClass,
    /// The peer sent its beginning by a lane: it wants the answer there.
    came_by_lane: bool,
    /// For its class: how much was written lately.
    written: Written,
    /// The TCP connections that it may use; empty: all.
    attached: Vec<ConnectionId>,
    /// Its place in the schedule, if it has data to send.
    place: Option<Place>,
    /// Whether the last write took less than all bytes: a Writable event is due.
    blocked: bool,
}

/// The cause of a change to a stream. The changes that bulk data causes for each record have few consequences, which
/// saves work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Another change.
    Any,
    /// The application wrote, up to the room.
    Write,
    /// A piece was taken to be sent. The room to write does not change, because the piece was counted before.
    Send,
    /// Some data was acknowledged.
    Ack,
    /// Data arrived.
    Receive,
    /// The application read.
    Read,
}

impl Cause {
    /// Affects unsent data.
    fn may_change_unsent(self) -> bool {
        matches!(self, Self::Any | Self::Write | Self::Send)
    }

    /// Affects unacknowledged data, and what of it is to be sent.
    fn may_change_sending(self) -> bool {
        self.may_change_unsent() || self == Self::Ack
    }

    /// Blocked streams may be able to write.
    fn may_free_room(self) -> bool {
        matches!(self, Self::Any | Self::Ack)
    }

    /// Affects received data that is not read.
    fn may_change_receiving(self) -> bool {
        matches!(self, Self::Any | Self::Receive | Self::Read)
    }

    /// The application has read data, or stopped reading.
    fn may_be_read(self) -> bool {
        matches!(self, Self::Any | Self::Read)
    }

    /// One of the halves may have ended.
    fn may_end(self) -> bool {
        !matches!(self, Self::Write | Self::Send)
    }
}

/// The contribution of a stream to the session's sums.
#[derive(Clone, Copy, Debug)]
struct Load {
    to_send: usize,
    to_read: usize,
    again: u64,
    fresh: u64,
    beyond: u64,
}

impl Stream {
    fn load(&self) -> Load {
        let unsent = self.send.unsent();
        let fresh = unsent.min(self.send.credit_left());
        Load {
            to_send: self.send.buffered(),
            to_read: self.recv.memory(),
            again: self.send.to_send_again(),
            fresh,
            beyond: unsent - fresh,
        }
    }

    fn may_use(&self, tcp: ConnectionId) -> bool {
        self.attached.is_empty() || self.attached.contains(&tcp)
    }

    fn is_over(&self) -> bool {
        self.send.is_over() && self.recv.is_over()
    }
}

/// The state of the session's end, as far as it concerns streams.
#[derive(Clone, Copy, Debug, Default)]
struct Ending {
    /// The application writes no more.
    writing_stopped: bool,
    /// The peer takes no more.
    outgoing_dropped: bool,
    /// The peer sends no more.
    truncated: bool,
    /// All is over.
    aborted: bool,
}

/// The state that all streams share.
#[derive(Debug)]
struct Shared {
    side: Side,
    config: Config,
    clock: Clock,
    plain: bool,
    /// Client of a plain session: whether the one stream has not been opened.
    plain_to_open: bool,
    /// The one stream of a plain session was reset by this endpoint, with this code.
    plain_reset: Option<ErrorCode>,
    ending: Ending,
    ended: EndedStreams,
    events: VecDeque<StreamEvent>,

    // Sending.
    schedule: Schedule,
    credit: Credit,
    /// The part of the credit that is reserved for streams that hold little.
    credit_reserve: u64,
    peer_stream_window: u64,
    /// Streams with a due Writable event.
    blocked: Blocked,
    buffered_to_send: usize,
    /// Bytes that were acknowledged or read, since the session began.
    delivered: u64,
    /// Data dropped with the session: bytes and ends of streams.
    undelivered: u64,
    /// Bytes that are to be sent again.
    again: u64,
    /// Unsent bytes that the streams' flow control allows to send.
    fresh: u64,
    /// Unsent bytes for which the stream has no credit.
    beyond: u64,
    /// Streams with a priority below 0.
    below: u32,
    /// Whether streams have differed in class so far.
    has_classes: bool,
    /// Redundant mode: whether the data that each TCP connection carries is remembered.
    redundant: bool,

    // Receiving.
    window: Window,
    growth: Growth,
    buffered_to_read: usize,
    /// Bytes of records received since the last time that no piece shared a read buffer.
    pinned: usize,

    // Control frames to be sent.
    due: BTreeSet<ControlKey>,

    // Opening. Numbers count streams of one side since the session began.
    opened_here: u32,
    /// How many the peer allows.
    limit_here: u32,
    /// Whether an open was refused for the limit: an Available event is due.
    open_refused: bool,
    /// This endpoint drains the session, and serves as many streams of the peer.
    serves: Option<u32>,
    /// The peer drains the session, and serves as many streams of this endpoint.
    peer_serves: Option<u32>,
    opened_by_peer: u32,
    accepted: u32,
    /// Streams of the peer that have ended.
    closed_by_peer: u32,
    /// How many the peer may open, as advertised.
    limit_of_peer: u32,
}

/// All streams of one session.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Each on its own: a node of the tree has room for eleven.
    map: BTreeMap<StreamId, Box<Stream>>,
    shared: Shared,
}

impl Streams {
    /// No streams, and no right to send before [`Streams::set_peer_limits`].
    pub(crate) fn new(side: Side, config: &Config) -> Self {
        let window = Window::of_session(config.initial_session_window, config.max_session_window, Time::ZERO);
        let shared = Shared {
            side,
            config: config.clone(),
            clock: Clock::default(),
            plain: false,
            plain_to_open: false,
            plain_reset: None,
            ending: Ending::default(),
            ended: EndedStreams::default(),
            events: VecDeque::new(),
            schedule: Schedule::default(),
            credit: Credit::default(),
            credit_reserve: 0,
            peer_stream_window: 0,
            blocked: Blocked::default(),
            buffered_to_send: 0,
            delivered: 0,
            undelivered: 0,
            again: 0,
            fresh: 0,
            beyond: 0,
            below: 0,
            has_classes: false,
            redundant: false,
            window,
            growth: Growth::new(config),
            buffered_to_read: 0,
            pinned: 0,
            due: BTreeSet::new(),
            opened_here: 0,
            limit_here: 0,
            open_refused: false,
            serves: None,
            peer_serves: None,
            opened_by_peer: 0,
            accepted: 0,
            closed_by_peer: 0,
            limit_of_peer: config.max_streams.min(MAX_STREAMS),
        };
        Self { map: BTreeMap::new(), shared }
    }

    /// A session without TCPLS: exactly one stream, 0, on both sides, with no flow control. Called once, at the end of
    /// the handshake. The server accepts it like any other; the client has it without opening it.
    pub(crate) fn make_plain(&mut self) {
        let shared = &mut self.shared;
        shared.plain = true;
        shared.credit = Credit::UNLIMITED;
        shared.bound_plain();
        shared.window = Window::unlimited();
        shared.opened_here = 0;
        shared.limit_here = 0;
        self.create(StreamId(0));
        if self.shared.side == Side::Server {
            self.shared.opened_by_peer = 1;
            self.shared.limit_of_peer = 1;
            self.shared.serves = self.shared.serves.and(Some(1)); // nothing could refuse it
            self.shared.events.push_back(StreamEvent::Opened);
        } else {
            self.shared.opened_here = 1;
            self.shared.plain_to_open = true;
        }
    }

    /// Sets the limits of the peer's Session Parameters, before which no data may be sent.
    pub(crate) fn set_peer_limits(&mut self, max_data: u64, max_stream_data: u64, max_streams: u32) {
        self.shared.peer_stream_window = max_stream_data;
        self.shared.reserve_credit(max_data);
        let ids: Vec<StreamId> = self.map.keys().copied().collect();
        for id in ids {
            self.update(id, |stream, _| stream.send.raise_limit(max_stream_data));
        }
        self.handle_max_data(max_data);
        self.handle_max_streams(max_streams);
    }

    /// Tells the time at which limits are reported to the peer: an application may read long after the last record.
    #[inline]
    pub(crate) fn advance(&mut self, now: Time) {
        self.shared.clock.now = now;
    }

    /// Tells the time, and the session's typical round trip (with several TCP connections, the longest that carries
    /// data). Receive windows grow by it.
    pub(crate) fn set_now(&mut self, now: Time, round_trip: Option<Duration>) {
        self.shared.clock = Clock { now, round_trip };
    }

    /// Returns the changes since the last call.
    pub(crate) fn poll_event(&mut self) -> Option<StreamEvent> {
        self.shared.events.pop_front()
    }

    /// Bytes written and not acknowledged.
    pub(crate) fn buffered_to_send(&self) -> usize {
        self.shared.buffered_to_send
    }

    /// Bytes that could go out now, if TCP connections had room.
    pub(crate) fn unsent(&self) -> u64 {
        self.shared.again + self.shared.fresh.min(self.shared.credit.left())
    }

    /// Memory of received data that is not read, including bookkeeping.
    pub(crate) fn buffered_to_read(&self) -> usize {
        self.shared.buffered_to_read
    }

    /// Bytes that the peer has acknowledged and bytes that the application has read, since the session began.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered
    }

    /// Memory of all streams, what they hold included.
    pub(crate) fn memory(&self) -> usize {
        let held = self.buffered_to_send() + self.buffered_to_read() + self.pinned();
        held + self.map.len() * size_of::<Stream>()
    }

    /// This endpoint drains the session: of the peer's streams it serves those that exist or have existed. Returns how
    /// many that are.
    pub(crate) fn drain(&mut self) -> u32 {
        let shared = &mut self.shared;
        if core::mem::take(&mut shared.open_refused) {
            shared.events.push_back(StreamEvent::Available); // the next attempt fails for another reason
        }
        *shared.serves.get_or_insert(shared.opened_by_peer)
    }

    /// Whether either endpoint drains the session.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.serves.is_some() || self.shared.peer_serves.is_some()
    }

    /// How many streams exist.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The counters of each stream.
    pub(crate) fn stats(&self) -> impl Iterator<Item = StreamStats> + '_ {
        self.map.iter().map(|(id, stream)| StreamStats {
            id: *id,
            written: stream.send.written(),
            unacknowledged: stream.send.buffered(),
            received: stream.recv.received(),
            unread: stream.recv.memory(),
        })
    }

    // How the session ends.

    /// The peer sends no more: receiving halves that are not complete end with `ReadError::Truncated`, after what is in order.
    /// Returns whether there were any.
    pub(crate) fn truncate(&mut self) -> bool {
        self.shared.ending.truncated = true;
        let ids: Vec<StreamId> = self.map.keys().copied().collect();
        let cut = |id| self.update(id, |stream, _| stream.recv.truncate()) == Some(true);
        ids.into_iter().map(cut).fold(false, core::ops::BitOr::bitor)
    }

    /// The session is closed by an error: nothing is readable or writable any more, and no memory is held.
    pub(crate) fn abort(&mut self) {
        self.shared.undelivered = self.undelivered();
        self.map = BTreeMap::new();
        let shared = &mut self.shared;
        shared.ending = Ending { writing_stopped: true, outgoing_dropped: true, truncated: true, aborted: true };
        shared.below = 0;
        shared.schedule = Schedule::default();
        shared.blocked = Blocked::default();
        shared.due = BTreeSet::new();
        shared.events = VecDeque::new();
        (shared.buffered_to_send, shared.buffered_to_read) = (0, 0);
        (shared.again, shared.fresh, shared.beyond) = (0, 0, 0);
        shared.accepted = shared.opened_by_peer;
    }

    /// No more writes are taken and no stream is opened. What is buffered still goes out; streams that the application
    /// has not finished stay unfinished.
    pub(crate) fn stop_writing(&mut self) {
        self.shared.ending.writing_stopped = true;
        for id in self.shared.blocked.take() {
            self.update(id, |stream, _| stream.blocked = false);
        }
    }

    /// The peer takes no more: everything unsent or unacknowledged is dropped, and writes fail.
    pub(crate) fn drop_outgoing(&mut self) {
        self.stop_writing();
        self.shared.ending.outgoing_dropped = true;
        self.shared.due.clear();
        self.shared.undelivered = self.undelivered();
        self.update_all(|stream, _| stream.send.drop_all());
    }

    /// Bytes that were written and are not acknowledged, and ends of streams; those included that were given up with the
    /// session. Looks at every stream.
    pub(crate) fn undelivered(&self) -> u64 {
        self.shared.undelivered + self.map.values().map(|stream| stream.send.undelivered()).sum::<u64>()
    }

    /// Whether the application may still write to any stream. Looks at every stream.
    pub(crate) fn has_writers(&self) -> bool {
        self.map.values().any(|stream| stream.send.check_open().is_ok())
    }

    /// Whether all that was written is acknowledged, ends and resets included. Looks at every stream.
    pub(crate) fn is_flushed(&self) -> bool {
        self.map.values().all(|stream| stream.send.is_flushed())
    }

    /// Whether the application of a plain session has neither taken the one stream nor written to it.
    pub(crate) fn is_untouched(&self) -> bool {
        let is_taken =
            if self.shared.side == Side::Client { !self.shared.plain_to_open } else { self.shared.accepted > 0 };
        !is_taken && self.map.get(&StreamId(0)).is_some_and(|stream| stream.send.is_untouched())
    }

    /// The code with which this endpoint gave up the one stream of a plain session, once it does not read it any more either.
    pub(crate) fn given_up(&self) -> Option<ErrorCode> {
        let error = self.shared.plain_reset?;
        let only = self.map.get(&StreamId(0));
        let is_read = only.is_some_and(|stream| !stream.recv.is_over() && !stream.recv.is_stopped());
        (!is_read).then_some(error)
    }

    // The bookkeeping.

    /// Makes a stream of either side.
    fn create(&mut self, id: StreamId) {
        let shared = &self.shared;
        let window = shared.stream_window();
        let credit = shared.stream_credit();
        let mut stream = Stream {
            send: SendHalf::new(id, credit),
            recv: RecvHalf::new(id, window, shared.config.max_gaps),
            priority: 0,
            class: StreamClass::ByPriority,
            came_by_lane: false,
            written: Written::default(),
            attached: Vec::new(),
            place: None,
            blocked: false,
        };
        if shared.ending.outgoing_dropped {
            stream.send.drop_all();
        }
        self.map.insert(id, Box::new(stream));
        if shared.ending.truncated {
            self.update(id, |stream, _| stream.recv.truncate());
        }
    }

    /// Changes a stream, and applies all consequences: the session's sums, its turn to send, pending frames and events,
    /// and its end. `None` if there is no such stream.
    fn update<R>(&mut self, id: StreamId, change: impl FnOnce(&mut Stream, &mut Shared) -> R) -> Option<R> {
        self.update_by(Cause::Any, id, change)
    }

    /// The same for a known cause, which determines the possible consequences. The cause is a constant at each call, so
    /// that the others are not checked.
    #[inline(always)]
    fn update_by<R>(
        &mut self,
        cause: Cause,
        id: StreamId,
        change: impl FnOnce(&mut Stream, &mut Shared) -> R,
    ) -> Option<R> {
        let stream = self.map.get_mut(&id)?;
        let shares = if cause.may_free_room() { self.shared.shares_if_others_are_blocked(stream) } else { None };
        let before = stream.load();
        let counts = stream.recv.growth_counts();
        let result = change(stream, &mut self.shared);
        if cause.may_change_unsent() {
            self.shared.settle_unsent(stream, before);
        }
        if cause.may_change_sending() {
            self.shared.settle_send(id, stream, before);
        }
        if cause.may_free_room() && stream.blocked {
            self.shared.wake_writer(id, stream);
        }
        if cause.may_change_receiving() {
            self.shared.settle_recv(id, stream, before.to_read);
        }
        if cause.may_be_read() && stream.recv.window_update_is_due() {
            self.shared.due.insert(ControlKey::MaxStreamData(id));
        }
        if cause.may_be_read() && counts && !stream.recv.growth_counts() {
            self.shared.growth.give_back(&stream.recv);
        }
        if cause.may_end() && stream.is_over() {
            let ended = Ended { send: stream.send.end(), recv: stream.recv.end() };
            self.shared.ended.insert(id, ended);
            self.shared.below -= u32::from(stream.priority < 0);
            self.map.remove(&id);
            self.shared.stream_is_over(id);
        }
        if let Some(shares) = shares {
            self.wake_writers_after(shares);
        }
        Some(result)
    }

    fn update_all(&mut self, change: impl Fn(&mut Stream, &mut Shared)) {
        let ids: Vec<StreamId> = self.map.keys().copied().collect();
        for id in ids {
            self.update(id, &change);
        }
    }
}

impl Shared {
    fn stream_window(&self) -> Window {
        if self.plain {
            return Window::unlimited();
        }
        Window::of_stream(self.config.initial_stream_window, self.config.max_stream_window, self.clock.now)
    }

    fn stream_credit(&self) -> Credit {
        let mut credit = Credit::default();
        credit.raise(if self.plain { u64::MAX } else { self.peer_stream_window });
        credit
    }

    /// Updates the sums of unsent data for a stream.
    fn settle_unsent(&mut self, stream: &Stream, before: Load) {
        let now = stream.load();
        self.fresh = self.fresh - before.fresh + now.fresh;
        self.beyond = self.beyond - before.beyond + now.beyond;
    }

    /// Updates everything else that depends on a stream's sending half.
    fn settle_send(&mut self, id: StreamId, stream: &mut Stream, before: Load) {
        let now = stream.load();
        self.buffered_to_send = self.buffered_to_send - before.to_send + now.to_send;
        self.again = self.again - before.again + now.again;
        self.schedule.place(&mut stream.place, id, stream.priority, stream.send.need());
        if stream.send.take_delivered() {
            self.events.push_back(StreamEvent::Delivered { id });
        }
    }

    /// Updates everything that depends on a stream's received data.
    fn settle_recv(&mut self, id: StreamId, stream: &mut Stream, to_read: usize) {
        self.buffered_to_read = self.buffered_to_read - to_read + stream.recv.memory();
        if self.window.update_is_due() {
            self.due.insert(ControlKey::MaxData);
        }
        if stream.recv.take_readable() {
            self.events.push_back(StreamEvent::Readable { id });
        }
    }

    /// Removes an ended stream, and gives the peer credit for another if it was the peer's.
    fn stream_is_over(&mut self, id: StreamId) {
        for key in [ControlKey::MaxStreamData(id), ControlKey::ResetStream(id), ControlKey::StopSending(id)] {
            self.due.remove(&key);
        }
        self.blocked.remove(id);
        if id.initiator() != self.side && !self.plain {
            self.closed_by_peer += 1;
            let gain = self.fresh_limit_of_peer().saturating_sub(self.limit_of_peer);
            if gain >= (self.config.max_streams / 4).max(1) {
                self.due.insert(ControlKey::MaxStreams);
            }
        }
    }

    /// How many streams the peer may have opened by now, those that are over included.
    fn fresh_limit_of_peer(&self) -> u32 {
        self.closed_by_peer.saturating_add(self.config.max_streams).min(MAX_STREAMS)
    }
}
