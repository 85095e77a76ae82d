//! Connects to targets: over TCP, or whatever else a test or a simulation puts in its place.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::allow::Allow;
use super::look_ups::LookUps;
use super::peer::{Peer, TcpPeer};
use super::places::Requester;
use super::refusal::Refusal;
use super::target::{Host, Target};

/// How long the next address of a name waits for the one before it (RFC 8305, 8).
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// The most second attempts at the same time, unless set.
const MAX_SECONDS: usize = 64;

/// The port of a protocol that nothing is sent to (RFC 863).
const DISCARD: u16 = 9;

/// Connects a server to the targets that its clients ask for.
pub trait Outbound: Send + Sync + 'static {
    /// A connection to a target.
    type Peer: Peer + 'static;

    /// Connects to `target`, or says why not. Also decides whether the target is permitted. `from` is who asks, for limits.
    fn connect(&self, target: &Target, from: &Requester) -> impl Future<Output = Result<Self::Peer, Refusal>> + Send;
}

/// Connects over TCP to what [`Allow`] permits.
///
/// A name is resolved once, and each address is judged before it is connected to: what the name leads to a moment later does
/// not matter.
#[derive(Clone, Debug)]
pub struct TcpOutbound {
    allow: Allow,
    timeout: Duration,
    /// Attempts beside another one for the same target.
    seconds: Arc<Semaphore>,
    look_ups: LookUps,
    /// Whether an address is one of this host.
    is_own: fn(IpAddr) -> bool,
}

impl TcpOutbound {
    /// Permits what `allow` does; waits at most `timeout` for a connection, the look-up of its name included.
    pub fn new(allow: Allow, timeout: Duration) -> Self {
        let (seconds, look_ups) = (Semaphore::new(MAX_SECONDS), LookUps::new());
        Self { allow, timeout, seconds: Arc::new(seconds), look_ups, is_own }
    }

    /// Limits the sockets that connect to a further address of a name while another one connects, of all clients
    /// together. The default is 64. Without one, the addresses have their turns one after the other.
    #[must_use]
    pub fn with_second_attempts(mut self, most: usize) -> Self {
        self.seconds = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        self
    }

    async fn connect_in_time(&self, target: &Target, from: &Requester) -> Result<TcpPeer, Refusal> {
        let slot = match target.host {
            Host::Name(_) => Some(self.look_ups.slot(from).await?),
            Host::Address(_) => None,
        };
        let found = resolve(target, slot).await?;
        let permitted = found.into_iter().filter(|address| match (self.is_own)(address.ip()) {
            true => self.allow.permits_own(target, address.ip()),
            false => self.allow.permits(target, address.ip()),
        });
        race(permitted.take(MAX_ADDRESSES).collect(), self.timeout, &self.seconds).await
    }
}

/// Whether an address is one of this host: the kernel then sends from the address that it sends to. No packet leaves. True
/// if there is no socket to ask with, because that is the stricter answer.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return true };
    let from = socket.connect((address, DISCARD)).and_then(|()| socket.local_addr());
    from.is_ok_and(|from| from.ip() == address)
}

/// Connects to `target`, which needs no permission.
pub(super) async fn connect_to(target: &Target, limit: Duration) -> Result<TcpPeer, Refusal> {
    let one = Arc::new(Semaphore::new(1));
    let connecting = async {
        let found = resolve(target, ()).await?;
        race(found.into_iter().take(MAX_ADDRESSES).collect(), limit, &one).await
    };
    timeout(limit, connecting).await.unwrap_or(Err(Refusal::TimedOut))
}

/// Looks a name up; `slot` is dropped once that is over.
async fn resolve(target: &Target, slot: impl Send + 'static) -> Result<Vec<SocketAddr>, Refusal> {
    let found: Vec<SocketAddr> = match &target.host {
        Host::Address(address) => vec![SocketAddr::new(*address, target.port)],
        Host::Name(name) => {
            let (name, port) = (name.clone(), target.port);
            // A thread looks the name up, and goes on when no task waits for it any more: so does its slot.
            let look_up = tokio::spawn(async move {
                let found = lookup_host((name.as_str(), port)).await.map(Iterator::collect);
                drop(slot);
                found
            });
            look_up.await.map_err(|_| Refusal::Unresolved)?.map_err(|_| Refusal::Unresolved)?
        }
    };
    if found.is_empty() { Err(Refusal::Unresolved) } else { Ok(found) }
}

impl Outbound for TcpOutbound {
    type Peer = TcpPeer;

    async fn connect(&self, target: &Target, from: &Requester) -> Result<TcpPeer, Refusal> {
        if !self.allow.might_permit(target) {
            return Err(Refusal::Denied);
        }
        timeout(self.timeout, self.connect_in_time(target, from)).await.unwrap_or(Err(Refusal::TimedOut))
    }
}

/// Connects to the first of these addresses that answers. Each waits a moment for the one before it, and a second attempt
/// at the same time needs a permit of `seconds`. So that all have their turn within `limit`, each has a share of it.
async fn race(addresses: Vec<SocketAddr>, limit: Duration, seconds: &Arc<Semaphore>) -> Result<TcpPeer, Refusal> {
    race_by(TcpStream::connect, addresses, limit, seconds).await.map(TcpPeer::new)
}

async fn race_by<T, F>(
    connect: impl Fn(SocketAddr) -> F,
    addresses: Vec<SocketAddr>,
    limit: Duration,
    seconds: &Arc<Semaphore>,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let share = limit / u32::try_from(addresses.len().div_ceil(2)).unwrap_or(u32::MAX).max(1);
    let mut attempts = JoinSet::new();
    let mut refusal = Refusal::Denied;
    let mut waiting = addresses.into_iter().peekable();
    let mut permit = None; // kept to the end: it is for all attempts that are the second one at their time
    loop {
        if attempts.len() == 1 && permit.is_none() && waiting.peek().is_some() {
            permit = seconds.clone().try_acquire_owned().ok();
        }
        if attempts.is_empty() || (attempts.len() == 1 && permit.is_some()) {
            match waiting.next() {
                Some(address) => drop(attempts.spawn(attempt(connect(address), share))),
                None if attempts.is_empty() => return Err(refusal),
                None => {}
            }
        }
        let is_next = attempts.len() == 1 && waiting.peek().is_some();
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next() => match attempt.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(connected) => return Ok(connected),
                Err(error) => refusal = refusal_of(&error),
            },
            () = sleep(STAGGER), if is_next => {}
        }
    }
}

async fn attempt<T>(connecting: impl Future<Output = io::Result<T>>, limit: Duration) -> io::Result<T> {
    timeout(limit, connecting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
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
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use tokio::net::TcpListener;

    use super::*;

    fn ann() -> Requester {
        Requester::User("ann".into())
    }

    fn outbound(pattern: &str) -> TcpOutbound {
        TcpOutbound::new(Allow::new(vec![pattern.parse().unwrap()]), Duration::from_secs(60))
    }

    #[tokio::test(start_paused = true)]
    async fn eight_addresses_are_tried_two_at_a_time_and_each_has_a_turn() {
        let addresses: Vec<SocketAddr> = (1..=8).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        for permits in [0, 1, 64] {
            let pending = Arc::new(());
            let most = Arc::new(AtomicUsize::new(0));
            let connect = |address: SocketAddr| {
                let (pending, most) = (pending.clone(), most.clone());
                async move {
                    most.fetch_max(Arc::strong_count(&pending) - 1, Relaxed); // less the test's own
                    sleep(if address.port() == 8 { STAGGER } else { Duration::MAX }).await;
                    drop(pending);
                    io::Result::Ok(address.port())
                }
            };
            let seconds = Arc::new(Semaphore::new(permits));
            let outcome = race_by(connect, addresses.clone(), Duration::from_secs(10), &seconds).await;
            assert_eq!(outcome, Ok(8), "{permits}");
            assert_eq!(most.load(Relaxed), if permits == 0 { 1 } else { 2 });
            assert_eq!(seconds.available_permits(), permits);
        }
    }

    #[tokio::test]
    async fn addresses_of_the_host_itself_are_judged_as_such() {
        assert!(is_own("127.0.0.1".parse().unwrap()) && !is_own("192.0.2.1".parse().unwrap()));
        let mut outbound = outbound("*:*");
        outbound.is_own = |_| true;
        let target: Target = "8.8.8.8:443".parse().unwrap();
        assert_eq!(outbound.connect(&target, &ann()).await.unwrap_err(), Refusal::Denied);
    }

    #[tokio::test]
    async fn permitted_targets_are_connected_to_and_others_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target: Target = address.to_string().parse().unwrap();
        assert!(outbound("127.0.0.1:*").connect(&target, &ann()).await.is_ok());
        let named: Target = format!("localhost:{}", target.port).parse().unwrap();
        assert!(outbound("localhost:*").connect(&named, &ann()).await.is_ok());
        for pattern in ["*:*", "127.0.0.2:*", "localhost:*"] {
            assert_eq!(outbound(pattern).connect(&target, &ann()).await.unwrap_err(), Refusal::Denied, "{pattern}");
        }
        assert_eq!(
            outbound("*:*").connect(&named, &ann()).await.unwrap_err(),
            Refusal::Denied,
            "a name that leads to loopback"
        );
        drop(listener);
        assert_eq!(outbound("127.0.0.1:*").connect(&target, &ann()).await.unwrap_err(), Refusal::Refused);
    }
}
