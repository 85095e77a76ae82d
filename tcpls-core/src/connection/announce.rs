//! Reports the session to the driver.

use super::Connection;
use crate::event::{Established, Event, TcpEvent};
use crate::wire::ids::{ConnectionId, Side};

impl Connection {
    /// Reports the session to the driver, directly after its first TCP connection and before all events that arrived
    /// with the peer's Session Parameters: the application may open streams at once (decision D110).
    pub(super) fn announce(&mut self) {
        let established = Established {
            tcpls: !self.plain,
            draft_only: self.is_draft_only(),
            application_protocol: self.identity.application_protocol.clone(),
        };
        let joined = Event::Tcp(TcpEvent::Joined { tcp: ConnectionId::FIRST });
        let at = self.events.iter().position(|event| *event == joined).map_or(0, |at| at + 1);
        self.events.insert(at, Event::Established(established));
        let count = if self.side == Side::Client { self.joins.tokens() } else { 0 };
        if count > 0 && !self.events.iter().any(|event| matches!(event, Event::TokensAvailable { .. })) {
            self.events.insert(at + 1, Event::TokensAvailable { count }); // from the handshake
        }
    }
}
