//! The fast transport: TCP connections as pairs of byte pipes over links with a rate, a delay and a queue. There are no
//! segments and no congestion control: a sender fills the queue like TCP under load, and after a black hole bytes flow
//! again when TCP would retransmit.

mod arrival;
mod faults;
mod flow;
mod link;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tcpls_core::connection::TcpInfo;
use tcpls_core::{OptionOutcome, Side, TcpEnd, Time};

use self::flow::{Fin, Flow};
use self::link::{Link, Piece};
use super::middleboxes::Middleboxes;
use super::{DOWN, Network, Opening, Ready, SocketId, UP};
use crate::net::TcpOption;
use crate::sim::event_queue::EventQueue;
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::{Fault, Middlebox, Path};

/// Bytes in a segment.
const SEGMENT: usize = 1448;
/// TCP's retransmission timeout of a SYN.
const SYN_RTO: Duration = Duration::from_secs(1);

/// See the module's description.
pub(crate) struct Pipes {
    events: EventQueue<PipeEvent>,
    paths: Vec<PathState>,
    /// By number of the socket.
    pipes: BTreeMap<u64, Pipe>,
    opened: u64,
    backlog: VecDeque<(SocketId, usize)>,
    /// The sockets for which something changed, at each end.
    ready: [BTreeSet<SocketId>; 2],
    rng: SimRng,
    /// The effects of middleboxes on TCP connections.
    killed: Vec<String>,
}

struct PathState {
    links: [Link; 2],
    /// As the scenario has it.
    usual: [(Option<u64>, Duration); 2],
    refuses: bool,
    /// New TCP connections are accepted and closed, and the server does not see them.
    turns_away: bool,
    middleboxes: Vec<Middlebox>,
}

struct Pipe {
    path: usize,
    opening: Opening,
    accepted: bool,
    flows: [Flow; 2],
    /// Ends that were closed: the client's, the server's.
    closed: [bool; 2],
    /// When each end last received anything from the other.
    heard: [Time; 2],
    middleboxes: Middleboxes,
}

enum PipeEvent {
    LinkFree {
        path: usize,
        way: usize,
    },
    Arrive {
        pipe: u64,
        way: usize,
        bytes: Bytes,
        sent: Time,
    },
    End {
        pipe: u64,
        way: usize,
        how: TcpEnd,
    },
    Syn {
        pipe: u64,
        attempt: u32,
    },
    SynArrives {
        pipe: u64,
    },
    Answer {
        pipe: u64,
        opening: Opening,
    },
    /// TCP tries again.
    Retry {
        pipe: u64,
        way: usize,
    },
    /// A box has held bytes for long enough.
    Release {
        pipe: u64,
        way: usize,
    },
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => UP,
        Side::Server => DOWN,
    }
}

/// The direction that `side` writes to; the other one is read.
fn way_from(side: Side) -> usize {
    index(side)
}

impl Pipes {
    pub(crate) fn new(paths: &[Path], seed: u64) -> Self {
        let state = |path: &Path| {
            let links = [Link::new(path, path.up_rate.or(path.rate)), Link::new(path, path.rate)];
            let usual = [(links[0].rate, links[0].delay), (links[1].rate, links[1].delay)];
            PathState { links, usual, refuses: false, turns_away: false, middleboxes: path.middleboxes.clone() }
        };
        Self {
            events: EventQueue::default(),
            paths: paths.iter().map(state).collect(),
            pipes: BTreeMap::new(),
            opened: 0,
            backlog: VecDeque::new(),
            ready: [BTreeSet::new(), BTreeSet::new()],
            rng: SimRng::new(seed, Purpose::Network),
            killed: Vec::new(),
        }
    }

    fn handle(&mut self, now: Time, event: PipeEvent) {
        match event {
            PipeEvent::LinkFree { path, way } => {
                let link = &mut self.paths[path].links[way];
                link.busy_until = link.busy_until.filter(|until| *until > now);
                self.pump(now, path, way);
            }
            PipeEvent::Arrive { pipe, way, bytes, sent } => self.arrive(now, pipe, way, &bytes, sent),
            PipeEvent::End { pipe, way, how } => self.arrive_end(now, pipe, way, how),
            PipeEvent::Syn { pipe, attempt } => self.syn(now, pipe, attempt),
            PipeEvent::SynArrives { pipe } => self.syn_arrives(now, pipe),
            PipeEvent::Answer { pipe, opening } => {
                if let Some(entry) = self.pipes.get_mut(&pipe).filter(|entry| entry.opening == Opening::Waiting) {
                    entry.opening = opening;
                    entry.heard[UP] = now;
                    self.ready[UP].insert(SocketId(pipe));
                    self.kick(now, pipe, UP);
                }
            }
            PipeEvent::Retry { pipe, way } => self.retry(now, pipe, way),
            PipeEvent::Release { pipe, way } => self.deliver(now, pipe, way, &[], false),
        }
    }

    // Opening.

    /// Sends a SYN, and retransmits it without an answer.
    fn syn(&mut self, now: Time, pipe: u64, attempt: u32) {
        let Some(entry) = self.pipes.get(&pipe).filter(|entry| entry.opening == Opening::Waiting) else { return };
        if entry.closed[UP] {
            return;
        }
        let link = &self.paths[entry.path].links[UP];
        if !link.dark && !entry.flows[UP].clogged {
            self.events.schedule(now + link.transit(), PipeEvent::SynArrives { pipe });
        }
        self.events.schedule(now + SYN_RTO * (1 << attempt.min(6)), PipeEvent::Syn { pipe, attempt: attempt + 1 });
    }

    fn syn_arrives(&mut self, now: Time, pipe: u64) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let path = &self.paths[entry.path];
        let opening = if path.refuses { Opening::Failed } else { Opening::Connected };
        let is_turned_away = !path.refuses && !entry.accepted && (path.turns_away || entry.closed[DOWN]);
        if is_turned_away {
            entry.closed[DOWN] = true;
        } else if !path.refuses && !std::mem::replace(&mut entry.accepted, true) {
            self.backlog.push_back((SocketId(pipe), entry.path));
            entry.heard[DOWN] = now;
            let rtt = path.links[UP].delay + path.links[DOWN].delay;
            entry.flows.iter_mut().for_each(|flow| flow.measure(rtt));
            self.ready[DOWN].insert(SocketId(pipe));
        }
        let link = &path.links[DOWN];
        if !link.dark && !entry.flows[DOWN].clogged {
            self.events.schedule(now + link.transit(), PipeEvent::Answer { pipe, opening });
            if is_turned_away {
                self.events.schedule(now + link.transit(), PipeEvent::End { pipe, way: DOWN, how: TcpEnd::Fin });
            }
        }
    }

    // Bytes.

    /// A pipe may have something to send.
    fn kick(&mut self, now: Time, pipe: u64, way: usize) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let opened = if way == UP { entry.opening == Opening::Connected } else { entry.accepted };
        let (path, flow) = (entry.path, &mut entry.flows[way]);
        if opened && flow.has_work() && !flow.waiting {
            flow.waiting = true;
            self.paths[path].links[way].waiting.push_back(pipe);
        }
        self.pump(now, path, way);
    }

    /// Fills a link's queue and keeps the link busy.
    fn pump(&mut self, now: Time, path: usize, way: usize) {
        loop {
            self.fill(now, path, way);
            let link = &mut self.paths[path].links[way];
            if link.busy_until.is_some_and(|until| until > now) {
                return;
            }
            let Some(piece) = link.take() else { return };
            self.depart(now, path, way, piece);
        }
    }

    fn fill(&mut self, now: Time, path: usize, way: usize) {
        let link = &mut self.paths[path].links[way];
        while link.has_room() {
            let Some(pipe) = link.waiting.pop_front() else { return };
            let Some(entry) = self.pipes.get_mut(&pipe) else { continue };
            let flow = &mut entry.flows[way];
            flow.waiting = false;
            if link.dark || flow.is_blocked() {
                flow.stuck_since.get_or_insert(now);
                continue;
            }
            if flow.is_empty() {
                if flow.fin == Fin::Wanted {
                    flow.fin = Fin::Sent;
                    let at = flow.last_arrival.max(now + link.transit());
                    self.events.schedule(at, PipeEvent::End { pipe, way, how: TcpEnd::Fin });
                }
                continue;
            }
            let most = if link.shreds {
                let order = self.rng.below(14);
                self.rng.between(1, 1 << order) as usize
            } else {
                link.piece()
            };
            let len = flow.admit(most);
            if len > 0 {
                link.put(Piece { pipe, len, sent: now });
                if flow.has_work() {
                    flow.waiting = true;
                    link.waiting.push_back(pipe);
                }
                if flow.became_writable() {
                    self.ready[way].insert(SocketId(pipe));
                }
            }
        }
    }

    /// A piece leaves the queue and will arrive.
    fn depart(&mut self, now: Time, path: usize, way: usize, piece: Piece) {
        let Piece { pipe, len, .. } = piece;
        let link = &mut self.paths[path].links[way];
        let sent = now + link.time_for(len);
        if sent > now {
            link.busy_until = Some(sent);
            self.events.schedule(sent, PipeEvent::LinkFree { path, way });
        }
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let flow = &mut entry.flows[way];
        let mut bytes = flow.depart(len);
        if link.corrupts > 0 {
            link.corrupts -= 1;
            let at = self.rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << self.rng.below(8);
        }
        let jitter = Duration::from_nanos(self.rng.below(link.jitter.as_nanos() as u64 + 1));
        // TCP delivers in order.
        flow.last_arrival = flow.last_arrival.max(sent + link.delay + jitter);
        self.events
            .schedule(flow.last_arrival, PipeEvent::Arrive { pipe, way, bytes: bytes.freeze(), sent: piece.sent });
        if flow.is_empty() && flow.fin == Fin::Wanted && !flow.waiting {
            flow.waiting = true;
            link.waiting.push_back(pipe);
        }
    }

    /// Both ends are closed and have sent all bytes.
    fn forget_if_over(&mut self, pipe: u64) {
        let over = |entry: &Pipe| entry.closed == [true; 2] && entry.flows.iter().all(|flow| !flow.has_work());
        if self.pipes.get(&pipe).is_some_and(over) {
            self.drop_pipe(pipe);
        }
    }

    fn drop_pipe(&mut self, pipe: u64) {
        let Some(entry) = self.pipes.remove(&pipe) else { return };
        for way in [UP, DOWN] {
            self.paths[entry.path].links[way].remove(pipe);
        }
    }
}

impl Network for Pipes {
    fn next(&self) -> Option<Time> {
        self.events.next()
    }

    fn advance(&mut self, now: Time) {
        while let Some(event) = self.events.pop_due(now) {
            self.handle(now, event);
        }
    }

    fn take_ready(&mut self, side: Side) -> Ready {
        Ready::Sockets(std::mem::take(&mut self.ready[index(side)]))
    }

    fn connect(&mut self, now: Time, path: usize) -> SocketId {
        let pipe = self.opened;
        self.opened += 1;
        let entry = Pipe {
            path,
            opening: Opening::Waiting,
            accepted: false,
            flows: [Flow::default(), Flow::default()],
            closed: [false; 2],
            heard: [now; 2],
            middleboxes: Middleboxes::new(&self.paths[path].middleboxes),
        };
        self.pipes.insert(pipe, entry);
        self.syn(now, pipe, 0);
        SocketId(pipe)
    }

    fn opening(&self, socket: SocketId) -> Opening {
        self.pipes.get(&socket.0).map_or(Opening::Failed, |entry| entry.opening)
    }

    fn accept(&mut self) -> Option<(SocketId, usize)> {
        self.backlog.pop_front()
    }

    fn read(&mut self, now: Time, side: Side, socket: SocketId, into: &mut BytesMut) -> usize {
        let way = 1 - way_from(side);
        let Some(entry) = self.pipes.get_mut(&socket.0) else { return 0 };
        let (len, opens) = entry.flows[way].read(into);
        if opens {
            self.kick(now, socket.0, way);
        }
        len
    }

    fn end(&self, side: Side, socket: SocketId) -> Option<TcpEnd> {
        match self.pipes.get(&socket.0) {
            Some(entry) => entry.flows[1 - way_from(side)].end_to_read(),
            None => Some(TcpEnd::Reset),
        }
    }

    fn is_writable(&self, side: Side, socket: SocketId) -> bool {
        self.pipes.get(&socket.0).is_some_and(|entry| entry.flows[way_from(side)].is_writable())
    }

    fn write(&mut self, now: Time, side: Side, socket: SocketId, bytes: &[u8]) {
        let way = way_from(side);
        if let Some(entry) = self.pipes.get_mut(&socket.0) {
            entry.flows[way].write(bytes);
            self.kick(now, socket.0, way);
        }
    }

    fn set_unsent_limit(&mut self, side: Side, socket: SocketId, bytes: usize) {
        if let Some(entry) = self.pipes.get_mut(&socket.0) {
            entry.flows[way_from(side)].limit = bytes.max(1);
        }
    }

    /// Pipes deliver what they are given, and have no options.
    fn set_option(&mut self, _side: Side, _socket: SocketId, _option: &TcpOption) -> OptionOutcome {
        OptionOutcome::Unknown
    }

    fn tcp_info(&mut self, now: Time, side: Side, socket: SocketId) -> Option<TcpInfo> {
        let entry = self.pipes.get_mut(&socket.0)?;
        let flow = &mut entry.flows[way_from(side)];
        let heard = &mut entry.heard[index(side)];
        *heard = flow.take_acks(now).map_or(*heard, |at| at.max(*heard));
        let unacked = flow.outstanding().div_ceil(SEGMENT) as u32;
        let rtt = flow.smoothed_rtt;
        Some(TcpInfo::default().with(|info| {
            info.heard = *heard;
            info.unacked = unacked;
            info.rtt = rtt;
            info.min_rtt = flow.min_rtt.min(rtt);
            info.acked = flow.acked;
        }))
    }

    fn close(&mut self, now: Time, side: Side, socket: SocketId) {
        let way = way_from(side);
        let Some(entry) = self.pipes.get_mut(&socket.0) else { return };
        entry.closed[index(side)] = true;
        entry.flows[1 - way].inbox = BytesMut::new();
        if entry.flows[way].fin == Fin::None {
            entry.flows[way].fin = Fin::Wanted;
        }
        self.kick(now, socket.0, way);
        self.kick(now, socket.0, 1 - way);
        self.forget_if_over(socket.0);
    }

    fn reset(&mut self, now: Time, side: Side, socket: SocketId) {
        let way = way_from(side);
        let Some(entry) = self.pipes.get_mut(&socket.0) else { return };
        entry.closed[index(side)] = true;
        let link = &self.paths[entry.path].links[way];
        if !link.dark && !entry.flows[way].clogged {
            let at = now + link.transit();
            self.events.schedule(at, PipeEvent::End { pipe: socket.0, way, how: TcpEnd::Reset });
        }
        self.cut(socket.0, [false; 2], TcpEnd::Reset);
    }

    fn take_killed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.killed)
    }

    fn fault(&mut self, now: Time, path: usize, fault: &Fault, over: bool) {
        self.disturb(now, path, fault, over);
    }
}
