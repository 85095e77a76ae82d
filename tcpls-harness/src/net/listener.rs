//! Accepting sessions, on any number of addresses, and bringing joins to the session they belong to.
//!
//! Each accepted TCP connection has a task of its own until its ClientHello has come: then it is the first of a new
//! session, or is handed to the session whose token it shows. How many may be in that state, and for how long, is bounded
//! by the endpoint's configuration.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::budget::{Client, Limits, Resource};
use tcpls_core::config::Config;
use tcpls_core::connection::Connection;
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming, IncomingId, Join, NewSession};
use tcpls_core::error::{AlertDescription, ConfigError};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::account::{Account, Holding, Place};
use super::claims::ClaimPlace;
use super::descriptors::{DESCRIPTOR_PAUSE, are_used_up};
use super::driver::Driver;
use super::error::ListenError;
use super::failures::{Failures, HandshakeFailures, HandshakeFault};
use super::handle::Handle;
use super::os::{instant, now, random, seed};
use super::reports::{self, Reports};
use super::session::Session;
use super::shared::{Input, Shared};
use super::socket::{Socket, SocketOptions, reset};

/// TCP connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// Sessions that wait for [`Listener::accept`].
const MAX_UNACCEPTED: usize = 64;
/// The pause after the operating system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client that is refused may take to read the alert.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Refused TCP connections that linger for [`REFUSAL_TIMEOUT`], by default.
const MAX_REFUSALS: usize = 256;

/// The least that [`ServerOptions::max_memory`] may be: less than a session with its buffers would be evicted at once.
const MIN_MEMORY: u64 = 1 << 20;

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
    /// Sessions that may exist at the same time, stranded ones included. Beyond that, the
    /// rules of [`tcpls_core::budget`] choose one to close. At least 1.
    pub max_sessions: usize,
    /// Sessions whose handshake is not over; they count as sessions, too. Beyond that, one of them is reset. At least 1.
    pub max_handshakes: usize,
    /// Joins that are not authenticated yet, of all sessions. Beyond that, one of them is reset. At least 1.
    pub max_claims: usize,
    /// Bytes of memory that all sessions may hold together, as they estimate it themselves
    /// ([`Connection::memory`]); memory of the kernel and of applications is not in it. Beyond that, sessions are
    /// closed by the same rules.
    pub max_memory: u64,
    /// Sockets that may be open at the same time. It should be well below the operating system's limit of file descriptors:
    /// refused TCP connections that linger and the application's files need some, too.
    pub max_descriptors: usize,
    /// Addresses of proxies: sessions from there do not count as one client's.
    pub trusted_proxies: Vec<IpAddr>,
    /// Refused TCP connections that get a second to read the reason; others are reset at once.
    pub max_refusals: usize,
}

impl ServerOptions {
    /// Defaults for everything else; at most 10,000 sessions, 1024 of them in their handshake, 1 GiB of memory.
    pub fn new(tls: RustlsServer) -> Self {
        Self {
            tls,
            config: Arc::default(),
            endpoint: EndpointConfig::default(),
            socket: SocketOptions::default(),
            max_sessions: 10_000,
            max_handshakes: 1024,
            max_claims: 1024,
            max_memory: 1 << 30,
            max_descriptors: usize::MAX,
            trusted_proxies: Vec::new(),
            max_refusals: MAX_REFUSALS,
        }
    }

    /// Whether these options can work. [`Listener::bind`] asks it.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.config.validate()?;
        self.endpoint.validate()?;
        self.socket.validate()?;
        ConfigError::at_least("max_sessions", self.max_sessions as u64, 1, "session")?;
        ConfigError::at_least("max_handshakes", self.max_handshakes as u64, 1, "session")?;
        ConfigError::at_least("max_claims", self.max_claims as u64, 1, "TCP connection")?;
        ConfigError::at_least("max_memory", self.max_memory, MIN_MEMORY, "bytes")?;
        ConfigError::at_least("max_descriptors", self.max_descriptors as u64, 1, "socket")
    }

    /// The limits of the account. None is 0: a newcomer must have a place to be judged by.
    fn limits(&self) -> Limits {
        let limit = |count: usize| count.max(1) as u64;
        Limits::UNLIMITED
            .with(Resource::Memory, self.max_memory)
            .with(Resource::Descriptors, limit(self.max_descriptors))
            .with(Resource::Pending, limit(self.endpoint.max_pending))
            .with(Resource::Handshakes, limit(self.max_handshakes))
            .with(Resource::Sessions, limit(self.max_sessions))
            .with(Resource::Claims, limit(self.max_claims))
    }
}

/// Accepts sessions. Dropping it closes the addresses that it listens on; sessions that were accepted go on, with the TCP
/// connections they have.
#[derive(Debug)]
pub struct Listener {
    addresses: Vec<SocketAddr>,
    sessions: mpsc::Receiver<Session>,
    tls: Arc<RwLock<RustlsServer>>,
    failures: Arc<Failures>,
    _acceptors: JoinSet<()>,
}

impl Listener {
    /// Listens on all of `addresses`; port 0 takes a free one. An IPv6 address takes IPv6 only. To be called within a
    /// tokio runtime, which sessions then run on.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(addresses: &[SocketAddr], options: ServerOptions) -> Result<Self, ListenError> {
        options.validate().map_err(ListenError::Config)?;
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
        let failures = Arc::new(Failures::new());
        let router = Arc::new(Router::new(options, tls.clone(), accepted, failures.clone()));
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(listener, router.clone()));
        }
        Ok(Self { addresses, sessions, tls, failures, _acceptors: acceptors })
    }

    /// The addresses that are listened on, with the ports that were taken.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces certificates and application protocols, for handshakes that begin from now on.
    pub fn set_tls(&self, tls: RustlsServer) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    /// The next session whose handshake is over. Handshakes that fail are reported by [`Listener::handshake_failures`].
    /// Cancel safe.
    pub async fn accept(&mut self) -> Session {
        match self.sessions.recv().await {
            Some(session) => session,
            // The acceptors hold the other end, and they end with the listener only.
            None => std::future::pending().await,
        }
    }

    /// Subscribes to handshakes that fail: of TCP connections that start a session, and joins that this listener turns away
    /// before their session judges them. The first call also gets the last 64 earlier failures. Anyone can cause any number of
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

async fn accept(listener: TcpListener, router: Arc<Router>) {
    loop {
        while !router.account.has_room() {
            tokio::time::sleep(DESCRIPTOR_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                router.options.socket.apply(&stream);
                // Here and not in the task: tasks need not start in the order in which they are spawned.
                let newcomer = Newcomer::enter(&router.account, from);
                tokio::spawn(router.clone().receive(stream, newcomer));
            }
            // It takes a moment until the descriptor is free.
            Err(error) if are_used_up(&error) && router.account.free_descriptor() => {
                tokio::time::sleep(DESCRIPTOR_PAUSE).await;
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
    account: Arc<Account>,
    failures: Arc<Failures>,
    /// One permit for each refused TCP connection that may linger.
    refusals: Semaphore,
    desk: Mutex<Desk>,
}

struct Desk {
    endpoint: Endpoint,
    /// Where to tell a TCP connection that the endpoint has lost its patience with it.
    pending: BTreeMap<IncomingId, oneshot::Sender<Vec<u8>>>,
    sessions: BTreeMap<SessionId, Weak<Shared>>,
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
    fn new(
        options: ServerOptions,
        tls: Arc<RwLock<RustlsServer>>,
        accepted: mpsc::Sender<Session>,
        failures: Arc<Failures>,
    ) -> Self {
        // The account bounds what is pending, and needs a moment to carry that out. The endpoint's own bound is for those
        // who have no account.
        let max_pending = options.endpoint.max_pending.saturating_mul(2);
        let endpoint = Endpoint::new(EndpointConfig { max_pending, ..options.endpoint.clone() }, random(), seed());
        let desk = Desk { endpoint, pending: BTreeMap::new(), sessions: BTreeMap::new() };
        let refusals = Semaphore::new(options.max_refusals);
        let account = Account::new(options.limits(), options.trusted_proxies.clone());
        Self { options, tls, accepted, account, failures, refusals, desk: Mutex::new(desk) }
    }

    /// As with [`Shared`], a panic elsewhere is no reason for a second one.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a ClientHello and does what it asks for.
    async fn receive(self: Arc<Self>, mut stream: TcpStream, newcomer: Newcomer) {
        let mut input = BytesMut::with_capacity(4096);
        let origin = newcomer.origin;
        match self.recognise(&mut stream, &mut input, newcomer).await {
            Recognised::As(Incoming::New(session)) => self.start(session, stream, input, origin).await,
            Recognised::As(Incoming::Join(join)) => self.join(join, stream, input, origin).await,
            Recognised::As(Incoming::Refused { alert }) => {
                self.failures.report(origin.address, self.fault_of(&alert, origin));
                self.refuse(stream, &alert).await;
            }
            Recognised::InTheWay => {
                self.failures.report(origin.address, HandshakeFault::Evicted(Resource::Descriptors));
                reset(stream);
            }
            Recognised::Ended => {
                self.failures.report(origin.address, HandshakeFault::Ended { received: input.len() });
            }
        }
    }

    /// Why a TCP connection is refused with these alerts.
    fn fault_of(&self, alert: &[u8], origin: Origin) -> HandshakeFault {
        if alert != Endpoint::refuse_crowded() {
            return HandshakeFault::Refused(AlertDescription(alert.last().copied().unwrap_or_default()));
        }
        let is_overdue = now() >= origin.accepted + self.options.endpoint.hello_timeout;
        if is_overdue { HandshakeFault::HelloTimeout } else { HandshakeFault::Evicted(Resource::Pending) }
    }

    /// What the TCP connection is.
    async fn recognise(&self, stream: &mut TcpStream, input: &mut BytesMut, mut newcomer: Newcomer) -> Recognised {
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
            let news = {
                let mut read = pin!(stream.read_buf(input));
                let mut sleep = pin!(tokio::time::sleep_until(instant(deadline).into()));
                poll_fn(|cx| {
                    if let Poll::Ready(short) = Pin::new(&mut newcomer.in_the_way).poll(cx) {
                        return Poll::Ready(News::InTheWay(short.ok()));
                    }
                    if let Poll::Ready(alert) = Pin::new(&mut refused).poll(cx) {
                        return Poll::Ready(News::Refused(alert.ok()));
                    }
                    if sleep.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(News::Deadline);
                    }
                    read.as_mut().poll(cx).map(News::Read)
                })
                .await
            };
            match news {
                News::Read(Ok(len)) if len > 0 => {
                    if let Some(recognised) = self.desk().endpoint.handle_bytes(now(), incoming, input) {
                        return Recognised::As(recognised);
                    }
                }
                News::Read(_) | News::Refused(None) => return Recognised::Ended,
                News::Refused(Some(alert)) => return Recognised::As(Incoming::Refused { alert }),
                News::Deadline => {
                    let desk = &mut *self.desk();
                    desk.endpoint.handle_timeout(now());
                    desk.tell_refused();
                }
                News::InTheWay(Some(Resource::Pending | Resource::Memory)) => {
                    return Recognised::As(Incoming::Refused { alert: Endpoint::refuse_crowded() });
                }
                News::InTheWay(_) => return Recognised::InTheWay,
            }
        }
    }

    /// Starts a session, and has it accepted once its handshake is over.
    async fn start(self: Arc<Self>, new: NewSession, stream: TcpStream, input: BytesMut, origin: Origin) {
        let id = new.id();
        let Some(shared) = self.open(new) else { return reset(stream) };
        let place = self.account.enter(origin.client, Holding::Session(Arc::downgrade(&shared)), &reports::FIRST);
        shared.drive(|state| (state.client, state.account) = (origin.client, Some(self.account.clone())));
        let session = Session::new(Handle::new(shared.clone()));
        let driver = Driver::new(shared, ConnectionId::FIRST, Socket::new(stream, input));
        let driver = driver.reporting(Reports::new(place, now()));
        let router = self.clone();
        tokio::spawn(async move {
            driver.run().await;
            router.desk().sessions.remove(&id);
        });
        match session.wait_established().await {
            // It fails when the listener is gone; the session is closed then.
            Ok(()) => _ = self.accepted.send(session).await,
            Err(reason) => self.failures.report(origin.address, HandshakeFault::Session(reason)),
        }
    }

    /// A session's shared part, in the register; `None` if TLS can't be used.
    fn open(&self, new: NewSession) -> Option<Arc<Shared>> {
        let id = new.id();
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).handshake().ok()?;
        let conn = Connection::server(now(), self.options.config.clone(), tls, new, seed());
        let shared = Shared::new(conn, None);
        self.desk().sessions.insert(id, Arc::downgrade(&shared));
        Some(shared)
    }

    /// Hands a TCP connection to the session whose token it shows.
    async fn join(&self, join: Join, stream: TcpStream, input: BytesMut, origin: Origin) {
        let session = self.desk().sessions.get(&join.session()).and_then(Weak::upgrade);
        match session {
            Some(session) => {
                let place = ClaimPlace::new(&self.account, origin.client, &session);
                let has_ended = session.drive(|state| {
                    let has_ended = state.has_task_ended();
                    if has_ended {
                        reset(stream);
                    } else {
                        state.inbox.push(Input::Join(stream, join, input, place));
                        state.wake_task();
                    }
                    has_ended
                });
                if has_ended {
                    self.failures.report(origin.address, HandshakeFault::NoSession);
                }
            }
            None => {
                self.failures.report(origin.address, HandshakeFault::NoSession);
                self.refuse(stream, &Endpoint::refuse_join(&join)).await;
            }
        }
    }

    /// Sends the reason, unless too many refused clients are reading theirs.
    async fn refuse(&self, stream: TcpStream, alert: &[u8]) {
        match self.refusals.try_acquire() {
            Ok(_permit) => refuse(stream, alert).await,
            Err(_) => reset(stream),
        }
    }
}

/// Where a TCP connection came from, and when.
#[derive(Clone, Copy)]
struct Origin {
    address: SocketAddr,
    /// Whose share of the account it is part of.
    client: Client,
    accepted: Time,
}

/// A TCP connection whose ClientHello has not come, in the account.
struct Newcomer {
    origin: Origin,
    /// What is short, if it has to give way.
    in_the_way: oneshot::Receiver<Resource>,
    _place: Place,
}

impl Newcomer {
    fn enter(account: &Arc<Account>, from: SocketAddr) -> Self {
        let origin = Origin { address: from, client: account.client(from.ip()), accepted: now() };
        let (give_way, in_the_way) = oneshot::channel();
        let held = [(Resource::Pending, 1), (Resource::Descriptors, 1), (Resource::Memory, reports::PENDING_MEMORY)];
        Self { origin, in_the_way, _place: account.enter(origin.client, Holding::Pending(give_way), &held) }
    }
}

/// What a TCP connection waits for whose ClientHello is not complete.
enum News {
    Read(io::Result<usize>),
    /// The endpoint may refuse it now.
    Deadline,
    /// The endpoint refuses it, with this alert.
    Refused(Option<Vec<u8>>),
    /// The account needs what it holds.
    InTheWay(Option<Resource>),
}

/// What has become of a TCP connection whose ClientHello was waited for.
enum Recognised {
    As(Incoming),
    /// It ended before that was clear.
    Ended,
    /// Its descriptor is needed elsewhere.
    InTheWay,
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
        io::Result::Ok(())
    };
    _ = tokio::time::timeout(REFUSAL_TIMEOUT, farewell).await;
}
