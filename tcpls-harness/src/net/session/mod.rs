//! The API of applications: [`Session`] and its streams, and the state that they share with the session's task.
//!
//! Without sockets and without a clock: the task or a simulator has those, and gets its orders from here.
//!
//! | file | what happens there |
//! | --- | --- |
//! | `mod` | [`Session`]: streams, TCP connections, addresses, the end |
//! | `stream` | [`Stream`] and its halves, as `AsyncRead` and `AsyncWrite` or chunk by chunk without copying |
//! | `paths` | a client's paths: adding TCP connections |
//! | `options` | options of sockets, at both endpoints |
//! | `events`, `error` | events and errors of a session |
//! | `monitor` | what a session does, for people: paths, losses, streams |
//! | `handle` | counts the application's handles: a session without any is closed |
//! | `shared` | the state machine, and wakeups of the task |
//! | `waiters`, `feed` | tasks that wait; events for subscribers |
//! | `remotes`, `advice` | the addresses of TCP connections; the policy for advertised ones |
//! | `coop` | tokio's cooperative scheduling |

mod advice;
mod coop;
mod error;
mod events;
mod feed;
mod handle;
mod monitor;
mod options;
mod paths;
mod remotes;
mod shared;
mod stream;
mod waiters;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use tcpls_core::budget::Client;
use tcpls_core::connection::schedule::Scheduler;
use tcpls_core::error::{AddressError, CloseReason, OpenStreamError, TcpError};
use tcpls_core::event::Established;
use tcpls_core::stats::Stats;
use tcpls_core::trace::Sink;
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode};

pub use self::advice::AddressPolicy;
pub(crate) use self::advice::Advice;
pub use self::error::{AddTcpError, PathFailure, PathFault, SessionClosed};
pub use self::events::{Events, PathFailures};
pub(crate) use self::feed::{Feed, Subscriber};
pub(crate) use self::handle::Handle;
pub use self::monitor::{Loss, Monitor, PathReport, SessionStatus, StreamReport};
pub use self::options::TcpControl;
pub(crate) use self::options::{Asker, PeerOption};
#[cfg(feature = "sim")]
pub(crate) use self::shared::Joined;
pub(crate) use self::shared::{Connected, Descriptors, Input, Opened, Shared, State};
pub use self::stream::{RecvStream, SendStream, Stream};
pub(crate) use self::waiters::Wait;
use crate::dial::{DialPolicy, NetworkChange, report_change};
use crate::net::runtime::Runtime;

/// A session; it is closed when its last handle and stream are dropped, after what was finished is delivered.
///
/// [`Session::connect`] and [`Listener::accept`] return it. It uses one or more TCP connections. Clones are cheap
/// handles of the same session. Dropping the last one closes the session with error 0 in the background, while the
/// runtime runs; [`Session::close`] waits for that and reports what was not delivered.
///
/// [`Listener::accept`]: crate::net::Listener::accept
#[derive(Clone)]
pub struct Session {
    handle: Handle,
}

impl Session {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Opens a stream; waits while the peer allows no more. Its first data announces the stream to the peer.
    ///
    /// In a session without TCPLS the client opens stream 0, once.
    ///
    /// Cancel safe: no stream is opened.
    ///
    /// # Errors
    /// See [`OpenStreamError`]; never [`OpenStreamError::Limit`].
    pub async fn open_stream(&self) -> Result<Stream, OpenStreamError> {
        let open = |state: &mut State| match state.conn.open_stream() {
            Err(OpenStreamError::Limit) if state.is_closed() => Poll::Ready(Err(OpenStreamError::Closed)),
            Err(OpenStreamError::Limit) => Poll::Pending,
            other => Poll::Ready(other),
        };
        let id = poll_fn(|cx| coop::poll(cx, |cx| self.handle.poll(Wait::Open, cx, open))).await?;
        Ok(Stream::new(self.handle.clone(), id))
    }

    /// Waits for the next stream that the peer opened, in its order; `None` once the session has ended. Cancel safe: no
    /// stream is lost.
    pub async fn accept_stream(&self) -> Option<Stream> {
        let accept = |state: &mut State| match state.conn.accept_stream() {
            Some(id) => Poll::Ready(Some(id)),
            None if state.is_closed() => Poll::Ready(None),
            None => Poll::Pending,
        };
        let id = poll_fn(|cx| coop::poll(cx, |cx| self.handle.poll(Wait::Accept, cx, accept))).await?;
        Some(Stream::new(self.handle.clone(), id))
    }

    /// Returns the clock, timers, tasks and random numbers for this session: tokio's, or those of a simulation.
    pub fn runtime(&self) -> Runtime {
        self.handle.with(|state| state.runtime.clone())
    }

    /// Whether the peer supports TCPLS. If not, this is plain TLS 1.3 with one TCP connection and one stream.
    pub fn is_tcpls(&self) -> bool {
        self.established().is_some_and(|established| established.tcpls)
    }

    /// Returns the result of the handshake; `None` only if the session ended before it could be reported, and before a
    /// client with [`ClientOptions::early_data`](crate::net::ClientOptions::early_data) has it.
    pub fn established(&self) -> Option<Established> {
        self.handle.with(|state| state.established().cloned())
    }

    /// Waits until the handshake is complete at both ends, as far as this one can know: on a client until the server's
    /// Session Parameters have arrived, on a server until the client's Finished has, which shows that its first flight is
    /// no copy of another session's.
    ///
    /// Sessions are confirmed when they are returned, unless early data is in use: [`ServerOptions::early_data`],
    /// [`ClientOptions::early_data`]. Cancel safe; several tasks may wait.
    ///
    /// [`ServerOptions::early_data`]: crate::net::ServerOptions::early_data
    /// [`ClientOptions::early_data`]: crate::net::ClientOptions::early_data
    ///
    /// # Errors
    /// The session ended before.
    pub async fn handshake_confirmed(&self) -> Result<(), SessionClosed> {
        self.wait(|state| {
            let confirmed = state.is_confirmed().then_some(Ok(()));
            confirmed.or_else(|| state.closed().map(|reason| Err(SessionClosed(reason))))
        })
        .await
    }

    /// Whether [`Session::handshake_confirmed`] would return at once, with success.
    pub fn is_confirmed(&self) -> bool {
        self.handle.with(|state| state.is_confirmed())
    }

    /// Client: returns how many bytes can still be sent as early data; 0 once the handshake has gone on, and in a session
    /// without early data. What is written beyond that follows when the handshake is complete.
    pub fn early_data(&self) -> usize {
        self.handle.with(|state| state.conn.early_data())
    }

    /// Returns the peer's certificate chain in DER, its own first; empty without one, and on a server before
    /// [`Session::handshake_confirmed`].
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.handle.with(|state| state.conn.peer_certificates().to_vec())
    }

    /// Returns the local address of the first TCP connection; `None` if the operating system does not report it. Behind a
    /// load balancer with the PROXY protocol it is the address that the client connected to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.handle.with(|state| state.local)
    }

    /// Returns the peer's address of a TCP connection: behind a proxy, the proxy's, unless
    /// that names the client ([`ServerOptions::proxy_protocol`](crate::net::ServerOptions::proxy_protocol)). Known while the TCP connection is
    /// live, and for the last 16 lost ones. On a server, the client's initial address is that of
    /// [`ConnectionId::FIRST`].
    pub fn peer_address(&self, tcp: ConnectionId) -> Option<SocketAddr> {
        self.handle.with(|state| state.remotes.get(tcp))
    }

    /// Server: the client that opened the session, by the address of its first TCP connection. [`Client::ALONE`] if it arrived
    /// through a trusted proxy, and on a client.
    pub fn client(&self) -> Client {
        self.handle.with(|state| state.client)
    }

    /// Server: whether a load balancer passes the bytes of the first TCP connection on.
    pub(crate) fn is_spliced(&self) -> bool {
        self.handle.with(|state| state.is_spliced)
    }

    /// Server: frees a file descriptor, for an application whose own call failed because there is none left (EMFILE,
    /// ENFILE). By the rules of [`tcpls_core::budget`], one of the listener's sessions or TCP connections is reset; none if
    /// another is being closed already.
    ///
    /// Returns whether a descriptor will be free within milliseconds: then try again. Always false on a client.
    pub fn free_descriptor(&self) -> bool {
        let descriptors = self.handle.with(|state| state.descriptors.clone());
        descriptors.is_some_and(|descriptors| descriptors.free_one())
    }

    /// Returns the live TCP connections, in the order of their IDs.
    pub fn tcp_connections(&self) -> Vec<ConnectionId> {
        self.handle.with(|state| state.conn.tcp_connections().collect())
    }

    /// Returns how many TCP connections can join before the server must send more tokens.
    pub fn tokens(&self) -> usize {
        self.handle.with(|state| state.conn.tokens())
    }

    /// Subscribes to the session's events. The first call also gets the last 64 earlier events, so that
    /// nothing is missed between [`Session::connect`] or [`Listener::accept`] and this.
    ///
    /// [`Listener::accept`]: crate::net::Listener::accept
    pub fn events(&self) -> Events {
        Events { subscriber: self.handle.with(|state| state.events.subscribe()) }
    }

    /// Returns the maximum number of TCP connections of the session.
    pub fn max_tcp_connections(&self) -> usize {
        self.handle.with(|state| state.conn.max_tcp_connections())
    }

    /// Returns how long the session is kept without a TCP connection: the shorter of both endpoints'
    /// [`Config::session_timeout`](tcpls_core::config::Config::session_timeout). While it has none,
    /// [`Event::Stranded`](tcpls_core::event::Event::Stranded) says until when.
    pub fn session_timeout(&self) -> Duration {
        self.handle.with(|state| state.conn.session_timeout())
    }

    /// Reports a change of this host's network, which concerns the TCP connections from a local address: without a link
    /// they stall at once, and their data is reinjected on others.
    pub fn handle_network_change(&self, change: NetworkChange) {
        self.command(|state| {
            let now = state.now();
            let dialer = state.dialer.as_mut().map(|dialer| &mut **dialer as &mut dyn DialPolicy);
            report_change(now, change, &mut state.conn, dialer);
        });
    }

    /// Sets the policy that distributes stream data over TCP connections, from the next record on. It runs with the
    /// session's lock ([`net`](crate::net)): it must not call the session.
    ///
    /// A scheduler knows TCP connections by ID. The addresses of each come from [`Session::path_of`], or from
    /// [`Session::peer_address`] on a server. Call them when a TCP connection joins, not in the scheduler, which is called while
    /// the session is locked; `docs/simulation.md` has an example.
    pub fn set_scheduler(&self, scheduler: Box<dyn Scheduler>) {
        self.command(|state| state.conn.set_scheduler(scheduler));
    }

    /// Reports the session's events to `sink`, too, from now on; `docs/trace.md` lists them. The sink runs with the session's
    /// lock ([`net`](crate::net)): it must not call the session, and what it waits for delays the session.
    pub fn add_trace(&self, sink: Box<dyn Sink>) {
        self.handle.with(|state| state.conn.add_trace(sink));
    }

    /// Sets the keep-alive: after `interval` without activity, the session sends a Ping on each active TCP connection
    /// (on backups only while no other works), so that it is not idle and middleboxes keep its state. `None`, the
    /// default, sends none. See
    /// [`Connection::set_keep_alive`](tcpls_core::connection::Connection::set_keep_alive).
    pub fn set_keep_alive(&self, interval: Option<Duration>) {
        self.command(|state| state.conn.set_keep_alive(interval));
    }

    /// Replaces the idle timeout of a session without TCPLS, from now on. See
    /// [`Connection::set_plain_idle_timeout`](tcpls_core::connection::Connection::set_plain_idle_timeout).
    pub fn set_plain_idle_timeout(&self, timeout: Option<Duration>) {
        self.command(|state| state.conn.set_plain_idle_timeout(state.now(), timeout));
    }

    /// Returns all counters of the session.
    pub fn stats(&self) -> Stats {
        self.handle.with(|state| state.conn.stats())
    }

    /// Returns the bytes of stream data that the peer has acknowledged or this application has read, since the session
    /// began. In a session without TCPLS, data that the socket took counts as acknowledged.
    pub fn delivered(&self) -> u64 {
        self.handle.with(|state| state.conn.delivered())
    }

    /// Retires a TCP connection: no new data is sent on it, its data is delivered, then it is closed.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn retire_tcp(&self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.command(|state| state.conn.retire_tcp(state.now(), tcp))
    }

    /// Resets a TCP connection, as a failing network would. For demonstrations and tests.
    pub fn reset_tcp(&self, tcp: ConnectionId) {
        self.command(|state| state.inbox.push(Input::Reset(tcp)));
    }

    /// Marks a TCP connection as a backup, used only when no other is live, or as available again. Asks the peer to do
    /// the same. On a client, later TCP connections on the same path are backups, too, from their first byte on: see
    /// also [`ClientOptions::backups`].
    ///
    /// [`ClientOptions::backups`]: crate::net::ClientOptions::backups
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn set_backup(&self, tcp: ConnectionId, backup: bool) -> Result<(), TcpError> {
        self.command(|state| {
            state.dialer.iter_mut().for_each(|dialer| dialer.set_backup(tcp, backup));
            state.conn.set_backup(tcp, backup)
        })
    }

    /// Advertises an address of this endpoint, to which clients can connect if it is a server.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn advertise(&self, address: SocketAddr) -> Result<AddressId, AddressError> {
        self.command(|state| state.conn.advertise(address))
    }

    /// Withdraws an address: TCP connections that use it are retired.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn withdraw(&self, id: AddressId) -> Result<(), AddressError> {
        self.command(|state| state.conn.withdraw(id))
    }

    /// Returns the addresses that the peer advertises now. They may be malicious: [`Session::add_advertised`] checks
    /// the policy before it connects to one.
    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.handle.with(|state| state.conn.peer_addresses().map(|(_, address)| address).collect())
    }

    /// Lets the session end without loss: neither endpoint opens new streams, those that run are finished, and then this
    /// endpoint closes the session, after `limit` in any case. Returns at once; [`Session::closed`] waits for the end.
    ///
    /// Streams of the peer that arrive later are reset with
    /// [`NOT_PROCESSED`](tcpls_core::error::code::NOT_PROCESSED). See
    /// [`Connection::drain`](tcpls_core::connection::Connection::drain).
    pub fn drain(&self, limit: Duration) {
        self.handle.drain(limit);
    }

    /// Returns whether either endpoint drains the session: [`Session::open_stream`] opens no stream any more.
    pub fn is_draining(&self) -> bool {
        self.handle.with(|state| state.conn.is_draining())
    }

    /// Waits until either endpoint drains the session, or it has ended: a client then begins another session for new streams.
    /// Cancel safe.
    pub async fn draining(&self) {
        self.wait(|state| (state.conn.is_draining() || state.is_closed()).then_some(())).await;
    }

    /// Ends the session and waits until its sockets are closed. With error 0 written data is delivered first, while the
    /// peer makes progress within each [`Config::close_timeout`], and within [`Config::close_limit`] in all; with any
    /// other code it is dropped. `reason` is text for people. Returns why the session ended, which may be an earlier
    /// reason, and how much was not delivered.
    ///
    /// Cancel safe: the session continues to close.
    ///
    /// [`Config::close_timeout`]: tcpls_core::config::Config::close_timeout
    /// [`Config::close_limit`]: tcpls_core::config::Config::close_limit
    pub async fn close(&self, error: ErrorCode, reason: &[u8]) -> Closed {
        self.command(|state| state.conn.close(state.now(), error, reason));
        self.wait(|state| {
            let reason = if state.has_task_ended() { state.closed() } else { None }?;
            Some(Closed { reason, undelivered: state.undelivered() })
        })
        .await
    }

    /// Waits until the session has ended, and returns why. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.wait(State::closed).await
    }

    /// Returns the bytes written by this endpoint that are not delivered, as far as it knows; see
    /// [`Closed::undelivered`]. After the end of the session, these are lost.
    pub fn undelivered(&self) -> u64 {
        self.handle.with(|state| state.undelivered())
    }

    /// Returns why the session ended; `None` if it has not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.handle.with(|state| state.closed())
    }

    pub(crate) async fn wait_established(&self) -> Result<(), CloseReason> {
        self.wait(|state| {
            let established = state.established().map(|_| Ok(()));
            established.or_else(|| state.closed().map(Err))
        })
        .await
    }

    /// Runs `command`, and the task afterwards.
    fn command<R>(&self, command: impl FnOnce(&mut State) -> R) -> R {
        self.handle.with(|state| {
            let result = command(state);
            state.wake_task();
            result
        })
    }

    /// Waits until `condition` returns a value. It is evaluated again when the handshake is complete, when the session
    /// is drained or ends, and when its sockets are closed.
    async fn wait<R>(&self, condition: impl Fn(&State) -> Option<R>) -> R {
        let poll = |state: &mut State| condition(state).map_or(Poll::Pending, Poll::Ready);
        poll_fn(|cx| self.handle.poll(Wait::Session, cx, poll)).await
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Bytes written by this endpoint that were not delivered, as far as it knows. See
    /// [`Connection::undelivered`](tcpls_core::connection::Connection::undelivered). In a plain TLS session, data that
    /// the kernel still held when the socket was closed counts, too, where the kernel reports it (Linux).
    pub undelivered: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What `f` writes to is foreign code, which must not run with the lock.
        let alternate = f.alternate();
        let conn = self
            .handle
            .with(|state| if alternate { format!("{:#?}", state.conn) } else { format!("{:?}", state.conn) });
        f.debug_tuple("Session").field(&format_args!("{conn}")).finish()
    }
}

#[cfg(test)]
mod tests;
