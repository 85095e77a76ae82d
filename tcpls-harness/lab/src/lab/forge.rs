//! Reading the headers of packets, and forging resets as a middlebox would. No state.

use std::net::Ipv4Addr;

use etherparse::{Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice};

/// The fields of a TCP segment over IPv4 that the lab needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) sequence: u32,
    /// If there is one.
    pub(crate) acknowledgment: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// Bytes of payload.
    pub(crate) len: usize,
}

/// Source and destination of an IPv4 packet; `None` if it is none.
pub(crate) fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    Some((ip.source_addr(), ip.destination_addr()))
}

impl Segment {
    /// Reads a packet; `None` if it is no whole TCP segment.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
        if ip.protocol() != etherparse::IpNumber::TCP || ip.is_fragmenting_payload() {
            return None;
        }
        let body = packet.get(ip.slice().len()..usize::from(ip.total_len()))?;
        let tcp = TcpHeaderSlice::from_slice(body).ok()?;
        Some(Self {
            source: (ip.source_addr(), tcp.source_port()),
            destination: (ip.destination_addr(), tcp.destination_port()),
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.ack().then(|| tcp.acknowledgment_number()),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            len: body.len() - tcp.slice().len(),
        })
    }

    /// The sequence number behind it.
    pub(crate) fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.len as u32 + u32::from(self.syn) + u32::from(self.fin))
    }

    /// The reset that answers it (RFC 9293, 3.5.2), with the sequence number that its sender expects. `None` if it is one itself.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        if self.rst {
            return None;
        }
        let acknowledgment = if self.acknowledgment.is_some() { None } else { Some(self.end()) };
        Some(reset(self.destination, self.source, self.acknowledgment.unwrap_or(0), acknowledgment))
    }
}

/// A reset.
pub(crate) fn reset(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), sequence: u32, acknowledgment: Option<u32>) -> Vec<u8> {
    let header = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).tcp(from.1, to.1, sequence, 0).rst();
    let header = match acknowledgment {
        Some(acknowledgment) => header.ack(acknowledgment),
        None => header,
    };
    let mut packet = Vec::with_capacity(header.size(0));
    header.write(&mut packet, &[]).expect("a vector takes any write, and a header without payload is short enough");
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);

    fn build(change: impl FnOnce(&mut etherparse::TcpHeader), payload: &[u8]) -> Vec<u8> {
        let mut tcp = etherparse::TcpHeader::new(1234, 443, 1000, 500);
        change(&mut tcp);
        let mut packet = Vec::new();
        PacketBuilder::ipv4(A.octets(), B.octets(), 64).tcp_header(tcp).write(&mut packet, payload).unwrap();
        packet
    }

    fn acknowledging(tcp: &mut etherparse::TcpHeader) {
        (tcp.ack, tcp.acknowledgment_number) = (true, 77);
    }

    fn answer(packet: &[u8]) -> Option<Vec<u8>> {
        Segment::parse(packet)?.answer()
    }

    /// The checksum of RFC 1071 over everything that it covers is zero if it is right.
    fn sum(parts: &[&[u8]]) -> u16 {
        let bytes = parts.concat();
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_segment_is_answered_with_the_number_that_its_sender_expects() {
        let reset = Segment::parse(&answer(&build(acknowledging, b"data")).unwrap()).unwrap();
        assert_eq!((reset.source, reset.destination), ((B, 443), (A, 1234)));
        assert_eq!((reset.rst, reset.acknowledgment, reset.sequence, reset.len), (true, None, 77, 0));
    }

    #[test]
    fn a_syn_is_answered_with_an_acknowledgment_of_what_it_takes() {
        let reset = Segment::parse(&answer(&build(|tcp| tcp.syn = true, b"")).unwrap()).unwrap();
        assert_eq!((reset.rst, reset.acknowledgment, reset.sequence), (true, Some(1001), 0));
    }

    #[test]
    fn the_checksums_of_a_forged_reset_are_right() {
        let reset = answer(&build(acknowledging, b"data")).unwrap();
        let (header, body) = reset.split_at(20);
        assert_eq!(sum(&[header]), 0);
        let pseudo = [&B.octets()[..], &A.octets(), &[0, 6], &(body.len() as u16).to_be_bytes()].concat();
        assert_eq!(sum(&[&pseudo, body]), 0);
    }

    #[test]
    fn resets_and_what_is_no_tcp_get_no_answer() {
        assert_eq!(answer(&build(|tcp| tcp.rst = true, b"")), None);
        let mut udp = Vec::new();
        PacketBuilder::ipv4(A.octets(), B.octets(), 64).udp(1, 2).write(&mut udp, b"data").unwrap();
        assert_eq!(answer(&udp), None);
        assert_eq!(answer(&[0x60; 40]), None);
        assert_eq!(answer(&build(|_| {}, b"")[..30]), None);
    }

    #[test]
    fn sequence_numbers_of_a_segment_are_counted() {
        assert_eq!(Segment::parse(&build(|_| {}, b"four")).unwrap().end(), 1004);
        assert_eq!(Segment::parse(&build(|tcp| (tcp.syn, tcp.fin) = (true, true), b"four")).unwrap().end(), 1006);
    }
}
