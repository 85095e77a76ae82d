//! Early data over sockets: a request with the ClientHello, its copies, and applications that want none.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tcpls_core::Seed;
use tcpls_core::connection::Connection;
use tcpls_core::crypto::TlsClient;
use tcpls_core::error::{CloseReason, OpenTcpError};
use tcpls_core::time::Time;
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{AddTcpError, ClientOptions, Listener, ServerOptions, Session, Stream};
use tcpls_harness::tls::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::library;
use crate::support::{ANY, PROTOCOL, identity, joined, read_all, soon, trust};

/// A server that accepts early data, and a client that keeps tickets.
struct Ends {
    listener: Listener,
    address: SocketAddr,
    identity: Identity,
    client: Arc<dyn TlsClient>,
}

impl Ends {
    /// `returns_early`: the server's application takes sessions that are not confirmed.
    fn new(returns_early: bool) -> Self {
        let identity = identity();
        let tls = library::early_server(&identity, PROTOCOL);
        let options = ServerOptions::new(tls).with(|options| options.early_data = returns_early);
        let listener = Listener::bind(&[ANY; 2], options).unwrap();
        let address = listener.local_addresses()[0];
        let client = library::early_client(&trust(&identity), PROTOCOL);
        Self { listener, address, identity, client }
    }

    async fn with_ticket(returns_early: bool) -> Self {
        let mut ends = Self::new(returns_early);
        ends.fetch_ticket().await;
        ends
    }

    fn options(&self) -> ClientOptions {
        let mut options = ClientOptions::new(self.client.clone(), "localhost".try_into().unwrap());
        options.dial.keep = Keep::Session;
        options.early_data = true;
        options
    }

    async fn connect(&self) -> Session {
        Session::connect(&[self.address], self.options()).await.unwrap()
    }

    /// An ordinary session: tickets arrive ahead of the answer.
    async fn fetch_ticket(&mut self) {
        let (addresses, options) = ([self.address], self.options());
        let (client, server) = tokio::join!(Session::connect(&addresses, options), self.listener.accept());
        let client = client.unwrap();
        assert!(client.is_confirmed() && server.is_confirmed());
        let asked = ask(&client, b"first").await;
        let mut answered = server.accept_stream().await.unwrap();
        assert!(!answered.is_early());
        answer(&mut answered, b"first").await;
        assert_eq!(answer_of(asked).await, b"first");
        client.close(ErrorCode(0), b"").await;
    }

    /// The first flight of a client that sends `data` with its ClientHello.
    fn first_flight(&self, data: &[u8]) -> Vec<u8> {
        let tls = self.client.handshake("localhost").unwrap();
        let mut conn = Connection::client(Time::ZERO, Arc::default(), tls, Seed([1; 32]));
        let id = conn.open_stream().unwrap();
        conn.stream(id).write(data).unwrap();
        conn.stream(id).finish().unwrap();
        let mut flight = Vec::new();
        while conn.poll_transmit(Time::ZERO, ConnectionId::FIRST, 20_000, &mut flight) > 0 {}
        flight
    }
}

/// Writes a request on a stream of its own.
async fn ask(session: &Session, data: &'static [u8]) -> Stream {
    let mut stream = session.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from_static(data)).await.unwrap();
    stream.finish().unwrap();
    stream
}

async fn answer(stream: &mut Stream, expected: &[u8]) {
    assert_eq!(read_all(stream.recv()).await, expected);
    stream.write_chunk(expected.to_vec().into()).await.unwrap();
    stream.finish().unwrap();
}

async fn answer_of(mut stream: Stream) -> Vec<u8> {
    read_all(stream.recv()).await
}

#[tokio::test]
async fn request_goes_out_with_the_client_hello_and_the_server_sees_that() {
    let mut ends = Ends::with_ticket(true).await;
    let client = ends.connect().await;
    assert!(client.early_data() > 0 && !client.is_confirmed() && client.established().is_none());
    // The session's task has not had its turn: the request is there before the ClientHello is sent.
    let asked = ask(&client, b"early").await;
    let refused = client.add_tcp(ends.address, None).await.unwrap_err();
    assert!(matches!(refused, AddTcpError::Session(OpenTcpError::TooEarly)), "{refused}");
    let server = ends.listener.accept().await;
    let mut stream = server.accept_stream().await.unwrap();
    assert!(stream.is_early() && stream.recv().is_early());
    answer(&mut stream, b"early").await;
    assert_eq!(answer_of(asked).await, b"early");
    client.handshake_confirmed().await.unwrap();
    server.handshake_confirmed().await.unwrap();
    assert!(client.is_tcpls() && client.early_data() == 0);
    // The session goes on like any other, and its dialer works.
    client.add_tcp(ends.address, None).await.unwrap();
    let asked = ask(&client, b"later").await;
    let mut stream = server.accept_stream().await.unwrap();
    assert!(!stream.is_early());
    answer(&mut stream, b"later").await;
    assert_eq!(answer_of(asked).await, b"later");
}

#[tokio::test]
async fn other_addresses_join_a_session_that_began_with_early_data() {
    let mut ends = Ends::with_ticket(true).await;
    let mut options = ends.options();
    options.dial.keep = Keep::Paths;
    let client = Session::connect(ends.listener.local_addresses(), options).await.unwrap();
    assert!(!client.is_confirmed());
    let mut events = client.events();
    let asked = ask(&client, b"early").await;
    let server = ends.listener.accept().await;
    answer(&mut server.accept_stream().await.unwrap(), b"early").await;
    assert_eq!(answer_of(asked).await, b"early");
    soon(async { while joined(&mut events).await == ConnectionId::FIRST {} }).await;
    assert_eq!(client.tcp_connections().len(), 2);
}

#[tokio::test]
async fn other_addresses_are_dialed_while_a_session_with_early_data_shakes_hands() {
    let ends = Ends::with_ticket(true).await;
    let mut options = ends.options();
    options.dial.keep = Keep::Paths;
    let silent = [TcpListener::bind(ANY).await.unwrap(), TcpListener::bind(ANY).await.unwrap()];
    let addresses = [0, 1].map(|index: usize| silent[index].local_addr().unwrap());
    let client = Session::connect(&addresses, options).await.unwrap();
    soon(silent[1].accept()).await.unwrap();
    assert!(!client.is_confirmed());
}

#[tokio::test]
async fn listener_holds_sessions_back_until_they_are_confirmed_unless_told_otherwise() {
    let mut ends = Ends::with_ticket(false).await;
    // A copy of a first flight, which no Finished follows, never gets to the application.
    let flight = ends.first_flight(b"copied");
    let mut failures = ends.listener.handshake_failures();
    let mut socket = TcpStream::connect(ends.address).await.unwrap();
    socket.write_all(&flight).await.unwrap();
    socket.read_u8().await.unwrap(); // the server's flight
    drop(socket);
    tokio::select! {
        session = ends.listener.accept() => panic!("{session:?}"),
        failure = failures.next() => assert!(failure.is_some()),
    }
    // Another session of the client has been confirmed when it is returned.
    let client = ends.connect().await;
    let asked = ask(&client, b"early").await;
    let server = ends.listener.accept().await;
    assert!(server.is_confirmed());
    let mut stream = server.accept_stream().await.unwrap();
    assert!(stream.is_early());
    answer(&mut stream, b"early").await;
    assert_eq!(answer_of(asked).await, b"early");
}

#[tokio::test]
async fn copy_of_a_first_flight_is_never_confirmed_and_a_second_one_delivers_nothing() {
    let mut ends = Ends::with_ticket(true).await;
    let flight = ends.first_flight(b"copied");
    let mut socket = TcpStream::connect(ends.address).await.unwrap();
    socket.write_all(&flight).await.unwrap();
    let server = ends.listener.accept().await;
    let mut stream = server.accept_stream().await.unwrap();
    assert!(stream.is_early() && !server.is_confirmed());
    assert_eq!(read_all(stream.recv()).await, b"copied");
    {
        // Dropped while it waits, it does no harm.
        let mut confirmed = std::pin::pin!(server.handshake_confirmed());
        tokio::select! {
            biased;
            outcome = &mut confirmed => panic!("{outcome:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
    let mut failures = ends.listener.handshake_failures();
    let mut second = TcpStream::connect(ends.address).await.unwrap();
    second.write_all(&flight).await.unwrap();
    second.read_u8().await.unwrap();
    drop(second);
    tokio::select! {
        session = ends.listener.accept() => panic!("{session:?}"),
        failure = failures.next() => assert!(failure.is_some()),
    }
    drop(socket);
    let ended = soon(server.handshake_confirmed()).await.unwrap_err();
    assert!(matches!(ended.0, CloseReason::LostInHandshake(_)), "{ended}");
}

#[tokio::test]
async fn early_data_that_a_server_rejects_arrives_once_after_the_handshake() {
    let mut ends = Ends::with_ticket(true).await;
    ends.listener.set_tls(library::server(&ends.identity, PROTOCOL));
    let client = ends.connect().await;
    assert!(client.early_data() > 0);
    let asked = ask(&client, b"once").await;
    let server = ends.listener.accept().await;
    assert!(server.is_confirmed());
    let mut stream = server.accept_stream().await.unwrap();
    assert!(!stream.is_early());
    answer(&mut stream, b"once").await;
    assert_eq!(answer_of(asked).await, b"once");
    assert_eq!(client.undelivered(), 0);
}

#[tokio::test]
async fn session_with_early_data_whose_handles_are_dropped_delivers_what_was_finished() {
    let mut ends = Ends::with_ticket(true).await;
    let client = ends.connect().await;
    let asked = ask(&client, b"finished").await;
    drop((client, asked));
    let server = ends.listener.accept().await;
    let mut stream = server.accept_stream().await.unwrap();
    assert_eq!(read_all(stream.recv()).await, b"finished");
    assert!(matches!(soon(server.closed()).await, CloseReason::Peer { .. }));
}
