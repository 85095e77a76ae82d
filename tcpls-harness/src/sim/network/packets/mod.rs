//! The packet transport: real TCP (smoltcp) in packets over links that delay, drop and reorder them. Each end of each
//! path has a stack of its own.

mod faults;
mod link;
mod observer;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::BytesMut;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;
use tcpls_core::connection::TcpInfo;
use tcpls_core::{OptionOutcome, Side, TcpEnd, Time};

use self::link::Link;
use self::observer::{Segment, TcpObserver};
use self::stack::Stack;
use super::link_model::LinkModel;
use super::{DOWN, Network, Opening, Ready, SocketId, UP, addresses};
use crate::net::TcpOption;
use crate::sim::event_queue::EventQueue;
use crate::sim::rng::{Purpose, SimRng};
use crate::sim::scenario::{Direction, Fault, Path};

/// TCP connections that may be opened to a server at the same moment.
const BACKLOG: usize = 8;
/// Where clients connect from: this port and those behind it, a new one for each TCP connection.
const FIRST_PORT: u16 = 20_000;
/// Bytes of headers in a packet.
const HEADERS: usize = 40;
/// Unsent bytes that fit, by default.
const UNSENT_LIMIT: usize = 256 << 10;

/// See the module's description.
pub(crate) struct Packets {
    events: EventQueue<Arrival>,
    paths: Vec<PathState>,
    /// By number of the socket.
    tcps: BTreeMap<u64, Tcp>,
    opened: u64,
    backlog: VecDeque<(SocketId, usize)>,
    ready: [bool; 2],
    rng: SimRng,
}

/// A path: the stacks at its ends, the client's first, and the links between them.
struct PathState {
    ends: [Stack; 2],
    links: [Link; 2],
    usual: [(Option<u64>, std::time::Duration); 2],
    listening: Vec<SocketHandle>,
    port: u16,
    segment: usize,
}

/// A packet that arrives.
struct Arrival {
    path: usize,
    way: usize,
    packet: Vec<u8>,
}

/// One TCP connection.
struct Tcp {
    path: usize,
    opening: Opening,
    ends: [End; 2],
    /// Nothing gets through, by direction.
    clogged: [bool; 2],
}

/// One end of it.
struct End {
    handle: Option<SocketHandle>,
    observer: TcpObserver,
    /// Written, and not in the stack's buffer yet.
    waiting: BytesMut,
    written: u64,
    limit: usize,
    closing: bool,
    /// Something on the path ended it.
    killed: Option<TcpEnd>,
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => UP,
        Side::Server => DOWN,
    }
}

impl Packets {
    pub(crate) fn new(paths: &[Path], seed: u64) -> Self {
        let mut rng = SimRng::new(seed, Purpose::Network);
        let states = paths.iter().enumerate().map(|(number, path)| PathState::new(number, path, &mut rng)).collect();
        Self {
            events: EventQueue::default(),
            paths: states,
            tcps: BTreeMap::new(),
            opened: 0,
            backlog: VecDeque::new(),
            ready: [false; 2],
            rng,
        }
    }

    /// Replaces the link in direction `way` of a path.
    pub(crate) fn set_link_model(&mut self, path: usize, way: Direction, model: Box<dyn LinkModel>, seed: u64) {
        let way = if way == Direction::Up { UP } else { DOWN };
        let random = SimRng::numbered(seed, Purpose::Links, 2 * path + way);
        self.paths[path].links[way].model = Some((model, random));
    }

    /// Lets a stack do what there is to do, and sends its packets on their way. What it receives may make room for more.
    fn poll(&mut self, now: Time, path: usize, end: usize) {
        self.feed(path, end);
        loop {
            let PathState { ends, links, .. } = &mut self.paths[path];
            (ends[end].wire.room, ends[end].wire.held_back) = (links[end].room(now), false);
            ends[end].poll(now);
            for packet in std::mem::take(&mut self.paths[path].ends[end].wire.goes) {
                self.carry(now, path, end, packet);
            }
            if !self.feed(path, end) {
                break;
            }
        }
        let PathState { ends, links, .. } = &mut self.paths[path];
        if ends[end].wire.held_back {
            ends[end].wake = Some(links[end].has_room_at());
        }
        self.look(path, end);
    }

    /// Moves written bytes into the stack's buffers, up to the congestion windows; returns whether any were.
    fn feed(&mut self, path: usize, end: usize) -> bool {
        let mut fed = false;
        for tcp in self.tcps.values_mut().filter(|tcp| tcp.path == path) {
            let entry = &mut tcp.ends[end];
            let Some(handle) = entry.handle else { continue };
            let socket = self.paths[path].ends[end].socket(handle);
            let room = entry.observer.window().saturating_sub(socket.send_queue()).min(entry.waiting.len());
            if socket.may_send() && room > 0 {
                let taken = socket.send_slice(&entry.waiting[..room]).unwrap_or(0);
                _ = entry.waiting.split_to(taken);
                fed |= taken > 0;
            }
            if entry.closing && entry.waiting.is_empty() && socket.may_send() {
                socket.close();
                fed = true;
            }
        }
        fed
    }

    /// A packet leaves end `way` of a path.
    fn carry(&mut self, now: Time, path: usize, way: usize, packet: Vec<u8>) {
        let Some(segment) = Segment::parse(&packet) else { return };
        let port = if way == UP { segment.ports.0 } else { segment.ports.1 };
        let known = self.tcps.get_mut(&u64::from(port.wrapping_sub(FIRST_PORT))).filter(|tcp| tcp.path == path);
        if let Some(tcp) = known {
            tcp.ends[way].observer.note_sent(now, segment);
            if tcp.clogged[way] {
                return;
            }
        }
        if let Some(at) = self.paths[path].links[way].send(now, &packet, &mut self.rng) {
            let packet = self.corrupt(path, way, packet);
            self.events.schedule(at, Arrival { path, way, packet });
        }
    }

    fn arrive(&mut self, now: Time, arrival: Arrival) {
        let Arrival { path, way, packet } = arrival;
        let end = 1 - way;
        if let Some(segment) = Segment::parse(&packet) {
            let port = if way == UP { segment.ports.0 } else { segment.ports.1 };
            let known = self.tcps.get_mut(&u64::from(port.wrapping_sub(FIRST_PORT)));
            known.into_iter().for_each(|tcp| tcp.ends[end].observer.note_heard(now, segment));
        }
        self.paths[path].ends[end].wire.came.push_back(packet);
        self.poll(now, path, end);
    }

    /// What became of sockets; both ends may have something to look at after any packet.
    fn look(&mut self, path: usize, end: usize) {
        self.ready[end] = true;
        if end == DOWN {
            return self.look_at_listeners(path);
        }
        let client = &mut self.paths[path].ends[UP];
        for tcp in self.tcps.values_mut().filter(|tcp| tcp.path == path && tcp.opening == Opening::Waiting) {
            match tcp.ends[UP].handle.map(|handle| client.socket(handle).state()) {
                Some(State::SynSent | State::SynReceived) => {}
                Some(State::Closed) | None => tcp.opening = Opening::Failed,
                Some(_) => tcp.opening = Opening::Connected,
            }
        }
    }

    /// A listening socket with a TCP connection becomes that one's, and another takes its place; also of
    /// one whose handshake will never end.
    fn look_at_listeners(&mut self, path: usize) {
        let path_state = &mut self.paths[path];
        for at in 0..path_state.listening.len() {
            let handle = path_state.listening[at];
            let socket = path_state.ends[DOWN].socket(handle);
            let (remote, established) = (socket.remote_endpoint(), socket.state() == State::Established);
            let Some(number) = remote.map(|remote| u64::from(remote.port.wrapping_sub(FIRST_PORT))) else { continue };
            let Some(tcp) = self.tcps.get_mut(&number) else { continue };
            let is_cut = tcp.clogged == [true; 2];
            if established || is_cut {
                path_state.listening[at] = path_state.ends[DOWN].listen(path_state.port);
            }
            if is_cut {
                path_state.ends[DOWN].sockets.remove(handle);
            } else if established {
                tcp.ends[DOWN].handle = Some(handle);
                self.backlog.push_back((SocketId(number), path));
            }
        }
    }

    fn end_of(&mut self, side: Side, socket: SocketId) -> Option<(usize, &mut End)> {
        let tcp = self.tcps.get_mut(&socket.0)?;
        Some((tcp.path, &mut tcp.ends[index(side)]))
    }
}

impl PathState {
    fn new(number: usize, path: &Path, rng: &mut SimRng) -> Self {
        let at = addresses(number);
        let mtu = path.mtu as usize;
        let client = at.local.expect("paths of a run have both addresses");
        let ends = [client, at.remote].map(|address| Stack::new(address, mtu, rng.below(u64::MAX)));
        let links = [Link::new(path, path.up_rate.or(path.rate)), Link::new(path, path.rate)];
        let usual = [0, 1].map(|way: usize| (links[way].rate, links[way].delay));
        let mut path_state =
            Self { ends, links, usual, listening: Vec::new(), port: at.remote.port(), segment: mtu - HEADERS };
        path_state.listen();
        path_state
    }

    /// Fills the backlog, unless it is there: of two faults that overlap, each ends the path's being down.
    fn listen(&mut self) {
        if self.listening.is_empty() {
            self.listening = (0..BACKLOG).map(|_| self.ends[DOWN].listen(self.port)).collect();
        }
    }
}

impl Network for Packets {
    fn next(&self) -> Option<Time> {
        let stacks = self.paths.iter().flat_map(|path_state| &path_state.ends).filter_map(|stack| stack.wake);
        stacks.chain(self.events.next()).min()
    }

    fn advance(&mut self, now: Time) {
        while let Some(arrival) = self.events.pop_due(now) {
            self.arrive(now, arrival);
        }
        for (path, end) in (0..self.paths.len()).flat_map(|path| [(path, UP), (path, DOWN)]) {
            if self.paths[path].ends[end].wake.is_some_and(|at| at <= now) {
                self.poll(now, path, end);
            }
        }
    }

    fn take_ready(&mut self, side: Side) -> Ready {
        let has_changed = std::mem::take(&mut self.ready[index(side)]);
        if has_changed { Ready::Any } else { Ready::Sockets(BTreeSet::new()) }
    }

    fn connect(&mut self, now: Time, path: usize) -> SocketId {
        let number = self.opened;
        self.opened += 1;
        let at = addresses(path);
        let port = FIRST_PORT.wrapping_add(number as u16);
        let local = SocketAddr::new(at.local.expect("paths of a run have both addresses").ip(), port);
        let handle = self.paths[path].ends[UP].connect(at.remote, local);
        let segment = self.paths[path].segment;
        let end = || End {
            handle: None,
            observer: TcpObserver::new(segment),
            waiting: BytesMut::new(),
            written: 0,
            limit: UNSENT_LIMIT,
            closing: false,
            killed: None,
        };
        let mut ends = [end(), end()];
        ends[UP].handle = Some(handle);
        self.tcps.insert(number, Tcp { path, opening: Opening::Waiting, ends, clogged: [false; 2] });
        self.poll(now, path, UP);
        SocketId(number)
    }

    fn opening(&self, socket: SocketId) -> Opening {
        self.tcps.get(&socket.0).map_or(Opening::Failed, |tcp| tcp.opening)
    }

    fn accept(&mut self) -> Option<(SocketId, usize)> {
        self.backlog.pop_front()
    }

    fn read(&mut self, now: Time, side: Side, socket: SocketId, into: &mut BytesMut) -> usize {
        let Some((path, End { handle: Some(handle), .. })) = self.end_of(side, socket) else { return 0 };
        let handle = *handle;
        let end = index(side);
        let before = into.len();
        let stack = self.paths[path].ends[end].socket(handle);
        while stack.can_recv() {
            let taken = stack.recv(|bytes| {
                into.extend_from_slice(bytes);
                (bytes.len(), ())
            });
            if taken.is_err() {
                break;
            }
        }
        if into.len() > before {
            // The window may have to be announced.
            self.poll(now, path, end);
        }
        into.len() - before
    }

    fn end(&self, side: Side, socket: SocketId) -> Option<TcpEnd> {
        let Some(tcp) = self.tcps.get(&socket.0) else { return Some(TcpEnd::Reset) };
        let end = &tcp.ends[index(side)];
        let Some(handle) = end.handle else { return end.killed };
        let socket = self.paths[tcp.path].ends[index(side)].sockets.get::<smoltcp::socket::tcp::Socket<'_>>(handle);
        match socket.state() {
            _ if socket.can_recv() => None,
            State::Closed => Some(TcpEnd::Reset),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => Some(TcpEnd::Fin),
            _ => None,
        }
    }

    fn is_writable(&self, side: Side, socket: SocketId) -> bool {
        let Some(tcp) = self.tcps.get(&socket.0) else { return false };
        let end = &tcp.ends[index(side)];
        !end.closing && end.written.saturating_sub(end.observer.sent()) < end.limit as u64
    }

    fn write(&mut self, now: Time, side: Side, socket: SocketId, bytes: &[u8]) {
        let Some((path, end)) = self.end_of(side, socket) else { return };
        if end.handle.is_some() && !end.closing && !bytes.is_empty() {
            end.waiting.extend_from_slice(bytes);
            end.written += bytes.len() as u64;
            self.poll(now, path, index(side));
        }
    }

    fn set_unsent_limit(&mut self, side: Side, socket: SocketId, bytes: usize) {
        self.end_of(side, socket).into_iter().for_each(|(_, end)| end.limit = bytes.max(1));
    }

    fn set_option(&mut self, side: Side, socket: SocketId, option: &TcpOption) -> OptionOutcome {
        let Some((path, handle)) = self.end_of(side, socket).and_then(|(path, end)| Some((path, end.handle?))) else {
            return OptionOutcome::Lost;
        };
        let tcp = self.paths[path].ends[index(side)].socket(handle);
        match option {
            TcpOption::UserTimeout(time) => tcp.set_timeout(Some((*time).into())),
            TcpOption::KeepAlive(time) => tcp.set_keep_alive(time.map(Into::into)),
            _ => return OptionOutcome::Unknown,
        }
        OptionOutcome::Applied
    }

    fn tcp_info(&mut self, _now: Time, side: Side, socket: SocketId) -> Option<TcpInfo> {
        self.end_of(side, socket).map(|(_, end)| end.observer.info())
    }

    fn close(&mut self, now: Time, side: Side, socket: SocketId) {
        let Some((path, end)) = self.end_of(side, socket) else { return };
        end.closing = true;
        self.poll(now, path, index(side));
    }

    fn reset(&mut self, now: Time, side: Side, socket: SocketId) {
        let Some((path, end)) = self.end_of(side, socket) else { return };
        (end.closing, end.killed) = (true, Some(TcpEnd::Reset));
        end.waiting.clear();
        let Some(handle) = end.handle.take() else { return };
        let stack = &mut self.paths[path].ends[index(side)];
        stack.socket(handle).abort();
        self.poll(now, path, index(side));
        self.paths[path].ends[index(side)].sockets.remove(handle);
    }

    /// Middleboxes see byte streams: there are none on packets.
    fn take_killed(&mut self) -> Vec<String> {
        Vec::new()
    }

    fn fault(&mut self, _now: Time, path: usize, fault: &Fault, over: bool) {
        self.disturb(path, fault, over);
    }
}
