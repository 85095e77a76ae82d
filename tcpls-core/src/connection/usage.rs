//! What a session holds and delivers, for the [account](crate::budget) of all sessions; and its eviction.

use super::keys::Keys;
use super::record::Item;
use super::{Connection, output};
use crate::error::{Alert, CloseReason, code};
use crate::tcp::Tcp;
use crate::time::Time;
use crate::wire::ids::ConnectionId;

/// Memory of a session that holds no data, in bytes: measured with `tcpls-bench footprint`, and rounded up.
const BASE: usize = 12 * 1024;
/// Memory of a TLS handshake in progress: the library's state, and half of what a client may have sent.
const HANDSHAKE: usize = 80 * 1024;
/// The part of it that the library's state takes.
const TLS: usize = 32 * 1024;
/// Bytes that the socket of a plain session may have taken although no application reads them.
const IN_KERNELS: u64 = 512 * 1024;
/// Memory of a claim: its answer, and its place.
const CLAIM: usize = 4 * 1024;
/// Memory of a claim before the session can check its hello, which it keeps until then and which may have 16 KiB.
const EARLY_CLAIM: usize = 20 * 1024;

impl Connection {
    /// Estimates the memory that the session holds, in bytes, from above.
    ///
    /// It counts data that waits to be acknowledged or read, its bookkeeping, and TCP options; what a recorder has not passed
    /// on yet, and what a [sink](crate::trace::Sink::memory) holds; not the driver's sockets and buffers.
    pub fn memory(&self) -> usize {
        let streams = self.streams.memory();
        let live: usize = self.tcps.iter().map(|entry| entry.memory()).sum();
        let lost: usize = self.lost.values().map(|lost| lost.tcp.memory()).sum();
        let final_bytes: usize = self.final_bytes.values().map(Vec::capacity).sum();
        let handshake = self.handshake.as_ref().map_or(0, |tls| HANDSHAKE.max(TLS + tls.memory()));
        let claim = if self.established { CLAIM } else { EARLY_CLAIM };
        let certificates: usize = self.identity.peer_certificates.iter().map(Vec::capacity).sum();
        let handshake = handshake + self.early_memory();
        let joins = self.joins.claims() * claim + self.joins.handshakes() * TLS;
        let tickets = self.keys.as_ref().map_or(0, Keys::memory);
        let rest = self.control.memory() + self.trace.memory();
        BASE + tickets + certificates + streams + live + lost + final_bytes + handshake + joins + rest
    }

    /// Frees memory that is kept for reuse, as [`Vec::shrink_to_fit`] does. Has no other effect.
    ///
    /// A driver with many sessions calls it once when nothing has been sent or received for some time. What is needed
    /// again is allocated again.
    pub fn shrink_to_fit(&mut self) {
        self.scratch = output::Scratch::default();
        self.events.shrink_to_fit();
        self.tcps.iter_mut().for_each(Tcp::shrink_to_fit);
        self.control.shrink_to_fit();
        self.streams.shrink_to_fit();
        self.trace.shrink_to_fit();
    }

    /// Returns the bytes of stream data delivered since the session began. They never decrease.
    ///
    /// Delivered is data that the peer acknowledged or the application read. In a session without TCPLS it is what the
    /// socket took beyond 512 KiB: as much may wait in the kernels of a peer that never reads.
    pub fn delivered(&self) -> u64 {
        let delivered = self.streams.delivered();
        if self.plain { delivered.saturating_sub(IN_KERNELS) } else { delivered }
    }

    /// Streams that are open.
    pub fn streams_open(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that the application wrote and the peer has not acknowledged.
    pub fn bytes_to_send(&self) -> usize {
        self.streams.buffered_to_send()
    }

    /// Whether the peer has authenticated itself with a certificate.
    pub fn is_authenticated(&self) -> bool {
        !self.identity.peer_certificates.is_empty()
    }

    /// Ends the session at once because other sessions need its resources.
    ///
    /// No more data is delivered, and the memory is free when this returns. The peer receives the code
    /// [`code::OVERLOADED`], or an alert if it does not support TCPLS.
    pub fn evict(&mut self, now: Time) {
        self.trace.call(|_| Item::Evict { now });
        self.trace.set_now(now);
        if self.ending.is_closed() {
            return;
        }
        if !self.established {
            if let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) {
                first.raw().extend_from_slice(&crate::crypto::plaintext_alert(Alert::UserCanceled));
            }
            self.streams.abort(); // there are some if early data came
            return self.end_handshake(CloseReason::Evicted);
        }
        // close_notify would end the stream of a plain session as if it were complete, and where there is no Close Session
        // it would not end the session.
        let has_no_frame = self.plain || self.is_draft_only();
        let alert = if has_no_frame { Alert::InternalError } else { Alert::CloseNotify };
        self.say_farewell(now, code::OVERLOADED, b"the server needs the room for other sessions", alert);
        self.streams.abort();
        self.conclude(CloseReason::Evicted);
    }
}
