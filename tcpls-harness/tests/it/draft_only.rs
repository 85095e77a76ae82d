//! Sessions with only the draft's frames over sockets, with null crypto: their flow control is TCP's.

use tcpls_core::HandshakeError;
use tcpls_core::crypto::{Handshake, TlsClient, TlsServer};
use tcpls_core::error::code;
use tcpls_core::testing::NullHandshake;
use tcpls_core::wire::ids::{ConnectionId, Side};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{ClientOptions, Listener, ServerOptions, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{ANY, pattern};

/// Both ends of handshakes that agree on the draft's frames alone.
#[derive(Clone, Copy, Debug)]
struct Draft;

impl TlsClient for Draft {
    fn handshake(&self, _server_name: &str) -> Result<Box<dyn Handshake>, HandshakeError> {
        Ok(Box::new(NullHandshake::new(Side::Client, [5; 32]).draft_only()))
    }
}

impl TlsServer for Draft {
    fn handshake(&self) -> Result<Box<dyn Handshake>, HandshakeError> {
        Ok(Box::new(NullHandshake::new(Side::Server, [0; 32]).draft_only()))
    }
}

async fn session() -> (Session, Session, Listener) {
    let mut listener = Listener::bind(&[ANY, ANY], ServerOptions::new(Draft)).unwrap();
    let mut options = ClientOptions::new(Draft, "localhost".try_into().unwrap());
    options.dial.keep = Keep::Session;
    let addresses = listener.local_addresses().to_vec();
    let (client, server) = tokio::join!(Session::connect(&addresses[..1], options), listener.accept());
    let client = client.unwrap();
    for session in [&client, &server] {
        assert!(session.established().unwrap().draft_only);
    }
    (client, server, listener)
}

#[tokio::test]
async fn slow_reader_of_a_draft_only_session_holds_half_a_window_and_gets_everything() {
    const LEN: usize = 100 << 20;
    let (client, server, _listener) = session().await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_all(b"?").await.unwrap();
    let writer = tokio::spawn(async move {
        let mut stream = server.accept_stream().await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        stream.write_all(&pattern(LEN)).await.unwrap();
        stream.finish().unwrap();
        server.closed().await
    });
    while client.stats().bytes_to_read < 16 << 20 {
        tokio::task::yield_now().await;
    }
    // The sockets are full, and so is the session.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
        let held = client.stats().bytes_to_read;
        assert!(held <= (16 << 20) + (1 << 20), "{held}");
    }
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    assert!(received == pattern(LEN), "{} bytes", received.len());
    client.close(code::NO_ERROR, b"").await;
    writer.await.unwrap();
}

#[tokio::test]
async fn draft_only_session_joins_and_moves_over_sockets() {
    let (client, server, listener) = session().await;
    let second = client.add_tcp(listener.local_addresses()[1], None).await.unwrap();
    client.retire_tcp(ConnectionId::FIRST).unwrap();
    let (mut to_server, mut to_client) = (client.open_stream().await.unwrap(), server.open_stream().await.unwrap());
    for stream in [&mut to_server, &mut to_client] {
        stream.write_all(&pattern(100_000)).await.unwrap();
        stream.finish().unwrap();
    }
    for session in [&client, &server] {
        let mut received = Vec::new();
        session.accept_stream().await.unwrap().read_to_end(&mut received).await.unwrap();
        assert!(received == pattern(100_000));
    }
    assert_ne!(second, ConnectionId::FIRST);
    client.close(code::NO_ERROR, b"").await;
    server.closed().await;
    for session in [&client, &server] {
        assert!(session.stats().frames_sent.iter().all(|(ty, _)| ty <= 0x09));
    }
}
