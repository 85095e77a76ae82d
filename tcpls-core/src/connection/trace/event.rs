//! The events.

use core::time::Duration;

use super::Frames;
use crate::connection::schedule::{Choice, TcpView};
use crate::connection::{ClaimId, State, TimeoutReason};
use crate::error::{AlertDescription, CloseReason, TcpFault};
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode, RecordSeq};
use crate::wire::record::ContentType;

/// Something that happened in a session.
///
/// Sizes are in bytes; those of records are sizes on the wire, header and tag included. Times count from the caller's
/// origin, rates are in bytes per second.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A record was built for a TCP connection.
    RecordSent {
        /// On which TCP connection.
        tcp: ConnectionId,
        /// Its number, as acknowledgments count.
        seq: RecordSeq,
        /// Its size in bytes.
        bytes: usize,
        /// What it contains.
        content: Content<'a>,
    },
    /// A record of the peer's opened.
    RecordReceived {
        /// On which TCP connection.
        tcp: ConnectionId,
        /// Its number, as acknowledgments count.
        seq: RecordSeq,
        /// Its size in bytes.
        bytes: usize,
        /// What it contains.
        content: Content<'a>,
    },
    /// The peer acknowledged records.
    Acknowledged {
        /// The TCP connection that carried them; the acknowledgment may have come on another.
        tcp: ConnectionId,
        /// The number of the last of them.
        highest: RecordSeq,
        /// Bytes of the records that it acknowledges for the first time.
        bytes: u64,
        /// Bytes of the records that still wait for an acknowledgment.
        in_flight: u64,
    },
    /// An acknowledgment showed a round-trip time.
    RttSample {
        /// Of which TCP connection.
        tcp: ConnectionId,
        /// The round-trip time, the peer's delay in acknowledging included.
        sample: Duration,
        /// The exponentially weighted mean of all samples.
        smoothed: Duration,
        /// Their mean deviation.
        variation: Duration,
        /// The smallest of them.
        min: Duration,
    },
    /// An acknowledgment showed how fast a TCP connection delivers.
    RateSample {
        /// Which.
        tcp: ConnectionId,
        /// Bytes per second.
        sample: u64,
        /// There was no more to send: the path could have carried more.
        is_lower_bound: bool,
        /// The estimate in bytes per second; `None` until there was more to send than a flight.
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
        /// The TCP connections that the scheduler was shown.
        views: &'a [TcpView],
    },
    /// Client: a TCP connection opens and joins with a token.
    JoinStarted {
        /// Its ID, which is the token's number.
        tcp: ConnectionId,
        /// Records follow the hello at once.
        zero_rtt: bool,
        /// It is a backup from the start.
        backup: bool,
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
    /// A TCP connection is part of the session.
    Joined {
        /// Which.
        tcp: ConnectionId,
    },
    /// The peer asked for a TCP connection to be a backup, or took that back.
    StatusChanged {
        /// Which.
        tcp: ConnectionId,
        /// Whether it is a backup now.
        backup: bool,
    },
    /// A TCP connection was quiet, and is pinged.
    Probed {
        /// Which.
        tcp: ConnectionId,
    },
    /// A TCP connection owes an answer for longer than it should.
    Stalled {
        /// Which.
        tcp: ConnectionId,
        /// Since when it owes an acknowledgment; `None` if only the peer's kernel owes an answer.
        owed_since: Option<Time>,
        /// Bytes of the records that wait for an acknowledgment.
        in_flight: u64,
    },
    /// What a stalled TCP connection carries goes out on others too.
    Hedged {
        /// Which.
        tcp: ConnectionId,
        /// Bytes of stream data that are sent again.
        bytes: u64,
    },
    /// A stalled TCP connection answers again.
    Resumed {
        /// Which.
        tcp: ConnectionId,
    },
    /// A TCP connection is left intentionally.
    Retiring {
        /// Which.
        tcp: ConnectionId,
    },
    /// What a lost TCP connection carried goes out on others.
    Requeued {
        /// Which.
        tcp: ConnectionId,
        /// Bytes of stream data that are sent again.
        bytes: u64,
    },
    /// A TCP connection is lost.
    Lost {
        /// Which.
        tcp: ConnectionId,
        /// Why.
        fault: TcpFault,
    },
    /// The socket of a TCP connection may be closed.
    Discarded {
        /// Which.
        tcp: ConnectionId,
    },
    /// This endpoint's keys have a new generation, which each TCP connection uses from its next record on.
    KeyUpdateStarted {
        /// The generation, counted from 0.
        generation: u32,
    },
    /// This endpoint's next record on a TCP connection uses the next generation of its keys.
    KeyUpdateSent {
        /// On which TCP connection.
        tcp: ConnectionId,
        /// The generation, counted from 0.
        generation: u32,
    },
    /// The peer's next record on a TCP connection uses the next generation of its keys.
    KeyUpdateReceived {
        /// On which TCP connection.
        tcp: ConnectionId,
        /// The generation, counted from 0.
        generation: u32,
        /// The peer asks for a key update of this endpoint.
        requested: bool,
    },
    /// A limit was reached.
    LimitReached {
        /// Which limit.
        limit: Limit,
        /// On which TCP connection, if it was on one.
        tcp: Option<ConnectionId>,
    },
    /// A deadline passed.
    TimedOut {
        /// Which.
        reason: TimeoutReason,
    },
    /// The session is in another state.
    StateChanged {
        /// The state before.
        from: State,
        /// The state now.
        to: State,
    },
    /// This endpoint's application ends the session.
    Closing {
        /// Its error code; 0 delivers first what was written.
        error: ErrorCode,
    },
    /// The peer ends the session.
    PeerClosing {
        /// Its error code.
        error: ErrorCode,
    },
    /// The session is over; it is the last event.
    Closed {
        /// Why.
        reason: &'a CloseReason,
    },
}

/// What a record contains.
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
    /// Something that no record may contain.
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
    /// The peer sent more session tickets than are kept.
    Tickets,
    /// There were more TCP connections than are allowed: the one that was silent longest is lost.
    TcpConnections,
}

impl Event<'_> {
    /// The TCP connection that the event is about; `None` if it is about the session or a claim.
    pub const fn tcp(&self) -> Option<ConnectionId> {
        match self {
            Self::RecordSent { tcp, .. }
            | Self::RecordReceived { tcp, .. }
            | Self::Acknowledged { tcp, .. }
            | Self::RttSample { tcp, .. }
            | Self::RateSample { tcp, .. }
            | Self::Scheduled { tcp, .. }
            | Self::JoinStarted { tcp, .. }
            | Self::ClaimAccepted { tcp, .. }
            | Self::Joined { tcp }
            | Self::StatusChanged { tcp, .. }
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
            // A claim may be an eavesdropper's: the TCP connection of that number is not its.
            Self::ClaimMade { .. }
            | Self::ClaimRefused { .. }
            | Self::KeyUpdateStarted { .. }
            | Self::TimedOut { .. }
            | Self::StateChanged { .. }
            | Self::Closing { .. }
            | Self::PeerClosing { .. }
            | Self::Closed { .. } => None,
        }
    }
}
