//! Reads and writes the sockets of a session: passes received bytes to the state machine, and writes one batch of
//! records to each socket with room.
//!
//! Used by the driver, in each of its turns.

use std::task::{Context, Poll};

use tcpls_core::connection::Connection;
use tcpls_core::time::Time;
use tcpls_core::wire::ids::ConnectionId;

use super::Driver;
use super::endings::Endings;
use crate::net::session::{Shared, State};
use crate::net::socket::Socket;

/// The number of reads from a socket that can't be written to any more, for a full receive buffer.
const MAX_LAST_READS: usize = 64;
/// With this much room, pending data can always be sealed.
const ALWAYS_ENOUGH: usize = 256;

/// A socket that carries a TCP connection of the session.
pub(super) struct Carrier {
    pub(super) tcp: ConnectionId,
    pub(super) socket: Socket,
    /// Whether the session does not want to read from it now.
    pub(super) is_paused: bool,
    /// Whether it has room.
    has_room: bool,
}

impl Carrier {
    pub(super) fn new(tcp: ConnectionId, socket: Socket) -> Self {
        Self { tcp, socket, is_paused: false, has_room: false }
    }
}

impl Driver {
    /// Reads once from each socket that the session wants to be read; whether there is more.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut more = false;
        for carrier in self.carriers.iter_mut().filter(|carrier| !carrier.is_paused) {
            let Poll::Ready(read) = carrier.socket.poll_read(cx) else { continue };
            self.shared.drive(|state| match read {
                Ok(_) => state.conn.handle_bytes(self.now, carrier.tcp, carrier.socket.input()),
                Err(how) => self.endings.add(self.now, carrier.tcp, how, &state.conn),
            });
            self.read += read.unwrap_or_default();
            more |= carrier.socket.poll_readable(cx);
        }
        more
    }

    /// Writes one batch on each socket with room. The session learns first which TCP connections are full, so that others can
    /// take over what would have gone there.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) -> Written {
        let mut written = Written::default();
        for carrier in &mut self.carriers {
            written.bytes += flush(&self.shared, &mut self.endings, self.now, carrier, cx);
            carrier.find_room(&self.endings, cx);
        }
        let shared = self.shared.clone();
        let mut next = shared.drive(|state| {
            self.tell_room(state);
            self.seal_from(0, state)
        });
        while let Some((index, filled)) = next {
            let carrier = &mut self.carriers[index];
            written.bytes += flush(&shared, &mut self.endings, self.now, carrier, cx);
            carrier.find_room(&self.endings, cx);
            let is_last = index + 1 == self.carriers.len();
            written.may_be_more |= filled || self.carriers.len() > 1;
            next = if is_last { None } else { shared.drive(|state| self.seal_from(index + 1, state)) };
        }
        written
    }

    /// Reports to the session which sockets have ended, and which are full.
    fn tell_room(&mut self, state: &mut State) {
        self.endings.tell(self.now, &mut state.conn);
        note_room(state, &self.carriers);
        for carrier in self.carriers.iter().filter(|carrier| !carrier.has_room) {
            state.conn.handle_full(self.now, carrier.tcp);
        }
    }

    /// Seals a batch for the first socket with room from this one on; which, and whether the batch was filled.
    fn seal_from(&mut self, start: usize, state: &mut State) -> Option<(usize, bool)> {
        let index = start + self.carriers[start..].iter().position(|carrier| carrier.has_room)?;
        let carrier = &mut self.carriers[index];
        Some((index, seal(&mut state.conn, self.now, carrier.tcp, &mut carrier.socket)))
    }
}

/// The result of writing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    bytes: usize,
    /// Whether batches were full, or one TCP connection's data affects another.
    may_be_more: bool,
}

impl Written {
    pub(super) fn is_some(self) -> bool {
        self.bytes > 0
    }

    /// Whether there is more to write, on sockets that have room.
    pub(super) fn more(self, state: &State) -> bool {
        self.bytes > 0 && self.may_be_more && state.with_room.iter().any(|tcp| state.conn.wants_write(*tcp))
    }
}

impl Carrier {
    fn find_room(&mut self, endings: &Endings, cx: &mut Context<'_>) {
        self.has_room = !endings.contains(self.tcp) && self.socket.is_flushed() && self.socket.poll_writable(cx);
    }
}

/// From here on the application wakes the task when it has something for one of the sockets with room.
pub(super) fn note_room(state: &mut State, carriers: &[Carrier]) {
    state.with_room.clear();
    state.with_room.extend(carriers.iter().filter(|carrier| carrier.has_room).map(|carrier| carrier.tcp));
}

/// Reports the kernel's state of a TCP connection to the session.
pub(super) fn ask_kernel(conn: &mut Connection, tcp: ConnectionId, socket: &Socket) {
    if let Some(info) = socket.tcp_info() {
        conn.handle_tcp_info(tcp, info);
    }
}

/// Seals a batch for a socket that has room; returns whether it was filled. On a socket that was idle the peer can read nothing before
/// a record is complete: the first should fit into one flight. The kernel is not asked for what is sure to.
fn seal(conn: &mut Connection, now: Time, tcp: ConnectionId, socket: &mut Socket) -> bool {
    let batch = socket.batch();
    let in_flight = conn.tcp_stats(tcp).map_or(u64::MAX, |stats| stats.bytes_in_flight);
    if in_flight > batch as u64 {
        return is_filled(batch, conn.poll_transmit(now, tcp, batch, socket.out()));
    }
    let sure = socket.sure_flight(now, in_flight as usize);
    let room = match sure {
        Some(sure) => sure,
        None if conn.wants_write(tcp) => socket.ask_flight(now),
        None => batch,
    };
    let sealed = conn.poll_transmit(now, tcp, room, socket.out());
    let filled = is_filled(room, sealed);
    if filled && sure.is_some_and(|sure| sure < batch) {
        let flight = socket.ask_flight(now);
        conn.poll_transmit(now, tcp, flight.saturating_sub(sealed), socket.out());
    }
    filled
}

/// Whether lack of room may be the reason that only `sealed` bytes were sealed.
fn is_filled(room: usize, sealed: usize) -> bool {
    sealed + ALWAYS_ENOUGH > room
}

/// Writes what was sealed; how much that was.
fn flush(shared: &Shared, endings: &mut Endings, now: Time, carrier: &mut Carrier, cx: &mut Context<'_>) -> usize {
    if carrier.socket.is_flushed() {
        return 0;
    }
    match carrier.socket.poll_flush(now, cx) {
        Poll::Ready(Ok(len)) => len,
        Poll::Ready(Err(how)) => {
            read_to_end(shared, now, carrier, cx);
            shared.drive(|state| endings.add(now, carrier.tcp, how, &state.conn));
            0
        }
        Poll::Pending => 0,
    }
}

/// Writing failed. Bytes that the peer sent before it closed, for example an alert, may still wait to be read.
fn read_to_end(shared: &Shared, now: Time, carrier: &mut Carrier, cx: &mut Context<'_>) {
    for _ in 0..MAX_LAST_READS {
        let Poll::Ready(Ok(_)) = carrier.socket.poll_read(cx) else { return };
        shared.drive(|state| state.conn.handle_bytes(now, carrier.tcp, carrier.socket.input()));
    }
}
