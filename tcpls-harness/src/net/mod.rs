//! TCPLS sessions over real sockets, for tokio: one task per session, however many TCP connections it has.
//!
//! | file | what happens there |
//! | --- | --- |
//! | `session` | [`Session`]: streams, TCP connections, addresses, events, the end |
//! | `stream` | [`Stream`] and its halves, as `AsyncRead` and `AsyncWrite` or chunk by chunk without copying |
//! | `options`, `client`, `start` | what the application wants; connecting, joining more TCP connections |
//! | `advice` | which of the addresses that a server advertises may be connected to |
//! | `dials` | the sockets of what [`crate::dial`] decides |
//! | `listener`, `server_options` | accepting sessions, and within which limits |
//! | `router` | what accepted TCP connections are; bringing joins to the session they belong to |
//! | `failures` | handshakes that fail at a listener |
//! | `account`, `reports` | what all sessions of a listener hold together, and which gives way |
//! | `descriptors` | what to do when the operating system has none left |
//! | `driver` | the task: what sockets, timers and the application do becomes calls on the state machine |
//! | `driver::traffic` | its reading and writing: who has room, how much is sealed at once |
//! | `endings`, `leaving` | sockets on the way out: the session has not heard yet, or has let go |
//! | `shared`, `handle` | what the task and the application's handles share: the state machine, and when the task is woken |
//! | `remotes` | the peer's addresses, for the application |
//! | `waiters`, `feed` | who waits for what; news for who listens |
//! | `socket`, `reading`, `pace` | one TCP connection's socket; the memory it reads into; how much it is given at once |
//! | `flight` | how much a socket that was idle lets go of at once |
//! | `tcp_info` | what the kernel knows about a TCP connection |
//! | `log` | what a session does, as events of the `tracing` crate, with the feature of that name |
//! | `os` | the clock and the random numbers that the core does not have |
//!
//! The protocol is all in `tcpls_core`; nothing here looks into a record.

mod account;
mod advice;
mod claims;
mod client;
mod coop;
#[cfg(test)]
mod costs;
pub(crate) mod descriptors;
mod dials;
mod driver;
mod endings;
mod error;
mod failures;
mod feed;
mod flight;
mod handle;
mod leaving;
mod listener;
#[cfg(feature = "tracing")]
mod log;
#[cfg(not(feature = "tracing"))]
mod log {
    /// Without the feature `tracing`, sessions are not logged.
    pub(super) fn attached(conn: tcpls_core::Connection, _peer: std::net::SocketAddr) -> tcpls_core::Connection {
        conn
    }
}
mod options;
mod os;
pub(crate) mod pace;
mod reading;
mod remotes;
pub(crate) mod reports;
mod router;
mod server_options;
mod session;
mod shared;
mod socket;
mod start;
mod stream;
mod tcp_info;
mod waiters;

pub use self::advice::AddressPolicy;
pub use self::error::{AddTcpError, ConnectError, ListenError, PathFailure, PathFault, SessionClosed};
pub use self::failures::{HandshakeFailure, HandshakeFailures, HandshakeFault};
pub use self::listener::Listener;
pub use self::options::ClientOptions;
pub use self::server_options::ServerOptions;
pub use self::session::{Closed, Events, PathFailures, Session};
pub use self::socket::SocketOptions;
pub use self::stream::{RecvStream, SendStream, Stream};
