//! What applications do: streams, addresses, TCP connections.

use core::net::SocketAddr;

use bytes::Bytes;

use super::Connection;
use super::schedule::Scheduler;
use super::trace::Event;
use crate::error::{AddressError, OpenStreamError, ReadError, TcpError, WriteError};
use crate::stream::SendProgress;
use crate::time::Time;
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, Side, StreamId};

impl Connection {
    /// Opens a stream. Its first data announces it to the peer.
    ///
    /// In a session without TCPLS the client opens stream 0, once.
    ///
    /// # Errors
    /// See [`OpenStreamError`].
    pub fn open_stream(&mut self) -> Result<StreamId, OpenStreamError> {
        if !self.is_open() {
            return Err(OpenStreamError::Closed);
        }
        if self.plain && self.side == Side::Server {
            return Err(OpenStreamError::Plain);
        }
        self.streams.open()
    }

    /// The next stream that the peer opened, in its order.
    pub fn accept_stream(&mut self) -> Option<StreamId> {
        self.streams.accept()
    }

    /// What can be done with one stream. For a stream that is over or never was, every call says so.
    pub fn stream(&mut self, id: StreamId) -> Stream<'_> {
        Stream { conn: self, id }
    }

    /// Advertises an address of this side: a server's can be connected to, a client's may be connected from (draft, 5.2.7).
    ///
    /// # Errors
    /// See [`AddressError`].
    // draft I12, I45
    pub fn advertise(&mut self, address: SocketAddr) -> Result<AddressId, AddressError> {
        self.check_addresses()?;
        self.control.advertise(address)
    }

    /// Withdraws an address: the peer leaves TCP connections that use it and makes no new ones (draft, 5.2.8); so does this
    /// side.
    ///
    /// # Errors
    /// See [`AddressError`].
    // draft I12
    pub fn withdraw(&mut self, id: AddressId) -> Result<(), AddressError> {
        self.check_addresses()?;
        self.control.withdraw(id)?;
        self.leave_withdrawn_addresses();
        Ok(())
    }

    /// The peer's addresses that are in force. Suggestions: whether to connect to one is the application's decision.
    pub fn peer_addresses(&self) -> impl Iterator<Item = (AddressId, SocketAddr)> + '_ {
        self.control.peer_addresses()
    }

    fn check_addresses(&self) -> Result<(), AddressError> {
        if !self.is_open() {
            Err(AddressError::Closed)
        } else if self.plain {
            Err(AddressError::Plain)
        } else {
            Ok(())
        }
    }

    /// Says between which addresses a TCP connection runs, so that it can be left when one of them is, or was, withdrawn.
    pub fn set_tcp_addresses(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.runs_between(local, remote);
        }
        self.leave_withdrawn_addresses();
    }

    /// Marks a TCP connection as a backup, to be used only when no other lives, or as available again; the peer is asked to
    /// do the same.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn set_backup(&mut self, tcp: ConnectionId, backup: bool) -> Result<(), TcpError> {
        self.check_tcp(tcp)?;
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.request_backup(backup);
        }
        self.control.owe_status(tcp);
        Ok(())
    }

    /// Asks for a sign of life on one TCP connection: a Ping goes out, its acknowledgment comes back on the same one.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn ping(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.check_tcp(tcp)?;
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().ask();
            self.activity.ask();
        }
        Ok(())
    }

    /// Sends a TCP option inside the encrypted session: the peer's application gets an event and may act on it. At most 64
    /// bytes of `value` are sent; an endpoint sends at most 256 options in a session and ignores further calls.
    ///
    /// # Errors
    /// See [`TcpError`]; never [`TcpError::Unknown`] or [`TcpError::Last`].
    pub fn send_tcp_option(&mut self, kind: u8, value: &[u8]) -> Result<(), TcpError> {
        if !self.is_open() {
            return Err(TcpError::Closed);
        }
        if self.plain {
            return Err(TcpError::Plain);
        }
        self.control.send_option(kind, value);
        Ok(())
    }

    /// Starts a new generation of this side's keys on all TCP connections. While one is still under way, until the peer has
    /// acknowledged something of it on each of them, and for 40 ms, the next waits; there is never more than one that waits,
    /// and it starts by itself. No effect before the handshake is over.
    pub fn update_keys(&mut self, now: Time) {
        self.trace.set_now(now);
        self.renewal.owed = self.keys.is_some();
        self.start_owed_key_update(now, None);
    }

    /// Chooses how stream data is spread over TCP connections; from the next record on.
    pub fn set_scheduler(&mut self, scheduler: Box<dyn Scheduler>) {
        self.scheduler = scheduler;
    }

    /// Whether the owner should go on reading from this TCP connection's socket. With flow control both ways, which ALPN
    /// sessions always have, it is true as long as the TCP connection lives; a plain session stops reading when the
    /// application does not.
    pub fn wants_read(&self, tcp: ConnectionId) -> bool {
        let full = self.plain && self.streams.buffered_to_read() as u64 >= self.config.max_stream_window;
        self.tcps.contains(tcp) && !full
    }

    /// Leaves TCP connection `tcp` on purpose: nothing new is put on it while another lives, what it has is waited for, the
    /// peer is asked to do the same; then it is discarded.
    ///
    /// # Errors
    /// [`TcpError::Last`] if no other TCP connection is up: close the session instead.
    pub fn retire_tcp(&mut self, now: Time, tcp: ConnectionId) -> Result<(), TcpError> {
        self.check_tcp(tcp)?;
        if !self.tcps.iter().any(|entry| entry.id() != tcp && entry.is_active()) {
            return Err(TcpError::Last);
        }
        self.trace.set_now(now);
        self.retire(now, tcp);
        self.settle(now);
        Ok(())
    }

    /// Ends the session. With `error` 0 what was written is delivered first, as long as the peer takes something within each
    /// [`Config::close_timeout`], and [`Config::close_limit`] in all; with any other it is dropped. Whether all was delivered
    /// is what [`Connection::undelivered`] says then. `reason` is text for people; 1 KiB of it is sent. Calling it again
    /// changes nothing.
    ///
    /// [`Config::close_timeout`]: crate::config::Config::close_timeout
    /// [`Config::close_limit`]: crate::config::Config::close_limit
    pub fn close(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        if !self.is_open() {
            return;
        }
        self.trace.set_now(now);
        self.trace.emit(|| Event::Closing { error });
        if !self.established {
            return self.abandon_handshake(error);
        }
        self.ending.request(now, error, reason, &self.config);
        self.streams.stop_writing();
        if error != ErrorCode::default() {
            self.streams.drop_outgoing();
        }
        self.drop_claims();
        self.settle(now);
        self.conclude_if_alone();
    }
}

/// One stream of a session, borrowed for a moment. No call blocks.
pub struct Stream<'a> {
    conn: &'a mut Connection,
    id: StreamId,
}

impl Stream<'_> {
    /// Copies as much of `data` as there is room for and returns how much that was; at least one byte unless `data` is empty.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        self.conn.streams.write(self.id, data)
    }

    /// Takes as much off the front of `data` as there is room for, without copying, and returns how much that was.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_chunk(&mut self, data: &mut Bytes) -> Result<usize, WriteError> {
        self.conn.streams.write_chunk(self.id, data)
    }

    /// Returns how many bytes a write would take now, at least one.
    ///
    /// An application that reads its data from a file or a socket asks first, and reads no more than that.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Blocked`] if there is no room, and [`StreamEvent::Writable`] follows when there is.
    ///
    /// [`StreamEvent::Writable`]: crate::event::StreamEvent::Writable
    pub fn writable(&mut self) -> Result<usize, WriteError> {
        self.conn.streams.writable(self.id)
    }

    /// Nothing more will be written; the peer sees the end after what was.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.conn.streams.finish(self.id)
    }

    /// Reports how far written data has got.
    ///
    /// The session remembers the end of the newest 256 streams that the peer stopped or that the session cut short.
    pub fn sending(&self) -> SendProgress {
        self.conn.streams.sending(self.id)
    }

    /// Gives up what was written and is not delivered; the peer sees `error`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn reset(&mut self, error: ErrorCode) -> Result<(), WriteError> {
        self.conn.streams.reset(self.id, error)
    }

    /// The next bytes in order, at most `max`; `None` is the end. What comes is the buffer that the record was received in.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        self.conn.streams.read(self.id, max)
    }

    /// Reads no more; the peer is asked to send no more and sees `error`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn stop(&mut self, error: ErrorCode) -> Result<(), ReadError> {
        self.conn.streams.stop(self.id, error)
    }

    /// Lets TCP connection `tcp` carry this stream. A stream that was attached to none may use any; attached to some, it uses
    /// those alone, until they are all gone.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn attach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.conn.check_tcp(tcp)?;
        self.conn.streams.attach(self.id, tcp);
        Ok(())
    }

    /// Takes that back. A stream that is attached to none may use any.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn detach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.conn.check_tcp(tcp)?;
        self.conn.streams.detach(self.id, tcp);
        Ok(())
    }

    /// Streams with a higher priority are sent first; equal ones take turns. 0 at the start.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_priority(&mut self, priority: i8) -> Result<(), WriteError> {
        self.conn.streams.set_priority(self.id, priority)
    }
}
