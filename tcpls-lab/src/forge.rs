//! Reading the headers of packets, and forging the reset that a middlebox would send. No state.

use std::net::Ipv4Addr;

use etherparse::{Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice};

/// Source and destination of an IPv4 packet; `None` if it is none.
pub(crate) fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    Some((ip.source_addr(), ip.destination_addr()))
}

/// The bytes that a TCP segment carries; 0 if it is none.
pub(crate) fn payload(packet: &[u8]) -> usize {
    segment(packet).map_or(0, |(_, _, len)| len)
}

/// Whether it is a TCP segment that resets.
pub(crate) fn is_reset(packet: &[u8]) -> bool {
    segment(packet).is_some_and(|(_, tcp, _)| tcp.rst())
}

/// The reset that answers a TCP segment, from its destination to its source (RFC 9293, 3.5.2: with the sequence number that the
/// sender expects). `None` if it is no TCP segment, or a reset itself.
pub(crate) fn reset(packet: &[u8]) -> Option<Vec<u8>> {
    let (ip, tcp, len) = segment(packet).filter(|(_, tcp, _)| !tcp.rst())?;
    let sequence = if tcp.ack() { tcp.acknowledgment_number() } else { 0 };
    let header = PacketBuilder::ipv4(ip.destination(), ip.source(), 64)
        .tcp(tcp.destination_port(), tcp.source_port(), sequence, 0)
        .rst();
    let header = if tcp.ack() {
        header
    } else {
        let taken = len as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin());
        header.ack(tcp.sequence_number().wrapping_add(taken))
    };
    let mut reset = Vec::with_capacity(header.size(0));
    header.write(&mut reset, &[]).ok()?;
    Some(reset)
}

fn segment(packet: &[u8]) -> Option<(Ipv4HeaderSlice<'_>, TcpHeaderSlice<'_>, usize)> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    if ip.protocol() != etherparse::IpNumber::TCP || ip.is_fragmenting_payload() {
        return None;
    }
    let body = packet.get(ip.slice().len()..usize::from(ip.total_len()))?;
    let tcp = TcpHeaderSlice::from_slice(body).ok()?;
    let len = body.len() - tcp.slice().len();
    Some((ip, tcp, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 4] = [10, 0, 1, 1];
    const B: [u8; 4] = [10, 0, 1, 2];

    fn build(change: impl FnOnce(&mut etherparse::TcpHeader), payload: &[u8]) -> Vec<u8> {
        let mut tcp = etherparse::TcpHeader::new(1234, 443, 1000, 500);
        change(&mut tcp);
        let mut packet = Vec::new();
        PacketBuilder::ipv4(A, B, 64).tcp_header(tcp).write(&mut packet, payload).unwrap();
        packet
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
        let segment = build(|tcp| (tcp.ack, tcp.acknowledgment_number) = (true, 77), b"data");
        let reset = reset(&segment).unwrap();
        let (ip, tcp, len) = super::segment(&reset).unwrap();
        assert_eq!((ip.source(), ip.destination()), (B, A));
        assert_eq!((tcp.source_port(), tcp.destination_port()), (443, 1234));
        assert_eq!((tcp.rst(), tcp.ack(), tcp.sequence_number(), len), (true, false, 77, 0));
    }

    #[test]
    fn a_syn_is_answered_with_an_acknowledgment_of_what_it_takes() {
        let reset = reset(&build(|tcp| tcp.syn = true, b"")).unwrap();
        let (_, tcp, _) = segment(&reset).unwrap();
        assert_eq!((tcp.rst(), tcp.ack(), tcp.sequence_number(), tcp.acknowledgment_number()), (true, true, 0, 1001));
    }

    #[test]
    fn the_checksums_of_a_forged_reset_are_right() {
        let reset = reset(&build(|tcp| (tcp.ack, tcp.acknowledgment_number) = (true, 77), b"data")).unwrap();
        let (header, body) = reset.split_at(20);
        assert_eq!(sum(&[header]), 0);
        let pseudo = [&B[..], &A, &[0, 6], &(body.len() as u16).to_be_bytes()].concat();
        assert_eq!(sum(&[&pseudo, body]), 0);
    }

    #[test]
    fn resets_and_what_is_no_tcp_get_no_answer() {
        assert_eq!(reset(&build(|tcp| tcp.rst = true, b"")), None);
        let mut udp = Vec::new();
        PacketBuilder::ipv4(A, B, 64).udp(1, 2).write(&mut udp, b"data").unwrap();
        assert_eq!(reset(&udp), None);
        assert_eq!(reset(&[0x60; 40]), None);
        assert_eq!(reset(&build(|_| {}, b"")[..30]), None);
    }

    #[test]
    fn the_payload_of_a_segment_is_counted() {
        assert_eq!(payload(&build(|_| {}, b"four")), 4);
        assert_eq!(payload(b""), 0);
    }
}
