//! Tunnels: TCP connections of other programs carried by one long-lived session, a stream for each.
//!
//! A client asks for a connection with an HTTP/1.1 CONNECT request at the start of a stream; the rest of the stream is the
//! connection's bytes (`docs/tunnels.md`). Without TCPLS the same request works over plain TLS, so that programs that know
//! HTTPS proxies can use the server, too.
//!
//! | file | subject |
//! | --- | --- |
//! | `target`, `allow` | what a client asks for; which targets a server permits |
//! | `users`, `logins` | credentials, compared in constant time; how often a network may send wrong ones |
//! | `certificate` | the name of a client in its certificate |
//! | `invite`, `invites` | a server's addresses, pins and a client's secret in one line; those that a server gave out |
//! | `refusal` | why a connection is refused, in the words of HTTP |
//! | `peer`, `splice`, `chunks` | the TCP connection outside of the session; carrying bytes, ends and resets between it and a stream |
//! | `places`, `rate` | how many connections a client has, and the rate that they share |
//! | `load`, `windows` | which streams carry bulk data, sans-IO; windows that leave room for every connection |
//! | `outbound`, `look_ups` | connects to targets: resolves names once, in turns, and judges the addresses |
//! | `server` | answers the streams of a session |
//! | `client`, `tunnel` | asks a server for connections; keeps a session for that |
//! | `remote`, `reverse` | ports of the server that lead to a client: who may have which, and the client's part |
//! | `socks`, `local` | SOCKS version 5, sans-IO; programs that ask a client for connections |
//!
//! What decides has no sockets: the simulator runs [`Server`] and [`splice`] with peers in memory.

mod allow;
mod certificate;
mod chunks;
mod client;
mod invite;
mod invites;
mod load;
mod local;
mod logins;
mod look_ups;
mod outbound;
mod peer;
mod places;
mod rate;
mod refusal;
mod remote;
mod reverse;
mod server;
pub mod socks;
mod splice;
mod target;
mod tunnel;
mod users;
mod windows;

pub use self::allow::{Allow, Pattern, PatternError};
pub use self::client::request;
pub use self::invite::{ClientName, Invite, InviteError, Secret};
pub use self::invites::{Invited, Invites};
pub use self::local::{Served, serve_forward, serve_program};
pub use self::outbound::{Outbound, TcpOutbound};
#[cfg(feature = "cli")]
pub(crate) use self::peer::KEEP_ALIVE;
pub use self::peer::{Peer, TcpPeer};
pub use self::places::Requester;
pub use self::rate::Rate;
pub use self::refusal::Refusal;
pub use self::remote::{AllowRemote, RemotePattern};
pub use self::reverse::{RemoteForward, RemoteForwards, RemoteReport};
pub use self::server::{Limits, Report, Server};
pub use self::splice::{End, Spliced, Splicing, splice};
pub use self::target::{Host, Target, TargetError};
pub use self::tunnel::{Tunnel, TunnelOptions, TunnelReport};
pub use self::users::{Accounts, Credentials, Users};
pub use self::windows::session_config;
pub use crate::http::PROTOCOL;

/// Error codes that streams are reset and stopped with.
pub mod codes {
    use tcpls_core::wire::ids::ErrorCode;

    /// The TCP connection outside of the session was reset: HTTP/3's H3_CONNECT_ERROR (RFC 9114, 4.4).
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(0x10f);
    /// No byte passed for the server's idle time.
    pub const IDLE: ErrorCode = ErrorCode(0x120);
    /// The server stops: the session is closed with this, not a stream.
    pub const STOPPING: ErrorCode = ErrorCode(0x104);
}
