//! The calls of applications: streams, addresses, TCP connections.

use core::net::SocketAddr;
use core::time::Duration;

use bytes::Bytes;

use super::record::{Item, MAX_OFFER, Name, Privacy, Returned, Text};
use super::schedule::Scheduler;
use super::{Connection, trace};
use crate::error::{AddressError, OpenStreamError, ReadError, TcpError, WriteError};
use crate::stream::{SendProgress, StreamClass};
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
        self.recorded(
            |_| Item::OpenStream {},
            Self::begin_stream,
            |outcome| Returned::of_result(outcome, |id| id.0.into()),
        )
    }

    fn begin_stream(&mut self) -> Result<StreamId, OpenStreamError> {
        if !self.is_open() {
            return Err(OpenStreamError::Closed);
        }
        if self.plain && self.side == Side::Server {
            return Err(OpenStreamError::Plain);
        }
        self.streams.open()
    }

    /// Makes a call, and records it with what it returns.
    #[inline(always)]
    fn recorded<T>(
        &mut self,
        call: impl FnOnce(&Privacy) -> Item,
        act: impl FnOnce(&mut Self) -> T,
        value: impl FnOnce(&T) -> Returned,
    ) -> T {
        self.trace.call(call);
        let outcome = act(self);
        self.trace.returned(|| value(&outcome));
        outcome
    }

    /// Returns the next stream that the peer opened, in its order.
    pub fn accept_stream(&mut self) -> Option<StreamId> {
        let value = |id: &Option<StreamId>| id.map_or(Returned::Nothing, |id| Returned::Value(id.0.into()));
        self.recorded(|_| Item::AcceptStream {}, |conn| conn.streams.accept(), value)
    }

    /// Returns the calls on one stream. For an ended or unknown stream, every call returns an error.
    pub fn stream(&mut self, id: StreamId) -> Stream<'_> {
        Stream { conn: self, id }
    }

    /// Advertises an address of this endpoint: one that a client can connect to, or will connect from (draft, 5.2.7).
    ///
    /// # Errors
    /// See [`AddressError`].
    // draft I12, I45
    pub fn advertise(&mut self, address: SocketAddr) -> Result<AddressId, AddressError> {
        let advertise = |conn: &mut Self| {
            conn.check_addresses()?;
            conn.control.advertise(address)
        };
        let call = |privacy: &Privacy| Item::Advertise { address: privacy.address(address) };
        self.recorded(call, advertise, |outcome| Returned::of_result(outcome, |id| id.0.into()))
    }

    /// Withdraws an address: both endpoints retire the TCP connections that use it, and open no new ones (draft,
    /// 5.2.8).
    ///
    /// # Errors
    /// See [`AddressError`].
    // draft I12
    pub fn withdraw(&mut self, id: AddressId) -> Result<(), AddressError> {
        let withdraw = |conn: &mut Self| {
            conn.check_addresses()?;
            conn.control.withdraw(id)?;
            conn.leave_withdrawn_addresses();
            Ok(())
        };
        self.recorded(|_| Item::Withdraw { id }, withdraw, done)
    }

    /// Returns the addresses that the peer advertises now. The application decides whether to connect to one.
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

    /// Sets the addresses of a TCP connection, so that the session retires it when one of them is, or was, withdrawn.
    pub fn set_tcp_addresses(&mut self, tcp: ConnectionId, local: Option<SocketAddr>, remote: Option<SocketAddr>) {
        self.trace.call(|privacy| {
            let hidden = |address: Option<SocketAddr>| address.map(|address| privacy.address(address));
            Item::SetTcpAddresses { tcp, local: hidden(local), remote: hidden(remote) }
        });
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.runs_between(local, remote);
            self.joins.note_remote(tcp, remote);
            self.trace.emit(|| trace::Event::TcpAddresses { tcp, local, remote });
        }
        self.leave_withdrawn_addresses();
    }

    /// Returns the local address of `tcp` from [`Connection::set_tcp_addresses`], if it is known.
    pub fn local_address(&self, tcp: ConnectionId) -> Option<SocketAddr> {
        self.tcps.get(tcp)?.local_address()
    }

    /// Marks a TCP connection as a backup, used only when no other is live, or as available again. Asks the peer to do
    /// the same, unless the session has only the draft's frames.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn set_backup(&mut self, tcp: ConnectionId, backup: bool) -> Result<(), TcpError> {
        let set = |conn: &mut Self| {
            conn.check_tcp(tcp)?;
            if let Some(entry) = conn.tcps.get_mut(tcp) {
                entry.request_backup(backup);
            }
            conn.control.owe_status(tcp);
            Ok(())
        };
        self.recorded(|_| Item::SetBackup { tcp, backup }, set, done)
    }

    /// Sends a Ping on a TCP connection; the peer acknowledges it on the same one.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn ping(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        let ask = |conn: &mut Self| {
            conn.check_tcp(tcp)?;
            conn.ask(tcp);
            Ok(())
        };
        self.recorded(|_| Item::Ping { tcp }, ask, done)
    }

    /// Starts a new generation of this endpoint's keys on all TCP connections. If the previous update is not complete
    /// (the peer has acknowledged a record of it on each TCP connection, and 40 ms have passed), the new one waits and
    /// then starts by itself; at most one waits. No effect before the handshake is complete, and in a session with only the
    /// draft's frames, in which key updates are not defined.
    pub fn update_keys(&mut self, now: Time) {
        self.trace.call(|_| Item::UpdateKeys { now });
        self.trace.set_now(now);
        self.renewal.owed = self.keys.is_some() && !self.is_draft_only();
        self.start_owed_key_update(now, None);
    }

    /// Sets the policy that distributes stream data over TCP connections, from the next record on.
    pub fn set_scheduler(&mut self, scheduler: Box<dyn Scheduler>) {
        self.trace.call(|_| {
            let name = Name(scheduler.name().as_bytes().to_vec());
            Item::SetScheduler { name, duplicates: scheduler.duplicates() }
        });
        self.scheduler = scheduler;
    }

    /// Returns whether the driver should read from the socket of this TCP connection. In a TCPLS session, whose data is
    /// flow-controlled, it is true while the TCP connection is live. In a plain session, and in one with only the draft's
    /// frames, it is false while the application does not read; in the latter only on TCP connections that carry stream data.
    pub fn wants_read(&self, tcp: ConnectionId) -> bool {
        let full = self.plain && self.streams.buffered_to_read() as u64 >= self.config.max_stream_window;
        self.tcps.get(tcp).is_some_and(|entry| !full && !self.is_unread(entry))
    }

    /// Retires TCP connection `tcp`: the session and, at its request, the peer send no new data on it while another is
    /// live. When all its data is acknowledged, it is discarded.
    ///
    /// # Errors
    /// [`TcpError::Last`] if no other TCP connection is live: close the session instead.
    pub fn retire_tcp(&mut self, now: Time, tcp: ConnectionId) -> Result<(), TcpError> {
        self.recorded(|_| Item::RetireTcp { now, tcp }, |conn| conn.begin_retiring(now, tcp), done)
    }

    fn begin_retiring(&mut self, now: Time, tcp: ConnectionId) -> Result<(), TcpError> {
        self.check_tcp(tcp)?;
        if !self.tcps.iter().any(|entry| entry.id() != tcp && entry.is_active()) {
            return Err(TcpError::Last);
        }
        self.trace.set_now(now);
        self.retire(now, tcp);
        self.settle(now);
        Ok(())
    }

    /// Lets the session end without loss. Neither endpoint opens new streams. The streams that the peer has opened so far
    /// are served; after the last of them, or after `limit`, this endpoint closes the session, as [`Connection::close`] with
    /// error 0 does. In a session with only the draft's frames, streams that the peer opens later are served as well.
    ///
    /// The peer gets [`Event::PeerDraining`]. Streams of the peer that arrive later are reset with [`NOT_PROCESSED`]: to
    /// repeat them in another session is safe. A peer that does not support draining gets those resets alone, and an
    /// ordinary close at the end; the one stream of a plain session is always served. A further call replaces the limit.
    ///
    /// [`Event::PeerDraining`]: crate::event::Event::PeerDraining
    /// [`NOT_PROCESSED`]: crate::error::code::NOT_PROCESSED
    pub fn drain(&mut self, now: Time, limit: Duration) {
        self.trace.call(|_| Item::Drain { now, limit });
        if !self.is_open() {
            return;
        }
        self.trace.set_now(now);
        self.begin_drain(now + limit);
        self.settle(now);
    }

    /// Returns whether either endpoint drains the session: no stream can be opened any more.
    pub fn is_draining(&self) -> bool {
        self.streams.is_draining()
    }

    /// Ends the session. With `error` 0 it delivers written data first, while the peer makes progress within each
    /// [`Config::close_timeout`], and within [`Config::close_limit`] in all; with any other code it drops the data.
    /// Afterwards [`Connection::undelivered`] returns how many bytes were not delivered. `reason` is text for people,
    /// of which 1 KiB is sent. Further calls have no effect. A session with only the draft's frames sends neither code nor
    /// reason, but the alert internal_error for any code but 0.
    ///
    /// [`Config::close_timeout`]: crate::config::Config::close_timeout
    /// [`Config::close_limit`]: crate::config::Config::close_limit
    pub fn close(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        self.trace.call(|privacy| Item::Close { now, error, reason: Text::new(privacy.is_full(), reason) });
        if !self.is_open() {
            return;
        }
        self.trace.set_now(now);
        self.begin_close(now, error, reason);
        self.settle(now);
        self.conclude_if_alone();
    }
}

/// What a call returned that returns nothing or an error.
fn done<E: core::fmt::Debug>(outcome: &Result<(), E>) -> Returned {
    Returned::of_result(outcome, |()| 0)
}

/// What a call returned that returns a number of bytes.
fn written(outcome: &Result<usize, WriteError>) -> Returned {
    Returned::of(outcome, &WriteError::Blocked, |taken| Returned::Value(*taken as u64))
}

/// One stream of a session, borrowed for calls on it. No call blocks.
pub struct Stream<'a> {
    conn: &'a mut Connection,
    id: StreamId,
}

impl Stream<'_> {
    /// Copies as much of `data` as there is room for, and returns the number of bytes: at least one unless `data` is
    /// empty.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&mut self, data: &[u8]) -> Result<usize, WriteError> {
        let id = self.id;
        let write = |conn: &mut Connection| conn.streams.write(id, data);
        let taken = self.conn.recorded(|_| Item::Write { id, len: data.len().min(MAX_OFFER) }, write, written)?;
        self.conn.trace.wrote(|taken| data.get(..taken).unwrap_or_default().to_vec(), taken);
        Ok(taken)
    }

    /// Takes as much off the front of `data` as there is room for, without copying, and returns the number of bytes.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_chunk(&mut self, data: &mut Bytes) -> Result<usize, WriteError> {
        let (id, len) = (self.id, data.len());
        let offered = self.conn.trace.is_recording().then(|| data.clone());
        let write = |conn: &mut Connection| conn.streams.write_chunk(id, data);
        let taken = self.conn.recorded(|_| Item::WriteChunk { id, len: len.min(MAX_OFFER) }, write, written)?;
        let bytes = |taken: usize| offered.unwrap_or_default().get(..taken).unwrap_or_default().to_vec();
        self.conn.trace.wrote(bytes, taken);
        Ok(taken)
    }

    /// Returns how many bytes a write would take now, at least one.
    ///
    /// An application that reads its data from a file or a socket should call this first, and read at most that much.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Blocked`] if there is no room, and [`StreamEvent::Writable`] follows when there is.
    ///
    /// [`StreamEvent::Writable`]: crate::event::StreamEvent::Writable
    pub fn writable(&mut self) -> Result<usize, WriteError> {
        let id = self.id;
        self.conn.recorded(|_| Item::Writable { id }, |conn| conn.streams.writable(id), written)
    }

    /// Ends writing: the peer gets the end of the stream after the written data.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn finish(&mut self) -> Result<(), WriteError> {
        let id = self.id;
        self.conn.recorded(|_| Item::Finish { id }, |conn| conn.streams.finish(id), done)
    }

    /// Returns the state of written data.
    ///
    /// The session remembers the end of the newest 256 streams that the peer stopped or that the session cut short.
    pub fn sending(&self) -> SendProgress {
        self.conn.streams.sending(self.id)
    }

    /// Resets the stream: drops written data that is not delivered. The peer gets `error`; in a session with only the
    /// draft's frames it gets nothing, and the stream stays without an end until the session ends.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn reset(&mut self, error: ErrorCode) -> Result<(), WriteError> {
        let id = self.id;
        self.conn.recorded(|_| Item::Reset { id, error }, |conn| conn.streams.reset(id, error), done)
    }

    /// Returns the next bytes in order, at most `max`; `None` is the end. The bytes share the buffer that they arrived
    /// in.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        let id = self.id;
        let value = |data: &Result<Option<Bytes>, ReadError>| {
            let len = |data: &Option<Bytes>| {
                data.as_ref().map_or(Returned::Nothing, |data| Returned::Value(data.len() as u64))
            };
            Returned::of(data, &ReadError::Blocked, len)
        };
        self.conn.recorded(|_| Item::Read { id, max }, |conn| conn.streams.read(id, max), value)
    }

    /// Returns why the peer's data will not be complete, without reading it: the peer reset the stream, or the session
    /// ended before it. `None` otherwise, and once `read` has returned the error. After a violation or an eviction all
    /// streams have failed.
    ///
    /// For an application that does not read now. [`StreamEvent::Readable`](crate::event::StreamEvent::Readable) reports
    /// a reset although earlier data is unread.
    pub fn read_failure(&self) -> Option<ReadError> {
        self.conn.streams.read_failure(self.id)
    }

    /// Returns whether the peer's data comes as early data, which an attacker may have copied from another session. On a
    /// server, that is all data until [`Connection::is_confirmed`]; afterwards, it is true if some came before. False once
    /// both directions have ended.
    pub fn is_early(&self) -> bool {
        self.conn.streams.is_early(self.id, self.conn.is_unconfirmed())
    }

    /// Stops reading: asks the peer to send no more data, with `error`. In a session with only the draft's frames the peer
    /// is not asked, and what it sends is dropped.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn stop(&mut self, error: ErrorCode) -> Result<(), ReadError> {
        let id = self.id;
        self.conn.recorded(|_| Item::Stop { id, error }, |conn| conn.streams.stop(id, error), done)
    }

    /// Attaches this stream to TCP connection `tcp`. An attached stream uses only its TCP connections, until all of
    /// them are lost; a stream without any may use all.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn attach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        let id = self.id;
        let attach = |conn: &mut Connection| {
            conn.check_tcp(tcp)?;
            conn.streams.attach(id, tcp);
            Ok(())
        };
        self.conn.recorded(|_| Item::Attach { id, tcp }, attach, done)
    }

    /// Detaches this stream from `tcp`. A stream that is attached to none may use all TCP connections.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn detach(&mut self, tcp: ConnectionId) -> Result<(), TcpError> {
        let id = self.id;
        let detach = |conn: &mut Connection| {
            conn.check_tcp(tcp)?;
            conn.streams.detach(id, tcp);
            Ok(())
        };
        self.conn.recorded(|_| Item::Detach { id, tcp }, detach, done)
    }

    /// Sets the priority, initially 0. Streams with a higher priority are sent first; equal ones take turns.
    ///
    /// A turn is a record, or as many as fit into a third of the room in [`Connection::poll_transmit`], at most 64 KiB.
    ///
    /// A stream with a higher priority than bulk data is interactive: see [`StreamClass::ByPriority`].
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_priority(&mut self, priority: i8) -> Result<(), WriteError> {
        let id = self.id;
        let set = |conn: &mut Connection| conn.streams.set_priority(id, priority);
        self.conn.recorded(|_| Item::SetPriority { id, priority }, set, done)
    }

    /// Sets whether this stream is interactive, which lets it use lanes ([`Config::lanes`](crate::Config::lanes)).
    /// Initially its priority decides.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn set_class(&mut self, class: StreamClass) -> Result<(), WriteError> {
        let id = self.id;
        self.conn.recorded(|_| Item::SetClass { id, class }, |conn| conn.streams.set_class(id, class), done)
    }
}
