//! Sessions that are used from another runtime than the one they live on.

use bytes::Bytes;
use tcpls_core::error::{CloseReason, OpenStreamError, ReadError, TcpError, WriteError, code};
use tcpls_core::event::Event;
use tcpls_core::wire::ids::ConnectionId;
use tcpls_harness::net::Session;
use tokio::runtime::{Builder, Runtime};

use crate::support::Server;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn session_of_a_stopped_runtime_refuses_all_calls_at_once() {
    let (here, there) = (runtime(), runtime());
    let mut server = here.block_on(async { Server::start() });
    let (addresses, options) = (server.addresses.clone(), server.options());
    let connecting = there.spawn(async move { Session::connect(&addresses[..1], options).await.unwrap() });
    let (session, mut stream, mut events, _peer) = here.block_on(async {
        let session = connecting.await.unwrap();
        let peer = server.listener.accept().await;
        let mut stream = session.open_stream().await.unwrap();
        stream.write_chunk(Bytes::from_static(b"as long as it lives")).await.unwrap();
        let events = session.events();
        // Dropped here, the peer's end would close the session.
        (session, stream, events, peer)
    });
    drop(there);
    here.block_on(async {
        assert_eq!(session.open_stream().await.unwrap_err(), OpenStreamError::Closed);
        assert_eq!(stream.write_chunk(Bytes::from_static(b"x")).await, Err(WriteError::Closed));
        assert_eq!(stream.read_chunk(1).await, Err(ReadError::Truncated));
        assert!(session.accept_stream().await.is_none());
        assert_eq!(session.retire_tcp(ConnectionId::FIRST), Err(TcpError::Closed));
        assert!(session.add_tcp(server.addresses[1], None).await.is_err());
        let reason = CloseReason::Local { error: code::INTERNAL };
        assert_eq!(session.closed().await, reason);
        assert_eq!(session.close(code::NO_ERROR, b"").await.reason, reason);
        assert_eq!(session.stats().bytes_to_send, 0, "nothing is held that goes nowhere");
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event);
        }
        assert_eq!(last, Some(Event::Closed { reason }));
    });
}
