//! Joins of other servers' sessions, and joins that other servers pass on to this one.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::budget::{Client, Resource};
use tcpls_core::endpoint::{ForeignJoin, Incoming};
use tcpls_core::wire::ids::ServerId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::super::failures::{HandOverFault, HandshakeFault};
use super::super::farm::{self, Presented};
use super::super::header::{self, Taken};
use super::super::splice::{PIECE, splice};
use super::{Newcomer, Origin, Recognised, Router};
use crate::dial::Path;
use crate::net::account::Holding;
use crate::net::descriptors::{DESCRIPTOR_PAUSE, are_used_up};
use crate::net::os::now;
use crate::net::proxy_protocol::Ends;
use crate::net::socket::{self, Splice, canonical, reset};

/// How long TCP may take to connect to another server: the farm's network is fast, and the client waits.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After this time without a byte the kernel asks whether an end is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Memory of a TCP connection that is passed on: what it holds while bytes move in both directions, a task, and a ClientHello.
const MEMORY: u64 = 2 * PIECE as u64 + 40 * 1024;
/// The account gets to know what has moved in steps of this size, and after [`REPORT_INTERVAL`].
const REPORT: u64 = 64 * 1024;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Router {
    /// Whether a TCP connection to the farm's address comes from one of its servers.
    pub(in super::super) fn is_peer(&self, from: IpAddr) -> bool {
        self.peers().values().any(|peer| peer.ip().to_canonical() == from)
    }

    /// Makes room for a TCP connection that another server passes on. It counts for itself until a server of the farm has
    /// authenticated the client's address.
    pub(in super::super) fn enter_from_peer(&self, from: SocketAddr) -> Newcomer {
        Newcomer::enter(&self.account, from, Client::ALONE, Some(Splice { ends: None }))
    }

    /// Reports that a TCP connection to the farm's address came from elsewhere.
    pub(in super::super) fn refuse_stranger(&self, stream: TcpStream, from: SocketAddr) {
        self.failures.report(from, HandOverFault::Stranger.into());
        reset(stream);
    }

    /// Reads a header and a ClientHello that another server passes on. Only a join of a session of this server is accepted:
    /// no TCP connection is passed on twice.
    pub(in super::super) async fn receive_from_peer(self: Arc<Self>, mut stream: TcpStream, mut newcomer: Newcomer) {
        let mut input = BytesMut::with_capacity(4096);
        let peer = newcomer.origin;
        let limit = self.deadline(peer) - now();
        let Taken { ends, tag } = match header::take(&mut stream, &mut input, &mut newcomer.in_the_way, limit).await {
            Ok(taken) => taken,
            Err(fault) => {
                self.failures.report(peer.address, fault);
                return reset(stream);
            }
        };
        let join = match self.recognise(&mut stream, &mut input, newcomer).await {
            Recognised::As(Incoming::Join(join)) => join,
            Recognised::As(Incoming::Refused { alert }) => {
                self.failures.report(peer.address, self.fault_of(&alert, peer));
                return self.refuse(stream, &alert).await;
            }
            Recognised::As(Incoming::New(_) | Incoming::Foreign(_)) => {
                self.failures.report(peer.address, HandOverFault::NotOwn.into());
                return reset(stream);
            }
            Recognised::InTheWay => {
                self.failures.report(peer.address, HandshakeFault::Evicted(Resource::Descriptors));
                return reset(stream);
            }
            Recognised::Ended => {
                return self.failures.report(peer.address, HandshakeFault::Ended { received: input.len() });
            }
        };
        let token = Presented { session: join.session(), sequence: join.sequence() };
        if !farm::is_authentic(&self.secrets(), ends, token, tag.as_deref().unwrap_or_default()) {
            self.failures.report(peer.address, HandOverFault::NotAuthentic.into());
            return reset(stream);
        }
        self.hand_overs.accept();
        let origin = peer.named(&self.account, ends);
        self.join(join, stream, input, origin).await;
    }

    /// Passes a TCP connection on to the server that has the session: a header, all bytes that have arrived, and those that
    /// follow in both directions.
    pub(super) async fn hand_over(
        self: Arc<Self>,
        join: ForeignJoin,
        mut stream: TcpStream,
        input: BytesMut,
        origin: Origin,
    ) {
        let server = join.session().server();
        let admitted = self.pace.lock().unwrap_or_else(PoisonError::into_inner).admit(now(), origin.client);
        if let Err(exceeded) = admitted {
            self.failures.report(origin.address, HandOverFault::from(exceeded).into());
            return reset(stream);
        }
        let (give_way, mut in_the_way) = oneshot::channel();
        let held = [(Resource::HandOvers, 1), (Resource::Descriptors, 2), (Resource::Memory, MEMORY)];
        let place = self.account.enter(origin.client, Holding::Pending(give_way), &held);
        let ends = match origin.splice {
            Some(splice) => splice.ends,
            None => stream.local_addr().ok().map(|at| Ends { client: origin.address, server: canonical(at) }),
        };
        let token = Presented { session: join.session(), sequence: join.sequence() };
        let first = [&farm::header(&self.secrets(), ends, token), &input[..]].concat();
        let connected = unless_in_the_way(&mut in_the_way, self.connect_to(server, &first)).await;
        let connected = connected.unwrap_or(Err(HandOverFault::Evicted));
        let mut owner = match connected {
            Ok(owner) => owner,
            Err(fault) => {
                self.failures.report(origin.address, fault.into());
                drop(place);
                if matches!(fault, HandOverFault::Evicted | HandOverFault::NoSocket(_)) {
                    return reset(stream); // without an answer, the client may keep its token
                }
                let declined = self.desk().endpoint.decline_foreign_join(&join);
                return match declined {
                    Ok(session) => self.start(session, stream, input, origin).await,
                    Err(alert) => self.refuse(stream, &alert).await,
                };
            }
        };
        drop((first, input));
        let open = self.hand_overs.begin();
        [&stream, &owner].into_iter().for_each(watch);
        let (mut moved, mut reported) = (0, now());
        let report = |bytes| {
            open.carried(bytes);
            moved += bytes;
            let now = now();
            if moved >= REPORT || now >= reported + REPORT_INTERVAL {
                place.report(|budget, id| budget.add_delivered(now, id, moved));
                (moved, reported) = (0, now);
            }
        };
        let outcome = unless_in_the_way(&mut in_the_way, splice(&mut stream, &mut owner, report)).await;
        if !matches!(outcome, Some(Ok(()))) {
            [stream, owner].into_iter().for_each(reset);
        }
    }

    /// Connects to another server, and sends it these bytes.
    async fn connect_to(&self, server: ServerId, first: &[u8]) -> Result<TcpStream, HandOverFault> {
        let remote = self.peers().get(&server).copied().ok_or(HandOverFault::Unknown(server))?;
        // From the address that the other server knows this one by, unless the routes are to decide.
        let own = self.options.farm.as_ref().map(|farm| farm.listen.ip()).filter(|ip| !ip.is_unspecified());
        let own = own.filter(|ip| ip.is_ipv4() == remote.is_ipv4());
        let path = Path { local: own.map(|ip| SocketAddr::new(ip, 0)), ..Path::from(remote) };
        let connected = async {
            loop {
                match socket::connect(path, &self.options.socket).await {
                    Err(error) if are_used_up(&error) && self.account.free_descriptor() => {
                        sleep(DESCRIPTOR_PAUSE).await
                    }
                    connected => break connected,
                }
            }
        };
        let sent = async {
            let mut stream = connected.await?;
            stream.write_all(first).await?;
            io::Result::Ok(stream)
        };
        let sent = timeout(CONNECT_TIMEOUT, sent).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        sent.map_err(|error| fault_of(server, &error))
    }
}

/// Waits for `future`; `None` if the TCP connection has to give way before that is ready.
async fn unless_in_the_way<F: Future>(in_the_way: &mut oneshot::Receiver<Resource>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match Pin::new(&mut *in_the_way).poll(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

/// What an error of connecting means. A lack of ports, sockets or memory here says nothing about the other server.
fn fault_of(server: ServerId, error: &io::Error) -> HandOverFault {
    const ENOBUFS: i32 = 105;
    let kind = error.kind();
    let of_this_host = matches!(kind, ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory);
    let is_short = are_used_up(error) || (cfg!(target_os = "linux") && error.raw_os_error() == Some(ENOBUFS));
    if of_this_host || is_short { HandOverFault::NoSocket(kind) } else { HandOverFault::Unreachable(server, kind) }
}

/// Makes the kernel detect that an end has disappeared: no session does so for these bytes here.
fn watch(stream: &TcpStream) {
    socket::keep_alive(stream, KEEP_ALIVE);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(KEEP_ALIVE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_ports_and_descriptors_here_is_no_verdict_on_the_other_server() {
        let server = ServerId(3);
        for kind in [ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable] {
            assert_eq!(fault_of(server, &kind.into()), HandOverFault::NoSocket(kind));
        }
        #[cfg(target_os = "linux")]
        for code in [24, 23, 105] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(fault_of(server, &error), HandOverFault::NoSocket(error.kind()), "{code}");
        }
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::TimedOut, ErrorKind::HostUnreachable] {
            assert_eq!(fault_of(server, &kind.into()), HandOverFault::Unreachable(server, kind));
        }
    }
}
