//! How values stand in an entry: each type writes and reads itself.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use super::content;
use super::format::{Get, Malformed, Put};
use crate::config::{Config, Lanes};
use crate::connection::{JoinOptions, StreamClass, TcpEnd, TcpInfo};
use crate::time::Time;
use crate::wire::hello::{ClientHello, Cover};
use crate::wire::ids::{AddressId, ConnectionId, ErrorCode, RecordSeq, SessionId, StreamId, Token};

/// The longest text that is kept: the session sends less of it.
pub(super) const MAX_TEXT: usize = 64 << 10;
/// The longest list that is read.
const MAX_LIST: usize = 4096;

/// Writes an entry. Times are written as the difference to the one before.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    pub(super) clock: Time,
}

/// Reads an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) get: Get<'a>,
    pub(super) clock: Time,
}

/// A value in an entry.
pub(super) trait Field: Sized {
    fn put(&self, out: &mut Writer);
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

macro_rules! numbers {
    ($($ty:ty => $to:expr, $from:expr;)*) => {$(
        impl Field for $ty {
            #[inline]
            fn put(&self, out: &mut Writer) {
                let to: fn(&$ty) -> u64 = $to;
                out.bytes.number(to(self));
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                let read: fn(&mut Get<'_>) -> Result<$ty, Malformed> = $from;
                read(&mut from.get)
            }
        }
    )*};
}

numbers! {
    u8 => |value| (*value).into(), |get| u8::try_from(get.number()?).map_err(|_| Malformed("a number is too large"));
    u16 => |value| (*value).into(), |get| u16::try_from(get.number()?).map_err(|_| Malformed("a number is too large"));
    u32 => |value| (*value).into(), |get| get.u32();
    u64 => |value| *value, |get| get.number();
    usize => |value| *value as u64, |get| get.len();
    i8 => |value| u64::from(*value as u8), |get| Ok(get.number()? as u8 as i8);
    bool => |value| u64::from(*value), |get| get.flag();
    ConnectionId => |tcp| tcp.0.into(), |get| get.u32().map(ConnectionId);
    StreamId => |id| id.0.into(), |get| get.u32().map(StreamId);
    ErrorCode => |code| code.0.into(), |get| get.u32().map(ErrorCode);
    RecordSeq => |seq| seq.0, |get| get.number().map(RecordSeq);
    AddressId => |id| id.0.into(), |get| u8::try_from(get.number()?).map(AddressId).map_err(|_| Malformed("an ID is too large"));
    Option<u64> => |value| value.map_or(0, |value| value.saturating_add(1)), |get| get.optional();
    StreamClass => |class| match class { StreamClass::ByPriority => 0, StreamClass::Interactive => 1, StreamClass::Bulk => 2 },
        |get| match get.number()? {
            0 => Ok(StreamClass::ByPriority),
            1 => Ok(StreamClass::Interactive),
            2 => Ok(StreamClass::Bulk),
            _ => Err(Malformed("unknown class of a stream")),
        };
    Lanes => |lanes| match lanes { Lanes::Off => 0, Lanes::Auto => 1, Lanes::Always => 2 },
        |get| match get.number()? {
            0 => Ok(Lanes::Off),
            1 => Ok(Lanes::Auto),
            2 => Ok(Lanes::Always),
            _ => Err(Malformed("unknown setting of lanes")),
        };
    TcpEnd => |end| match end {
            TcpEnd::Fin => 0,
            TcpEnd::Reset => 1,
            TcpEnd::Error(_) => 2,
            TcpEnd::PathDown => 3,
            TcpEnd::JoinTimeout => 4,
        },
        |get| match get.number()? {
            0 => Ok(TcpEnd::Fin),
            1 => Ok(TcpEnd::Reset),
            2 => Ok(TcpEnd::Error(std::io::ErrorKind::Other)),
            3 => Ok(TcpEnd::PathDown),
            4 => Ok(TcpEnd::JoinTimeout),
            _ => Err(Malformed("unknown end of a socket")),
        };
}

/// Seconds and nanoseconds.
impl Field for Duration {
    fn put(&self, out: &mut Writer) {
        self.as_secs().put(out);
        self.subsec_nanos().put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (secs, nanos) = (u64::get(from)?, u32::get(from)?);
        if nanos < 1_000_000_000 { Ok(Self::new(secs, nanos)) } else { Err(Malformed("a duration is malformed")) }
    }
}

impl Field for Time {
    #[inline]
    fn put(&self, out: &mut Writer) {
        let step = self.as_nanos().wrapping_sub(out.clock.as_nanos()) as i64;
        out.bytes.number(((step << 1) ^ (step >> 63)) as u64);
        out.clock = *self;
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let step = from.get.number()?;
        let step = (step >> 1) ^ (step & 1).wrapping_neg();
        from.clock = Self::from_nanos(from.clock.as_nanos().wrapping_add(step));
        Ok(from.clock)
    }
}

/// A point in time beside that of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Moment(pub(super) Time);

impl Field for Moment {
    fn put(&self, out: &mut Writer) {
        let clock = out.clock;
        self.0.put(out);
        out.clock = clock;
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let clock = from.clock;
        let moment = Time::get(from)?;
        from.clock = clock;
        Ok(Self(moment))
    }
}

impl<T: Field> Field for Box<T> {
    fn put(&self, out: &mut Writer) {
        T::put(self, out);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::get(from).map(Self::new)
    }
}

macro_rules! optional {
    ($($ty:ty)*) => {$(
        impl Field for Option<$ty> {
            fn put(&self, out: &mut Writer) {
                self.is_some().put(out);
                self.iter().for_each(|value| value.put(out));
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                if bool::get(from)? { <$ty>::get(from).map(Some) } else { Ok(None) }
            }
        }
    )*};
}

optional! { SocketAddr Name Cover Token Duration }

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Writer) {
        self.len().put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = usize::get(from)?;
        if len > MAX_LIST {
            return Err(Malformed("a list is too long"));
        }
        (0..len).map(|_| T::get(from)).collect()
    }
}

/// A name, or its pseudonym.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Name(pub(in crate::connection) Vec<u8>);

impl Name {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl Field for Name {
    fn put(&self, out: &mut Writer) {
        out.bytes.bytes(&self.0);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.get.bytes().map(<[u8]>::to_vec).map(Self)
    }
}

/// Text or data of the application: its length and, where data is kept, its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Text {
    pub(super) len: usize,
    pub(super) kept: Option<Vec<u8>>,
}

impl Text {
    pub(in crate::connection) fn new(keep: bool, bytes: &[u8]) -> Self {
        let bytes = bytes.get(..bytes.len().min(MAX_TEXT)).unwrap_or_default();
        Self { len: bytes.len(), kept: keep.then(|| bytes.to_vec()) }
    }

    /// The bytes, or as many zeros.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.kept.clone().unwrap_or_else(|| vec![0; self.len])
    }
}

impl Field for Text {
    fn put(&self, out: &mut Writer) {
        out.bytes.number((self.len as u64) << 1 | u64::from(self.kept.is_some()));
        out.bytes.extend_from_slice(self.kept.as_deref().unwrap_or_default());
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (value, is_kept) = from.get.number().map(|value| (value >> 1, value & 1 == 1))?;
        let len = usize::try_from(value).ok().filter(|len| *len <= MAX_TEXT).ok_or(Malformed("a text is too long"))?;
        let kept = if is_kept { Some(from.get.slice(len)?.to_vec()) } else { None };
        Ok(Self { len, kept })
    }
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Content(pub(super) Vec<u8>);

impl Field for Content {
    fn put(&self, out: &mut Writer) {
        content::put_whole(true, &self.0, &mut out.bytes);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        content::get(&mut from.get).map(Self)
    }
}

impl Field for SocketAddr {
    fn put(&self, out: &mut Writer) {
        match self.ip() {
            IpAddr::V4(ip) => {
                out.bytes.push(4);
                out.bytes.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.bytes.push(6);
                out.bytes.extend_from_slice(&ip.octets());
            }
        }
        self.port().put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let ip = match from.get.byte()? {
            4 => IpAddr::V4(Ipv4Addr::from(from.get.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(from.get.array::<16>()?)),
            _ => return Err(Malformed("unknown family of an address")),
        };
        Ok(Self::new(ip, u16::get(from)?))
    }
}

impl Field for SessionId {
    fn put(&self, out: &mut Writer) {
        out.bytes.extend_from_slice(&self.0);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.get.array().map(Self)
    }
}

impl Field for Token {
    fn put(&self, out: &mut Writer) {
        out.bytes.extend_from_slice(&self.0);
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.get.array().map(Self)
    }
}

impl Field for JoinOptions {
    fn put(&self, out: &mut Writer) {
        [self.zero_rtt, self.backup, self.lane].iter().for_each(|flag| flag.put(out));
    }
    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { zero_rtt: bool::get(from)?, backup: bool::get(from)?, lane: bool::get(from)? })
    }
}

impl Field for TcpInfo {
    fn put(&self, out: &mut Writer) {
        Moment(self.heard).put(out);
        self.unacked.put(out);
        self.rtt.put(out);
        self.min_rtt.put(out);
        self.acked.put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let Moment(heard) = Moment::get(from)?;
        let (unacked, rtt) = (u32::get(from)?, Duration::get(from)?);
        Ok(Self { heard, unacked, rtt, min_rtt: Duration::get(from)?, acked: u64::get(from)? })
    }
}

impl Field for Cover {
    fn put(&self, out: &mut Writer) {
        match self {
            Self::Unknown => out.bytes.push(0),
            Self::Name(None) => out.bytes.push(1),
            Self::Name(Some(name)) => {
                out.bytes.push(2);
                out.bytes.bytes(name.as_bytes());
            }
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.get.byte()? {
            0 => Self::Unknown,
            1 => Self::Name(None),
            2 => Self::Name(Some(Name::get(from)?.text())),
            _ => return Err(Malformed("unknown form of a public name")),
        })
    }
}

/// What a session looks at in the ClientHello of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Hello(pub(in crate::connection) ClientHello);

impl Field for Hello {
    fn put(&self, out: &mut Writer) {
        let hello = &self.0;
        hello.suites.put(out);
        hello.server_name.as_ref().map(|name| Name(name.as_bytes().to_vec())).put(out);
        hello.alpn.iter().map(|name| Name(name.clone())).collect::<Vec<_>>().put(out);
        [hello.supports_tls13, hello.tcpls, hello.early_data, hello.psk].iter().for_each(|flag| flag.put(out));
        hello.session_id.len().put(out);
    }

    fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (suites, server_name) = (Vec::<u16>::get(from)?, Option::<Name>::get(from)?);
        let alpn = Vec::<Name>::get(from)?.into_iter().map(|name| name.0).collect();
        let (supports_tls13, tcpls) = (bool::get(from)?, bool::get(from)?);
        let mut hello = ClientHello { suites, alpn, supports_tls13, tcpls, ..ClientHello::default() };
        (hello.early_data, hello.psk) = (bool::get(from)?, bool::get(from)?);
        hello.server_name = server_name.map(|name| name.text());
        let len = usize::get(from)?;
        let session_id = [0; 32].get(..len).and_then(|id| id.try_into().ok());
        hello.session_id = session_id.ok_or(Malformed("a session ID is too long"))?;
        Ok(Self(hello))
    }
}

/// Writes and reads the settings in this order.
macro_rules! settings {
    ($($field:ident)*) => {
        impl Field for Config {
            fn put(&self, out: &mut Writer) {
                $(self.$field.put(out);)*
            }
            fn get(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                // Every field is named, so that a new setting cannot be forgotten here.
                Ok(Self { $($field: Field::get(from)?,)* })
            }
        }
    };
}

settings! {
    initial_session_window max_session_window initial_stream_window max_stream_window max_streams send_buffer
    stream_send_buffer max_unacknowledged_records max_gaps idle_timeout user_timeout probe_after max_ack_delay
    ack_every_records max_tcp_connections lanes joins_at_advertised_only spare_tokens handshake_timeout join_timeout
    session_timeout close_timeout close_limit zero_rtt_join confidentiality_limit integrity_limit overhead_budget
}
