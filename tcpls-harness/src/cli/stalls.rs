//! Reports only stalls of TCP connections that last: on a busy machine or with a slow disk, many stalls end a moment
//! later.

use std::collections::BTreeMap;
use std::time::Duration;

use tcpls_core::event::TcpEvent;
use tcpls_core::wire::ids::ConnectionId;
use tokio::time::Instant;

/// Shorter stalls are not reported.
const LASTING: Duration = Duration::from_secs(2);

/// The TCP connections of a session that are stalled.
#[derive(Debug, Default)]
pub(crate) struct Stalls(BTreeMap<ConnectionId, Stall>);

#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Instant,
    is_told: bool,
}

impl Stalls {
    /// Handles an event; returns the TCP connection that makes progress again, if its stall was reported.
    pub(crate) fn note(&mut self, now: Instant, event: &TcpEvent) -> Option<ConnectionId> {
        match event {
            TcpEvent::Stalled { tcp } => {
                self.0.entry(*tcp).or_insert(Stall { since: now, is_told: false });
                None
            }
            TcpEvent::Resumed { tcp } => self.0.remove(tcp).filter(|stall| stall.is_told).map(|_| *tcp),
            TcpEvent::Lost { tcp, .. } => {
                self.0.remove(tcp);
                None
            }
            _ => None,
        }
    }

    /// Waits until a stall has lasted long enough to be reported, and returns the TCP connection. Cancel safe.
    pub(crate) async fn next(&mut self) -> ConnectionId {
        let untold = self.0.iter_mut().filter(|(_, stall)| !stall.is_told);
        let Some((tcp, stall)) = untold.min_by_key(|(_, stall)| stall.since) else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(stall.since + LASTING).await;
        stall.is_told = true;
        *tcp
    }
}

#[cfg(test)]
mod tests {
    use tcpls_core::error::TcpFault;

    use super::*;

    const TCP: ConnectionId = ConnectionId(3);

    #[tokio::test(start_paused = true)]
    async fn short_stall_is_not_reported() {
        let mut stalls = Stalls::default();
        stalls.note(Instant::now(), &TcpEvent::Stalled { tcp: TCP });
        tokio::time::advance(LASTING / 2).await;
        assert_eq!(stalls.note(Instant::now(), &TcpEvent::Resumed { tcp: TCP }), None);
        assert!(tokio::time::timeout(LASTING * 2, stalls.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_stall_and_its_end_are_reported_once() {
        let mut stalls = Stalls::default();
        stalls.note(Instant::now(), &TcpEvent::Stalled { tcp: TCP });
        assert_eq!(stalls.next().await, TCP);
        assert!(tokio::time::timeout(LASTING * 2, stalls.next()).await.is_err());
        assert_eq!(stalls.note(Instant::now(), &TcpEvent::Resumed { tcp: TCP }), Some(TCP));
        stalls.note(Instant::now(), &TcpEvent::Stalled { tcp: TCP });
        stalls.note(Instant::now(), &TcpEvent::Lost { tcp: TCP, fault: TcpFault::Reset });
        assert!(tokio::time::timeout(LASTING * 2, stalls.next()).await.is_err());
    }
}
