//! The account of a listener bounds what all sessions hold, and selects those that give way.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tcpls_core::error::{CloseReason, code};
use tcpls_core::event::Event;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::net::{Events, Session};
use tcpls_harness::relay::Relay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::attacks::{hello, server};
use crate::support::{ANY, Server, lost, pattern, read_all, relay};

const MIB: usize = 1 << 20;

/// Both ends of a session whose server has delivered something.
async fn used_pair(server: &mut Server, address: SocketAddr) -> (Session, Session) {
    let (client, accepted) = server.pair(address).await;
    fetch(&client, &accepted).await;
    (client, accepted)
}

/// The client gets a file of 20 kB.
async fn fetch(client: &Session, accepted: &Session) {
    let (mut ask, mut answer) = client.open_stream().await.unwrap().split();
    ask.write_chunk("?".into()).await.unwrap();
    ask.finish().unwrap();
    let (mut send, mut question) = accepted.accept_stream().await.unwrap().split();
    read_all(&mut question).await;
    send.write_chunk(pattern(20_000).into()).await.unwrap();
    send.finish().unwrap();
    assert_eq!(read_all(&mut answer).await.len(), 20_000);
    while accepted.stats().bytes_to_send > 0 {
        tokio::task::yield_now().await; // the acknowledgment comes: only then was anything delivered
    }
}

async fn stranded(events: &mut Events) {
    while !matches!(events.next().await, Some(Event::Stranded { .. })) {}
}

/// Has the session lose its TCP connection for good.
async fn strand(path: &Relay, accepted: &Session) {
    let mut events = accepted.events();
    path.take_down();
    lost(&mut events, ConnectionId::FIRST).await;
    stranded(&mut events).await;
}

#[tokio::test]
async fn stranded_sessions_make_room_and_those_that_delivered_nothing_go_first() {
    let mut server = server(|options| options.max_sessions = 4);
    let address = server.addresses[0];
    let mut sessions = Vec::new();
    for number in 0..4 {
        let path = relay(address);
        let (client, accepted) = server.pair(path.address()).await;
        if number == 0 {
            fetch(&client, &accepted).await;
        }
        strand(&path, &accepted).await;
        sessions.push((path, client, accepted));
    }
    let mut newcomers = Vec::new();
    for (_, _, accepted) in &sessions[1..] {
        newcomers.push(server.pair(address).await);
        assert_eq!(accepted.closed().await, CloseReason::Evicted);
    }
    newcomers.push(server.pair(address).await);
    assert_eq!(newcomers[0].1.closed().await, CloseReason::Evicted, "the oldest that delivered nothing");
    let reason = newcomers[0].0.closed().await;
    assert!(matches!(reason, CloseReason::Peer { error: code::OVERLOADED, .. }), "{reason}");
    let (path, honest, accepted) = &sessions[0];
    assert_eq!(accepted.close_reason(), None);
    let mut events = honest.events();
    path.resume();
    while !matches!(events.next().await.unwrap(), Event::Tcp(tcpls_core::TcpEvent::Joined { .. })) {}
    fetch(honest, accepted).await;
}

#[tokio::test]
async fn memory_is_bounded_over_all_sessions_and_stalled_ones_give_way() {
    let mut server = server(|options| options.max_memory = 4 * MIB as u64);
    let address = server.addresses[0];
    let (honest, answering) = used_pair(&mut server, address).await;
    let mut stalled = Vec::new();
    for _ in 0..12 {
        let path = relay(address);
        let (client, accepted) = server.pair(path.address()).await;
        let stream = client.open_stream().await.unwrap();
        let (mut ask, _answer) = stream.split();
        ask.write_chunk("?".into()).await.unwrap();
        let (mut send, _) = accepted.accept_stream().await.unwrap().split();
        path.stall();
        // It is refused if the session has given way to others by now.
        _ = send.write_chunk(vec![7; MIB].into()).await;
        stalled.push((path, client, accepted, send));
    }
    for (_, _, accepted, _) in &stalled[..9] {
        assert_eq!(accepted.closed().await, CloseReason::Evicted);
    }
    let held: usize = stalled.iter().map(|(_, _, accepted, _)| accepted.stats().bytes_to_send).sum();
    assert!(held <= 4 * MIB, "{held}");
    fetch(&honest, &answering).await;
}

/// Connects from another address than the other tests: 127.0.0.2.
#[cfg(target_os = "linux")]
async fn connect_from_elsewhere(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(address).await.unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn handshakes_of_one_address_do_not_displace_those_of_another() {
    let server = server(|options| options.max_handshakes = 4);
    let (address, hello) = (server.addresses[0], hello(&server));
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&hello).await.unwrap();
    slow.read_u8().await.unwrap(); // the server has begun the handshake
    let mut flood = Vec::new();
    for _ in 0..20 {
        let mut stream = connect_from_elsewhere(address).await;
        stream.write_all(&hello).await.unwrap();
        stream.read_u8().await.unwrap();
        flood.push(stream);
    }
    for stream in &mut flood[..17] {
        let end = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    // Whatever the server has sent by now, the handshake is still waited for: nothing ends it.
    let mut flight = vec![0; 16 * 1024];
    let more = slow.try_read(&mut flight);
    assert!(!matches!(more, Ok(0)) && more.is_ok_and(|len| len > 100), "the slow client was given up");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn silent_tcp_connections_of_one_address_do_not_displace_those_of_another() {
    let server = server(|options| options.endpoint.max_pending = 4);
    let (address, hello) = (server.addresses[0], hello(&server));
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&hello[..5]).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..20 {
        flood.push(connect_from_elsewhere(address).await);
    }
    for stream in &mut flood[..17] {
        assert_eq!(stream.read_u8().await.unwrap(), 21, "an alert");
    }
    slow.write_all(&hello[5..]).await.unwrap();
    assert_eq!(slow.read_u8().await.unwrap(), 22, "a ServerHello");
}

#[tokio::test]
async fn silent_sockets_give_way_when_descriptors_are_short() {
    let mut server = server(|options| options.max_descriptors = 8);
    let address = server.addresses[0];
    let (honest, accepted) = used_pair(&mut server, address).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for stream in &mut silent[..13] {
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    fetch(&honest, &accepted).await;
    used_pair(&mut server, address).await;
}

#[tokio::test]
async fn claims_are_bounded_over_all_sessions() {
    let mut server = server(|options| options.max_claims = 2);
    let address = server.addresses[0];
    let (client, _accepted) = server.pair(address).await;
    // A path that swallows what it is given: its joins reach only the thieves.
    let swallower = TcpListener::bind(ANY).await.unwrap();
    let path = swallower.local_addr().unwrap();
    let swallow = async {
        let (mut stream, _) = swallower.accept().await.unwrap();
        let mut flight = vec![0; 16 * 1024];
        let len = stream.read(&mut flight).await.unwrap();
        flight.truncate(len);
        (stream, flight)
    };
    let swallowed = tokio::select! {
        joined = client.add_tcp(path, None) => panic!("{joined:?}"),
        swallowed = swallow => swallowed,
    };
    let flight = &swallowed.1;
    let hello_len = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    let mut thieves = Vec::new();
    for _ in 0..3 {
        let mut thief = TcpStream::connect(address).await.unwrap();
        thief.write_all(&flight[..hello_len]).await.unwrap();
        thief.read_u8().await.unwrap(); // the server has answered
        thieves.push(thief);
    }
    let end = thieves[0].read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    client.close(ErrorCode(0), b"").await;
}
