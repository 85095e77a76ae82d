//! Short names for frames, so that a script reads like a sentence.

use core::net::SocketAddr;

use tcpls_core::wire::frame::{self, Frame};
use tcpls_core::wire::ids::{AddressId, ConnectionId, ErrorCode, RecordSeq, StreamId, Token};

pub(crate) const PING: Frame<'static> = Frame::Ping;

pub(crate) fn stream(id: u32, offset: u64, data: &[u8]) -> Frame<'_> {
    Frame::Stream(frame::Stream { id: StreamId(id), offset, fin: false, data })
}

/// The stream's last bytes.
pub(crate) fn fin(id: u32, offset: u64, data: &[u8]) -> Frame<'_> {
    Frame::Stream(frame::Stream { id: StreamId(id), offset, fin: true, data })
}

pub(crate) fn padding(len: usize) -> Frame<'static> {
    Frame::Padding(frame::Padding { len })
}

pub(crate) fn ack(tcp: ConnectionId, highest: u64) -> Frame<'static> {
    Frame::Ack(frame::Ack { tcp, highest: RecordSeq(highest) })
}

/// A token of 32 times `byte`.
pub(crate) fn token(sequence: u8, byte: u8) -> Frame<'static> {
    Frame::NewToken(frame::NewToken { sequence, token: Token([byte; 32]) })
}

pub(crate) fn token_wide(sequence: u32, byte: u8) -> Frame<'static> {
    Frame::NewTokenWide(frame::NewTokenWide { sequence, token: Token([byte; 32]) })
}

pub(crate) fn connection_reset(tcp: ConnectionId) -> Frame<'static> {
    Frame::ConnectionReset(frame::ConnectionReset { tcp })
}

pub(crate) fn connection_reset_reason(tcp: ConnectionId, reason: u8) -> Frame<'static> {
    Frame::ConnectionResetReason(frame::ConnectionResetReason { tcp, reason })
}

pub(crate) fn socket_address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 443))
}

/// The address 192.0.2.`last`.
pub(crate) fn address(id: u8, last: u8) -> Frame<'static> {
    Frame::NewAddress(frame::NewAddress { id: AddressId(id), address: socket_address(last) })
}

pub(crate) fn remove_address(id: u8) -> Frame<'static> {
    Frame::RemoveAddress(frame::RemoveAddress { id: AddressId(id) })
}

pub(crate) fn stream_change(id: u32, offset: u64) -> Frame<'static> {
    Frame::StreamChange(frame::StreamChange { next_stream: StreamId(id), next_offset: offset })
}

pub(crate) fn parameters(entries: &[u8]) -> Frame<'_> {
    Frame::SessionParameters(frame::SessionParameters { entries })
}

pub(crate) fn max_data(maximum: u64) -> Frame<'static> {
    Frame::MaxData(frame::MaxData { maximum })
}

pub(crate) fn max_stream_data(id: u32, maximum: u64) -> Frame<'static> {
    Frame::MaxStreamData(frame::MaxStreamData { id: StreamId(id), maximum })
}

pub(crate) fn max_streams(maximum: u32) -> Frame<'static> {
    Frame::MaxStreams(frame::MaxStreams { maximum })
}

pub(crate) fn reset_stream(id: u32, final_size: u64) -> Frame<'static> {
    Frame::ResetStream(frame::ResetStream { id: StreamId(id), error: ErrorCode(9), final_size })
}

pub(crate) fn stop_sending(id: u32) -> Frame<'static> {
    Frame::StopSending(frame::StopSending { id: StreamId(id), error: ErrorCode(8) })
}

pub(crate) fn close_session(error: u32) -> Frame<'static> {
    Frame::CloseSession(frame::CloseSession { error: ErrorCode(error), reason: b"enough" })
}

pub(crate) fn connection_status(tcp: ConnectionId, backup: bool) -> Frame<'static> {
    Frame::ConnectionStatus(frame::ConnectionStatus { tcp, backup })
}

pub(crate) fn tcp_option(kind: u8, value: &[u8]) -> Frame<'_> {
    Frame::TcpOption(frame::TcpOption { kind, value })
}
