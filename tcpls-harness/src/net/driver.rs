//! The task of one session: what sockets, time and the application do becomes calls on the state machine, and what it
//! wants to send goes to whichever sockets have room.
//!
//! A turn reads once from every socket, then seals one batch for each that has room. Turns go on as long as they achieve
//! something; then the task sleeps until a socket is ready, time is up, or the application has done something.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tcpls_core::connection::{Claim, Connection, TcpEnd};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;
use tokio::time::Sleep;

use super::claims::Claimant;
use super::dials::Dials;
use super::endings::Endings;
use super::leaving::Leaving;
use super::os::{instant, now};
use super::shared::{Input, Shared, State};
use super::socket::Socket;
use super::tcp_info::{free_window, tcp_info};
use crate::dial::{Action, Dialer};

/// Turns after which other tasks get their chance.
const MAX_TURNS: usize = 16;
/// Reads from a socket that can't be written to any more: what a receive buffer may hold.
const MAX_LAST_READS: usize = 64;
/// Sockets on their way out beyond which claims that are turned away are reset.
const MAX_LEAVING: usize = 32;
/// A congestion window that has less room than this is full.
const MIN_FLIGHT: usize = 2 * 1024;

/// Drives a session until it is over and its sockets are closed.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    sockets: Vec<(ConnectionId, Socket)>,
    claimants: Vec<Claimant>,
    leaving: Vec<Leaving>,
    endings: Endings,
    /// Client, from the end of the handshake on.
    dials: Option<Dials>,
    timer: Pin<Box<Sleep>>,
}

impl Driver {
    /// A driver for a session whose TCP connection `tcp` has this socket; what the socket has read is acted on first.
    pub(crate) fn new(shared: Arc<Shared>, tcp: ConnectionId, socket: Socket) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(instant(now()).into()));
        let (sockets, claimants, leaving) = (Vec::new(), Vec::new(), Vec::new());
        let endings = Endings::default();
        let mut driver = Self { shared, sockets, claimants, leaving, endings, dials: None, timer };
        driver.attach(tcp, socket);
        driver
    }

    /// From now on `socket` carries TCP connection `tcp`.
    fn attach(&mut self, tcp: ConnectionId, mut socket: Socket) {
        let (local, remote) = (socket.stream().local_addr().ok(), socket.stream().peer_addr().ok());
        self.shared.drive(|state| {
            state.conn.set_tcp_addresses(tcp, local, remote);
            ask_kernel(&mut state.conn, tcp, &socket);
            if tcp == ConnectionId::FIRST {
                state.local = local;
            }
            if !socket.input().is_empty() {
                state.conn.handle_bytes(now(), tcp, socket.input());
            }
        });
        self.sockets.push((tcp, socket));
    }

    /// One turn; whether anything came of it.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        self.take_inbox(cx);
        self.check_time();
        self.dial(cx);
        let read = self.read(cx);
        let claimed = self.settle_claims(cx);
        self.take_discarded(cx);
        let written = self.write(cx);
        self.take_discarded(cx);
        read || claimed || written
    }

    /// The waker is left first: what the application does from here on is not missed.
    fn take_inbox(&mut self, cx: &Context<'_>) {
        let inbox = self.shared.drive(|state| {
            state.attend(cx.waker());
            std::mem::take(&mut state.inbox)
        });
        for input in inbox {
            match input {
                Input::Opened(tcp, stream) => self.attach(tcp, Socket::new(stream, Default::default())),
                Input::Join(stream, join, input) => {
                    self.claimants.push(Claimant::new(&self.shared, stream, join, input));
                }
                Input::Dial(dials) => self.dials = Some(dials),
                Input::Reset(tcp) => self.reset(tcp),
            }
        }
    }

    /// Tells the dialer what became of sockets, and does what it wants.
    fn dial(&mut self, cx: &mut Context<'_>) {
        loop {
            let Some(dials) = &mut self.dials else { return };
            while let Poll::Ready((attempt, path, outcome)) = dials.poll(cx) {
                if !self.shared.drive(|state| state.note_dialed(attempt, path, outcome)) {
                    dials.abandon(attempt);
                }
            }
            let actions = self.shared.drive(State::dial);
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.obey(action));
        }
    }

    fn obey(&mut self, action: Action) {
        let Some(dials) = &mut self.dials else { return };
        match action {
            Action::Connect { attempt, path } => dials.connect(attempt, path),
            Action::Abandon { attempt, timed_out } => {
                let path = dials.abandon(attempt).filter(|_| timed_out);
                self.shared.drive(|state| path.into_iter().for_each(|path| state.note_timed_out(path)));
            }
            Action::Join { attempt, zero_rtt } => {
                let Some(stream) = dials.take(attempt) else { return };
                if let Some(tcp) = self.shared.drive(|state| state.join(attempt, zero_rtt)) {
                    self.attach(tcp, Socket::new(stream, Default::default()));
                }
            }
            Action::Reset { tcp } => self.reset(tcp),
            // There may be no other left, and then it is the one to stay.
            Action::Retire { tcp } => _ = self.shared.drive(|state| state.conn.retire_tcp(now(), tcp)),
            // These belong to the start.
            Action::Handshake { .. } | Action::GiveUp => {}
        }
    }

    fn reset(&mut self, tcp: ConnectionId) {
        if let Some(socket) = self.detach(tcp) {
            socket.reset();
            self.shared.drive(|state| state.conn.handle_tcp_end(now(), tcp, TcpEnd::Reset));
        }
    }

    fn detach(&mut self, tcp: ConnectionId) -> Option<Socket> {
        let index = self.sockets.iter().position(|(other, _)| *other == tcp)?;
        Some(self.sockets.remove(index).1)
    }

    /// Silence is judged by what the kernel says, so it is asked first.
    fn check_time(&mut self) {
        self.shared.drive(|state| {
            if state.conn.poll_timeout().is_some_and(|at| at <= now()) {
                self.sockets.iter().for_each(|(tcp, socket)| ask_kernel(&mut state.conn, *tcp, socket));
                state.conn.handle_timeout(now());
            }
        });
    }

    /// Reads once from each socket that the session wants to be read.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let mut paused = Vec::new();
        for (tcp, socket) in &mut self.sockets {
            if !self.shared.drive(|state| state.conn.wants_read(*tcp)) {
                paused.push(*tcp);
                continue;
            }
            let Poll::Ready(read) = socket.poll_read(cx) else { continue };
            progress = true;
            match read {
                Ok(_) => self.shared.drive(|state| state.conn.handle_bytes(now(), *tcp, socket.input())),
                Err(how) => self.shared.drive(|state| self.endings.add(now(), *tcp, how, &state.conn)),
            }
        }
        self.shared.drive(|state| {
            state.paused = paused;
            self.endings.tell(now(), &mut state.conn);
        });
        progress
    }

    /// A claim can be decided by what happens elsewhere in the session: all are asked each time.
    fn settle_claims(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        for mut claimant in std::mem::take(&mut self.claimants) {
            let (outcome, read) = claimant.poll(&self.shared, cx);
            progress |= read || outcome != Claim::Waiting;
            match outcome {
                Claim::Waiting => self.claimants.push(claimant),
                Claim::Proven(tcp) => {
                    self.shared.drive(|state| ask_kernel(&mut state.conn, tcp, &claimant.socket));
                    self.sockets.push((tcp, claimant.socket));
                }
                Claim::Refused if self.leaving.len() >= MAX_LEAVING => claimant.socket.reset(),
                Claim::Refused => self.leaving.push(Leaving::new(now(), None, claimant.socket)),
            }
        }
        progress
    }

    /// Sockets that the session let go of get their last words and leave.
    fn take_discarded(&mut self, cx: &mut Context<'_>) {
        let (discarded, closed) =
            self.shared.drive(|state| (std::mem::take(&mut state.discarded), state.closed().is_some()));
        for (tcp, socket) in self.sockets.extract_if(.., |(tcp, _)| closed || discarded.contains(tcp)) {
            self.leaving.push(Leaving::new(now(), Some(tcp), socket));
        }
        for leaving in &mut self.leaving {
            if let (Some(tcp), true) = (leaving.tcp, leaving.socket.is_flushed()) {
                let batch = leaving.socket.batch();
                self.shared.drive(|state| state.conn.poll_transmit(now(), tcp, batch, leaving.socket.out()));
            }
        }
        self.leaving.retain_mut(|leaving| !leaving.poll(now(), cx));
    }

    /// Writes one batch on each socket with room. The session learns first which TCP connections are full, so that others
    /// can take over what would have gone there.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = 0;
        let mut with_room = Vec::with_capacity(self.sockets.len());
        for (tcp, socket) in &mut self.sockets {
            progress += flush(&self.shared, &mut self.endings, *tcp, socket, cx);
            if !self.endings.contains(*tcp) && socket.is_flushed() && socket.poll_writable(cx) {
                with_room.push(*tcp);
            } else {
                self.shared.drive(|state| state.conn.poll_transmit(now(), *tcp, 0, &mut Vec::new()));
            }
        }
        for (tcp, socket) in self.sockets.iter_mut().filter(|(tcp, _)| with_room.contains(tcp)) {
            self.shared.drive(|state| {
                let room = room(&state.conn, *tcp, socket);
                state.conn.poll_transmit(now(), *tcp, room, socket.out());
            });
            progress += flush(&self.shared, &mut self.endings, *tcp, socket, cx);
        }
        self.shared.drive(|state| {
            state.with_room = with_room;
            self.endings.tell(now(), &mut state.conn);
        });
        progress > 0
    }

    /// Whether nothing is left to be done, ever.
    fn is_over(&self) -> bool {
        self.sockets.is_empty()
            && self.leaving.is_empty()
            && self.claimants.is_empty()
            && self.shared.drive(|state| state.closed().is_some() && state.inbox.is_empty())
    }

    /// Sets the timer; true if it is up already.
    fn arm(&mut self, cx: &mut Context<'_>) -> bool {
        let leaving = self.leaving.iter().map(Leaving::deadline).min();
        let ending = self.endings.deadline();
        let deadline: Option<Time> = self.shared.drive(|state| {
            let dialer = state.dialer.as_ref().and_then(Dialer::poll_timeout);
            state.asleep_until = state.conn.poll_timeout().into_iter().chain(leaving).chain(dialer).chain(ending).min();
            state.asleep_until
        });
        let Some(deadline) = deadline.map(|at| instant(at).into()) else { return false };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }
}

/// Tells the session what the kernel knows about a TCP connection.
fn ask_kernel(conn: &mut Connection, tcp: ConnectionId, socket: &Socket) {
    if let Some(info) = tcp_info(socket.stream()) {
        conn.handle_tcp_info(tcp, info);
    }
}

/// How much to seal for a socket that has room. On one that was idle the peer can read nothing before a record is whole: the
/// first should fit into one flight.
fn room(conn: &Connection, tcp: ConnectionId, socket: &Socket) -> usize {
    let batch = socket.batch();
    if !conn.wants_write(tcp) || conn.tcp_stats(tcp).is_none_or(|stats| stats.bytes_in_flight > batch as u64) {
        return batch;
    }
    first_flight(batch, free_window(socket.stream()))
}

/// `window`: what the congestion window would let go at once, if that is known.
fn first_flight(batch: usize, window: Option<usize>) -> usize {
    window.filter(|window| *window >= MIN_FLIGHT).map_or(batch, |window| window.min(batch))
}

/// Writes what was sealed; how much progress that was.
fn flush(
    shared: &Shared,
    endings: &mut Endings,
    tcp: ConnectionId,
    socket: &mut Socket,
    cx: &mut Context<'_>,
) -> usize {
    if socket.is_flushed() {
        return 0;
    }
    match socket.poll_flush(cx) {
        Poll::Ready(Ok(len)) => len,
        Poll::Ready(Err(how)) => {
            read_to_end(shared, tcp, socket, cx);
            shared.drive(|state| endings.add(now(), tcp, how, &state.conn));
            1
        }
        Poll::Pending => 0,
    }
}

/// Writing failed. What the peer said before it closed, an alert perhaps, may still wait to be read.
fn read_to_end(shared: &Shared, tcp: ConnectionId, socket: &mut Socket, cx: &mut Context<'_>) {
    for _ in 0..MAX_LAST_READS {
        let Poll::Ready(Ok(_)) = socket.poll_read(cx) else { return };
        shared.drive(|state| state.conn.handle_bytes(now(), tcp, socket.input()));
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..MAX_TURNS {
            if self.turn(cx) {
                continue;
            }
            if self.is_over() {
                return Poll::Ready(());
            }
            if !self.arm(cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    /// Also when the runtime is shut down: whoever waits is told that nothing will come.
    fn drop(&mut self) {
        self.shared.drive(|state| state.end_task());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_first_on_an_idle_socket_fits_into_its_window_unless_that_is_full() {
        assert_eq!(first_flight(32_768, Some(14_480)), 14_480);
        assert_eq!(first_flight(32_768, Some(100_000)), 32_768);
        assert_eq!(first_flight(32_768, Some(1448)), 32_768, "small records would not arrive sooner");
        assert_eq!(first_flight(32_768, None), 32_768);
    }
}
