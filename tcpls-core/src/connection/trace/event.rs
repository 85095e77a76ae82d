//! The events of a trace.

use core::net::SocketAddr;
use core::time::Duration;

use super::Frames;
use crate::connection::schedule::{Choice, TcpView};
use crate::connection::{ClaimId, State, TimeoutReason};
use crate::error::{AlertDescription, CloseReason, TcpFault};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, RecordSeq};
use crate::wire::record::ContentType;

/// An event in a session.
///
/// Sizes are in bytes; those of records are sizes on the wire, header and tag included. Times count from the caller's
/// origin, rates are in bytes per second.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A record was built for a TCP connection.
    RecordSent {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Its number, as acknowledgments count.
        seq: RecordSeq,
        /// Its size in bytes.
        bytes: usize,
        /// Its content.
        content: Content<'a>,
    },
    /// A record of the peer decrypted.
    RecordReceived {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Its number, as acknowledgments count.
        seq: RecordSeq,
        /// Its size in bytes.
        bytes: usize,
        /// Its content.
        content: Content<'a>,
    },
    /// Client: a record of early data was built, which has no number.
    EarlySent {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Its size in bytes.
        bytes: usize,
        /// Its content.
        content: Content<'a>,
    },
    /// Server: a record of early data was accepted.
    EarlyReceived {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Its size in bytes.
        bytes: usize,
        /// Its content.
        content: Content<'a>,
    },
    /// Client: the server rejected early data, which is sent again.
    EarlyRejected {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Stream data in it, in bytes.
        bytes: u64,
    },
    /// The peer acknowledged records.
    Acknowledged {
        /// The TCP connection that carried them; the ACK may have arrived on another.
        tcp: ConnectionId,
        /// The number of the last of them.
        highest: RecordSeq,
        /// Bytes of the newly acknowledged records.
        bytes: u64,
        /// Bytes of the records that are still unacknowledged.
        in_flight: u64,
    },
    /// An acknowledgment gave a sample of the round-trip time.
    RttSample {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The round-trip time, including the peer's ack delay.
        sample: Duration,
        /// The exponentially weighted mean of all samples.
        smoothed: Duration,
        /// Their mean deviation.
        variation: Duration,
        /// The smallest of them.
        min: Duration,
    },
    /// An acknowledgment gave a sample of a TCP connection's rate.
    RateSample {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Bytes per second.
        sample: u64,
        /// Whether there was no more data to send: the path could have carried more.
        is_lower_bound: bool,
        /// The estimate in bytes per second; `None` before there was more to send than a flight.
        estimate: Option<u64>,
    },
    /// The scheduler decided about the next piece of stream data.
    Scheduled {
        /// The TCP connection that has room.
        tcp: ConnectionId,
        /// The answer.
        choice: Choice,
        /// Bytes that all streams together could send.
        unsent: u64,
        /// The TCP connections that the scheduler saw.
        views: &'a [TcpView],
    },
    /// Client: a TCP connection begins to join with a token.
    JoinStarted {
        /// Its ID, which is the token's number.
        tcp: ConnectionId,
        /// Whether records follow the ClientHello at once.
        zero_rtt: bool,
        /// Whether it joins as a backup.
        backup: bool,
        /// Whether it joins as a lane.
        lane: bool,
    },
    /// The peer declared a TCP connection a lane, to be kept free of bulk data.
    LaneDeclared {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// Server: a TCP connection presented a token.
    ClaimMade {
        /// The claim.
        claim: ClaimId,
        /// The TCP connection that it claims to be.
        tcp: ConnectionId,
    },
    /// Server: a claim became authenticated.
    ClaimAccepted {
        /// The claim.
        claim: ClaimId,
        /// The TCP connection that it is now.
        tcp: ConnectionId,
    },
    /// Server: a claim was refused.
    ClaimRefused {
        /// The claim.
        claim: ClaimId,
        /// The alert that it gets.
        alert: AlertDescription,
    },
    /// The driver reported the addresses of a TCP connection.
    TcpAddresses {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The local address, if it is known.
        local: Option<SocketAddr>,
        /// The remote address, if it is known.
        remote: Option<SocketAddr>,
    },
    /// A TCP connection is part of the session.
    Joined {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// The peer asked to use a TCP connection as a backup, or to use it again.
    StatusChanged {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Whether it is a backup now.
        backup: bool,
    },
    /// A TCP connection was quiet, or the peer made it a backup: it is probed with a Ping.
    Probed {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// A TCP connection is stalled.
    Stalled {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Since when an acknowledgment is due; `None` if only an answer of the peer's kernel is.
        owed_since: Option<Time>,
        /// Bytes of the unacknowledged records.
        in_flight: u64,
    },
    /// The data of a stalled TCP connection is reinjected on others.
    Hedged {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Bytes of stream data that are sent again.
        bytes: u64,
    },
    /// A stalled TCP connection makes progress again.
    Resumed {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// A TCP connection is being retired.
    Retiring {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// The data of a lost TCP connection is reinjected on others.
    Requeued {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Bytes of stream data that are sent again.
        bytes: u64,
    },
    /// A TCP connection is lost.
    Lost {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Why it was lost.
        fault: TcpFault,
    },
    /// The socket of a TCP connection may be closed.
    Discarded {
        /// The TCP connection.
        tcp: ConnectionId,
    },
    /// This endpoint's keys have a new generation, which each TCP connection uses from its next record on.
    KeyUpdateStarted {
        /// The generation, counted from 0.
        generation: u32,
    },
    /// This endpoint's next record on a TCP connection uses the next generation of its keys.
    KeyUpdateSent {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The generation, counted from 0.
        generation: u32,
    },
    /// The peer's next record on a TCP connection uses the next generation of its keys.
    KeyUpdateReceived {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The generation, counted from 0.
        generation: u32,
        /// The peer asks for a key update of this endpoint.
        requested: bool,
    },
    /// A limit was reached.
    LimitReached {
        /// The limit.
        limit: Limit,
        /// The TCP connection, if the limit concerns one.
        tcp: Option<ConnectionId>,
    },
    /// A deadline passed.
    TimedOut {
        /// The reason.
        reason: TimeoutReason,
    },
    /// The state of the session has changed.
    StateChanged {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
    },
    /// This endpoint's application drains the session.
    Draining {
        /// How many streams of the peer it serves.
        streams: u32,
    },
    /// The peer drains the session.
    PeerDraining {
        /// How many streams of this endpoint it serves.
        streams: u32,
    },
    /// This endpoint's application ends the session.
    Closing {
        /// Its error code; with 0, written data is delivered first.
        error: ErrorCode,
    },
    /// The peer ends the session.
    PeerClosing {
        /// Its error code.
        error: ErrorCode,
    },
    /// The session has ended; this is the last event.
    Closed {
        /// Why.
        reason: &'a CloseReason,
        /// Whether the session ended before a stream of the peer did: reading it ends with
        /// [`ReadError::Truncated`](crate::error::ReadError::Truncated).
        truncated: bool,
    },
}

/// The content of a record.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Content<'a> {
    /// Frames.
    Frames(Frames<'a>),
    /// Application data of a session without TCPLS.
    Plain {
        /// Bytes of it.
        bytes: usize,
    },
    /// An alert.
    Alert(AlertDescription),
    /// Handshake messages after the handshake.
    Handshake {
        /// The type of the first: 4 is New Session Ticket, 24 is KeyUpdate.
        ty: u8,
    },
    /// Content that no record may have.
    Invalid,
}

impl<'a> Content<'a> {
    pub(in crate::connection) fn of(content_type: u8, is_plain: bool, content: &'a [u8]) -> Self {
        const DATA: u8 = ContentType::ApplicationData as u8;
        const ALERT: u8 = ContentType::Alert as u8;
        const HANDSHAKE: u8 = ContentType::Handshake as u8;
        match (content_type, content) {
            (DATA, _) if is_plain => Self::Plain { bytes: content.len() },
            (DATA, _) => Self::Frames(Frames::new(content)),
            (ALERT, &[_, description]) => Self::Alert(AlertDescription(description)),
            (HANDSHAKE, &[ty, ..]) => Self::Handshake { ty },
            _ => Self::Invalid,
        }
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// A record failed to decrypt; the AEAD's integrity limit bounds how many may.
    BadRecord,
    /// The peer sent more session tickets than are stored.
    Tickets,
    /// There were too many TCP connections: the one that was silent longest is lost.
    TcpConnections,
}

impl Event<'_> {
    /// Returns the TCP connection of the event; `None` for events of the session or a claim.
    pub const fn tcp(&self) -> Option<ConnectionId> {
        match self {
            Self::RecordSent { tcp, .. }
            | Self::RecordReceived { tcp, .. }
            | Self::EarlySent { tcp, .. }
            | Self::EarlyReceived { tcp, .. }
            | Self::EarlyRejected { tcp, .. }
            | Self::Acknowledged { tcp, .. }
            | Self::RttSample { tcp, .. }
            | Self::RateSample { tcp, .. }
            | Self::Scheduled { tcp, .. }
            | Self::JoinStarted { tcp, .. }
            | Self::ClaimAccepted { tcp, .. }
            | Self::TcpAddresses { tcp, .. }
            | Self::Joined { tcp }
            | Self::StatusChanged { tcp, .. }
            | Self::LaneDeclared { tcp }
            | Self::Probed { tcp }
            | Self::Stalled { tcp, .. }
            | Self::Hedged { tcp, .. }
            | Self::Resumed { tcp }
            | Self::Retiring { tcp }
            | Self::Requeued { tcp, .. }
            | Self::Lost { tcp, .. }
            | Self::Discarded { tcp }
            | Self::KeyUpdateSent { tcp, .. }
            | Self::KeyUpdateReceived { tcp, .. } => Some(*tcp),
            Self::LimitReached { tcp, .. } => *tcp,
            // An eavesdropper may have made the claim, so it is not the TCP connection of that number.
            Self::ClaimMade { .. }
            | Self::ClaimRefused { .. }
            | Self::KeyUpdateStarted { .. }
            | Self::TimedOut { .. }
            | Self::StateChanged { .. }
            | Self::Draining { .. }
            | Self::PeerDraining { .. }
            | Self::Closing { .. }
            | Self::PeerClosing { .. }
            | Self::Closed { .. } => None,
        }
    }
}
