//! Which events are worth a file.

use tcpls_core::ErrorCode;
use tcpls_core::error::{CloseReason, TcpFault};
use tcpls_core::trace::Event;

/// Whether something went wrong. Handshakes that fail are not anomalies: any stranger can make a server have them. Neither is a
/// FIN, with which a peer ends a TCP connection that it retires.
pub(super) fn is_one(event: &Event<'_>, is_handshaking: bool) -> bool {
    match event {
        Event::Stalled { .. } => true,
        Event::Lost { fault, .. } => !is_handshaking && !fault.was_meant() && *fault != TcpFault::Fin,
        Event::Closed { reason, truncated } => match reason {
            CloseReason::Local { .. } => false,
            CloseReason::Peer { error, .. } => *truncated || *error != ErrorCode(0),
            CloseReason::Handshake(_)
            | CloseReason::NoApplicationProtocol
            | CloseReason::NoTcpls
            | CloseReason::Config(_)
            | CloseReason::HandshakeTimeout
            | CloseReason::LostInHandshake(_) => false,
            _ => true,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::ConnectionId;
    use tcpls_core::error::Violation;

    use super::*;

    #[test]
    fn stalls_losses_and_errors_are_anomalies_and_what_was_intended_is_none() {
        let tcp = ConnectionId::FIRST;
        let lost = |fault| is_one(&Event::Lost { tcp, fault }, false);
        let closed = |reason: &CloseReason, truncated| is_one(&Event::Closed { reason, truncated }, false);
        let by_peer = |error| CloseReason::Peer { error: ErrorCode(error), reason: Vec::new() };
        assert!(is_one(&Event::Stalled { tcp, owed_since: None, in_flight: 0 }, false));
        assert!(!is_one(&Event::Resumed { tcp }, false));
        assert!(lost(TcpFault::Reset) && lost(TcpFault::UserTimeout) && lost(TcpFault::BadRecord));
        assert!(!lost(TcpFault::Retired) && !lost(TcpFault::Fin) && !lost(TcpFault::SessionClosed));
        assert!(!is_one(&Event::Lost { tcp, fault: TcpFault::Reset }, true), "in a handshake");
        assert!(
            closed(&CloseReason::Violation(Violation::EmptyRecord), false) && closed(&CloseReason::Stranded, false)
        );
        assert!(closed(&by_peer(7), false) && closed(&by_peer(0), true) && !closed(&by_peer(0), false));
        assert!(!closed(&CloseReason::Local { error: ErrorCode(7) }, true));
        assert!(!closed(&CloseReason::HandshakeTimeout, false) && !closed(&CloseReason::NoTcpls, false));
        assert!(!closed(&CloseReason::LostInHandshake(TcpFault::Reset), false));
    }
}
