//! The events that a session's listener gets, earlier ones included.

use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::ErrorCode;
use tcpls_harness::net::Events;

use crate::support::Server;

#[tokio::test]
async fn events_before_the_first_listener_are_kept_for_it() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    while peer.tcp_connections().len() < 2 {
        tokio::task::yield_now().await;
    }
    for session in [&client, &peer] {
        let (mut first, mut other) = (session.events(), session.events());
        let joins = |events: &mut Events| {
            let joined = |event| if let Event::Tcp(TcpEvent::Joined { tcp }) = event { Some(tcp) } else { None };
            std::iter::from_fn(|| events.try_next()).filter_map(joined).collect::<Vec<_>>()
        };
        assert_eq!((joins(&mut first), joins(&mut other)), (vec![second], vec![]));
    }
}

#[tokio::test]
async fn end_of_a_session_is_kept_for_a_late_subscriber() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    client.close(ErrorCode(7), b"").await;
    peer.closed().await;
    let mut events = peer.events();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Closed { .. })), "{last:?}");
}
