//! Short constructors of frames for scripts of a [`Peer`](super::Peer).

use core::net::SocketAddr;

use crate::wire::frame::{self, Frame};
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, RecordSeq, StreamId, Token};

/// A Ping frame.
pub const PING: Frame<'static> = Frame::Ping;

/// A Stream frame that is not the last of its stream.
pub fn stream(id: u32, offset: u64, data: &[u8]) -> Frame<'_> {
    Frame::Stream(frame::Stream { id: StreamId(id), offset, fin: false, data })
}

/// A Stream frame with the FIN bit: `data` ends the stream.
pub fn fin(id: u32, offset: u64, data: &[u8]) -> Frame<'_> {
    Frame::Stream(frame::Stream { id: StreamId(id), offset, fin: true, data })
}

/// Padding of `len` bytes.
pub fn padding(len: usize) -> Frame<'static> {
    Frame::Padding(frame::Padding { len })
}

/// An ACK of all records up to `highest` on `tcp`.
pub fn ack(tcp: ConnectionId, highest: u64) -> Frame<'static> {
    Frame::Ack(frame::Ack { tcp, highest: RecordSeq(highest) })
}

/// A New Token frame whose token consists of 32 bytes of the value `byte`.
pub fn token(sequence: u8, byte: u8) -> Frame<'static> {
    Frame::NewToken(frame::NewToken { sequence, token: Token([byte; 32]) })
}

/// The same with a sequence number of 32 bits.
pub fn token_wide(sequence: u32, byte: u8) -> Frame<'static> {
    Frame::NewTokenWide(frame::NewTokenWide { sequence, token: Token([byte; 32]) })
}

/// A Connection Reset frame.
pub fn connection_reset(tcp: ConnectionId) -> Frame<'static> {
    Frame::ConnectionReset(frame::ConnectionReset { tcp })
}

/// A Connection Reset frame with a reason.
pub fn connection_reset_reason(tcp: ConnectionId, reason: u8) -> Frame<'static> {
    Frame::ConnectionResetReason(frame::ConnectionResetReason { tcp, reason })
}

/// The address 192.0.2.`last`, port 443.
pub fn socket_address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 443))
}

/// A New Address frame for 192.0.2.`last`, port 443.
pub fn address(id: u8, last: u8) -> Frame<'static> {
    Frame::NewAddress(frame::NewAddress { id: AddressId(id), address: socket_address(last) })
}

/// A Remove Address frame.
pub fn remove_address(id: u8) -> Frame<'static> {
    Frame::RemoveAddress(frame::RemoveAddress { id: AddressId(id) })
}

/// A Stream Change frame.
pub fn stream_change(id: u32, offset: u64) -> Frame<'static> {
    Frame::StreamChange(frame::StreamChange { next_stream: StreamId(id), next_offset: offset })
}

/// A Session Parameters frame with these bytes.
pub fn parameters(entries: &[u8]) -> Frame<'_> {
    Frame::SessionParameters(frame::SessionParameters { entries })
}

/// A Max Data frame.
pub fn max_data(maximum: u64) -> Frame<'static> {
    Frame::MaxData(frame::MaxData { maximum })
}

/// A Max Stream Data frame.
pub fn max_stream_data(id: u32, maximum: u64) -> Frame<'static> {
    Frame::MaxStreamData(frame::MaxStreamData { id: StreamId(id), maximum })
}

/// A Max Streams frame.
pub fn max_streams(maximum: u32) -> Frame<'static> {
    Frame::MaxStreams(frame::MaxStreams { maximum })
}

/// A Reset Stream frame with the error 9.
pub fn reset_stream(id: u32, final_size: u64) -> Frame<'static> {
    Frame::ResetStream(frame::ResetStream { id: StreamId(id), error: ErrorCode(9), final_size })
}

/// A Stop Sending frame with the error 8.
pub fn stop_sending(id: u32) -> Frame<'static> {
    Frame::StopSending(frame::StopSending { id: StreamId(id), error: ErrorCode(8) })
}

/// A Close Session frame with the reason "enough".
pub fn close_session(error: u32) -> Frame<'static> {
    Frame::CloseSession(frame::CloseSession { error: ErrorCode(error), reason: b"enough" })
}

/// A Connection Status frame.
pub fn connection_status(tcp: ConnectionId, backup: bool) -> Frame<'static> {
    Frame::ConnectionStatus(frame::ConnectionStatus { tcp, backup })
}

/// Drain, of which `streams` streams are served.
pub fn drain(streams: u32) -> Frame<'static> {
    frame::Drain { streams }.into()
}

/// A TCP Option frame.
pub fn tcp_option(kind: u8, value: &[u8]) -> Frame<'_> {
    Frame::TcpOption(frame::TcpOption { kind, value })
}

/// A TCP Option Request frame.
pub fn option_request(id: u32, tcp: ConnectionId, kind: u8, value: &[u8]) -> Frame<'_> {
    Frame::TcpOptionRequest(frame::TcpOptionRequest { id: OptionRequestId(id), tcp, kind, value })
}

/// A TCP Option Answer frame.
pub fn option_answer(id: u32, outcome: u8) -> Frame<'static> {
    Frame::TcpOptionAnswer(frame::TcpOptionAnswer { id: OptionRequestId(id), outcome })
}
