//! Which paths a client uses: at the start, after losses, and as its application wishes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tcpls_core::connection::schedule::{ActiveStandby, Redundant};
use tcpls_core::error::TcpError;
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::dial::{Backup, Group, Keep, Local};
use tcpls_harness::net::{AddTcpError, Events, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{ANY, Server, joined, lost, pattern, read_all, relay};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn unused_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A session over `addresses` that keeps its paths, and its server's end.
async fn keeping(server: &mut Server, addresses: &[SocketAddr]) -> (Session, Session) {
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    let (client, peer) = tokio::join!(Session::connect(addresses, options), server.listener.accept());
    (client.unwrap(), peer)
}

/// Waits until `wanted` TCP connections are in use.
async fn in_use(session: &Session, wanted: usize) {
    let mut events = session.events();
    while session.paths().iter().filter(|status| status.tcp.is_some()).count() < wanted {
        events.next().await.expect("the session ended before they had joined");
    }
}

async fn upload(from: &Session, to: &Session, len: usize) {
    let mut stream = from.open_stream().await.unwrap();
    let received = async {
        let mut stream = to.accept_stream().await.unwrap();
        read_all(stream.recv()).await
    };
    let sent = async {
        stream.write_chunk(pattern(len).into()).await.unwrap();
        stream.finish().unwrap();
    };
    assert_eq!(tokio::join!(sent, received).1, pattern(len));
}

fn sent_on(session: &Session, tcp: ConnectionId) -> u64 {
    let stats = session.stats().tcp;
    stats.iter().find(|stats| stats.tcp == tcp).map_or(0, |stats| stats.counters.stream_bytes_sent)
}

#[tokio::test]
async fn all_addresses_that_can_be_connected_to_are_joined() {
    let mut server = Server::start();
    let addresses = [unused_address(), server.addresses[0], unused_address(), server.addresses[1]];
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let paths = client.paths();
    assert_eq!(paths.iter().map(|status| status.tcp.is_some()).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(client.path_of(FIRST).unwrap().remote, server.addresses[0], "it shook hands there");
    upload(&client, &peer, 1 << 20).await;
}

#[tokio::test]
async fn session_starts_although_its_first_path_drops_everything() {
    let mut server = Server::start();
    let path = relay(server.addresses[0]);
    path.stall();
    let addresses = [path.address(), server.addresses[1]];
    let (client, peer) = keeping(&mut server, &addresses).await;
    assert_eq!(client.path_of(FIRST).unwrap().remote, server.addresses[1]);
    upload(&client, &peer, 1 << 20).await;
    path.resume();
    in_use(&client, 2).await;
}

#[tokio::test]
async fn each_local_address_is_a_path_of_its_own() {
    let mut server = Server::start();
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    let local = |address: &str| Local::from(address.parse::<IpAddr>().unwrap());
    options.locals = ["127.0.0.2", "127.0.0.3", "::1"].map(local).to_vec();
    let addresses = server.addresses.clone();
    let (client, peer) = tokio::join!(Session::connect(&addresses, options), server.listener.accept());
    let client = client.unwrap();
    in_use(&client, 4).await;
    upload(&client, &peer, 1 << 20).await;
}

#[tokio::test]
async fn both_ends_know_which_path_of_a_group_carries_data() {
    let mut server = Server::start();
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    let home = Group::new("home").unwrap();
    let local = |address: &str| Local::from(address.parse::<IpAddr>().unwrap());
    options.locals = ["127.0.0.2", "127.0.0.3"].map(|address| local(address).in_group(home)).to_vec();
    let addresses = [server.addresses[0]];
    let (client, peer) = tokio::join!(Session::connect(&addresses, options), server.listener.accept());
    let client = client.unwrap();
    in_use(&client, 2).await;
    let backups = |session: &Session| session.stats().tcp.into_iter().map(|tcp| tcp.backup).collect::<Vec<_>>();
    assert_eq!(client.paths().iter().map(|status| status.backup).collect::<Vec<_>>(), [false, true]);
    assert_eq!((backups(&client), backups(&peer)), (vec![false, true], vec![false, true]));
    // When that is lost, the other carries data.
    let mut events = peer.events();
    client.reset_tcp(FIRST);
    while peer.stats().tcp.iter().any(|tcp| tcp.tcp == ConnectionId(1) && tcp.backup) {
        events.next().await.expect("the session goes on");
    }
    upload(&peer, &client, 1000).await;
}

#[tokio::test]
async fn failed_path_is_reported_and_added_ones_are_used() {
    let mut server = Server::start();
    let addresses = [server.addresses[0]];
    let (client, _peer) = keeping(&mut server, &addresses).await;
    let mut failures = client.path_failures();
    let unused = unused_address();
    client.add_path(unused, None);
    assert_eq!(failures.next().await.unwrap().path.remote, unused);
    client.add_path(server.addresses[1], None);
    in_use(&client, 2).await;
}

#[tokio::test]
async fn session_at_its_limit_of_tcp_connections_refuses_another() {
    let mut server = Server::start();
    server.config.max_tcp_connections = 3;
    let (client, _peer) = server.pair(server.addresses[0]).await;
    for _ in 0..2 {
        let mut events = client.events();
        while client.tokens() == 0 {
            events.next().await.unwrap();
        }
        client.add_tcp(server.addresses[1], None).await.unwrap();
    }
    let error = client.add_tcp(server.addresses[1], None).await.unwrap_err();
    assert!(matches!(error, AddTcpError::Limit(3)), "{error}");
    assert_eq!(client.tcp_connections().len(), 3);
}

/// A box on the path that lets nothing through on TCP connections whose client sends protected records before the server
/// has answered. Counts those.
async fn wary_box(target: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = dropped.clone();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            tokio::spawn(pass_warily(near, target, count.clone()));
        }
    });
    (address, dropped)
}

async fn pass_warily(mut near: TcpStream, target: SocketAddr, dropped: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut first = vec![0; 5];
    near.read_exact(&mut first).await?;
    let len = usize::from(u16::from_be_bytes([first[3], first[4]]));
    first.resize(5 + len, 0);
    near.read_exact(&mut first[5..]).await?;
    // Offers of early data name the extension (42, empty): what follows is not waited for.
    if first.windows(4).any(|window| window == [0, 42, 0, 0]) {
        dropped.fetch_add(1, Ordering::Relaxed);
        return near.read_to_end(&mut Vec::new()).await.map(|_| ());
    }
    let mut far = TcpStream::connect(target).await?;
    far.write_all(&first).await?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ())
}

#[tokio::test]
async fn a_box_that_drops_early_data_does_not_keep_a_session_from_coming_back() {
    let mut server = Server::start();
    let (address, dropped) = wary_box(server.addresses[0]).await;
    let (client, peer) = keeping(&mut server, &[address]).await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(pattern(1000).into()).await.unwrap();
    let mut events = client.events();
    client.reset_tcp(FIRST);
    while !matches!(events.next().await.unwrap(), Event::Recovered) {}
    stream.write_chunk(pattern(1000).into()).await.unwrap();
    stream.finish().unwrap();
    let mut incoming = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(incoming.recv()).await, [pattern(1000), pattern(1000)].concat());
    assert_eq!(dropped.load(Ordering::Relaxed), 1, "once, and then without");
    // It is remembered.
    client.reset_tcp(client.tcp_connections()[0]);
    joined(&mut events).await;
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn single_streams_are_moved_from_one_tcp_connection_to_another() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let second = client.tcp_connections()[1];
    let mut stream = client.open_stream().await.unwrap();
    stream.send().attach(FIRST).unwrap();
    stream.write_chunk(pattern(100_000).into()).await.unwrap();
    let mut incoming = peer.accept_stream().await.unwrap();
    let mut received = vec![0; 100_000];
    incoming.read_exact(&mut received).await.unwrap();
    assert_eq!((sent_on(&client, FIRST), sent_on(&client, second)), (100_000, 0));
    stream.send().attach(second).unwrap();
    stream.send().detach(FIRST).unwrap();
    stream.write_chunk(pattern(50_000).into()).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(read_all(incoming.recv()).await, pattern(50_000));
    assert_eq!((sent_on(&client, FIRST), sent_on(&client, second)), (100_000, 50_000));
}

#[tokio::test]
async fn all_streams_leave_a_tcp_connection_that_is_retired() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let mut events = client.events();
    client.retire_tcp(FIRST).unwrap();
    lost(&mut events, FIRST).await;
    let before = sent_on(&client, FIRST);
    upload(&client, &peer, 1 << 20).await;
    assert_eq!(sent_on(&client, FIRST), before);
    assert_eq!(client.retire_tcp(client.tcp_connections()[0]), Err(TcpError::Last));
}

/// What a sender knows of its TCP connections.
#[derive(Default)]
struct Standing {
    stalled: BTreeSet<ConnectionId>,
    backups: BTreeSet<ConnectionId>,
}

impl Standing {
    /// Whether the event changes anything.
    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Tcp(TcpEvent::Stalled { tcp }) => self.stalled.insert(*tcp),
            Event::Tcp(TcpEvent::Resumed { tcp }) => self.stalled.remove(tcp),
            Event::Tcp(TcpEvent::Status { tcp, backup: true }) => self.backups.insert(*tcp),
            Event::Tcp(TcpEvent::Status { tcp, backup: false }) => self.backups.remove(tcp),
            _ => false,
        }
    }

    fn is_calm(&self, backup: ConnectionId) -> bool {
        self.stalled.is_empty() && self.backups == BTreeSet::from([backup])
    }
}

/// How much of a transfer goes on each of two TCP connections while `backup` is the only backup of the receiver. A
/// machine that has other things to do looks like a path that stalls, at either end, and then another carries the data:
/// a transfer during which that happened is made again. `events` are those of `from`, and `standing` their effect so
/// far.
async fn shares(
    (from, events, standing): (&Session, &mut Events, &mut Standing),
    to: &Session,
    tcps: [ConnectionId; 2],
    backup: ConnectionId,
) -> [u64; 2] {
    loop {
        while !standing.is_calm(backup) {
            standing.note(&events.next().await.unwrap());
        }
        while let Some(event) = events.try_next() {
            standing.note(&event);
        }
        if !standing.is_calm(backup) {
            continue;
        }
        let before = tcps.map(|tcp| sent_on(from, tcp));
        upload(from, to, 1 << 20).await;
        let shares = [0, 1].map(|index| sent_on(from, tcps[index]) - before[index]);
        if !std::iter::from_fn(|| events.try_next()).fold(false, |any, event| standing.note(&event) | any) {
            return shares;
        }
    }
}

#[tokio::test]
async fn a_backup_of_one_side_carries_no_data_of_the_other_until_it_is_available_again() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let second = client.tcp_connections()[1];
    let (tcps, mut events, mut standing) = ([FIRST, second], peer.events(), Standing::default());
    client.set_backup(FIRST, true).unwrap();
    assert_eq!(shares((&peer, &mut events, &mut standing), &client, tcps, FIRST).await, [0, 1 << 20]);
    client.set_backup(FIRST, false).unwrap();
    client.set_backup(second, true).unwrap();
    assert_eq!(shares((&peer, &mut events, &mut standing), &client, tcps, second).await, [1 << 20, 0]);
}

/// No data of a transfer is sent on `backup`. One during which a TCP connection stalled at either end is repeated: then
/// a backup may carry data.
async fn assert_spares(from: &Session, to: &Session, other: ConnectionId, backup: ConnectionId) {
    loop {
        let (mut events, before) = (from.events(), sent_on(from, backup));
        upload(from, to, 1 << 20).await;
        let carried = sent_on(from, backup) - before;
        let disturbs = |event| match event {
            Event::Tcp(TcpEvent::Stalled { .. } | TcpEvent::Resumed { .. }) => true,
            Event::Tcp(TcpEvent::Status { tcp, .. }) => tcp == other,
            _ => false,
        };
        if !std::iter::from_fn(|| events.try_next()).fold(false, |any, event| disturbs(event) | any) {
            return assert_eq!(carried, 0);
        }
    }
}

#[tokio::test]
async fn rejoined_backup_path_is_a_backup_again() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let second = client.tcp_connections()[1];
    client.set_backup(second, true).unwrap();
    let mut waiting = client.open_stream().await.unwrap(); // a session without streams would leave it at one
    waiting.write_chunk(Bytes::from_static(b"x")).await.unwrap();
    peer.accept_stream().await.unwrap();
    let (mut events, mut heard) = (client.events(), peer.events());
    client.reset_tcp(second);
    let third = joined(&mut events).await;
    while heard.next().await.unwrap() != Event::Tcp(TcpEvent::Status { tcp: third, backup: true }) {}
    for (from, to) in [(&client, &peer), (&peer, &client)] {
        assert_spares(from, to, FIRST, third).await;
    }
}

#[tokio::test]
async fn address_that_the_options_call_a_backup_carries_nothing_while_another_lives() {
    let mut server = Server::start();
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    options.backups = vec![Backup::Remote(server.addresses[0])];
    let addresses = server.addresses.clone();
    let (client, peer) = tokio::join!(Session::connect(&addresses, options), server.listener.accept());
    let client = client.unwrap();
    in_use(&client, 2).await;
    assert_eq!(client.path_of(FIRST).unwrap().remote, addresses[1], "a backup is dialled last");
    let second = client.tcp_connections()[1];
    for (from, to) in [(&client, &peer), (&peer, &client)] {
        assert_spares(from, to, FIRST, second).await;
    }
    client.reset_tcp(FIRST);
    upload(&client, &peer, 1 << 20).await;
}

#[tokio::test]
async fn the_scheduler_can_be_changed_at_run_time() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let (client, peer) = keeping(&mut server, &addresses).await;
    in_use(&client, 2).await;
    let second = client.tcp_connections()[1];
    client.set_scheduler(Box::new(ActiveStandby));
    upload(&client, &peer, 300_000).await;
    assert_eq!((sent_on(&client, FIRST), sent_on(&client, second)), (300_000, 0));
    client.set_scheduler(Box::new(Redundant));
    let mut stream = client.open_stream().await.unwrap();
    let mut events = peer.events();
    stream.write_chunk(Bytes::from(pattern(10_000))).await.unwrap();
    while sent_on(&client, second) < 10_000 {
        tokio::select! {
            _ = events.next() => {}
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(sent_on(&client, FIRST) >= 300_000);
}
