//! The set of streams. Here: what it holds, how streams come and go. `app` is the application's side, `input` what frames
//! do, `output` what goes into records.

mod app;
mod input;
mod output;

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use arrayvec::ArrayVec;

use super::ControlKey;
use super::flow::{Credit, Window};
use super::recv::RecvHalf;
use super::send::SendHalf;
use crate::config::Config;
use crate::event::StreamEvent;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, Side, StreamId};

/// TCP connections that one stream can be attached to.
const MAX_ATTACHED: usize = 8;

/// Turn order: higher priority first, then who waited longest.
type Turn = (Reverse<i8>, u64, StreamId);

struct Entry {
    send: SendHalf,
    recv: RecvHalf,
    priority: i8,
    /// Grows each time the stream was served.
    round: u64,
    attached: ArrayVec<ConnectionId, MAX_ATTACHED>,
    /// How far each TCP connection has repeated what others sent (redundant mode).
    repeated: BTreeMap<ConnectionId, u64>,
    stop_error: ErrorCode,
    delivered: bool,
}

impl Entry {
    fn may_use(&self, tcp: ConnectionId) -> bool {
        self.attached.is_empty() || self.attached.contains(&tcp)
    }

    fn turn(&self, id: StreamId) -> Turn {
        (Reverse(self.priority), self.round, id)
    }
}

/// All streams of one session.
pub(crate) struct Streams {
    side: Side,
    plain: bool,
    entries: BTreeMap<StreamId, Entry>,
    /// Streams with something to send that needs no credit: lost data, a FIN.
    again: BTreeSet<Turn>,
    /// Streams with data that was never sent, and that their own limit allows.
    fresh: BTreeSet<Turn>,
    controls: BTreeSet<ControlKey>,
    rounds: u64,

    /// Index of the next stream that this side opens, and how many the peer allows.
    next_own: u32,
    own_limit: u32,
    open_refused: bool,
    peer_max_stream_data: u64,
    credit: Credit,

    /// Index of the first peer's stream that was not opened; how many the peer was allowed; how many are over.
    next_peer: u32,
    peer_limit: u32,
    peer_over: u32,
    max_streams: u32,
    accepting: VecDeque<StreamId>,
    window: Window,
    /// Sum over streams of the highest offset received.
    received: u64,
    initial_stream_window: u64,
    max_stream_window: u64,
    max_gaps: usize,

    send_buffer: u64,
    stream_send_buffer: u64,
    buffered: u64,
    /// Streams whose application waits for room in the session's buffer.
    waiting_for_room: BTreeSet<StreamId>,
    unread: usize,

    closed_to_writes: bool,
    read_side_over: bool,
    now: Time,
    rtt: Option<Duration>,
    events: VecDeque<StreamEvent>,
}

impl Streams {
    pub(crate) fn new(side: Side, config: &Config) -> Self {
        Self {
            side,
            plain: false,
            entries: BTreeMap::new(),
            again: BTreeSet::new(),
            fresh: BTreeSet::new(),
            controls: BTreeSet::new(),
            rounds: 0,
            next_own: 0,
            own_limit: 0,
            open_refused: false,
            peer_max_stream_data: 0,
            credit: Credit::default(),
            next_peer: 0,
            peer_limit: config.max_streams,
            peer_over: 0,
            max_streams: config.max_streams,
            accepting: VecDeque::new(),
            window: Window::new(config.initial_session_window, config.max_session_window),
            received: 0,
            initial_stream_window: config.initial_stream_window,
            max_stream_window: config.max_stream_window,
            max_gaps: config.max_gaps,
            send_buffer: config.send_buffer as u64,
            stream_send_buffer: config.stream_send_buffer as u64,
            buffered: 0,
            waiting_for_room: BTreeSet::new(),
            unread: 0,
            closed_to_writes: false,
            read_side_over: false,
            now: Time::ZERO,
            rtt: None,
            events: VecDeque::new(),
        }
    }

    /// A session without TCPLS: exactly one stream, 0, opened by the client, without flow control.
    pub(crate) fn make_plain(&mut self) {
        self.plain = true;
        self.window = Window::unlimited();
        self.peer_max_stream_data = u64::MAX;
        self.credit.raise(u64::MAX);
        match self.side {
            Side::Client => self.own_limit = 1,
            Side::Server => {
                self.peer_limit = 1;
                self.open_peer_streams_up_to(0);
            }
        }
    }

    /// What the peer's parameters allow. Nothing is sent before.
    pub(crate) fn set_peer_limits(&mut self, max_data: u64, max_stream_data: u64, max_streams: u32) {
        self.peer_max_stream_data = max_stream_data;
        self.credit.raise(max_data);
        let ids: Vec<StreamId> = self.entries.keys().copied().collect();
        for id in ids {
            self.raise_stream_limit(id, max_stream_data);
        }
        self.handle_max_streams(max_streams);
    }

    /// The time, and the round-trip time as far as it is known: windows grow by them.
    pub(crate) fn set_now(&mut self, now: Time, rtt: Option<Duration>) {
        self.now = now;
        self.rtt = rtt.or(self.rtt);
    }

    pub(crate) fn poll_event(&mut self) -> Option<StreamEvent> {
        self.events.pop_front()
    }

    /// Bytes written and not acknowledged.
    pub(crate) fn buffered_to_send(&self) -> usize {
        usize::try_from(self.buffered).unwrap_or(usize::MAX)
    }

    /// Memory held for reading.
    pub(crate) fn buffered_to_read(&self) -> usize {
        self.unread
    }

    /// Streams that are open.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn insert(&mut self, id: StreamId) {
        let window = if self.plain {
            Window::unlimited()
        } else {
            Window::new(self.initial_stream_window, self.max_stream_window)
        };
        let entry = Entry {
            send: SendHalf::new(id, self.peer_max_stream_data),
            recv: RecvHalf::new(id, window, self.max_gaps),
            priority: 0,
            round: self.rounds,
            attached: ArrayVec::new(),
            repeated: BTreeMap::new(),
            stop_error: ErrorCode::default(),
            delivered: false,
        };
        self.entries.insert(id, entry);
        if self.read_side_over {
            self.with(id, |entry, _| entry.recv.truncate());
        }
    }

    /// Opens the peer's streams up to `index`: a record on one TCP connection may overtake another's that opened lower ones.
    fn open_peer_streams_up_to(&mut self, index: u32) {
        let was_empty = self.accepting.is_empty();
        while self.next_peer <= index {
            let Some(id) = StreamId::new(self.side.peer(), self.next_peer) else { return };
            self.next_peer += 1;
            self.insert(id);
            self.accepting.push_back(id);
        }
        if was_empty && !self.accepting.is_empty() {
            self.events.push_back(StreamEvent::Opened);
        }
    }

    /// Changes a stream and then brings everything that depends on it up to date: memory counted, turns, events, and
    /// whether it is over. The one way to touch a stream.
    fn with<T>(&mut self, id: StreamId, change: impl FnOnce(&mut Entry, &mut Self) -> T) -> Option<T> {
        let mut entry = self.entries.remove(&id)?;
        let turn = entry.turn(id);
        let (memory, buffered) = (entry.recv.memory(), entry.send.buffered());
        let result = change(&mut entry, self);
        self.unread = self.unread - memory + entry.recv.memory();
        self.buffered = self.buffered - buffered + entry.send.buffered();
        self.retake_turn(id, turn, &entry);
        self.tell_readable(id, &mut entry);
        self.tell_delivered(id, &mut entry);
        if buffered > entry.send.buffered() {
            self.tell_writable(id, &mut entry);
        }
        if entry.send.is_over() && entry.recv.is_over() {
            self.forget(id);
        } else {
            self.entries.insert(id, entry);
        }
        Some(result)
    }

    fn retake_turn(&mut self, id: StreamId, before: Turn, entry: &Entry) {
        let turn = entry.turn(id);
        for (ready, set) in [(entry.send.has_again(), &mut self.again), (entry.send.has_fresh(), &mut self.fresh)] {
            if !ready || turn != before {
                set.remove(&before);
            }
            if ready {
                set.insert(turn);
            }
        }
    }

    fn tell_readable(&mut self, id: StreamId, entry: &mut Entry) {
        if entry.recv.waiting && entry.recv.is_readable() {
            entry.recv.waiting = false;
            self.events.push_back(StreamEvent::Readable { id });
        }
    }

    fn tell_delivered(&mut self, id: StreamId, entry: &mut Entry) {
        if !entry.delivered && entry.send.is_delivered() {
            entry.delivered = true;
            self.events.push_back(StreamEvent::Delivered { id });
        }
    }

    fn tell_writable(&mut self, id: StreamId, entry: &mut Entry) {
        if entry.send.blocked && entry.send.buffered() < self.stream_send_buffer && self.buffered < self.send_buffer {
            entry.send.blocked = false;
            self.waiting_for_room.remove(&id);
            self.events.push_back(StreamEvent::Writable { id });
        }
    }

    /// There is room in the session's buffer again: streams that waited for it hear so.
    fn tell_room(&mut self) {
        while self.buffered < self.send_buffer {
            let Some(id) = self.waiting_for_room.pop_first() else { return };
            let limit = self.stream_send_buffer;
            let has_room = |entry: &&mut Entry| entry.send.blocked && entry.send.buffered() < limit;
            if let Some(entry) = self.entries.get_mut(&id).filter(has_room) {
                entry.send.blocked = false;
                self.events.push_back(StreamEvent::Writable { id });
            }
        }
    }

    /// A stream is over in both directions: its memory goes, and the peer may open another.
    fn forget(&mut self, id: StreamId) {
        self.waiting_for_room.remove(&id);
        self.controls.remove(&ControlKey::MaxStreamData(id));
        self.controls.remove(&ControlKey::StopSending(id));
        self.controls.remove(&ControlKey::ResetStream(id));
        if id.initiator() == self.side || self.plain {
            return;
        }
        self.peer_over += 1;
        let allowed = self.peer_over.saturating_add(self.max_streams).min(1 << 31);
        if allowed - self.peer_limit >= (self.max_streams / 4).max(1) {
            self.controls.insert(ControlKey::MaxStreams);
        }
    }

    /// Bytes that were read, or will never be, go back to the session's window.
    fn give_back(&mut self, bytes: u64) {
        if self.window.consume(bytes) {
            self.controls.insert(ControlKey::MaxData);
        }
    }
}
