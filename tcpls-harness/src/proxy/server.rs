//! Answers the streams of a session: one CONNECT request on each.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::exchange;
use super::logins::{Accepted, Logins};
use super::outbound::Outbound;
use super::peer::{Peer, TcpPeer};
use super::places::{Place, Places, Requester};
use super::refusal::Refusal;
use super::remote::{AllowRemote, Held, Owner, Ports, address_of};
use super::splice::{Spliced, Splicing, splice};
use super::target::Target;
use super::users::Users;
use crate::http::{BadHead, Head, HeadReader, MAX_HEAD, StartLine};
use crate::net::{Session, Stream};

/// The response to a request that is granted; the connection's bytes follow.
const GRANTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// The field with the key of a client that asks to listen.
pub(super) const CLIENT_KEY: &str = "Tcpls-Client";
/// How long a client has to answer for a connection that arrives on its port.
const DELIVERY: Duration = Duration::from_secs(30);
/// How long a port is kept for the next session of its client.
const RESERVED: Duration = Duration::from_secs(60);
/// The pause after a socket could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The most requests of one session that are incomplete at the same time: their bytes are in no account.
const MAX_HEADS: usize = 64;
/// How long a session without TCPLS may be quiet once its only connection has ended.
const PLAIN_REST: Duration = Duration::from_secs(60);

/// What clients of a server may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections of one client at the same time, in all of its sessions. A client is a user, or an address without users.
    pub per_client: usize,
    /// Connections of all clients at the same time.
    pub total: usize,
    /// Bytes per second that one client may move in each direction, in all of its connections and sessions together;
    /// `None`: any number. What is too fast is not read ([`Rate`](super::Rate)). Clients behind a trusted proxy, whose
    /// addresses are unknown, have no limit unless they are users.
    pub rate: Option<u64>,
    /// How long a connection may carry nothing in either direction; `None`: for any time.
    pub idle: Option<Duration>,
    /// How long a request may take to arrive.
    pub request_timeout: Duration,
    /// How many wrong credentials an IPv4 address or a /64 of IPv6 may send before it has to wait: then 1 s, and twice
    /// that after each further one, up to 5 min. It is forgotten after 15 min. A /48 of IPv6 may send 16 times as many.
    /// Clients behind a trusted proxy, whose addresses are unknown, do not wait.
    pub wrong_credentials: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_client: 2048,
            total: 16_384,
            rate: None,
            idle: None,
            request_timeout: Duration::from_secs(10),
            wrong_credentials: 5,
        }
    }
}

impl Limits {
    /// Returns the same with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// What happened to a request, for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A connection was refused; the target is known if the request named one.
    Refused {
        /// The user, if the request was authenticated.
        user: Option<Arc<str>>,
        /// The target.
        target: Option<Target>,
        /// Why.
        refusal: Refusal,
    },
    /// A connection to the target is there.
    Connected {
        /// The user, if there are any.
        user: Option<Arc<str>>,
        /// The target.
        target: Target,
    },
    /// The server listens for a client.
    Listening {
        /// The user, if there are any.
        user: Option<Arc<str>>,
        /// Where.
        address: SocketAddr,
    },
    /// The server listens there no more.
    StoppedListening {
        /// Where.
        address: SocketAddr,
    },
    /// A connection has ended.
    Ended {
        /// The target.
        target: Target,
        /// What it carried, and how it ended. Sent are bytes to the client.
        spliced: Spliced,
    },
}

/// A proxy server: who may use it, how much, and how it connects. Cheap to clone; clones share the limits.
#[derive(Debug)]
pub struct Server<O> {
    shared: Arc<Shared<O>>,
}

impl<O> Clone for Server<O> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

#[derive(Debug)]
struct Shared<O> {
    outbound: O,
    logins: Logins,
    remote: RwLock<AllowRemote>,
    ports: Ports,
    limits: Limits,
    places: Arc<Places>,
}

impl<O: Outbound> Server<O> {
    /// Makes a server that connects by `outbound`. Without users, every client of the session may use it.
    pub fn new(outbound: O, users: Users, limits: Limits) -> Self {
        let places = Arc::new(Places::new(&limits));
        let (remote, ports) = Default::default();
        let shared =
            Shared { outbound, logins: Logins::new(users, limits.wrong_credentials), remote, ports, limits, places };
        Self { shared: Arc::new(shared) }
    }

    /// Replaces the users, for requests from now on.
    pub fn set_users(&self, users: Users) {
        self.shared.logins.set_users(users);
    }

    /// Lets clients listen on addresses of the server, from now on; initially on none.
    pub fn allow_remote(&self, remote: AllowRemote) {
        *self.shared.remote.write().unwrap_or_else(PoisonError::into_inner) = remote;
    }

    /// Answers all streams of a session, until the session ends. `report` gets what happens to each.
    pub async fn serve(&self, session: &Session, report: impl Fn(Report) + Clone + Send + Sync + 'static) {
        let runtime = session.runtime();
        let heads = Arc::new(Semaphore::new(MAX_HEADS));
        let accepted = Arc::new(Accepted::new(&session.peer_certificates()));
        // Each permit is free after `request_timeout`, or when the session ends.
        while let Ok(permit) = heads.clone().acquire_owned().await {
            let Some(stream) = session.accept_stream().await else { return };
            let (server, session, report) = (self.clone(), session.clone(), report.clone());
            let accepted = accepted.clone();
            drop(runtime.spawn(async move { server.answer((&session, &accepted), stream, permit, report).await }));
        }
    }

    /// Answers one stream.
    async fn answer(
        &self,
        (session, accepted): (&Session, &Accepted),
        mut stream: Stream,
        permit: OwnedSemaphorePermit,
        report: impl Fn(Report) + Clone + Send + Sync + 'static,
    ) {
        let runtime = &session.runtime();
        let reading = runtime.timeout(self.shared.limits.request_timeout, read_head(&mut stream)).await;
        drop(permit);
        let (head, rest) = match reading {
            Some(Ok(Some(read))) => read,
            Some(Ok(None)) => return, // the client left
            Some(Err(bad)) => return refuse(stream, &report, None, None, refusal_of(bad)).await,
            None => return refuse(stream, &report, None, None, Refusal::RequestTimeout).await,
        };
        let field = head.field("proxy-authorization");
        let user = match self.shared.logins.authenticate(field, session.client(), accepted, runtime.now()) {
            Ok(user) => user,
            Err(refusal) => return refuse(stream, &report, None, None, refusal).await,
        };
        if let Some(user) = &user {
            session.set_label(user);
        }
        let (method, target) = match request_of(&head) {
            Ok(request) => request,
            Err(refusal) => return refuse(stream, &report, user, None, refusal).await,
        };
        if method == Method::Listen {
            return self.listen(session, stream, (user, head, target), report).await;
        }
        let place = match self.take_place(user.clone(), session) {
            Ok(place) => place,
            Err(refusal) => return refuse(stream, &report, user, Some(target), refusal).await,
        };
        let connected = {
            let connecting = pin!(self.shared.outbound.connect(&target, &place.key));
            match unless_stopped(connecting, &mut stream).await {
                Some(connected) => connected,
                None => return,
            }
        };
        let peer = match connected {
            Ok(peer) => peer,
            Err(refusal) => {
                drop(place);
                return refuse(stream, &report, user, Some(target), refusal).await;
            }
        };
        stream.set_label(&target.to_string());
        report(Report::Connected { user, target: target.clone() });
        let splicing = Splicing::default().with(|splicing| {
            splicing.to_stream = Bytes::from_static(GRANTED);
            splicing.to_peer = rest;
            (splicing.idle, splicing.rate) = (self.shared.limits.idle, place.rate.clone());
        });
        // Whether it is idle is for `limits.idle` alone, whatever the session's configuration says.
        session.set_plain_idle_timeout(None);
        let mut spliced = splice(runtime, stream, peer, splicing).await;
        session.set_plain_idle_timeout(Some(PLAIN_REST));
        spliced.sent = spliced.sent.saturating_sub(GRANTED.len() as u64);
        report(Report::Ended { target, spliced });
    }

    /// Listens on an address of the server, until the stream of the request ends. A session that ends leaves the port to the
    /// next session of its client for a while.
    async fn listen(
        &self,
        session: &Session,
        mut stream: Stream,
        (user, head, target): (Option<Arc<str>>, Head, Target),
        report: impl Fn(Report) + Clone + Send + Sync + 'static,
    ) {
        let mut held = match self.take_port(user.clone(), &head, &target) {
            Ok(held) => held,
            Err(refusal) => return refuse(stream, &report, user, Some(target), refusal).await,
        };
        report(Report::Listening { user: user.clone(), address: held.address });
        // A client that leaves no room for the answer must not keep the port from its next session, or the next process.
        tokio::select! {
            biased;
            _ = &mut held.taken => return,
            () = session.draining() => {}
            _ = stream.write_chunk(Bytes::from_static(GRANTED)) => {} // if the client is gone, reading says so
        }
        let runtime = session.runtime();
        loop {
            tokio::select! {
                biased;
                _ = &mut held.taken => return, // by another session of the client
                // The next session of the client takes the port, perhaps from another process.
                () = session.draining(), if session.close_reason().is_none() => {
                    _ = stream.finish();
                    break;
                }
                read = stream.read_chunk(MAX_HEAD) => {
                    if read == Ok(None) {
                        _ = stream.finish();
                    }
                    break;
                }
                accepted = held.listener.accept() => match accepted {
                    Ok((socket, from)) => {
                        let (server, session, user) = (self.clone(), session.clone(), user.clone());
                        let (target, report) = (target.clone(), report.clone());
                        let delivering = async move { server.deliver(&session, (socket, from), user, target, report).await };
                        drop(runtime.spawn(delivering));
                    }
                    Err(_) => runtime.sleep(ACCEPT_PAUSE).await, // the peer has left, or there is no descriptor
                },
            }
        }
        if session.close_reason().is_some() {
            runtime.sleep(RESERVED).await;
        }
        if self.shared.ports.release(&held) {
            report(Report::StoppedListening { address: held.address });
        }
    }

    fn take_port(&self, user: Option<Arc<str>>, head: &Head, target: &Target) -> Result<Held, Refusal> {
        let address = address_of(target)?;
        let remote = self.shared.remote.read().unwrap_or_else(PoisonError::into_inner);
        if !remote.permits(user.as_deref(), address) {
            return Err(Refusal::Denied);
        }
        self.shared.ports.take(address, Owner::new(user, head.field(&CLIENT_KEY.to_ascii_lowercase()))?)
    }

    /// Passes a connection that was accepted for a client to it.
    async fn deliver(
        &self,
        session: &Session,
        (socket, from): (TcpStream, SocketAddr),
        user: Option<Arc<str>>,
        target: Target,
        report: impl Fn(Report),
    ) {
        let (runtime, mut peer) = (session.runtime(), TcpPeer::new(socket));
        let asked = async {
            let place = self.take_place(user.clone(), session)?;
            let forwarded = format!("Forwarded: for=\"{from}\"\r\n");
            let (stream, early) = exchange(session, "CONNECT", &target, None, &forwarded).await?;
            Ok((place, stream, early))
        };
        match runtime.timeout(DELIVERY, asked).await.unwrap_or(Err(Refusal::TimedOut)) {
            Ok((place, stream, early)) => {
                report(Report::Connected { user, target: target.clone() });
                let splicing = Splicing::default().with(|splicing| {
                    (splicing.to_peer, splicing.idle) = (early, self.shared.limits.idle);
                    splicing.rate = place.rate.clone();
                });
                let spliced = splice(&runtime, stream, peer, splicing).await;
                report(Report::Ended { target, spliced });
            }
            Err(refusal) => {
                peer.abort(); // as if nothing listened
                report(Report::Refused { user, target: Some(target), refusal });
            }
        }
    }

    /// Takes one of the connections that a client may have, and one of all.
    fn take_place(&self, user: Option<Arc<str>>, session: &Session) -> Result<Place, Refusal> {
        self.shared.places.take(Requester::new(user, session.client()), session.runtime().now())
    }
}

/// Reads the head of a message, and what arrived behind it; `None` if the stream ended or failed before.
pub(super) async fn read_head(stream: &mut Stream) -> Result<Option<(Head, Bytes)>, BadHead> {
    let mut reader = HeadReader::default();
    while let Ok(Some(chunk)) = stream.read_chunk(MAX_HEAD).await {
        if let Some(head) = reader.push(&chunk)? {
            return Ok(Some((head, reader.into_rest())));
        }
    }
    Ok(None)
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// A connection to the target.
    Connect,
    /// To listen on the target, an address of the server.
    Listen,
}

/// Returns the method and the target of a request.
pub(super) fn request_of(head: &Head) -> Result<(Method, Target), Refusal> {
    let StartLine::Request { method, target, minor } = &head.start else { return Err(Refusal::BadRequest) };
    let method = match method.as_str() {
        "CONNECT" => Method::Connect,
        "LISTEN" => Method::Listen,
        _ => return Err(Refusal::Method),
    };
    // A request without Host, with two, or with content could be meant differently by each proxy on the way.
    let hosts = head.all("host").count();
    let has_content =
        head.field("transfer-encoding").is_some() || head.all("content-length").any(|length| length != "0");
    if hosts > 1 || (hosts == 0 && *minor > 0) || has_content {
        return Err(Refusal::BadRequest);
    }
    Ok((method, target.parse().map_err(|_| Refusal::BadRequest)?))
}

pub(super) fn refusal_of(bad: BadHead) -> Refusal {
    match bad {
        BadHead::Malformed => Refusal::BadRequest,
        BadHead::Version => Refusal::Version,
        BadHead::TooLong => Refusal::HeadTooLarge,
    }
}

async fn refuse(
    mut stream: Stream,
    report: &impl Fn(Report),
    user: Option<Arc<str>>,
    target: Option<Target>,
    refusal: Refusal,
) {
    report(Report::Refused { user, target, refusal });
    // A client that has gone needs no answer.
    if stream.write_chunk(refusal.response().into()).await.is_ok() {
        _ = stream.finish();
    }
}

/// The output of `future`; `None` if the client stops reading before.
async fn unless_stopped<F: Future + Unpin>(future: F, stream: &mut Stream) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        _ = stream.send().stopped() => None,
    }
}
