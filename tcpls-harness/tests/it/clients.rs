//! What a server learns about its clients: addresses and failed handshakes.

use std::net::SocketAddr;

use tcpls_core::budget::Resource;
use tcpls_core::error::{AlertDescription, CloseReason, code};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::{ClientOptions, HandshakeFault, Session};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::attacks::{hello, server};
use crate::library;
use crate::support::{ANY, PROTOCOL, Server, identity, joined, lost, trust};

async fn connect(address: SocketAddr) -> (TcpStream, SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    let own = stream.local_addr().unwrap();
    (stream, own)
}

#[tokio::test]
async fn both_ends_know_the_peers_address_of_each_tcp_connection_and_of_lost_ones() {
    let mut server = Server::start();
    let [first, second] = server.addresses[..] else { unreachable!("it has two") };
    let (client, accepted) = server.pair(first).await;
    let mut events = accepted.events();
    let other = client.add_tcp(second, None).await.unwrap();
    assert_eq!(joined(&mut events).await, other);
    for (tcp, address) in [(ConnectionId::FIRST, first), (other, second)] {
        assert_eq!(client.peer_address(tcp), Some(address));
        let seen = accepted.peer_address(tcp).unwrap();
        assert!(seen.ip().is_loopback() && seen != address, "{seen}");
    }
    assert_ne!(accepted.peer_address(ConnectionId::FIRST), accepted.peer_address(other));
    let before = accepted.peer_address(other);
    accepted.reset_tcp(other);
    lost(&mut events, other).await;
    assert_eq!(accepted.peer_address(other), before, "who reads the event asks later");
    assert_eq!(accepted.peer_address(ConnectionId(77)), None);
}

#[tokio::test]
async fn each_handshake_that_fails_is_reported_with_address_and_reason() {
    let server = server(|_| {});
    let mut failures = server.listener.handshake_failures();
    let address = server.addresses[0];

    let (stream, own) = connect(address).await;
    drop(stream);
    let failure = failures.next().await.unwrap();
    assert_eq!((failure.client, failure.fault), (own, HandshakeFault::Ended { received: 0 }));

    let (mut stream, own) = connect(address).await;
    stream.write_all(&hello(&server)[..100]).await.unwrap();
    stream.shutdown().await.unwrap();
    let failure = failures.next().await.unwrap();
    assert_eq!((failure.client, failure.fault), (own, HandshakeFault::Ended { received: 100 }));

    let (mut stream, own) = connect(address).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).await.unwrap();
    let failure = failures.next().await.unwrap();
    let refused = HandshakeFault::Refused(AlertDescription(*alert.last().unwrap()));
    assert_eq!((failure.client, failure.fault), (own, refused));
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_server_is_reported() {
    let server = server(|_| {});
    let mut failures = server.listener.handshake_failures();
    let tls = library::client(&trust(&identity()), PROTOCOL);
    let options = ClientOptions::new(tls, "localhost".try_into().unwrap());
    Session::connect(&server.addresses, options).await.unwrap_err();
    let failure = failures.next().await.unwrap();
    let HandshakeFault::Session(reason) = failure.fault else { panic!("{failure}") };
    assert!(reason.to_string().contains("the peer refused it with alert"), "{reason}");
}

#[tokio::test]
async fn handshake_that_gives_way_is_reported_with_the_resource() {
    let server = server(|options| options.max_handshakes = 1);
    let mut failures = server.listener.handshake_failures();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (mut stream, own) = connect(server.addresses[0]).await;
        stream.write_all(&hello(&server)).await.unwrap();
        stream.read_u8().await.unwrap();
        streams.push((stream, own));
    }
    let failure = failures.next().await.unwrap();
    assert_eq!((failure.client, failure.fault), (streams[0].1, HandshakeFault::Session(CloseReason::Evicted)));
}

#[tokio::test]
async fn silent_tcp_connection_that_gives_way_is_reported_with_the_resource() {
    let server = server(|options| options.max_descriptors = 1);
    let mut failures = server.listener.handshake_failures();
    let (_first, own) = connect(server.addresses[0]).await;
    let (_second, _) = connect(server.addresses[0]).await;
    let failure = failures.next().await.unwrap();
    assert_eq!((failure.client, failure.fault), (own, HandshakeFault::Evicted(Resource::Descriptors)));
}

#[tokio::test]
async fn a_join_of_a_session_that_has_ended_is_reported() {
    let mut server = Server::start();
    let (client, accepted) = server.pair(server.addresses[0]).await;
    let mut failures = server.listener.handshake_failures();
    let elsewhere = TcpListener::bind(ANY).await.unwrap();
    let joining = tokio::spawn({
        let (client, address) = (client.clone(), elsewhere.local_addr().unwrap());
        async move { client.add_tcp(address, None).await }
    });
    let mut join = vec![0; 4096];
    let len = elsewhere.accept().await.unwrap().0.read(&mut join).await.unwrap();
    accepted.close(code::NO_ERROR, b"").await;
    assert!(joining.await.unwrap().is_err());
    let (mut stream, own) = connect(server.addresses[0]).await;
    stream.write_all(&join[..len]).await.unwrap();
    let failure = failures.next().await.unwrap();
    assert_eq!((failure.client, failure.fault), (own, HandshakeFault::NoSession));
}

#[tokio::test]
async fn trust_in_anyone_makes_no_failure() {
    let mut server = server(|_| {});
    let mut failures = server.listener.handshake_failures();
    let options = ClientOptions::new(library::client(&Trust::Anyone, PROTOCOL), "x.example".try_into().unwrap());
    let (client, _accepted) = tokio::join!(Session::connect(&server.addresses, options), server.listener.accept());
    client.unwrap();
    let (stream, own) = connect(server.addresses[0]).await;
    drop(stream);
    assert_eq!(failures.next().await.unwrap().client, own, "the first failure there is");
}
