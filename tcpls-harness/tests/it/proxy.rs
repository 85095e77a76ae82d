//! Tunnels over real sockets: the proxy's answers, ends and resets in both directions, limits.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session, Stream};
use tcpls_harness::proxy::{
    self, Allow, Credentials, End, Limits, Refusal, Report, Splicing, Target, TcpOutbound, TcpPeer, Users, splice,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::library;
use crate::plain::plain_client;
use crate::support::{ANY, identity, pattern, trust};

/// What a proxy reported.
pub(crate) type Reports = Arc<Mutex<Vec<Report>>>;

/// A proxy that permits loopback addresses, and a session with it.
pub(crate) async fn session(users: Users, limits: Limits) -> (Session, Reports) {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, proxy::PROTOCOL));
    let options = options.with(|options| {
        let config = options.config.as_ref().clone();
        options.config = Arc::new(config.with(|config| config.max_streams = 2000));
    });
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let allow = Allow::new(vec!["127.0.0.0/8:1-65534".parse().unwrap()]);
    let server = proxy::Server::new(TcpOutbound::new(allow, Duration::from_secs(60)), users, limits);
    let reports = Reports::default();
    let log = reports.clone();
    tokio::spawn(async move {
        let session = listener.accept().await;
        server.serve(&session, move |report| log.lock().unwrap().push(report)).await;
    });
    let tls = library::client(&trust(&identity), proxy::PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    (Session::connect(&addresses, options).await.unwrap(), reports)
}

/// A target, and a tunnel to it with a program at each end.
struct Ends {
    session: Session,
    /// The program at the client.
    near: TcpStream,
    /// The program at the target.
    far: TcpStream,
    client: tokio::task::JoinHandle<End>,
    reports: Reports,
}

impl Ends {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let (session, reports) = session(Users::default(), limits).await;
        let targets = TcpListener::bind(ANY).await.unwrap();
        let target = Target::at(targets.local_addr().unwrap().ip(), targets.local_addr().unwrap().port());
        let (near, local) = pair().await;
        let asking = async {
            let (stream, rest) = proxy::request(&session, &target, None).await.unwrap();
            assert!(rest.is_empty());
            stream
        };
        let (stream, far) = tokio::join!(asking, async { targets.accept().await.unwrap().0 });
        let runtime = session.runtime();
        let client =
            tokio::spawn(async move { splice(&runtime, stream, TcpPeer::new(local), Splicing::default()).await.end });
        Self { session, near, far, client, reports }
    }

    /// How the tunnel ended at the client and at the server.
    async fn end(self) -> (End, End) {
        let client = self.client.await.unwrap();
        loop {
            let ended = |report: &Report| match report {
                Report::Ended { spliced, .. } => Some(spliced.end),
                _ => None,
            };
            if let Some(server) = self.reports.lock().unwrap().iter().find_map(ended) {
                drop(self.session);
                return (client, server);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Both ends of a TCP connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until the connection fails.
async fn failure(socket: &mut TcpStream) -> io::ErrorKind {
    let mut sink = [0; 4096];
    loop {
        match socket.read(&mut sink).await {
            Ok(0) => panic!("it ended"),
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

#[tokio::test]
async fn each_direction_of_a_tunnel_ends_alone() {
    let mut ends = Ends::start().await;
    ends.near.write_all(b"question").await.unwrap();
    ends.near.shutdown().await.unwrap();
    let mut question = String::new();
    ends.far.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    let answer = pattern(3_000_000);
    let (sent, mut received) = (answer.clone(), Vec::new());
    let sending = async {
        ends.far.write_all(&sent).await.unwrap();
        ends.far.shutdown().await.unwrap();
    };
    let (_, read) = tokio::join!(sending, ends.near.read_to_end(&mut received));
    assert_eq!(read.unwrap(), answer.len());
    assert!(received == answer);
    assert_eq!(ends.end().await, (End::Finished, End::Finished));
}

#[tokio::test]
async fn a_direction_from_the_target_ends_alone_too() {
    let mut ends = Ends::start().await;
    ends.far.shutdown().await.unwrap();
    assert_eq!(ends.near.read(&mut [0]).await.unwrap(), 0);
    ends.near.write_all(b"still open").await.unwrap();
    ends.near.shutdown().await.unwrap();
    let mut text = String::new();
    ends.far.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still open");
    assert_eq!(ends.end().await, (End::Finished, End::Finished));
}

#[tokio::test]
async fn a_reset_at_one_side_of_a_tunnel_is_a_reset_at_the_other() {
    for at_target in [false, true] {
        let Ends { session, near, far, client, reports } = Ends::start().await;
        let (gone, mut other) = if at_target { (far, near) } else { (near, far) };
        reset(gone);
        assert_eq!(failure(&mut other).await, io::ErrorKind::ConnectionReset);
        let ends = Ends { session, near: pair().await.0, far: other, client, reports };
        let code = End::StreamReset(proxy::codes::CONNECT_ERROR);
        assert_eq!(ends.end().await, if at_target { (code, End::PeerReset) } else { (End::PeerReset, code) });
    }
}

#[tokio::test]
async fn resets_are_passed_on_after_a_half_close_and_while_the_reader_is_slow() {
    for at_target in [false, true] {
        // The side that is reset has ended its direction before.
        let mut ends = Ends::start().await;
        let gone = if at_target { &mut ends.far } else { &mut ends.near };
        gone.shutdown().await.unwrap();
        let other = if at_target { &mut ends.near } else { &mut ends.far };
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        let Ends { session, near, far, client, reports } = ends;
        let (gone, other) = if at_target { (far, near) } else { (near, far) };
        reset(gone);
        let ends = Ends { session, near: other, far: pair().await.0, client, reports };
        let code = End::StreamReset(proxy::codes::CONNECT_ERROR);
        assert_eq!(ends.end().await, if at_target { (code, End::PeerReset) } else { (End::PeerReset, code) });

        // The side that is reset has written until nothing more is taken.
        let Ends { session, near, far, client, reports } = Ends::start().await;
        let (gone, other) = if at_target { (far, near) } else { (near, far) };
        let filled = async {
            while gone.writable().await.is_ok() {
                _ = gone.try_write(&[0; 65_536]);
            }
        };
        let full = async {
            // A stream that is not read carries as much as its first window.
            let carried = || {
                let counters = session.stats().tcp.into_iter().map(|tcp| tcp.counters);
                counters.map(|counters| counters.stream_bytes_sent + counters.stream_bytes_received).sum::<u64>()
            };
            while carried() < 1 << 20 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = filled => unreachable!("the connection works"),
            () = full => {}
        }
        reset(gone);
        let ends = Ends { session, near: other, far: pair().await.0, client, reports };
        assert_eq!(ends.end().await, if at_target { (code, End::PeerReset) } else { (End::PeerReset, code) });
    }
}

#[tokio::test]
async fn a_reset_reaches_a_side_that_has_ended_its_direction_and_reads_nothing() {
    for at_target in [false, true] {
        let Ends { session, near, far, client, reports } = Ends::start().await;
        let (mut gone, mut other) = if at_target { (far, near) } else { (near, far) };
        other.shutdown().await.unwrap();
        assert_eq!(gone.read(&mut [0]).await.unwrap(), 0);
        let carried = || {
            let counters = session.stats().tcp.into_iter().map(|tcp| tcp.counters);
            counters.map(|counters| counters.stream_bytes_sent + counters.stream_bytes_received).sum::<u64>()
        };
        // Until the kernel of the side that reads nothing is full: everything behind it is full then, too.
        let mut refused = 0;
        let mut last = carried();
        while refused < 200 {
            match tokio::time::timeout(Duration::from_millis(1), gone.writable()).await {
                Ok(_) => _ = gone.try_write(&[0; 65_536]),
                Err(_) => refused += 1,
            }
            let now = carried();
            refused = if now == last { refused } else { 0 };
            last = now;
        }
        reset(gone);
        let ends = Ends { session, near: other, far: pair().await.0, client, reports };
        let code = End::StreamReset(proxy::codes::CONNECT_ERROR);
        assert_eq!(ends.end().await, if at_target { (code, End::PeerReset) } else { (End::PeerReset, code) });
    }
}

#[tokio::test]
async fn a_session_that_ends_resets_both_programs() {
    let mut ends = Ends::start().await;
    ends.session.close(tcpls_core::wire::ids::ErrorCode(1), b"").await;
    assert_eq!(failure(&mut ends.near).await, io::ErrorKind::ConnectionReset);
    assert_eq!(failure(&mut ends.far).await, io::ErrorKind::ConnectionReset);
    assert_eq!(ends.end().await, (End::SessionEnded, End::SessionEnded));
}

#[tokio::test]
async fn a_tunnel_that_carries_nothing_ends_after_the_idle_time() {
    let mut ends = Ends::with(Limits::default().with(|limits| limits.idle = Some(Duration::from_millis(50)))).await;
    assert_eq!(failure(&mut ends.near).await, io::ErrorKind::ConnectionReset);
    assert_eq!(ends.end().await, (End::StreamReset(proxy::codes::IDLE), End::Idle));
}

#[tokio::test]
async fn a_tunnel_over_plain_tls_outlives_the_idle_timeout_of_sessions() {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, proxy::PROTOCOL)).with(|options| {
        let config = options.config.as_ref().clone();
        options.config = Arc::new(config.with(|config| config.idle_timeout = Some(Duration::from_millis(300))));
    });
    let mut listener = Listener::bind(&[ANY], options).unwrap();
    let address = listener.local_addresses()[0];
    let allow = Allow::new(vec!["127.0.0.1:*".parse().unwrap()]);
    let outbound = TcpOutbound::new(allow, Duration::from_secs(60));
    let server = proxy::Server::new(outbound, Users::default(), Limits::default());
    tokio::spawn(async move {
        loop {
            let (session, server) = (listener.accept().await, server.clone());
            tokio::spawn(async move { server.serve(&session, |_| {}).await });
        }
    });
    let client = plain_client(identity.certificate_pem(), proxy::PROTOCOL);
    let connect = async || {
        let socket = TcpStream::connect(address).await.unwrap();
        client.connect("localhost".try_into().unwrap(), socket).await.unwrap()
    };
    let mut tunnel = connect().await;
    let head = format!("CONNECT {} HTTP/1.1\r\nHost: a\r\n\r\n", echo_target().await);
    tunnel.write_all(head.as_bytes()).await.unwrap();
    let mut granted = [0; 19];
    tunnel.read_exact(&mut granted).await.unwrap();
    assert_eq!(&granted, b"HTTP/1.1 200 OK\r\n\r\n");
    // A session without a tunnel, which begins later, ends for want of a request.
    let mut idle = connect().await;
    _ = idle.read_to_end(&mut Vec::new()).await;
    tunnel.write_all(b"still there").await.unwrap();
    let mut echo = [0; 11];
    tunnel.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"still there");
}

/// Sends a head, and returns the whole answer.
async fn answer(session: &Session, head: &str) -> String {
    let mut stream = session.open_stream().await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn requests_that_are_not_granted_get_the_right_status() {
    let mut users = Users::default();
    assert!(users.add("ann", "secret"));
    let (session, reports) = session(users, Limits::default()).await;
    let login = Credentials::parse("ann:secret").unwrap();
    let with = |head: &str| format!("{head}Proxy-Authorization: {}\r\n\r\n", login.field());
    let closed = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    for (head, status) in [
        (with("CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: a\r\n"), "403"),
        (with("CONNECT 127.0.0.1:65535 HTTP/1.1\r\nHost: a\r\n"), "403"),
        (with(&format!("CONNECT {closed} HTTP/1.1\r\nHost: a\r\n")), "502"),
        (with("GET http://127.0.0.1/ HTTP/1.1\r\nHost: a\r\n"), "405"),
        (with("CONNECT 127.0.0.1 HTTP/1.1\r\nHost: a\r\n"), "400"),
        (with("CONNECT 127.0.0.1:80 HTTP/1.1\r\n"), "400"),
        (with("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\nHost: b\r\n"), "400"),
        (with("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"), "400"),
        ("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "407"),
        ("CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer x\r\n\r\n".to_owned(), "407"),
        ("CONNECT 127.0.0.1:80 HTTP/2.0\r\n\r\n".to_owned(), "505"),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400"),
        ("x".repeat(20_000), "431"),
    ] {
        let answer = answer(&session, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer}");
        assert_eq!(answer.contains("Proxy-Authenticate: Basic"), status == "407", "{answer}");
        assert_eq!(answer.contains("Allow: CONNECT"), status == "405", "{answer}");
    }
    let refused = |report: &Report| matches!(report, Report::Refused { .. });
    assert_eq!(reports.lock().unwrap().iter().filter(|report| refused(report)).count(), 13);
    let target: Target = "127.0.0.1:80".parse().unwrap();
    assert_eq!(proxy::request(&session, &target, None).await.unwrap_err(), Refusal::Credentials);
}

#[tokio::test]
async fn a_client_gets_at_most_its_number_of_connections() {
    let limits = Limits::default().with(|limits| limits.per_client = 2);
    let (session, _) = session(Users::default(), limits).await;
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target: Target = listener.local_addr().unwrap().to_string().parse().unwrap();
    let first = proxy::request(&session, &target, None).await.unwrap();
    let _second = proxy::request(&session, &target, None).await.unwrap();
    assert_eq!(proxy::request(&session, &target, None).await.unwrap_err(), Refusal::TooMany);
    drop(first);
    // The place is free once the server has noticed.
    while proxy::request(&session, &target, None).await.is_err() {}
}

#[tokio::test]
async fn a_session_has_at_most_64_incomplete_requests() {
    let limits = Limits::default().with(|limits| limits.request_timeout = Duration::from_millis(300));
    let (session, reports) = session(Users::default(), limits).await;
    let mut incomplete = Vec::new();
    for _ in 0..64 {
        let mut stream = session.open_stream().await.unwrap();
        stream.write_all(b"CONNECT ").await.unwrap();
        incomplete.push(stream);
    }
    let answer = answer(&session, "CONNECT 127.0.0.1:65535 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let refusals = reports.lock().unwrap().clone();
    let mut refusals = refusals.iter().filter_map(|report| match report {
        Report::Refused { refusal, .. } => Some(*refusal),
        _ => None,
    });
    assert_eq!(refusals.next(), Some(Refusal::RequestTimeout), "the complete one waited for a place");
}

/// Sends a pattern through a tunnel to a target that echoes, and compares.
async fn echo(stream: Stream, bytes: usize) {
    let sent = pattern(bytes);
    let (mut send, mut recv) = stream.split();
    let sending = async {
        send.write_all(&sent).await.unwrap();
        send.finish().unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(sending, recv.read_to_end(&mut received));
    read.unwrap();
    assert!(received == sent);
}

/// A target that sends back what it receives.
pub(crate) async fn echo_target() -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
                    _ = writer.shutdown().await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tunnels_share_a_session() {
    let (session, reports) = session(Users::default(), Limits::default()).await;
    let target: Target = echo_target().await.to_string().parse().unwrap();
    let mut tunnels = Vec::new();
    while tunnels.len() < 1000 {
        tunnels.push(proxy::request(&session, &target, None).await.unwrap().0);
    }
    let echoes: Vec<_> = tunnels.into_iter().map(|stream| tokio::spawn(echo(stream, 10_000))).collect();
    for echoed in echoes {
        echoed.await.unwrap();
    }
    let finished = |report: &Report| matches!(report, Report::Ended { spliced, .. } if spliced.end == End::Finished);
    while reports.lock().unwrap().iter().filter(|report| finished(report)).count() < 1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn session_that_ends_behind_its_last_data_ends_a_tunnel_whose_peer_takes_no_more() {
    let mut server = crate::support::Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut asked = client.open_stream().await.unwrap();
    asked.write_all(b"x").await.unwrap();
    let (stream, runtime) = (peer.accept_stream().await.unwrap(), peer.runtime());
    let (near, mut far) = tokio::io::duplex(4);
    far.shutdown().await.unwrap();
    let mut tunnel = std::pin::pin!(splice(&runtime, stream, near, Splicing::default()));
    let begun = tokio::time::timeout(Duration::from_millis(200), &mut tunnel).await;
    assert!(begun.is_err(), "the end of `far` was passed on, and the tunnel goes on");
    // Both arrive while the tunnel's task does not run.
    asked.write_all(&[b'y'; 100]).await.unwrap();
    client.close(Default::default(), b"").await;
    peer.closed().await;
    assert_eq!(crate::support::soon(tunnel).await.end, End::SessionEnded);
}
