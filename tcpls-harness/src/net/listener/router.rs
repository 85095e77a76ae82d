//! Recognizes accepted TCP connections, and keeps the register of sessions.
//!
//! Each accepted TCP connection has a task of its own until its ClientHello is complete. Then it is the first of a new
//! session, or is passed to the session whose token it presents. The endpoint's configuration bounds the number of such
//! tasks, and their time.

mod farm;
mod newcomer;

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::task::Poll;
use std::time::Duration;
use std::{fmt, io};

use bytes::BytesMut;
use tcpls_core::budget::{Client, Resource};
use tcpls_core::connection::Connection;
use tcpls_core::crypto::TlsServer;
use tcpls_core::endpoint::{Endpoint, Incoming, IncomingId, Join, NewSession};
use tcpls_core::error::{AlertDescription, CloseReason, HandshakeError};
use tcpls_core::time::Time;
use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::{ConnectionId, ServerId, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use self::newcomer::{Newcomer, Origin};
use super::failures::{Failures, HandOverFault, HandshakeFault, JoinReports};
use super::hand_overs::HandOvers;
use super::header;
use super::options::ServerOptions;
use super::rate::Pace;
use crate::net::account::reports::{self, Reports};
use crate::net::account::{Account, Holding};
use crate::net::os::{instant, now, random, seed};
use crate::net::record::Record;
use crate::net::session::{Handle, Monitor, Session, SessionClosed, Shared};
use crate::net::sinks;
use crate::net::socket::{Socket, Splice, reset};
use crate::net::task::{ClaimPlace, Delivery, Driver, Mailbox};

/// How long a client that is refused may take to read the alert.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Knows what accepted TCP connections are, and where sessions live.
pub(super) struct Router {
    options: ServerOptions,
    /// The options' configuration, or what replaced it.
    tls: Arc<RwLock<Arc<dyn TlsServer>>>,
    accepted: mpsc::Sender<Session>,
    account: Arc<Account>,
    failures: Arc<Failures>,
    /// One permit for each refused TCP connection that may linger.
    refusals: Semaphore,
    desk: Mutex<Desk>,
    /// As the endpoint has them.
    secrets: RwLock<TokenSecrets>,
    /// Where the other servers of the farm are.
    peers: RwLock<Arc<BTreeMap<ServerId, SocketAddr>>>,
    /// TCP connections that pass between them and this one.
    hand_overs: HandOvers,
    pace: Mutex<Pace>,
    /// Notified when a session has ended.
    left: Notify,
}

struct Desk {
    endpoint: Endpoint,
    /// New sessions are drained, too: until when.
    drained_by: Option<Time>,
    /// Where to notify a TCP connection that the endpoint refuses.
    pending: BTreeMap<IncomingId, oneshot::Sender<Vec<u8>>>,
    sessions: BTreeMap<SessionId, Weak<Mailbox>>,
}

impl Desk {
    /// Passes on the TCP connections that the endpoint refuses without a call.
    fn tell_refused(&mut self) {
        while let Some((incoming, alert)) = self.endpoint.poll_refused() {
            if let Some(refused) = self.pending.remove(&incoming) {
                _ = refused.send(alert);
            }
        }
    }
}

impl Router {
    pub(super) fn new(
        options: ServerOptions,
        tls: Arc<RwLock<Arc<dyn TlsServer>>>,
        accepted: mpsc::Sender<Session>,
        failures: Arc<Failures>,
    ) -> Self {
        // The account bounds what is pending, and needs a moment to carry that out. The endpoint's own bound is for those
        // who have no account.
        let max_pending = options.endpoint.max_pending.saturating_mul(2);
        let farm = options.farm.as_ref();
        let config = options.endpoint.clone().with(|endpoint| {
            endpoint.max_pending = max_pending;
            endpoint.server = farm.map(|farm| farm.server).or(endpoint.server);
        });
        let secrets = options.token_secrets.clone().unwrap_or_else(|| TokenSecrets::new(random()));
        let peers = farm.map(|farm| farm.peers.clone()).unwrap_or_default();
        let mut endpoint = Endpoint::new(config, random(), seed());
        endpoint.set_secrets(secrets.clone());
        let desk = Desk { endpoint, drained_by: None, pending: BTreeMap::new(), sessions: BTreeMap::new() };
        let refusals = Semaphore::new(options.max_refusals);
        let account = Account::new(options.limits(), options.trusted_proxies.clone());
        let pace = Pace::new(options.client_hand_over_rate, options.hand_over_rate);
        Self {
            options,
            tls,
            accepted,
            account,
            failures,
            refusals,
            desk: Mutex::new(desk),
            secrets: RwLock::new(secrets),
            peers: RwLock::new(Arc::new(peers)),
            hand_overs: HandOvers::default(),
            pace: Mutex::new(pace),
            left: Notify::new(),
        }
    }

    pub(super) fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// Replaces the secrets of tokens.
    pub(super) fn set_secrets(&self, secrets: TokenSecrets) {
        let mut desk = self.desk();
        desk.endpoint.set_secrets(secrets.clone());
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    fn secrets(&self) -> TokenSecrets {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the addresses of the other servers of the farm.
    pub(super) fn set_peers(&self, peers: BTreeMap<ServerId, SocketAddr>) {
        *self.peers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(peers);
    }

    fn peers(&self) -> Arc<BTreeMap<ServerId, SocketAddr>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters of joins that pass between servers.
    pub(super) fn hand_overs(&self) -> &HandOvers {
        &self.hand_overs
    }

    /// What all that it knows holds together.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// As with [`Shared`], a panic elsewhere is no reason for a second one.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes room for a TCP connection from this address, which has been accepted.
    pub(super) fn enter(&self, from: SocketAddr) -> Newcomer {
        let address = from.ip().to_canonical();
        if self.options.proxy_protocol.iter().any(|network| network.contains(address)) {
            return Newcomer::enter(&self.account, from, Client::ALONE, Some(Splice { ends: None }));
        }
        Newcomer::enter(&self.account, from, self.account.client(address), None)
    }

    /// Drains all sessions, and those that begin later.
    pub(super) fn drain(&self, limit: Duration) {
        let sessions: Vec<Arc<Mailbox>> = {
            let desk = &mut *self.desk();
            desk.drained_by = Some(now() + limit);
            desk.sessions.values().filter_map(Weak::upgrade).collect()
        };
        sessions.iter().for_each(|mailbox| mailbox.shared().drain(limit));
    }

    /// Waits until there is no session.
    pub(super) async fn emptied(&self) {
        loop {
            let mut left = pin!(self.left.notified());
            left.as_mut().enable();
            if self.desk().sessions.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Reads a ClientHello and handles it.
    pub(super) async fn receive(self: Arc<Self>, mut stream: TcpStream, mut newcomer: Newcomer) {
        let mut input = BytesMut::with_capacity(4096);
        if newcomer.origin.splice.is_some() {
            let limit = self.deadline(newcomer.origin) - now();
            match header::take(&mut stream, &mut input, &mut newcomer.in_the_way, limit).await {
                // A peer's address is one for clients here: passed on again, it could come back without end.
                Ok(taken) if taken.tag.is_some() => {
                    self.failures.report(newcomer.origin.address, HandOverFault::Misdirected.into());
                    return reset(stream);
                }
                Ok(taken) => newcomer = newcomer.named(&self.account, taken.ends),
                Err(fault) => {
                    self.failures.report(newcomer.origin.address, fault);
                    return reset(stream);
                }
            }
        }
        let origin = newcomer.origin;
        match self.recognise(&mut stream, &mut input, newcomer).await {
            Recognised::As(Incoming::New(session)) => self.start(session, stream, input, origin).await,
            Recognised::As(Incoming::Join(join)) => self.join(join, stream, input, origin).await,
            Recognised::As(Incoming::Foreign(join)) => self.hand_over(join, stream, input, origin).await,
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

    /// When the ClientHello has to be complete, and the header of a load balancer in front of it.
    fn deadline(&self, origin: Origin) -> Time {
        origin.accepted + self.options.endpoint.hello_timeout
    }

    /// Why a TCP connection is refused with these alerts.
    fn fault_of(&self, alert: &[u8], origin: Origin) -> HandshakeFault {
        if alert != Endpoint::refuse_crowded() {
            return HandshakeFault::Refused(AlertDescription(alert.last().copied().unwrap_or_default()));
        }
        if now() >= self.deadline(origin) {
            HandshakeFault::HelloTimeout
        } else {
            HandshakeFault::Evicted(Resource::Pending)
        }
    }

    /// Recognizes the TCP connection.
    async fn recognise(&self, stream: &mut TcpStream, input: &mut BytesMut, mut newcomer: Newcomer) -> Recognised {
        let (sender, mut refused) = oneshot::channel();
        let deadline = self.deadline(newcomer.origin);
        let incoming = {
            let desk = &mut *self.desk();
            let incoming = desk.endpoint.handle_accepted(now());
            desk.pending.insert(incoming, sender);
            desk.tell_refused();
            incoming
        };
        let _settled = Settled { router: self, incoming };
        // What arrived together with the header of a load balancer.
        if !input.is_empty()
            && let Some(recognised) = self.desk().endpoint.handle_bytes(now(), incoming, input)
        {
            return Recognised::As(recognised);
        }
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
                // The endpoint does not know how long a load balancer took for its header.
                News::Deadline => return Recognised::As(Incoming::Refused { alert: Endpoint::refuse_crowded() }),
                News::InTheWay(Some(Resource::Pending | Resource::Memory)) => {
                    return Recognised::As(Incoming::Refused { alert: Endpoint::refuse_crowded() });
                }
                News::InTheWay(_) => return Recognised::InTheWay,
            }
        }
    }

    /// Starts a session, and has it accepted once its handshake is complete.
    async fn start(self: Arc<Self>, new: NewSession, stream: TcpStream, input: BytesMut, origin: Origin) {
        let id = new.id();
        let shared = match self.session(new, origin) {
            Ok(shared) => shared,
            Err(error) => {
                self.failures.report(origin.address, HandshakeFault::Session(CloseReason::Handshake(error)));
                return reset(stream);
            }
        };
        let place = self.account.enter(origin.client, Holding::Session(Arc::downgrade(&shared)), &reports::FIRST);
        shared.drive(|state| {
            state.client = origin.client;
            state.is_spliced = origin.splice.is_some();
            state.descriptors = Some(self.account.clone());
        });
        let session = Session::new(Handle::new(shared.clone()));
        let driver = Driver::new(shared, ConnectionId::FIRST, Socket::new(stream, input).spliced(origin.splice));
        let driver = driver.reporting(Reports::new(place, now()));
        let drained_by = {
            let desk = &mut *self.desk();
            desk.sessions.insert(id, Arc::downgrade(driver.mailbox()));
            desk.drained_by
        };
        if let Some(until) = drained_by {
            session.drain(until - now());
        }
        let registered = Registered { router: self.clone(), id };
        tokio::spawn(async move {
            let _registered = registered;
            driver.run().await;
        });
        let begun = match self.options.early_data {
            true => session.wait_established().await.map_err(SessionClosed),
            // The application does not tell early data apart, and gets no copy of any.
            false => session.handshake_confirmed().await,
        };
        match begun {
            // It fails when the listener is gone; the session is closed then.
            Ok(()) => _ = self.accepted.send(session).await,
            Err(SessionClosed(reason)) => self.failures.report(origin.address, HandshakeFault::Session(reason)),
        }
    }

    /// The shared part of a new session.
    fn session(&self, new: NewSession, origin: Origin) -> Result<Arc<Shared>, HandshakeError> {
        let tls = self.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        let tls = tls.handshake()?;
        let recorder = self.options.record.as_ref().and_then(Record::recorder);
        let conn = Connection::server_with(now(), self.options.config.clone(), tls, new, seed(), recorder);
        let conn = sinks::attached(
            conn,
            origin.address,
            #[cfg(feature = "json")]
            self.options.qlog.as_ref(),
            #[cfg(feature = "json")]
            self.options.trace_ring.as_ref(),
        );
        let shared = Shared::new(conn, None);
        shared.access(|state| state.options.allow(&self.options.peer_options));
        Ok(shared)
    }

    /// Hands a TCP connection to the session whose token it shows.
    async fn join(self: Arc<Self>, join: Join, stream: TcpStream, mut input: BytesMut, origin: Origin) {
        let mailbox = self.desk().sessions.get(&join.session()).and_then(Weak::upgrade);
        let turns_away = |mailbox: &Arc<Mailbox>| mailbox.shared().with(|state| state.conn.turns_away(&join));
        let Some(mailbox) = mailbox.filter(|mailbox| !turns_away(mailbox)) else {
            self.failures.report(origin.address, HandshakeFault::NoSession);
            let declined = self.desk().endpoint.decline_join(join, &mut input);
            return match declined {
                Ok(session) => self.start(session, stream, input, origin).await,
                Err(alert) => self.refuse(stream, &alert).await,
            };
        };
        let reports = JoinReports {
            failures: self.failures.clone(),
            client: origin.address,
            session: Monitor::new(mailbox.shared()),
        };
        let place = ClaimPlace::new(&self.account, origin.client, mailbox.shared()).reporting(Box::new(reports));
        let socket = Socket::new(stream, input).spliced(origin.splice);
        if let Some(Delivery::Join(socket, ..)) = mailbox.deliver(Delivery::Join(Box::new(socket), join, place)) {
            self.failures.report(origin.address, HandshakeFault::NoSession);
            socket.reset();
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

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// What a TCP connection waits for whose ClientHello is not complete.
enum News {
    Read(io::Result<usize>),
    /// Its time is over.
    Deadline,
    /// The endpoint refuses it, with this alert.
    Refused(Option<Vec<u8>>),
    /// The account needs what it holds.
    InTheWay(Option<Resource>),
}

/// The outcome of waiting for a ClientHello.
enum Recognised {
    As(Incoming),
    /// The TCP connection ended before.
    Ended,
    /// Its descriptor is needed elsewhere.
    InTheWay,
}

/// Takes a session off the desk when its task ends, also by a panic.
struct Registered {
    router: Arc<Router>,
    id: SessionId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.router.desk().sessions.remove(&self.id);
        self.router.left.notify_waiters();
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

/// Sends the reason, and waits for the client to close, so that it can read it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Identity;

    #[tokio::test]
    async fn session_leaves_the_register_if_its_task_panics() {
        let tls = Identity::self_signed(&["localhost".to_owned()]).unwrap().server(&[b"test"]).unwrap();
        let options = ServerOptions::new(tls);
        let tls = Arc::new(RwLock::new(options.tls.clone()));
        let router = Arc::new(Router::new(options, tls, mpsc::channel(1).0, Arc::new(Failures::new())));
        let id = SessionId([7; 12]);
        router.desk().sessions.insert(id, Weak::new());
        let registered = Registered { router: router.clone(), id };
        let task = tokio::spawn(async move {
            let _registered = registered;
            panic!("a panic in the session's task");
        });
        assert!(task.await.unwrap_err().is_panic());
        assert!(router.desk().sessions.is_empty());
    }
}
