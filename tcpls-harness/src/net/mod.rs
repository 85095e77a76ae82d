//! TCPLS sessions over real sockets, for tokio: one task per session, for all of its TCP connections.
//!
//! | folder | subject |
//! | --- | --- |
//! | `session` | the API of applications: [`Session`], [`Stream`] and its halves, events; the state behind them |
//! | `client` | connecting, [`ClientOptions`] |
//! | `listener` | [`Listener`]: accepting, [`ServerOptions`], handshakes that fail |
//! | `account` | what all sessions of a listener hold, and which gives way |
//! | `task` | the driver: calls the state machine for sockets, timers and the application |
//! | `socket` | one TCP connection's socket: buffers, pace, the kernel's state |
//! | `interfaces` | interfaces and routes of this host (feature `interfaces`) |
//! | `runtime` | [`Runtime`]: time, tasks and random numbers for applications, real or simulated |
//! | `os`, `descriptors` | clock and random numbers; handling of a lack of file descriptors |
//! | `record` | recordings as files |
//! | `log`, `sinks` | events of sessions for `tracing`; where else they go |
//! | `reach`, `network` | which hosts can be reached at an address; addresses that begin alike |
//! | `tcp_option` | options that a peer asks for, and which it may choose; without sockets |
//! | [`proxy_protocol`] | headers of load balancers, without sockets |
//!
//! `tcpls_core` has the whole protocol; nothing here reads a record.
//!
//! # Your code and the session's lock
//!
//! The handles of a session and its task share a state machine behind a lock that is held for microseconds. Code of yours
//! that runs while it is held must neither call the session, its streams and its other handles (they wait for the lock
//! without end) nor block; if it panics in the session's task, the session ends.
//!
//! | your code | with the lock |
//! | --- | --- |
//! | wakers: cloned, called, dropped | no |
//! | [`AddressPolicy`] | no |
//! | [`MakeDialPolicy`](crate::dial::MakeDialPolicy) | no |
//! | [`DialPolicy`](crate::dial::DialPolicy): all methods | yes; it is dropped without the lock |
//! | [`Scheduler`](crate::core::Scheduler): all methods, and its destructor | yes |
//! | the owner of [`Bytes`](bytes::Bytes) that were written: its destructor, once they are delivered | yes |
//! | [`TlsClient`](crate::core::crypto::TlsClient), [`TlsServer`](crate::core::crypto::TlsServer) | no |
//! | [`Handshake`](crate::core::crypto::Handshake), and what it calls: certificate verifiers and resolvers of rustls | yes |
//! | subscribers of `tracing` (feature `tracing`) | yes |

pub(crate) mod account;
mod client;
#[cfg(test)]
mod costs;
pub(crate) mod descriptors;
#[cfg(feature = "interfaces")]
pub mod interfaces;
mod listener;
#[cfg(feature = "tracing")]
mod log;
#[cfg(not(feature = "tracing"))]
mod log {
    /// Without the feature `tracing`, sessions are not logged.
    pub(super) fn sink(
        _conn: &tcpls_core::Connection,
        _peer: std::net::SocketAddr,
    ) -> Option<Box<dyn tcpls_core::trace::Sink>> {
        None
    }

    pub(super) fn note(_text: &dyn std::fmt::Display) {}

    pub(super) fn metric(_name: &str, _value: f64) {}
}
#[cfg(feature = "interfaces")]
mod monitor;
mod network;
mod os;
pub mod proxy_protocol;
mod reach;
mod record;
pub(crate) mod runtime;
pub(crate) mod session;
mod sinks;
pub(crate) mod socket;
mod task;
pub(crate) mod tcp_option;

pub use self::client::{ClientOptions, ConnectError};
pub use self::listener::{
    Farm, HandOverFault, HandOvers, HandshakeFailure, HandshakeFailures, HandshakeFault, ListenError, Listener,
    ServerOptions,
};
#[cfg(feature = "interfaces")]
pub use self::monitor::NetworkMonitor;
pub use self::network::{Network, NetworkError};
pub use self::record::{Record, RecordOptions};
pub use self::runtime::{Runtime, Task};
pub use self::session::{
    AddTcpError, AddressPolicy, Closed, Events, Loss, Monitor, PathFailure, PathFailures, PathFault, PathReport,
    RecvStream, SendStream, Session, SessionClosed, SessionStatus, Stream, StreamReport, TcpControl,
};
pub use self::socket::SocketOptions;
pub use self::tcp_option::{CongestionName, CongestionPolicy, OptionPolicy, OptionTextError, SocketOption, TcpOption};
pub use crate::rate_limit::RateLimit;
