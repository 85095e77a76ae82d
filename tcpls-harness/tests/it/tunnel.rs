//! A client's tunnel over paths that fail, and the programs that use it.

use std::sync::Arc;
use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, Runtime, ServerOptions, Session};
use tcpls_harness::proxy::{
    self, Allow, AllowRemote, Limits, Refusal, RemoteForward, RemoteForwards, RemoteReport, Server, Target,
    TcpOutbound, TcpPeer, Tunnel, TunnelOptions, Users, serve_forward, serve_program,
};
use tcpls_harness::relay::Relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::library;
use crate::proxy::echo_target;
use crate::support::{ANY, identity, pattern, relay, trust};

/// A proxy behind two paths that can be broken, and a client's tunnel over both.
pub(crate) struct World {
    relays: [Relay; 2],
    server: Server<TcpOutbound>,
    pub(crate) tunnel: Tunnel,
    /// The server's end of each session.
    pub(crate) sessions: mpsc::UnboundedReceiver<Session>,
}

impl World {
    pub(crate) async fn start(wait: Duration) -> Self {
        Self::with_session_timeout(wait, Duration::from_secs(3600)).await
    }

    async fn with_session_timeout(wait: Duration, session_timeout: Duration) -> Self {
        let identity = identity();
        let config = Config::default().with(|config| config.session_timeout = session_timeout);
        let config = Arc::new(config.with(|config| config.max_streams = 2000));
        let options = ServerOptions::new(library::server(&identity, proxy::PROTOCOL));
        let options = options.with(|options| options.config = config.clone());
        let mut listener = Listener::bind(&[ANY, ANY], options).unwrap();
        let relays = [0, 1].map(|index| relay(listener.local_addresses()[index]));
        let (sender, sessions) = mpsc::unbounded_channel();
        let allow = Allow::new(vec!["127.0.0.0/8:*".parse().unwrap()]);
        let outbound = TcpOutbound::new(allow, Duration::from_secs(60));
        let server = Server::new(outbound, Users::default(), Limits::default());
        let serving = server.clone();
        tokio::spawn(async move {
            loop {
                let session = listener.accept().await;
                _ = sender.send(session.clone());
                let server = serving.clone();
                tokio::spawn(async move { server.serve(&session, |_| {}).await });
            }
        });
        let tls = library::client(&trust(&identity), proxy::PROTOCOL);
        let addresses = [relays[0].address(), relays[1].address()];
        let options = ClientOptions::new(tls, "localhost".try_into().unwrap()).with(|options| options.config = config);
        let dial = move || {
            let options = options.clone();
            async move { Session::connect(&addresses, options).await }
        };
        let options = TunnelOptions::default().with(|options| options.wait = wait);
        let tunnel = Tunnel::start(&Runtime::tokio(), options, None, dial, |_: proxy::TunnelReport<ConnectError>| {});
        Self { relays, server, tunnel, sessions }
    }

    /// Waits until there is a session with TCP connections on both paths.
    pub(crate) async fn connected(&self) -> Session {
        loop {
            if let Some(session) = self.tunnel.session() {
                let mut events = session.events();
                while session.tcp_connections().len() < 2 && events.next().await.is_some() {}
                if session.close_reason().is_none() {
                    return session;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// A local port for programs; `target` is that of a forward.
    pub(crate) async fn port(&self, target: Option<Target>) -> std::net::SocketAddr {
        let listener = TcpListener::bind(ANY).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tunnel = self.tunnel.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (tunnel, target, program) = (tunnel.clone(), target.clone(), TcpPeer::new(socket));
                tokio::spawn(async move {
                    let runtime = Runtime::tokio();
                    match target {
                        Some(target) => serve_forward(&runtime, &tunnel, program, &target).await,
                        None => serve_program(&runtime, &tunnel, program).await,
                    }
                });
            }
        });
        address
    }
}

async fn target() -> Target {
    echo_target().await.to_string().parse().unwrap()
}

/// Sends a byte, and waits for its echo.
async fn keystroke(terminal: &mut TcpStream, key: u8) {
    terminal.write_all(&[key]).await.unwrap();
    assert_eq!(terminal.read_u8().await.unwrap(), key);
}

#[tokio::test]
async fn a_dark_path_ends_no_connection_and_loses_nothing() {
    let world = World::start(Duration::from_secs(60)).await;
    let port = world.port(Some(target().await)).await;
    world.connected().await;
    let mut terminal = TcpStream::connect(port).await.unwrap();
    keystroke(&mut terminal, 0).await;
    let bulk = TcpStream::connect(port).await.unwrap();
    let (mut reader, mut writer) = bulk.into_split();
    let data = pattern(20_000_000);
    let sent = data.clone();
    let (sender, mut progress) = tokio::sync::watch::channel(0);
    let bulk = tokio::spawn(async move {
        let writing = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let reading = async {
            let mut received = Vec::new();
            while reader.read_buf(&mut received).await.unwrap() > 0 {
                sender.send_replace(received.len());
            }
            received
        };
        tokio::join!(writing, reading).1
    });
    for (key, dark) in [(1, 0), (2, 1)] {
        progress.wait_for(|received| *received > 4_000_000 * usize::from(key)).await.unwrap();
        world.relays[dark].stall();
        for _ in 0..20 {
            keystroke(&mut terminal, key).await;
        }
        world.relays[dark].resume();
        // The next path to go dark must not be the only one that is left.
        world.connected().await;
    }
    assert!(bulk.await.unwrap() == data);
    keystroke(&mut terminal, 9).await;
}

#[tokio::test]
async fn connections_stay_open_while_all_networks_are_away() {
    let world = World::start(Duration::from_millis(100)).await;
    let target = target().await;
    let (forward, proxy) = (world.port(Some(target.clone())).await, world.port(None).await);
    let session = world.connected().await;
    let mut terminal = TcpStream::connect(forward).await.unwrap();
    keystroke(&mut terminal, 1).await;
    world.relays.iter().for_each(Relay::take_down);
    let mut events = session.events();
    while !session.tcp_connections().is_empty() {
        events.next().await.unwrap();
    }
    terminal.write_all(&[2]).await.unwrap();
    // New connections wait, and get the right error then.
    assert_eq!(world.tunnel.connect(&target).await.unwrap_err(), Refusal::NoSession);
    assert_eq!(socks(proxy, &target).await.unwrap_err(), 3, "network unreachable");
    let answer = http(proxy, &format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    world.relays.iter().for_each(Relay::resume);
    assert_eq!(terminal.read_u8().await.unwrap(), 2);
    keystroke(&mut terminal, 3).await;
    assert!(session.close_reason().is_none());
}

#[tokio::test]
async fn connections_are_reset_at_both_ends_by_an_outage_longer_than_agreed() {
    let mut world = World::with_session_timeout(Duration::from_secs(60), Duration::from_millis(300)).await;
    // A target that says how its connection ends.
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap().to_string().parse().unwrap();
    let port = world.port(Some(target)).await;
    let mut terminal = TcpStream::connect(port).await.unwrap();
    let (mut at_target, _) = listener.accept().await.unwrap();
    terminal.write_all(&[1]).await.unwrap();
    assert_eq!(at_target.read_u8().await.unwrap(), 1);
    let sessions = [world.connected().await, world.sessions.recv().await.unwrap()];
    world.relays.iter().for_each(Relay::take_down);
    for socket in [&mut terminal, &mut at_target] {
        assert_eq!(socket.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    for session in sessions {
        assert_eq!(session.closed().await, CloseReason::Stranded);
    }
    world.relays.iter().for_each(Relay::resume);
    let mut terminal = TcpStream::connect(port).await.unwrap();
    terminal.write_all(&[2]).await.unwrap();
    let (mut at_target, _) = listener.accept().await.unwrap();
    assert_eq!(at_target.read_u8().await.unwrap(), 2);
}

#[tokio::test]
async fn a_new_session_follows_the_one_that_ended() {
    let mut world = World::start(Duration::from_secs(60)).await;
    let port = world.port(Some(target().await)).await;
    let mut terminal = TcpStream::connect(port).await.unwrap();
    keystroke(&mut terminal, 1).await;
    world.sessions.recv().await.unwrap().close(ErrorCode(0x104), b"restart").await;
    assert_eq!(terminal.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // What connects meanwhile waits for the new session.
    let mut terminal = TcpStream::connect(port).await.unwrap();
    keystroke(&mut terminal, 2).await;
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_closes_its_session() {
    let mut world = World::start(Duration::from_secs(60)).await;
    world.connected().await;
    let session = world.sessions.recv().await.unwrap();
    drop(world.tunnel);
    session.closed().await;
}

#[tokio::test]
async fn a_tunnel_whose_session_the_application_closes_has_ended() {
    let world = World::start(Duration::from_secs(3600)).await;
    world.connected().await.close(ErrorCode(0), b"").await;
    // Not after the hour that a request waits for the next session.
    assert_eq!(world.tunnel.connect(&target().await).await.unwrap_err(), Refusal::NoSession);
}

/// Connects by SOCKS; an error is the reply's code.
async fn socks(proxy: std::net::SocketAddr, target: &Target) -> Result<TcpStream, u8> {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(&[5, 1, 0]).await.unwrap();
    assert_eq!(socket.read_u16().await.unwrap(), 0x500);
    let host = target.host.to_string();
    let request = [&[5, 1, 0, 3, host.len() as u8], host.as_bytes(), &target.port.to_be_bytes()].concat();
    socket.write_all(&request).await.unwrap();
    let mut reply = [0; 10];
    socket.read_exact(&mut reply).await.unwrap();
    if reply[1] == 0 { Ok(socket) } else { Err(reply[1]) }
}

/// Sends bytes to a proxy, and returns all that it answers.
async fn answer(proxy: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(proxy).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    answer
}

async fn http(proxy: std::net::SocketAddr, head: &str) -> String {
    String::from_utf8(answer(proxy, head.as_bytes()).await).unwrap()
}

#[tokio::test]
async fn socks_and_http_share_a_port() {
    let world = World::start(Duration::from_secs(60)).await;
    let (proxy, target) = (world.port(None).await, target().await);
    let mut terminal = socks(proxy, &target).await.unwrap();
    keystroke(&mut terminal, 1).await;

    let mut terminal = TcpStream::connect(proxy).await.unwrap();
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly");
    terminal.write_all(head.as_bytes()).await.unwrap();
    let expected = b"HTTP/1.1 200 Connection established\r\n\r\nearly";
    let mut granted = vec![0; expected.len()];
    terminal.read_exact(&mut granted).await.unwrap();
    assert_eq!(granted, expected);
    keystroke(&mut terminal, 2).await;
}

#[tokio::test]
async fn programs_get_the_refusal_of_their_protocol() {
    let world = World::start(Duration::from_secs(60)).await;
    let proxy = world.port(None).await;
    let closed = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    for (target, code, status) in [("192.0.2.1:80".to_owned(), 2, "403"), (closed.to_string(), 5, "502")] {
        assert_eq!(socks(proxy, &target.parse().unwrap()).await.unwrap_err(), code, "{target}");
        let answer = http(proxy, &format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    for (command, name) in [(2, "BIND"), (3, "UDP ASSOCIATE")] {
        let request = [&[5, 1, 0][..], &[5, command, 0, 1, 127, 0, 0, 1, 0, 80]].concat();
        let answer = answer(proxy, &request).await;
        assert_eq!((&answer[..2], answer[3]), (&[5, 0][..], 7), "{name}");
    }
    assert_eq!(answer(proxy, &[5, 1, 2]).await, [5, 0xff], "only a password is offered");
    assert_eq!(answer(proxy, &[4, 1, 0, 80, 127, 0, 0, 1, 0]).await[..2], [0, 0x5b], "SOCKS version 4");
    assert!(http(proxy, "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
    assert!(http(proxy, "\u{1}\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_short_connections_leave_nothing_behind() {
    const TASKS: usize = 20;
    const EACH: usize = 50;
    let world = World::start(Duration::from_secs(60)).await;
    let port = world.port(Some(target().await)).await;
    let session = world.connected().await;
    let short = |_| {
        tokio::spawn(async move {
            for _ in 0..EACH {
                let mut socket = TcpStream::connect(port).await.unwrap();
                socket.write_all(b"short").await.unwrap();
                socket.shutdown().await.unwrap();
                let mut text = String::new();
                socket.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, "short");
            }
        })
    };
    for task in (0..TASKS).map(short).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert!(session.close_reason().is_none(), "all in one session");
    assert_eq!(world.tunnel.session().map(|session| session.tcp_connections().len()), Some(2));
}

/// Serves a client's remote forwards in a session, if the first one is granted, and returns the answer about that.
async fn remote(forwards: &RemoteForwards, session: &Session) -> RemoteReport {
    let (sender, mut reports) = mpsc::unbounded_channel();
    let (forwards, session) = (forwards.clone(), session.clone());
    let serving =
        tokio::spawn(async move { forwards.serve(&session, None, move |report| _ = sender.send(report)).await });
    let report = reports.recv().await.unwrap();
    if !matches!(report, RemoteReport::Listening(_)) {
        serving.abort(); // or it would take the streams of another client of this test
    }
    report
}

#[tokio::test]
async fn a_remote_port_returns_to_its_client_in_the_next_session() {
    let mut world = World::start(Duration::from_secs(60)).await;
    let listen = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let denied = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    world.server.allow_remote(AllowRemote::new(vec![listen.to_string().parse().unwrap()]));
    let target = target().await;
    let client =
        |listen| RemoteForwards::new(&Runtime::tokio(), vec![RemoteForward { listen, target: target.clone() }]);
    let (own, other) = (client(listen), client(listen));

    let session = world.connected().await;
    assert_eq!(remote(&client(denied), &session).await, RemoteReport::Refused(denied, Refusal::Denied));
    assert_eq!(remote(&own, &session).await, RemoteReport::Listening(listen));
    assert_eq!(remote(&other, &session).await, RemoteReport::Refused(listen, Refusal::Taken));
    let mut terminal = TcpStream::connect(listen).await.unwrap();
    keystroke(&mut terminal, 1).await;

    world.sessions.recv().await.unwrap().close(ErrorCode(0x104), b"restart").await;
    assert_eq!(terminal.read_u8().await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    // What connects before the client is back waits for it.
    let mut terminal = TcpStream::connect(listen).await.unwrap();
    session.closed().await;
    let session = world.connected().await;
    assert_eq!(remote(&other, &session).await, RemoteReport::Refused(listen, Refusal::Taken), "the port is kept");
    assert_eq!(remote(&own, &session).await, RemoteReport::Listening(listen));
    keystroke(&mut terminal, 2).await;
}
