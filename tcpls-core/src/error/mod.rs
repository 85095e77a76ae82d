//! Errors by their origin: violations by the peer ([`Violation`]), faults of a path ([`TcpFault`]), errors of the
//! caller (one small enum per call), and the reasons why sessions end ([`CloseReason`]).

mod alert;
mod call;
mod close;
pub mod code;
mod handshake;
mod join;
mod peer;
mod setting;
mod tcp;
mod text;

pub use self::alert::{Alert, AlertDescription};
pub use self::call::{AddressError, AskOptionError, OpenStreamError, OpenTcpError, ReadError, TcpError, WriteError};
pub use self::close::CloseReason;
pub use self::handshake::{HandshakeError, HandshakeErrorKind};
pub use self::join::JoinRefusal;
pub use self::peer::Violation;
pub use self::setting::{Bound, ConfigError};
pub use self::tcp::TcpFault;
pub use self::text::Escaped;
