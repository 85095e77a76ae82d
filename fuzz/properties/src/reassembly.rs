//! Stream data in any pieces, over several TCP connections. Properties: read data is the received data, in order and
//! complete; only violations end the session; memory and credit stay within the windows.
//!
//! The input is a configuration, then operations. The bytes of a stream are a function of its ID and their offsets.

use core::ops::{ControlFlow, Range};
use core::time::Duration;
use std::collections::BTreeMap;

use tcpls_core::error::{CloseReason, ReadError, Violation};
use tcpls_core::wire::frame::{Ack, Frame, MAX_STREAM_SIZE, Parameters, ResetStream, Stream};
use tcpls_core::wire::ids::RecordSeq;
use tcpls_core::{Config, ConnectionId, ErrorCode, Event, StreamEvent, StreamId, TcpEnd};

use crate::choices::{Choices, pick};
use crate::model::{Ranges, pattern};
use crate::peer::{Peer, ROOM};

/// An upper bound for the overhead of a piece of received data, in bytes.
const PIECE: u64 = 200;
/// A record's content without its frames' own fields.
const MAX_CONTENT: usize = 15_000;

/// How a stream's receiving half ends, if not with its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Reset(ErrorCode),
    Stopped,
}

/// The model of one stream that the client receives.
#[derive(Debug)]
struct Half {
    came: Ranges,
    /// The highest offset that was sent.
    highest: u64,
    limit: u64,
    read: u64,
    final_size: Option<u64>,
    fate: Fate,
    /// The application knows how it ended.
    over: bool,
    /// An event reported that there is something to read, and no read has found nothing since.
    told: bool,
}

impl Half {
    fn is_complete(&self) -> bool {
        self.final_size == Some(self.came.prefix())
    }

    fn is_readable(&self) -> bool {
        match self.fate {
            Fate::Open => self.came.prefix() > self.read || self.is_complete(),
            Fate::Reset(_) => true,
            Fate::Stopped => false,
        }
    }

    /// Bytes that were read, or never will be.
    fn consumed(&self) -> u64 {
        if self.fate == Fate::Open { self.read } else { self.highest }
    }

    /// Data held for the application.
    fn held(&self) -> u64 {
        if self.fate == Fate::Open { self.came.len() - self.read } else { 0 }
    }
}

struct Run {
    peer: Peer,
    halves: BTreeMap<StreamId, Half>,
    /// The session's limit, as advertised to the peer.
    limit: u64,
    stream_window: Range<u64>,
    session_window: Range<u64>,
    max_gaps: usize,
    /// Records received on each TCP connection.
    records: BTreeMap<ConnectionId, u64>,
}

/// The target `reassembly`: see above.
pub fn reassembly(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut run = Run::new(&mut choices);
    while let Some(op) = choices.next() {
        if run.step(op, &mut choices).is_break() {
            return;
        }
        run.hear();
        run.check();
    }
    run.halves.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| run.read(id, usize::MAX));
    run.hear();
    run.check();
}

impl Run {
    /// Windows of 1 to 9 KiB at first, some that grow and some that don't; few gaps; three TCP connections.
    fn new(choices: &mut Choices<'_>) -> Self {
        let stream = 1024 + u64::from(choices.pair() % 8192);
        let session = 1024 + u64::from(choices.pair() % 8192);
        let growth = choices.byte();
        let stream_window = stream..stream << (growth & 3);
        let session_window = session..session << (growth >> 2 & 3);
        let max_gaps = 8 + usize::from(choices.byte() % 16);
        let config = Config::default().with(|config| {
            config.initial_stream_window = stream_window.start;
            config.max_stream_window = stream_window.end;
            config.initial_session_window = session_window.start;
            config.max_session_window = session_window.end;
            config.max_streams = 3;
            config.max_gaps = max_gaps;
            config.overhead_budget = 1 << 30;
            config.idle_timeout = None;
        });
        let mut peer = Peer::new(config, &Parameters { max_streams: 2, ..Parameters::default() });
        let own = [peer.conn.open_stream(), peer.conn.open_stream()];
        let half = |id| (id, Half::new(stream));
        let halves = [StreamId(1), StreamId(3), StreamId(5)].into_iter().chain(own.into_iter().flatten()).map(half);
        let halves = halves.collect();
        let records = BTreeMap::new();
        let mut run = Self { peer, halves, limit: session, stream_window, session_window, max_gaps, records };
        for _ in 0..2 {
            run.peer.join();
        }
        // This opens all three of the peer.
        run.peer.send(ConnectionId::FIRST, &[Stream { id: StreamId(5), offset: 0, fin: false, data: &[] }.into()]);
        run.hear();
        run
    }

    fn tcp(&self, choice: u8) -> ConnectionId {
        pick(&self.peer.live(), choice)
    }

    fn step(&mut self, op: u8, choices: &mut Choices<'_>) -> ControlFlow<()> {
        let (kind, argument) = (op & 7, op >> 3);
        match kind {
            0..=2 => return self.send_data(argument, choices),
            3 => self.read(self.stream(argument), usize::from(choices.byte()) * 16),
            4 => self.read(self.stream(argument), usize::MAX),
            5 if argument < 24 => self.acknowledge(),
            5 => self.pass(Duration::from_millis(1 << (argument % 8))),
            6 if argument & 3 == 3 => self.stop(self.stream(argument >> 2)),
            6 => return self.send_reset(argument, choices),
            _ => self.cut(argument),
        }
        ControlFlow::Continue(())
    }

    /// One of the streams that there are.
    fn stream(&self, choice: u8) -> StreamId {
        pick(&[StreamId(1), StreamId(3), StreamId(5), StreamId(0), StreamId(2)], choice)
    }

    /// The same, or, rarely, one that the peer must not speak of.
    fn any_stream(&self, choice: u8) -> StreamId {
        match choice {
            0xfe => StreamId(7),
            0xff => StreamId(4),
            _ => self.stream(choice),
        }
    }

    /// An offset near one that matters.
    fn offset(&self, id: StreamId, choices: &mut Choices<'_>) -> u64 {
        let (place, delta) = (choices.byte(), choices.byte() as i8);
        let near = |offset: u64| offset.saturating_add_signed(delta.into());
        let Some(half) = self.halves.get(&id) else { return 0 };
        match place % 8 {
            0 | 1 => near(half.came.prefix()),
            2 | 3 => near(half.highest),
            4 => near(half.limit),
            5 if place == 0xfd => near(MAX_STREAM_SIZE),
            _ => u64::from(place >> 3) << 8 | u64::from(delta as u8),
        }
    }

    /// A record of one to four Stream frames on one of the TCP connections.
    fn send_data(&mut self, argument: u8, choices: &mut Choices<'_>) -> ControlFlow<()> {
        let (tcp, count) = (self.tcp(argument), 1 + usize::from(argument >> 3));
        let mut frames = Vec::new();
        for _ in 0..count {
            let id = self.any_stream(choices.byte());
            let offset = self.offset(id, choices).min(MAX_STREAM_SIZE);
            let len = choices.pair();
            let end = (offset + u64::from(len & 0x0fff).min((MAX_CONTENT / count) as u64)).min(MAX_STREAM_SIZE);
            frames.push((id, offset..end, len >> 13 == 7));
        }
        let data: Vec<Vec<u8>> = frames.iter().map(|(id, range, _)| pattern(*id, range.clone())).collect();
        let on_wire: Vec<Frame<'_>> = (frames.iter().zip(&data))
            .map(|((id, range, fin), data)| Stream { id: *id, offset: range.start, fin: *fin, data }.into())
            .collect();
        let broken = frames.iter().rev().map(|(id, range, fin)| self.take(*id, range.clone(), *fin));
        let broken = broken.into_iter().find(|broken| !broken.is_empty()).unwrap_or_default();
        self.peer.send(tcp, &on_wire);
        self.judge(&broken)
    }

    fn send_reset(&mut self, argument: u8, choices: &mut Choices<'_>) -> ControlFlow<()> {
        let id = self.any_stream(choices.byte());
        let (final_size, error) = (self.offset(id, choices), ErrorCode(7));
        let broken = self.take_reset(id, final_size, error);
        let tcp = self.tcp(argument);
        self.peer.send(tcp, &[ResetStream { id, error, final_size }.into()]);
        self.judge(&broken)
    }

    /// The session is over if a rule was broken, and only then.
    fn judge(&mut self, broken: &[Violation]) -> ControlFlow<()> {
        match self.peer.conn.close_reason() {
            None => assert!(broken.is_empty(), "{broken:?} went unnoticed"),
            Some(CloseReason::Violation(rule)) => assert!(broken.contains(rule), "{rule:?}, and not {broken:?}"),
            Some(reason) => panic!("closed: {reason}"),
        }
        if broken.is_empty() {
            return ControlFlow::Continue(());
        }
        self.peer.check_closed();
        assert_eq!(self.peer.conn.stats().bytes_to_read, 0);
        ControlFlow::Break(())
    }

    /// Which rules a Stream frame breaks; if none, it counts from now on.
    fn take(&mut self, id: StreamId, range: Range<u64>, fin: bool) -> Vec<Violation> {
        let mut broken = self.count(id, range.end, fin);
        let max_gaps = self.max_gaps;
        if let Some(half) = self.halves.get_mut(&id).filter(|half| half.fate == Fate::Open && !half.over) {
            half.came.insert(range);
            if half.came.gaps() > max_gaps {
                broken.push(Violation::TooManyGaps(id.0));
            }
        }
        broken
    }

    /// The same for a Reset Stream frame.
    fn take_reset(&mut self, id: StreamId, final_size: u64, error: ErrorCode) -> Vec<Violation> {
        let complete = self.halves.get(&id).is_some_and(Half::is_complete);
        let broken = self.count(id, final_size, true);
        if let Some(half) = self.halves.get_mut(&id).filter(|half| half.fate == Fate::Open && !complete) {
            half.fate = Fate::Reset(error);
        }
        broken
    }

    /// Checks that both have in common: the stream exists, its end does not change, limits are respected.
    fn count(&mut self, id: StreamId, end: u64, is_final: bool) -> Vec<Violation> {
        let sent: u64 = self.halves.values().map(|half| half.highest).sum();
        let Some(half) = self.halves.get_mut(&id) else {
            return vec![Violation::TooManyStreams(id.0), Violation::StreamOfWrongSide(id.0)];
        };
        let mut broken = Vec::new();
        if end > MAX_STREAM_SIZE {
            broken.push(Violation::OffsetTooLarge(id.0));
        }
        let past = half.final_size.is_some_and(|size| end > size || is_final && end != size);
        if past || is_final && end < half.highest {
            broken.push(Violation::FinalSize(id.0));
        }
        let more = end.saturating_sub(half.highest);
        if half.highest + more > half.limit || sent + more > self.limit {
            broken.push(Violation::FlowControl);
        }
        if broken.is_empty() {
            half.highest += more;
            half.final_size = half.final_size.or(is_final.then_some(end));
        }
        broken
    }

    /// Reads up to `max` bytes, or until there are no more.
    fn read(&mut self, id: StreamId, max: usize) {
        let Some(half) = self.halves.get_mut(&id) else { return };
        let mut left = max;
        while left > 0 {
            match self.peer.conn.stream(id).read(left) {
                Ok(Some(data)) => {
                    assert!(!data.is_empty() && data.len() <= left && half.fate == Fate::Open);
                    let range = half.read..half.read + data.len() as u64;
                    assert!(range.end <= half.came.prefix(), "{id}: {range:?} was read, and has not come");
                    assert!(data == pattern(id, range.clone()), "{id}: {range:?} is not what was sent");
                    (half.read, left) = (range.end, left - data.len());
                }
                Ok(None) => {
                    assert!(half.fate == Fate::Open && half.final_size == Some(half.read), "{id} ends early: {half:?}");
                    half.over = true;
                    return;
                }
                Err(ReadError::Blocked) => {
                    assert!(!half.is_readable(), "{id} has more: {half:?}");
                    half.told = false;
                    return;
                }
                Err(error) => {
                    let expected = match half.fate {
                        Fate::Reset(code) => ReadError::Reset(code),
                        _ => ReadError::Stopped,
                    };
                    assert!(error == expected && half.fate != Fate::Open, "{id}: {error}, {half:?}");
                    half.over = true;
                    return;
                }
            }
        }
    }

    fn stop(&mut self, id: StreamId) {
        let Some(half) = self.halves.get_mut(&id) else { return };
        let stopped = self.peer.conn.stream(id).stop(ErrorCode(9));
        let may = !half.over && half.fate != Fate::Stopped;
        assert_eq!(stopped.is_ok(), may, "{id}: {half:?}");
        if may && half.fate == Fate::Open {
            half.fate = Fate::Stopped;
        }
        half.over = true;
    }

    fn acknowledge(&mut self) {
        for (tcp, count) in &self.records {
            self.peer.send(*tcp, &[Frame::Ack(Ack { tcp: *tcp, highest: RecordSeq(count - 1) })]);
        }
    }

    /// No TCP connection stalls or is lost here: all is acknowledged first.
    fn pass(&mut self, time: Duration) {
        self.acknowledge();
        self.peer.now += time;
        let now = self.peer.now;
        self.peer.conn.handle_timeout(now);
    }

    /// A TCP connection is lost, and with it what the client said there; another takes its place.
    fn cut(&mut self, choice: u8) {
        let tcp = self.tcp(choice);
        self.peer.join();
        let now = self.peer.now;
        self.peer.conn.handle_tcp_end(now, tcp, TcpEnd::Reset);
        self.records.remove(&tcp);
    }

    /// Takes the client's events, and its credit for the peer.
    fn hear(&mut self) {
        for event in self.peer.events() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.halves.get_mut(&id).expect("it is one of these").told = true;
                }
                Event::Closed { reason } => panic!("closed: {reason}"),
                _ => {}
            }
        }
        for tcp in self.peer.live() {
            for record in self.peer.receive(tcp, ROOM) {
                *self.records.entry(tcp).or_default() += 1;
                record.frames().into_iter().for_each(|frame| self.take_credit(&frame));
            }
        }
    }

    /// A limit never falls, and is never further from what was consumed than the largest window.
    fn take_credit(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::MaxData(max) => {
                let consumed: u64 = self.halves.values().map(Half::consumed).sum();
                assert!(max.maximum >= self.limit && max.maximum <= consumed + self.session_window.end);
                self.limit = max.maximum;
            }
            Frame::MaxStreamData(max) => {
                let half = self.halves.get_mut(&max.id).expect("it is one of these");
                assert!(max.maximum >= half.limit && max.maximum <= half.read + self.stream_window.end);
                half.limit = max.maximum;
            }
            _ => {}
        }
    }

    fn check(&self) {
        let (mut held, mut consumed) = (0, 0);
        for (id, half) in &self.halves {
            assert!(half.told || half.over || !half.is_readable(), "{id}: no event reported {half:?}");
            let takes_data = half.fate == Fate::Open && half.final_size.is_none();
            let open = half.limit - half.consumed().min(half.limit);
            assert!(!takes_data || open > self.stream_window.start / 2, "{id}: the window does not open: {half:?}");
            held += half.held();
            consumed += half.consumed();
        }
        assert!(self.limit - consumed > self.session_window.start / 2, "the session's window does not open");
        let memory = self.peer.conn.stats().bytes_to_read as u64;
        let pieces = (self.max_gaps + 2) * self.halves.len();
        assert!(memory >= held && memory <= held + held / 4 + PIECE * pieces as u64, "{memory} bytes for {held}");
        assert!(held <= self.session_window.end);
    }
}

impl Half {
    fn new(limit: u64) -> Self {
        let (came, fate) = (Ranges::default(), Fate::Open);
        Self { came, highest: 0, limit, read: 0, final_size: None, fate, over: false, told: false }
    }
}
