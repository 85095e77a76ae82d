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
    let is_cut = loop {
        match reader.next() {
            Ok((len, block)) => {
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
}
