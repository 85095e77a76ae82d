//! What a session tells its owner, in order.

use core::net::SocketAddr;

use crate::error::{CloseReason, TcpFault};
use crate::time::Time;
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, StreamId};

/// Something changed. Drained by `Connection::poll_event`; `Closed` comes once and last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session can be used: the handshake is over and, if the peer speaks TCPLS, its Session Parameters have come.
    /// Streams can be opened from here on, as many as the peer allows; [`StreamEvent::Available`] reports when it allows
    /// more. Comes at most once, ahead of all events about streams and tokens that came with it. If the server asks for a
    /// client certificate, it comes after the server has accepted that.
    Established(Established),
    /// Something about one TCP connection.
    Tcp(TcpEvent),
    /// Something about one stream, or all.
    Stream(StreamEvent),
    /// Client: tokens are in hand; each lets one TCP connection join.
    TokensAvailable {
        /// How many.
        count: usize,
    },
    /// The peer advertises an address. A suggestion, not an order.
    AddressAdvertised {
        /// Its ID.
        id: AddressId,
        /// The address.
        address: SocketAddr,
    },
    /// The peer withdrew an address: no new TCP connection may use it (draft, 5.2.8). Those that do, as
    /// `Connection::set_tcp_addresses` reported, are being retired.
    AddressWithdrawn {
        /// Its ID.
        id: AddressId,
        /// The address.
        address: SocketAddr,
    },
    /// The peer asks for a TCP option on its behalf.
    TcpOption {
        /// On which TCP connection it came.
        tcp: ConnectionId,
        /// The option's kind.
        kind: u8,
        /// Its value.
        value: Vec<u8>,
    },
    /// No TCP connection is left; the session waits for one to join until then.
    Stranded {
        /// When it gives up.
        until: Time,
    },
    /// A TCP connection joined a stranded session.
    Recovered,
    /// The peer closes the session and takes no more data, or said close_notify alone: then it sends no more, and `error` is 0.
    /// What it sent before can still be read.
    PeerClosing {
        /// Its error code.
        error: ErrorCode,
    },
    /// The session is over. Nothing comes after it. `Connection::undelivered` says whether anything was lost with it.
    Closed {
        /// Why.
        reason: CloseReason,
    },
}

/// What the handshake agreed on. The default is plain TLS without an application protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Established {
    /// Whether the peer speaks TCPLS. If not, this is plain TLS 1.3 with one TCP connection and one stream, 0.
    pub tcpls: bool,
    /// The application protocol, without the `tcpls+` in front.
    pub application_protocol: Option<Vec<u8>>,
}

/// In this order for each TCP connection, each at most once: `Joined`, `Lost`, `Discarded`. The others come in between. After
/// `Discarded` the ID may name another TCP connection if this one never `Joined`: see `Connection::open_tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TcpEvent {
    /// It is part of the session: a record from the peer opened under the session's keys.
    Joined {
        /// Which.
        tcp: ConnectionId,
    },
    /// It owes an answer for longer than it should; what it carries goes out on others too, and nothing new is put on it as
    /// long as another answers. Comes between `Joined` and `Lost`, as often as it happens.
    Stalled {
        /// Which.
        tcp: ConnectionId,
    },
    /// It answers again. Each `Stalled` is followed by this or by `Lost`.
    Resumed {
        /// Which.
        tcp: ConnectionId,
    },
    /// The peer wants it used only when no other lives, or takes that back: because its application says so, because it
    /// retires it, or because it receives nothing on it.
    Status {
        /// Which.
        tcp: ConnectionId,
        /// Whether it is a backup now.
        backup: bool,
    },
    /// It carries nothing any more; what it had not delivered goes out on others.
    Lost {
        /// Which.
        tcp: ConnectionId,
        /// Why.
        fault: TcpFault,
    },
    /// The owner should write what it still holds for it (an alert, say), then close the socket. Nothing more comes.
    Discarded {
        /// Which.
        tcp: ConnectionId,
    },
}

/// Something about streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The peer opened streams: `Connection::accept_stream` gives them.
    Opened,
    /// This side may open streams that it could not before.
    Available,
    /// Something to read, an end or an error; comes again only after a read said `Blocked`.
    Readable {
        /// Which.
        id: StreamId,
    },
    /// Room to write after a write said `Blocked`, or took less than it was given.
    Writable {
        /// Which.
        id: StreamId,
    },
    /// Everything written, and the end, is acknowledged.
    Delivered {
        /// Which.
        id: StreamId,
    },
    /// The peer asks this side to send no more on it.
    Stopped {
        /// Which.
        id: StreamId,
        /// The peer's code.
        error: ErrorCode,
    },
}
