//! Decodes frames from the end of a record's plaintext, and checks what can be checked without a session.
//!
//! Decoding allocates nothing and does not read stream data, so its cost does not depend on the length of the data.
//! Called by the session, which decodes all frames of a record before it processes any.

use core::fmt;
use core::iter::FusedIterator;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::*;
use crate::error::Violation;
use crate::wire::codec::{Short, Tail};

/// Why a frame could not be decoded, with the frame's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FrameError {
    /// The type is unknown.
    Unknown(u8),
    /// The fields need more bytes than the record has left.
    Truncated(u8),
    /// A field has an invalid value.
    InvalidField(u8),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Violation::from(*self).fmt(f)
    }
}

impl core::error::Error for FrameError {}

impl From<FrameError> for Violation {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Unknown(ty) => Self::UnknownFrame(ty),
            FrameError::Truncated(ty) => Self::TruncatedFrame(ty),
            FrameError::InvalidField(ty) => Self::InvalidField(ty),
        }
    }
}

/// The frames of one record, the last one first (draft, 5.2).
///
/// A run of Padding is one item. An error is the last item, because the frames before an undecodable one cannot be
/// located.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    left: Tail<'a>,
}

impl<'a> Frames<'a> {
    /// The frames in `plaintext`: a record's content, without the content type and TLS's own padding.
    pub const fn new(plaintext: &'a [u8]) -> Self {
        Self { left: Tail::new(plaintext) }
    }

    /// Bytes in front of the frame that was returned last.
    pub(crate) const fn left(&self) -> usize {
        self.left.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        // draft I35
        let ty = self.left.u8().ok()?;
        let frame = decode(ty, &mut self.left);
        if frame.is_err() {
            self.left = Tail::new(&[]);
        }
        Some(frame)
    }
}

impl FusedIterator for Frames<'_> {}

/// The error in a frame of a known type.
enum Fault {
    Truncated,
    InvalidField,
}

impl From<Short> for Fault {
    fn from(Short: Short) -> Self {
        Self::Truncated
    }
}

fn decode<'a>(ty: u8, tail: &mut Tail<'a>) -> Result<Frame<'a>, FrameError> {
    fields(ty, tail).ok_or(FrameError::Unknown(ty))?.map_err(|fault| match fault {
        Fault::Truncated => FrameError::Truncated(ty),
        Fault::InvalidField => FrameError::InvalidField(ty),
    })
}

/// The frame of type `ty` whose fields end where `tail` does; `None` if there is no such type.
// draft I36
fn fields<'a>(ty: u8, tail: &mut Tail<'a>) -> Option<Result<Frame<'a>, Fault>> {
    Some(match ty {
        ty::PADDING => Ok(padding(tail).into()),
        ty::PING => Ok(Frame::Ping),
        ty::STREAM => stream(tail, false).map(Frame::from),
        ty::STREAM_FIN => stream(tail, true).map(Frame::from),
        ty::ACK => ack(tail).map(Frame::from),
        ty::NEW_TOKEN => new_token(tail).map(Frame::from),
        ty::CONNECTION_RESET => connection_reset(tail).map(Frame::from),
        ty::NEW_ADDRESS => new_address(tail).map(Frame::from),
        ty::REMOVE_ADDRESS => remove_address(tail).map(Frame::from),
        ty::STREAM_CHANGE => stream_change(tail).map(Frame::from),
        ty::SESSION_PARAMETERS => session_parameters(tail).map(Frame::from),
        ty::MAX_DATA => max_data(tail).map(Frame::from),
        ty::MAX_STREAM_DATA => max_stream_data(tail).map(Frame::from),
        ty::MAX_STREAMS => max_streams(tail).map(Frame::from),
        ty::RESET_STREAM => reset_stream(tail).map(Frame::from),
        ty::STOP_SENDING => stop_sending(tail).map(Frame::from),
        ty::CLOSE_SESSION => close_session(tail).map(Frame::from),
        ty::NEW_TOKEN_WIDE => new_token_wide(tail).map(Frame::from),
        ty::CONNECTION_STATUS => connection_status(tail).map(Frame::from),
        ty::CONNECTION_RESET_REASON => connection_reset_reason(tail).map(Frame::from),
        ty::TCP_OPTION => tcp_option(tail).map(Frame::from),
        ty::LANE => Ok(Frame::Lane),
        ty::DRAIN => drain(tail).map(Frame::from),
        ty::TCP_OPTION_REQUEST => tcp_option_request(tail).map(Frame::from),
        ty::TCP_OPTION_ANSWER => tcp_option_answer(tail).map(Frame::from),
        _ => return None,
    })
}

/// A Padding frame and all those right before it. The last byte of any other frame is its type, which is not 0: the
/// run can't reach into one.
// draft I39
fn padding(tail: &mut Tail<'_>) -> Padding {
    Padding { len: 1 + tail.run_of(ty::PADDING) }
}

fn stream<'a>(tail: &mut Tail<'a>, fin: bool) -> Result<Stream<'a>, Fault> {
    // draft I41
    let id = StreamId(tail.u32()?);
    let offset = tail.u64()?;
    let len = tail.u16()?;
    let data = tail.slice(usize::from(len))?;
    match offset.checked_add(u64::from(len)) {
        Some(end) if end <= MAX_STREAM_SIZE => Ok(Stream { id, offset, fin, data }),
        _ => Err(Fault::InvalidField),
    }
}

fn ack(tail: &mut Tail<'_>) -> Result<Ack, Fault> {
    // draft I42
    Ok(Ack { tcp: ConnectionId(tail.u32()?), highest: RecordSeq(tail.u64()?) })
}

fn new_token(tail: &mut Tail<'_>) -> Result<NewToken, Fault> {
    // draft I43
    let token = NewToken { sequence: tail.u8()?, token: Token(tail.array()?) };
    if token.sequence == 0 { Err(Fault::InvalidField) } else { Ok(token) }
}

fn connection_reset(tail: &mut Tail<'_>) -> Result<ConnectionReset, Fault> {
    // draft I44
    Ok(ConnectionReset { tcp: ConnectionId(tail.u32()?) })
}

fn new_address(tail: &mut Tail<'_>) -> Result<NewAddress, Fault> {
    // draft I45
    let id = AddressId(tail.u8()?);
    let ip: IpAddr = match tail.u8()? {
        4 => Ipv4Addr::from(tail.array()?).into(),
        6 => Ipv6Addr::from(tail.array::<16>()?).into(),
        _ => return Err(Fault::InvalidField),
    };
    Ok(NewAddress { id, address: SocketAddr::new(ip, tail.u16()?) })
}

fn remove_address(tail: &mut Tail<'_>) -> Result<RemoveAddress, Fault> {
    Ok(RemoveAddress { id: AddressId(tail.u8()?) })
}

fn stream_change(tail: &mut Tail<'_>) -> Result<StreamChange, Fault> {
    // draft I46
    let next_offset = tail.u64()?;
    Ok(StreamChange { next_stream: StreamId(tail.u32()?), next_offset })
}

fn session_parameters<'a>(tail: &mut Tail<'a>) -> Result<SessionParameters<'a>, Fault> {
    let count = tail.u8()?;
    let entries = tail.slice(usize::from(count) * PARAMETER_LEN)?;
    if parameters::has_repeated_id(entries) { Err(Fault::InvalidField) } else { Ok(SessionParameters { entries }) }
}

fn max_data(tail: &mut Tail<'_>) -> Result<MaxData, Fault> {
    Ok(MaxData { maximum: tail.u64()? })
}

fn max_stream_data(tail: &mut Tail<'_>) -> Result<MaxStreamData, Fault> {
    Ok(MaxStreamData { id: StreamId(tail.u32()?), maximum: tail.u64()? })
}

fn max_streams(tail: &mut Tail<'_>) -> Result<MaxStreams, Fault> {
    Ok(MaxStreams { maximum: tail.u32()? })
}

fn drain(tail: &mut Tail<'_>) -> Result<Drain, Fault> {
    Ok(Drain { streams: tail.u32()? })
}

fn reset_stream(tail: &mut Tail<'_>) -> Result<ResetStream, Fault> {
    Ok(ResetStream { id: StreamId(tail.u32()?), error: ErrorCode(tail.u32()?), final_size: tail.u64()? })
}

fn stop_sending(tail: &mut Tail<'_>) -> Result<StopSending, Fault> {
    Ok(StopSending { id: StreamId(tail.u32()?), error: ErrorCode(tail.u32()?) })
}

fn close_session<'a>(tail: &mut Tail<'a>) -> Result<CloseSession<'a>, Fault> {
    let error = ErrorCode(tail.u32()?);
    let len = tail.u16()?;
    Ok(CloseSession { error, reason: tail.slice(usize::from(len))? })
}

fn new_token_wide(tail: &mut Tail<'_>) -> Result<NewTokenWide, Fault> {
    let token = NewTokenWide { sequence: tail.u32()?, token: Token(tail.array()?) };
    if token.sequence == 0 { Err(Fault::InvalidField) } else { Ok(token) }
}

fn connection_status(tail: &mut Tail<'_>) -> Result<ConnectionStatus, Fault> {
    let tcp = ConnectionId(tail.u32()?);
    let backup = match tail.u8()? {
        0 => true,
        1 => false,
        _ => return Err(Fault::InvalidField),
    };
    Ok(ConnectionStatus { tcp, backup })
}

fn connection_reset_reason(tail: &mut Tail<'_>) -> Result<ConnectionResetReason, Fault> {
    Ok(ConnectionResetReason { tcp: ConnectionId(tail.u32()?), reason: tail.u8()? })
}

fn tcp_option<'a>(tail: &mut Tail<'a>) -> Result<TcpOption<'a>, Fault> {
    let kind = tail.u8()?;
    let len = tail.u16()?;
    Ok(TcpOption { kind, value: tail.slice(usize::from(len))? })
}

fn tcp_option_request<'a>(tail: &mut Tail<'a>) -> Result<TcpOptionRequest<'a>, Fault> {
    let id = OptionRequestId(tail.u32()?);
    let tcp = ConnectionId(tail.u32()?);
    let kind = tail.u8()?;
    let len = tail.u16()?;
    Ok(TcpOptionRequest { id, tcp, kind, value: tail.slice(usize::from(len))? })
}

fn tcp_option_answer(tail: &mut Tail<'_>) -> Result<TcpOptionAnswer, Fault> {
    Ok(TcpOptionAnswer { id: OptionRequestId(tail.u32()?), outcome: tail.u8()? })
}
