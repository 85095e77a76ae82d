//! A server farm: three servers behind a balancer that gives each of them one TCP connection after the other.

mod direct;
mod limits;
#[cfg(target_os = "linux")]
mod ports;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tcpls_core::error::{CloseReason, JoinRefusal, TcpFault};
use tcpls_core::token::TokenSecrets;
use tcpls_core::wire::ids::{ConnectionId, ServerId};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{
    AddTcpError, ClientOptions, Farm, HandOverFault, HandshakeFailures, HandshakeFault, Listener, RateLimit,
    ServerOptions, Session,
};
use tcpls_harness::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::library;
use crate::support::{ANY, PROTOCOL, identity, pattern, read_all, soon, trust};

const SECRET: [u8; 32] = [0x5e; 32];

type Call = Box<dyn FnOnce(&mut Listener) + Send>;

/// A server in a runtime of its own, which can be killed as a process is. It sends back what streams bring.
struct Process {
    runtime: Option<Runtime>,
    calls: mpsc::UnboundedSender<Call>,
    drain: mpsc::UnboundedSender<oneshot::Sender<()>>,
    address: SocketAddr,
    farm_address: SocketAddr,
}

impl Process {
    fn start(identity: &Identity, number: u16, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = ServerOptions::new(library::server(identity, PROTOCOL));
        options.token_secrets = Some(TokenSecrets::new(SECRET));
        options.farm = Some(Farm::new(ServerId(number), ANY));
        change(&mut options);
        let has_own_address = !options.direct.is_empty();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let mut listener = {
            let _entered = runtime.enter();
            Listener::bind(&[ANY], options).unwrap()
        };
        let (address, farm_address) = (listener.local_addresses()[0], listener.farm_address().unwrap());
        let (calls, mut wishes) = mpsc::unbounded_channel::<Call>();
        let (drain, mut drains) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    session = listener.accept() => {
                        if has_own_address {
                            listener.advertise(&session);
                        }
                        tokio::spawn(echo(session));
                    }
                    Some(call) = wishes.recv() => call(&mut listener),
                    Some(done) = drains.recv() => {
                        listener.drain(Duration::from_secs(600)).await;
                        _ = done.send(());
                    }
                }
            }
        });
        Self { runtime: Some(runtime), calls, drain, address, farm_address }
    }

    /// Has the listener called.
    async fn call<R: Send + 'static>(&self, call: impl FnOnce(&mut Listener) -> R + Send + 'static) -> R {
        let (answer, is_answered) = oneshot::channel();
        _ = self.calls.send(Box::new(move |listener| _ = answer.send(call(listener))));
        is_answered.await.unwrap()
    }

    async fn hand_overs(&self) -> u64 {
        self.call(|listener| listener.hand_overs().passed_on()).await
    }

    async fn failures(&self) -> HandshakeFailures {
        self.call(|listener| listener.handshake_failures()).await
    }

    async fn set_secrets(&self, secrets: TokenSecrets) {
        self.call(|listener| listener.set_token_secrets(secrets)).await;
    }

    /// Stops listening for clients; returns once that is done.
    async fn drain(&self) {
        let (done, is_done) = oneshot::channel();
        self.drain.send(done).unwrap();
        is_done.await.unwrap();
    }

    /// Everything of it ends, without a word to anyone.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn echo(session: Session) {
    while let Some(mut stream) = session.accept_stream().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = stream.recv().read_chunk(usize::MAX).await {
                if stream.send().write_chunk(chunk).await.is_err() {
                    return;
                }
            }
            _ = stream.send().finish();
        });
    }
}

/// Gives each of its targets one TCP connection after the other, with `header` in front.
pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    pub(crate) targets: watch::Sender<Vec<SocketAddr>>,
    /// How many TCP connections have come.
    accepted: Arc<AtomicUsize>,
}

impl Balancer {
    pub(crate) async fn start(targets: Vec<SocketAddr>, header: &'static [u8]) -> Self {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let balancer = Self { address, targets: watch::Sender::new(targets), accepted: accepted.clone() };
        let targets = balancer.targets.subscribe();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let turn = accepted.fetch_add(1, Ordering::Relaxed);
                let target = targets.borrow()[turn % targets.borrow().len()];
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    server.write_all(header).await.unwrap();
                    if copy_bidirectional(&mut client, &mut server).await.is_err() {
                        [client, server].iter().for_each(|socket| _ = socket.set_zero_linger());
                    }
                });
            }
        });
        balancer
    }

    /// How many TCP connections of clients have come so far.
    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Spends the turn of one server.
    async fn skip(&self) {
        TcpStream::connect(self.address).await.unwrap();
    }
}

/// Three servers and their balancer.
struct Site {
    identity: Identity,
    servers: Vec<Process>,
    balancer: Balancer,
}

impl Site {
    async fn start(header: &'static [u8], change: fn(&mut ServerOptions)) -> Self {
        let identity = identity();
        let servers: Vec<Process> = (1..=3).map(|number| Process::start(&identity, number, change)).collect();
        let peers: BTreeMap<ServerId, SocketAddr> =
            (1..).map(ServerId).zip(servers.iter().map(|server| server.farm_address)).collect();
        for server in &servers {
            let peers = peers.clone();
            server.call(|listener| listener.set_farm_peers(peers)).await;
        }
        let balancer = Balancer::start(servers.iter().map(|server| server.address).collect(), header).await;
        Self { identity, servers, balancer }
    }

    /// Of a client whose joins have the form of the draft: those in the other form get no alert.
    fn options_of_the_draft(&self) -> ClientOptions {
        let tls = library::client_of_the_draft(&trust(&self.identity), PROTOCOL);
        let mut options = self.options();
        options.tls = tls;
        options
    }

    fn options(&self) -> ClientOptions {
        let tls = library::client(&trust(&self.identity), PROTOCOL);
        let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
        options.with(|options| options.dial.keep = Keep::Session)
    }

    /// Connects through the balancer.
    async fn connect(&self) -> Session {
        Session::connect(&[self.balancer.address], self.options()).await.unwrap()
    }

    async fn hand_overs(&self) -> u64 {
        let mut sum = 0;
        for server in &self.servers {
            sum += server.hand_overs().await;
        }
        sum
    }
}

/// Data goes to the server and back.
async fn exchange(session: &Session, len: usize) {
    let (mut send, mut recv) = session.open_stream().await.unwrap().split();
    let there = async {
        send.write_chunk(pattern(len).into()).await.unwrap();
        send.finish().unwrap();
    };
    let ((), back) = tokio::join!(there, read_all(&mut recv));
    assert!(back == pattern(len));
}

#[tokio::test]
async fn each_join_reaches_its_session_whichever_server_the_balancer_selects() {
    let site = Site::start(b"", |_| {}).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        let session = site.connect().await;
        for _ in 0..2 {
            session.add_tcp(site.balancer.address, None).await.unwrap();
        }
        sessions.push(session);
        site.balancer.skip().await;
    }
    // Each session began at one server, and its joins came to the two others.
    assert_eq!(site.hand_overs().await, 16);
    for session in &sessions {
        exchange(session, 100_000).await;
        session.reset_tcp(ConnectionId::FIRST);
        exchange(session, 1_000_000).await;
        session.add_tcp(site.balancer.address, None).await.unwrap();
        exchange(session, 100_000).await;
        assert_eq!(session.tcp_connections().len(), 3);
    }
    for session in sessions {
        session.close(Default::default(), b"").await;
        assert!(matches!(session.closed().await, CloseReason::Local { .. }));
    }
}

#[tokio::test]
async fn stranded_session_returns_through_another_server() {
    let site = Site::start(b"", |_| {}).await;
    for turn in 0..6 {
        let session = site.connect().await;
        let (mut send, mut recv) = session.open_stream().await.unwrap().split();
        send.write_chunk(pattern(300_000).into()).await.unwrap();
        session.reset_tcp(ConnectionId::FIRST);
        send.finish().unwrap();
        assert!(soon(read_all(&mut recv)).await == pattern(300_000), "{turn}");
    }
    assert_eq!(site.hand_overs().await, 6, "each came to the server behind its own");
}

#[tokio::test]
async fn owner_of_a_session_sees_the_address_that_a_balancer_names() {
    const HEADER: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";
    let site = Site::start(HEADER, |options| options.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let mut listener = {
        let options = ServerOptions::new(library::server(&site.identity, PROTOCOL)).with(|options| {
            options.token_secrets = Some(TokenSecrets::new(SECRET));
            options.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
            options.farm = Some(Farm::new(ServerId(4), ANY).with(|farm| {
                farm.peers = BTreeMap::from([(ServerId(1), site.servers[0].farm_address)]);
            }));
        });
        Listener::bind(&[ANY], options).unwrap()
    };
    let peers = BTreeMap::from([(ServerId(4), listener.farm_address().unwrap())]);
    site.servers[0].call(|first| first.set_farm_peers(peers)).await;
    let own = Balancer::start(listener.local_addresses().to_vec(), HEADER).await;
    let addresses = [own.address];
    let (client, session) = tokio::join!(Session::connect(&addresses, site.options()), listener.accept());
    let client = client.unwrap();
    let tcp = client.add_tcp(site.balancer.address, None).await.unwrap();
    assert_eq!(site.servers[0].hand_overs().await, 1);
    let (mut send, _) = client.open_stream().await.unwrap().split();
    send.attach(tcp).unwrap();
    send.write_chunk(pattern(1000).into()).await.unwrap();
    session.accept_stream().await.unwrap();
    assert_eq!(session.peer_address(tcp), Some("203.0.113.9:4711".parse().unwrap()));
}

#[tokio::test]
async fn sessions_of_a_killed_server_end_and_others_go_on() {
    let mut site = Site::start(b"", |_| {}).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = site.connect().await;
        session.add_tcp(site.balancer.address, None).await.unwrap();
        session.add_tcp(site.balancer.address, None).await.unwrap();
        exchange(&session, 10_000).await;
        sessions.push(session);
        site.balancer.skip().await;
    }
    let mut failures = site.servers[1].failures().await;
    let dead = site.servers.remove(0);
    site.balancer.targets.send_modify(|targets| targets.retain(|target| *target != dead.address));
    let (ending, before) = (sessions.remove(0), site.balancer.accepted());
    let mut path_failures = ending.path_failures();
    dead.kill();
    assert_eq!(ending.closed().await, CloseReason::LostByServer, "another server has proved it");
    // It dials as often as it has tokens, all at once: there is no pause before another attempt, and no time limit of one.
    let attempts = site.balancer.accepted() - before;
    assert!((1..=4).contains(&attempts), "one for each token, at most: {attempts}");
    assert!(path_failures.next().await.is_none());
    let unreachable = |failure: &HandshakeFault| {
        matches!(failure, HandshakeFault::HandOver(HandOverFault::Unreachable(ServerId(1), _)))
    };
    while !unreachable(&failures.next().await.unwrap().fault) {}
    for session in &sessions {
        exchange(session, 100_000).await;
        session.add_tcp(site.balancer.address, None).await.unwrap();
        exchange(session, 100_000).await;
    }
    exchange(&site.connect().await, 1000).await;
}

#[tokio::test]
async fn secret_is_replaced_while_sessions_join() {
    let new = [0x77; 32];
    let site = Site::start(b"", |_| {}).await;
    let mut sessions = vec![site.connect().await];
    let steps = [TokenSecrets::new(SECRET).accepting(new), TokenSecrets::new(new).accepting(SECRET)];
    for secrets in steps {
        for server in &site.servers {
            server.set_secrets(secrets.clone()).await;
            sessions.push(site.connect().await);
            for session in &sessions {
                let tcp = session.add_tcp(site.balancer.address, None).await.unwrap();
                exchange(session, 1000).await;
                session.retire_tcp(tcp).unwrap();
            }
        }
    }
    assert!(site.hand_overs().await > 0);
    for server in &site.servers {
        server.set_secrets(TokenSecrets::new(new)).await;
    }
    // Sessions that began with the former secret go on without joins, until they end.
    exchange(&sessions[0], 1000).await;
    assert!(sessions[0].add_tcp(site.balancer.address, None).await.is_err());
    sessions[6].add_tcp(site.balancer.address, None).await.unwrap();
}

#[tokio::test]
async fn draining_server_still_gets_the_joins_of_its_sessions() {
    let site = Site::start(b"", |_| {}).await;
    let session = site.connect().await;
    let (mut send, mut recv) = session.open_stream().await.unwrap().split();
    send.write_chunk(pattern(1000).into()).await.unwrap();
    assert_eq!(recv.read_chunk(usize::MAX).await.unwrap().unwrap(), pattern(1000));
    site.balancer.targets.send_modify(|targets| _ = targets.remove(0));
    site.servers[0].drain().await;
    session.add_tcp(site.balancer.address, None).await.unwrap();
    session.reset_tcp(ConnectionId::FIRST);
    send.write_chunk(pattern(500_000).into()).await.unwrap();
    send.finish().unwrap();
    assert!(read_all(&mut recv).await == pattern(500_000));
    assert_eq!(site.hand_overs().await, 1);
}

/// The first bytes of a join of a session, which a path to nowhere has got.
async fn hello_of_a_join(session: &Session) -> Vec<u8> {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let get = async {
        let mut hello = BytesMut::with_capacity(16 * 1024);
        listener.accept().await.unwrap().0.read_buf(&mut hello).await.unwrap();
        hello.to_vec()
    };
    let (hello, _) = tokio::join!(get, session.add_tcp(address, None));
    hello
}

/// Sends bytes to `to`, from an address; returns what comes back before the end.
async fn send_from(from: &str, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    // It may be reset at once.
    let Ok(mut stream) = socket.connect(to).await else { return Vec::new() };
    _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn joins_are_accepted_from_servers_of_the_farm_alone_and_passed_on_once() {
    const FORGED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\xc6\x33\x64\x01\x12\x67\x01\xbb";
    const TAGGED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\x23\xe5\0\x2001234567890123456789012345678901";
    let site = Site::start(b"", |_| {}).await;
    let (first, second) = (&site.servers[0], &site.servers[1]);
    let session = site.connect().await;
    let (join, start) = (hello_of_a_join(&session).await, hello_of_a_start(&site).await);
    let (mut at_first, mut at_second) = (first.failures().await, second.failures().await);
    let fault = async |failures: &mut HandshakeFailures| {
        let failure = soon(failures.next()).await.unwrap();
        assert_eq!(failure.client.ip(), "127.0.0.1".parse::<std::net::IpAddr>().unwrap(), "{failure}");
        failure.fault
    };
    for (header, bytes, expected) in [
        (FORGED, &join, HandOverFault::NotAuthentic),
        (TAGGED, &join, HandOverFault::NotAuthentic),
        (FORGED, &start, HandOverFault::NotOwn),
    ] {
        let answer = send_from("127.0.0.1:0", first.farm_address, &[header, bytes].concat()).await;
        assert_eq!((answer, fault(&mut at_first).await), (Vec::new(), expected.into()));
    }
    // The second server gets a join of the first one's session from a peer: it does not pass it on again.
    let answer = send_from("127.0.0.1:0", second.farm_address, &[FORGED, &join].concat()).await;
    assert_eq!((answer, fault(&mut at_second).await), (Vec::new(), HandOverFault::NotOwn.into()));
    assert_eq!(site.hand_overs().await, 0);
    // Without a header, and from an address that is none of the farm's.
    assert_eq!(send_from("127.0.0.1:0", first.farm_address, &join).await, b"");
    assert!(matches!(fault(&mut at_first).await, HandshakeFault::ProxyHeader(_)));
    #[cfg(target_os = "linux")]
    {
        assert_eq!(send_from("127.0.0.9:0", first.farm_address, &[FORGED, &join].concat()).await, b"");
        assert_eq!(at_first.next().await.unwrap().fault, HandOverFault::Stranger.into());
    }
    // The session is none the worse for it.
    session.add_tcp(site.balancer.address, None).await.unwrap();
    exchange(&session, 1000).await;
}

/// The first bytes of a session that begins.
async fn hello_of_a_start(site: &Site) -> Vec<u8> {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = [listener.local_addr().unwrap()];
    let get = async {
        let (mut socket, mut hello) = (listener.accept().await.unwrap().0, BytesMut::with_capacity(16 * 1024));
        socket.read_buf(&mut hello).await.unwrap();
        drop((socket, listener));
        hello.to_vec()
    };
    tokio::join!(get, Session::connect(&address, site.options())).0
}

#[tokio::test]
async fn join_of_an_unknown_server_is_refused_like_an_unknown_token() {
    let site = Site::start(b"", |_| {}).await;
    let session = Session::connect(&[site.balancer.address], site.options_of_the_draft()).await.unwrap();
    let hello = hello_of_a_join(&session).await;
    let second = &site.servers[1];
    let mut failures = second.failures().await;
    second.call(|listener| listener.set_farm_peers(BTreeMap::new())).await;
    let answer = send_from("127.0.0.1:0", second.address, &hello).await;
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 47]);
    let failure = failures.next().await.unwrap();
    assert_eq!(failure.fault, HandOverFault::Unknown(ServerId(1)).into());
    assert!(failure.fault.is_of_join());
    // The owner's own answer to a used token comes back through another server.
    session.add_tcp(site.servers[0].address, None).await.unwrap();
    let mut at_owner = site.servers[0].failures().await;
    assert_eq!(send_from("127.0.0.1:0", site.servers[2].address, &hello).await, [21, 3, 3, 0, 2, 2, 47]);
    assert_eq!(at_owner.next().await.unwrap().fault, HandshakeFault::Join(JoinRefusal::Token));
}

#[tokio::test]
async fn number_of_joins_that_are_passed_on_is_bounded() {
    let site = Site::start(b"", |options| options.max_hand_overs = 1).await;
    let session = site.connect().await;
    let second = &site.servers[1];
    let mut failures = second.failures().await;
    let first = session.add_tcp(second.address, None).await.unwrap();
    session.retire_tcp(ConnectionId::FIRST).unwrap();
    exchange(&session, 100_000).await;
    // The one that has carried nothing gives way; its token can be used again.
    let error = session.add_tcp(second.address, None).await.unwrap_err();
    assert!(matches!(error, AddTcpError::Join(TcpFault::Reset)), "{error}");
    assert_eq!(failures.next().await.unwrap().fault, HandOverFault::Evicted.into());
    exchange(&session, 100_000).await;
    assert!(session.tcp_connections().contains(&first));
}

#[tokio::test]
async fn join_passed_on_to_an_address_for_clients_is_reset_there() {
    const HEADER: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";
    let site = Site::start(HEADER, |options| options.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let session = site.connect().await;
    let [first, second] = [&site.servers[0], &site.servers[1]];
    // The two would pass it on to each other without end.
    let wrong = BTreeMap::from([(ServerId(1), second.address)]);
    second.call(|listener| listener.set_farm_peers(wrong)).await;
    let mut failures = second.failures().await;
    let error = session.add_tcp(site.balancer.address, None).await.unwrap_err();
    assert!(matches!(error, AddTcpError::Join(TcpFault::Reset)), "{error}");
    assert_eq!(failures.next().await.unwrap().fault, HandOverFault::Misdirected.into());
    assert_eq!((first.hand_overs().await, second.hand_overs().await), (0, 1));
}

#[tokio::test]
async fn resumed_join_of_an_unknown_server_gets_a_full_handshake() {
    let site = Site::start(b"", |_| {}).await;
    let [first, second] = [&site.servers[0], &site.servers[1]];
    let session = Session::connect(&[first.address], site.options()).await.unwrap();
    exchange(&session, 1000).await; // the server's tickets are in front of its answer
    let hello = hello_of_a_join(&session).await;
    assert!(!hello.windows(4).any(|bytes| bytes == [0xff, 0x61, 0, 32]), "it has no extension of TCPLS");
    let mut failures = second.failures().await;
    second.call(|listener| listener.set_farm_peers(BTreeMap::new())).await;
    let mut stream = TcpStream::connect(second.address).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut flight = vec![0; 700];
    soon(stream.read_exact(&mut flight)).await.unwrap();
    assert_eq!(flight[..3], [22, 3, 3], "a ServerHello, and behind it a certificate");
    assert_eq!(failures.next().await.unwrap().fault, HandOverFault::Unknown(ServerId(1)).into());
}
