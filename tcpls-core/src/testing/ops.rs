//! Operations and faults in any order on a [`Pair`], and what must come of them.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::bytes;
use super::pair::{Pair, Setup};
use crate::connection::schedule::{ActiveStandby, Aggregate, LowestRtt, Redundant, RoundRobin, Scheduler};
use crate::connection::{SendProgress, State, TcpInfo};
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::Side::{self, Client, Server};
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, StreamId};

/// One thing that happens to a [`Model`]: a call of an application, or a fault of a path.
///
/// `tcp`, `stream` and `host` are numbers that pick from what is there at the time; an operation that finds nothing to pick
/// does nothing. `side` is the end that acts, `to` the end that the bytes are under way to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are explained once for all variants")]
pub enum Op {
    /// At most `bytes` bytes of a TCP connection arrive.
    Deliver { tcp: u8, to: Side, bytes: u16 },
    /// The application of an end acts, and the end fills its sockets.
    Step(Side),
    /// A TCP connection is reset.
    Cut { tcp: u8 },
    /// A path holds back all bytes.
    Stall { tcp: u8 },
    /// A path holds back the bytes of one direction.
    HalfStall { tcp: u8, to: Side },
    /// The stall of a path ends.
    Unstall { tcp: u8 },
    /// A bit of what is under way flips.
    Corrupt { tcp: u8, to: Side },
    /// TCP reports when it heard from its peer, in milliseconds ago, and how many segments are not acknowledged.
    TcpInfo { side: Side, tcp: u8, age: u16, unacked: u8 },
    /// The client opens a TCP connection, with data in its first flight or without.
    Join { zero_rtt: bool },
    /// An end opens a stream.
    Open(Side),
    /// An end writes `len` bytes.
    Write { side: Side, stream: u8, len: u16 },
    /// The application of an end reads on its own from now on, or only by [`Op::Read`].
    Reads { side: Side, reads: bool },
    /// An end reads at most `len` bytes.
    Read { side: Side, stream: u8, len: u16 },
    /// An end finishes a stream.
    Finish { side: Side, stream: u8 },
    /// An end resets a stream that it writes.
    Reset { side: Side, stream: u8 },
    /// An end stops a stream that it reads.
    Stop { side: Side, stream: u8 },
    /// An end leaves a TCP connection.
    Retire { side: Side, tcp: u8 },
    /// An end makes a TCP connection a backup, or no longer.
    Backup { side: Side, tcp: u8, backup: bool },
    /// An end ties a stream to a TCP connection.
    Attach { side: Side, stream: u8, tcp: u8 },
    /// An end unties a stream from a TCP connection.
    Detach { side: Side, stream: u8, tcp: u8 },
    /// An end renews its sending keys.
    UpdateKeys(Side),
    /// An end asks for a sign of life.
    Ping { side: Side, tcp: u8 },
    /// An end advertises an address.
    Advertise { side: Side, host: u8 },
    /// An end withdraws an address.
    Withdraw(Side),
    /// An end learns between which addresses a TCP connection runs.
    Addressed { side: Side, tcp: u8, host: u8 },
    /// An end changes the priority of a stream.
    Priority { side: Side, stream: u8, priority: i8 },
    /// An end changes its scheduler: 0 to 4 are [`Aggregate`], [`LowestRtt`], [`RoundRobin`], [`Redundant`] and
    /// [`ActiveStandby`].
    Schedule { side: Side, policy: u8 },
    /// An end sends a TCP option.
    Option(Side),
    /// An end asks the other to set an option of a TCP connection; that one applies it.
    AskOption { side: Side, tcp: u8 },
    /// Sockets take 256 + `bytes` bytes from now on.
    Squeeze { bytes: u16 },
    /// Time passes.
    Wait { millis: u16 },
    /// An end drains the session, with a limit of an hour.
    Drain(Side),
    /// An end closes the session.
    Close { side: Side, error: u8 },
}

/// How the writer of a stream left it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Finished,
    Reset,
}

/// The data that one endpoint wrote on one stream.
struct Written {
    bytes: Vec<u8>,
    fate: Fate,
}

/// A pair, and what must come of the operations on it.
///
/// What arrives is always an exact prefix of what was written; once the faults are over, everything arrives; no byte is
/// sent again without a reason.
pub struct Model {
    /// The ends and their TCP connections.
    pub pair: Pair,
    written: BTreeMap<(Side, StreamId), Written>,
    advertised: Vec<(Side, AddressId)>,
    /// The sides that have sent duplicates intentionally.
    redundant: Vec<Side>,
    /// The sides that drain the session.
    drained: Vec<Side>,
    /// The sides that have asked for an option, once for each time.
    asked: Vec<Side>,
    data: Vec<u8>,
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 443))
}

fn scheduler(policy: u8) -> Box<dyn Scheduler> {
    match policy {
        0 => Box::new(Aggregate),
        1 => Box::new(LowestRtt),
        2 => Box::new(RoundRobin),
        3 => Box::new(Redundant),
        _ => Box::new(ActiveStandby),
    }
}

impl Model {
    /// Returns a model whose session is established.
    pub fn new(setup: Setup) -> Self {
        Self {
            pair: setup.established(),
            written: BTreeMap::new(),
            advertised: Vec::new(),
            redundant: Vec::new(),
            drained: Vec::new(),
            asked: Vec::new(),
            data: bytes(1 << 16),
        }
    }

    /// One of the TCP connections that `side` has.
    fn tcp(&mut self, side: Side, number: u8) -> Option<ConnectionId> {
        let live = self.pair.live(side);
        live.get(usize::from(number) % live.len().max(1)).copied()
    }

    /// One that has a socket, so that something can happen to it.
    fn socket(&mut self, number: u8) -> Option<ConnectionId> {
        let tcp = self.tcp(if number.is_multiple_of(2) { Client } else { Server }, number / 2)?;
        self.pair.has_socket(tcp).then_some(tcp)
    }

    /// One of the streams that `side` writes to.
    fn stream(&self, side: Side, number: u8) -> Option<StreamId> {
        let open = |((writer, id), written): (&(Side, StreamId), &Written)| {
            (*writer == side && written.fate == Fate::Open).then_some(*id)
        };
        let open: Vec<StreamId> = self.written.iter().filter_map(open).collect();
        open.get(usize::from(number) % open.len().max(1)).copied()
    }

    /// Applies operations in order, and checks after each that what arrived is what was written.
    pub fn run(&mut self, ops: &[Op]) {
        for op in ops {
            self.apply(op);
            self.check_prefixes();
        }
    }

    /// Applies one operation.
    pub fn apply(&mut self, op: &Op) {
        let now = self.pair.now;
        match *op {
            Op::Deliver { tcp: number, to, bytes } => {
                if let Some(tcp) = self.socket(number) {
                    self.pair.deliver(tcp, to, usize::from(bytes));
                }
            }
            Op::Step(side) => _ = self.pair.step(side),
            Op::Cut { tcp } => self.socket(tcp).into_iter().for_each(|tcp| self.pair.cut(tcp)),
            Op::Stall { tcp } => self.socket(tcp).into_iter().for_each(|tcp| self.pair.stall(tcp)),
            Op::HalfStall { tcp: number, to } => {
                self.socket(number).into_iter().for_each(|tcp| self.pair.stall_towards(tcp, to));
            }
            Op::Corrupt { tcp: number, to } => {
                if let Some(tcp) = self.socket(number).filter(|tcp| self.pair.is_under_way(*tcp, to)) {
                    self.pair.corrupt(tcp, to);
                }
            }
            Op::TcpInfo { side, tcp: number, age, unacked } => self.report_tcp_info(side, number, age, unacked),
            Op::Unstall { tcp } => self.socket(tcp).into_iter().for_each(|tcp| self.pair.unstall(tcp)),
            Op::Join { zero_rtt } => self.join(zero_rtt, 1),
            Op::Open(side) => self.open(side),
            Op::Write { side, stream, len } => self.write(side, stream, usize::from(len)),
            Op::Reads { side, reads } => self.pair.end(side).reads = reads,
            Op::Read { side, stream, len } => self.read(side, stream, usize::from(len)),
            Op::Finish { side, stream } => self.finish(side, stream),
            Op::Reset { side, stream } => self.reset(side, stream),
            Op::Retire { side, tcp: number } => {
                if let Some(tcp) = self.tcp(side, number) {
                    _ = self.pair.conn(side).retire_tcp(now, tcp);
                }
            }
            Op::Backup { side, tcp: number, backup } => {
                if let Some(tcp) = self.tcp(side, number) {
                    _ = self.pair.conn(side).set_backup(tcp, backup);
                }
            }
            Op::Attach { side, stream, tcp: number } => {
                if let (Some(id), Some(tcp)) = (self.stream(side, stream), self.tcp(side, number)) {
                    _ = self.pair.conn(side).stream(id).attach(tcp);
                }
            }
            Op::Detach { side, stream, tcp: number } => {
                if let (Some(id), Some(tcp)) = (self.stream(side, stream), self.tcp(side, number)) {
                    _ = self.pair.conn(side).stream(id).detach(tcp);
                }
            }
            Op::UpdateKeys(side) => self.pair.update_keys(side),
            Op::Ping { side, tcp: number } => {
                if let Some(tcp) = self.tcp(side, number) {
                    _ = self.pair.conn(side).ping(tcp);
                }
            }
            Op::Advertise { side, host } => {
                if let Ok(id) = self.pair.conn(side).advertise(address(host)) {
                    self.advertised.push((side, id));
                }
            }
            Op::Withdraw(side) => {
                if let Some(at) = self.advertised.iter().position(|(owner, _)| *owner == side) {
                    let (_, id) = self.advertised.swap_remove(at);
                    _ = self.pair.conn(side).withdraw(id);
                }
            }
            Op::Addressed { side, tcp: number, host } => {
                if let Some(tcp) = self.tcp(side, number) {
                    let (local, remote) =
                        if side == Server { (Some(address(host)), None) } else { (None, Some(address(host))) };
                    self.pair.conn(side).set_tcp_addresses(tcp, local, remote);
                }
            }
            Op::Priority { side, stream, priority } => {
                if let Some(id) = self.stream(side, stream) {
                    _ = self.pair.conn(side).stream(id).set_priority(priority);
                }
            }
            Op::Stop { side, stream } => self.stop(side, stream),
            Op::Schedule { side, policy } => {
                self.redundant.extend((policy == 3).then_some(side));
                self.pair.conn(side).set_scheduler(scheduler(policy));
            }
            Op::Option(side) => _ = self.pair.conn(side).send_tcp_option(28, &[1, 2]),
            Op::AskOption { side, tcp: number } => self.ask_option(side, number),
            Op::Squeeze { bytes } => self.pair.socket_buffer = 256 + usize::from(bytes),
            Op::Wait { millis } => self.pair.advance(Duration::from_millis(millis.into())),
            Op::Drain(side) => self.drain(side),
            Op::Close { side, error } => self.pair.close(side, error.into(), b"as it happens"),
        }
        self.pair.settle();
    }

    /// Joins, but leaves `reserve` tokens: a client that spends its last one on a path that fails could never come back.
    fn join(&mut self, zero_rtt: bool, reserve: usize) {
        if self.pair.client().tokens() <= reserve || self.is_ending() {
            return;
        }
        if zero_rtt {
            self.pair.open_tcp()
        } else {
            self.pair.open_tcp_slowly()
        };
    }

    fn ask_option(&mut self, side: Side, number: u8) {
        let Some(tcp) = self.tcp(side, number) else { return };
        self.asked.extend(self.pair.conn(side).ask_tcp_option(tcp, 254, b"reno").ok().map(|_| side));
    }

    /// Each request has one answer.
    fn check_answers(&mut self) {
        for side in [Client, Server] {
            let answered = |event: &&Event| matches!(event, Event::TcpOptionAnswered { .. });
            let answers = self.pair.events(side).iter().filter(answered).count();
            let asked = self.asked.iter().filter(|asker| **asker == side).count();
            // A session that is drained may end before.
            let are_all = answers == asked || !self.drained.is_empty() && answers < asked;
            assert!(are_all, "{answers} answers to {asked} requests of {side:?}");
        }
    }

    fn is_ending(&mut self) -> bool {
        matches!(self.pair.client().state(), State::Closing | State::Closed)
    }

    fn open(&mut self, side: Side) {
        if let Ok(id) = self.pair.conn(side).open_stream() {
            let fate = if self.drained.contains(&side.peer()) { Fate::Reset } else { Fate::Open };
            self.written.insert((side, id), Written { bytes: Vec::new(), fate });
        }
    }

    /// Streams that have not reached `side` are reset.
    fn drain(&mut self, side: Side) {
        let (now, conn) = (self.pair.now, self.pair.conn(side));
        conn.drain(now, Duration::from_secs(3600));
        for ((writer, id), written) in &mut self.written {
            if *writer != side && conn.stream(*id).sending() == SendProgress::Unknown {
                written.fate = Fate::Reset;
            }
        }
        self.drained.push(side);
    }

    fn write(&mut self, side: Side, stream: u8, len: usize) {
        let Some(id) = self.stream(side, stream) else { return };
        let from = usize::from(stream) * 7 % 1000;
        let data = &self.data[from..(from + len).min(self.data.len())];
        if data.is_empty() {
            return;
        }
        if let Ok(n) = self.pair.conn(side).stream(id).write(data) {
            let written = self.written.get_mut(&(side, id)).expect("the stream is known");
            written.bytes.extend_from_slice(&data[..n]);
        }
    }

    /// Reads at most `len` bytes of a stream of the peer.
    fn read(&mut self, side: Side, stream: u8, len: usize) {
        if let Some(id) = self.stream(side.peer(), stream) {
            self.pair.end(side).read_at_most(id, len);
        }
    }

    fn report_tcp_info(&mut self, side: Side, number: u8, age: u16, unacked: u8) {
        let Some(tcp) = self.tcp(side, number) else { return };
        let heard = Time::from_nanos(self.pair.now.as_nanos().saturating_sub(u64::from(age) * 1_000_000));
        let rtt = Duration::from_millis(2);
        let info = TcpInfo { heard, unacked: unacked.into(), rtt, min_rtt: rtt, acked: age.into() };
        self.pair.conn(side).handle_tcp_info(tcp, info);
    }

    fn finish(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side, stream) else { return };
        if self.pair.conn(side).stream(id).finish().is_ok() {
            self.written.get_mut(&(side, id)).expect("the stream is known").fate = Fate::Finished;
        }
    }

    fn reset(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side, stream) else { return };
        if self.pair.conn(side).stream(id).reset(ErrorCode(1)).is_ok() {
            self.written.get_mut(&(side, id)).expect("the stream is known").fate = Fate::Reset;
        }
    }

    /// The reader of a stream of the peer stops it; the writer resets it.
    fn stop(&mut self, side: Side, stream: u8) {
        let Some(id) = self.stream(side.peer(), stream) else { return };
        if self.pair.conn(side).stream(id).stop(ErrorCode(2)).is_ok() {
            self.written.get_mut(&(side.peer(), id)).expect("the stream is known").fate = Fate::Reset;
        }
    }

    /// Ends all faults: the ends get a TCP connection that works, and up to 37 s to deliver everything.
    pub fn heal(&mut self) {
        self.pair.heal();
        [Client, Server].into_iter().for_each(|side| self.pair.end(side).reads = true);
        self.pair.drive();
        for _ in 0..3 {
            if self.pair.live(Client).is_empty() {
                self.join(true, 0);
            }
            self.pair.drive_for(Duration::from_secs(12));
        }
    }

    /// Asserts that what was read is a prefix of what was written, and no stream ended early.
    pub fn check_prefixes(&mut self) {
        for ((writer, id), written) in &self.written {
            let inbox = self.pair.end(writer.peer()).inbox(*id);
            assert!(written.bytes.starts_with(&inbox.bytes), "{id} of {writer:?} is not what was written");
            if inbox.end == Some(Ok(())) {
                assert!(
                    written.fate == Fate::Finished && inbox.bytes.len() == written.bytes.len(),
                    "{id} ends too early"
                );
            }
        }
    }

    /// Each byte went out again at most once for each TCP connection that was lost with it.
    fn check_thrift(&mut self) {
        for side in [Client, Server] {
            let stats = self.pair.conn(side).stats();
            let sent: u64 = stats.tcp.iter().map(|tcp| tcp.counters.stream_bytes_sent).sum();
            let again: u64 = stats.tcp.iter().map(|tcp| tcp.counters.requeued_bytes).sum();
            let written = self.written.iter().filter(|((writer, _), _)| *writer == side);
            let written: u64 = written.map(|(_, written)| written.bytes.len() as u64).sum();
            let thrifty = sent <= written + again || self.redundant.contains(&side);
            assert!(thrifty, "{side:?} sent {sent} bytes, {again} of them again, of {written} that were written");
        }
    }

    /// Asserts that everything has arrived and nothing was sent again without a reason; to be called after
    /// [`Model::heal`].
    pub fn check_complete(&mut self) {
        self.check_prefixes();
        self.check_thrift();
        self.check_answers();
        for ((writer, id), written) in &self.written {
            let inbox = self.pair.end(writer.peer()).inbox(*id);
            if written.fate != Fate::Reset {
                assert_eq!(inbox.bytes.len(), written.bytes.len(), "{id} of {writer:?} is not whole");
                assert_eq!(inbox.end, (written.fate == Fate::Finished).then_some(Ok(())), "{id} of {writer:?}");
            }
        }
    }
}
