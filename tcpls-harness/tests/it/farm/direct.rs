//! Servers of a farm that accept joins at addresses of their own alone.

use tcpls_core::error::CloseReason;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::Session;

use super::{Site, exchange};
use crate::library;
use crate::support::{ANY, lost};

/// A session that begins at the balancer; its client knows the address of its server.
async fn begin(site: &Site) -> Session {
    let session = site.connect().await;
    let mut events = session.events();
    while session.peer_addresses().is_empty() {
        events.next().await.unwrap();
    }
    session
}

#[tokio::test]
async fn session_of_a_dead_server_ends_when_another_answers_at_the_balancer() {
    if library::is_openssl() {
        return; // its joins have the form of the draft
    }
    let mut site = Site::start(b"", |options| options.direct = vec![ANY]).await;
    let (ending, other) = (begin(&site).await, begin(&site).await);
    exchange(&ending, 10_000).await;
    // The oldest TCP connection is not needed for the client to know where it came to.
    ending.add_tcp(site.servers[0].address, None).await.unwrap();
    let mut events = ending.events();
    ending.reset_tcp(ConnectionId::FIRST);
    lost(&mut events, ConnectionId::FIRST).await;
    exchange(&ending, 10_000).await;

    let dead = site.servers.remove(0);
    site.balancer.targets.send_modify(|targets| targets.retain(|target| *target != dead.address));
    let before = site.balancer.accepted();
    dead.kill();
    // Otherwise it would end with another reason, after a session timeout of 60 s.
    assert_eq!(ending.closed().await, CloseReason::LostByServer);
    assert_eq!(site.balancer.accepted() - before, 1, "it has asked once");
    exchange(&other, 100_000).await;
    exchange(&begin(&site).await, 1000).await;
}
