//! Shared code of the tests, besides `tcpls_core::testing`.

pub mod provider;

pub use tcpls_core::testing::{NullHandshake, Pair, Role, Setup, Tls, bytes, peer, seed, tls};
pub use tcpls_core::wire::ids::Side::{self, Client, Server};

use tcpls_core::error::TcpFault;
use tcpls_core::event::TcpEvent;
use tcpls_core::wire::ids::ConnectionId;

pub fn joined(tcp: ConnectionId) -> TcpEvent {
    TcpEvent::Joined { tcp }
}

pub fn lost(tcp: ConnectionId, fault: TcpFault) -> TcpEvent {
    TcpEvent::Lost { tcp, fault }
}

pub fn discarded(tcp: ConnectionId) -> TcpEvent {
    TcpEvent::Discarded { tcp }
}
