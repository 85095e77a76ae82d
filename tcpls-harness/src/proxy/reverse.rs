//! A client's ports on the server: asks for them in each session, and connects what arrives there to its targets.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::exchange;
use super::outbound::{Outbound, connect_to};
use super::peer::TcpPeer;
use super::places::Requester;
use super::refusal::Refusal;
use super::server::{CLIENT_KEY, Limits, Server};
use super::target::Target;
use super::users::{Credentials, Users};
use crate::net::{Runtime, Session};

/// The pause before a port is asked for again.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a connection to a target may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A port of the server, and the target to which the client connects what arrives there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteForward {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// Where the client connects to.
    pub target: Target,
}

/// What happens to a port of the server, for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteReport {
    /// The server listens there.
    Listening(SocketAddr),
    /// It does not.
    Refused(SocketAddr, Refusal),
}

/// The ports of a client, which it asks for in each of its sessions. Clones are the same client.
#[derive(Clone)]
pub struct RemoteForwards {
    forwards: Arc<[RemoteForward]>,
    /// Known to this client only: it gets its ports back by it.
    key: Arc<str>,
}

impl RemoteForwards {
    /// Makes a client with a key of its own.
    pub fn new(runtime: &Runtime, forwards: Vec<RemoteForward>) -> Self {
        let key = format!("{:016x}{:016x}", runtime.random(), runtime.random());
        Self { forwards: forwards.into(), key: key.into() }
    }

    /// Asks for all ports, and serves what arrives there, until the session ends. What the server refuses for now is asked for
    /// again.
    pub async fn serve(
        &self,
        session: &Session,
        credentials: Option<Credentials>,
        report: impl Fn(RemoteReport) + Clone + Send + Sync + 'static,
    ) {
        let runtime = session.runtime();
        for forward in self.forwards.iter() {
            let (client, session, credentials) = (self.clone(), session.clone(), credentials.clone());
            let (report, listen) = (report.clone(), forward.listen);
            drop(runtime.spawn(async move { client.hold(&session, credentials, listen, report).await }));
        }
        let server = Server::new(Targets(self.forwards.clone()), Users::default(), Limits::default());
        server.serve(session, |_| {}).await;
    }

    async fn hold(
        &self,
        session: &Session,
        credentials: Option<Credentials>,
        listen: SocketAddr,
        report: impl Fn(RemoteReport),
    ) {
        let runtime = session.runtime();
        while session.close_reason().is_none() {
            let more = format!("{CLIENT_KEY}: {}\r\n", self.key);
            let target = Target::at(listen.ip(), listen.port());
            match exchange(session, "LISTEN", &target, credentials.as_ref(), &more).await {
                Ok((mut stream, _)) => {
                    report(RemoteReport::Listening(listen));
                    // The server listens until the stream ends. It sends nothing on it.
                    while let Ok(Some(_)) = stream.read_chunk(usize::MAX).await {}
                    _ = stream.finish();
                }
                Err(Refusal::NoSession) => return,
                Err(refusal) => {
                    report(RemoteReport::Refused(listen, refusal));
                    if !may_change(refusal) {
                        return;
                    }
                }
            }
            if session.is_draining() {
                return; // the port is asked for in the next session
            }
            runtime.sleep(PAUSE).await;
        }
    }
}

/// Whether it is worth it to ask again.
fn may_change(refusal: Refusal) -> bool {
    let of_now = [Refusal::Taken, Refusal::Overloaded, Refusal::TooMany, Refusal::Other];
    of_now.contains(&refusal) || matches!(refusal, Refusal::WrongTooOften { .. })
}

impl fmt::Debug for RemoteForwards {
    /// Without the key, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.forwards.iter()).finish()
    }
}

/// Connects what the server accepts on a port to its target; nothing else.
struct Targets(Arc<[RemoteForward]>);

impl Outbound for Targets {
    type Peer = TcpPeer;

    async fn connect(&self, asked: &Target, _: &Requester) -> Result<TcpPeer, Refusal> {
        let is_asked = |forward: &&RemoteForward| Target::at(forward.listen.ip(), forward.listen.port()) == *asked;
        let forward = self.0.iter().find(is_asked).ok_or(Refusal::Denied)?;
        connect_to(&forward.target, CONNECT_TIMEOUT).await
    }
}
