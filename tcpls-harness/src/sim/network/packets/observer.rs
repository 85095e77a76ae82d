//! State of a TCP connection at one end, observed from its packets: what a kernel reports in `TCP_INFO` and smoltcp
//! does not.
//!
//! And its congestion window, for smoltcp has none that takes account of what is in flight: NewReno's (RFC 5681, RFC 6582),
//! applied by giving the stack no more bytes than the window has room for.

use std::time::Duration;

use smoltcp::wire::{Ipv4Packet, TcpPacket};
use tcpls_core::Time;
use tcpls_core::connection::TcpInfo;

/// The first window, in segments (RFC 6928).
const FIRST_WINDOW: usize = 10;

/// One end's view.
#[derive(Debug)]
pub(super) struct TcpObserver {
    segment: usize,
    window: usize,
    threshold: usize,
    /// Losses up to here are one and the same congestion.
    recovery: u32,
    /// The first sequence number.
    base: Option<u32>,
    /// Bytes of the sequence that were sent, and that were acknowledged.
    sent: u32,
    acked: u32,
    heard: Time,
    /// The round trip that is being measured: up to where, since when.
    measuring: Option<(u32, Time)>,
    rtt: Duration,
    min_rtt: Option<Duration>,
}

/// The relevant properties of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) ports: (u16, u16),
    seq: u32,
    ack: Option<u32>,
    len: u32,
    syn: bool,
}

impl Segment {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        Some(Self {
            ports: (tcp.src_port(), tcp.dst_port()),
            seq: tcp.seq_number().0 as u32,
            ack: tcp.ack().then(|| tcp.ack_number().0 as u32),
            len: tcp.segment_len() as u32,
            syn: tcp.syn(),
        })
    }
}

impl TcpObserver {
    /// `segment`: bytes of data in a full packet.
    pub(super) fn new(segment: usize) -> Self {
        Self {
            segment,
            window: FIRST_WINDOW * segment,
            threshold: usize::MAX,
            recovery: 0,
            base: None,
            sent: 0,
            acked: 0,
            heard: Time::ZERO,
            measuring: None,
            rtt: Duration::ZERO,
            min_rtt: None,
        }
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    pub(super) fn note_sent(&mut self, now: Time, segment: Segment) {
        if segment.syn {
            self.base = Some(segment.seq);
        }
        let Some(base) = self.base else { return };
        let end = segment.seq.wrapping_sub(base).wrapping_add(segment.len);
        if end > self.sent {
            self.sent = end;
            self.measuring.get_or_insert((end, now));
        } else if segment.len > 0 {
            self.measuring = None; // sent again: the answer could be to either
            if end > self.recovery {
                self.threshold = (self.window / 2).max(2 * self.segment);
                (self.window, self.recovery) = (self.threshold, self.sent);
            }
        }
    }

    pub(super) fn note_heard(&mut self, now: Time, segment: Segment) {
        self.heard = now;
        let (Some(base), Some(ack)) = (self.base, segment.ack) else { return };
        let acked = ack.wrapping_sub(base);
        if acked > self.acked && acked <= self.sent {
            let new = (acked - self.acked) as usize;
            let slow_start = self.window < self.threshold;
            self.window += if slow_start { new } else { (self.segment * new / self.window).max(1) };
            self.acked = acked;
        }
        if let Some((_, since)) = self.measuring.take_if(|(end, _)| *end <= acked) {
            let rtt = now - since;
            self.rtt = if self.rtt.is_zero() { rtt } else { (self.rtt * 7 + rtt) / 8 };
            self.min_rtt = Some(self.min_rtt.map_or(rtt, |least| least.min(rtt)));
        }
    }

    /// Bytes of the application's that left for the network at least once: neither the SYN nor the FIN.
    pub(super) fn sent(&self) -> u64 {
        u64::from(self.sent.saturating_sub(1))
    }

    pub(super) fn info(&self) -> TcpInfo {
        let unacked = (self.sent - self.acked).div_ceil(self.segment as u32);
        let min_rtt = self.min_rtt.unwrap_or_default().min(self.rtt);
        TcpInfo::default().with(|info| {
            info.heard = self.heard;
            info.unacked = unacked;
            info.rtt = self.rtt;
            info.min_rtt = min_rtt;
            info.acked = u64::from(self.acked);
        })
    }
}
