//! Counters for debugging a session: plain numbers, filled in by the layers that count them.

use core::fmt;
use core::time::Duration;

use crate::error::TcpFault;
use crate::wire::ids::{ConnectionId, StreamId};

/// Counters of a session since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The TCP connections by connection ID, including the last 64 that were lost.
    pub tcp: Vec<TcpStats>,
    /// Frames sent, by type.
    pub frames_sent: FrameCounts,
    /// Frames received, by type.
    pub frames_received: FrameCounts,
    /// Streams that are open now.
    pub streams_open: usize,
    /// Bytes that the application has written and the peer has not acknowledged.
    pub bytes_to_send: usize,
    /// Memory of received data that the application has not read, in bytes.
    pub bytes_to_read: usize,
    /// Pending control frames, without those of flow control.
    pub frames_due: usize,
    /// Unused tokens of the client; on a server, those that it has issued.
    pub tokens: usize,
    /// How often limits were reached.
    pub limits: LimitCounts,
    /// Key updates of this endpoint's keys, and of the peer's.
    pub key_updates: (u32, u32),
}

/// One TCP connection's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpStats {
    /// Its connection ID.
    pub tcp: ConnectionId,
    /// Its state.
    pub phase: TcpPhase,
    /// Whether it is stalled: an answer of the peer is overdue.
    pub stalled: bool,
    /// Whether it is a backup: used only when no other is live.
    pub backup: bool,
    /// Whether it is a lane: kept free of bulk data ([`Config::lanes`](crate::Config::lanes)).
    pub lane: bool,
    /// Smoothed round-trip time, including the peer's ack delay; `None` before the first acknowledgment.
    pub smoothed_rtt: Option<Duration>,
    /// The smallest round-trip time measured.
    pub min_rtt: Option<Duration>,
    /// Bytes on the wire of unacknowledged records.
    pub bytes_in_flight: u64,
    /// The counters.
    pub counters: TcpCounters,
}

/// One open stream's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Its ID.
    pub id: StreamId,
    /// Bytes that the application has written.
    pub written: u64,
    /// Bytes of them that the peer has not acknowledged, and bytes behind those.
    pub unacknowledged: usize,
    /// Bytes up to the highest offset received.
    pub received: u64,
    /// Memory of received data that the application has not read, in bytes.
    pub unread: usize,
}

/// The state of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpPhase {
    /// In the TLS handshake, or joining.
    Opening,
    /// In use.
    Active,
    /// Being retired.
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
    /// Stream data sent in bytes, including reinjected data.
    pub stream_bytes_sent: u64,
    /// Stream data received in bytes, including duplicates.
    pub stream_bytes_received: u64,
    /// Received ACKs *of* records of this TCP connection, on any TCP connection.
    pub acks_received: u64,
    /// Sent ACKs *of* records of this TCP connection, on any TCP connection.
    pub acks_sent: u64,
    /// Stream bytes that were unacknowledged when it was lost, and were reinjected on others.
    pub requeued_bytes: u64,
}

/// How often limits were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitCounts {
    /// Records that failed to decrypt.
    pub bad_records: u64,
    /// TCP connections that presented a token and were refused.
    pub claims_refused: u64,
    /// Frames that changed nothing.
    pub idle_frames: u64,
    /// Session tickets beyond the 4 that are stored.
    pub tickets_dropped: u64,
}

/// A count for each frame type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    draft: [u64; 10],
    own: [u64; 15],
}

impl FrameCounts {
    /// Adds one frame of type `ty`; unknown types are not counted.
    pub(crate) fn count(&mut self, ty: u8) {
        if let Some(count) = self.slot(ty) {
            *count += 1;
        }
    }

    /// Returns the count of the frame type with this byte.
    pub fn get(&self, ty: u8) -> u64 {
        match ty {
            0x00..=0x09 => self.draft[usize::from(ty)],
            0x40..=0x4e => self.own[usize::from(ty - 0x40)],
            _ => 0,
        }
    }

    /// Returns type bytes and counts of all types with a count above 0, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> + '_ {
        (0x00..=0x09).chain(0x40..=0x4e).map(|ty| (ty, self.get(ty))).filter(|(_, count)| *count > 0)
    }

    fn slot(&mut self, ty: u8) -> Option<&mut u64> {
        match ty {
            0x00..=0x09 => self.draft.get_mut(usize::from(ty)),
            0x40..=0x4e => self.own.get_mut(usize::from(ty - 0x40)),
            _ => None,
        }
    }
}
