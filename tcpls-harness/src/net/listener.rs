//! Accepting sessions, on any number of addresses, and bringing joins to the session they belong to.
//!
//! Each accepted TCP connection has a task of its own until its ClientHello has come: then it is the first of a new
//! session, or is handed to the session whose token it shows. How many may be in that state, and for how long, is bounded
//! by the endpoint's configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming, IncomingId, Join, NewSession};
use tcpls_core::wire::ids::{ConnectionId, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::driver::Driver;
use super::error::ListenError;
use super::handle::Handle;
use super::os::{instant, now, random, seed};
use super::session::Session;
use super::shared::{Input, Shared};
use super::socket::{Socket, SocketOptions, reset};

/// TCP connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// Sessions that wait for [`Listener::accept`].
const MAX_UNACCEPTED: usize = 64;
/// The pause after the operating system refused to accept, for want of file descriptors perhaps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client that is refused may take to read the alert.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Refused TCP connections that linger for [`REFUSAL_TIMEOUT`], by default.
const MAX_REFUSALS: usize = 256;

/// How a server accepts sessions.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Certificates and application protocols.
    pub tls: RustlsServer,
    /// Bounds and timeouts of each session.
    pub config: Arc<Config>,
    /// Bounds on TCP connections whose ClientHello has not come.
    pub endpoint: EndpointConfig,
    /// How sockets are tuned.
    pub socket: SocketOptions,
    /// Sessions that may exist at the same time; TCP connections that would start more are closed.
    pub max_sessions: usize,
    /// Sessions whose handshake is not over; they count as sessions, too. One more, and the oldest of them is reset: it may
    /// be a client that is in no hurry on purpose. At least 1.
    pub max_handshakes: usize,
    /// TCP connections that were refused and are given a second to read why; more are reset at once.
    pub max_refusals: usize,
}

impl ServerOptions {
    /// Defaults for everything else; at most 10,000 sessions, 1024 of them in their handshake.
    pub fn new(tls: RustlsServer) -> Self {
        Self {
            tls,
            config: Arc::default(),
            endpoint: EndpointConfig::default(),
            socket: SocketOptions::default(),
            max_sessions: 10_000,
            max_handshakes: 1024,
            max_refusals: MAX_REFUSALS,
        }
    }
}

/// Accepts sessions. Dropping it closes the addresses that it listens on; sessions that were accepted go on, with the TCP
/// connections they have.
#[derive(Debug)]
pub struct Listener {
    addresses: Vec<SocketAddr>,
    sessions: mpsc::Receiver<Session>,
    tls: Arc<RwLock<RustlsServer>>,
    _acceptors: JoinSet<()>,
}

impl Listener {
    /// Listens on all of `addresses`; port 0 takes a free one. An IPv6 address takes IPv6 only. To be called within a
    /// tokio runtime, which sessions then run on.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(addresses: &[SocketAddr], options: ServerOptions) -> Result<Self, ListenError> {
        let listeners: Vec<TcpListener> = addresses
            .iter()
            .map(|address| listen(*address).map_err(|error| ListenError::Bind(*address, error)))
            .collect::<Result<_, _>>()?;
        let bound: Result<Vec<SocketAddr>, _> = listeners.iter().map(TcpListener::local_addr).collect();
        let addresses = match (bound, addresses.first()) {
            (_, None) => return Err(ListenError::NoAddress),
            (Err(error), Some(first)) => return Err(ListenError::Bind(*first, error)),
            (Ok(bound), _) => bound,
        };
        let (accepted, sessions) = mpsc::channel(MAX_UNACCEPTED);
        let tls = Arc::new(RwLock::new(options.tls.clone()));
        let router = Arc::new(Router::new(options, tls.clone(), accepted));
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(listener, router.clone()));
        }
        Ok(Self { addresses, sessions, tls, _acceptors: acceptors })
    }

    /// The addresses that are listened on, with the ports that were taken.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces certificates and application protocols, for handshakes that begin from now on.
    pub fn set_tls(&self, tls: RustlsServer) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// The next session whose handshake is over. Handshakes that fail are not heard of.
    pub async fn accept(&mut self) -> Session {
        match self.sessions.recv().await {
            Some(session) => session,
            // The acceptors hold the other end, and they end with the listener only.
            None => std::future::pending().await,
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, router: Arc<Router>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                router.options.socket.apply(&stream);
                tokio::spawn(router.clone().receive(stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Knows what accepted TCP connections are, and where sessions live.
struct Router {
    options: ServerOptions,
    /// The options' configuration, or what replaced it.
    tls: Arc<RwLock<RustlsServer>>,
    accepted: mpsc::Sender<Session>,
    /// One permit for each refused TCP connection that may linger.
    refusals: Semaphore,
    desk: Mutex<Desk>,
}

struct Desk {
    endpoint: Endpoint,
    /// Where to tell a TCP connection that the endpoint has lost its patience with it.
    pending: BTreeMap<IncomingId, oneshot::Sender<Vec<u8>>>,
    sessions: BTreeMap<SessionId, Weak<Shared>>,
    /// Those whose handshake is not over, the oldest first; `next` numbers them.
    handshaking: BTreeMap<u64, Weak<Shared>>,
    next: u64,
}

impl Desk {
    /// Passes on whom the endpoint refuses by itself.
    fn tell_refused(&mut self) {
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            if let Some(refused) = self.pending.remove(&incoming) {
                _ = refused.send(alert);
            }
        }
    }
}

impl Router {
    fn new(options: ServerOptions, tls: Arc<RwLock<RustlsServer>>, accepted: mpsc::Sender<Session>) -> Self {
        let endpoint = Endpoint::new(options.endpoint.clone(), random(), seed());
        let desk = Desk {
            endpoint,
            pending: BTreeMap::new(),
            sessions: BTreeMap::new(),
            handshaking: BTreeMap::new(),
            next: 0,
        };
        let refusals = Semaphore::new(options.max_refusals);
        Self { options, tls, accepted, refusals, desk: Mutex::new(desk) }
    }

    /// As with [`Shared`], a panic elsewhere is no reason for a second one.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a ClientHello and does what it asks for.
    async fn receive(self: Arc<Self>, mut stream: TcpStream) {
        let mut input = BytesMut::with_capacity(4096);
        match self.recognise(&mut stream, &mut input).await {
            Some(Incoming::New(session)) => self.start(session, stream, input).await,
            Some(Incoming::Join(join)) => self.join(join, stream, input).await,
            Some(Incoming::Refused { alert }) => self.refuse(stream, &alert).await,
            None => {}
        }
    }

    /// What the TCP connection is; `None` if it ended before that was clear.
    async fn recognise(&self, stream: &mut TcpStream, input: &mut BytesMut) -> Option<Incoming> {
        let (sender, mut refused) = oneshot::channel();
        let (incoming, deadline) = {
            let desk = &mut *self.desk();
            let incoming = desk.endpoint.handle_accepted(now());
            desk.pending.insert(incoming, sender);
            desk.tell_refused();
            (incoming, now() + self.options.endpoint.hello_timeout)
        };
        let _settled = Settled { router: self, incoming };
        loop {
            input.reserve(2048);
            tokio::select! {
                read = stream.read_buf(input) => {
                    if !matches!(read, Ok(len) if len > 0) {
                        return None;
                    }
                    let recognised = self.desk().endpoint.handle_bytes(now(), incoming, input);
                    if recognised.is_some() {
                        return recognised;
                    }
                }
                () = tokio::time::sleep_until(instant(deadline).into()) => {
                    let desk = &mut *self.desk();
                    desk.endpoint.handle_timeout(now());
                    desk.tell_refused();
                }
                alert = &mut refused => return alert.ok().map(|alert| Incoming::Refused { alert }),
            }
        }
    }

    /// Starts a session, and has it accepted once its handshake is over.
    async fn start(self: Arc<Self>, new: NewSession, stream: TcpStream, input: BytesMut) {
        let id = new.id();
        let Some(shared) = self.open(new) else { return reset(stream) };
        let handshake = self.enlist(&shared);
        let session = Session::new(Handle::new(shared.clone()));
        let driver = Driver::new(shared, ConnectionId::FIRST, Socket::new(stream, input));
        let router = self.clone();
        tokio::spawn(async move {
            driver.run().await;
            router.desk().sessions.remove(&id);
        });
        let outcome = session.wait_established().await;
        self.desk().handshaking.remove(&handshake);
        if outcome.is_ok() {
            // It fails when the listener is gone; the session is closed then.
            _ = self.accepted.send(session).await;
        }
    }

    /// Counts a handshake that has begun; the oldest is given up if there are too many.
    fn enlist(&self, shared: &Arc<Shared>) -> u64 {
        let (handshake, given_up) = {
            let desk = &mut *self.desk();
            let full = desk.handshaking.len() >= self.options.max_handshakes.max(1);
            let given_up = if full { desk.handshaking.pop_first() } else { None };
            desk.next += 1;
            desk.handshaking.insert(desk.next, Arc::downgrade(shared));
            (desk.next, given_up)
        };
        if let Some(oldest) = given_up.and_then(|(_, oldest)| oldest.upgrade()) {
            oldest.drive(|state| {
                if state.established().is_none() {
                    state.inbox.push(Input::Reset(ConnectionId::FIRST));
                    state.wake_task();
                }
            });
        }
        handshake
    }

    /// A session's shared part, in the register; `None` if there are too many or TLS can't be used.
    fn open(&self, new: NewSession) -> Option<Arc<Shared>> {
        let id = new.id();
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).handshake().ok()?;
        let desk = &mut *self.desk();
        if desk.sessions.len() >= self.options.max_sessions {
            return None;
        }
        let conn = Connection::server(now(), self.options.config.clone(), tls, new, seed());
        let shared = Shared::new(conn, None);
        desk.sessions.insert(id, Arc::downgrade(&shared));
        Some(shared)
    }

    /// Hands a TCP connection to the session whose token it shows.
    async fn join(&self, join: Join, stream: TcpStream, input: BytesMut) {
        let session = self.desk().sessions.get(&join.session()).and_then(Weak::upgrade);
        match session {
            Some(session) => session.drive(|state| {
                state.inbox.push(Input::Join(stream, join, input));
                state.wake_task();
            }),
            None => self.refuse(stream, &Endpoint::refuse_join(&join)).await,
        }
    }

    /// Says why, if not too many hear that already.
    async fn refuse(&self, stream: TcpStream, alert: &[u8]) {
        match self.refusals.try_acquire() {
            Ok(_permit) => refuse(stream, alert).await,
            Err(_) => reset(stream),
        }
    }
}

/// Takes a TCP connection off the desk when it is decided what it is, or when its task ends.
struct Settled<'a> {
    router: &'a Router,
    incoming: IncomingId,
}

impl Drop for Settled<'_> {
    fn drop(&mut self) {
        let desk = &mut *self.router.desk();
        desk.endpoint.handle_end(self.incoming);
        desk.pending.remove(&self.incoming);
    }
}

/// Says why, and waits for the client to close, so that it can read that.
async fn refuse(mut stream: TcpStream, alert: &[u8]) {
    let farewell = async {
        stream.write_all(alert).await?;
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    _ = tokio::time::timeout(REFUSAL_TIMEOUT, farewell).await;
}
