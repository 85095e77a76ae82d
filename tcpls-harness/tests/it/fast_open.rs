//! TCP Fast Open, in a network namespace of its own: what rides in a SYN, and when.

mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use tcpls_core::crypto::rustls::EarlyTickets;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Events, Listener, ServerOptions, Session, Stream};
use tcpls_harness::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PROTOCOL, identity, soon, trust};

/// Runs a test in a network namespace whose kernel has Fast Open on both sides, on a thread of its own.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: the call takes a number, and concerns this thread.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return println!("skipped: a network namespace needs privileges");
        }
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        if !up.is_ok_and(|status| status.success()) {
            return println!("skipped: there is no ip command");
        }
        if let Err(error) = std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3") {
            return println!("skipped: this kernel has no Fast Open: {error}");
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    thread.join().unwrap();
}

/// How many TCP connections with data in their SYN this namespace has opened, and accepted.
fn counters() -> (u64, u64) {
    (netstat("TCPFastOpenActive"), netstat("TCPFastOpenPassive"))
}

/// A counter of this namespace's kernel.
fn netstat(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(other, _)| *other == name).unwrap().1.parse().unwrap()
}

struct Ends {
    identity: Identity,
    listener: Listener,
    addresses: Vec<SocketAddr>,
}

impl Ends {
    fn new() -> Self {
        Self::at(["127.0.0.1:0", "127.0.0.2:0"].map(|address| address.parse().unwrap()))
    }

    /// A server there, which gets sessions as soon as their early data arrives.
    fn at<const N: usize>(at: [SocketAddr; N]) -> Self {
        let identity = identity();
        let tls = identity.server(&[PROTOCOL]).unwrap().with_early_data().unwrap();
        let options = ServerOptions::new(tls).with(|options| {
            (options.socket.fast_open, options.early_data) = (true, true);
        });
        let listener = Listener::bind(&at, options).unwrap();
        Self { identity, addresses: listener.local_addresses().to_vec(), listener }
    }

    fn client(&self) -> ClientOptions {
        let tls = trust(&self.identity).client(&[PROTOCOL]).unwrap();
        let tls = tls.with_early_data(Arc::new(EarlyTickets::default()));
        ClientOptions::new(tls, "localhost".try_into().unwrap()).with(|options| options.socket.fast_open = true)
    }
}

/// The next TCP connection that joins.
async fn joined(events: &mut Events) -> ConnectionId {
    loop {
        if let Event::Tcp(TcpEvent::Joined { tcp }) = soon(events.next()).await.expect("the session goes on") {
            return tcp;
        }
    }
}

/// A stream that stays open: without one, lost TCP connections are not replaced.
async fn open(client: &Session) -> Stream {
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"").await.unwrap();
    stream
}

/// Sends a request on a new stream, which the server answers with the same bytes.
async fn echo(client: &Session, server: &Session) {
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"request").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut request = Vec::new();
    let mut asked = loop {
        let mut asked = server.accept_stream().await.unwrap();
        if asked.id() == stream.id() {
            asked.read_to_end(&mut request).await.unwrap();
            break asked;
        }
    };
    asked.write_all(&request).await.unwrap();
    asked.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"request");
}

/// A session over both paths, whose second TCP connection is lost twice: the first join that may be in a SYN brings the
/// cookie. `meanwhile` runs between the two. Returns the counters after each.
async fn rejoin(fast_open: bool, meanwhile: impl Fn()) -> [(u64, u64); 2] {
    let mut ends = Ends::new();
    let mut options = ends.client();
    options.dial.keep = Keep::Paths;
    options.socket.fast_open = fast_open;
    let addresses = ends.addresses.clone();
    let (client, server) = tokio::join!(Session::connect(&addresses, options), ends.listener.accept());
    let client = client.unwrap();
    let mut events = client.events();
    let _open = open(&client).await;
    let mut tcp = joined(&mut events).await;
    let mut counted = [(0, 0); 2];
    for counts in &mut counted {
        client.reset_tcp(tcp);
        tcp = joined(&mut events).await;
        echo(&client, &server).await;
        *counts = counters();
        meanwhile();
    }
    client.close(ErrorCode(0), b"").await;
    counted
}

#[test]
fn join_rides_in_the_syn_once_the_client_has_a_cookie() {
    in_namespace(async || assert_eq!(rejoin(true, || {}).await, [(0, 0), (1, 1)]));
}

#[test]
fn client_that_did_not_ask_for_fast_open_sends_no_data_in_a_syn() {
    in_namespace(async || assert_eq!(rejoin(false, || {}).await, [(0, 0), (0, 0)]));
}

#[test]
fn session_with_early_data_rides_in_the_syn_on_its_only_path() {
    in_namespace(async || {
        let mut ends = Ends::new();
        let mut options = ends.client();
        (options.dial.keep, options.early_data) = (Keep::Session, true);
        for (number, expected) in [(0, 0), (1, 1)].into_iter().enumerate() {
            let addresses = [ends.addresses[0]];
            let client = Session::connect(&addresses, options.clone()).await.unwrap();
            assert_eq!(client.early_data() > 0, number > 0, "it has a ticket");
            let mut stream = client.open_stream().await.unwrap();
            stream.write_all(b"request").await.unwrap();
            let server = soon(ends.listener.accept()).await;
            let mut asked = server.accept_stream().await.unwrap();
            asked.write_all(&[7; 10_000]).await.unwrap();
            asked.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!((answer.len(), asked.is_early()), (10_000, number > 0));
            assert_eq!(counters(), expected);
            client.close(ErrorCode(0), b"").await;
        }
    });
}

/// The server's kernel takes no data in SYNs any more, and the client does not know.
#[test]
fn server_that_takes_no_data_in_syns_any_more_gets_the_join_after_them() {
    in_namespace(async || {
        let stop = || std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "1").unwrap();
        assert_eq!(rejoin(true, stop).await, [(0, 0), (0, 0)]);
        let failed = netstat("TCPFastOpenActiveFail");
        assert_eq!(failed, 1, "the SYN had data, which the server did not acknowledge");
    });
}
