//! A proxy is replaced by another one on the same address while its clients have connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tcpls_core::config::Config;
use tcpls_core::error::{CloseReason, OpenStreamError, code};
use tcpls_harness::net::{ClientOptions, ConnectError, Listener, Runtime, ServerOptions, Session};
use tcpls_harness::proxy::{
    self, Allow, AllowRemote, Limits, RemoteForward, RemoteForwards, RemoteReport, Report, Server, TcpOutbound,
    TcpPeer, Tunnel, TunnelOptions, TunnelReport, Users, serve_forward,
};
use tcpls_harness::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::library;
use crate::proxy::echo_target;
use crate::support::{ANY, identity, soon, trust};

const LIMIT: Duration = Duration::from_secs(600);

/// A proxy process: a listener and what serves its sessions.
struct Process {
    address: SocketAddr,
    /// Drains it; the address is free once this is answered.
    drain: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// How many sessions it has served.
    sessions: watch::Receiver<usize>,
    /// Ends when it has drained.
    exit: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(identity: &Identity, address: SocketAddr, remote: Option<SocketAddr>) -> Self {
        let config = Config::default().with(|config| config.max_streams = 2000);
        let options = ServerOptions::new(library::server(identity, proxy::PROTOCOL));
        let options = options.with(|options| options.config = Arc::new(config));
        let mut listener = Listener::bind(&[address], options).unwrap();
        let address = listener.local_addresses()[0];
        let allow = Allow::new(vec!["127.0.0.0/8:*".parse().unwrap()]);
        let server = Server::new(TcpOutbound::new(allow, LIMIT), Users::default(), Limits::default());
        let patterns = remote.map(|address| address.to_string().parse().unwrap());
        server.allow_remote(AllowRemote::new(patterns.into_iter().collect()));
        let (drain, mut wishes) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
        let (count, sessions) = watch::channel(0);
        let exit = tokio::spawn(async move {
            let mut drained = None;
            loop {
                let end = async {
                    match &mut drained {
                        Some(drained) => drained.await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    session = listener.accept() => {
                        count.send_modify(|count| *count += 1);
                        let server = server.clone();
                        tokio::spawn(async move { server.serve(&session, |_| {}).await });
                    }
                    Some(done) = wishes.recv() => {
                        listener.drain(LIMIT).await;
                        drained = Some(Box::pin(listener.drained()));
                        _ = done.send(());
                    }
                    () = end => return,
                }
            }
        });
        Self { address, drain, sessions, exit }
    }

    async fn drain(&self) {
        let (done, is_done) = oneshot::channel();
        self.drain.send(done).unwrap();
        soon(is_done).await.unwrap();
    }
}

/// A client's tunnel to `server`, which asks for remote ports in each session.
fn tunnel(identity: &Identity, server: SocketAddr, remote: Option<RemoteForwards>) -> (Tunnel, watch::Receiver<usize>) {
    let tls = library::client(&trust(identity), proxy::PROTOCOL);
    let config = Config::default().with(|config| config.max_streams = 2000);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let options = options.with(|options| options.config = Arc::new(config));
    let dial = move || {
        let options = options.clone();
        async move { Session::connect(&[server], options).await }
    };
    let (granted, grants) = watch::channel(0);
    let granted = Arc::new(granted);
    let report = move |report: TunnelReport<ConnectError>| {
        if let (TunnelReport::Began(session), Some(forwards)) = (report, remote.clone()) {
            let granted = granted.clone();
            let tell = move |report| {
                if matches!(report, RemoteReport::Listening(_)) {
                    granted.send_modify(|count| *count += 1);
                }
            };
            tokio::spawn(async move { forwards.serve(&session, None, tell).await });
        }
    };
    (Tunnel::start(&Runtime::tokio(), TunnelOptions::default(), None, dial, report), grants)
}

/// A local port that leads through the tunnel to a target that echoes.
async fn port(tunnel: &Tunnel) -> SocketAddr {
    let (listener, target) = (TcpListener::bind(ANY).await.unwrap(), echo_target().await);
    let (address, tunnel) = (listener.local_addr().unwrap(), tunnel.clone());
    let target: proxy::Target = target.to_string().parse().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tunnel, target) = (tunnel.clone(), target.clone());
            let serving = async move { serve_forward(&Runtime::tokio(), &tunnel, TcpPeer::new(socket), &target).await };
            tokio::spawn(serving);
        }
    });
    address
}

async fn keystroke(terminal: &mut TcpStream, key: u8) {
    terminal.write_all(&[key]).await.unwrap();
    assert_eq!(soon(terminal.read_u8()).await.unwrap(), key);
}

async fn connect(port: SocketAddr, key: u8) -> TcpStream {
    let mut terminal = TcpStream::connect(port).await.unwrap();
    keystroke(&mut terminal, key).await;
    terminal
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_proxy_loses_no_connection_and_new_ones_use_the_next() {
    const RUNNING: u8 = 50;
    let identity = identity();
    let mut old = Process::start(&identity, ANY, None);
    let (tunnel, _) = tunnel(&identity, old.address, None);
    let port = port(&tunnel).await;
    let mut terminals = Vec::new();
    for key in 0..RUNNING {
        terminals.push(connect(port, key).await);
    }
    // Connections are opened without a pause meanwhile; none may fail.
    let (stop, mut stopped) = oneshot::channel::<()>();
    let opener = tokio::spawn(async move {
        let mut opened = 0;
        while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let mut terminal = connect(port, 7).await;
            terminal.shutdown().await.unwrap();
            assert_eq!(terminal.read(&mut [0]).await.unwrap(), 0);
            opened += 1;
        }
        opened
    });
    old.drain().await;
    let mut new = Process::start(&identity, old.address, None);
    soon(new.sessions.wait_for(|sessions| *sessions == 1)).await.unwrap();
    let mut late = connect(port, 200).await;
    for (key, terminal) in terminals.iter_mut().enumerate() {
        keystroke(terminal, key as u8).await;
    }
    stop.send(()).unwrap();
    assert!(opener.await.unwrap() > 0);
    assert!(!old.exit.is_finished(), "connections run");
    for mut terminal in terminals {
        terminal.write_all(b"the rest").await.unwrap();
        terminal.shutdown().await.unwrap();
        let mut rest = String::new();
        terminal.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "the rest");
    }
    soon(&mut old.exit).await.unwrap();
    assert_eq!(*old.sessions.borrow(), 1);
    keystroke(&mut late, 201).await;
    assert_eq!(*new.sessions.borrow(), 1);
}

#[tokio::test]
async fn remote_port_moves_to_the_next_proxy() {
    let identity = identity();
    let listen = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let old = Process::start(&identity, ANY, Some(listen));
    let target = echo_target().await.to_string().parse().unwrap();
    let forwards = RemoteForwards::new(&Runtime::tokio(), vec![RemoteForward { listen, target }]);
    let (_tunnel, mut grants) = tunnel(&identity, old.address, Some(forwards));
    soon(grants.wait_for(|grants| *grants == 1)).await.unwrap();
    let mut before = connect(listen, 1).await;
    old.drain().await;
    let _new = Process::start(&identity, old.address, Some(listen));
    soon(grants.wait_for(|grants| *grants == 2)).await.unwrap();
    let mut after = connect(listen, 2).await;
    keystroke(&mut before, 3).await;
    keystroke(&mut after, 4).await;
    before.shutdown().await.unwrap();
    assert_eq!(before.read(&mut [0]).await.unwrap(), 0);
    soon(old.exit).await.unwrap();
    keystroke(&mut after, 5).await;
}

#[tokio::test]
async fn both_ends_of_a_session_learn_of_the_drain() {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, proxy::PROTOCOL));
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let tls = library::client(&trust(&identity), proxy::PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses, options), listener.accept());
    let client = client.unwrap();
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"runs").await.unwrap();
    let mut served = server.accept_stream().await.unwrap();
    assert!(!client.is_draining() && !server.is_draining());
    server.drain(LIMIT);
    soon(async { tokio::join!(client.draining(), server.draining()) }).await;
    for session in [&client, &server] {
        assert!(session.is_draining());
        assert_eq!(session.open_stream().await.unwrap_err(), OpenStreamError::Draining);
    }
    stream.write_all(b" on").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    served.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "runs on");
    served.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(soon(server.closed()).await, CloseReason::Local { error: code::NO_ERROR });
    assert_eq!(soon(client.closed()).await, CloseReason::Peer { error: code::NO_ERROR, reason: b"drained".to_vec() });
    assert!(server.accept_stream().await.is_none());
    soon(listener.drained()).await;
}

/// A target that sends without end.
async fn source() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        while socket.write_all(&[7; 4096]).await.is_ok() {}
    });
    address
}

#[tokio::test]
async fn port_is_free_after_a_drain_although_its_client_leaves_no_room_for_the_answer() {
    const SMALL: usize = 1024;
    let identity = identity();
    let config = Config::default().with(|config| config.send_buffer = SMALL);
    let options = ServerOptions::new(library::server(&identity, proxy::PROTOCOL));
    let options = options.with(|options| options.config = Arc::new(config));
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let config = Config::default().with(|config| {
        (config.initial_stream_window, config.max_stream_window) = (SMALL as u64, SMALL as u64);
    });
    let tls = library::client(&trust(&identity), proxy::PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    let options = options.with(|options| options.config = Arc::new(config));
    let (client, session) = tokio::join!(Session::connect(&addresses, options), listener.accept());
    let client = client.unwrap();

    let listen = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let allow = Allow::new(vec!["127.0.0.0/8:*".parse().unwrap()]);
    let server = Server::new(TcpOutbound::new(allow, LIMIT), Users::default(), Limits::default());
    server.allow_remote(AllowRemote::new(vec![listen.to_string().parse().unwrap()]));
    let (sender, mut reports) = mpsc::unbounded_channel();
    let serving = session.clone();
    tokio::spawn(async move { server.serve(&serving, move |report| _ = sender.send(report)).await });

    // The data of a connection that the client does not read fills what the server holds for the session.
    let (target, mut unread) = (source().await, client.open_stream().await.unwrap());
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    unread.write_all(head.as_bytes()).await.unwrap();
    // What the client's window allows has arrived, and as much waits.
    let arrived = (head.len() + SMALL) as u64;
    let is_full = || session.delivered() == arrived && session.stats().bytes_to_send == SMALL;
    soon(async {
        while !is_full() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut request = client.open_stream().await.unwrap();
    let head = format!("LISTEN {listen} HTTP/1.1\r\nHost: {listen}\r\nTcpls-Client: 0123456789abcdef\r\n\r\n");
    request.write_all(head.as_bytes()).await.unwrap();
    while !matches!(soon(reports.recv()).await.unwrap(), Report::Listening { address, .. } if address == listen) {}
    assert!(TcpListener::bind(listen).await.is_err(), "the server listens");
    session.drain(LIMIT);
    soon(async {
        while TcpListener::bind(listen).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(soon(request.read(&mut [0])).await.unwrap(), 0, "there was no room for the answer");
}
