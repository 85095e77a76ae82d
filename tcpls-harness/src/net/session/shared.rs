//! The state that the session's task and the application's handles share: the state machine, and the wakeups of the
//! task.
//!
//! The state machine is accessed only inside [`Shared::with`] (the application) or [`Shared::drive`] (the task):
//! both take the events that follow. Once the lock is released, they wake the tasks that waited for them, and send the
//! answers to joins: a waker is code of the application's runtime and may call the session. Handles of a session are
//! counted in `handle`.

mod dialing;

pub(crate) use self::dialing::Connected;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tcpls_core::budget::Client;
use tcpls_core::connection::Connection;
use tcpls_core::error::{CloseReason, TcpFault, code};
use tcpls_core::event::{Established, Event, OptionOutcome, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;
use tokio::sync::oneshot;

use super::advice::Advice;
use super::error::{AddTcpError, PathFailure};
use super::feed::Feed;
use super::monitor::Notes;
use super::options::{Asker, Options, PeerOption};
use super::remotes::Remotes;
use super::waiters::{Wait, Waiters};
use crate::dial::{DialPolicy, Path};
use crate::net::runtime::Runtime;
use crate::net::tcp_option::TcpOption;
use crate::sync::{Mutex, MutexGuard};

/// What the application may write before the task is woken to report it, although no socket has room.
const UNACCOUNTED: usize = 64 * 1024;

/// What the application wants done with sockets, for the session's task or a simulator: they have them.
pub(crate) enum Input {
    /// Client: connect a socket on this path and join it. If the receiver is dropped before TCP is connected, nothing remains.
    Connect(Path, oneshot::Sender<Opened>),
    /// Break a TCP connection, as a demonstration or a test wants it.
    Reset(ConnectionId),
    /// Set an option of a TCP connection's socket.
    SetOption(ConnectionId, TcpOption, Asker),
    /// Decide on an option that the peer asks for, and set it. A simulator does this by itself.
    PeerOption(PeerOption),
    /// Reset all sockets: the session has ended, and its descriptors are needed.
    ResetAll,
}

/// The outcome of a join that has just begun.
pub(crate) type Joined = oneshot::Receiver<Result<(), TcpFault>>;

/// The outcome of a TCP connection that was to be opened, for a join that has just begun.
pub(crate) type Opened = Result<(ConnectionId, Joined), AddTcpError>;

/// What goes to a task through a channel, which wakes it: sent once the lock is released.
pub(super) enum Answer {
    Joined(oneshot::Sender<Result<(), TcpFault>>, Result<(), TcpFault>),
    Opened(oneshot::Sender<Opened>, Opened),
    Option(oneshot::Sender<OptionOutcome>, OptionOutcome),
    /// The session has ended, and a request has no answer: dropping this tells the application.
    NoOption(oneshot::Sender<OptionOutcome>),
    /// The session has ended: dropping this is the answer.
    NoJoin(oneshot::Sender<Result<(), TcpFault>>),
    /// As above.
    NoInput(Input),
}

impl Answer {
    fn send(self) {
        match self {
            Self::Joined(joiner, outcome) => _ = joiner.send(outcome),
            Self::Opened(opener, outcome) => _ = opener.send(outcome),
            Self::Option(asker, outcome) => _ = asker.send(outcome),
            Self::NoOption(asker) => drop(asker),
            Self::NoJoin(joiner) => drop(joiner),
            Self::NoInput(input) => drop(input),
        }
    }
}

/// Server: where file descriptors come from when none is left.
pub(crate) trait Descriptors: Send + Sync {
    /// Makes another holder give up a file descriptor; whether one will be free in a moment. Called without the session's lock.
    fn free_one(&self) -> bool;
}

/// One session's shared part.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Client: which of the addresses that the server advertises may be connected to.
    pub(crate) advice: Option<Advice>,
}

/// What the lock protects.
pub(crate) struct State {
    pub(crate) conn: Connection,
    /// The clock of this session.
    pub(crate) runtime: Runtime,
    /// In a simulation, the session's events for the simulator, which answers them in place of this.
    #[cfg(feature = "sim")]
    pub(crate) observed: Option<Vec<Event>>,
    pub(crate) inbox: Vec<Input>,
    /// TCP connections whose sockets are to be closed once their final bytes are sent.
    pub(crate) discarded: Vec<ConnectionId>,
    /// TCP connections whose sockets had room when the task last looked.
    pub(crate) with_room: Vec<ConnectionId>,
    /// TCP connections that are not read from, because the application does not read.
    pub(crate) paused: Vec<ConnectionId>,
    /// Server: what the session held at its last report to the listener's account, in bytes.
    pub(crate) accounted: Option<usize>,
    /// Until when the task sleeps.
    pub(crate) asleep_until: Option<Time>,
    /// The local address of the first TCP connection.
    pub(crate) local: Option<SocketAddr>,
    /// The peer's addresses.
    pub(crate) remotes: Remotes,
    /// What only monitors need; most sessions have none.
    pub(crate) notes: Option<Box<Notes>>,
    /// Server: the client of the first TCP connection.
    pub(crate) client: Client,
    /// Server: a load balancer passes the bytes of its first TCP connection on.
    pub(crate) is_spliced: bool,
    /// Server: where file descriptors come from when none is left.
    pub(crate) descriptors: Option<Arc<dyn Descriptors>>,
    /// Options of sockets: what each endpoint wants of the other.
    pub(crate) options: Options,
    /// Client: addresses for which [`State::undecided`] has asked whether to connect to them.
    decided: Vec<SocketAddr>,
    /// Client, from the end of the handshake on: which path each TCP connection runs on, and what is dialed when.
    pub(crate) dialer: Option<Box<dyn DialPolicy>>,
    task: Option<Waker>,
    task_ended: bool,
    pub(crate) waiters: Waiters,
    joins: BTreeMap<ConnectionId, oneshot::Sender<Result<(), TcpFault>>>,
    pub(super) answers: Vec<Answer>,
    established: Option<Established>,
    /// When the handshake was complete.
    began: Option<Time>,
    closed: Option<CloseReason>,
    /// Bytes that sockets still held when they were closed.
    unsent: u64,
    pub(crate) events: Feed<Event>,
    pub(crate) failures: Feed<PathFailure>,
    pub(crate) handles: usize,
    /// The task has woken another one since its turn began.
    pub(crate) has_woken: bool,
    /// Whether the dialer's input may have changed.
    pub(crate) is_called: bool,
}

impl Shared {
    pub(crate) fn new(conn: Connection, advice: Option<Advice>) -> Arc<Self> {
        let state = State {
            conn,
            runtime: Runtime::tokio(),
            #[cfg(feature = "sim")]
            observed: None,
            inbox: Vec::new(),
            discarded: Vec::new(),
            with_room: Vec::new(),
            paused: Vec::new(),
            accounted: None,
            asleep_until: None,
            options: Options::default(),
            decided: Vec::new(),
            dialer: None,
            local: None,
            remotes: Remotes::default(),
            notes: None,
            client: Client::ALONE,
            is_spliced: false,
            descriptors: None,
            task: None,
            task_ended: false,
            waiters: Waiters::default(),
            joins: BTreeMap::new(),
            answers: Vec::new(),
            established: None,
            began: None,
            closed: None,
            unsent: 0,
            events: Feed::new(),
            failures: Feed::new(),
            handles: 0,
            has_woken: false,
            is_called: true,
        };
        Arc::new(Self { state: Mutex::new(state), advice })
    }

    /// A session that a simulator drives: it sees each event, and answers it by itself.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated(conn: Connection, runtime: Runtime) -> Arc<Self> {
        let shared = Self::new(conn, None);
        shared.access(|state| (state.runtime, state.observed) = (runtime, Some(Vec::new())));
        shared
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
            state.has_woken |= state.waiters.has_any_to_wake();
            result
        })
    }

    /// Lets the session end without loss.
    pub(crate) fn drain(&self, limit: Duration) {
        self.with(|state| {
            state.conn.drain(state.now(), limit);
            state.waiters.wake_watchers();
            state.wake_task();
        });
    }

    /// Ends the session because others need its resources. `at_once`: without final bytes to the peer. During the
    /// handshake there are none.
    pub(crate) fn give_way(&self, at_once: bool) {
        self.drive(|state| {
            let at_once = at_once || !state.is_confirmed();
            let now = state.now();
            state.conn.evict(now);
            state.inbox.extend(at_once.then_some(Input::ResetAll));
            state.wake_task();
        });
    }

    /// The application's access for what it may have to wait for: while `operation` is pending, nothing has changed, and
    /// the task with this waker waits for `what`.
    ///
    /// The waker is cloned between two locks, so `operation` is called again before it is left.
    pub(crate) fn poll<R>(
        &self,
        what: Wait,
        waker: &Waker,
        mut operation: impl FnMut(&mut State) -> Poll<R>,
    ) -> Poll<R> {
        let mut own = None;
        loop {
            let step = self.access(|state| {
                let result = operation(state);
                if result.is_ready() {
                    state.hear();
                    state.nudge();
                } else if !state.waiters.has(what, waker) {
                    let Some(own) = own.take() else { return ControlFlow::Continue(()) };
                    state.waiters.wait(what, own);
                }
                ControlFlow::Break(result)
            });
            match step {
                ControlFlow::Break(result) => return result,
                ControlFlow::Continue(()) => own = Some(waker.clone()),
            }
        }
    }

    /// While the lock is held, no waker is called or dropped, and no channel is used: that runs code of the application's
    /// runtime, which may block on the lock.
    pub(crate) fn access<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = f(&mut state);
        let released = state.waiters.release();
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        answers.into_iter().for_each(Answer::send);
        if let Some(list) = released.settle() {
            self.lock().waiters.give_back(list);
        }
        result
    }

    /// Whether the lock is held.
    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.state.try_lock(), Err(std::sync::TryLockError::WouldBlock))
    }

    /// A panic elsewhere while the lock was held is no reason for a second one: the state machine takes any call.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time now, where this session runs.
    pub(crate) fn now(&self) -> Time {
        self.runtime.now()
    }

    /// Handles the events of the state machine.
    fn hear(&mut self) {
        while let Some(event) = self.conn.poll_event() {
            #[cfg(feature = "sim")]
            if let Some(observed) = &mut self.observed {
                observed.push(event.clone());
                self.report(event);
                continue;
            }
            if matches!(event, Event::Stream(_)) {
                self.report(event);
                continue;
            }
            // First: a loss is remembered with the interface that the dialer knows until then.
            self.report(event.clone());
            self.answer(&event);
        }
    }

    /// What follows from an event for the dialer and the task. A simulator does this by itself.
    fn answer(&mut self, event: &Event) {
        let now = self.now();
        if let Some(dialer) = &mut self.dialer {
            dialer.handle_event(now, event);
            self.wake_task();
        }
        if let Event::Tcp(TcpEvent::Discarded { tcp }) = event {
            self.discarded.push(*tcp);
            self.wake_task();
        }
        if let Event::TcpOption { tcp, kind, value, request } = event {
            let asked = PeerOption { tcp: *tcp, kind: *kind, value: value.clone(), request: *request };
            self.inbox.push(Input::PeerOption(asked));
            self.wake_task();
        }
    }

    /// Reports an event to the application, and wakes the tasks that waited for it.
    pub(crate) fn report(&mut self, event: Event) {
        match &event {
            Event::Stream(event) => return self.waiters.hear(*event),
            Event::Tcp(event) => self.hear_tcp(*event),
            Event::Established(established) => {
                self.established = Some(established.clone());
                self.began = Some(self.now());
                self.waiters.wake_watchers();
            }
            Event::PeerDraining | Event::HandshakeConfirmed => self.waiters.wake_watchers(),
            Event::Closed { reason } => self.hear_closed(reason.clone()),
            Event::TcpOptionAnswered { request, outcome, .. } => self.hear_option_answer(*request, *outcome),
            _ => {}
        }
        let last = matches!(event, Event::Closed { .. });
        if self.is_news(&event) {
            self.events.tell(event, |waker| self.waiters.wake(Some(waker)));
        }
        if last {
            self.end_feeds();
        }
    }

    /// Whether an application that was given the session does not know it from that.
    fn is_news(&self, event: &Event) -> bool {
        let is_start =
            matches!(event, Event::Established(_) | Event::Tcp(TcpEvent::Joined { tcp: ConnectionId::FIRST }));
        !is_start
    }

    fn hear_tcp(&mut self, event: TcpEvent) {
        match event {
            TcpEvent::Joined { tcp } => {
                self.tell_joiner(tcp, Ok(()));
                self.keep_options(tcp);
            }
            TcpEvent::Lost { tcp, fault } => {
                self.note_loss(tcp, fault);
                self.forget_options_of(tcp);
                self.tell_joiner(tcp, Err(fault));
            }
            TcpEvent::Discarded { tcp } => {
                self.forget_options_of(tcp);
                self.answers.extend(self.joins.remove(&tcp).map(Answer::NoJoin));
                self.remotes.discard(tcp);
            }
            _ => {}
        }
    }

    /// Remembers why a path failed.
    fn note_loss(&mut self, tcp: ConnectionId, fault: TcpFault) {
        let (now, ends) = (self.now(), self.remotes.ends(tcp));
        let device = self.dialer.iter().flat_map(|dialer| dialer.paths()).find(|status| status.tcp == Some(tcp));
        let device = device.and_then(|status| status.path.device);
        Notes::note_loss(&mut self.notes, self.conn.side(), now, (tcp, fault), ends, device);
    }

    fn tell_joiner(&mut self, tcp: ConnectionId, outcome: Result<(), TcpFault>) {
        self.answers.extend(self.joins.remove(&tcp).map(|joiner| Answer::Joined(joiner, outcome)));
    }

    fn hear_closed(&mut self, reason: CloseReason) {
        self.closed = Some(reason);
        self.forget_joins();
        self.forget_options();
        self.waiters.wake_all();
        self.wake_task();
    }

    fn forget_joins(&mut self) {
        self.answers.extend(std::mem::take(&mut self.joins).into_values().map(Answer::NoJoin));
    }

    fn end_feeds(&mut self) {
        self.events.end(|waker| self.waiters.wake(Some(waker)));
        self.failures.end(|waker| self.waiters.wake(Some(waker)));
    }

    /// Wakes the task if a socket with room has something to send, may be read from again, or time is shorter than it was.
    fn nudge(&mut self) {
        if self.task.is_none() {
            return;
        }
        let conn = &self.conn;
        let needed = self.with_room.iter().any(|tcp| conn.wants_write(*tcp))
            || self.paused.iter().any(|tcp| conn.wants_read(*tcp))
            || self.accounted.is_some_and(|told| conn.memory() > told + UNACCOUNTED)
            || conn.poll_timeout().is_some_and(|at| self.asleep_until.is_none_or(|until| at < until));
        if needed {
            self.waiters.wake(self.task.take());
        }
    }

    /// There is something for the task besides bytes.
    pub(crate) fn wake_task(&mut self) {
        self.is_called = true;
        self.waiters.wake(self.task.take());
    }

    /// The task comes back by itself and need not be woken.
    pub(crate) fn expect_task(&mut self) {
        self.waiters.retire(self.task.take());
    }

    /// The task is woken for everything from now on, with this waker. It is taken if there is no such waker already.
    pub(crate) fn attend(&mut self, waker: &mut Option<Waker>) {
        let is_same = |waker: &Waker| self.task.as_ref().is_some_and(|task| task.will_wake(waker));
        if !waker.as_ref().is_none_or(is_same) {
            self.waiters.retire(std::mem::replace(&mut self.task, waker.take()));
        }
    }

    /// The task has ended: the sockets are closed, and nothing that is given to the session goes anywhere. If its runtime has
    /// dropped it, the session ends here and takes no more.
    ///
    /// Returns the dialer, to drop without the lock. It sees none of this: it may be a policy of the application, and the
    /// task may be ending because that has panicked.
    pub(crate) fn end_task(&mut self) -> Option<Box<dyn DialPolicy>> {
        self.task_ended = true;
        let dialer = self.dialer.take();
        let now = self.now();
        self.conn.close(now, code::INTERNAL, b"the runtime has shut down");
        let orphans: Vec<ConnectionId> = self.conn.tcp_connections().collect();
        orphans.into_iter().for_each(|tcp| self.conn.handle_tcp_end(now, tcp, tcpls_core::TcpEnd::Reset));
        self.hear();
        self.end_feeds();
        self.answers.extend(self.inbox.drain(..).map(Answer::NoInput));
        self.forget_joins();
        self.forget_options();
        self.waiters.wake_all();
        dialer
    }

    pub(crate) fn has_task_ended(&self) -> bool {
        self.task_ended
    }

    pub(crate) fn established(&self) -> Option<&Established> {
        self.established.as_ref()
    }

    /// Whether the handshake was reported, and is complete at both ends.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.established.is_some() && self.conn.is_confirmed()
    }

    /// Why the session is over, if it is. A runtime that drops the task ends the session, too.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        let dropped = self.task_ended.then_some(CloseReason::Local { error: code::INTERNAL });
        self.closed.clone().or(dropped)
    }

    /// When the handshake was complete.
    pub(crate) fn began(&self) -> Option<Time> {
        self.began
    }

    /// A socket still held `bytes` bytes when it was closed.
    pub(crate) fn note_unsent(&mut self, bytes: u64) {
        self.unsent += bytes;
    }

    /// What was not delivered, as far as this endpoint knows. Where the peer acknowledges nothing, the sockets know more than the
    /// state machine.
    pub(crate) fn undelivered(&self) -> u64 {
        let is_plain = self.established.as_ref().is_some_and(|established| !established.tcpls);
        self.conn.undelivered() + if is_plain { self.unsent } else { 0 }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_some() || self.task_ended
    }

    /// Frees memory that is kept for reuse: nothing has been sent or received for some time.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.conn.shrink_to_fit();
        self.waiters.shrink_to_fit();
        self.events.shrink_to_fit();
        self.failures.shrink_to_fit();
        if self.joins.is_empty() {
            self.joins = BTreeMap::new();
        }
    }
}
