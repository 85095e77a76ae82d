//! Frames: one struct each, and one table of types.
//!
//! Fields are big-endian and written in the order that `docs/protocol.md` shows, the type byte last. A receiver starts
//! at the last byte (draft, 5.2). `encode` writes frames, `decode` reads them, `parameters` gives the list inside
//! Session Parameters a meaning. The session decides whether a frame is allowed.
//!
//! ```
//! use tcpls_core::wire::frame::{Ack, Frame, FrameError, Frames, Stream};
//! use tcpls_core::wire::ids::{ConnectionId, RecordSeq, StreamId};
//!
//! let frames = [
//!     Frame::from(Stream { id: StreamId(0), offset: 0, fin: true, data: b"hello" }),
//!     Frame::from(Ack { tcp: ConnectionId(1), highest: RecordSeq(7) }),
//! ];
//! let mut plaintext = Vec::new();
//! for frame in &frames {
//!     frame.encode(&mut plaintext);
//! }
//!
//! // A receiver decodes the last frame first, and borrows stream data from the plaintext.
//! let decoded: Result<Vec<Frame<'_>>, FrameError> = Frames::new(&plaintext).collect();
//! assert_eq!(decoded, Ok(vec![frames[1], frames[0]]));
//!
//! // // A decoder returns an error once and ends: the frames before it cannot be located.
//! let mut cut = Frames::new(&plaintext[plaintext.len() - 3..]);
//! assert_eq!(cut.next(), Some(Err(FrameError::Truncated(0x04))));
//! assert_eq!(cut.next(), None);
//! ```

use core::net::SocketAddr;

use super::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, RecordSeq, StreamId, Token};

mod decode;
mod encode;
mod parameters;
#[cfg(test)]
mod tests;

pub use decode::{FrameError, Frames};
pub use encode::encode_stream_tail;
pub use parameters::Parameters;

/// Bytes of a Stream frame besides its data.
pub const STREAM_OVERHEAD: usize = 15;

/// The largest sum of a Stream frame's offset and length: 2⁶².
pub const MAX_STREAM_SIZE: u64 = 1 << 62;

/// Bytes of one entry of Session Parameters: an ID and a value.
const PARAMETER_LEN: usize = 9;

/// The table of frame types: 0x00–0x09 are the draft's (5.2, table 1), 0x40–0x4e our own.
pub mod ty {
    /// No meaning, one byte.
    pub const PADDING: u8 = 0x00;
    /// Asks for an acknowledgment.
    pub const PING: u8 = 0x01;
    /// Data of a stream. The 7-bit type 1, and a FIN bit of 0.
    pub const STREAM: u8 = 0x02;
    /// The last data of a stream. The 7-bit type 1, and a FIN bit of 1.
    pub const STREAM_FIN: u8 = 0x03;
    /// Acknowledges the records of a TCP connection.
    pub const ACK: u8 = 0x04;
    /// A token for one join.
    pub const NEW_TOKEN: u8 = 0x05;
    /// A TCP connection was reset.
    pub const CONNECTION_RESET: u8 = 0x06;
    /// Advertises an address.
    pub const NEW_ADDRESS: u8 = 0x07;
    /// Withdraws an address.
    pub const REMOVE_ADDRESS: u8 = 0x08;
    /// Announces what the next record carries.
    pub const STREAM_CHANGE: u8 = 0x09;
    /// The sender's parameters.
    pub const SESSION_PARAMETERS: u8 = 0x40;
    /// Flow control of the session.
    pub const MAX_DATA: u8 = 0x41;
    /// Flow control of a stream.
    pub const MAX_STREAM_DATA: u8 = 0x42;
    /// How many streams the peer may open.
    pub const MAX_STREAMS: u8 = 0x43;
    /// The sender resets its half of a stream.
    pub const RESET_STREAM: u8 = 0x44;
    /// The receiver asks the sender of a stream to stop.
    pub const STOP_SENDING: u8 = 0x45;
    /// Closes the session, with a reason.
    pub const CLOSE_SESSION: u8 = 0x46;
    /// A token with a 32-bit sequence number.
    pub const NEW_TOKEN_WIDE: u8 = 0x47;
    /// Whether a TCP connection is a backup.
    pub const CONNECTION_STATUS: u8 = 0x48;
    /// A TCP connection was reset, with a reason.
    pub const CONNECTION_RESET_REASON: u8 = 0x49;
    /// A TCP option through the encrypted channel.
    pub const TCP_OPTION: u8 = 0x4a;
    /// This TCP connection is a lane.
    pub const LANE: u8 = 0x4b;
    /// The sender drains the session.
    pub const DRAIN: u8 = 0x4c;
    /// Asks the peer to set a TCP option at its end.
    pub const TCP_OPTION_REQUEST: u8 = 0x4d;
    /// The answer to that.
    pub const TCP_OPTION_ANSWER: u8 = 0x4e;

    /// The last type of the draft; higher ones are defined by this project.
    pub(super) const LAST_OF_DRAFT: u8 = STREAM_CHANGE;
}

/// One frame, which borrows from the record's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// 0x4b: the TCP connection on which it arrives is kept free of bulk data.
    Lane,
    /// 0x4c
    Drain(Drain),
    /// 0x4d
    TcpOptionRequest(TcpOptionRequest<'a>),
    /// 0x4e
    TcpOptionAnswer(TcpOptionAnswer),
}

impl Frame<'_> {
    /// The type byte.
    pub const fn ty(&self) -> u8 {
        match self {
            Self::Padding(_) => ty::PADDING,
            Self::Ping => ty::PING,
            Self::Stream(Stream { fin: false, .. }) => ty::STREAM,
            Self::Stream(Stream { fin: true, .. }) => ty::STREAM_FIN,
            Self::Ack(_) => ty::ACK,
            Self::NewToken(_) => ty::NEW_TOKEN,
            Self::ConnectionReset(_) => ty::CONNECTION_RESET,
            Self::NewAddress(_) => ty::NEW_ADDRESS,
            Self::RemoveAddress(_) => ty::REMOVE_ADDRESS,
            Self::StreamChange(_) => ty::STREAM_CHANGE,
            Self::SessionParameters(_) => ty::SESSION_PARAMETERS,
            Self::MaxData(_) => ty::MAX_DATA,
            Self::MaxStreamData(_) => ty::MAX_STREAM_DATA,
            Self::MaxStreams(_) => ty::MAX_STREAMS,
            Self::ResetStream(_) => ty::RESET_STREAM,
            Self::StopSending(_) => ty::STOP_SENDING,
            Self::CloseSession(_) => ty::CLOSE_SESSION,
            Self::NewTokenWide(_) => ty::NEW_TOKEN_WIDE,
            Self::ConnectionStatus(_) => ty::CONNECTION_STATUS,
            Self::ConnectionResetReason(_) => ty::CONNECTION_RESET_REASON,
            Self::TcpOption(_) => ty::TCP_OPTION,
            Self::Lane => ty::LANE,
            Self::Drain(_) => ty::DRAIN,
            Self::TcpOptionRequest(_) => ty::TCP_OPTION_REQUEST,
            Self::TcpOptionAnswer(_) => ty::TCP_OPTION_ANSWER,
        }
    }

    /// Its name for statistics and logs, the same with and without FIN.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Padding(_) => "padding",
            Self::Ping => "ping",
            Self::Stream(_) => "stream",
            Self::Ack(_) => "ack",
            Self::NewToken(_) => "new_token",
            Self::ConnectionReset(_) => "connection_reset",
            Self::NewAddress(_) => "new_address",
            Self::RemoveAddress(_) => "remove_address",
            Self::StreamChange(_) => "stream_change",
            Self::SessionParameters(_) => "session_parameters",
            Self::MaxData(_) => "max_data",
            Self::MaxStreamData(_) => "max_stream_data",
            Self::MaxStreams(_) => "max_streams",
            Self::ResetStream(_) => "reset_stream",
            Self::StopSending(_) => "stop_sending",
            Self::CloseSession(_) => "close_session",
            Self::NewTokenWide(_) => "new_token_wide",
            Self::ConnectionStatus(_) => "connection_status",
            Self::ConnectionResetReason(_) => "connection_reset_reason",
            Self::TcpOption(_) => "tcp_option",
            Self::Lane => "lane",
            Self::Drain(_) => "drain",
            Self::TcpOptionRequest(_) => "tcp_option_request",
            Self::TcpOptionAnswer(_) => "tcp_option_answer",
        }
    }

    /// Whether a record that holds this frame is to be acknowledged: all but Padding and ACK (draft, 5.2).
    pub const fn is_ack_eliciting(&self) -> bool {
        // draft I37
        !matches!(self, Self::Padding(_) | Self::Ack(_))
    }

    /// Whether the draft defines it. A session that supports only the draft refuses the others.
    // draft I47
    pub const fn is_draft(&self) -> bool {
        self.ty() <= ty::LAST_OF_DRAFT
    }
}

/// Padding: `len` frames without a meaning, skipped in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// How many, each of one byte. At least 1 when decoded.
    pub len: usize,
}

/// Data of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream<'a> {
    /// The stream.
    pub id: StreamId,
    /// The offset of `data` in the stream, in bytes. With the length of `data` at most [`MAX_STREAM_SIZE`].
    pub offset: u64,
    /// Whether the stream ends after `data`.
    pub fin: bool,
    /// At most [`MAX_STREAM_DATA`](super::record::MAX_STREAM_DATA) bytes; may be empty.
    pub data: &'a [u8],
}

/// Every record of a TCP connection up to a number was received and decrypted (draft, 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The TCP connection whose records are acknowledged; any may carry the frame.
    pub tcp: ConnectionId,
    /// The last record of them.
    pub highest: RecordSeq,
}

/// A token from the server (draft, 5.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its number and the connection ID of who joins with it, 1–255.
    pub sequence: u8,
    /// The token for the join.
    pub token: Token,
}

/// The sender has lost a TCP connection (draft, 5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionReset {
    /// The TCP connection.
    pub tcp: ConnectionId,
}

/// The sender advertises an address (draft, 5.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAddress {
    /// Names the address from now on.
    pub id: AddressId,
    /// The address and port. Of an IPv6 address, flow label and scope do not travel.
    pub address: SocketAddr,
}

/// The sender withdraws an address (draft, 5.2.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveAddress {
    /// The ID of the address.
    pub id: AddressId,
}

/// Announces what the next record of the same TCP connection carries; a hint without effect (draft, 5.2.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamChange {
    /// The stream whose data it carries.
    pub next_stream: StreamId,
    /// The offset of that data, in bytes.
    pub next_offset: u64,
}

/// The sender's parameters, as a list that [`Parameters`] reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionParameters<'a> {
    /// Entries of 9 bytes, at most 255: an ID of 8 bits, then a value of 64. As decoded: no ID comes twice.
    pub entries: &'a [u8],
}

/// How much the receiver of this frame may send on all streams together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxData {
    /// The largest sum of the streams' highest offsets, in bytes.
    pub maximum: u64,
}

/// How much the receiver of this frame may send on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreamData {
    /// The stream.
    pub id: StreamId,
    /// Its largest offset, in bytes.
    pub maximum: u64,
}

/// How many streams the receiver of this frame may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxStreams {
    /// Counted since the session began.
    pub maximum: u32,
}

/// The sender resets its direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetStream {
    /// The stream.
    pub id: StreamId,
    /// The error code.
    pub error: ErrorCode,
    /// The final size of the stream in bytes, which flow control counts.
    pub final_size: u64,
}

/// The sender of this frame asks for no more data on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSending {
    /// The stream.
    pub id: StreamId,
    /// The error code.
    pub error: ErrorCode,
}

/// The sender closes the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseSession<'a> {
    /// The error code.
    pub error: ErrorCode,
    /// Why, for people. At most 65535 bytes travel.
    pub reason: &'a [u8],
}

/// A token from the server, past the 255 that [`NewToken`] can number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTokenWide {
    /// Its number and the connection ID of who joins with it. Not 0.
    pub sequence: u32,
    /// The token for the join.
    pub token: Token,
}

/// Whether a TCP connection is a backup: used only while no other is live. On the wire 0 is backup, 1 is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// The TCP connection.
    pub tcp: ConnectionId,
    /// True for a backup.
    pub backup: bool,
}

/// [`ConnectionReset`] with a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionResetReason {
    /// The TCP connection.
    pub tcp: ConnectionId,
    /// Why; for statistics and logs.
    pub reason: u8,
}

/// A TCP option for the receiving application, about the TCP connection that carries it. It has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// The option's kind; `docs/protocol.md` has the table.
    pub kind: u8,
    /// Its value. At most 65535 bytes travel.
    pub value: &'a [u8],
}

/// The sender drains the session: it serves the streams that the receiver of this frame has opened first, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How many of the receiver's streams are served, counted since the session began.
    pub streams: u32,
}

/// Asks the receiver to set an option of one of its TCP connections, and to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptionRequest<'a> {
    /// Names the request in the answer.
    pub id: OptionRequestId,
    /// The TCP connection.
    pub tcp: ConnectionId,
    /// The option's kind, as in [`TcpOption`].
    pub kind: u8,
    /// Its value. At most 65535 bytes travel.
    pub value: &'a [u8],
}

/// What the sender of this frame has done about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptionAnswer {
    /// The request.
    pub id: OptionRequestId,
    /// 0 applied, 1 refused, 2 unknown, 3 the TCP connection is lost. Others mean refused.
    pub outcome: u8,
}

macro_rules! into_frame {
    ($($name:ident $(<$life:lifetime>)?)*) => {$(
        impl<'a> From<$name $(<$life>)?> for Frame<'a> {
            fn from(frame: $name $(<$life>)?) -> Self {
                Self::$name(frame)
            }
        }
    )*};
}

into_frame! {
    Padding Stream<'a> Ack NewToken ConnectionReset NewAddress RemoveAddress StreamChange
    SessionParameters<'a> MaxData MaxStreamData MaxStreams ResetStream StopSending CloseSession<'a>
    NewTokenWide ConnectionStatus ConnectionResetReason TcpOption<'a> Drain TcpOptionRequest<'a> TcpOptionAnswer
}
