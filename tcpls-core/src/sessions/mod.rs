//! Routes sockets to sessions, for an event loop that has several of both.
//!
//! [`Sessions`] holds connections and the state of each socket: not recognized yet, a claim, a TCP connection, or
//! discarded by a session. The driver identifies sockets by [`SocketId`]; it reads, writes, and closes each once it is
//! no longer [needed](Sessions::is_needed). No other module depends on this one: a driver with a task for each session
//! calls [`Connection`] and [`Endpoint`] itself.
//!
//! ```
//! use tcpls_core::sessions::{Sessions, SocketId};
//! use tcpls_core::{Connection, NewSession, Time};
//!
//! /// A socket gave `received` and takes `room` bytes. Returns what to write to it. `begin` calls `Connection::server`.
//! fn turn(
//!     sessions: &mut Sessions,
//!     now: Time,
//!     socket: SocketId,
//!     received: &[u8],
//!     room: usize,
//!     begin: impl FnOnce(NewSession) -> Connection,
//! ) -> Vec<u8> {
//!     // 1. Report what happened.
//!     sessions.input(socket).extend_from_slice(received);
//!     if let Some(new) = sessions.handle_bytes(now, socket) {
//!         sessions.accept(now, socket, begin(new));
//!     }
//!     sessions.handle_timeout(now);
//!     // 2. Take the events.
//!     while let Some((key, event)) = sessions.poll_event(now) {
//!         println!("{key}: {event:?}");
//!     }
//!     // 3. Fill every writable socket.
//!     let mut records = Vec::new();
//!     sessions.poll_transmit(now, socket, room, &mut records);
//!     records
//! }
//! ```

use core::fmt;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;

use crate::connection::{ClaimId, Connection, JoinOptions, TcpEnd};
use crate::endpoint::{Endpoint, IncomingId, NewSession};
use crate::error::OpenTcpError;
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, SessionId};

mod roles;

/// Received bytes that wait for a claim to be authenticated.
const MAX_CLAIM_INPUT: usize = 64 << 10;

/// Identifies a socket. One [`Sessions`] never uses a value twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u64);

/// Identifies a session. One [`Sessions`] never uses a value twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(u64);

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.0)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}", self.0)
    }
}

/// The state of a socket.
#[derive(Debug)]
enum Role {
    /// Accepted; its ClientHello is not complete.
    Incoming(IncomingId),
    /// It begins a session that the driver has not accepted yet.
    New,
    /// It presented a token of this session.
    Claim(SessionKey, ClaimId),
    /// A TCP connection of this session.
    Tcp(SessionKey, ConnectionId),
    /// No longer needed once its final bytes are written.
    Over,
}

#[derive(Debug)]
struct Socket {
    role: Role,
    /// Received bytes that are not consumed: the beginning of a record, or bytes of a waiting claim.
    input: BytesMut,
    /// Bytes to write before those of the session: of a claim, or final bytes.
    out: Vec<u8>,
}

impl Socket {
    /// No longer needed after these bytes, and those that wait already.
    fn end_with(&mut self, last: &[u8]) {
        self.role = Role::Over;
        self.out.extend_from_slice(last);
    }

    /// No longer needed.
    fn end(&mut self) {
        (self.role, self.out) = (Role::Over, Vec::new());
    }
}

#[derive(Debug)]
struct Session {
    conn: Connection,
    /// Server: its ID in joins.
    id: Option<SessionId>,
    sockets: BTreeSet<SocketId>,
    /// As it is in `Sessions::deadlines`.
    deadline: Option<Time>,
}

/// Sessions and the sockets that belong to them; see the [module](self).
///
/// Calls with a socket or session that is unknown or removed do nothing. The number of sessions is not bounded here: a server
/// counts them, with a [`Budget`](crate::budget::Budget) or by itself, and [refuses](Self::refuse) one too many.
#[derive(Debug, Default)]
pub struct Sessions {
    endpoint: Option<Endpoint>,
    next: u64,
    sockets: BTreeMap<SocketId, Socket>,
    incoming: BTreeMap<IncomingId, SocketId>,
    sessions: BTreeMap<SessionKey, Session>,
    by_id: BTreeMap<SessionId, SessionKey>,
    deadlines: BTreeSet<(Time, SessionKey)>,
    /// Sessions that may have events, other deadlines, or a decision about a claim.
    touched: BTreeSet<SessionKey>,
    events: VecDeque<(SessionKey, Event)>,
    /// A buffer for bytes of unknown sockets.
    nowhere: BytesMut,
}

impl Sessions {
    /// Clients only: no socket is accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server's, and clients' as well.
    pub fn with_endpoint(endpoint: Endpoint) -> Self {
        Self { endpoint: Some(endpoint), ..Self::default() }
    }

    /// Client: adds a session that begins, and the socket of its TCP connection 0.
    pub fn connect(&mut self, conn: Connection) -> (SessionKey, SocketId) {
        let socket = self.add(Role::New);
        (self.begin(socket, conn), socket)
    }

    /// Client: joins a socket, whose TCP connection is established, to a session.
    ///
    /// # Errors
    /// As [`Connection::open_tcp`]; [`OpenTcpError::Closed`] if there is no such session.
    pub fn join(&mut self, now: Time, key: SessionKey, options: JoinOptions) -> Result<SocketId, OpenTcpError> {
        // The ID of a failed join may be used again: its socket is dropped first.
        self.settle_session(now, key);
        let session = self.sessions.get_mut(&key).ok_or(OpenTcpError::Closed)?;
        let tcp = session.conn.open_tcp_with(now, options)?;
        let socket = self.add(Role::Tcp(key, tcp));
        self.sessions.get_mut(&key).into_iter().for_each(|session| _ = session.sockets.insert(socket));
        self.touched.insert(key);
        Ok(socket)
    }

    /// Server: adds an accepted socket. Without an endpoint it is not needed.
    pub fn handle_accepted(&mut self, now: Time) -> SocketId {
        let Some(endpoint) = &mut self.endpoint else { return self.add(Role::Over) };
        let incoming = endpoint.handle_accepted(now);
        let socket = self.add(Role::Incoming(incoming));
        self.incoming.insert(incoming, socket);
        self.take_refused();
        socket
    }

    /// Returns the buffer to append received bytes to, before [`handle_bytes`](Self::handle_bytes), which alone
    /// consumes them.
    pub fn input(&mut self, socket: SocketId) -> &mut BytesMut {
        self.nowhere.clear();
        self.sockets.get_mut(&socket).map_or(&mut self.nowhere, |socket| &mut socket.input)
    }

    /// Returns whether to read from a socket now: not while its session holds as much as it may.
    pub fn wants_read(&self, socket: SocketId) -> bool {
        let Some(Socket { role, input, .. }) = self.sockets.get(&socket) else { return false };
        match role {
            Role::New => false,
            Role::Claim(..) => input.len() < MAX_CLAIM_INPUT,
            Role::Tcp(key, tcp) => self.sessions.get(key).is_some_and(|session| session.conn.wants_read(*tcp)),
            Role::Incoming(_) | Role::Over => true,
        }
    }

    /// Processes what a socket received. Server: if that begins a session, returns what
    /// [`Connection::server`] needs; the driver answers with [`accept`](Self::accept) or [`refuse`](Self::refuse).
    pub fn handle_bytes(&mut self, now: Time, id: SocketId) -> Option<NewSession> {
        let socket = self.sockets.get_mut(&id)?;
        match socket.role {
            Role::Incoming(incoming) => {
                let known = self.endpoint.as_mut()?.handle_bytes(now, incoming, &mut socket.input)?;
                self.incoming.remove(&incoming);
                return self.recognize(now, id, known);
            }
            Role::Tcp(key, tcp) => {
                self.sessions.get_mut(&key)?.conn.handle_bytes(now, tcp, &mut socket.input);
                self.touched.insert(key);
            }
            Role::Claim(key, _) => self.settle_session(now, key),
            Role::Over => socket.input.clear(),
            Role::New => {}
        }
        None
    }

    /// Server: adds the session that a socket begins, and processes what the socket received. Returns `None`, and drops
    /// `conn`, if the socket begins no session.
    pub fn accept(&mut self, now: Time, socket: SocketId, conn: Connection) -> Option<SessionKey> {
        self.sockets.get(&socket).filter(|socket| matches!(socket.role, Role::New))?;
        let key = self.begin(socket, conn);
        self.handle_bytes(now, socket);
        Some(key)
    }

    /// Server: refuses a socket that begins a session, for lack of room.
    pub fn refuse(&mut self, socket: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&socket).filter(|socket| matches!(socket.role, Role::New)) {
            socket.end_with(&Endpoint::refuse_crowded());
        }
    }

    /// Reports that a socket returns no more bytes. It may still be needed to write data of the session.
    pub fn handle_end(&mut self, now: Time, id: SocketId, how: TcpEnd) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match socket.role {
            Role::Tcp(key, tcp) => {
                self.sessions.get_mut(&key).into_iter().for_each(|session| session.conn.handle_tcp_end(now, tcp, how));
                self.touched.insert(key);
                return;
            }
            Role::Claim(key, claim) => {
                let session = self.sessions.get_mut(&key);
                session.into_iter().for_each(|session| {
                    session.conn.handle_claim_end(claim);
                    session.sockets.remove(&id);
                });
            }
            Role::Incoming(incoming) => {
                self.endpoint.as_mut().into_iter().for_each(|endpoint| endpoint.handle_end(incoming));
                self.incoming.remove(&incoming);
            }
            Role::New => {}
            Role::Over => return,
        }
        socket.end();
    }

    /// Appends what to write to a socket, at most `room` bytes, and returns how many; see [`Connection::poll_transmit`]. Asks
    /// for all writable sockets until each gives 0.
    pub fn poll_transmit(&mut self, now: Time, socket: SocketId, room: usize, out: &mut Vec<u8>) -> usize {
        let Some(Socket { role, out: first, .. }) = self.sockets.get_mut(&socket) else { return 0 };
        if let Role::Claim(key, claim) = role
            && let Some(session) = self.sessions.get_mut(key)
        {
            session.conn.poll_claim_transmit(*claim, first);
        }
        let written = room.min(first.len());
        out.extend(first.drain(..written));
        match role {
            Role::Tcp(key, tcp) if first.is_empty() => {
                let Some(session) = self.sessions.get_mut(key) else { return written };
                self.touched.insert(*key);
                written + session.conn.poll_transmit(now, *tcp, room - written, out)
            }
            _ => written,
        }
    }

    /// Whether a socket is of use to a session, or has final bytes in [`poll_transmit`](Self::poll_transmit). If not, and what
    /// that gave is written: shut down its write side, read until its end for a moment, close it and [remove](Self::remove)
    /// it.
    pub fn is_needed(&self, socket: SocketId) -> bool {
        self.sockets.get(&socket).is_some_and(|socket| !matches!(socket.role, Role::Over) || !socket.out.is_empty())
    }

    /// Removes a socket that the driver has closed or is about to close. If it was needed, its TCP connection is lost.
    pub fn remove(&mut self, now: Time, id: SocketId) {
        self.handle_end(now, id, TcpEnd::Reset);
        let Some(socket) = self.sockets.remove(&id) else { return };
        if let Role::Tcp(key, _) = socket.role {
            self.sessions.get_mut(&key).into_iter().for_each(|session| _ = session.sockets.remove(&id));
        }
    }

    /// The next event of any session, each session's in order. Call it until `None` before
    /// [`poll_transmit`](Self::poll_transmit): it applies what sessions have decided about sockets.
    pub fn poll_event(&mut self, now: Time) -> Option<(SessionKey, Event)> {
        while self.events.is_empty() {
            let key = self.touched.first().copied()?;
            self.settle_session(now, key);
        }
        self.events.pop_front()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout); `None` if no deadline is set.
    pub fn poll_timeout(&self) -> Option<Time> {
        let settled = self.deadlines.first().map(|(deadline, _)| *deadline);
        let touched = self.touched.iter().filter_map(|key| self.sessions.get(key)?.conn.poll_timeout()).min();
        [settled, touched, self.endpoint.as_ref().and_then(Endpoint::poll_timeout)].into_iter().flatten().min()
    }

    /// Handles all deadlines that have passed. Early and late calls are valid.
    pub fn handle_timeout(&mut self, now: Time) {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, key)| *key);
        self.touched.extend(due);
        for key in &self.touched {
            self.sessions.get_mut(key).into_iter().for_each(|session| session.conn.handle_timeout(now));
        }
        self.endpoint.as_mut().into_iter().for_each(|endpoint| endpoint.handle_timeout(now));
        self.take_refused();
    }

    /// Returns a session, for commands and streams.
    pub fn session(&mut self, key: SessionKey) -> Option<&mut Connection> {
        self.touched.insert(key);
        self.sessions.get_mut(&key).map(|session| &mut session.conn)
    }

    /// Returns the sessions, the oldest first.
    pub fn keys(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.sessions.keys().copied()
    }

    /// Returns the session and TCP connection of a socket, if it has joined one.
    pub fn tcp(&self, socket: SocketId) -> Option<(SessionKey, ConnectionId)> {
        match self.sockets.get(&socket)?.role {
            Role::Tcp(key, tcp) => Some((key, tcp)),
            _ => None,
        }
    }

    /// Returns the socket of a TCP connection that is not discarded.
    pub fn socket(&self, key: SessionKey, tcp: ConnectionId) -> Option<SocketId> {
        self.sessions.get(&key)?.sockets.iter().copied().find(|socket| self.tcp(*socket) == Some((key, tcp)))
    }

    /// Removes a session, usually after [`Event::Closed`]. Its sockets are not needed any more.
    pub fn remove_session(&mut self, key: SessionKey) -> Option<Connection> {
        let session = self.sessions.remove(&key)?;
        session.id.into_iter().for_each(|id| _ = self.by_id.remove(&id));
        self.touched.remove(&key);
        self.events.retain(|(of, _)| *of != key);
        session.deadline.into_iter().for_each(|deadline| _ = self.deadlines.remove(&(deadline, key)));
        for id in session.sockets {
            self.sockets.get_mut(&id).into_iter().for_each(Socket::end);
        }
        Some(session.conn)
    }
}
