//! Changes of the host's network that are reported to a client.

use std::net::IpAddr;
use std::time::Duration;

use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::dial::NetworkChange::{AddressFound, AddressLost, Resumed};
use tcpls_harness::net::{Events, Session};

use crate::support::{Server, joined, lost, pattern, read_all};

const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 3));

/// A session from these local addresses, with a TCP connection from each.
async fn from(server: &mut Server, locals: &[IpAddr]) -> (Session, Session) {
    let mut options = server.options();
    options.dial.keep = tcpls_harness::dial::Keep::Paths;
    options.dial.wanted = locals.len();
    options.locals = locals.iter().map(|local| (*local).into()).collect();
    let addresses = [server.addresses[0]];
    let (client, peer) = tokio::join!(Session::connect(&addresses, options), server.listener.accept());
    let client = client.unwrap();
    let mut events = client.events();
    while on(&client, locals[locals.len() - 1]).is_none() {
        events.next().await.expect("the session ended before they had joined");
    }
    (client, peer)
}

/// The TCP connection from a local address.
fn on(session: &Session, local: IpAddr) -> Option<ConnectionId> {
    let path = |status: &tcpls_harness::dial::PathStatus| status.path.local.is_some_and(|from| from.ip() == local);
    session.paths().into_iter().find(path).and_then(|status| status.tcp)
}

async fn stalled(events: &mut Events, tcp: ConnectionId) {
    while events.next().await.expect("the session ended") != Event::Tcp(TcpEvent::Stalled { tcp }) {}
}

#[cfg(target_os = "linux")] // all of 127.0.0.0/8 is local there
#[tokio::test]
async fn tcp_connection_of_a_lost_address_is_replaced_when_it_is_found_again() {
    let mut server = Server::start();
    let (client, peer) = from(&mut server, &[NEAR, FAR]).await;
    let (gone, mut events) = (on(&client, NEAR).unwrap(), client.events());
    let mut stream = client.open_stream().await.unwrap();
    client.handle_network_change(AddressLost(NEAR));
    lost(&mut events, gone).await;
    assert_eq!((on(&client, NEAR), client.tcp_connections().len()), (None, 1));
    stream.write_chunk(pattern(1 << 20).into()).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(read_all(peer.accept_stream().await.unwrap().recv()).await, pattern(1 << 20));
    let _open = client.open_stream().await.unwrap();
    client.handle_network_change(AddressFound(NEAR));
    let back = joined(&mut events).await;
    assert_eq!(on(&client, NEAR), Some(back));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn address_that_is_lost_for_a_moment_keeps_the_only_tcp_connection() {
    let mut server = Server::start();
    let (client, peer) = from(&mut server, &[NEAR]).await;
    let (only, mut events) = (on(&client, NEAR).unwrap(), client.events());
    client.handle_network_change(AddressLost(NEAR));
    stalled(&mut events, only).await;
    client.handle_network_change(AddressFound(NEAR));
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(pattern(100_000).into()).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(read_all(peer.accept_stream().await.unwrap().recv()).await, pattern(100_000));
    assert_eq!(client.close_reason(), None);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn session_that_works_after_a_suspend_goes_on_as_before() {
    let mut server = Server::start();
    let (client, _peer) = from(&mut server, &[NEAR]).await;
    let (only, mut events) = (on(&client, NEAR).unwrap(), client.events());
    client.handle_network_change(Resumed);
    let next = async { while events.next().await != Some(Event::Tcp(TcpEvent::Resumed { tcp: only })) {} };
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("its answer ends the stall");
}
