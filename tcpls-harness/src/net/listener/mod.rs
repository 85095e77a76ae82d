//! A server: accepting sessions, on any number of addresses.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | [`Listener`]: accepts TCP connections |
//! | `options` | limits and other options |
//! | `advertise` | which addresses a client gets, without sockets |
//! | `host` | the addresses of this host, for unspecified ones |
//! | `header` | reads the headers of load balancers |
//! | `router` | recognizes accepted TCP connections, and passes joins to their sessions, here or at another server |
//! | `farm` | the servers that know each other's tokens, and the header of a join that is passed on |
//! | `splice` | carries the bytes of such a join |
//! | `rate`, `hand_overs` | how many such joins there may be in a time; counts them |
//! | `failures`, `error` | reports of failed handshakes; errors of creating a listener |

mod advertise;
mod error;
mod failures;
mod farm;
mod hand_overs;
mod header;
mod host;
mod options;
mod rate;
mod router;
mod splice;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tcpls_core::crypto::TlsServer;
use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::{ConnectionId, ServerId};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::advertise::{Situation, at_ports, expand};
pub use self::error::ListenError;
use self::failures::Failures;
pub use self::failures::{HandOverFault, HandshakeFailure, HandshakeFailures, HandshakeFault};
pub use self::farm::Farm;
pub use self::hand_overs::HandOvers;
use self::host::HostAddresses;
pub use self::options::ServerOptions;
use self::router::Router;
use crate::net::descriptors::{DESCRIPTOR_PAUSE, are_used_up};
use crate::net::session::Session;
use crate::net::socket::{accept_fast_open, canonical};

/// TCP connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// Sessions that wait for [`Listener::accept`].
const MAX_UNACCEPTED: usize = 64;
/// The delay after an error of accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts sessions. Dropping it closes the listening sockets; accepted sessions continue with the TCP connections that
/// they have.
#[derive(Debug)]
pub struct Listener {
    addresses: Vec<SocketAddr>,
    /// Unspecified addresses of IPv4 that sockets of IPv6 serve, too.
    both: Vec<SocketAddr>,
    host: HostAddresses,
    /// Those of the options that are advertised besides, or alone.
    named: Vec<SocketAddr>,
    are_all: bool,
    sessions: mpsc::Receiver<Session>,
    tls: Arc<RwLock<Arc<dyn TlsServer>>>,
    failures: Arc<Failures>,
    acceptors: JoinSet<()>,
    /// Where other servers of the farm pass joins on; draining does not stop it.
    farm: Option<SocketAddr>,
    _farm_acceptor: JoinSet<()>,
    router: Arc<Router>,
}

/// Which TCP connections a listening socket accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entrance {
    /// Those of clients, and of load balancers.
    Clients,
    /// Those that other servers of the farm pass on.
    Peers,
}

impl Listener {
    /// Listens on all of `addresses`; port 0 selects a free one. An IPv6 address accepts only IPv6. Call it within a
    /// tokio runtime, on which sessions then run.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(addresses: &[SocketAddr], options: ServerOptions) -> Result<Self, ListenError> {
        options.validate().map_err(ListenError::Config)?;
        let listen = |address: &SocketAddr| listen(*address).map_err(|error| ListenError::Bind(*address, error));
        Self::start(addresses.iter().map(listen).collect::<Result<_, _>>()?, options)
    }

    /// Accepts on sockets that listen already, such as those that a service manager passes. Call it within a tokio runtime, on
    /// which sessions then run.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn from_sockets(sockets: Vec<std::net::TcpListener>, options: ServerOptions) -> Result<Self, ListenError> {
        options.validate().map_err(ListenError::Config)?;
        let usable = |socket: std::net::TcpListener| {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)
        };
        let listeners = sockets.into_iter().map(usable).collect::<Result<_, _>>().map_err(ListenError::Socket)?;
        Self::start(listeners, options)
    }

    fn start(listeners: Vec<TcpListener>, mut options: ServerOptions) -> Result<Self, ListenError> {
        if listeners.is_empty() {
            return Err(ListenError::NoAddress);
        }
        let addresses: Vec<SocketAddr> =
            listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(ListenError::Socket)?;
        let serves_both = |listener: &&TcpListener| {
            listener.local_addr().is_ok_and(|address| address.is_ipv6() && address.ip().is_unspecified())
                && !socket2::SockRef::from(*listener).only_v6().unwrap_or(true)
        };
        let both = listeners.iter().filter(serves_both).filter_map(|listener| listener.local_addr().ok());
        let both = both.map(|address| SocketAddr::from(([0; 4], address.port()))).collect();
        let (accepted, sessions) = mpsc::channel(MAX_UNACCEPTED);
        let tls = Arc::new(RwLock::new(options.tls.clone()));
        let failures = Arc::new(Failures::new());
        let are_all = !options.direct.is_empty();
        let named = if are_all { at_ports(&options.direct, &addresses) } else { options.advertise.clone() };
        if are_all {
            Arc::make_mut(&mut options.config).joins_at_advertised_only = true;
        }
        let passed_on = options.farm.as_ref().map(|farm| farm.listen);
        let passed_on = passed_on.map(|at| listen(at).map_err(|error| ListenError::Bind(at, error))).transpose()?;
        let farm = passed_on.as_ref().map(TcpListener::local_addr).transpose().map_err(ListenError::Socket)?;
        let router = Arc::new(Router::new(options, tls.clone(), accepted, failures.clone()));
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            if router.options().socket.fast_open {
                accept_fast_open(&listener);
            }
            acceptors.spawn(accept(listener, Entrance::Clients, router.clone()));
        }
        let mut farm_acceptor = JoinSet::new();
        passed_on
            .into_iter()
            .for_each(|listener| _ = farm_acceptor.spawn(accept(listener, Entrance::Peers, router.clone())));
        Ok(Self {
            addresses,
            both,
            host: HostAddresses::default(),
            named,
            are_all,
            sessions,
            tls,
            failures,
            acceptors,
            farm,
            _farm_acceptor: farm_acceptor,
            router,
        })
    }

    /// Returns the listening addresses, with the selected ports.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces certificates and application protocols for new handshakes, or the TLS library.
    pub fn set_tls(&self, tls: impl TlsServer + 'static) {
        let mut tls: Arc<dyn TlsServer> = Arc::new(tls);
        std::mem::swap(&mut *self.tls.write().unwrap_or_else(PoisonError::into_inner), &mut tls);
        drop(tls); // the former one, without the lock: it may be the application's
    }

    /// Replaces the secrets of tokens ([`ServerOptions::token_secrets`]). Sessions that exist go on to use the one that they
    /// began with for the tokens that they issue: keep it among the secrets until they have ended.
    pub fn set_token_secrets(&self, secrets: TokenSecrets) {
        self.router.set_secrets(secrets);
    }

    /// Returns the address at which other servers of the farm pass joins on to this one, with the selected port; `None`
    /// without [`ServerOptions::farm`].
    pub fn farm_address(&self) -> Option<SocketAddr> {
        self.farm
    }

    /// Replaces the addresses of the other servers of the farm ([`Farm::peers`]).
    pub fn set_farm_peers(&self, peers: BTreeMap<ServerId, SocketAddr>) {
        self.router.set_peers(peers);
    }

    /// Returns the counters of joins that pass between the servers of the farm; all are 0 without [`ServerOptions::farm`].
    pub fn hand_overs(&self) -> HandOvers {
        self.router.hand_overs().clone()
    }

    /// Waits for the next session whose handshake is complete, or, with [`ServerOptions::early_data`], whose early data has
    /// arrived. Handshakes that fail are reported by [`Listener::handshake_failures`]. Cancel safe.
    pub async fn accept(&mut self) -> Session {
        match self.sessions.recv().await {
            Some(session) => session,
            // The acceptors hold the other end, and they end with the listener only.
            None => std::future::pending().await,
        }
    }

    /// Advertises to the client of a session other addresses at which it can reach this server: those of
    /// [`ServerOptions::advertise`], and those that the listener listens on; with the
    /// feature `interfaces`, an unspecified one (`0.0.0.0`, `[::]`) stands for those of the host's interfaces. Link-local addresses are left out, loopback
    /// addresses unless the client is on this host, and private ones if the client has a public address; at most 8 are
    /// advertised. A client behind a load balancer ([`ServerOptions::proxy_protocol`]) gets only the former. With
    /// [`ServerOptions::direct`], those alone are advertised. No effect without TCPLS. Returns the addresses.
    ///
    /// An application that advertises addresses of its own calls [`Session::advertise`] instead.
    pub fn advertise(&self, session: &Session) -> Vec<SocketAddr> {
        let ends = (session.local_address(), session.peer_address(ConnectionId::FIRST));
        let (Some(used), Some(client), true) = (ends.0, ends.1, session.is_tcpls()) else { return Vec::new() };
        // To others, this host's own addresses lead past the load balancer, if anywhere.
        let listening = if session.is_spliced() { Vec::new() } else { self.reached_at() };
        let (named, are_all) = (&self.named[..], self.are_all);
        let situation = Situation { listening: &listening, named, are_all, used, client: client.ip() };
        let mut addresses = situation.addresses();
        // The session may have ended meanwhile; then no client needs the address.
        addresses.retain(|address| session.advertise(*address).is_ok());
        addresses
    }

    /// The addresses that the listener listens on, with those of the host in the place of unspecified ones.
    fn reached_at(&self) -> Vec<SocketAddr> {
        let is_expanded = self.addresses.iter().chain(&self.both).any(|address| address.ip().is_unspecified());
        let host = if is_expanded { self.host.get() } else { Vec::new() };
        expand(&[&self.addresses[..], &self.both].concat(), &host)
    }

    /// Stops listening, so that another process can listen on the addresses once this returns, and drains all sessions as
    /// [`Session::drain`] does, also those whose handshake is not complete. [`Listener::accept`] still returns sessions that
    /// began before; [`Listener::drained`] waits for the end of all. Not cancel safe.
    ///
    /// TCP connections that the kernel had not passed on are reset. Clients cannot join the sessions with further TCP
    /// connections, because those reach the other process: sessions keep the ones that they have. In a farm
    /// ([`ServerOptions::farm`]) the other servers pass joins on to this one as long as the listener exists.
    pub async fn drain(&mut self, limit: Duration) {
        self.acceptors.shutdown().await;
        self.router.drain(limit);
    }

    /// Waits until no session is left. Cancel safe; it does not borrow the listener.
    pub fn drained(&self) -> impl Future<Output = ()> + Send + use<> {
        let router = self.router.clone();
        async move { router.emptied().await }
    }

    /// Subscribes to handshakes that fail: of TCP connections that start a session, and joins that fail before they are
    /// authenticated. The first call also gets the last 64 earlier failures. Anyone can cause any number of
    /// them: a log needs a limit.
    pub fn handshake_failures(&self) -> HandshakeFailures {
        self.failures.subscribe()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, entrance: Entrance, router: Arc<Router>) {
    loop {
        while !router.account().has_room() {
            tokio::time::sleep(DESCRIPTOR_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                router.options().socket.apply(&stream);
                let from = canonical(from);
                // Not in the task, because tasks may start in another order than that in which they are spawned.
                match entrance {
                    Entrance::Clients => {
                        let newcomer = router.enter(from);
                        tokio::spawn(router.clone().receive(stream, newcomer));
                    }
                    Entrance::Peers if router.is_peer(from.ip()) => {
                        let newcomer = router.enter_from_peer(from);
                        tokio::spawn(router.clone().receive_from_peer(stream, newcomer));
                    }
                    Entrance::Peers => router.refuse_stranger(stream, from),
                }
            }
            // The descriptor is free only a moment later.
            Err(error) if are_used_up(&error) && router.account().free_descriptor() => {
                tokio::time::sleep(DESCRIPTOR_PAUSE).await;
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}
