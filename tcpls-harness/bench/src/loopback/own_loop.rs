//! A session in an event loop of its own, as docs/driving.md describes it: one thread, one socket, poll(2), no runtime.
//! `tcpls` adds tokio and the handles for applications.

use std::io::{self, ErrorKind, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tcpls_core::error::{ReadError, WriteError};
use tcpls_core::{
    Config, Connection, ConnectionId, Endpoint, EndpointConfig, ErrorCode, Incoming, Seed, State, StreamId, Time,
};

use super::bare::next_piece;
use super::{BATCH, Job, Sample, accept, connect, two_ends};
use crate::Outcome;
use crate::meter::Meter;
use crate::tls::server_name;

const TCP: ConnectionId = ConnectionId::FIRST;

/// How the event loop drives a session.
#[derive(Clone)]
pub struct Habits {
    /// Of both ends.
    pub config: Config,
    /// Bytes that are written at once.
    pub write: usize,
    /// Whether they are copied into the stream.
    pub copy: bool,
    /// Bytes that are written, if the stream takes them, before it looks at what else there is to do.
    pub at_once: usize,
    /// The step after each write.
    pub then: Then,
}

/// The step after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next.
    Write,
    /// A record of its own; 256 KiB of records are given to the socket at once.
    Seal,
    /// What was written is given to the socket.
    Send,
}

impl Default for Habits {
    fn default() -> Self {
        Self { config: Config::default(), write: BATCH, copy: false, at_once: usize::MAX, then: Then::Write }
    }
}

/// What both ends of a run have counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Bytes on the wire in records that waited for an acknowledgment: the most, after any turn of the sender's.
    pub most_in_flight: u64,
    /// The sum of them, and the number of turns.
    in_flight: (u64, u64),
    /// Acknowledgments that the receiver sent.
    pub acks: u64,
    /// Records that the receiver sent.
    pub records_back: u64,
}

impl Seen {
    /// Bytes in flight, the mean over the sender's turns.
    pub fn mean_in_flight(&self) -> f64 {
        self.in_flight.0 as f64 / self.in_flight.1.max(1) as f64
    }

    fn look_at(&mut self, conn: &Connection) {
        let bytes = conn.tcp_stats(TCP).map_or(0, |stats| stats.bytes_in_flight);
        self.most_in_flight = self.most_in_flight.max(bytes);
        self.in_flight = (self.in_flight.0 + bytes, self.in_flight.1 + 1);
    }
}

/// Bulk transfer on one TCP connection and one stream.
pub fn run(job: &Job) -> Outcome<Sample> {
    Ok(run_as(job, &Habits::default())?.0)
}

/// The same, with another way of driving.
pub fn run_as(job: &Job, habits: &Habits) -> Outcome<(Sample, Seen)> {
    let config = Arc::new(habits.config.clone());
    let (mut sent, mut received) = (Seen::default(), Seen::default());
    let (client, server) = (job.tls.tcpls_client()?, job.tls.tcpls_server()?);
    let receive = |address_is, meter| {
        let mut end = Sockets::new(accept(&address_is)?);
        let mut endpoint = Endpoint::new(EndpointConfig::default(), [2; 32], Seed([3; 32]));
        let incoming = endpoint.handle_accepted(end.now());
        let session = loop {
            end.wait(false)?;
            end.read()?;
            match endpoint.handle_bytes(end.now(), incoming, &mut end.input) {
                Some(Incoming::New(session)) => break session,
                Some(_) => return Err("not a new session".into()),
                None => {}
            }
        };
        let conn = Connection::server(end.now(), config.clone(), server.handshake()?, session, Seed([4; 32]));
        Loop { conn, end }.receive(meter, &mut received)
    };
    let sample = two_ends(job, receive, |address, meter| {
        let end = Sockets::new(connect(address)?);
        let conn = Connection::client(end.now(), config.clone(), client.handshake(server_name())?, Seed([1; 32]));
        Loop { conn, end }.send(meter, habits, &mut sent)
    })?;
    Ok((sample, Seen { acks: received.acks, records_back: received.records_back, ..sent }))
}

/// One socket with its buffers.
struct Sockets {
    socket: TcpStream,
    origin: Instant,
    input: BytesMut,
    ended: bool,
    out: Vec<u8>,
    written: usize,
}

impl Sockets {
    fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            origin: Instant::now(),
            input: BytesMut::new(),
            ended: false,
            out: Vec::with_capacity(BATCH),
            written: 0,
        }
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Until something can be read, or also written, or for a millisecond: nothing here is due earlier.
    fn wait(&self, full: bool) -> io::Result<()> {
        let write = if full { PollFlags::POLLOUT } else { PollFlags::empty() };
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN | write)];
        poll(&mut fds, PollTimeout::from(1_u8))?;
        Ok(())
    }

    /// Reads once, into memory that was not cleared before; how much that was.
    fn read(&mut self) -> io::Result<usize> {
        if self.input.capacity() - self.input.len() < BATCH / 4 {
            self.input.reserve(BATCH);
        }
        let room: &mut [MaybeUninit<u8>] = self.input.spare_capacity_mut();
        match SockRef::from(&self.socket).recv(room) {
            Ok(0) => {
                self.ended = true;
                Ok(0)
            }
            Ok(len) => {
                // SAFETY: the kernel has written this many bytes behind what was there.
                unsafe { self.input.set_len(self.input.len() + len) };
                Ok(len)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Writes until nothing is left, or the socket is full.
    fn flush(&mut self) -> io::Result<usize> {
        let before = self.written;
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(self.written - before),
                Err(error) => return Err(error),
            }
        }
        let flushed = self.written - before;
        self.out.clear();
        self.written = 0;
        Ok(flushed)
    }
}

struct Loop {
    conn: Connection,
    end: Sockets,
}

impl Loop {
    /// Reports input to the session and sends its output; waits first if the previous turn achieved nothing.
    fn turn(&mut self, idle: bool) -> Outcome<bool> {
        if idle {
            self.end.wait(!self.end.out.is_empty())?;
        }
        let now = self.end.now();
        if self.conn.poll_timeout().is_some_and(|due| due <= now) {
            self.conn.handle_timeout(now);
        }
        let mut moved = 0;
        if self.conn.wants_read(TCP) {
            moved += self.end.read()?;
        }
        // A session takes what arrived before; the end of a socket that has closed in order is none of its business here.
        self.conn.handle_bytes(now, TCP, &mut self.end.input);
        while self.conn.poll_event().is_some() {}
        moved += self.transmit()?;
        Ok(moved > 0)
    }

    /// Writes pending bytes to the socket; returns how many it took.
    fn transmit(&mut self) -> Outcome<usize> {
        if self.end.out.is_empty() {
            self.conn.poll_transmit(self.end.now(), TCP, BATCH, &mut self.end.out);
        }
        Ok(self.end.flush()?)
    }

    /// Writes as long as the stream takes something, and what is to follow each write follows.
    fn write(&mut self, id: StreamId, meter: &mut Meter, habits: &Habits) -> Outcome {
        let mut written = 0;
        while meter.left() > 0 && written < habits.at_once && self.end.out.len() < BATCH {
            let piece = next_piece(meter.left(), habits.write);
            let mut stream = self.conn.stream(id);
            let outcome =
                if habits.copy { stream.write(piece) } else { stream.write_chunk(&mut Bytes::from_static(piece)) };
            match outcome {
                Ok(len) => meter.moved(len),
                Err(WriteError::Blocked) => break,
                Err(error) => return Err(error.into()),
            }
            written += piece.len();
            match habits.then {
                Then::Write => {}
                Then::Seal => _ = self.conn.poll_transmit(self.end.now(), TCP, BATCH, &mut self.end.out),
                Then::Send => _ = self.transmit()?,
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.conn.state() == State::Closed || self.end.ended
    }

    fn send(mut self, mut meter: Meter, habits: &Habits, seen: &mut Seen) -> Outcome<Meter> {
        self.end.socket.set_nonblocking(true)?;
        while self.conn.state() != State::Established {
            self.turn(true)?;
        }
        let id = self.conn.open_stream()?;
        let mut busy = true;
        while meter.left() > 0 {
            self.write(id, &mut meter, habits)?;
            busy = self.turn(!busy)?;
            seen.look_at(&self.conn);
        }
        self.conn.stream(id).finish()?;
        while !self.is_over() {
            busy = self.turn(!busy)?;
        }
        meter.finish();
        Ok(meter)
    }

    fn receive(mut self, mut meter: Meter, seen: &mut Seen) -> Outcome<Meter> {
        self.end.socket.set_nonblocking(true)?;
        let (mut stream, mut busy, mut all) = (None, true, false);
        while !all {
            busy = self.turn(!busy)?;
            stream = stream.or_else(|| self.conn.accept_stream());
            all = stream.is_some_and(|id| read(&mut self.conn, id, &mut meter)) || self.is_over();
        }
        let counters = self.conn.tcp_stats(TCP).map(|stats| stats.counters).unwrap_or_default();
        (seen.acks, seen.records_back) = (counters.acks_sent, counters.records_sent);
        let now = self.end.now();
        self.conn.close(now, ErrorCode(0), b"");
        while !self.is_over() {
            busy = self.turn(!busy)?;
        }
        Ok(meter)
    }
}

/// Reads what is there; returns whether it was the end.
fn read(conn: &mut Connection, id: StreamId, meter: &mut Meter) -> bool {
    loop {
        match conn.stream(id).read(usize::MAX) {
            Ok(Some(data)) => meter.moved(data.len()),
            Ok(None) => return true,
            Err(ReadError::Blocked) => return false,
            Err(_) => return true,
        }
    }
}
