//! Events that a session reports, in order.

use core::fmt;
use core::net::SocketAddr;

use crate::error::{CloseReason, TcpFault};
use crate::time::Time;
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, StreamId};

/// An event of a session, returned by `Connection::poll_event`. `Closed` comes once, as the last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The session is ready: the handshake is complete and, if the peer supports TCPLS, its Session Parameters have
    /// arrived. From now on as many streams can be opened as the peer allows; [`StreamEvent::Available`] reports when
    /// it allows more. Comes at most once, before all events about streams and tokens. If the server requests a client
    /// certificate, it comes after the server has accepted it.
    Established(Established),
    /// Server: the client's Finished has arrived in a session that was reported before, because early data came with the
    /// ClientHello: the client is there, and its first flight is no copy of an earlier one.
    HandshakeConfirmed,
    /// An event of one TCP connection.
    Tcp(TcpEvent),
    /// An event of one stream, or of all.
    Stream(StreamEvent),
    /// Client: new tokens have arrived; each lets one TCP connection join.
    TokensAvailable {
        /// The number of unused tokens.
        count: usize,
    },
    /// The peer advertises an address. The application decides whether to connect to it.
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
    /// The peer asks the application to set an option of a TCP connection at this end.
    ///
    /// The application decides: an option of the peer's choice on a socket of this host is a risk.
    TcpOption {
        /// The TCP connection: the one that the peer names in its request, or on which TCP Option arrived.
        tcp: ConnectionId,
        /// The kind of the option.
        kind: u8,
        /// Its value, at most 64 bytes in a request.
        value: Vec<u8>,
        /// To be given to `Connection::answer_tcp_option`; `None` if the peer expects no answer.
        request: Option<OptionRequestId>,
    },
    /// The peer has answered `Connection::ask_tcp_option`.
    TcpOptionAnswered {
        /// The request.
        request: OptionRequestId,
        /// The TCP connection that it was about.
        tcp: ConnectionId,
        /// The kind of the option.
        kind: u8,
        /// What the peer has done.
        outcome: OptionOutcome,
    },
    /// No TCP connection is left; the session waits for a join.
    Stranded {
        /// When the session ends if none joins.
        until: Time,
    },
    /// A TCP connection joined a stranded session.
    Recovered,
    /// The peer drains the session: it serves the streams that this endpoint has opened so far, as far as they had arrived,
    /// and closes the session after the last. The others are reset with [`NOT_PROCESSED`](crate::error::code::NOT_PROCESSED).
    /// Use another session for new streams.
    PeerDraining,
    /// The peer closes the session and accepts no more data; or it sent close_notify alone: then it sends no more data,
    /// and `error` is 0. Data that it sent before can still be read.
    PeerClosing {
        /// Its error code.
        error: ErrorCode,
    },
    /// The session has ended. No event follows. `Connection::undelivered` returns how much data was lost with it.
    Closed {
        /// The reason.
        reason: CloseReason,
    },
}

/// What an endpoint has done about its peer's request for a TCP option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OptionOutcome {
    /// The option is set.
    Applied,
    /// It is not: the endpoint does not allow it, the value is invalid, its system does not permit it, or there were too
    /// many requests.
    Refused,
    /// The endpoint, or its system, does not know the option.
    Unknown,
    /// The endpoint has lost the TCP connection.
    Lost,
}

impl OptionOutcome {
    /// Returns the code in TCP Option Answer.
    pub const fn code(self) -> u8 {
        match self {
            Self::Applied => 0,
            Self::Refused => 1,
            Self::Unknown => 2,
            Self::Lost => 3,
        }
    }

    /// Returns the meaning of a code. One that is not in the table means that the option is not set.
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Applied,
            2 => Self::Unknown,
            3 => Self::Lost,
            _ => Self::Refused,
        }
    }
}

impl fmt::Display for OptionOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::Unknown => "unknown to the peer",
            Self::Lost => "not applied: the peer has lost the TCP connection",
        })
    }
}

/// The result of the handshake. The default is plain TLS without an application protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Established {
    /// Whether the peer supports TCPLS. If not, the session is plain TLS 1.3 with one TCP connection and one stream,
    /// number 0.
    pub tcpls: bool,
    /// Whether the session has only the draft's frames: see `Connection::is_draft_only`.
    pub draft_only: bool,
    /// The application protocol, without the prefix `tcpls+`.
    pub application_protocol: Option<Vec<u8>>,
}

/// An event of one TCP connection.
///
/// `Joined`, `Lost` and `Discarded` come in this order, each at most once; the others come in between. After
/// `Discarded` the ID may identify another TCP connection if this one never `Joined`: see `Connection::open_tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TcpEvent {
    /// It has joined the session: a record of the peer decrypted under the session's keys.
    Joined {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// It makes no progress. The session reinjects its data on others and sends no new data on it while another TCP
    /// connection makes progress. Comes between `Joined` and `Lost`, any number of times.
    Stalled {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// It makes progress again. Each `Stalled` is followed by this or by `Lost`.
    Resumed {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// The peer asks this endpoint to use it only when no other is live, or to use it again: because its application
    /// asked for that, because it retires the TCP connection, or because it receives nothing on it.
    Status {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Whether it is a backup now.
        backup: bool,
    },
    /// It is no longer used; the session reinjects its unacknowledged data on others.
    Lost {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Why it was lost.
        fault: TcpFault,
    },
    /// The driver should write what it still holds for it (for example an alert), then close the socket. No event of it
    /// follows.
    Discarded {
        /// The TCP connection.
        tcp: ConnectionId,
    },
}

/// An event of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The peer opened streams; `Connection::accept_stream` returns them.
    Opened,
    /// This endpoint may open more streams.
    Available,
    /// Data, the end or an error can be read. Comes again only after a read returned `Blocked`.
    Readable {
        /// The stream.
        id: StreamId,
    },
    /// There is room to write again, after a write returned `Blocked` or took less than all bytes.
    Writable {
        /// The stream.
        id: StreamId,
    },
    /// The peer has acknowledged all written data and the end.
    Delivered {
        /// The stream.
        id: StreamId,
    },
    /// The peer asks this endpoint to stop sending on it.
    Stopped {
        /// The stream.
        id: StreamId,
        /// The error code of the peer.
        error: ErrorCode,
    },
}
