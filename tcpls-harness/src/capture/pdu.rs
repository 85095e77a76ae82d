//! Decrypted records as a pcapng file that Wireshark reads with `docs/wireshark/tcpls.lua`.
//!
//! A packet is a list of tags (link type `WIRESHARK_UPPER_PDU`), which name the dissector, the addresses and the ports, and
//! then the record: a header of our own, and its content.

use std::io::{self, Write};
use std::net::IpAddr;

use tcpls_core::Side;

use super::Record;

/// The link type of packets that begin with tags.
const LINK_TYPE: u16 = 252;
/// The version of the header in front of a record's content.
const VERSION: u8 = 1;

/// Types of blocks in a pcapng file.
mod block {
    pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
    pub(super) const ENHANCED_PACKET: u32 = 6;
}

/// Types of tags, and the port type of TCP.
mod tag {
    pub(super) const DISSECTOR_NAME: u16 = 12;
    pub(super) const IPV4_SRC: u16 = 20;
    pub(super) const IPV4_DST: u16 = 21;
    pub(super) const IPV6_SRC: u16 = 22;
    pub(super) const IPV6_DST: u16 = 23;
    pub(super) const PORT_TYPE: u16 = 24;
    pub(super) const SRC_PORT: u16 = 25;
    pub(super) const DST_PORT: u16 = 26;
    pub(super) const TCP: u32 = 2;
}

/// Writes records as packets of a pcapng file.
#[derive(Debug)]
pub struct PduWriter<W> {
    out: W,
    body: Vec<u8>,
}

impl<W: Write> PduWriter<W> {
    /// Writes the beginning of the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        // Byte order, version 1.0, unknown length of the section.
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_le_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend([0xff; 8]);
        write_block(&mut out, block::SECTION_HEADER, &body)?;
        // No limit of lengths. Option if_tsresol: times are in nanoseconds.
        body.clear();
        body.extend(LINK_TYPE.to_le_bytes());
        body.extend([0; 6]);
        body.extend([9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        write_block(&mut out, block::INTERFACE_DESCRIPTION, &body)?;
        Ok(Self { out, body })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let packet = packet(record);
        let (len, time) = (packet.len() as u32, record.time);
        self.body.clear();
        for field in [0, (time >> 32) as u32, time as u32, len, len] {
            self.body.extend(field.to_le_bytes());
        }
        self.body.extend_from_slice(&packet);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        write_block(&mut self.out, block::ENHANCED_PACKET, &self.body)
    }

    /// Returns the writer, after a flush.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

fn write_block(out: &mut impl Write, ty: u32, body: &[u8]) -> io::Result<()> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    out.write_all(&ty.to_le_bytes())?;
    out.write_all(&len)?;
    out.write_all(body)?;
    out.write_all(&len)
}

/// Tags, header and content.
fn packet(record: &Record<'_>) -> Vec<u8> {
    let mut packet = Vec::with_capacity(record.content.len() + 128);
    put_tag(&mut packet, tag::DISSECTOR_NAME, b"tcpls");
    put_address(&mut packet, record.from.ip(), tag::IPV4_SRC, tag::IPV6_SRC);
    put_address(&mut packet, record.to.ip(), tag::IPV4_DST, tag::IPV6_DST);
    put_tag(&mut packet, tag::PORT_TYPE, &tag::TCP.to_be_bytes());
    put_tag(&mut packet, tag::SRC_PORT, &u32::from(record.from.port()).to_be_bytes());
    put_tag(&mut packet, tag::DST_PORT, &u32::from(record.to.port()).to_be_bytes());
    packet.extend([0; 4]); // the end of the tags
    let sender = u8::from(record.sender == Side::Server);
    let early = u8::from(record.number.is_none());
    packet.extend([VERSION, sender | early << 1, record.content_type]);
    packet.extend(record.session.to_be_bytes());
    packet.extend(record.tcp.0.to_be_bytes());
    packet.extend(record.generation.to_be_bytes());
    packet.extend(record.number.unwrap_or(0).to_be_bytes());
    packet.extend_from_slice(record.content);
    packet
}

fn put_address(packet: &mut Vec<u8>, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => put_tag(packet, v4, &address.octets()),
        IpAddr::V6(address) => put_tag(packet, v6, &address.octets()),
    }
}

/// A tag, with its value padded to 4 bytes.
fn put_tag(packet: &mut Vec<u8>, ty: u16, value: &[u8]) {
    let len = value.len().next_multiple_of(4);
    packet.extend(ty.to_be_bytes());
    packet.extend((len as u16).to_be_bytes());
    packet.extend_from_slice(value);
    packet.resize(packet.len() + len - value.len(), 0);
}
