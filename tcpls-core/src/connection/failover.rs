//! Requeues what the unacknowledged records of a TCP connection carried, when it is lost (`lifecycle`) or stalled
//! (`stall`). It is sent on others in new records.

use super::Connection;
use super::carried::Carried;
use crate::tcp::Tcp;

impl Connection {
    /// ACK frames are not requeued, but sent anew: those on a lost or stalled TCP connection may not have arrived, and
    /// the peer may send no further records that elicit others.
    pub(super) fn repeat_acks(&mut self) {
        self.tcps.iter_mut().for_each(|entry| entry.owe_ack_again());
    }

    /// Requeues what `entry` carries and was not requeued before: each byte is reinjected at most once for each TCP
    /// connection.
    // draft I22
    pub(super) fn requeue_all(&mut self, entry: &mut Tcp<Carried>) -> u64 {
        let bytes = entry.requeue().map(|item| self.requeue(item)).sum();
        entry.requeued(bytes);
        bytes
    }

    /// The same without bulk data, of what was not examined before; `None` if there is nothing to requeue. Chunks that are
    /// requeued are marked, so that the loss of `entry` does not reinject them again.
    pub(super) fn requeue_all_but_bulk(&mut self, entry: &mut Tcp<Carried>) -> Option<u64> {
        let mut bytes = None;
        for item in entry.examine() {
            if let Carried::Chunk(chunk) = item
                && !self.streams.is_interactive(chunk.id)
            {
                continue;
            }
            *bytes.get_or_insert(0) += self.requeue(item);
            if let Carried::Chunk(chunk) = item {
                chunk.hedged = true;
            }
        }
        entry.requeued(bytes.unwrap_or(0));
        bytes
    }

    /// Sends each Connection Status again that was in flight on a lost TCP connection, also one that was requeued when it
    /// stalled: it may have arrived after a newer one.
    pub(super) fn requeue_statuses(&mut self, entry: &Tcp<Carried>) {
        for item in entry.sent().carried() {
            if let Carried::Status(status) = item {
                self.control.status_lost(*status);
            }
        }
    }

    /// Makes what a record carried pending again; returns the bytes of stream data. Not requeued: Padding, Ping, Stream
    /// Change (never stored) and ACKs (made anew from the current state).
    // draft I38
    pub(super) fn requeue(&mut self, item: &Carried) -> u64 {
        match item {
            Carried::Chunk(chunk) if chunk.hedged => {}
            Carried::Chunk(chunk) => return self.streams.chunk_lost(chunk),
            Carried::Stream(key) => self.streams.control_lost(key),
            Carried::Session(due) => self.control.lost(*due),
            Carried::Status(status) => self.control.status_lost(*status),
        }
        0
    }
}
