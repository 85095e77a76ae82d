//! Connects to targets: over TCP, or whatever else a test or a simulation puts in its place.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::allow::Allow;
use super::peer::{Peer, TcpPeer};
use super::refusal::Refusal;
use super::target::{Host, Target};

/// How long the next address of a name waits for the one before it (RFC 8305, 8).
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Connects a server to the targets that its clients ask for.
pub trait Outbound: Send + Sync + 'static {
    /// A connection to a target.
    type Peer: Peer + 'static;

    /// Connects to `target`, or says why not. Also decides whether the target is permitted.
    fn connect(&self, target: &Target) -> impl Future<Output = Result<Self::Peer, Refusal>> + Send;
}

/// Connects over TCP to what [`Allow`] permits.
///
/// A name is resolved once, and each address is judged before it is connected to: what the name leads to a moment later does
/// not matter.
#[derive(Clone, Debug)]
pub struct TcpOutbound {
    allow: Allow,
    timeout: Duration,
}

impl TcpOutbound {
    /// Permits what `allow` does; waits at most `timeout` for a connection, the look-up of its name included.
    pub fn new(allow: Allow, timeout: Duration) -> Self {
        Self { allow, timeout }
    }

    async fn connect_in_time(&self, target: &Target) -> Result<TcpPeer, Refusal> {
        let found = resolve(target).await?;
        let permitted = found.into_iter().filter(|address| self.allow.permits(target, address.ip()));
        race(permitted.take(MAX_ADDRESSES).collect()).await
    }
}

/// Connects to `target`, which needs no permission.
pub(super) async fn connect_to(target: &Target, limit: Duration) -> Result<TcpPeer, Refusal> {
    let connecting = async { race(resolve(target).await?.into_iter().take(MAX_ADDRESSES).collect()).await };
    timeout(limit, connecting).await.unwrap_or(Err(Refusal::TimedOut))
}

async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, Refusal> {
    let found: Vec<SocketAddr> = match &target.host {
        Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
        Host::Name(name) => lookup_host((name.as_str(), target.port)).await.map_err(|_| Refusal::Unresolved)?.collect(),
    };
    if found.is_empty() { Err(Refusal::Unresolved) } else { Ok(found) }
}

impl Outbound for TcpOutbound {
    type Peer = TcpPeer;

    async fn connect(&self, target: &Target) -> Result<TcpPeer, Refusal> {
        if !self.allow.might_permit(target) {
            return Err(Refusal::Denied);
        }
        timeout(self.timeout, self.connect_in_time(target)).await.unwrap_or(Err(Refusal::TimedOut))
    }
}

/// Connects to the first of these addresses that answers. Each waits a moment for the one before it.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpPeer, Refusal> {
    let mut attempts = JoinSet::new();
    let mut refusal = Refusal::Denied;
    for address in addresses {
        attempts.spawn(TcpStream::connect(address));
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next() => match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(socket) => return Ok(TcpPeer::new(socket)),
                Err(error) => refusal = refusal_of(&error),
            },
            () = sleep(STAGGER) => {}
        }
    }
    while let Some(attempt) = attempts.join_next().await {
        match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(socket) => return Ok(TcpPeer::new(socket)),
            Err(error) => refusal = refusal_of(&error),
        }
    }
    Err(refusal)
}

fn refusal_of(error: &io::Error) -> Refusal {
    if crate::net::descriptors::are_used_up(error) {
        return Refusal::Overloaded;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Refusal::Refused,
        io::ErrorKind::TimedOut => Refusal::TimedOut,
        _ => Refusal::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn outbound(pattern: &str) -> TcpOutbound {
        TcpOutbound::new(Allow::new(vec![pattern.parse().unwrap()]), Duration::from_secs(60))
    }

    #[tokio::test]
    async fn permitted_targets_are_connected_to_and_others_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target: Target = address.to_string().parse().unwrap();
        assert!(outbound("127.0.0.1:*").connect(&target).await.is_ok());
        let named: Target = format!("localhost:{}", target.port).parse().unwrap();
        assert!(outbound("localhost:*").connect(&named).await.is_ok());
        for pattern in ["*:*", "127.0.0.2:*", "localhost:*"] {
            assert_eq!(outbound(pattern).connect(&target).await.unwrap_err(), Refusal::Denied, "{pattern}");
        }
        assert_eq!(
            outbound("*:*").connect(&named).await.unwrap_err(),
            Refusal::Denied,
            "a name that leads to loopback"
        );
        drop(listener);
        assert_eq!(outbound("127.0.0.1:*").connect(&target).await.unwrap_err(), Refusal::Refused);
    }
}
