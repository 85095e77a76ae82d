//! What applications hold: [`Session`] and its streams, and the state that they share with the session's task.
//!
//! Without sockets and without a clock: the task or a simulator has those, and gets its orders from here.
//!
//! | file | what happens there |
//! | --- | --- |
//! | `mod` | [`Session`]: streams, TCP connections, addresses, the end |
//! | `stream` | [`Stream`] and its halves, as `AsyncRead` and `AsyncWrite` or chunk by chunk without copying |
//! | `paths` | a client's paths: adding TCP connections |
//! | `events`, `error` | what a session reports, and what can go wrong with it |
//! | `handle` | counts the application's handles: a session without any is closed |
//! | `shared` | the state machine, and when the task is woken |
//! | `waiters`, `feed` | which tasks wait for what; events for subscribers |
//! | `remotes`, `advice` | the peer's addresses; which of those that it advertises may be connected to |
//! | `coop` | tokio's cooperative scheduling |

mod advice;
mod coop;
mod error;
mod events;
mod feed;
mod handle;
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
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode};

pub use self::advice::AddressPolicy;
pub(crate) use self::advice::Advice;
pub use self::error::{AddTcpError, PathFailure, PathFault, SessionClosed};
pub use self::events::{Events, PathFailures};
pub(crate) use self::feed::{Feed, Subscriber};
pub(crate) use self::handle::Handle;
#[cfg(feature = "sim")]
pub(crate) use self::shared::Joined;
pub(crate) use self::shared::{Descriptors, Input, Opened, Shared, State};
pub use self::stream::{RecvStream, SendStream, Stream};
use crate::net::runtime::Runtime;

/// A session; it is closed when its last handle and stream are dropped, after what was finished is delivered.
///
/// Made by [`Session::connect`] or [`Listener::accept`], over one or more TCP connections. Clones are handles of the same
/// session and cost a count. Dropping the last one closes the session with error 0 in the background, as the runtime runs on;
/// [`Session::close`] waits for that and reports what was not delivered.
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

    /// Opens a stream; waits as long as the peer allows no more. Its first data announces the stream to the peer.
    ///
    /// In a session without TCPLS the client opens stream 0, once.
    ///
    /// Cancel safe: no stream is opened.
    ///
    /// # Errors
    /// See [`OpenStreamError`]; never [`OpenStreamError::Limit`].
    pub async fn open_stream(&self) -> Result<Stream, OpenStreamError> {
        let open = |state: &mut State, waker: &_| match state.conn.open_stream() {
            Err(OpenStreamError::Limit) if state.is_closed() => Poll::Ready(Err(OpenStreamError::Closed)),
            Err(OpenStreamError::Limit) => {
                state.waiters.wait_to_open(waker);
                Poll::Pending
            }
            other => Poll::Ready(other),
        };
        let id = poll_fn(|cx| coop::poll(cx, |cx| self.handle.with(|state| open(state, cx.waker())))).await?;
        Ok(Stream::new(self.handle.clone(), id))
    }

    /// The next stream that the peer opened, in its order; `None` once the session is over. Cancel safe: no stream is lost.
    pub async fn accept_stream(&self) -> Option<Stream> {
        let accept = |state: &mut State, waker: &_| match state.conn.accept_stream() {
            Some(id) => Poll::Ready(Some(id)),
            None if state.is_closed() => Poll::Ready(None),
            None => {
                state.waiters.wait_to_accept(waker);
                Poll::Pending
            }
        };
        let id = poll_fn(|cx| coop::poll(cx, |cx| self.handle.with(|state| accept(state, cx.waker())))).await?;
        Some(Stream::new(self.handle.clone(), id))
    }

    /// The clock, timers, tasks and random numbers to use with this session: tokio's, or those of a simulation.
    pub fn runtime(&self) -> Runtime {
        self.handle.with(|state| state.runtime.clone())
    }

    /// Whether the peer speaks TCPLS. If not, this is plain TLS 1.3 with one TCP connection and one stream.
    pub fn is_tcpls(&self) -> bool {
        self.established().is_some_and(|established| established.tcpls)
    }

    /// What the handshake agreed on; `None` only if the session ended before it could be reported.
    pub fn established(&self) -> Option<Established> {
        self.handle.with(|state| state.established().cloned())
    }

    /// The peer's certificates in DER, its own first; empty if it showed none.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.handle.with(|state| state.conn.peer_certificates().to_vec())
    }

    /// The local address of the first TCP connection; `None` if the operating system did not tell.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.handle.with(|state| state.local)
    }

    /// The peer's address on a TCP connection, as this side's operating system knows it: behind a proxy it is the proxy's.
    /// Known while the TCP connection lives, and for the last 16 that were lost. On a server, the client's address at the
    /// start is that of [`ConnectionId::FIRST`].
    pub fn peer_address(&self, tcp: ConnectionId) -> Option<SocketAddr> {
        self.handle.with(|state| state.remotes.get(tcp))
    }

    /// Server: the client that opened the session, by the address of its first TCP connection. [`Client::ALONE`] if it came
    /// through a trusted proxy, and on a client.
    pub fn client(&self) -> Client {
        self.handle.with(|state| state.client)
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

    /// The live TCP connections, in the order of their IDs.
    pub fn tcp_connections(&self) -> Vec<ConnectionId> {
        self.handle.with(|state| state.conn.tcp_connections().collect())
    }

    /// How many TCP connections can join before the server must send more tokens.
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

    /// How many TCP connections the session may have at the same time.
    pub fn max_tcp_connections(&self) -> usize {
        self.handle.with(|state| state.conn.max_tcp_connections())
    }

    /// Chooses how stream data is spread over TCP connections; from the next record on.
    pub fn set_scheduler(&self, scheduler: Box<dyn Scheduler>) {
        self.command(|state| state.conn.set_scheduler(scheduler));
    }

    /// Keeps the session alive: after `interval` without activity, a Ping goes out on each TCP connection in use, so that
    /// neither end takes the session for idle and boxes on the path do not forget it. `None`, as at the start, sends none.
    /// See [`Connection::set_keep_alive`](tcpls_core::connection::Connection::set_keep_alive).
    pub fn set_keep_alive(&self, interval: Option<Duration>) {
        self.command(|state| state.conn.set_keep_alive(interval));
    }

    /// Counters of everything, as they are now.
    pub fn stats(&self) -> Stats {
        self.handle.with(|state| state.conn.stats())
    }

    /// Bytes of stream data that the peer has acknowledged or this application has read, since the session began. In a
    /// session without TCPLS, what the socket took counts as acknowledged.
    pub fn delivered(&self) -> u64 {
        self.handle.with(|state| state.conn.delivered())
    }

    /// Leaves a TCP connection on purpose: nothing new is put on it, what it has is delivered, then it is closed.
    ///
    /// # Errors
    /// See [`TcpError`].
    pub fn retire_tcp(&self, tcp: ConnectionId) -> Result<(), TcpError> {
        self.command(|state| state.conn.retire_tcp(state.now(), tcp))
    }

    /// Breaks a TCP connection with a reset, as a failing network would. For demonstrations and tests.
    pub fn reset_tcp(&self, tcp: ConnectionId) {
        self.command(|state| state.inbox.push(Input::Reset(tcp)));
    }

    /// Marks a TCP connection as a backup, used only when no other lives, or as available again; the peer is asked to do the
    /// same. On a client, those that the session makes on the same path later are backups too, from their first byte on: see also
    /// [`ClientOptions::backups`].
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

    /// Advertises an address of this side; a server's can be connected to.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn advertise(&self, address: SocketAddr) -> Result<AddressId, AddressError> {
        self.command(|state| state.conn.advertise(address))
    }

    /// Withdraws an address: TCP connections that use it are left.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn withdraw(&self, id: AddressId) -> Result<(), AddressError> {
        self.command(|state| state.conn.withdraw(id))
    }

    /// The peer's addresses that are in force. Suggestions, and perhaps not meant well: [`Session::add_advertised`] asks the
    /// policy before it connects to one.
    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.handle.with(|state| state.conn.peer_addresses().map(|(_, address)| address).collect())
    }

    /// Ends the session and waits until its sockets are closed. With error 0 what was written is delivered first, as long as
    /// the peer takes something within each [`Config::close_timeout`], and [`Config::close_limit`] in all; with any other it is
    /// dropped. `reason` is text for people. Returns why the session ended, which is something else if it had ended before,
    /// and whether all was delivered.
    ///
    /// Cancel safe: the session goes on closing.
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

    /// Waits until the session is over, and returns why. Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.wait(State::closed).await
    }

    /// Bytes written by this side that are not delivered, as far as it knows; see [`Closed::undelivered`]. Once the session is
    /// over, what was lost with it.
    pub fn undelivered(&self) -> u64 {
        self.handle.with(|state| state.undelivered())
    }

    /// Why the session ended; `None` as long as it has not.
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

    /// Waits until `condition` gives something. Asks again when the handshake is over, when the session is, and when its
    /// sockets are closed.
    async fn wait<R>(&self, condition: impl Fn(&State) -> Option<R>) -> R {
        poll_fn(|cx| {
            self.handle.with(|state| match condition(state) {
                Some(result) => Poll::Ready(result),
                None => {
                    state.waiters.watch(cx.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Bytes written by this side that were not delivered, as far as it knows; 0: all was. See
    /// [`Connection::undelivered`](tcpls_core::connection::Connection::undelivered). On a plain TLS session, what the kernel
    /// still held when the socket was closed counts too, where the kernel reports it (Linux).
    pub undelivered: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.handle.with(|state| f.debug_tuple("Session").field(&state.conn).finish())
    }
}
