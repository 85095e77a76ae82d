//! Packets from pcap and pcapng files.

use std::io::{self, Read};
use std::ops::ControlFlow;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use super::CaptureError;

/// The longest block that is read, in bytes: the longest packet that capture tools write has 256 KiB.
const MAX_BLOCK: usize = 1 << 20;
/// Interfaces of a section; packets of others are passed over.
const MAX_INTERFACES: usize = 1024;
/// Type, and the length before and after the content.
const MIN_BLOCK: u32 = 12;
const NANOS: u128 = 1_000_000_000;

/// A packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    /// The link type, as registered for pcap.
    pub(super) link: i32,
    /// What was captured of it.
    pub(super) data: &'a [u8],
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    link: i32,
    /// Units in a second; `None`: more than can be counted.
    resolution: Option<u128>,
    /// Seconds to add.
    offset: i64,
}

/// Units in a second, from the option `if_tsresol` of an interface: a power of 2 if the highest bit is set, or of 10.
fn resolution(option: u8) -> Option<u128> {
    let exponent = u32::from(option & 0x7f);
    if option & 0x80 == 0 { 10_u128.checked_pow(exponent) } else { 1_u128.checked_shl(exponent) }
}

impl Clock {
    fn nanos(self, units: u64) -> u64 {
        let nanos = self.resolution.map_or(0, |resolution| u128::from(units) * NANOS / resolution);
        let offset = i128::from(self.offset) * NANOS as i128;
        u64::try_from(nanos as i128 + offset).unwrap_or(0)
    }
}

/// Passes each packet on, until `on_packet` breaks off. Returns whether the file is cut short or damaged behind the last of them.
pub(super) fn read(
    capture: impl Read + Send,
    mut on_packet: impl FnMut(Packet<'_>) -> ControlFlow<()>,
) -> Result<bool, CaptureError> {
    let mut source = Source { inner: capture, error: None };
    let mut reader = create_reader(MAX_BLOCK, &mut source).map_err(|_| CaptureError::Format)?;
    let mut clocks: Vec<Clock> = Vec::new();
    // A refill that brings nothing means that the rest of the file is part of a block.
    let mut refilled_at = None;
    let mut has_blocks = false;
    let is_cut = loop {
        if has_blocks && is_too_short(reader.data()) {
            break true;
        }
        match reader.next() {
            Ok((len, block)) => {
                has_blocks = matches!(block, PcapBlockOwned::NG(_));
                let next = packet(&block, &mut clocks).map_or(ControlFlow::Continue(()), &mut on_packet);
                reader.consume(len);
                if len == 0 || next.is_break() {
                    break next.is_continue();
                }
            }
            Err(PcapError::Eof) => break false,
            Err(PcapError::Incomplete(_)) => {
                let at = (reader.consumed(), reader.data().len());
                if refilled_at == Some(at) || reader.refill().is_err() {
                    break true;
                }
                refilled_at = Some(at);
            }
            Err(_) => break true,
        }
    };
    drop(reader);
    match source.error {
        Some(error) => Err(CaptureError::Read(error)),
        None => Ok(is_cut),
    }
}

/// Whether a block of a pcapng file has a length that none can have. The parser subtracts from it before it has looked.
///
/// In the other byte order, such a length is one that is too long.
fn is_too_short(block: &[u8]) -> bool {
    let len = block.get(4..8).and_then(|len| len.try_into().ok());
    len.is_some_and(|len| u32::from_le_bytes(len).min(u32::from_be_bytes(len)) < MIN_BLOCK)
}

/// Returns the packet in a block, if it has one.
fn packet<'a>(block: &'a PcapBlockOwned<'a>, clocks: &mut Vec<Clock>) -> Option<Packet<'a>> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            *clocks = vec![Clock { link: header.network.0, resolution: Some(resolution), offset: 0 }];
            None
        }
        PcapBlockOwned::Legacy(packet) => {
            let clock = clocks.first()?;
            let time = clock.nanos(u64::from(packet.ts_usec)) + u64::from(packet.ts_sec) * NANOS as u64;
            Some(Packet { time, link: clock.link, data: packet.data })
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            clocks.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            if clocks.len() < MAX_INTERFACES {
                let resolution = resolution(interface.if_tsresol);
                clocks.push(Clock { link: interface.linktype.0, resolution, offset: interface.if_tsoffset });
            }
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let clock = clocks.get(packet.if_id as usize)?;
            let time = clock.nanos(u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low));
            Some(Packet { time, link: clock.link, data: packet.packet_data() })
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            Some(Packet { time: 0, link: clocks.first()?.link, data: packet.packet_data() })
        }
        PcapBlockOwned::NG(_) => None,
    }
}

/// Keeps the error of a read, which the parser does not pass on.
struct Source<R> {
    inner: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for &mut Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let kind = error.kind();
                self.error.get_or_insert(error);
                Err(kind.into())
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_resolutions_are_powers_of_ten_or_of_two() {
        let nanos = |option, units| Clock { link: 0, resolution: resolution(option), offset: 0 }.nanos(units);
        // Units in 1.5 s: seconds, micro- and nanoseconds, and the finest powers of ten.
        assert_eq!(
            [nanos(0, 1), nanos(6, 1_500_000), nanos(9, 1_500_000_000)],
            [1_000_000_000, 1_500_000_000, 1_500_000_000]
        );
        assert_eq!([nanos(19, 15_000_000_000_000_000_000), nanos(20, u64::MAX)], [1_500_000_000, 184_467_440]);
        // The same in powers of two.
        assert_eq!(
            [nanos(0x80, 1), nanos(0x81, 3), nanos(0x80 | 20, 3 << 19)],
            [1_000_000_000, 1_500_000_000, 1_500_000_000]
        );
        assert_eq!([nanos(0x80 | 63, 3 << 62), nanos(0x80 | 64, u64::MAX)], [1_500_000_000, 999_999_999]);
        assert_eq!([nanos(0xff, u64::MAX), nanos(0x7f, u64::MAX)], [0, 0], "finer than any clock");
    }

    #[test]
    fn offset_of_an_interface_is_added_and_no_time_is_before_1970() {
        let nanos = |offset| Clock { link: 0, resolution: resolution(6), offset }.nanos(2_000_000);
        assert_eq!([nanos(3), nanos(-1), nanos(-3)], [5_000_000_000, 1_000_000_000, 0]);
        assert_eq!([nanos(i64::MAX), nanos(i64::MIN)], [0, 0]);
    }

    /// The packets of a file, and whether it is cut.
    fn packets(file: &[u8]) -> (Vec<(u64, i32, Vec<u8>)>, bool) {
        let mut packets = Vec::new();
        let is_cut = read(file, |packet| {
            packets.push((packet.time, packet.link, packet.data.to_vec()));
            ControlFlow::Continue(())
        });
        (packets, is_cut.unwrap())
    }

    /// A block of a pcapng file in little-endian order.
    fn block(ty: u32, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&ty.to_le_bytes()[..], &len, body, &len].concat()
    }

    fn section() -> Vec<u8> {
        block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat())
    }

    /// An interface with an option of 8 bytes.
    fn interface(link: u8, option: (u8, u8), value: [u8; 8]) -> Vec<u8> {
        let options = [&[option.0, 0, option.1, 0][..], &value[..usize::from(option.1.next_multiple_of(4))], &[0; 4]];
        block(1, &[&[link, 0, 0, 0, 0, 0, 0, 0][..], &options.concat()].concat())
    }

    /// A packet of 4 bytes at 2 s in microseconds.
    fn packet_of(interface: u32) -> Vec<u8> {
        let fields = [interface, 0, 2_000_000, 4, 4].map(u32::to_le_bytes).concat();
        block(6, &[&fields[..], b"abcd"].concat())
    }

    #[test]
    fn interfaces_have_their_link_types_and_clocks_until_the_next_section() {
        let data = b"abcd".to_vec();
        let offset = interface(101, (14, 8), 5_i64.to_le_bytes());
        let nanos = interface(1, (9, 1), [9, 0, 0, 0, 0, 0, 0, 0]);
        let simple = block(3, &[&[4, 0, 0, 0][..], b"abcd"].concat());
        let file = [&section()[..], &offset, &nanos, &packet_of(0), &packet_of(1), &packet_of(2), &simple].concat();
        let first = [(7_000_000_000, 101, data.clone()), (2_000_000, 1, data.clone()), (0, 101, data.clone())];
        assert_eq!(packets(&file), (first.to_vec(), false));
        // Packets of interfaces that the new section does not have.
        let again = [&file[..], &section(), &nanos, &packet_of(0), &packet_of(1)].concat();
        let (all, is_cut) = packets(&again);
        assert_eq!((&all[3..], is_cut), (&[(2_000_000, 1, data)][..], false));
        assert!(packets(&again[..again.len() - 1]).1);
    }

    #[test]
    fn interfaces_of_a_section_are_bounded() {
        let of = |number: u32| {
            let interfaces = interface(1, (9, 1), [6; 8]).repeat(MAX_INTERFACES + 1);
            packets(&[&section()[..], &interfaces, &packet_of(number)].concat()).0.len()
        };
        assert_eq!([of(MAX_INTERFACES as u32 - 1), of(MAX_INTERFACES as u32)], [1, 0]);
    }

    #[test]
    fn block_that_is_shorter_than_any_ends_the_file() {
        let first = [&section()[..], &interface(1, (9, 1), [6; 8]), &packet_of(0)].concat();
        for ty in 0..12_u32 {
            for len in 0..MIN_BLOCK {
                let short = [ty.to_le_bytes(), len.to_le_bytes(), [0; 4], [0; 4]].concat();
                let (packets, is_cut) = packets(&[&first[..], &short, &packet_of(0)].concat());
                assert_eq!((packets.len(), is_cut), (1, true), "block {ty} of {len} bytes");
            }
        }
    }

    #[test]
    fn old_format_has_micro_or_nanoseconds() {
        for (magic, time) in [(0xa1b2_c3d4_u32, 3_000_005_000), (0xa1b2_3c4d, 3_000_000_005)] {
            let head = [&magic.to_le_bytes()[..], &[2, 0, 4, 0], &[0; 8], &[0, 0, 4, 0, 101, 0, 0, 0]].concat();
            let packet = [3, 5, 4, 4].map(u32::to_le_bytes).concat();
            assert_eq!(packets(&[&head[..], &packet, b"abcd"].concat()), (vec![(time, 101, b"abcd".to_vec())], false));
        }
    }
}
