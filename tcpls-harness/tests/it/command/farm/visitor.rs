//! A farm of `proxy` processes, and sessions of clients with a connection through each.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use serde_json::Value;
use tcpls_core::config::Config;
use tcpls_core::error::CloseReason;
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Session, Stream};
use tcpls_harness::proxy::{PROTOCOL, Target, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::balancers::SOURCE;
use super::{MEMBERS, Members, Tcpls, write_secrets};
use crate::command::operators::metrics;
use crate::library;
use crate::proxy::echo_target;
use crate::support::{ANY, pattern, soon};

/// How joins find the server that has their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// The servers pass them on.
    HandOver,
    /// Each server has an address of its own.
    Direct,
}

/// A `proxy` process. Its log is read all the time, so that it never waits for a reader.
pub(super) struct Proxy {
    child: Child,
    pub(super) address: SocketAddr,
    metrics: String,
    log: watch::Receiver<Vec<Value>>,
}

impl Proxy {
    async fn start(line: &[&str]) -> Self {
        let metrics = TcpListener::bind(ANY).unwrap().local_addr().unwrap().to_string();
        let mut server = Tcpls::start(&[line, &["--metrics", &metrics]].concat());
        let listening = server.event("listening").await;
        let Tcpls { child, mut lines } = server;
        let (entries, log) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                entries.send_modify(|entries: &mut Vec<Value>| entries.push(serde_json::from_str(&line).unwrap()));
            }
        });
        Self { child, address: listening["addresses"][0].as_str().unwrap().parse().unwrap(), metrics, log }
    }

    /// How many joins it has passed on.
    pub(super) async fn passed_on(&self) -> usize {
        let (text, name) = (metrics(&self.metrics).await, "tcpls_hand_overs_total{direction=\"passed_on\"} ");
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
    }

    /// The lines of its log that are about `event`.
    pub(super) fn logged(&self, event: &str) -> Vec<Value> {
        self.log.borrow().iter().filter(|entry| entry["event"] == event).cloned().collect()
    }

    /// Waits for `number` of them; panics if the process ends before.
    pub(super) async fn wait_logged(&self, event: &str, number: usize) {
        let count = |entries: &Vec<Value>| entries.iter().filter(|entry| entry["event"] == event).count();
        self.log.clone().wait_for(|entries| count(entries) >= number).await.unwrap();
    }

    pub(super) fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Ends it, without a word to anyone.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until it exits by itself.
    pub(super) async fn exited(&mut self) {
        assert!(self.child.wait().await.unwrap().success());
    }
}

/// Three proxies, and what their clients need.
pub(super) struct Farm<'a> {
    directory: &'a Path,
    pub(super) method: Method,
    pub(super) proxies: Vec<Proxy>,
    members: Members,
    target: Target,
}

impl<'a> Farm<'a> {
    pub(super) async fn start(directory: &'a Path, method: Method) -> Self {
        raise_descriptors();
        let members = Members::prepare(directory);
        let mut proxies = Vec::new();
        for number in MEMBERS {
            proxies.push(launch(&members, method, number, ANY).await);
        }
        let target = echo_target().await.to_string().parse().unwrap();
        Self { directory, method, proxies, members, target }
    }

    /// Another process takes the place of a proxy that has exited: its number and its addresses.
    pub(super) async fn replace(&mut self, proxy: usize) {
        let address = self.proxies[proxy].address;
        self.proxies[proxy] = launch(&self.members, self.method, MEMBERS[proxy], address).await;
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.proxies.iter().map(|proxy| proxy.address).collect()
    }

    /// All read these secrets.
    pub(super) async fn use_secrets(&self, secrets: &[&str]) {
        write_secrets(self.directory, secrets);
        for proxy in &self.proxies {
            let before = proxy.logged("reloaded_users").len();
            proxy.signal("HUP");
            proxy.wait_logged("reloaded_users", before + 1).await;
        }
    }

    /// How many sessions began at each, once these are `all`.
    pub(super) async fn sessions(&self, all: usize) -> Vec<usize> {
        let begun = || self.proxies.iter().map(|proxy| proxy.logged("session_began").len()).collect::<Vec<_>>();
        let complete = async {
            while begun().iter().sum::<usize>() < all {
                tokio::task::yield_now().await;
            }
        };
        soon(complete).await;
        begun()
    }

    /// How many joins were passed on.
    pub(super) async fn passed_on(&self) -> usize {
        let mut sum = 0;
        for proxy in &self.proxies {
            sum += proxy.passed_on().await;
        }
        sum
    }

    /// Why joins failed, by the servers' logs.
    pub(super) fn failed_joins(&self) -> Vec<String> {
        let failures = self.proxies.iter().flat_map(|proxy| proxy.logged("join_failed"));
        failures.map(|failure| failure["reason"].as_str().unwrap().to_owned()).collect()
    }

    /// A client that comes to this address of the balancer.
    pub(super) fn visitor(&self, number: usize, address: SocketAddr) -> impl Future<Output = Visitor> + Send + use<> {
        let tls = library::client(&self.members.trust, PROTOCOL);
        let mut options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        options.dial.keep = Keep::Session;
        // A join that takes long on a busy machine is not lost.
        options.config = Arc::new(Config::default().with(|config| config.join_timeout = Duration::from_secs(60)));
        let (method, target) = (self.method, self.target.clone());
        async move {
            let session = Session::connect(&[address], options).await.unwrap();
            let mut events = session.events();
            while method == Method::Direct && session.peer_addresses().is_empty() {
                events.next().await.unwrap();
            }
            let joins_at = session.peer_addresses().first().copied().unwrap_or(address);
            let (stream, early) = request(&session, &target, None).await.unwrap();
            assert!(early.is_empty());
            Visitor { session, stream, joins_at, number, joins: 0 }
        }
    }
}

/// Starts one of the proxies.
async fn launch(members: &Members, method: Method, number: &str, listen: SocketAddr) -> Proxy {
    let (source, listen, own) = (SOURCE.to_string(), listen.to_string(), members.line(number));
    let mut line = vec!["proxy", "--json", "--listen", &listen, "--anyone", "--allow", "127.0.0.1:*"];
    line.extend(["--proxy-protocol", &source]);
    match method {
        Method::HandOver => line.extend(own),
        // Certificate and key.
        Method::Direct => line.extend(own.into_iter().take(4).chain(["--direct", "127.0.0.1"])),
    }
    Proxy::start(&line).await
}

/// A client with a session, and a connection through the proxy.
pub(super) struct Visitor {
    session: Session,
    stream: Stream,
    /// Where it joins.
    pub(super) joins_at: SocketAddr,
    number: usize,
    joins: usize,
}

impl Visitor {
    /// Another TCP connection joins, from another address each time; then the oldest one is lost.
    pub(super) async fn join_and_lose(mut self) -> Self {
        self.joins += 1;
        let from = IpAddr::from([127, 0, 0, 2 + ((self.number + 31 * self.joins) % 90) as u8]);
        let joined = self.session.add_tcp(self.joins_at, from).await;
        let joined = joined.unwrap_or_else(|error| panic!("join {} of {self:?}: {error}", self.joins));
        self.exchange().await.unwrap();
        let oldest = self.session.tcp_connections()[0];
        assert_ne!(oldest, joined);
        self.session.reset_tcp(oldest);
        self.exchange().await.unwrap();
        self
    }

    /// Data goes through the proxy and back.
    pub(super) async fn exchange(&mut self) -> io::Result<()> {
        let sent = pattern(20_000 + self.number);
        let mut received = vec![0; sent.len()];
        self.stream.write_all(&sent).await?;
        self.stream.flush().await?;
        self.stream.read_exact(&mut received).await?;
        assert!(received == sent, "{self:?}");
        Ok(())
    }

    /// The connection goes on, or it has ended with its session, for this reason.
    pub(super) async fn goes_on(mut self) -> Result<Self, CloseReason> {
        match self.exchange().await {
            Ok(()) => Ok(self),
            Err(_) => Err(self.session.closed().await),
        }
    }

    /// Joins at this address from now on.
    pub(super) fn joining_at(mut self, address: SocketAddr) -> Self {
        self.joins_at = address;
        self
    }

    /// Whether its server drains.
    pub(super) fn is_draining(&self) -> bool {
        self.session.is_draining()
    }

    /// Ends the connection, and the session.
    pub(super) async fn leave(self) {
        self.session.close(Default::default(), b"").await;
        self.session.closed().await;
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} at {}", self.number, self.joins_at)
    }
}

/// Waits for all of them, `at_once` at a time.
pub(super) async fn all<F>(at_once: usize, futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (places, mut tasks) = (Arc::new(Semaphore::new(at_once)), JoinSet::new());
    for future in futures {
        let places = places.clone();
        tasks.spawn(async move {
            let _place = places.acquire().await.unwrap();
            future.await
        });
    }
    tasks.join_all().await
}

/// Hundreds of sessions need more descriptors than a process may have by default.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
