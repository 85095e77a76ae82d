//! Servers behind a load balancer, with addresses of their own.

use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::core::Config;
use tcpls_harness::net::{AddTcpError, Listener, ServerOptions, Session};
use tcpls_harness::relay::Relay;
use tokio::io::AsyncWriteExt;

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, identity, joined, lost, read_all, relay};

/// A server that accepts joins at its own address alone, and a balancer in front of it.
fn start() -> (Server, Relay) {
    let identity = identity();
    let options = ServerOptions::new(library::server(&identity, PROTOCOL));
    // Port 0: the one at which it listens.
    let listener = Listener::bind(&[ANY], options.with(|options| options.direct = vec![ANY])).unwrap();
    let addresses = listener.local_addresses().to_vec();
    let balancer = relay(addresses[0]);
    (Server { identity, listener, addresses, config: Config::default() }, balancer)
}

/// A session through the balancer whose client knows the server's own address.
async fn begin(server: &mut Server, balancer: &Relay) -> (Session, Session) {
    let (client, peer) = server.pair(balancer.address()).await;
    assert_eq!(server.listener.advertise(&peer), server.addresses);
    let mut events = client.events();
    while client.peer_addresses().is_empty() {
        events.next().await.unwrap();
    }
    (client, peer)
}

#[tokio::test]
async fn session_continues_at_the_servers_own_address_when_the_balancer_fails() {
    let (mut server, balancer) = start();
    let (client, peer) = begin(&mut server, &balancer).await;
    let mut events = client.events();
    assert_eq!(client.tcp_connections(), [ConnectionId::FIRST], "the address is an alternative");
    balancer.take_down();
    lost(&mut events, ConnectionId::FIRST).await;
    let tcp = joined(&mut events).await;
    assert_eq!(client.path_of(tcp).unwrap().remote, server.addresses[0]);
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"past the balancer").await.unwrap();
    stream.finish().unwrap();
    assert_eq!(read_all(peer.accept_stream().await.unwrap().recv()).await, b"past the balancer");
}

#[tokio::test]
async fn application_cannot_join_at_the_balancer() {
    let (mut server, balancer) = start();
    let (client, _peer) = begin(&mut server, &balancer).await;
    for refused in [balancer.address(), ANY] {
        let error = client.add_tcp(refused, None).await.unwrap_err();
        assert!(matches!(error, AddTcpError::NoJoins(address) if address == refused), "{error}");
    }
    let tcp = client.add_tcp(server.addresses[0], None).await.unwrap();
    assert_eq!(client.tcp_connections(), [ConnectionId::FIRST, tcp]);
}
