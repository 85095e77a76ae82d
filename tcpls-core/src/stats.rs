//! What a person who debugs a session asks for: plain numbers, filled in by the layers that know them.

use core::fmt;
use core::time::Duration;

use crate::error::TcpFault;
use crate::wire::ids::ConnectionId;

/// Counters of a session since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The TCP connections, lost ones too (the last 64 of those), by connection ID.
    pub tcp: Vec<TcpStats>,
    /// Frames sent, by type.
    pub frames_sent: FrameCounts,
    /// Frames received, by type.
    pub frames_received: FrameCounts,
    /// Streams that are open at the moment.
    pub streams_open: usize,
    /// Bytes written by the application and not acknowledged at the moment.
    pub bytes_to_send: usize,
    /// Memory held for the application to read at the moment, in bytes.
    pub bytes_to_read: usize,
    /// Frames of the session, stream data and its flow control not counted, that wait to be sent.
    pub frames_due: usize,
    /// Tokens: in hand on a client, in the client's hands on a server.
    pub tokens: usize,
    /// Times that something ran into a limit.
    pub limits: LimitCounts,
    /// Key updates of this side's keys, and of the peer's.
    pub key_updates: (u32, u32),
}

/// One TCP connection's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Which.
    pub tcp: ConnectionId,
    /// How far it is.
    pub phase: TcpPhase,
    /// Whether it is used only when no other lives.
    pub backup: bool,
    /// Exponentially weighted round-trip time, the peer's delay in acknowledging included; `None` before the first
    /// acknowledgment.
    pub smoothed_rtt: Option<Duration>,
    /// The smallest round-trip time seen.
    pub min_rtt: Option<Duration>,
    /// Bytes on the wire in records that wait for an acknowledgment.
    pub bytes_in_flight: u64,
    /// The counters.
    pub counters: TcpCounters,
}

/// How far a TCP connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpPhase {
    /// In the TLS handshake, or joining.
    Opening,
    /// In use.
    Active,
    /// Being left.
    Retiring,
    /// Lost, and why.
    Lost(TcpFault),
}

impl fmt::Display for TcpPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening => f.write_str("opening"),
            Self::Active => f.write_str("in use"),
            Self::Retiring => f.write_str("retiring"),
            Self::Lost(fault) => write!(f, "lost: {fault}"),
        }
    }
}

/// Bytes and records of one TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpCounters {
    /// Bytes given to the socket.
    pub bytes_sent: u64,
    /// Bytes taken from the socket.
    pub bytes_received: u64,
    /// Records sealed.
    pub records_sent: u64,
    /// Records opened.
    pub records_received: u64,
    /// Stream data sent, what was sent again included.
    pub stream_bytes_sent: u64,
    /// Stream data received, duplicates included.
    pub stream_bytes_received: u64,
    /// Acknowledgments *of* this TCP connection's records that came, on whichever.
    pub acks_received: u64,
    /// Acknowledgments of what came on this TCP connection that were sent, on whichever.
    pub acks_sent: u64,
    /// Stream bytes that were unacknowledged when it was lost, and went out again on others.
    pub requeued_bytes: u64,
}

/// How often limits were hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounts {
    /// Records that failed to decrypt.
    pub bad_records: u64,
    /// TCP connections that showed a token and were turned away.
    pub claims_refused: u64,
    /// Frames that changed nothing.
    pub idle_frames: u64,
    /// Session tickets beyond the four that are kept.
    pub tickets_dropped: u64,
}

/// A count for each frame type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    draft: [u64; 10],
    own: [u64; 11],
}

impl FrameCounts {
    /// Adds one frame of type `ty`; unknown types are not counted.
    pub(crate) fn count(&mut self, ty: u8) {
        if let Some(count) = self.slot(ty) {
            *count += 1;
        }
    }

    /// How many frames of the type with this byte were counted.
    pub fn get(&self, ty: u8) -> u64 {
        match ty {
            0x00..=0x09 => self.draft[usize::from(ty)],
            0x40..=0x4a => self.own[usize::from(ty - 0x40)],
            _ => 0,
        }
    }

    /// Type bytes and counts of all types that came at least once, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        (0x00..=0x09).chain(0x40..=0x4a).map(|ty| (ty, self.get(ty))).filter(|(_, count)| *count > 0)
    }

    fn slot(&mut self, ty: u8) -> Option<&mut u64> {
        match ty {
            0x00..=0x09 => self.draft.get_mut(usize::from(ty)),
            0x40..=0x4a => self.own.get_mut(usize::from(ty - 0x40)),
            _ => None,
        }
    }
}
