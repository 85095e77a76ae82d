//! What can go wrong, by whose fault: the peer's ([`Violation`]), the path's ([`TcpFault`]), the caller's (one
//! small enum per call), or no one end's ([`CloseReason`]).

mod alert;
mod call;
mod close;
pub mod code;
mod handshake;
mod peer;
mod setting;
mod tcp;
mod text;

pub use self::alert::{Alert, AlertDescription};
pub use self::call::{AddressError, OpenStreamError, OpenTcpError, ReadError, TcpError, WriteError};
pub use self::close::CloseReason;
pub use self::handshake::{HandshakeError, HandshakeErrorKind};
pub use self::peer::Violation;
pub use self::setting::{Bound, ConfigError};
pub use self::tcp::TcpFault;
pub use self::text::Escaped;
