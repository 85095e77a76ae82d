//! The task of one session. It calls the state machine for sockets, timers and the application, and writes its records
//! to all sockets with room (see `traffic`).
//!
//! A turn reads once from every socket, then seals one batch for each with room. Another turn follows at once if there
//! is more to read or to write; if not, the task sleeps until a socket is ready, a deadline passes, or the application
//! calls.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | [`Driver`]: the turns of the task |
//! | `traffic` | reading and writing: which socket has room, how much is sealed at once |
//! | `dials` | the sockets of attempts of [`crate::dial`] |
//! | `claims` | sockets that presented a token and are not authenticated |
//! | `mailbox` | sockets that others have made for the session |
//! | `endings`, `leaving` | sockets that have ended or are discarded: the end is not reported yet, or final bytes are written |

mod claims;
mod dials;
mod endings;
mod leaving;
mod mailbox;
#[cfg(all(feature = "programs", unix))]
mod programs;
mod traffic;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tcpls_core::connection::{Claim, TcpEnd};
use tcpls_core::error::CloseReason;
use tcpls_core::event::OptionOutcome;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::Sleep;

use self::claims::Claimant;
pub(crate) use self::claims::{ClaimPlace, FailedJoins, JoinFailure};
pub(crate) use self::dials::Dials;
use self::endings::Endings;
use self::leaving::Leaving;
pub(crate) use self::mailbox::{Delivery, Mailbox};
use self::traffic::{Carrier, Written, ask_kernel, note_room};
use crate::dial::{Action, Path};
use crate::net::account::reports::{Report, Reports};
use crate::net::os::{instant, now};
use crate::net::session::{Asker, Input, PeerOption, Shared, State};
use crate::net::socket::{MAX_READ, Socket, unrestricted};
#[cfg(all(feature = "programs", unix))]
use crate::net::tcp_option::PROGRAM_PIECE;
use crate::net::tcp_option::TcpOption;

/// Turns after which other tasks run, such as those of the application.
const MAX_TURNS: usize = 16;
/// Bytes read after which they run: the application uses data best while it is in the cache, and its memory is reused.
const MAX_READ_AT_ONCE: usize = MAX_READ;
/// Discarded sockets beyond which refused claims are reset.
const MAX_LEAVING: usize = 32;
/// The time without traffic after which a session frees its buffers.
const QUIET: Duration = Duration::from_millis(500);

/// Drives a session until it has ended and its sockets are closed.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    carriers: Vec<Carrier>,
    claimants: Vec<Claimant>,
    leaving: Vec<Leaving>,
    endings: Endings,
    /// Client, from the end of the handshake on.
    dials: Option<Dials>,
    /// Server: reports to the listener's account.
    reports: Option<Reports>,
    /// To be woken with, unless the session's state has it.
    waker: Option<Waker>,
    timer: Pin<Box<Sleep>>,
    /// The next deadline, if that is known.
    due: Option<Time>,
    /// When this turn began; updated after a read.
    now: Time,
    /// Bytes read since other tasks ran.
    read: usize,
    /// When bytes were last read or written; `None` once the buffers are freed.
    busy: Option<Time>,
}

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Turn,
    /// Others first, then a turn.
    Yield,
    Sleep,
    /// The task has ended.
    Over,
}

impl Driver {
    /// Creates a driver for a session whose TCP connection `tcp` has this socket, and handles the bytes that it has
    /// read.
    pub(crate) fn new(shared: Arc<Shared>, tcp: ConnectionId, socket: Socket) -> Self {
        let now = now();
        let mut driver = Self {
            mailbox: Mailbox::new(shared.clone()),
            shared,
            carriers: Vec::new(),
            claimants: Vec::new(),
            leaving: Vec::new(),
            endings: Endings::default(),
            dials: None,
            reports: None,
            waker: None,
            timer: Box::pin(tokio::time::sleep_until(instant(now).into())),
            due: None,
            now,
            read: 0,
            busy: Some(now),
        };
        driver.attach(tcp, socket);
        driver
    }

    /// Makes the session report what it holds.
    pub(crate) fn reporting(mut self, reports: Reports) -> Self {
        self.reports = Some(reports);
        self
    }

    /// Where it gets sockets that others have made.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Runs the task. Its turns are bounded here: the runtime's cooperative budget would make sockets appear full.
    pub(crate) async fn run(self) {
        unconstrained(self).await;
    }

    /// Assigns `socket` to TCP connection `tcp`. If a failed join had this ID, its socket no longer has it.
    fn attach(&mut self, tcp: ConnectionId, mut socket: Socket) {
        self.leaving.iter_mut().for_each(|leaving| leaving.forget(tcp));
        self.endings.forget(tcp);
        for carrier in self.carriers.extract_if(.., |carrier| carrier.tcp == tcp) {
            self.leaving.push(Leaving::new(self.now, None, carrier.socket));
        }
        self.shared.drive(|state| state.discarded.retain(|discarded| *discarded != tcp));
        let (local, remote) = socket.addresses();
        self.shared.drive(|state| {
            state.set_ends(tcp, local, remote);
            ask_kernel(&mut state.conn, tcp, &socket);
            if tcp == ConnectionId::FIRST {
                state.local = local;
            }
            if !socket.input().is_empty() {
                state.conn.handle_bytes(self.now, tcp, socket.input());
            }
        });
        self.add_carrier(tcp, socket);
    }

    /// A session has few, and may be one of many: there is no room for more than it has.
    fn add_carrier(&mut self, tcp: ConnectionId, socket: Socket) {
        self.carriers.reserve_exact(1);
        self.carriers.push(Carrier::new(tcp, socket));
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Next {
        #[cfg(test)]
        crate::net::costs::count(|costs| costs.turns += 1);
        self.now = now();
        let called = self.begin(cx);
        self.dial(called, cx);
        let before = self.read;
        let mut again = self.read(cx);
        again |= self.settle_claims(cx);
        if self.read > before {
            self.busy = Some(self.now);
            if !again && self.shared.drive(|state| self.may_wait_for_application(state)) {
                return Next::Yield;
            }
            self.now = now(); // to open what came takes a while
        }
        let written = self.write(cx);
        self.leaving.retain_mut(|leaving| !leaving.poll(&self.shared, self.now, cx));
        self.tidy(written.is_some());
        let next = self.finish(again, written, cx);
        self.report();
        next
    }

    /// Reports what the session holds; it may be the one to give way.
    fn report(&mut self) {
        let Some(reports) = &mut self.reports else { return };
        let sockets = self.carriers.len() + self.leaving.len();
        let buffers: usize = self.carriers.iter().map(|carrier| carrier.socket.memory()).sum();
        let report = self.shared.access(|state| {
            state.accounted = Some(state.conn.memory());
            let labels = state.notes.as_ref().map_or(0, |notes| notes.labels.memory());
            Report::of(&state.conn, sockets, buffers + labels + state.options.memory())
        });
        reports.tell(self.now, report, self.busy.is_none());
    }

    /// The application has just received an event, and there is nothing to write: its answer is sent with the next
    /// turn, and only then the timer is set.
    fn may_wait_for_application(&self, state: &mut State) -> bool {
        let may_wait = state.has_woken
            && self.endings.deadline().is_none()
            && state.discarded.is_empty()
            && !state.is_closed()
            && !self.carriers.iter().any(|carrier| state.conn.wants_write(carrier.tcp));
        if may_wait {
            state.expect_task(); // as soon as others had their turn
        }
        may_wait
    }

    /// Registers the waker first, so that no call of the application is missed. Stalls are judged by the kernel's
    /// state, so it is queried before. Returns whether to ask the dialer.
    fn begin(&mut self, cx: &Context<'_>) -> bool {
        let may_be_due = self.due.is_none_or(|due| due <= self.now);
        // Cloned without the lock.
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let (called, inbox) = self.shared.drive(|state| {
            state.attend(&mut self.waker);
            state.has_woken = false;
            if may_be_due && state.conn.poll_timeout().is_some_and(|at| at <= self.now) {
                self.carriers.iter().for_each(|carrier| ask_kernel(&mut state.conn, carrier.tcp, &carrier.socket));
                state.conn.handle_timeout(self.now);
            }
            state.paused.clear();
            for carrier in &mut self.carriers {
                carrier.is_paused = !state.conn.wants_read(carrier.tcp);
                state.paused.extend(carrier.is_paused.then_some(carrier.tcp));
            }
            (std::mem::take(&mut state.is_called), std::mem::take(&mut state.inbox))
        });
        if called {
            self.mailbox.take().into_iter().for_each(|delivery| self.receive(delivery));
        }
        inbox.into_iter().for_each(|input| self.execute(input));
        called || may_be_due
    }

    fn receive(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Join(socket, join, place) => {
                self.claimants.push(Claimant::new(&self.shared, *socket, join, place));
            }
            Delivery::Dials(dials) => self.dials = Some(dials),
        }
    }

    fn execute(&mut self, input: Input) {
        match input {
            // If it is dropped, the application learns that the session is closed.
            Input::Connect(path, opened) => _ = self.dials.as_mut().map(|dials| dials.add(path, opened)),
            Input::Reset(tcp) => self.reset(tcp, TcpEnd::Reset),
            Input::SetOption(tcp, option, asker) => self.set_option(tcp, &option, asker),
            Input::PeerOption(asked) => self.judge_option(&asked),
            Input::ResetAll => self.reset_all(),
        }
    }

    /// Reports the results of sockets to the dialer, and executes its actions, if they may have changed.
    fn dial(&mut self, mut changed: bool, cx: &mut Context<'_>) {
        loop {
            let Some(dials) = &mut self.dials else { return };
            if let Poll::Ready((path, dialed, opened)) = dials.poll_added(cx) {
                changed = true;
                match self.shared.drive(|state| state.open_tcp(path, opened)) {
                    Some(tcp) => self.attach(tcp, Socket::dialed(dialed)),
                    None => dialed.reset(),
                }
                continue;
            }
            while let Poll::Ready((attempt, path, outcome)) = dials.poll(cx) {
                changed = true;
                if !self.shared.drive(|state| state.note_dialed(attempt, path, outcome)) {
                    dials.abandon(attempt);
                }
            }
            let actions = if changed { self.decide() } else { Vec::new() };
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.carry_out(action));
        }
    }

    /// Returns what the dialer requests, after it has learned to which addresses of the server it may turn.
    fn decide(&mut self) -> Vec<Action> {
        let shared = &self.shared;
        let decided = shared.drive(|state| {
            let undecided = state.undecided();
            if undecided.is_empty() { Ok(state.dial()) } else { Err(undecided) }
        });
        let undecided = match decided {
            Ok(actions) => return actions,
            Err(undecided) => undecided,
        };
        for (address, is_named) in undecided {
            // The policy is the application's: it is asked without the lock.
            let Some(advice) = &shared.advice else { break };
            if is_named || advice.allows(self.now, address) {
                let paths = Path::pairs(&[address], &advice.locals);
                shared.drive(|state| state.offer(&paths));
            }
        }
        shared.drive(State::dial)
    }

    fn carry_out(&mut self, action: Action) {
        let Some(dials) = &mut self.dials else { return };
        match action {
            Action::Connect { attempt, path } => {
                let in_syn = self.shared.drive(|state| state.has_answering_tcp());
                dials.connect(attempt, path, in_syn);
            }
            Action::Abandon { attempt, timed_out } => {
                let path = dials.abandon(attempt).filter(|_| timed_out);
                self.shared.drive(|state| path.into_iter().for_each(|path| state.note_timed_out(path)));
            }
            Action::Join { attempt, options } => {
                let Some(dialed) = dials.take(attempt) else { return };
                if let Some(tcp) = self.shared.drive(|state| state.join(attempt, options)) {
                    self.attach(tcp, Socket::dialed(dialed));
                }
            }
            Action::Reset { tcp, why } => self.reset(tcp, why),
            // There may be no other left, and then it is the one to stay.
            Action::Retire { tcp } => _ = self.shared.drive(|state| state.conn.retire_tcp(self.now, tcp)),
            Action::SetBackup { tcp, backup } => {
                _ = self.shared.drive(|state| state.conn.set_backup(tcp, backup)); // it may be lost by now
            }
            // These belong to the start.
            Action::Handshake { .. } | Action::GiveUp => {}
        }
    }

    fn reset(&mut self, tcp: ConnectionId, why: TcpEnd) {
        let Some(index) = self.carriers.iter().position(|carrier| carrier.tcp == tcp) else { return };
        self.carriers.remove(index).socket.reset();
        self.shared.drive(|state| state.conn.handle_tcp_end(self.now, tcp, why));
    }

    fn set_option(&mut self, tcp: ConnectionId, option: &TcpOption, asker: Asker) {
        let carrier = self.carriers.iter().find(|carrier| carrier.tcp == tcp);
        let outcome = carrier.map_or(OptionOutcome::Lost, |carrier| carrier.socket.set_option(option));
        self.shared.drive(|state| state.note_option(asker, outcome));
    }

    /// The kernel is asked without the lock.
    fn judge_option(&mut self, asked: &PeerOption) {
        let PeerOption { tcp, kind, ref value, request } = *asked;
        #[cfg(all(feature = "programs", unix))]
        if kind == PROGRAM_PIECE {
            return self.shared.drive(|state| state.take_piece(value, request));
        }
        let policy = self.shared.drive(|state| state.options.admit(self.now)).ok_or(OptionOutcome::Refused);
        let judged = policy.and_then(|policy| Ok((policy.judge(kind, value, unrestricted)?, policy)));
        match judged {
            #[cfg(all(feature = "programs", unix))]
            Ok((TcpOption::CongestionProgram(id), policy)) => {
                programs::select(self.shared.clone(), policy.programs.clone(), id, tcp, request);
            }
            Ok((option, _)) => self.set_option(tcp, &option, Asker::Peer(request)),
            Err(outcome) => self.shared.drive(|state| state.note_option(Asker::Peer(request), outcome)),
        }
    }

    fn reset_all(&mut self) {
        self.carriers.drain(..).for_each(|carrier| carrier.socket.reset());
        self.claimants.drain(..).for_each(|claimant| claimant.socket.reset());
        self.leaving.clear();
    }

    /// A claim can be decided by what happens elsewhere in the session: all are asked each time.
    fn settle_claims(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        for mut claimant in std::mem::take(&mut self.claimants) {
            if claimant.gives_way(&self.shared) {
                claimant.socket.reset();
                continue;
            }
            let (outcome, read) = claimant.poll(&self.shared, cx);
            progress |= read || outcome != Claim::Waiting;
            match outcome {
                Claim::Waiting => {
                    claimant.report();
                    self.claimants.push(claimant);
                }
                Claim::Authenticated(tcp) => {
                    self.shared.drive(|state| ask_kernel(&mut state.conn, tcp, &claimant.socket));
                    self.add_carrier(tcp, claimant.socket);
                }
                Claim::Refused => {
                    claimant.report_refusal(&self.shared);
                    if self.leaving.len() >= MAX_LEAVING {
                        claimant.socket.reset();
                    } else {
                        self.leaving.push(Leaving::new(self.now, None, claimant.socket));
                    }
                }
            }
        }
        progress
    }

    /// Frees the buffers after a time without traffic.
    fn tidy(&mut self, has_written: bool) {
        if has_written {
            self.busy = Some(self.now);
        } else if self.busy.is_some_and(|busy| busy + QUIET <= self.now) {
            self.carriers.iter_mut().for_each(|carrier| carrier.socket.release());
            self.shared.drive(State::shrink_to_fit);
            self.busy = None;
        }
    }

    /// Returns what follows the turn; sets the timer before a sleep.
    fn finish(&mut self, again: bool, written: Written, cx: &mut Context<'_>) -> Next {
        let mine = self.deadline();
        let is_empty = self.carriers.is_empty() && self.leaving.is_empty() && self.claimants.is_empty();
        let (shared, mut dialer) = (self.shared.clone(), None);
        let (next, deadline) = shared.drive(|state| {
            note_room(state, &self.carriers);
            if again | self.endings.tell(self.now, &mut state.conn) | self.take_discarded(state) | written.more(state) {
                return (Next::Turn, None);
            }
            let redial = state.dialer.as_ref().and_then(|dialer| dialer.poll_timeout());
            state.asleep_until = state.conn.poll_timeout().into_iter().chain(redial).chain(mine).min();
            let is_over = is_empty && state.is_closed() && state.inbox.is_empty() && self.mailbox.is_empty();
            if is_over {
                // At once: what is delivered from now on goes back.
                dialer = state.end_task();
                return (Next::Over, None);
            }
            (Next::Sleep, state.asleep_until)
        });
        drop(dialer);
        self.due = deadline;
        match deadline {
            Some(deadline) if next == Next::Sleep => self.sleep_until(deadline, cx),
            _ => next,
        }
    }

    /// Returns the next deadline besides those of the session and the dialer.
    fn deadline(&self) -> Option<Time> {
        let leaving = self.leaving.iter().map(Leaving::deadline);
        leaving.chain(self.endings.deadline()).chain(self.busy.map(|busy| busy + QUIET)).min()
    }

    /// Moves discarded sockets to `leaving`; returns whether there are any.
    fn take_discarded(&mut self, state: &mut State) -> bool {
        let (discarded, closed) = (std::mem::take(&mut state.discarded), state.is_closed());
        // Sockets of a session that gave way are closed at once.
        let has_final_bytes = closed && state.closed() != Some(CloseReason::Evicted);
        let before = self.leaving.len();
        for carrier in self.carriers.extract_if(.., |carrier| closed || discarded.contains(&carrier.tcp)) {
            let leaving = Leaving::new(self.now, Some(carrier.tcp), carrier.socket);
            self.leaving.push(if has_final_bytes { leaving.with_final_bytes(self.now) } else { leaving });
        }
        self.leaving.len() > before
    }

    /// The timer is set when it would come too late; one that comes too early is cheaper than to set it each time.
    fn sleep_until(&mut self, deadline: Time, cx: &mut Context<'_>) -> Next {
        let at = instant(deadline).into();
        if self.timer.is_elapsed() || at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_ready() { Next::Turn } else { Next::Sleep }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.read = 0;
        for _ in 0..MAX_TURNS {
            match self.turn(cx) {
                Next::Over => return Poll::Ready(()),
                Next::Sleep => return Poll::Pending,
                Next::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Turn if self.read >= MAX_READ_AT_ONCE => break,
                Next::Turn => {}
            }
        }
        // All other tasks run first, not only those ahead in the runtime's queue.
        pin!(yield_now()).poll(cx)
    }
}

impl Drop for Driver {
    /// Also when the runtime is shut down: it wakes every waiting task, and nothing more will come.
    fn drop(&mut self) {
        drop(self.shared.drive(|state| if state.has_task_ended() { None } else { state.end_task() }));
    }
}

#[cfg(test)]
mod tests;
