//! All streams of a session, and what they share.
//!
//! `app` has the calls of the application, `input` the effects of the peer's frames, `output` the contents of records
//! and their acknowledgment or loss, `update` the consequences of each change, `drain` and `end` how the session ends,
//! `room` the limits on writes, `growth` the growth of receive windows, `draft_only` a session without these. A stream
//! exists from its opening until both halves have ended; memory is proportional to the number of existing streams, not to
//! their IDs (attacks 3 and 7).

mod app;
mod blocked;
mod class;
mod draft_only;
mod drain;
mod end;
mod growth;
mod input;
mod limits;
mod output;
#[cfg(test)]
mod pair_tests;
mod pinned;
mod room;
#[cfg(test)]
mod tests;
mod update;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

pub(crate) use draft_only::Unread;
pub(crate) use room::Waste;

use blocked::Blocked;
use class::Written;
use drain::Drain;
use growth::Growth;
use limits::Limits;
use update::Cause;

use super::credit::Credit;
use super::ended::EndedStreams;
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
    /// Some of its data came as early data.
    is_early: bool,
    /// For its class: how much was written lately.
    written: Written,
    /// The TCP connections that it may use; empty: all.
    attached: Vec<ConnectionId>,
    /// Its place in the schedule, if it has data to send.
    place: Option<Place>,
    /// Bytes of its turn that were taken.
    taken: u32,
    /// Whether the last write took less than all bytes: a Writable event is due.
    blocked: bool,
}

impl Stream {
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
    /// A receiving half had not ended then.
    has_cut: bool,
    /// All is over.
    aborted: bool,
}

/// The state that all streams share.
#[derive(Debug)]
struct Shared {
    side: Side,
    limits: Limits,
    clock: Clock,
    plain: bool,
    /// There are no frames about streams but Stream.
    draft_only: bool,
    /// Client of a plain session: whether the one stream has not been opened.
    plain_to_open: bool,
    /// The one stream of a plain session was reset by this endpoint, with this code.
    plain_reset: Option<ErrorCode>,
    ending: Ending,
    ended: EndedStreams,
    events: VecDeque<StreamEvent>,

    // Sending.
    schedule: Schedule,
    /// How many bytes a stream may send before others of its priority.
    turn: u32,
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
    /// Received data is early data.
    is_early: bool,
    /// Bytes that the application could read now.
    ready_to_read: u64,
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
    drain: Drain,
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
            limits: Limits::of(config),
            clock: Clock::default(),
            plain: false,
            draft_only: false,
            plain_to_open: false,
            plain_reset: None,
            ending: Ending::default(),
            ended: EndedStreams::default(),
            events: VecDeque::new(),
            schedule: Schedule::default(),
            turn: 0,
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
            is_early: false,
            ready_to_read: 0,
            pinned: 0,
            due: BTreeSet::new(),
            opened_here: 0,
            limit_here: 0,
            open_refused: false,
            drain: Drain::default(),
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
            self.shared.drain.serve_plain_stream();
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

    /// Takes back the limits of [`Streams::set_peer_limits`], and all that was sent: none of it has arrived.
    pub(crate) fn rewind(&mut self) {
        let shared = &mut self.shared;
        (shared.credit, shared.credit_reserve) = (Credit::default(), 0);
        (shared.peer_stream_window, shared.limit_here) = (0, 0);
        self.update_all(|stream, _| stream.send.rewind());
    }

    /// Sets whether data that is received from now on is early data.
    pub(crate) fn set_early(&mut self, is_early: bool) {
        self.shared.is_early = is_early;
    }

    /// Returns whether some data of a stream came as early data, or, with `is_all_early`, whether the stream exists.
    pub(crate) fn is_early(&self, id: StreamId, is_all_early: bool) -> bool {
        self.map.get(&id).is_some_and(|stream| stream.is_early || is_all_early)
    }

    /// Returns how many streams this endpoint has opened.
    pub(crate) fn opened_here(&self) -> u32 {
        self.shared.opened_here
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

    /// Whether bytes are to be sent again.
    pub(crate) fn has_lost_data(&self) -> bool {
        self.shared.again > 0
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

    /// Frees memory that is kept for further streams and events.
    pub(crate) fn shrink_to_fit(&mut self) {
        let shared = &mut self.shared;
        shared.events.shrink_to_fit();
        shared.schedule.shrink_to_fit();
        if shared.due.is_empty() {
            shared.due = BTreeSet::new();
        }
        if self.map.is_empty() {
            self.map = BTreeMap::new();
        }
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

    /// Makes a stream of either side.
    fn create(&mut self, id: StreamId) {
        let shared = &self.shared;
        let window = shared.stream_window();
        let credit = shared.stream_credit();
        let mut stream = Stream {
            send: SendHalf::new(id, credit),
            recv: RecvHalf::new(id, window, shared.limits.gaps),
            priority: 0,
            class: StreamClass::ByPriority,
            came_by_lane: false,
            is_early: false,
            written: Written::default(),
            attached: Vec::new(),
            place: None,
            taken: 0,
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
}

impl Shared {
    fn stream_window(&self) -> Window {
        if self.plain || self.draft_only {
            return Window::unlimited();
        }
        Window::of_stream(self.limits.initial_window, self.limits.max_window, self.clock.now)
    }

    fn stream_credit(&self) -> Credit {
        let mut credit = Credit::default();
        credit.raise(if self.plain { u64::MAX } else { self.peer_stream_window });
        credit
    }

    /// How many streams the peer may have opened by now, those that are over included.
    fn fresh_limit_of_peer(&self) -> u32 {
        self.closed_by_peer.saturating_add(self.limits.streams).min(MAX_STREAMS)
    }
}
