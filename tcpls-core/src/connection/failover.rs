//! What the unacknowledged records of a TCP connection carried goes out again on others, in new records: when it is lost
//! (`lifecycle`) or has fallen silent (`stall`).

use super::Connection;
use super::control::Carried;
use crate::tcp::Tcp;

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
            if let Carried::Session(due) = item {
                self.control.lost_with_tcp(*due, &mut self.tcps, self.last_heard);
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
            Carried::Session(due) => self.control.lost(*due),
        }
        0
    }
}
