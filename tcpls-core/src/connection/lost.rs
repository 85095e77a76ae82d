//! What is kept of a lost TCP connection.

use super::carried::Carried;
use crate::error::TcpFault;
use crate::tcp::Tcp;

/// A lost TCP connection and its fault.
pub(super) struct Lost {
    pub(super) tcp: Tcp<Carried>,
    pub(super) fault: TcpFault,
}

impl Lost {
    /// The reason code in Connection Reset. 0 gives no reason.
    pub(super) fn reason(&self) -> u8 {
        match self.fault {
            TcpFault::Fin | TcpFault::Reset | TcpFault::Io => 1,
            TcpFault::NotTls | TcpFault::RecordOverflow | TcpFault::UnexpectedRecord | TcpFault::BadRecord => 2,
            TcpFault::Alert(_) => 3,
            TcpFault::UserTimeout | TcpFault::JoinTimeout => 4,
            TcpFault::Retired => TcpFault::REASON_RETIRED,
            TcpFault::PathDown => TcpFault::REASON_PATH_DOWN,
            _ => 0,
        }
    }
}
