//! Ports of the server that lead to targets of a client (`forward -R`): what a server permits, and who holds which port.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;

use super::allow::{Pattern, PatternError};
use super::refusal::Refusal;
use super::target::{Host, Target};

/// Connections that may wait to be accepted on a port.
const BACKLOG: u32 = 256;
/// The lengths that a client's key may have.
const KEY: std::ops::RangeInclusive<usize> = 16..=64;

/// The ports that a server lets its clients listen on: those that at least one pattern matches. The default permits none.
#[derive(Clone, Debug, Default)]
pub struct AllowRemote(Vec<RemotePattern>);

impl AllowRemote {
    /// Permits what these patterns match.
    pub fn new(patterns: Vec<RemotePattern>) -> Self {
        Self(patterns)
    }

    /// Whether `user` may listen on `address`.
    pub fn permits(&self, user: Option<&str>, address: SocketAddr) -> bool {
        let is_for = |pattern: &&RemotePattern| pattern.user.is_none() || pattern.user.as_deref() == user;
        self.0.iter().filter(is_for).any(|pattern| pattern.address.matches_address(address))
    }
}

/// Addresses and ports to listen on, as `[USER@]ADDRESS:PORT`: the address is an address, a network, or `*`; the port is a
/// number, a range, or `*`. With a user, only that one may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePattern {
    user: Option<String>,
    address: Pattern,
}

impl FromStr for RemotePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (user, address) = match text.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, text),
        };
        let address: Pattern = address.parse()?;
        // Servers listen on addresses: a name would match none.
        if address.is_of_names() { Err(PatternError::Host) } else { Ok(Self { user, address }) }
    }
}

/// Returns the address that a request to listen names.
pub(super) fn address_of(target: &Target) -> Result<SocketAddr, Refusal> {
    match target.host {
        Host::Address(address) => Ok(SocketAddr::new(address, target.port)),
        Host::Name(_) => Err(Refusal::BadRequest),
    }
}

/// Who holds a port: a user and the key of one client, which it uses in all of its sessions.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<Arc<str>>,
    key: String,
}

impl Owner {
    /// Takes a client's key from its request.
    pub(super) fn new(user: Option<Arc<str>>, key: Option<&str>) -> Result<Self, Refusal> {
        let is_key = |key: &&str| KEY.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let key = key.filter(is_key).ok_or(Refusal::BadRequest)?.to_owned();
        Ok(Self { user, key })
    }
}

impl std::fmt::Debug for Owner {
    /// The key is a secret: it takes the port over.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Owner").field(&self.user).finish()
    }
}

/// The ports that clients listen on.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeMap<SocketAddr, Port>>);

#[derive(Debug)]
struct Port {
    owner: Owner,
    listener: Arc<TcpListener>,
    /// Tells the holder's end apart from that of one that took the port over.
    holder: u64,
    /// Notifies the holder, when it is dropped, that another session of the owner has taken the port over.
    _taken: oneshot::Sender<()>,
}

/// A port, held by one session.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) address: SocketAddr,
    pub(super) listener: Arc<TcpListener>,
    /// Ends when another session of the same owner has taken the port over.
    pub(super) taken: oneshot::Receiver<()>,
    holder: u64,
}

impl Ports {
    /// Listens on `address`, or takes it over from another session of the same owner, with what waits to be accepted.
    pub(super) fn take(&self, address: SocketAddr, owner: Owner) -> Result<Held, Refusal> {
        let mut ports = self.lock();
        let (listener, holder) = match ports.get(&address) {
            Some(port) if port.owner == owner => (port.listener.clone(), port.holder + 1),
            Some(_) => return Err(Refusal::Taken),
            None => (Arc::new(listen(address).map_err(|error| refusal_of(&error))?), 0),
        };
        let (sender, taken) = oneshot::channel();
        ports.insert(address, Port { owner, listener: listener.clone(), holder, _taken: sender });
        Ok(Held { address, listener, taken, holder })
    }

    /// Stops listening, unless another session has taken the port over.
    /// Returns whether it does.
    pub(super) fn release(&self, held: &Held) -> bool {
        let mut ports = self.lock();
        let is_holder = ports.get(&held.address).is_some_and(|port| port.holder == held.holder);
        if is_holder {
            ports.remove(&held.address);
        }
        is_holder
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Port>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::AddrInUse => Refusal::Taken,
        io::ErrorKind::PermissionDenied => Refusal::Denied,
        _ if crate::net::descriptors::are_used_up(error) => Refusal::Overloaded,
        _ => Refusal::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_permitted_by_user_and_address() {
        let patterns = ["ann@127.0.0.1:8000-8099", "0.0.0.0:80", "bob@*:9000"];
        let allow = AllowRemote::new(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect());
        for (user, address, expected) in [
            (Some("ann"), "127.0.0.1:8080", true),
            (Some("ann"), "127.0.0.1:8100", false),
            (Some("ann"), "0.0.0.0:8080", false),
            (Some("bob"), "127.0.0.1:8080", false),
            (None, "127.0.0.1:8080", false),
            (None, "0.0.0.0:80", true),
            (Some("ann"), "0.0.0.0:80", true),
            (Some("bob"), "[::]:9000", true),
        ] {
            assert_eq!(allow.permits(user, address.parse().unwrap()), expected, "{user:?} {address}");
        }
        assert!(!AllowRemote::default().permits(None, "127.0.0.1:8080".parse().unwrap()));
        for text in ["localhost:80", "*.example:80", "127.0.0.1", "ann@"] {
            assert!(text.parse::<RemotePattern>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_is_taken_over_by_its_owner_only() {
        let owner = |user: &str, key: &str| Owner::new(Some(user.into()), Some(key)).unwrap();
        let (key, other) = ("0123456789abcdef", "fedcba9876543210");
        let free = listen("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap();
        let ports = Ports::default();
        let mut first = ports.take(free, owner("ann", key)).unwrap();
        for stranger in [owner("ann", other), owner("bob", key)] {
            assert_eq!(ports.take(free, stranger).unwrap_err(), Refusal::Taken);
        }
        assert!(first.taken.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        let second = ports.take(free, owner("ann", key)).unwrap();
        assert!((&mut first.taken).await.is_err(), "the first holder is notified");
        assert!(!ports.release(&first));
        assert_eq!(ports.take(free, owner("bob", key)).unwrap_err(), Refusal::Taken, "the second holds it");
        assert!(ports.release(&second));
        drop((first, second));
        assert!(ports.take(free, owner("bob", key)).is_ok());
    }

    #[test]
    fn keys_are_long_enough_to_be_secret() {
        for key in [None, Some(""), Some("0123456789abcde"), Some("0123456789abcde!")] {
            assert_eq!(Owner::new(None, key).unwrap_err(), Refusal::BadRequest, "{key:?}");
        }
    }
}
