//! Attacks by clients without a session, middleboxes and malicious servers over real sockets, by the rows of the table
//! in `docs/threat-model.md`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tcpls_core::error::CloseReason;
use tcpls_core::event::Event;
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{
    AddTcpError, AddressPolicy, ConnectError, Listener, PathFailure, PathFault, ServerOptions, Session,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::library;
use crate::support::{ANY, PROTOCOL, Server, identity, trust};

/// A server with these bounds.
pub(crate) fn server(change: impl FnOnce(&mut ServerOptions)) -> Server {
    let identity = identity();
    let mut options = ServerOptions::new(library::server(&identity, PROTOCOL));
    change(&mut options);
    let listener = Listener::bind(&[ANY], options).unwrap();
    let addresses = listener.local_addresses().to_vec();
    Server { identity, listener, addresses, config: Default::default() }
}

/// A good ClientHello.
pub(crate) fn hello(server: &Server) -> Vec<u8> {
    let tls = library::client(&trust(&server.identity), PROTOCOL);
    let mut hello = Vec::new();
    tls.handshake("localhost").unwrap().write(&mut hello);
    hello
}

// Row 14.
#[tokio::test]
async fn endless_handshakes_give_way_to_an_honest_client() {
    let mut server = server(|options| options.max_handshakes = 4);
    let hello = hello(&server);
    let mut idlers = Vec::new();
    for _ in 0..20 {
        let mut idler = TcpStream::connect(server.addresses[0]).await.unwrap();
        idler.write_all(&hello).await.unwrap();
        idler.read_u8().await.unwrap(); // the server has begun the handshake
        idlers.push(idler);
    }
    for idler in &mut idlers[..16] {
        let end = idler.read_to_end(&mut Vec::new()).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let address = server.addresses[0];
    let (client, _accepted) = server.pair(address).await;
    assert!(client.is_tcpls());
}

// Row 14.
#[tokio::test]
async fn excess_tcp_connections_without_a_client_hello_are_refused() {
    let mut server = server(|options| options.endpoint.max_pending = 4);
    let address = server.addresses[0];
    let mut idlers = JoinSet::new();
    for _ in 0..20 {
        let mut idler = TcpStream::connect(address).await.unwrap();
        idlers.spawn(async move {
            idler.write_all(&[22, 3, 1]).await.unwrap();
            let mut heard = Vec::new();
            idler.read_to_end(&mut heard).await.map(|_| heard)
        });
    }
    for _ in 0..16 {
        let heard = idlers.join_next().await.unwrap().unwrap().unwrap();
        assert_eq!(heard, [21, 3, 3, 0, 2, 2, 90, 21, 3, 3, 0, 2, 1, 0], "user_canceled and close_notify");
    }
    let (client, _accepted) = server.pair(address).await;
    assert!(client.is_tcpls());
}

// Row 14.
#[tokio::test]
async fn refused_tcp_connections_that_stay_are_reset_when_there_are_too_many() {
    let server = server(|options| options.max_refusals = 1);
    let refused = || async {
        let mut stranger = TcpStream::connect(server.addresses[0]).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        stranger
    };
    let mut first = refused().await;
    let mut alert = [0; 7];
    first.read_exact(&mut alert).await.unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 10]);
    let mut second = refused().await; // the first has not closed its side
    let end = second.read_to_end(&mut Vec::new()).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// A path to `target` that records how each TCP connection begins.
async fn eavesdropper(target: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut start = vec![0; 8192];
            let len = client.read(&mut start).await.unwrap();
            sender.send(start[..len].to_vec()).unwrap();
            let mut server = TcpStream::connect(target).await.unwrap();
            server.write_all(&start[..len]).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (address, heard)
}

// Rows 14 and 15.
#[tokio::test]
async fn overheard_token_gets_an_alert_and_then_a_reset() {
    let mut server = Server::start().with_joins_of_the_draft();
    let (path, mut heard) = eavesdropper(server.addresses[1]).await;
    let address = server.addresses[0];
    let (client, _accepted) = server.pair(address).await;
    client.add_tcp(path, None).await.unwrap();
    let flight = heard.recv().await.unwrap();
    let mut thieves = Vec::new();
    let mut resets = 0;
    for _ in 0..40 {
        let mut thief = TcpStream::connect(address).await.unwrap();
        thief.write_all(&flight).await.unwrap();
        let mut alert = Vec::new();
        match thief.read_to_end(&mut alert).await {
            Ok(_) => assert_eq!(alert, [21, 3, 3, 0, 2, 2, 47]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                resets += 1;
            }
        }
        thieves.push(thief); // they stay
    }
    assert_eq!(resets, 8, "32 may linger");
    assert_eq!(client.tcp_connections().len(), 2);
}

// Row 16.
#[tokio::test]
async fn a_client_follows_no_advertisement_that_its_policy_does_not_allow() {
    let mut server = Server::start();
    let (first, other) = ([server.addresses[0]], server.addresses[1]);
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    let (client, accepted) = tokio::join!(Session::connect(&first, options), server.listener.accept());
    let client = client.unwrap();
    let mut events = client.events();
    let inside: SocketAddr = "169.254.169.254:80".parse().unwrap();
    accepted.advertise(inside).unwrap();
    accepted.advertise(other).unwrap();
    while client.peer_addresses().len() < 2 {
        events.next().await.unwrap();
    }
    for refused in [inside, "127.0.0.1:1".parse().unwrap()] {
        assert!(matches!(client.add_advertised(refused), Err(AddTcpError::NotAllowed(address)) if address == refused));
    }
    client.add_advertised(other).unwrap();
    while client.tcp_connections().len() < 2 {
        events.next().await.unwrap();
    }
    assert_eq!(client.tcp_connections().len(), 2);
}

// Row 16.
#[tokio::test]
async fn an_application_may_allow_no_advertised_address_at_all() {
    let mut server = Server::start();
    let (address, victim) = (server.addresses[0], TcpListener::bind(ANY).await.unwrap());
    let options = server.options().with(|options| options.addresses = AddressPolicy::never());
    let (first, victims) = ([address], victim.local_addr().unwrap());
    let (client, accepted) = tokio::join!(Session::connect(&first, options), server.listener.accept());
    let client = client.unwrap();
    let mut events = client.events();
    accepted.advertise(victims).unwrap();
    while !matches!(events.next().await.unwrap(), Event::AddressAdvertised { .. }) {}
    assert!(matches!(client.add_advertised(victims), Err(AddTcpError::NotAllowed(_))));
}

/// A middlebox that resets every TCP connection that negotiates TCPLS.
async fn middlebox(target: SocketAddr, seen: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            seen.fetch_add(1, Ordering::Relaxed);
            let mut start = vec![0; 4096];
            let len = client.read(&mut start).await.unwrap();
            if start[..len].windows(5).any(|window| window == b"tcpls") {
                client.set_zero_linger().unwrap();
                continue;
            }
            let mut server = TcpStream::connect(target).await.unwrap();
            server.write_all(&start[..len]).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    address
}

// Row 23.
#[tokio::test]
async fn plain_tls_behind_a_box_that_resets_tcpls_needs_the_application() {
    let mut server = Server::start();
    let seen = Arc::new(AtomicUsize::new(0));
    let address = middlebox(server.addresses[0], seen.clone()).await;
    let outcome = Session::connect(&[address], server.options()).await;
    let Err(ConnectError::Paths(failures)) = outcome else { panic!("{outcome:?}") };
    let lost = |failure: &PathFailure| matches!(failure.fault, PathFault::Handshake(CloseReason::LostInHandshake(_)));
    assert!(!failures.is_empty() && failures.iter().all(lost), "{failures:?}");
    assert_eq!(seen.load(Ordering::Relaxed), 1, "nothing was tried behind the application's back");
    let tls = library::plain_client(&trust(&server.identity), PROTOCOL);
    let plainly = server.options().with(|options| options.tls = tls);
    let addresses = [address];
    let (client, accepted) = tokio::join!(Session::connect(&addresses, plainly), server.listener.accept());
    let client = client.unwrap();
    assert!(!client.is_tcpls() && !accepted.is_tcpls(), "and both ends know what they have");
}
