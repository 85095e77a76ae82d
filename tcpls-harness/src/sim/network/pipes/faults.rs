//! Faults on a path of pipes, and how TCP recovers from them.

use std::time::Duration;

use tcpls_core::{TcpEnd, Time};

use super::super::faults::{self, Direct, Paths};
use super::super::{Opening, SocketId};
use super::{DOWN, PipeEvent, Pipes, UP};
use crate::sim::scenario::{Fault, FaultKind};

/// TCP's smallest retransmission timeout on Linux.
const MIN_RTO: Duration = Duration::from_millis(200);

impl Pipes {
    /// Something goes wrong, or is over.
    pub(super) fn disturb(&mut self, now: Time, path: usize, fault: &Fault, over: bool) {
        if faults::disturb(self, path, fault, over) {
            return;
        }
        let ways = faults::ways(fault);
        match fault.kind {
            FaultKind::BlackHole | FaultKind::InterfaceDown => {
                ways.iter().for_each(|way| self.darken(now, path, *way, !over))
            }
            FaultKind::Down => {
                self.paths[path].refuses = !over;
                self.cut_all(path, [true; 2], TcpEnd::Reset);
            }
            FaultKind::BackendAway => {
                self.paths[path].turns_away = !over;
                if !over {
                    self.cut_all(path, [true; 2], TcpEnd::Fin);
                }
            }
            FaultKind::Clog => {
                let Some(pipe) = fault.tcp else { return };
                for way in ways {
                    if let Some(entry) = self.pipes.get_mut(&pipe) {
                        entry.flows[*way].clogged = !over;
                    }
                    self.darken_flow(now, pipe, *way, !over);
                }
            }
            FaultKind::Shred => ways.iter().for_each(|way| self.paths[path].links[*way].shreds = !over),
            // A restart is the server's.
            _ => {}
        }
    }

    /// Blocks direction `way`, or unblocks it. Queued bytes are lost and have to be sent again.
    fn darken(&mut self, now: Time, path: usize, way: usize, dark: bool) {
        self.paths[path].links[way].dark = dark;
        let of_path = self.pipes.iter().filter(|(_, entry)| entry.path == path);
        let numbers: Vec<u64> = of_path.map(|(number, _)| *number).collect();
        for pipe in numbers {
            self.darken_flow(now, pipe, way, dark);
        }
    }

    /// The same for one pipe; the other direction misses the acknowledgments.
    fn darken_flow(&mut self, now: Time, pipe: u64, way: usize, dark: bool) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let links = &mut self.paths[entry.path].links;
        let credit = links[1 - way].credit(links[way].delay);
        if dark {
            let lost = links[way].remove(pipe);
            entry.flows[way].lose(now, lost);
            entry.flows[1 - way].credit.get_or_insert(credit);
        } else {
            entry.flows[1 - way].credit = None;
        }
        if !dark {
            self.wake(now, pipe, way);
            self.wake(now, pipe, 1 - way);
        }
    }

    /// The direction may be free again: TCP finds out at its next attempt.
    fn wake(&mut self, now: Time, pipe: u64, way: usize) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let links = &self.paths[entry.path].links;
        let rto = ((links[UP].delay + links[DOWN].delay) * 2).max(MIN_RTO);
        let flow = &mut entry.flows[way];
        if links[way].dark || flow.is_dark() || flow.held {
            return;
        }
        match flow.stuck_since {
            Some(since) => {
                flow.held = true;
                self.events.schedule(next_retry(since, rto, now), PipeEvent::Retry { pipe, way });
            }
            None => self.kick(now, pipe, way),
        }
    }

    pub(super) fn retry(&mut self, now: Time, pipe: u64, way: usize) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        let links = &self.paths[entry.path].links;
        let (dark, rtt) = (links[way].dark, links[UP].delay + links[DOWN].delay);
        let flow = &mut entry.flows[way];
        flow.held = false;
        if !dark && !flow.is_dark() {
            flow.stuck_since = None;
            flow.lost = 0;
            flow.acknowledge(now + rtt, 0, now);
            self.kick(now, pipe, way);
        }
    }

    /// The ends of a pipe in `hear` learn that it has ended; the others receive nothing more.
    pub(super) fn cut(&mut self, pipe: u64, hear: [bool; 2], how: TcpEnd) {
        let Some(entry) = self.pipes.get_mut(&pipe) else { return };
        for (way, flow) in entry.flows.iter_mut().enumerate() {
            self.paths[entry.path].links[way].remove(pipe);
            flow.hang_up();
            if hear[1 - way] {
                flow.end.get_or_insert(how);
                self.ready[1 - way].insert(SocketId(pipe));
            }
        }
        if entry.opening == Opening::Waiting {
            entry.opening = Opening::Failed;
            self.ready[UP].insert(SocketId(pipe));
        }
    }
}

impl Paths for Pipes {
    fn cut_all(&mut self, path: usize, hear: [bool; 2], how: TcpEnd) {
        let of_path = self.pipes.iter().filter(|(_, entry)| entry.path == path);
        let numbers: Vec<u64> = of_path.map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|pipe| self.cut(pipe, hear, how));
    }

    fn direction(&mut self, path: usize, way: usize) -> Direct<'_> {
        let path = &mut self.paths[path];
        let link = &mut path.links[way];
        Direct { rate: &mut link.rate, delay: &mut link.delay, usual: path.usual[way], corrupts: &mut link.corrupts }
    }
}

/// When TCP tries again, `since` a first loss, with a timeout that doubles: the first time that is not before `now`.
fn next_retry(since: Time, rto: Duration, now: Time) -> Time {
    let mut pause = rto;
    let mut at = since + pause;
    while at < now {
        pause = (pause * 2).min(Duration::from_secs(120));
        at += pause;
    }
    at
}
