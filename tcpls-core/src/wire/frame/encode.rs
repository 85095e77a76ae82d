//! Writes frames: the fields in wire order, then the type byte.
//!
//! Called by the session when it fills a record; the caller ensures that the frames fit.

use core::net::{IpAddr, SocketAddr};

use bytes::BufMut;

use super::*;

/// The largest value of a length field of 16 bits.
const MAX_LEN16: usize = u16::MAX as usize;

impl Frame<'_> {
    /// Appends the frame to `out`: [`Frame::encoded_len`] bytes.
    ///
    /// Bytes beyond the largest value of a length field (65535; 255 entries of Session Parameters) are left out, so
    /// that the length is always correct. A frame that fits in a record is far below that.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Padding(frame) => return out.resize(out.len().saturating_add(frame.len), ty::PADDING),
            Self::Stream(frame) => return frame.encode(out),
            Self::Ping | Self::Lane => {}
            Self::Ack(frame) => frame.put(out),
            Self::NewToken(frame) => frame.put(out),
            Self::ConnectionReset(frame) => out.put_u32(frame.tcp.0),
            Self::NewAddress(frame) => frame.put(out),
            Self::RemoveAddress(frame) => out.put_u8(frame.id.0),
            Self::StreamChange(frame) => frame.put(out),
            Self::SessionParameters(frame) => frame.put(out),
            Self::MaxData(frame) => out.put_u64(frame.maximum),
            Self::MaxStreamData(frame) => frame.put(out),
            Self::MaxStreams(frame) => out.put_u32(frame.maximum),
            Self::ResetStream(frame) => frame.put(out),
            Self::StopSending(frame) => frame.put(out),
            Self::CloseSession(frame) => frame.put(out),
            Self::NewTokenWide(frame) => frame.put(out),
            Self::ConnectionStatus(frame) => frame.put(out),
            Self::ConnectionResetReason(frame) => frame.put(out),
            Self::TcpOption(frame) => frame.put(out),
            Self::Drain(frame) => out.put_u32(frame.streams),
            Self::TcpOptionRequest(frame) => frame.put(out),
            Self::TcpOptionAnswer(frame) => frame.put(out),
        }
        out.put_u8(self.ty());
    }

    /// How many bytes [`Frame::encode`] appends.
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Padding(frame) => frame.len,
            Self::Ping | Self::Lane => 1,
            Self::Stream(frame) => STREAM_OVERHEAD + len16(frame.data),
            Self::RemoveAddress(_) => 2,
            Self::ConnectionReset(_) | Self::MaxStreams(_) | Self::Drain(_) => 5,
            Self::ConnectionStatus(_) | Self::ConnectionResetReason(_) | Self::TcpOptionAnswer(_) => 6,
            Self::MaxData(_) | Self::StopSending(_) => 9,
            Self::NewAddress(NewAddress { address: SocketAddr::V4(_), .. }) => 9,
            Self::NewAddress(NewAddress { address: SocketAddr::V6(_), .. }) => 21,
            Self::Ack(_) | Self::StreamChange(_) | Self::MaxStreamData(_) => 13,
            Self::ResetStream(_) => 17,
            Self::NewToken(_) => 34,
            Self::NewTokenWide(_) => 37,
            Self::SessionParameters(frame) => 2 + frame.count() as usize * PARAMETER_LEN,
            Self::CloseSession(frame) => 7 + len16(frame.reason),
            Self::TcpOption(frame) => 4 + len16(frame.value),
            Self::TcpOptionRequest(frame) => 12 + len16(frame.value),
        }
    }
}

/// Appends what follows the data in a Stream frame, for a caller that has put `len` bytes of data into `out` by
/// itself, perhaps from several pieces: [`STREAM_OVERHEAD`] bytes.
pub fn encode_stream_tail(id: StreamId, offset: u64, fin: bool, len: u16, out: &mut Vec<u8>) {
    // draft I41
    out.put_u16(len);
    out.put_u64(offset);
    out.put_u32(id.0);
    out.put_u8(if fin { ty::STREAM_FIN } else { ty::STREAM });
}

/// How many bytes of `data` travel behind a length field of 16 bits.
const fn len16(data: &[u8]) -> usize {
    if data.len() > MAX_LEN16 { MAX_LEN16 } else { data.len() }
}

/// Appends `data` and returns the length to announce.
fn put_data(data: &[u8], out: &mut Vec<u8>) -> u16 {
    let data = data.get(..MAX_LEN16).unwrap_or(data);
    out.put_slice(data);
    data.len() as u16
}

impl Stream<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let len = put_data(self.data, out);
        encode_stream_tail(self.id, self.offset, self.fin, len, out);
    }
}

impl Ack {
    fn put(&self, out: &mut Vec<u8>) {
        // draft I42
        out.put_u64(self.highest.0);
        out.put_u32(self.tcp.0);
    }
}

impl NewToken {
    fn put(&self, out: &mut Vec<u8>) {
        // draft I43
        out.put_slice(&self.token.0);
        out.put_u8(self.sequence);
    }
}

impl NewAddress {
    fn put(&self, out: &mut Vec<u8>) {
        // draft I45
        out.put_u16(self.address.port());
        match self.address.ip() {
            IpAddr::V4(ip) => {
                out.put_slice(&ip.octets());
                out.put_u8(4);
            }
            IpAddr::V6(ip) => {
                out.put_slice(&ip.octets());
                out.put_u8(6);
            }
        }
        out.put_u8(self.id.0);
    }
}

impl StreamChange {
    fn put(&self, out: &mut Vec<u8>) {
        // draft I46
        out.put_u32(self.next_stream.0);
        out.put_u64(self.next_offset);
    }
}

impl SessionParameters<'_> {
    /// How many whole entries travel.
    const fn count(&self) -> u8 {
        let entries = self.entries.len() / PARAMETER_LEN;
        if entries > u8::MAX as usize { u8::MAX } else { entries as u8 }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let count = self.count();
        out.put_slice(self.entries.get(..usize::from(count) * PARAMETER_LEN).unwrap_or_default());
        out.put_u8(count);
    }
}

impl MaxStreamData {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.maximum);
        out.put_u32(self.id.0);
    }
}

impl ResetStream {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.final_size);
        out.put_u32(self.error.0);
        out.put_u32(self.id.0);
    }
}

impl StopSending {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.error.0);
        out.put_u32(self.id.0);
    }
}

impl CloseSession<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let len = put_data(self.reason, out);
        out.put_u16(len);
        out.put_u32(self.error.0);
    }
}

impl NewTokenWide {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_slice(&self.token.0);
        out.put_u32(self.sequence);
    }
}

impl ConnectionStatus {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(!self.backup));
        out.put_u32(self.tcp.0);
    }
}

impl ConnectionResetReason {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.reason);
        out.put_u32(self.tcp.0);
    }
}

impl TcpOption<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let len = put_data(self.value, out);
        out.put_u16(len);
        out.put_u8(self.kind);
    }
}

impl TcpOptionRequest<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let len = put_data(self.value, out);
        out.put_u16(len);
        out.put_u8(self.kind);
        out.put_u32(self.tcp.0);
        out.put_u32(self.id.0);
    }
}

impl TcpOptionAnswer {
    fn put(&self, out: &mut Vec<u8>) {
        out.put_u8(self.outcome);
        out.put_u32(self.id.0);
    }
}
