//! The frames of a record, without application data and tokens.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;

use crate::event::OptionOutcome;
use crate::wire::frame::{self, FrameError, Parameters};
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, OptionRequestId, RecordSeq, StreamId};

/// The frames of one record, decoded when they are iterated over.
///
/// The order is that in which a receiver processes them: the last in the record first.
#[derive(Clone, Copy)]
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    pub(in crate::connection) fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// Returns the bytes of the frames.
    pub(in crate::connection) const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Returns the frames.
    pub fn iter(&self) -> impl Iterator<Item = Frame> + use<'a> {
        frame::Frames::new(self.0).map(|frame| frame.map_or_else(Frame::Invalid, |frame| Frame::of(&frame)))
    }
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One frame, without stream data, tokens, texts and option values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// Padding.
    Padding {
        /// How many frames of it in a row, each of one byte.
        len: usize,
    },
    /// Asks for an acknowledgment.
    Ping,
    /// Data of a stream.
    Stream {
        /// The stream.
        id: StreamId,
        /// The offsets of the data in the stream, in bytes.
        range: Range<u64>,
        /// It ends the stream.
        fin: bool,
    },
    /// Acknowledges records.
    Ack {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The number of the last of them.
        highest: RecordSeq,
    },
    /// A token.
    NewToken {
        /// Its number.
        sequence: u32,
    },
    /// A TCP connection was lost.
    ConnectionReset {
        /// The TCP connection.
        tcp: ConnectionId,
        /// The reason; 0 if there is none.
        reason: u8,
    },
    /// An address is advertised.
    NewAddress {
        /// Its ID.
        id: AddressId,
        /// The address.
        address: SocketAddr,
    },
    /// An address is withdrawn.
    RemoveAddress {
        /// Its ID.
        id: AddressId,
    },
    /// Announces the content of the next record.
    StreamChange {
        /// The stream.
        id: StreamId,
        /// From which offset on, in bytes.
        offset: u64,
    },
    /// The sender's parameters.
    SessionParameters(Parameters),
    /// Flow control of the session.
    MaxData {
        /// Bytes that all streams together may carry.
        maximum: u64,
    },
    /// Flow control of a stream.
    MaxStreamData {
        /// The stream.
        id: StreamId,
        /// Bytes that it may carry.
        maximum: u64,
    },
    /// How many streams the peer may open.
    MaxStreams {
        /// The total, including ended streams.
        maximum: u32,
    },
    /// The sender resets a stream.
    ResetStream {
        /// The stream.
        id: StreamId,
        /// The sender's code.
        error: ErrorCode,
        /// Bytes of it that count for flow control.
        final_size: u64,
    },
    /// The peer should send no more on a stream.
    StopSending {
        /// The stream.
        id: StreamId,
        /// The sender's code.
        error: ErrorCode,
    },
    /// The session ends.
    CloseSession {
        /// The sender's code.
        error: ErrorCode,
        /// Bytes of the text that explains it.
        reason_len: usize,
    },
    /// Whether a TCP connection is a backup.
    ConnectionStatus {
        /// The TCP connection.
        tcp: ConnectionId,
        /// Whether it is one.
        backup: bool,
    },
    /// A TCP option.
    TcpOption {
        /// Its kind.
        kind: u8,
        /// Bytes of its value.
        len: usize,
    },
    /// This TCP connection is a lane.
    Lane,
    /// The sender drains the session.
    Drain {
        /// How many streams of the receiver it serves.
        streams: u32,
    },
    /// A TCP option that the receiver is asked to set.
    TcpOptionRequest {
        /// The request.
        id: OptionRequestId,
        /// The TCP connection.
        tcp: ConnectionId,
        /// The option's kind.
        kind: u8,
        /// Bytes of its value.
        len: usize,
    },
    /// The answer to that.
    TcpOptionAnswer {
        /// The request.
        id: OptionRequestId,
        /// The outcome.
        outcome: OptionOutcome,
    },
    /// Not a valid frame: the record ends the session.
    Invalid(FrameError),
}

impl Frame {
    fn of(frame: &frame::Frame<'_>) -> Self {
        match *frame {
            frame::Frame::Padding(padding) => Self::Padding { len: padding.len },
            frame::Frame::Ping => Self::Ping,
            frame::Frame::Stream(stream) => Self::Stream {
                id: stream.id,
                range: stream.offset..stream.offset.saturating_add(stream.data.len() as u64),
                fin: stream.fin,
            },
            frame::Frame::Ack(ack) => Self::Ack { tcp: ack.tcp, highest: ack.highest },
            frame::Frame::NewToken(new) => Self::NewToken { sequence: u32::from(new.sequence) },
            frame::Frame::NewTokenWide(new) => Self::NewToken { sequence: new.sequence },
            frame::Frame::ConnectionReset(reset) => Self::ConnectionReset { tcp: reset.tcp, reason: 0 },
            frame::Frame::ConnectionResetReason(reset) => {
                Self::ConnectionReset { tcp: reset.tcp, reason: reset.reason }
            }
            frame::Frame::NewAddress(new) => Self::NewAddress { id: new.id, address: new.address },
            frame::Frame::RemoveAddress(removed) => Self::RemoveAddress { id: removed.id },
            frame::Frame::StreamChange(change) => {
                Self::StreamChange { id: change.next_stream, offset: change.next_offset }
            }
            frame::Frame::SessionParameters(parameters) => {
                Self::SessionParameters(Parameters::from_entries(parameters.entries))
            }
            frame::Frame::MaxData(max) => Self::MaxData { maximum: max.maximum },
            frame::Frame::MaxStreamData(max) => Self::MaxStreamData { id: max.id, maximum: max.maximum },
            frame::Frame::MaxStreams(max) => Self::MaxStreams { maximum: max.maximum },
            frame::Frame::ResetStream(reset) => {
                Self::ResetStream { id: reset.id, error: reset.error, final_size: reset.final_size }
            }
            frame::Frame::StopSending(stop) => Self::StopSending { id: stop.id, error: stop.error },
            frame::Frame::CloseSession(close) => {
                Self::CloseSession { error: close.error, reason_len: close.reason.len() }
            }
            frame::Frame::ConnectionStatus(status) => Self::ConnectionStatus { tcp: status.tcp, backup: status.backup },
            frame::Frame::Lane => Self::Lane,
            frame::Frame::Drain(drain) => Self::Drain { streams: drain.streams },
            frame::Frame::TcpOption(option) => Self::TcpOption { kind: option.kind, len: option.value.len() },
            frame::Frame::TcpOptionRequest(request) => Self::TcpOptionRequest {
                id: request.id,
                tcp: request.tcp,
                kind: request.kind,
                len: request.value.len(),
            },
            frame::Frame::TcpOptionAnswer(answer) => {
                Self::TcpOptionAnswer { id: answer.id, outcome: OptionOutcome::from_code(answer.outcome) }
            }
        }
    }
}
