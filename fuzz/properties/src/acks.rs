//! A client that sends, and a peer that acknowledges any records on any TCP connection, while TCP connections stall,
//! are cut, retired and joined. Properties: acknowledged data is never sent again and not held; other data is
//! reinjected once for each TCP connection that failed; in the end everything is acknowledged.
//!
//! The input is a configuration, then operations. A TCP connection that is cut loses what the peer has not acknowledged.

use core::ops::{ControlFlow, Range};
use core::time::Duration;
use std::collections::BTreeMap;

use tcpls_core::connection::schedule::{Aggregate, LowestRtt, RoundRobin};
use tcpls_core::error::{CloseReason, Violation};
use tcpls_core::wire::frame::{Ack, Frame, MaxData, MaxStreamData, Parameters};
use tcpls_core::wire::ids::RecordSeq;
use tcpls_core::{Config, ConnectionId, ErrorCode, Event, StreamEvent, StreamId, TcpEnd, TcpEvent};

use crate::choices::{Choices, pick};
use crate::model::{Ranges, pattern};
use crate::peer::{Peer, ROOM};
use tcpls_core::testing::peer::Record;

/// The most that is ever written to a stream.
const MAX_WRITTEN: u64 = 1 << 16;
/// TCP connections at once.
const MAX_TCPS: usize = 4;
/// Joins in a run: each takes a token, and a client remembers at least this many used ones.
const MAX_JOINS: u32 = 40;
/// Rounds after which everything must have been acknowledged: with one record under way at a time, each takes one.
const MAX_ROUNDS: usize = 1000;

/// A piece of a stream that was sent.
struct Piece {
    id: StreamId,
    range: Range<u64>,
    fin: bool,
}

/// A record that was sent.
struct Sent {
    pieces: Vec<Piece>,
    /// Bytes on the wire; 0 if it asks for no acknowledgment.
    in_flight: u64,
    acked: bool,
    /// Its TCP connection was lost, or was silent, since it was sent or when it was: it may go out again, once.
    failed: bool,
}

#[derive(Default)]
struct Tcp {
    records: Vec<Sent>,
    stalled: bool,
}

/// One of the client's streams.
#[derive(Default)]
struct Half {
    written: u64,
    finished: bool,
    reset: bool,
    delivered: bool,
    sent: u64,
    acked: Ranges,
    fin_acked: bool,
    limit: u64,
}

struct Run {
    peer: Peer,
    tcps: BTreeMap<ConnectionId, Tcp>,
    halves: BTreeMap<StreamId, Half>,
    limit: u64,
    joins: u32,
    closed: Option<CloseReason>,
}

/// The target `acks`: see above.
pub fn acks(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut run = Run::new(&mut choices);
    while let Some(op) = choices.next() {
        if run.step(op, &mut choices).is_break() {
            return;
        }
        run.hear();
        run.check();
    }
    run.drain();
}

impl Run {
    /// Three streams with small windows and buffers, two TCP connections.
    fn new(choices: &mut Choices<'_>) -> Self {
        let (stream, session) = (u64::from(choices.pair()), u64::from(choices.pair()));
        let parameters = Parameters {
            initial_max_data: session,
            initial_max_stream_data: stream,
            max_streams: 3,
            ..Parameters::default()
        };
        let config = Config::default().with(|config| {
            config.stream_send_buffer = 1 << 14;
            config.send_buffer = 1 << 15;
            config.max_unacknowledged_records = 1 + u32::from(choices.byte());
            config.overhead_budget = 1 << 30;
            config.idle_timeout = None;
            config.session_timeout = Duration::from_secs(1 << 30);
        });
        let mut peer = Peer::new(config, &parameters);
        match choices.byte() % 4 {
            0 => {}
            1 => peer.conn.set_scheduler(Box::new(Aggregate)),
            2 => peer.conn.set_scheduler(Box::new(LowestRtt)),
            _ => peer.conn.set_scheduler(Box::new(RoundRobin)),
        }
        let ids: Vec<StreamId> = (0..3).filter_map(|_| peer.conn.open_stream().ok()).collect();
        let halves = ids.into_iter().map(|id| (id, Half { limit: stream, ..Half::default() })).collect();
        let tcps = BTreeMap::from([(ConnectionId::FIRST, Tcp::default())]);
        let mut run = Self { peer, tcps, halves, limit: session, joins: 0, closed: None };
        run.transmit(ConnectionId::FIRST, 0); // what the client sent behind its handshake
        run.join();
        run.hear();
        run
    }

    fn step(&mut self, op: u8, choices: &mut Choices<'_>) -> ControlFlow<()> {
        let (kind, argument) = (op & 15, op >> 4);
        match kind {
            0 | 1 => self.write(argument, choices.pair()),
            2 => self.end(argument),
            3 | 4 => self.transmit(self.any_tcp(argument), 256 + usize::from(choices.pair() % 20_000)),
            5 => self.tcps.keys().copied().collect::<Vec<_>>().into_iter().for_each(|tcp| self.transmit(tcp, ROOM)),
            6..=8 => return self.acknowledge(argument, choices),
            9 => self.pass(Duration::from_millis(1 << (argument % 8))),
            10 => self.pass(Duration::from_millis(200 + 100 * u64::from(argument))),
            11 => self.cut(argument),
            12 => self.reset(argument),
            13 => self.join(),
            14 => {
                let (now, tcp) = (self.peer.now, self.any_tcp(argument));
                _ = self.peer.conn.retire_tcp(now, tcp);
            }
            _ => self.raise(argument, choices.pair()),
        }
        ControlFlow::Continue(())
    }

    fn any_tcp(&self, choice: u8) -> ConnectionId {
        pick(&self.tcps.keys().copied().collect::<Vec<_>>(), choice)
    }

    fn live(&self, choice: u8) -> Option<ConnectionId> {
        let live = self.peer.live();
        (!live.is_empty()).then(|| pick(&live, choice))
    }

    fn stream(choice: u8) -> StreamId {
        pick(&[StreamId(0), StreamId(2), StreamId(4)], choice)
    }

    fn write(&mut self, choice: u8, len: u16) {
        let id = Self::stream(choice);
        let Some(half) = self.halves.get_mut(&id) else { return };
        let range = half.written..(half.written + u64::from(len)).min(MAX_WRITTEN);
        if let Ok(written) = self.peer.conn.stream(id).write(&pattern(id, range)) {
            half.written += written as u64;
        }
    }

    /// The stream is finished or, rarely, reset.
    fn end(&mut self, choice: u8) {
        let id = Self::stream(choice);
        let Some(half) = self.halves.get_mut(&id) else { return };
        let mut stream = self.peer.conn.stream(id);
        if choice == 15 {
            half.reset |= stream.reset(ErrorCode(1)).is_ok();
        } else {
            half.finished |= stream.finish().is_ok();
        }
    }

    fn transmit(&mut self, tcp: ConnectionId, room: usize) {
        for record in self.peer.receive(tcp, room) {
            self.note(tcp, &record);
        }
    }

    /// A record was sent: what it carries must be due.
    fn note(&mut self, tcp: ConnectionId, record: &Record) {
        let (mut pieces, mut elicits) = (Vec::new(), false);
        for frame in record.frames() {
            elicits |= frame.is_ack_eliciting();
            if let Frame::Stream(stream) = frame {
                let range = stream.offset..stream.offset + stream.data.len() as u64;
                assert!(stream.data == pattern(stream.id, range.clone()), "{}: {range:?} is not as written", stream.id);
                pieces.push(Piece { id: stream.id, range, fin: stream.fin });
            }
        }
        pieces.iter().for_each(|piece| self.check_due(piece));
        let entry = self.tcps.get_mut(&tcp).expect("it is one of these");
        let (in_flight, failed) = (if elicits { record.wire_len() as u64 } else { 0 }, entry.stalled);
        entry.records.push(Sent { pieces, in_flight, acked: false, failed });
    }

    /// It was never sent, or every TCP connection that carried it has failed it.
    fn check_due(&mut self, piece: &Piece) {
        let half = self.halves.get_mut(&piece.id).expect("it is one of these");
        let (range, id) = (&piece.range, piece.id);
        assert!(!half.reset, "{id} was given up, and {range:?} is sent");
        assert!(!half.acked.overlaps(range), "{id}: {range:?} is sent again, though some of it is acknowledged");
        assert!(range.end <= half.written && range.end <= half.limit, "{id}: {range:?} may not be sent");
        assert!(range.start <= half.sent, "{id}: {range:?} leaves something out");
        assert!(!piece.fin || half.finished && range.end == half.written && !half.fin_acked, "{id}: no end is due");
        half.sent = half.sent.max(range.end);
        let all: u64 = self.halves.values().map(|half| half.sent).sum();
        assert!(all <= self.limit, "{all} bytes are more than the session may send");
        let before = self.tcps.values().flat_map(|tcp| &tcp.records).filter(|record| !record.failed);
        for other in before.flat_map(|record| &record.pieces).filter(|other| other.id == id) {
            let again = range.start < other.range.end && other.range.start < range.end || piece.fin && other.fin;
            assert!(!again, "{id}: {range:?} is sent again, and {:?} is under way", other.range);
        }
    }

    /// An ACK about any TCP connection, on any that lives, of any record, mostly of one that was sent.
    fn acknowledge(&mut self, argument: u8, choices: &mut Choices<'_>) -> ControlFlow<()> {
        let Some(on) = self.live(argument) else { return ControlFlow::Continue(()) };
        let (about, which) = (choices.byte(), choices.byte());
        let tcp = if about == 0xff { ConnectionId(1000) } else { self.any_tcp(about) };
        let sent = self.tcps.get(&tcp).map_or(0, |tcp| tcp.records.len() as u64);
        let highest = match which {
            0xff => sent,
            0xfe => u64::MAX,
            _ if sent == 0 => return ControlFlow::Continue(()),
            _ => sent.saturating_sub(1 + u64::from(which % 16)),
        };
        self.peer.send(on, &[Frame::Ack(Ack { tcp, highest: RecordSeq(highest) })]);
        if highest >= sent {
            assert_eq!(
                self.peer.conn.close_reason(),
                Some(&CloseReason::Violation(Violation::AckOfUnsent)),
                "record {highest} of {sent} on {tcp} is acknowledged"
            );
            self.peer.check_closed();
            return ControlFlow::Break(());
        }
        self.take_ack(tcp, highest);
        ControlFlow::Continue(())
    }

    fn take_ack(&mut self, tcp: ConnectionId, highest: u64) {
        let Some(entry) = self.tcps.get_mut(&tcp) else { return };
        for record in entry.records.iter_mut().take(highest as usize + 1) {
            record.acked = true;
            for piece in &record.pieces {
                let half = self.halves.get_mut(&piece.id).expect("it is one of these");
                half.acked.insert(piece.range.clone());
                half.fin_acked |= piece.fin;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.peer.now += time;
        let now = self.peer.now;
        self.peer.conn.handle_timeout(now);
        assert!(self.peer.conn.poll_timeout().is_none_or(|at| at > self.peer.now));
    }

    fn cut(&mut self, choice: u8) {
        if let Some(tcp) = self.live(choice) {
            let now = self.peer.now;
            self.peer.conn.handle_tcp_end(now, tcp, TcpEnd::Reset);
        }
    }

    /// The peer reports that it has lost a TCP connection.
    fn reset(&mut self, choice: u8) {
        let live = self.peer.live();
        if let [on, .., named] = live[..] {
            let (on, named) = if choice & 1 == 0 { (on, named) } else { (named, on) };
            self.peer.reset(on, named);
        }
    }

    fn join(&mut self) {
        if self.peer.live().len() < MAX_TCPS && self.joins < MAX_JOINS {
            self.joins += 1;
            let tcp = self.peer.join();
            self.tcps.insert(tcp, Tcp::default());
        }
    }

    fn raise(&mut self, choice: u8, by: u16) {
        let Some(on) = self.live(choice) else { return };
        let id = Self::stream(choice);
        let half = self.halves.get_mut(&id).expect("it is one of these");
        half.limit += u64::from(by);
        self.limit += u64::from(by);
        let stream = MaxStreamData { id, maximum: half.limit }.into();
        self.peer.send(on, &[stream, MaxData { maximum: self.limit }.into()]);
    }

    fn hear(&mut self) {
        for event in self.peer.events() {
            match event {
                Event::Tcp(TcpEvent::Stalled { tcp }) => self.fail(tcp).stalled = true,
                Event::Tcp(TcpEvent::Resumed { tcp }) => self.fail(tcp).stalled = false,
                Event::Tcp(TcpEvent::Lost { tcp, .. }) => _ = self.fail(tcp),
                Event::Stream(StreamEvent::Delivered { id }) => {
                    self.halves.get_mut(&id).expect("it is one of these").delivered = true;
                }
                Event::Closed { reason } => self.closed = Some(reason),
                _ => {}
            }
        }
    }

    /// Data sent on `tcp` may be reinjected.
    fn fail(&mut self, tcp: ConnectionId) -> &mut Tcp {
        let entry = self.tcps.get_mut(&tcp).expect("it is one of these");
        entry.records.iter_mut().for_each(|record| record.failed = true);
        entry
    }

    /// Checks that held data, and data in flight, is the unacknowledged data.
    fn check(&self) {
        assert_eq!(self.closed, None);
        let stats = self.peer.conn.stats();
        let held = |half: &Half| if half.reset { 0 } else { half.written - half.acked.prefix() };
        assert_eq!(stats.bytes_to_send as u64, self.halves.values().map(held).sum::<u64>(), "bytes held for sending");
        for tcp in &stats.tcp {
            let records = &self.tcps.get(&tcp.tcp).expect("it is one of these").records;
            let in_flight: u64 = records.iter().filter(|record| !record.acked).map(|record| record.in_flight).sum();
            assert_eq!(tcp.bytes_in_flight, in_flight, "bytes in flight on {}", tcp.tcp);
        }
        for (id, half) in &self.halves {
            let all = half.fin_acked && half.acked.prefix() == half.written && !half.reset;
            assert!(half.delivered == all || half.reset, "{id}: Delivered is {}", half.delivered);
        }
    }

    /// From now on the peer behaves correctly: there is a TCP connection, it gives all credit and acknowledges
    /// everything. Soon nothing is left to send.
    fn drain(&mut self) {
        self.joins = 0;
        self.join();
        let on = self.peer.live()[0];
        self.limit = self.limit.max(3 * MAX_WRITTEN);
        self.peer.send(on, &[MaxData { maximum: self.limit }.into()]);
        for (id, half) in &mut self.halves {
            half.limit = half.limit.max(MAX_WRITTEN);
            self.peer.send(on, &[MaxStreamData { id: *id, maximum: half.limit }.into()]);
        }
        self.hear();
        for _ in 0..MAX_ROUNDS {
            self.round();
            if self.is_done() {
                return;
            }
        }
        panic!("after {MAX_ROUNDS} rounds there is still something to send");
    }

    /// Sends everything, acknowledges everything, and lets time pass.
    fn round(&mut self) {
        for tcp in self.peer.live() {
            self.transmit(tcp, ROOM);
            let sent = self.tcps.get(&tcp).map_or(0, |tcp| tcp.records.len() as u64);
            if let Some(highest) = sent.checked_sub(1) {
                self.peer.send(tcp, &[Frame::Ack(Ack { tcp, highest: RecordSeq(highest) })]);
                self.take_ack(tcp, highest);
            }
            self.hear();
            self.check();
        }
        self.pass(Duration::from_millis(50));
        self.hear();
    }

    fn is_done(&self) -> bool {
        let is_done = |half: &Half| half.acked.prefix() == half.written && half.fin_acked == half.finished;
        self.halves.values().all(|half| half.reset || is_done(half))
            && self.peer.live().iter().all(|tcp| !self.peer.conn.wants_write(*tcp))
    }
}
