//! Options of TCP sockets that an endpoint asks its peer for (`docs/protocol.md`, TCP Option): their form on the wire, and
//! which of them the peer may choose here. Without sockets: `socket` sets them, and the simulator.

mod policy;
#[cfg(all(feature = "programs", unix))]
mod program;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

pub(crate) use self::policy::Rate;
pub use self::policy::{CongestionPolicy, OptionPolicy};
#[cfg(all(feature = "programs", unix))]
pub(crate) use self::program::{Brought, pieces};
pub use self::text::{CongestionName, OptionTextError, SocketOption};

/// The user timeout of RFC 5482.
const USER_TIMEOUT: u8 = 28;
/// The three others have numbers that are no TCP options.
const CONGESTION_CONTROL: u8 = 254;
const KEEP_ALIVE: u8 = 253;
const SOCKET: u8 = 252;
/// The hash of a congestion control that is a BPF program.
#[cfg(all(feature = "programs", unix))]
const PROGRAM: u8 = 251;
/// A piece of such a program.
#[cfg(all(feature = "programs", unix))]
pub(crate) const PROGRAM_PIECE: u8 = 250;

/// The flag of a user timeout that counts minutes (RFC 5482, 2).
const MINUTES: u16 = 0x8000;

/// An option of a TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpOption {
    /// Time that sent data may wait for TCP's acknowledgment before the kernel ends the TCP connection
    /// (`TCP_USER_TIMEOUT`, RFC 5482). To the peer it travels in seconds, above 9 h in minutes, rounded up.
    UserTimeout(Duration),
    /// The congestion control (`TCP_CONGESTION`).
    CongestionControl(CongestionName),
    /// A congestion control that is a BPF program, by its hash: only a peer is asked for it.
    #[cfg(all(feature = "programs", unix))]
    CongestionProgram(crate::programs::ProgramId),
    /// Time without a byte after which the kernel asks whether the peer is there (`SO_KEEPALIVE`); `None`: never. To the
    /// peer it travels in seconds, rounded up.
    KeepAlive(Option<Duration>),
    /// Another option of the socket, by name.
    Socket(SocketOption, u32),
}

/// What a peer asks for is no option of this version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The kind, or the name of the option, is not known.
    Unknown,
    /// Its value is invalid.
    Invalid,
}

impl TcpOption {
    /// Returns kind and value on the wire.
    pub(crate) fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::UserTimeout(time) => (USER_TIMEOUT, user_timeout(*time).to_be_bytes().to_vec()),
            Self::CongestionControl(name) => (CONGESTION_CONTROL, name.as_str().as_bytes().to_vec()),
            #[cfg(all(feature = "programs", unix))]
            Self::CongestionProgram(id) => (PROGRAM, id.as_bytes().to_vec()),
            Self::KeepAlive(time) => {
                let seconds = time.map_or(0, |time| u32::try_from(seconds_up(time)).unwrap_or(u32::MAX).max(1));
                (KEEP_ALIVE, seconds.to_be_bytes().to_vec())
            }
            Self::Socket(option, value) => (SOCKET, format!("{option}={value}").into_bytes()),
        }
    }

    /// Reads kind and value as the peer sent them.
    pub(crate) fn decode(kind: u8, value: &[u8]) -> Result<Self, Malformed> {
        match kind {
            USER_TIMEOUT => {
                let bytes: [u8; 2] = value.try_into().map_err(|_| Malformed::Invalid)?;
                let field = u16::from_be_bytes(bytes);
                let unit = if field & MINUTES > 0 { 60 } else { 1 };
                match u64::from(field & !MINUTES) * unit {
                    0 => Err(Malformed::Invalid), // RFC 5482, 3.2
                    seconds => Ok(Self::UserTimeout(Duration::from_secs(seconds))),
                }
            }
            CONGESTION_CONTROL => {
                let name = str::from_utf8(value).ok().and_then(|name| CongestionName::new(name).ok());
                name.map(Self::CongestionControl).ok_or(Malformed::Invalid)
            }
            #[cfg(all(feature = "programs", unix))]
            PROGRAM => {
                let hash = value.try_into().map_err(|_| Malformed::Invalid)?;
                Ok(Self::CongestionProgram(crate::programs::ProgramId::new(hash)))
            }
            KEEP_ALIVE => {
                let bytes: [u8; 4] = value.try_into().map_err(|_| Malformed::Invalid)?;
                let seconds = u32::from_be_bytes(bytes);
                Ok(Self::KeepAlive((seconds > 0).then(|| Duration::from_secs(seconds.into()))))
            }
            SOCKET => {
                let text = str::from_utf8(value).map_err(|_| Malformed::Invalid)?;
                let (name, value) = text.split_once('=').ok_or(Malformed::Invalid)?;
                let option = SocketOption::named(name).ok_or(Malformed::Unknown)?;
                // Not what `parse` accepts beside digits.
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let value = value.parse().ok().filter(|_| is_number).ok_or(Malformed::Invalid)?;
                Ok(Self::Socket(option, value))
            }
            _ => Err(Malformed::Unknown),
        }
    }

    /// Whether both set the same, to whatever value.
    pub(crate) fn is_same_kind(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Socket(this, _), Self::Socket(other, _)) => this == other,
            #[cfg(all(feature = "programs", unix))]
            (Self::CongestionControl(_), Self::CongestionProgram(_))
            | (Self::CongestionProgram(_), Self::CongestionControl(_)) => true,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

/// The field of RFC 5482, 2.
fn user_timeout(time: Duration) -> u16 {
    let seconds = seconds_up(time).max(1);
    match u16::try_from(seconds) {
        Ok(seconds) if seconds < MINUTES => seconds,
        _ => u16::try_from(seconds.div_ceil(60)).unwrap_or(u16::MAX) | MINUTES,
    }
}

fn seconds_up(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}
