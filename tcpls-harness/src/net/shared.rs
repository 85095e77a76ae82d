//! What the session's task and the application's handles share: the state machine, and who waits for what.
//!
//! Whoever touches the state machine does so inside [`Shared::with`] (the application) or [`Shared::drive`] (the task):
//! both hear the events that follow and wake whoever waited for them, once the lock is released.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::connection::Connection;
use tcpls_core::endpoint::Join;
use tcpls_core::error::{CloseReason, TcpFault, code};
use tcpls_core::event::{Established, Event, StreamEvent, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, StreamId};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, oneshot};

use super::advice::Advice;
use super::dials::Dials;
use super::error::{AddTcpError, PathFailure, PathFault};
use super::os::now;
use super::socket::{SocketOptions, reset};
use crate::dial::{Action, AttemptId, Dialer, Path, SessionView};

/// Events that a slow listener may lag behind before it misses the oldest.
const EVENT_BACKLOG: usize = 256;

/// Something for the session's task.
pub(crate) enum Input {
    /// Client: the socket of a TCP connection that has just been opened.
    Opened(ConnectionId, TcpStream),
    /// Server: a TCP connection that showed a token of this session, and what was read from it after its ClientHello.
    Join(TcpStream, Join, BytesMut),
    /// Client: sockets that are being connected, or wait for their use.
    Dial(Dials),
    /// Break a TCP connection, as a demonstration or a test wants it.
    Reset(ConnectionId),
}

/// The outcome of a join that has just begun.
pub(crate) type Joined = oneshot::Receiver<Result<(), TcpFault>>;

/// Client: what of the options is needed for TCP connections that the application adds.
pub(crate) struct Joining {
    pub(crate) socket: SocketOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) advice: Advice,
}

/// One session's shared part.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Client: how to connect again; `None` on a server.
    pub(crate) joining: Option<Joining>,
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) conn: Connection,
    pub(crate) inbox: Vec<Input>,
    /// TCP connections whose sockets are to be closed once their last words are out.
    pub(crate) discarded: Vec<ConnectionId>,
    /// TCP connections whose sockets had room when the task last looked.
    pub(crate) with_room: Vec<ConnectionId>,
    /// TCP connections that are not read from, because the application does not read.
    pub(crate) paused: Vec<ConnectionId>,
    /// Until when the task sleeps.
    pub(crate) asleep_until: Option<Time>,
    /// The local address of the first TCP connection.
    pub(crate) local: Option<SocketAddr>,
    /// Client, from the end of the handshake on: which path each TCP connection runs on, and what is dialled when.
    pub(crate) dialer: Option<Dialer>,
    task: Option<Waker>,
    task_ended: bool,
    readers: BTreeMap<StreamId, Waker>,
    writers: BTreeMap<StreamId, Waker>,
    openers: Vec<Waker>,
    acceptors: Vec<Waker>,
    /// Who waits for the handshake or the end.
    watchers: Vec<Waker>,
    joins: BTreeMap<ConnectionId, oneshot::Sender<Result<(), TcpFault>>>,
    established: Option<Established>,
    closed: Option<CloseReason>,
    /// `None` once the last event was sent.
    events: Option<broadcast::Sender<Event>>,
    failures: Option<broadcast::Sender<PathFailure>>,
    handles: usize,
    to_wake: Vec<Waker>,
    /// The task has woken somebody since it looked last.
    pub(crate) has_woken: bool,
}

impl Shared {
    pub(crate) fn new(conn: Connection, joining: Option<Joining>) -> Arc<Self> {
        let state = State {
            conn,
            inbox: Vec::new(),
            discarded: Vec::new(),
            with_room: Vec::new(),
            paused: Vec::new(),
            asleep_until: None,
            dialer: None,
            local: None,
            task: None,
            task_ended: false,
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
            openers: Vec::new(),
            acceptors: Vec::new(),
            watchers: Vec::new(),
            joins: BTreeMap::new(),
            established: None,
            closed: None,
            events: Some(broadcast::Sender::new(EVENT_BACKLOG)),
            failures: Some(broadcast::Sender::new(EVENT_BACKLOG)),
            handles: 0,
            to_wake: Vec::new(),
            has_woken: false,
        };
        Arc::new(Self { state: Mutex::new(state), joining })
    }

    /// The application's access: afterwards the task is woken if it has something to do.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.access(|state| {
            let result = f(state);
            state.hear();
            state.nudge();
            result
        })
    }

    /// The task's access.
    pub(crate) fn drive<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.access(|state| {
            let result = f(state);
            state.hear();
            state.has_woken |= !state.to_wake.is_empty();
            result
        })
    }

    /// The application's access for what it may have to wait for. As long as it has, nothing has changed.
    pub(crate) fn poll<R>(&self, f: impl FnOnce(&mut State) -> Poll<R>) -> Poll<R> {
        self.access(|state| {
            let result = f(state);
            if result.is_ready() {
                state.hear();
                state.nudge();
            }
            result
        })
    }

    /// Nobody is woken while the lock is held: who wakes up would run into it.
    fn access<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = f(&mut state);
        // Mostly it is one, and the memory for the list stays.
        let first = state.to_wake.pop();
        let others = if state.to_wake.is_empty() { Vec::new() } else { std::mem::take(&mut state.to_wake) };
        drop(state);
        others.into_iter().chain(first).for_each(Waker::wake);
        result
    }

    /// A panic elsewhere while the lock was held is no reason for a second one: the state machine takes any call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Acts on what the state machine has to say.
    fn hear(&mut self) {
        while let Some(event) = self.conn.poll_event() {
            if let Event::Stream(event) = event {
                self.hear_stream(event);
                continue;
            }
            if let Some(dialer) = &mut self.dialer {
                dialer.handle_event(now(), &event);
            }
            match &event {
                Event::Tcp(event) => self.hear_tcp(*event),
                Event::Established(established) => {
                    self.established = Some(established.clone());
                    self.wake_watchers();
                }
                Event::Closed { reason } => self.hear_closed(reason.clone()),
                _ => {}
            }
            if self.dialer.is_some() {
                self.wake_task();
            }
            let last = matches!(event, Event::Closed { .. });
            _ = self.events.as_ref().map(|events| events.send(event));
            if last {
                (self.events, self.failures) = (None, None);
            }
        }
    }

    fn hear_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened => self.to_wake.append(&mut self.acceptors),
            StreamEvent::Available => self.to_wake.append(&mut self.openers),
            StreamEvent::Readable { id } => self.to_wake.extend(self.readers.remove(&id)),
            StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. } => {
                self.to_wake.extend(self.writers.remove(&id));
            }
            _ => {}
        }
    }

    fn hear_tcp(&mut self, event: TcpEvent) {
        match event {
            TcpEvent::Joined { tcp } => self.tell_joiner(tcp, Ok(())),
            TcpEvent::Lost { tcp, fault } => self.tell_joiner(tcp, Err(fault)),
            // Does the peer hear nothing on it, or just not want it? Its answer, or silence, will tell.
            TcpEvent::Status { tcp, backup: true } => _ = self.conn.ping(tcp),
            TcpEvent::Discarded { tcp } => {
                self.joins.remove(&tcp);
                self.discarded.push(tcp);
                self.wake_task();
            }
            _ => {}
        }
    }

    fn tell_joiner(&mut self, tcp: ConnectionId, outcome: Result<(), TcpFault>) {
        if let Some(joiner) = self.joins.remove(&tcp) {
            _ = joiner.send(outcome);
        }
    }

    fn hear_closed(&mut self, reason: CloseReason) {
        self.closed = Some(reason);
        self.joins.clear();
        self.wake_all();
        self.wake_task();
    }

    fn wake_all(&mut self) {
        self.to_wake.extend(std::mem::take(&mut self.readers).into_values());
        self.to_wake.extend(std::mem::take(&mut self.writers).into_values());
        self.to_wake.append(&mut self.acceptors);
        self.to_wake.append(&mut self.openers);
        self.wake_watchers();
    }

    fn wake_watchers(&mut self) {
        self.to_wake.append(&mut self.watchers);
    }

    /// Wakes the task if a socket with room has something to send, may be read from again, or time is shorter than it was.
    fn nudge(&mut self) {
        if self.task.is_none() {
            return;
        }
        let conn = &self.conn;
        let needed = self.with_room.iter().any(|tcp| conn.wants_write(*tcp))
            || self.paused.iter().any(|tcp| conn.wants_read(*tcp))
            || conn.poll_timeout().is_some_and(|at| self.asleep_until.is_none_or(|until| at < until));
        if needed {
            self.wake_task();
        }
    }

    pub(crate) fn wake_task(&mut self) {
        self.to_wake.extend(self.task.take());
    }

    /// The task will hear of everything from now on.
    pub(crate) fn attend(&mut self, waker: &Waker) {
        if self.task.is_none() {
            self.task = Some(waker.clone());
        }
    }

    /// The task is gone: the sockets are closed.
    pub(crate) fn end_task(&mut self) {
        self.task_ended = true;
        (self.events, self.failures) = (None, None);
        self.joins.clear();
        self.wake_all();
    }

    pub(crate) fn has_task_ended(&self) -> bool {
        self.task_ended
    }

    pub(crate) fn established(&self) -> Option<&Established> {
        self.established.as_ref()
    }

    /// Why the session is over, if it is. A runtime that drops the task ends the session, too.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        let dropped = self.task_ended.then_some(CloseReason::Local { error: code::INTERNAL });
        self.closed.clone().or(dropped)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some() || self.task_ended
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(crate) fn subscribe_to_failures(&self) -> broadcast::Receiver<PathFailure> {
        self.failures.as_ref().map_or_else(|| broadcast::channel(1).1, broadcast::Sender::subscribe)
    }

    pub(crate) fn note_timed_out(&self, path: Path) {
        let error = Arc::new(std::io::ErrorKind::TimedOut.into());
        self.note_failure(PathFailure { path, fault: PathFault::Tcp(error) });
    }

    fn note_failure(&self, failure: PathFailure) {
        // Nobody need listen.
        _ = self.failures.as_ref().map(|failures| failures.send(failure));
    }

    /// Whether the session may have one more TCP connection.
    pub(crate) fn check_room(&self) -> Result<(), AddTcpError> {
        let limit = self.conn.max_tcp_connections();
        if self.conn.tcp_connections().count() < limit { Ok(()) } else { Err(AddTcpError::Limit(limit)) }
    }

    /// Spends a token on a TCP connection that is established, and hands its socket to the session's task.
    pub(crate) fn open_tcp(&mut self, stream: TcpStream, path: Path) -> Result<(ConnectionId, Joined), AddTcpError> {
        let zero_rtt = self.dialer.as_ref().is_none_or(|dialer| dialer.zero_rtt(path));
        match self.conn.open_tcp_with(now(), zero_rtt) {
            Ok(tcp) => {
                let (sender, receiver) = oneshot::channel();
                self.joins.insert(tcp, sender);
                if let Some(dialer) = &mut self.dialer {
                    dialer.adopt(now(), path, tcp);
                }
                self.inbox.push(Input::Opened(tcp, stream));
                self.wake_task();
                Ok((tcp, receiver))
            }
            Err(error) => {
                reset(stream);
                Err(AddTcpError::Session(error))
            }
        }
    }

    /// What the dialer wants done now.
    pub(crate) fn dial(&mut self) -> Vec<Action> {
        let Some(dialer) = &mut self.dialer else { return Vec::new() };
        dialer.advance(now(), SessionView::of(&self.conn));
        std::iter::from_fn(|| dialer.poll_action()).collect()
    }

    /// What came of connecting; whether the socket is wanted.
    pub(crate) fn note_dialed(&mut self, attempt: AttemptId, path: Path, outcome: std::io::Result<()>) -> bool {
        let Some(dialer) = &mut self.dialer else { return false };
        match outcome {
            Ok(()) => dialer.handle_connected(now(), attempt),
            Err(error) => {
                dialer.handle_failed(now(), attempt);
                self.note_failure(PathFailure { path, fault: PathFault::Tcp(Arc::new(error)) });
                false
            }
        }
    }

    /// Spends a token on what the dialer has connected.
    pub(crate) fn join(&mut self, attempt: AttemptId, zero_rtt: bool) -> Option<ConnectionId> {
        let opened = self.conn.open_tcp_with(now(), zero_rtt);
        let dialer = self.dialer.as_mut()?;
        match opened {
            Ok(tcp) => dialer.handle_joining(attempt, tcp),
            Err(_) => dialer.handle_failed(now(), attempt),
        }
        opened.ok()
    }

    pub(crate) fn wait_readable(&mut self, id: StreamId, waker: &Waker) {
        self.readers.insert(id, waker.clone());
    }

    pub(crate) fn wait_writable(&mut self, id: StreamId, waker: &Waker) {
        self.writers.insert(id, waker.clone());
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_reader(&mut self, id: StreamId) {
        self.readers.remove(&id);
    }

    /// The application holds the stream no more.
    pub(crate) fn forget_writer(&mut self, id: StreamId) {
        self.writers.remove(&id);
    }

    pub(crate) fn wait_to_open(&mut self, waker: &Waker) {
        enlist(&mut self.openers, waker);
    }

    pub(crate) fn wait_to_accept(&mut self, waker: &Waker) {
        enlist(&mut self.acceptors, waker);
    }

    pub(crate) fn watch(&mut self, waker: &Waker) {
        enlist(&mut self.watchers, waker);
    }
}

fn enlist(waiting: &mut Vec<Waker>, waker: &Waker) {
    if !waiting.iter().any(|other| other.will_wake(waker)) {
        waiting.push(waker.clone());
    }
}

/// The application's hold on a session. When the last is dropped, the session is closed: what was written is delivered.
pub(crate) struct Handle(Arc<Shared>);

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.access(|state| state.handles += 1);
        Self(shared)
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.0.with(f)
    }

    pub(crate) fn poll<R>(&self, f: impl FnOnce(&mut State) -> Poll<R>) -> Poll<R> {
        self.0.poll(f)
    }

    pub(crate) fn joining(&self) -> Option<&Joining> {
        self.0.joining.as_ref()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.handles -= 1;
            if state.handles == 0 {
                state.conn.close(now(), code::NO_ERROR, b"");
                state.wake_task();
            }
        });
    }
}
