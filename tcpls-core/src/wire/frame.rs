//! Frames: one struct each, one table of types, encoded forwards and decoded from the tail.
//!
//! Fields are big-endian and written in the order that `docs/protocol.md` shows, the type byte last. A
//! receiver starts at the last byte (draft, 5.2).

use core::net::SocketAddr;

use super::ids::{AddressId, ConnectionId, ErrorCode, RecordSeq, StreamId, Token};

/// Bytes of a Stream frame besides its data.
pub const STREAM_OVERHEAD: usize = 15;

/// One frame; what is borrowed is borrowed from the record's plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// 0x00, a run of them.
    Padding(Padding),
    /// 0x01
    Ping,
    /// 0x02 and, with FIN, 0x03.
    Stream(Stream<'a>),
    /// 0x04
    Ack(Ack),
    /// 0x05
    NewToken(NewToken),
    /// 0x06
    ConnectionReset(ConnectionReset),
    /// 0x07
    NewAddress(NewAddress),
    /// 0x08
    RemoveAddress(RemoveAddress),
    /// 0x09
    StreamChange(StreamChange),
    /// 0x40
    SessionParameters(SessionParameters<'a>),
    /// 0x41
    MaxData(MaxData),
    /// 0x42
    MaxStreamData(MaxStreamData),
    /// 0x43
    MaxStreams(MaxStreams),
    /// 0x44
    ResetStream(ResetStream),
    /// 0x45
    StopSending(StopSending),
    /// 0x46
    CloseSession(CloseSession<'a>),
    /// 0x47
    NewTokenWide(NewTokenWide),
    /// 0x48
    ConnectionStatus(ConnectionStatus),
    /// 0x49
    ConnectionResetReason(ConnectionResetReason),
    /// 0x4a
    TcpOption(TcpOption<'a>),
}

/// `len` Padding frames in a row, skipped in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding { pub len: usize }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> { pub id: StreamId, pub offset: u64, pub fin: bool, pub data: &'a [u8] }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack { pub tcp: ConnectionId, pub highest: RecordSeq }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken { pub sequence: u8, pub token: Token }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionReset { pub tcp: ConnectionId }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress { pub id: AddressId, pub address: SocketAddr }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveAddress { pub id: AddressId }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamChange { pub next_stream: StreamId, pub next_offset: u64 }
/// `entries` is the raw list (9 bytes each), already checked: whole entries, no repeated id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters<'a> { pub entries: &'a [u8] }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxData { pub maximum: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreamData { pub id: StreamId, pub maximum: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreams { pub maximum: u32 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStream { pub id: StreamId, pub error: ErrorCode, pub final_size: u64 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSending { pub id: StreamId, pub error: ErrorCode }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseSession<'a> { pub error: ErrorCode, pub reason: &'a [u8] }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTokenWide { pub sequence: u32, pub token: Token }
/// `status`: 0 backup, 1 available; other values are the peer's error, found by the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionStatus { pub tcp: ConnectionId, pub backup: bool }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionResetReason { pub tcp: ConnectionId, pub reason: u8 }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> { pub kind: u8, pub value: &'a [u8] }
