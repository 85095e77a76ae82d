//! Clients behind load balancers that send a PROXY protocol header.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use tcpls_core::budget::Client;
use tcpls_core::config::Config;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::proxy_protocol::HeaderError;
use tcpls_harness::net::{HandshakeFault, Listener, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, identity, joined, read_all};

const TEXT: &[u8] = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n";

/// A server that takes headers from `network`.
fn server(network: &str, change: impl FnOnce(&mut ServerOptions)) -> Server {
    let identity = identity();
    let mut options = ServerOptions::new(library::server(&identity, PROTOCOL));
    options.proxy_protocol = vec![network.parse().unwrap()];
    change(&mut options);
    let listener = Listener::bind(&[ANY], options).unwrap();
    let addresses = listener.local_addresses().to_vec();
    Server { identity, listener, addresses, config: Config::default() }
}

/// A load balancer that sends this header, at once or together with the client's first bytes.
async fn balancer(target: SocketAddr, header: Vec<u8>, at_once: bool) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        let mut first = header;
        if !at_once {
            client.read_buf(&mut first).await.unwrap();
        }
        server.write_all(&first).await.unwrap();
        _ = copy_bidirectional(&mut client, &mut server).await;
    });
    address
}

/// A header of version 2 with addresses of IPv6, port 4712 of the client and 443 of the server.
fn binary(client: &str, server: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24".to_vec();
    for address in [client, server] {
        header.extend(address.parse::<Ipv6Addr>().unwrap().octets());
    }
    header.extend([0x12, 0x68, 1, 0xbb]);
    header
}

#[tokio::test]
async fn client_behind_a_load_balancer_is_known_by_its_own_address() {
    let mut server = server("127.0.0.0/8", |options| options.advertise = vec!["198.51.100.2:0".parse().unwrap()]);
    let first = balancer(server.addresses[0], TEXT.to_vec(), true).await;
    let second = balancer(server.addresses[0], binary("2001:db8::9", "2001:db8::1"), false).await;
    let (client, session) = server.pair(first).await;
    let address: SocketAddr = "203.0.113.9:4711".parse().unwrap();
    assert_eq!(session.peer_address(ConnectionId::FIRST), Some(address));
    assert_eq!(session.client(), Client::at(address.ip()));
    assert_eq!(session.local_address(), Some("198.51.100.1:443".parse().unwrap()), "where the client connected to");
    assert_eq!(server.listener.advertise(&session), ["198.51.100.2:443".parse().unwrap()], "not the server's own");

    let mut events = session.events();
    let tcp = client.add_tcp(second, None).await.unwrap();
    while joined(&mut events).await != tcp {}
    assert_eq!(session.peer_address(tcp), Some("[2001:db8::9]:4712".parse().unwrap()));

    client.reset_tcp(ConnectionId::FIRST);
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"through the other one").await.unwrap();
    stream.shutdown().await.unwrap();
    let (_, mut reader) = session.accept_stream().await.unwrap().split();
    assert_eq!(read_all(&mut reader).await, b"through the other one");
}

#[tokio::test]
async fn mapped_addresses_in_a_header_are_those_of_ipv4() {
    let mut server = server("127.0.0.0/8", |_| {});
    let header = binary("::ffff:203.0.113.9", "::ffff:198.51.100.1");
    let (_client, session) = server.pair(balancer(server.addresses[0], header, true).await).await;
    assert_eq!(session.peer_address(ConnectionId::FIRST), Some("203.0.113.9:4712".parse().unwrap()));
    assert_eq!(session.local_address(), Some("198.51.100.1:443".parse().unwrap()));
    assert_eq!(session.client(), Client::at("203.0.113.9".parse().unwrap()));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn unspecified_address_is_advertised_as_those_of_the_host() {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    let listener = Listener::bind(&["0.0.0.0:0".parse().unwrap()], options).unwrap();
    let port = listener.local_addresses()[0].port();
    let mut server = Server { identity, listener, addresses: Vec::new(), config: Config::default() };
    let (_client, session) = server.pair(SocketAddr::from(([127, 0, 0, 2], port))).await;
    let advertised = server.listener.advertise(&session);
    assert!(advertised.contains(&SocketAddr::from(([127, 0, 0, 1], port))), "{advertised:?}");
    let is_usable =
        |address: &SocketAddr| address.is_ipv4() && address.port() == port && !address.ip().is_unspecified();
    assert!(advertised.iter().all(is_usable), "{advertised:?}");
}

#[tokio::test]
async fn header_is_required_from_listed_networks_and_refused_from_others() {
    for (network, sent, expected) in [
        ("127.0.0.1", &b"\x16\x03\x01\x02\x00"[..], Some(HandshakeFault::ProxyHeader(HeaderError::Missing))),
        ("127.0.0.1", b"PROXY TCP5\r\n", Some(HandshakeFault::ProxyHeader(HeaderError::Malformed))),
        ("127.0.0.1", b"PROXY T", Some(HandshakeFault::Ended { received: 7 })),
        ("192.0.2.0/24", TEXT, None),
    ] {
        let server = server(network, |_| {});
        let mut failures = server.listener.handshake_failures();
        let mut socket = TcpStream::connect(server.addresses[0]).await.unwrap();
        socket.write_all(sent).await.unwrap();
        socket.shutdown().await.unwrap();
        let failure = failures.next().await.unwrap();
        assert_eq!(failure.client, socket.local_addr().unwrap());
        match expected {
            Some(expected) => assert_eq!(failure.fault, expected),
            None => assert!(matches!(failure.fault, HandshakeFault::Refused(_)), "{failure}"),
        }
    }
}

#[tokio::test]
async fn header_that_never_ends_is_refused_in_time() {
    let server = server("127.0.0.0/8", |options| options.endpoint.hello_timeout = Duration::from_millis(100));
    let mut failures = server.listener.handshake_failures();
    let mut socket = TcpStream::connect(server.addresses[0]).await.unwrap();
    socket.write_all(b"PROXY").await.unwrap();
    assert_eq!(failures.next().await.unwrap().fault, HandshakeFault::ProxyHeaderTimeout);
    assert!(!matches!(socket.read(&mut [0]).await, Ok(1..)), "it was closed without an answer");
}

#[tokio::test]
async fn health_checks_of_a_load_balancer_keep_its_address() {
    let server = server("127.0.0.0/8", |_| {});
    let mut failures = server.listener.handshake_failures();
    let mut socket = TcpStream::connect(server.addresses[0]).await.unwrap();
    socket.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /").await.unwrap();
    let failure = failures.next().await.unwrap();
    assert_eq!(failure.client, socket.local_addr().unwrap());
    assert!(matches!(failure.fault, HandshakeFault::Refused(_)), "what follows the header is judged: {failure}");
}
