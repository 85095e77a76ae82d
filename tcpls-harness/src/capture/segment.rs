//! The TCP segment of a packet, over IPv4 or IPv6.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::file::Packet;

/// Link types, as registered for pcap. There are three numbers for packets without a link header.
mod link {
    pub(super) const NULL: i32 = 0;
    pub(super) const ETHERNET: i32 = 1;
    pub(super) const RAW: [i32; 5] = [12, 14, 101, 228, 229];
    pub(super) const LOOP: i32 = 108;
    pub(super) const LINUX_SLL: i32 = 113;
    pub(super) const LINUX_SLL2: i32 = 276;
}

/// Bytes in front of the packet: the protocol family, in the byte order of the host or of the network.
const FAMILY_LEN: usize = 4;

/// A TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) data: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Returns the segment of a packet; `None` for other packets, and for fragments.
    pub(super) fn of(packet: &Packet<'a>) -> Option<Self> {
        let data = packet.data;
        let sliced = match packet.link {
            link::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok()?,
            link::LINUX_SLL => LaxSlicedPacket::from_ether_type(ether_type(data, 14)?, data.get(16..)?),
            link::LINUX_SLL2 => LaxSlicedPacket::from_ether_type(ether_type(data, 0)?, data.get(20..)?),
            link::NULL | link::LOOP => LaxSlicedPacket::from_ip(data.get(FAMILY_LEN..)?).ok()?,
            other if link::RAW.contains(&other) => LaxSlicedPacket::from_ip(data).ok()?,
            _ => return None,
        };
        let (from, to): (IpAddr, IpAddr) = match &sliced.net {
            Some(LaxNetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            Some(LaxNetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            _ => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        // The slices borrow from the packet, but their accessors from the slices.
        let len = tcp.payload().len();
        let end = offset_in(data, tcp.slice())? + tcp.slice().len();
        Some(Self {
            from: SocketAddr::new(from, tcp.source_port()),
            to: SocketAddr::new(to, tcp.destination_port()),
            seq: tcp.sequence_number(),
            syn: tcp.syn(),
            ack: tcp.ack(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            data: data.get(end - len..end)?,
        })
    }
}

fn ether_type(data: &[u8], at: usize) -> Option<EtherType> {
    let bytes = data.get(at..at + 2)?;
    Some(EtherType(u16::from_be_bytes(bytes.try_into().ok()?)))
}

/// Where `part` begins in `whole`.
fn offset_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (at + part.len() <= whole.len()).then_some(at)
}
