//! What can go wrong, by whose fault: the peer's ([`PeerMisbehaved`]), the path's ([`TcpFault`]), the caller's (one
//! small enum per call), or nobody's ([`CloseReason`]).

mod alert;
mod call;
mod close;
pub mod code;
mod peer;
mod tcp;

pub use self::alert::Alert;
pub use self::call::{AddressError, OpenStreamError, OpenTcpError, ReadError, TcpError, WriteError};
pub use self::close::{CloseReason, HandshakeError};
pub use self::peer::PeerMisbehaved;
pub use self::tcp::TcpFault;
