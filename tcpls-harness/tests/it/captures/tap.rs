//! A capture of the TCP connections of a pair: what each end writes becomes packets of a pcap file.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::KeyLog;
use tcpls_core::Side;
use tcpls_core::testing::Pair;

/// Bytes of TCP data in a packet.
const MSS: usize = 1400;
/// The server's address, whose port is 443.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// The client's address of a TCP connection, whose port is 40000 and its number.
pub(super) fn client(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + number as u8)
}

/// The lines that a TLS library writes to the file that `SSLKEYLOGFILE` names.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Arc<Mutex<String>>);

impl Secrets {
    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        *self.0.lock().unwrap() += &format!("{label} {} {}\n", hex(client_random), hex(secret));
    }
}

/// A packet: when it was captured in nanoseconds, and its bytes from the IPv4 header on.
pub(super) type Packet = (u64, Vec<u8>);

/// Sees the bytes of a pair as packets.
#[derive(Clone, Default)]
pub(super) struct Tap {
    pub(super) packets: Vec<Packet>,
    /// Bytes of each TCP connection that were seen so far, of the client and of the server.
    seen: Vec<[usize; 2]>,
    /// Nothing is captured.
    is_blind: bool,
}

impl Tap {
    /// Captures nothing until `open_eyes`.
    pub(super) fn blind() -> Self {
        Self { is_blind: true, ..Self::default() }
    }

    pub(super) fn open_eyes(&mut self) {
        self.is_blind = false;
    }

    /// Captures what was written since the last call, the client's bytes first.
    pub(super) fn observe(&mut self, pair: &Pair) {
        let time = 1_700_000_000_000_000_000 + pair.now.as_nanos();
        for (number, (up, down)) in pair.wire().into_iter().enumerate() {
            if self.seen.len() == number {
                self.seen.push([0, 0]);
                self.push(time, number, Side::Client, None, SYN);
                self.push(time, number, Side::Server, None, SYN | ACK);
            }
            for (side, bytes) in [(Side::Client, up), (Side::Server, down)] {
                let from = self.seen[number][side as usize];
                self.seen[number][side as usize] = bytes.len();
                for (piece, data) in bytes[from..].chunks(MSS).enumerate() {
                    self.push(time, number, side, Some((from + piece * MSS, data)), ACK);
                }
            }
        }
    }

    /// Runs the pair until nothing happens any more for some time.
    pub(super) fn run(&mut self, pair: &mut Pair) {
        for _ in 0..20 {
            self.observe(pair);
            while pair.round() {
                self.observe(pair);
            }
            pair.advance(Duration::from_millis(10));
        }
    }

    /// Captures the end of one direction.
    pub(super) fn fin(&mut self, number: usize, side: Side) {
        let at = self.seen[number][side as usize];
        self.push(1_700_000_000_000_000_000, number, side, Some((at, &[])), FIN | ACK);
    }

    /// Drops the packets of all other TCP connections.
    pub(super) fn keep_only(&mut self, number: usize) {
        let port = (40_000 + number as u16).to_be_bytes();
        self.packets.retain(|(_, packet)| packet[20..22] == port || packet[22..24] == port);
    }

    fn push(&mut self, time: u64, number: usize, sender: Side, data: Option<(usize, &[u8])>, flags: u8) {
        if self.is_blind {
            return;
        }
        // The second TCP connection's numbers wrap soon.
        let first: u32 = if number == 1 { u32::MAX - 2000 } else { 1000 * number as u32 };
        let seq = data.map_or(first, |(at, _)| first.wrapping_add(1 + at as u32));
        let arrived = self.seen[number][sender.peer() as usize] as u32;
        let ack = if flags & ACK == 0 { 0 } else { first.wrapping_add(1 + arrived) };
        let data = data.map_or(&[][..], |(_, data)| data);
        let (near, far) = ((client(number), 40_000 + number as u16), (SERVER, 443));
        let (from, to) = if sender == Side::Client { (near, far) } else { (far, near) };
        let mut packet = vec![0x45, 0];
        packet.extend((40 + data.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]); // not fragmented, TCP, without a checksum
        packet.extend(from.0.octets());
        packet.extend(to.0.octets());
        packet.extend(from.1.to_be_bytes());
        packet.extend(to.1.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(ack.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend_from_slice(data);
        self.packets.push((time, packet));
    }

    /// The capture as a pcap file without link headers, in microseconds.
    pub(super) fn pcap(&self) -> Vec<u8> {
        pcap(101, &self.packets)
    }
}

/// A pcap file.
pub(super) fn pcap(link_type: u32, packets: &[Packet]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0]);
    file.extend(link_type.to_le_bytes());
    for (time, packet) in packets {
        let micros = time / 1000;
        for field in
            [(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, packet.len() as u32, packet.len() as u32]
        {
            file.extend(field.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// A pcapng file in big-endian order, of packets behind an Ethernet header, with microseconds in units of an `if_tsresol`.
pub(super) fn pcapng(packets: &[Packet], resolution: u8) -> Vec<u8> {
    let exponent = u32::from(resolution & 0x7f);
    let per_second = if resolution & 0x80 == 0 { 10_u128.pow(exponent) } else { 1 << exponent };
    let mut file = Vec::new();
    let mut block = |ty: u32, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_be_bytes();
        file.extend(ty.to_be_bytes());
        file.extend(len);
        file.extend(body);
        file.extend(len);
    };
    block(0x0a0d_0d0a, [&0x1a2b_3c4d_u32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat());
    block(1, vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, resolution, 0, 0, 0, 0, 0, 0, 0]);
    for (time, packet) in packets {
        let units = (u128::from(time / 1000) * per_second).div_ceil(1_000_000) as u64;
        let frame = [&[2; 12][..], &[8, 0], packet].concat();
        let mut body = Vec::new();
        for field in [0, (units >> 32) as u32, units as u32, frame.len() as u32, frame.len() as u32] {
            body.extend(field.to_be_bytes());
        }
        body.extend(frame);
        block(6, body);
    }
    file
}
