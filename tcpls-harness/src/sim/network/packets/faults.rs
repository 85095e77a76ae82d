//! Faults on a path: they reset TCP connections, drop packets, and flip bits.

use smoltcp::wire::{Ipv4Packet, TcpPacket};
use tcpls_core::TcpEnd;

use super::super::Opening;
use super::super::faults::{self, Direct, Paths};
use super::{DOWN, Packets, UP};
use crate::sim::scenario::{Fault, FaultKind};

impl Packets {
    /// Something goes wrong, or is over.
    pub(super) fn disturb(&mut self, path: usize, fault: &Fault, over: bool) {
        if faults::disturb(self, path, fault, over) {
            return;
        }
        let ways = faults::ways(fault);
        match fault.kind {
            FaultKind::BlackHole | FaultKind::InterfaceDown => {
                ways.iter().for_each(|way| self.paths[path].links[*way].dark = !over);
            }
            FaultKind::Down if over => self.paths[path].listen(),
            FaultKind::Down => {
                self.cut_all(path, [true; 2], TcpEnd::Reset);
                for handle in std::mem::take(&mut self.paths[path].listening) {
                    self.paths[path].ends[DOWN].sockets.remove(handle);
                }
            }
            FaultKind::Clog => {
                let tcp = fault.tcp.and_then(|number| self.tcps.get_mut(&number));
                tcp.into_iter().for_each(|tcp| ways.iter().for_each(|way| tcp.clogged[*way] = !over));
            }
            // Packets are what they are; and a restart is the server's.
            _ => {}
        }
    }

    /// The ends of a TCP connection in `hear` learn that it is over; the others do not, and no end receives
    /// what is on its way.
    fn cut(&mut self, number: u64, hear: [bool; 2], how: TcpEnd) {
        let Some(tcp) = self.tcps.get_mut(&number) else { return };
        tcp.clogged = [true; 2];
        for end in [UP, DOWN] {
            if hear[end] {
                tcp.ends[end].killed.get_or_insert(how);
                if let Some(handle) = tcp.ends[end].handle.take() {
                    self.paths[tcp.path].ends[end].sockets.remove(handle);
                }
                self.ready[end] = true;
            }
        }
        if hear[UP] && tcp.opening == Opening::Waiting {
            tcp.opening = Opening::Failed;
        }
    }

    /// Flips a bit of the payload, if that is wanted, and corrects TCP's checksum.
    pub(super) fn corrupt(&mut self, path: usize, way: usize, mut packet: Vec<u8>) -> Vec<u8> {
        let link = &mut self.paths[path].links[way];
        let Ok(mut ip) = Ipv4Packet::new_checked(&mut packet[..]) else { return packet };
        let (from, to) = (ip.src_addr(), ip.dst_addr());
        let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) else { return packet };
        let len = tcp.payload_mut().len() as u64;
        if link.corrupts > 0 && len > 0 {
            link.corrupts -= 1;
            let at = self.rng.below(len) as usize;
            tcp.payload_mut()[at] ^= 1 << self.rng.below(8);
            tcp.fill_checksum(&from.into(), &to.into());
        }
        packet
    }
}

impl Paths for Packets {
    fn cut_all(&mut self, path: usize, hear: [bool; 2], how: TcpEnd) {
        let numbers: Vec<u64> =
            self.tcps.iter().filter(|(_, tcp)| tcp.path == path).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.cut(number, hear, how));
        self.look_at_listeners(path);
    }

    fn direction(&mut self, path: usize, way: usize) -> Direct<'_> {
        let path = &mut self.paths[path];
        let link = &mut path.links[way];
        Direct { rate: &mut link.rate, delay: &mut link.delay, usual: path.usual[way], corrupts: &mut link.corrupts }
    }
}
