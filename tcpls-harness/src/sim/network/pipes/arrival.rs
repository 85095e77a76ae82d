//! Delivers bytes from a link through its middleboxes to the reader.

use bytes::Bytes;
use tcpls_core::{TcpEnd, Time};

use super::super::SocketId;
use super::super::middleboxes::Middleboxes;
use super::{PipeEvent, Pipes};

impl Pipes {
    /// What arrives is acknowledged, and the acknowledgment is on its way at once.
    pub(super) fn arrive(&mut self, now: Time, pipe: u64, way: usize, bytes: &Bytes, sent: Time) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        entry.heard[1 - way] = now;
        let back = &self.paths[entry.path].links[1 - way];
        if back.dark || entry.flows[1 - way].clogged {
            entry.flows[way].lose_ack(now, bytes.len());
        } else {
            entry.flows[way].acknowledge(now + back.transit(), bytes.len(), sent);
        }
        entry.flows[way].land(bytes.len());
        self.deliver(now, pipe, way, bytes, false);
    }

    /// What comes out of the link, and out of the middleboxes, is for the reader; `last`: a FIN follows.
    pub(super) fn deliver(&mut self, now: Time, pipe: u64, way: usize, bytes: &[u8], last: bool) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        if entry.middleboxes.is_empty() {
            if entry.flows[way].deliver(bytes, entry.closed[1 - way]) {
                self.ready[1 - way].insert(SocketId(pipe));
            }
            return;
        }
        // With nothing new, it is the release that was entered before.
        let before = entry.middleboxes.next(way).filter(|_| !bytes.is_empty());
        match entry.middleboxes.pass(now, way, bytes.into(), last, &mut self.rng) {
            Ok(out) => {
                if entry.flows[way].deliver(&out, entry.closed[1 - way]) {
                    self.ready[1 - way].insert(SocketId(pipe));
                }
            }
            Err(why) => {
                self.killed.push(format!("TCP connection {pipe} on path {}: {why}", entry.path));
                entry.middleboxes = Middleboxes::default();
                return self.cut(pipe, [true; 2], TcpEnd::Reset);
            }
        }
        if let Some(at) = entry.middleboxes.next(way).filter(|at| Some(*at) != before) {
            self.events.schedule(at, PipeEvent::Release { pipe, way });
        }
    }

    pub(super) fn arrive_end(&mut self, now: Time, pipe: u64, way: usize, how: TcpEnd) {
        if how == TcpEnd::Fin {
            self.deliver(now, pipe, way, &[], true);
        }
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        if how == TcpEnd::Reset {
            self.paths[entry.path].links[1 - way].remove(pipe);
            entry.flows[1 - way].hang_up();
        }
        entry.flows[way].end.get_or_insert(how);
        self.ready[1 - way].insert(SocketId(pipe));
        self.forget_if_over(pipe);
    }
}
