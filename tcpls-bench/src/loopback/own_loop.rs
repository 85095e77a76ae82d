//! A session in an event loop of its owner's, as docs/driving.md describes it: one thread, one socket, poll(2), no runtime.
//! What `tcpls` has more is tokio and the handles for applications.

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

/// Bulk transfer on one TCP connection and one stream.
pub fn run(job: &Job) -> Outcome<Sample> {
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
        let conn =
            Connection::server(end.now(), Arc::new(Config::default()), server.handshake()?, session, Seed([4; 32]));
        Loop { conn, end }.receive(meter)
    };
    two_ends(job, receive, |address, meter| {
        let end = Sockets::new(connect(address)?);
        let config = Arc::new(Config::default());
        let conn = Connection::client(end.now(), config, client.handshake(server_name())?, Seed([1; 32]));
        Loop { conn, end }.send(meter)
    })
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

    /// Reads once, into memory that nobody has cleared before; how much that was.
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
                // SAFETY: the kernel has written so many bytes behind what was there.
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
    /// Tells the session what happened, lets it speak; waits first if the turn before achieved nothing.
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
        // A session takes what came before; the end of a socket that has closed in order is none of its business here.
        self.conn.handle_bytes(now, TCP, &mut self.end.input);
        while self.conn.poll_event().is_some() {}
        if self.end.out.is_empty() {
            self.conn.poll_transmit(now, TCP, BATCH, &mut self.end.out);
        }
        moved += self.end.flush()?;
        Ok(moved > 0)
    }

    fn is_over(&self) -> bool {
        self.conn.state() == State::Closed || self.end.ended
    }

    fn send(mut self, mut meter: Meter) -> Outcome<Meter> {
        self.end.socket.set_nonblocking(true)?;
        while self.conn.state() != State::Established {
            self.turn(true)?;
        }
        let id = self.conn.open_stream()?;
        let mut busy = true;
        while meter.left() > 0 {
            while meter.left() > 0 {
                let mut piece = Bytes::from_static(next_piece(meter.left(), BATCH));
                match self.conn.stream(id).write_chunk(&mut piece) {
                    Ok(len) => meter.moved(len),
                    Err(WriteError::Blocked) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            busy = self.turn(!busy)?;
        }
        self.conn.stream(id).finish()?;
        while !self.is_over() {
            busy = self.turn(!busy)?;
        }
        meter.finish();
        Ok(meter)
    }

    fn receive(mut self, mut meter: Meter) -> Outcome<Meter> {
        self.end.socket.set_nonblocking(true)?;
        let (mut stream, mut busy, mut all) = (None, true, false);
        while !all {
            busy = self.turn(!busy)?;
            stream = stream.or_else(|| self.conn.accept_stream());
            all = stream.is_some_and(|id| read(&mut self.conn, id, &mut meter)) || self.is_over();
        }
        let now = self.end.now();
        self.conn.close(now, ErrorCode(0), b"");
        while !self.is_over() {
            busy = self.turn(!busy)?;
        }
        Ok(meter)
    }
}

/// Reads what is there; whether it was the end.
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
