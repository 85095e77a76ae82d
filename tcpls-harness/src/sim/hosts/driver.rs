//! Drives one endpoint of a session on the network's sockets, with the same steps as the driver of real sockets
//! (`net::task`). The invariants are checked after each step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::connection::schedule;
use tcpls_core::error::AskOptionError;
use tcpls_core::event::{Event, OptionOutcome, StreamEvent, TcpEvent};
use tcpls_core::stats::Stats;
use tcpls_core::testing::Oracle;
use tcpls_core::{AddressId, Connection, ConnectionId, Side, State, TcpEnd, Time};
use tokio::sync::oneshot;

use super::env::{Env, SessionEvent};
use super::setup::Setup;
use crate::dial;
use crate::net::account::reports::Report;
use crate::net::session::{Asker, Input, Opened};
use crate::net::socket::pace::Pace;
use crate::net::tcp_option::{CongestionName, OptionPolicy, Rate, TcpOption};
use crate::sim::applications::handles::Handles;
use crate::sim::network::{Network, SocketId, addresses};
use crate::sim::scenario::Scheduler;
use crate::sim::trace::{Note, Place};
use crate::trace::variant;

/// The limit on unsent data in a socket, and on data sealed for it at once, as for real sockets.
const MAX_BATCH: usize = 256 << 10;
/// The user timeout that an end asks for: longer than those of sessions.
const ASKED_TIMEOUT: Duration = Duration::from_secs(120);
/// The congestion controls that a simulated host offers to every process.
const UNRESTRICTED: &str = "reno";
/// Maximum of turns without progress of time. An endpoint that needs more never comes to rest.
const MAX_TURNS: usize = 10_000;

/// A TCP connection that the application wants to be opened and joined.
pub(crate) struct TcpOrder {
    pub(crate) path: dial::Path,
    pub(crate) answer: oneshot::Sender<Opened>,
}

/// One end of a session with its sockets.
pub(crate) struct Driver {
    pub(crate) conn: Connection,
    /// Where it is, for the trace.
    pub(crate) place: Place,
    sockets: Vec<Socket>,
    pub(crate) oracle: Oracle,
    /// The handshake is complete.
    pub(crate) established: bool,
    /// It was reported before its handshake was complete, and is not counted yet.
    pub(crate) has_early_data: bool,
    /// TCP connections that were lost unintentionally.
    pub(crate) lost: usize,
    /// Whose applications use this session, if any do: the client's number.
    pub(crate) serves: Option<usize>,
    /// The session's events, for the host.
    pub(crate) events: Vec<Event>,
    /// As this end's configuration has it.
    pub(crate) spare_tokens: usize,
    /// When a TCP connection was last attached, or an event reported about one.
    pub(crate) disturbed: Time,
    /// When the session was over.
    pub(crate) closed_at: Option<Time>,
    /// When a session that this end drains must close at the latest, and when it began to close.
    pub(crate) drained_by: Option<Time>,
    pub(crate) closing_at: Option<Time>,
    /// How often the peer has asked for options.
    option_rate: Rate,
    /// How many requests of this end's have no answer yet, those that wait included.
    pub(crate) unanswered: usize,
    /// Requests beyond those that the peer takes at once: they are sent when others are answered.
    unasked: VecDeque<(ConnectionId, TcpOption)>,
    /// What this end has advertised, by path.
    advertised: BTreeMap<usize, AddressId>,
    /// The counters before the session closed, which clears them.
    stats_before_close: Option<Stats>,
    accepting: bool,
    /// The handles of the session's application, if it has one beside the scenario's transfers.
    pub(crate) handles: Option<Handles>,
    /// Events that occurred while the application had its turn.
    observed: VecDeque<Event>,
}

struct Socket {
    tcp: ConnectionId,
    id: SocketId,
    path: usize,
    input: BytesMut,
    pace: Pace,
    was_full: bool,
    end_reported: bool,
}

impl Driver {
    pub(crate) fn new(env: &Env, place: Place, mut conn: Connection, setup: &Setup) -> Self {
        setup.apply(&mut conn);
        conn.set_trace(env.trace.sink(place));
        Self {
            conn,
            place,
            sockets: Vec::new(),
            oracle: Oracle::new(&setup.config),
            established: false,
            has_early_data: false,
            lost: 0,
            serves: None,
            events: Vec::new(),
            spare_tokens: setup.config.spare_tokens as usize,
            disturbed: Time::ZERO,
            closed_at: None,
            drained_by: None,
            closing_at: None,
            option_rate: Rate::default(),
            unanswered: 0,
            unasked: VecDeque::new(),
            advertised: BTreeMap::new(),
            stats_before_close: None,
            accepting: false,
            handles: None,
            observed: VecDeque::new(),
        }
    }

    /// The session has an application with these handles.
    pub(crate) fn with_handles(mut self, handles: Option<Handles>) -> Self {
        self.handles = handles;
        self
    }

    pub(crate) fn side(&self) -> Side {
        self.conn.side()
    }

    /// From now on `id` carries TCP connection `tcp`; `input` was read from it before.
    pub(crate) fn attach(&mut self, env: &mut Env, tcp: ConnectionId, id: SocketId, path: usize, input: BytesMut) {
        env.trace.set_place(self.place);
        env.trace.note(env.now, &Note::Attached { socket: id.0, tcp: tcp.0 });
        self.disturbed = env.now;
        let pace = Pace::new(MAX_BATCH, env.now);
        env.net.set_unsent_limit(self.side(), id, pace.batch());
        let dial::Path { remote, local, .. } = addresses(path);
        let (own, peer) = if self.side() == Side::Client { (local, Some(remote)) } else { (Some(remote), local) };
        self.conn.set_tcp_addresses(tcp, own, peer);
        self.handles.iter_mut().for_each(|handles| handles.set_addresses(tcp, own, peer));
        self.query_tcp_info(env, tcp, id);
        let mut socket = Socket { tcp, id, path, input, pace, was_full: false, end_reported: false };
        if !socket.input.is_empty() {
            self.conn.handle_bytes(env.now, tcp, &mut socket.input);
        }
        self.sockets.push(socket);
    }

    /// The session's counters: as they were before it closed, or as they are.
    pub(crate) fn stats(&self) -> Stats {
        self.stats_before_close.clone().unwrap_or_else(|| self.conn.stats())
    }

    /// The session is about to close, which clears its counters.
    pub(crate) fn keep_stats(&mut self) {
        self.stats_before_close = Some(self.conn.stats());
    }

    /// The live TCP connections on a path.
    pub(crate) fn on_path(&self, path: usize) -> impl Iterator<Item = ConnectionId> + '_ {
        self.sockets.iter().filter(move |socket| socket.path == path).map(|socket| socket.tcp)
    }

    /// Drains the session.
    pub(crate) fn drain(&mut self, now: Time, limit: Duration) {
        if matches!(self.conn.state(), State::Closing | State::Closed) {
            return;
        }
        self.drained_by = Some(now + limit);
        self.conn.drain(now, limit);
    }

    /// Advertises this end's address on a path.
    pub(crate) fn advertise(&mut self, path: usize) -> Result<(), String> {
        let dial::Path { remote, local, .. } = addresses(path);
        let own = if self.side() == Side::Server { Some(remote) } else { local };
        let id = own.map(|own| self.conn.advertise(own)).transpose().map_err(|error| error.to_string())?;
        self.advertised.extend(id.map(|id| (path, id)));
        Ok(())
    }

    /// Takes that back.
    pub(crate) fn withdraw(&mut self, path: usize) -> Result<(), String> {
        let id = self.advertised.remove(&path).ok_or("it is not advertised")?;
        self.conn.withdraw(id).map_err(|error| error.to_string())
    }

    /// Asks the peer for options of the TCP connections on a path. It takes a round trip until they are answered.
    pub(crate) fn ask_options(&mut self, now: Time, path: usize) -> Result<(), String> {
        self.disturbed = now;
        let reno = CongestionName::new("reno").map(TcpOption::CongestionControl).map_err(|error| error.to_string())?;
        for tcp in self.on_path(path).collect::<Vec<_>>() {
            let options = [TcpOption::UserTimeout(ASKED_TIMEOUT), TcpOption::KeepAlive(None), reno.clone()];
            self.unanswered += options.len();
            self.unasked.extend(options.map(|option| (tcp, option)));
        }
        self.ask_waiting()
    }

    /// Sends what waits, as far as the peer takes it; what can't be asked any more is dropped, with the first error.
    fn ask_waiting(&mut self) -> Result<(), String> {
        let mut outcome = Ok(());
        while let Some((tcp, option)) = self.unasked.front() {
            let (kind, value) = option.encode();
            match self.conn.ask_tcp_option(*tcp, kind, &value) {
                Ok(_) => {}
                Err(AskOptionError::TooMany) => break,
                Err(error) => {
                    self.unanswered -= 1;
                    outcome = outcome.and(Err(error.to_string()));
                }
            }
            self.unasked.pop_front();
        }
        outcome
    }

    /// The peer asks for an option, or has answered.
    fn handle_option(&mut self, env: &mut Env, event: &Event) {
        match event {
            Event::TcpOption { tcp, kind, value, request } => {
                let outcome = self.set_option(env, *tcp, *kind, value);
                request.iter().for_each(|request| self.conn.answer_tcp_option(*request, outcome));
            }
            Event::TcpOptionAnswered { .. } => {
                self.unanswered = self.unanswered.saturating_sub(1);
                _ = self.ask_waiting(); // one whose TCP connection is lost by now has no answer
            }
            _ => {}
        }
    }

    fn set_option(&mut self, env: &mut Env, tcp: ConnectionId, kind: u8, value: &[u8]) -> OptionOutcome {
        if !self.option_rate.allows(env.now) {
            return OptionOutcome::Refused;
        }
        match OptionPolicy::default().judge(kind, value, || UNRESTRICTED.to_owned()) {
            Ok(option) => self.apply(env, tcp, &option),
            Err(outcome) => outcome,
        }
    }

    fn apply(&mut self, env: &mut Env, tcp: ConnectionId, option: &TcpOption) -> OptionOutcome {
        let socket = self.sockets.iter().find(|socket| socket.tcp == tcp);
        socket.map_or(OptionOutcome::Lost, |socket| env.net.set_option(self.conn.side(), socket.id, option))
    }

    /// Closes a TCP connection's socket with a reset.
    pub(crate) fn reset(&mut self, env: &mut Env, tcp: ConnectionId, why: TcpEnd) {
        env.trace.set_place(self.place);
        if let Some(at) = self.sockets.iter().position(|socket| socket.tcp == tcp) {
            env.net.reset(env.now, self.conn.side(), self.sockets.remove(at).id);
            self.conn.handle_tcp_end(env.now, tcp, why);
            self.poll_events(env); // before its ID may name another
        }
    }

    /// The session gives way at once: its sockets are reset.
    pub(crate) fn reset_all(&mut self, env: &mut Env) {
        self.sockets.drain(..).for_each(|socket| env.net.reset(env.now, self.conn.side(), socket.id));
    }

    /// What the session holds, as a listener counts it.
    pub(crate) fn usage(&self) -> Report {
        let buffers = self.sockets.iter().map(|socket| socket.input.len()).sum();
        Report::of(&self.conn, self.sockets.len(), buffers)
    }

    /// The process ends: the kernel resets its sockets.
    pub(crate) fn kill(mut self, now: Time, net: &mut dyn Network) {
        if let Some(handles) = &mut self.handles {
            handles.end(&mut self.conn);
        }
        self.sockets.iter().for_each(|socket| net.reset(now, self.conn.side(), socket.id));
    }

    /// The application has its turn: the session is in its hands until [`Driver::take_back`].
    pub(crate) fn lend(&mut self) {
        let Some(handles) = &mut self.handles else { return };
        if self.closed_at.is_none() && self.established {
            self.stats_before_close = Some(self.conn.stats());
        }
        handles.lend(&mut self.conn);
    }

    /// The application had its turn; the TCP connections that it wants.
    pub(crate) fn take_back(&mut self, env: &mut Env) -> Vec<TcpOrder> {
        let Some(handles) = &mut self.handles else { return Vec::new() };
        let (events, inputs) = handles.take_back(&mut self.conn);
        self.observed.extend(events);
        let mut orders = Vec::new();
        for input in inputs {
            match input {
                Input::Reset(tcp) => self.reset(env, tcp, TcpEnd::Reset),
                Input::Connect(path, answer) => orders.push(TcpOrder { path, answer }),
                Input::SetOption(tcp, option, asker) => {
                    let outcome = self.apply(env, tcp, &option);
                    if let Asker::Application(asker) = asker {
                        _ = asker.send(outcome);
                    }
                }
                Input::PeerOption(_) => {} // this end judges by itself, when the request arrives
                Input::ResetAll => {}      // only for the account of a listener with real sockets
            }
        }
        orders
    }

    /// Acts as long as there is anything to do at this moment.
    pub(crate) fn run(&mut self, env: &mut Env) {
        env.trace.set_place(self.place);
        env.turns += 1;
        for _ in 0..MAX_TURNS {
            if !self.turn(env) {
                if matches!(self.conn.state(), State::Closing | State::Closed) {
                    self.closing_at.get_or_insert(env.now);
                }
                return self.oracle.check(&self.conn);
            }
        }
        self.oracle.complain(format!("no rest after {MAX_TURNS} turns in one moment"));
    }

    fn turn(&mut self, env: &mut Env) -> bool {
        let read = self.read(env);
        self.check_time(env);
        self.poll_events(env);
        let transfers = self.serves.map(|client| &mut env.transfers[client]);
        let delivered = transfers.map_or(0, |transfers| transfers.run(env.now, &mut self.conn, &mut env.trace));
        env.delivered += delivered;
        let served = delivered > 0;
        let written = self.write(env);
        self.poll_events(env);
        read || served || written
    }

    fn read(&mut self, env: &mut Env) -> bool {
        let (side, mut progress) = (self.conn.side(), false);
        for socket in &mut self.sockets {
            if !self.conn.wants_read(socket.tcp) {
                continue;
            }
            let len = env.read(side, socket.id, &mut socket.input);
            if len > 0 {
                progress = true;
                env.carried[socket.path] += len as u64;
                self.conn.handle_bytes(env.now, socket.tcp, &mut socket.input);
            }
            if let Some(how) = env.net.end(side, socket.id).filter(|_| !socket.end_reported) {
                progress = true;
                socket.end_reported = true;
                env.trace.ended(env.now, side, socket.id, socket.tcp.0, how);
                self.conn.handle_tcp_end(env.now, socket.tcp, how);
            }
        }
        progress
    }

    /// Stalls are judged by the state of TCP, so it is queried first.
    fn check_time(&mut self, env: &mut Env) {
        if self.conn.poll_timeout().is_some_and(|at| at <= env.now) {
            for index in 0..self.sockets.len() {
                self.query_tcp_info(env, self.sockets[index].tcp, self.sockets[index].id);
            }
            self.conn.handle_timeout(env.now);
            let left = self.conn.poll_timeout();
            if left.is_some_and(|at| at <= env.now) {
                let reason = self.conn.timeout_reason().map(|reason| variant(&reason)).unwrap_or_default();
                self.oracle.complain(format!("a timeout ({reason}) is in the past after handle_timeout"));
            }
        }
    }

    fn query_tcp_info(&mut self, env: &mut Env, tcp: ConnectionId, id: SocketId) {
        if let Some(info) = env.net.tcp_info(env.now, self.conn.side(), id) {
            self.conn.handle_tcp_info(tcp, info);
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        if let Some(event) = self.observed.pop_front() {
            return Some(event);
        }
        let event = self.conn.poll_event()?;
        if let Some(handles) = &mut self.handles {
            handles.note(&event);
        }
        Some(event)
    }

    fn poll_events(&mut self, env: &mut Env) {
        let side = self.conn.side();
        while let Some(event) = self.next_event() {
            self.oracle.event(&event);
            if let Some(log) = &mut env.log {
                log.push_back(SessionEvent { at: env.now, side, client: self.serves, event: event.clone() });
            }
            if matches!(event, Event::Established(_)) {
                self.established = true;
                self.has_early_data = side == Side::Server && !self.conn.is_confirmed();
            }
            self.lost += usize::from(matches!(&event, Event::Tcp(TcpEvent::Lost { fault, .. }) if !fault.was_meant()));
            if let Event::Tcp(_) = event {
                self.disturbed = env.now;
            }
            let transfers = self.serves.map(|client| &mut env.transfers[client]);
            match &event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    transfers.into_iter().for_each(|transfers| transfers.readable(*id, side));
                    continue;
                }
                Event::Stream(StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. }) => {
                    transfers.into_iter().for_each(|transfers| transfers.writable(*id, side));
                }
                Event::TcpOption { .. } | Event::TcpOptionAnswered { .. } => self.handle_option(env, &event),
                Event::Stream(StreamEvent::Opened) => self.accepting = true,
                Event::PeerDraining => transfers.into_iter().for_each(|transfers| transfers.peer_drains(side)),
                Event::Tcp(TcpEvent::Discarded { tcp }) => self.close_socket(env, *tcp),
                Event::Closed { .. } => {
                    self.closed_at = Some(env.now);
                    transfers.into_iter().for_each(|transfers| transfers.closed(side));
                    self.close_all_sockets(env);
                }
                _ => {}
            }
            self.events.push(event);
        }
        let transfers = self.serves.filter(|_| self.handles.is_none());
        if let Some(client) = transfers.filter(|_| std::mem::take(&mut self.accepting)) {
            while let Some(id) = self.conn.accept_stream() {
                env.transfers[client].accepted(id, side);
            }
        }
    }

    /// Writes the final bytes of a discarded socket.
    fn close_socket(&mut self, env: &mut Env, tcp: ConnectionId) {
        let Some(at) = self.sockets.iter().position(|socket| socket.tcp == tcp) else { return };
        let socket = self.sockets.remove(at);
        let mut out = env.take_buffer();
        while self.conn.poll_transmit(env.now, tcp, MAX_BATCH, &mut out) > 0 {}
        env.write(self.conn.side(), socket.id, &out);
        env.buffer = out;
        env.net.close(env.now, self.conn.side(), socket.id);
    }

    fn close_all_sockets(&mut self, env: &mut Env) {
        while let Some(tcp) = self.sockets.first().map(|socket| socket.tcp) {
            self.close_socket(env, tcp);
        }
    }

    /// One batch on each socket with room. The session learns first which TCP connections are full.
    fn write(&mut self, env: &mut Env) -> bool {
        let (side, mut progress) = (self.conn.side(), false);
        let mut with_room = Vec::with_capacity(self.sockets.len());
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            if env.net.is_writable(side, socket.id) {
                with_room.push(index);
            } else {
                socket.was_full = true;
                self.conn.handle_full(env.now, socket.tcp);
            }
        }
        let mut out = env.take_buffer();
        for index in with_room {
            let socket = &mut self.sockets[index];
            out.clear();
            let batch = socket.pace.batch();
            let len = self.oracle.transmit(&mut self.conn, env.now, socket.tcp, batch, &mut out);
            if len == 0 {
                continue;
            }
            progress = true;
            env.write(side, socket.id, &out);
            if socket.pace.wrote(env.now, len, std::mem::take(&mut socket.was_full)) {
                env.net.set_unsent_limit(side, socket.id, socket.pace.batch());
            }
        }
        env.buffer = out;
        progress
    }
}

/// The core's scheduler of this name.
pub(crate) fn scheduler(name: Scheduler) -> Box<dyn schedule::Scheduler> {
    match name {
        Scheduler::EarliestDelivery => Box::new(schedule::EarliestDelivery),
        Scheduler::Aggregate => Box::new(schedule::Aggregate),
        Scheduler::LowestRtt => Box::new(schedule::LowestRtt),
        Scheduler::RoundRobin => Box::new(schedule::RoundRobin),
        Scheduler::Redundant => Box::new(schedule::Redundant),
        Scheduler::ActiveStandby => Box::new(schedule::ActiveStandby),
    }
}
