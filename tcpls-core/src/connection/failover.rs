//! What the unacknowledged records of a TCP connection carried goes out again on others, in new records: when it is lost
//! (`lifecycle`) or has fallen silent (`stall`).

use super::Connection;
use super::pending::{Carried, Due};
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;

impl Connection {
    /// ACK frames are not requeued. Those that went out on a TCP connection that is lost or silent may not have arrived, and
    /// the peer may have nothing more to send that would draw others.
    pub(super) fn repeat_acks(&mut self) {
        self.tcps.iter_mut().for_each(|entry| entry.owe_ack_again());
    }

    /// Requeues what `entry` carries, but for what was requeued before: each byte goes out again at most once for each TCP
    /// connection that failed it.
    // draft I22
    pub(super) fn requeue_all(&mut self, entry: &mut Tcp<Carried>) -> u64 {
        let bytes = entry.requeue().map(|item| self.requeue(item)).sum();
        entry.requeued(bytes);
        bytes
    }

    /// A Connection Status that was under way on a lost TCP connection is said again, as it is now.
    pub(super) fn requeue_statuses(&mut self, entry: &Tcp<Carried>) {
        for item in entry.sent().carried() {
            if let Carried::Session(due @ Due::Status(named)) = item {
                self.pending.insert(*due);
                self.status_has_landed(*named);
            }
        }
    }

    /// Merges what a record carried back into what is pending; how many bytes of stream data that were. Not requeued:
    /// Padding, Ping, Stream Change (never noted) and ACKs (made anew from the current state).
    // draft I38
    pub(super) fn requeue(&mut self, item: &Carried) -> u64 {
        match item {
            Carried::Chunk(chunk) => return self.streams.chunk_lost(chunk),
            Carried::Stream(key) => self.streams.control_lost(key),
            // Might arrive yet, after a newer one: not before its TCP connection is lost.
            Carried::Session(Due::Status(_)) => {}
            Carried::Session(due) => self.pending.insert(*due),
        }
        0
    }

    /// No Connection Status about `named` is under way any more: the next may go.
    pub(super) fn status_has_landed(&mut self, named: ConnectionId) {
        let is_latest = !self.pending.contains(Due::Status(named));
        if let Some(entry) = self.tcps.get_mut(named) {
            entry.status_has_landed(self.last_heard, is_latest);
        }
    }
}
