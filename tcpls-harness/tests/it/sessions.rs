//! Sessions between our own client and server.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tcpls_core::error::{CloseReason, ReadError, TcpFault, WriteError};
use tcpls_core::event::{Event, TcpEvent};
use tcpls_core::wire::ids::{ConnectionId, ErrorCode};
use tcpls_harness::dial::Keep;
use tcpls_harness::net::{AddTcpError, ClientOptions, ConnectError, PathFault, Session};
use tcpls_harness::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::library;
use crate::support::{ANY, Server, joined, lost, pattern, read_all, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_download_survives_the_reset_of_one_of_two_tcp_connections() {
    let mut server = Server::start();
    let path = relay(server.addresses[0]);
    let (client, peer) = server.pair(path.address()).await;
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    let data = pattern(24 << 20);
    let expected = digest(&SHA256, &data);
    let mut download = client.open_stream().await.unwrap();
    download.write_chunk(Bytes::from_static(b"go")).await.unwrap();
    let mut upload = peer.accept_stream().await.unwrap();
    let sender = tokio::spawn(async move {
        upload.write_chunk(data.into()).await.unwrap();
        upload.finish().unwrap();
        upload
    });
    let mut events = client.events();
    let mut received = Vec::new();
    while let Some(chunk) = download.read_chunk(usize::MAX).await.unwrap() {
        received.extend_from_slice(&chunk);
        if received.len() > 8 << 20 && client.tcp_connections().len() == 2 {
            path.reset();
            lost(&mut events, ConnectionId::FIRST).await;
        }
    }
    assert_eq!(digest(&SHA256, &received).as_ref(), expected.as_ref());
    assert_eq!(client.tcp_connections(), [second]);
    sender.await.unwrap();
}

#[tokio::test]
async fn fifteen_unread_streams_do_not_stop_another() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let (mut unread, mut writers, much) = (Vec::new(), Vec::new(), Bytes::from(pattern(2 << 20)));
    for _ in 0..15 {
        let mut stream = client.open_stream().await.unwrap();
        stream.write_chunk(Bytes::from_static(b"x")).await.unwrap();
        let much = much.clone();
        writers.push(tokio::spawn(async move { stream.write_chunk(much).await }));
        unread.push(peer.accept_stream().await.unwrap());
    }
    let mut upload = client.open_stream().await.unwrap();
    let data = pattern(3 << 20);
    let sender = async {
        upload.write_chunk(data.clone().into()).await.unwrap();
        upload.finish().unwrap();
    };
    let reader = async {
        let mut download = peer.accept_stream().await.unwrap();
        read_all(download.recv()).await
    };
    let ((), read) = tokio::join!(sender, reader);
    assert!(read == data);
    assert!(writers.iter().all(|writer| !writer.is_finished()), "their windows are full");
    writers.iter().for_each(|writer| writer.abort());
}

#[tokio::test]
async fn session_recovers_by_itself_after_a_reset_of_its_last_tcp_connection() {
    let mut server = Server::start();
    let path = relay(server.addresses[0]);
    let (client, peer) = server.pair(path.address()).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1000).into()).await.unwrap();
    let mut events = client.events();
    path.reset();
    while !matches!(events.next().await.unwrap(), Event::Recovered) {}
    upload.write_chunk(pattern(1000).into()).await.unwrap();
    upload.finish().unwrap();
    let mut download = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(download.recv()).await, [pattern(1000), pattern(1000)].concat());
}

#[tokio::test]
async fn path_that_drops_everything_is_replaced_by_the_other() {
    let mut server = Server::start();
    server.config.user_timeout = Duration::from_millis(200);
    let path = relay(server.addresses[0]);
    let (client, peer) = server.pair(path.address()).await;
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    let mut events = client.events();
    path.stall();
    let mut upload = client.open_stream().await.unwrap();
    upload.send().attach(ConnectionId::FIRST).unwrap();
    upload.write_chunk(pattern(100_000).into()).await.unwrap();
    upload.finish().unwrap();
    lost(&mut events, ConnectionId::FIRST).await;
    let mut download = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(download.recv()).await, pattern(100_000));
    assert_eq!(client.tcp_connections(), [second]);
}

#[tokio::test]
async fn a_session_that_was_closed_delivers_what_was_written_first() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1 << 20).into()).await.unwrap();
    upload.finish().unwrap();
    let reader = async {
        let mut download = peer.accept_stream().await.unwrap();
        read_all(download.recv()).await
    };
    let (closed, read) = tokio::join!(client.close(ErrorCode(0), b"that is all"), reader);
    assert_eq!((closed.reason, closed.undelivered), (CloseReason::Local { error: ErrorCode(0) }, 0));
    assert_eq!(read, pattern(1 << 20));
    let heard = CloseReason::Peer { error: ErrorCode(0), reason: b"that is all".to_vec() };
    assert_eq!(peer.closed().await, heard);
    assert!(peer.accept_stream().await.is_none());
    assert!(peer.open_stream().await.is_err());
}

#[tokio::test]
async fn the_last_event_is_that_the_session_is_closed() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut events = peer.events();
    client.close(ErrorCode(7), b"").await;
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    let reason = CloseReason::Peer { error: ErrorCode(7), reason: Vec::new() };
    assert_eq!(last, Some(Event::Closed { reason }));
    assert!(peer.events().next().await.is_none());
}

#[tokio::test]
async fn dropping_all_handles_closes_the_session() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut stream = client.open_stream().await.unwrap();
    drop(client);
    stream.write_chunk(Bytes::from_static(b"still here")).await.unwrap();
    stream.finish().unwrap();
    let mut incoming = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(incoming.recv()).await, b"still here");
    drop(stream);
    assert!(matches!(peer.closed().await, CloseReason::Peer { error: ErrorCode(0), .. }));
}

#[tokio::test]
async fn a_stream_that_is_dropped_unfinished_does_not_look_complete() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from_static(b"part")).await.unwrap();
    let mut incoming = peer.accept_stream().await.unwrap();
    drop(stream);
    let end = loop {
        match incoming.read_chunk(usize::MAX).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert_eq!(end, Err(ReadError::Reset(ErrorCode(0))));
}

#[tokio::test]
async fn stopping_a_stream_reaches_its_writer() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from_static(b"x")).await.unwrap();
    peer.accept_stream().await.unwrap().stop(ErrorCode(9));
    let piece = Bytes::from(vec![0; 1 << 16]);
    let stopped = loop {
        if let Err(error) = stream.write_chunk(piece.clone()).await {
            break error;
        }
    };
    assert_eq!(stopped, WriteError::Stopped(ErrorCode(9)));
}

#[tokio::test]
async fn streams_read_and_write_like_any_of_tokios() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let echo = async {
        let (mut writer, mut reader) = peer.accept_stream().await.unwrap().split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let ask = async {
        let mut stream = client.open_stream().await.unwrap();
        stream.write_all(&pattern(100_000)).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(tokio::join!(echo, ask).1, pattern(100_000));
}

#[tokio::test]
async fn many_sessions_at_once_do_not_mix() {
    let mut server = Server::start();
    let addresses = server.addresses.clone();
    let options = server.options();
    let clients: Vec<_> = (0..20u32)
        .map(|number| {
            let (addresses, options) = (addresses.clone(), options.clone());
            tokio::spawn(async move {
                let session = Session::connect(&addresses[..1], options).await.unwrap();
                session.add_tcp(addresses[1], None).await.unwrap();
                let mut stream = session.open_stream().await.unwrap();
                stream.write_u32(number).await.unwrap();
                stream.shutdown().await.unwrap();
                let answer = stream.read_u32().await.unwrap();
                session.close(ErrorCode(0), b"").await;
                answer
            })
        })
        .collect();
    for _ in 0..20 {
        let session = server.listener.accept().await;
        tokio::spawn(async move {
            let mut stream = session.accept_stream().await.unwrap();
            let number = stream.read_u32().await.unwrap();
            stream.write_u32(number + 1000).await.unwrap();
            stream.shutdown().await.unwrap();
            session.closed().await;
        });
    }
    for (number, client) in (0u32..).zip(clients) {
        assert_eq!(client.await.unwrap(), number + 1000);
    }
}

#[tokio::test]
async fn an_advertised_address_can_be_joined() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut events = client.events();
    peer.advertise(server.addresses[1]).unwrap();
    let address = loop {
        if let Some(Event::AddressAdvertised { address, .. }) = events.next().await {
            break address;
        }
    };
    assert_eq!(address, server.addresses[1]);
    let tcp = client.add_tcp(address, None).await.unwrap();
    client.retire_tcp(ConnectionId::FIRST).unwrap();
    lost(&mut events, ConnectionId::FIRST).await;
    assert_eq!(client.tcp_connections(), [tcp]);
}

#[tokio::test]
async fn tokens_do_not_run_out_while_tcp_connections_come_and_go() {
    let mut server = Server::start();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let mut events = client.events();
    for _ in 0..20 {
        while client.tokens() == 0 {
            events.next().await.unwrap();
        }
        let tcp = client.add_tcp(server.addresses[1], None).await.unwrap();
        client.reset_tcp(tcp);
        lost(&mut events, tcp).await;
    }
    assert_eq!(client.tcp_connections(), [ConnectionId::FIRST]);
}

#[tokio::test]
async fn errors_display_their_cause() {
    let mut server = Server::start();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Session::connect(&[unused], server.options()).await.unwrap_err();
    assert!(error.to_string().contains(&unused.to_string()), "{error}");
    let error = Session::connect(&[], server.options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoAddress));

    let mut stranger = server.options();
    stranger.server_name = "stranger.example".try_into().unwrap();
    let error = Session::connect(&[server.addresses[0], unused, server.addresses[1]], stranger).await.unwrap_err();
    let ConnectError::Paths(failures) = &error else { panic!("{error}") };
    let fault = |address| failures.iter().find(|failure| failure.path.remote == address).map(|failure| &failure.fault);
    for address in &server.addresses {
        assert!(matches!(fault(*address), Some(PathFault::Handshake(CloseReason::Handshake(_)))), "{error}");
    }
    assert!(matches!(fault(unused), Some(PathFault::Tcp(_))), "{error}");
    let order: Vec<_> = failures.iter().map(|failure| failure.path.remote).collect();
    assert_eq!(order, [server.addresses[0], unused, server.addresses[1]], "as they were given");
    assert_eq!(error.to_string().lines().count(), 4, "each address with its reason: {error}");
    let mut protocol = server.options();
    protocol.tls = library::client(&Trust::Anyone, b"another");
    let error = Session::connect(&server.addresses, protocol).await.unwrap_err();
    assert!(matches!(error, ConnectError::Paths(_)), "{error}");

    let (client, peer) = server.pair(server.addresses[0]).await;
    assert!(matches!(client.add_tcp(unused, None).await, Err(AddTcpError::Tcp(..))));
    assert!(matches!(peer.add_tcp(unused, None).await, Err(AddTcpError::Session(_))));
}

#[tokio::test]
async fn join_at_another_server_fails_without_ending_the_session() {
    let mut server = Server::start().with_joins_of_the_draft();
    let other = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let error = client.add_tcp(other.addresses[0], None).await.unwrap_err();
    assert!(matches!(error, AddTcpError::Join(TcpFault::Alert(47))), "{error}");
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from_static(b"unharmed")).await.unwrap();
    stream.finish().unwrap();
    assert_eq!(read_all(peer.accept_stream().await.unwrap().recv()).await, b"unharmed");
}

#[tokio::test]
async fn client_of_a_restarted_server_ends_with_the_last_refusal_instead_of_waiting() {
    let mut server = Server::start().with_joins_of_the_draft();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let restarted = server.restart().await;
    client.reset_tcp(ConnectionId::FIRST);
    assert_eq!(client.closed().await, CloseReason::OutOfTokens { fault: TcpFault::Alert(47) });
    assert_eq!(client.tokens(), 0);
    assert!(client.open_stream().await.is_err());
    drop(restarted);
}

#[tokio::test]
async fn client_of_a_restarted_server_ends_at_once_if_that_authenticates_itself() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut asked = client.open_stream().await.unwrap();
    asked.write_all(b"?").await.unwrap();
    let mut answered = peer.accept_stream().await.unwrap();
    answered.write_all(b"!").await.unwrap();
    asked.read_exact(&mut [0]).await.unwrap(); // the server's tickets are in front of its answer
    drop(answered);
    // The new process has the same identity.
    let restarted = server.restart().await;
    client.reset_tcp(ConnectionId::FIRST);
    assert_eq!(client.closed().await, CloseReason::LostByServer);
    assert!(client.tokens() > 0, "they were not tried one by one");
    drop((restarted, peer));
}

#[tokio::test]
async fn refusal_of_a_join_with_much_data_arrives_as_an_alert() {
    let mut server = Server::start().with_joins_of_the_draft();
    let (client, _peer) = server.pair(server.addresses[0]).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1 << 20).into()).await.unwrap();
    let restarted = server.restart().await;
    let mut events = client.events();
    client.reset_tcp(ConnectionId::FIRST);
    let mut faults = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Tcp(TcpEvent::Lost { tcp, fault }) = event
            && tcp != ConnectionId::FIRST
        {
            faults.push(fault);
        }
    }
    assert_eq!(faults, [TcpFault::Alert(47); 4]);
    drop(restarted);
}

/// Passes the first TCP connection on to `backend`, closes the next `closed`, whose clients get no answer, and passes on those
/// after them.
async fn balancer(backend: SocketAddr, closed: usize) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if !(1..=closed).contains(&number) {
                let mut server = TcpStream::connect(backend).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        }
    });
    address
}

#[tokio::test]
async fn session_survives_a_balancer_that_closes_more_joins_than_there_are_tokens() {
    let mut server = Server::start();
    let address = balancer(server.addresses[0], 5).await;
    let (client, peer) = server.pair(address).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1000).into()).await.unwrap();
    let mut download = peer.accept_stream().await.unwrap();
    assert!(client.tokens() < 5);
    let mut events = client.events();
    client.reset_tcp(ConnectionId::FIRST);
    while !matches!(events.next().await.expect("the session goes on"), Event::Recovered) {}
    upload.write_chunk(pattern(1000).into()).await.unwrap();
    upload.finish().unwrap();
    assert_eq!(read_all(download.recv()).await, [pattern(1000), pattern(1000)].concat());
    client.add_tcp(server.addresses[1], None).await.expect("there are fresh tokens");
}

#[tokio::test]
async fn bytes_that_are_not_tls_get_an_alert() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.addresses[0]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[..3], [21, 3, 3]);
}

fn keeping_paths(server: &Server) -> ClientOptions {
    let mut options = server.options();
    options.dial.keep = Keep::Paths;
    options
}

#[tokio::test]
async fn a_path_that_was_down_is_used_again_when_it_is_back() {
    let mut server = Server::start();
    let path = relay(server.addresses[0]);
    let options = keeping_paths(&server);
    let address = [path.address()];
    let (client, peer) = tokio::join!(Session::connect(&address, options), server.listener.accept());
    let client = client.unwrap();
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    let mut events = client.events();
    path.take_down();
    lost(&mut events, ConnectionId::FIRST).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1 << 20).into()).await.unwrap();
    upload.finish().unwrap();
    let mut download = peer.accept_stream().await.unwrap();
    assert_eq!(read_all(download.recv()).await, pattern(1 << 20), "the other path goes on alone");
    let in_use: Vec<_> = client.paths().iter().filter_map(|status| status.tcp).collect();
    assert_eq!(in_use, [second], "a join may be under way to a listener that is about to close");
    path.resume();
    let third = joined(&mut events).await;
    assert_eq!(client.tcp_connections(), [second, third]);
}

#[tokio::test]
async fn a_tcp_connection_that_was_retired_is_not_missed() {
    let mut server = Server::start();
    let options = keeping_paths(&server);
    let address = [server.addresses[0]];
    let (client, _peer) = tokio::join!(Session::connect(&address, options), server.listener.accept());
    let client = client.unwrap();
    let second = client.add_tcp(server.addresses[1], None).await.unwrap();
    let mut events = client.events();
    client.retire_tcp(ConnectionId::FIRST).unwrap();
    lost(&mut events, ConnectionId::FIRST).await;
    // Another one that joins after it shows that nothing joined before.
    let third = client.add_tcp(server.addresses[1], None).await.unwrap();
    assert_eq!(client.tcp_connections(), [second, third]);
}

#[tokio::test]
async fn finishing_a_stream_whose_reader_has_had_enough_is_no_error() {
    let mut server = Server::start();
    let address = server.addresses[0];
    let (client, peer) = server.pair(address).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(Bytes::from_static(b"enough")).await.unwrap();
    let mut reader = peer.accept_stream().await.unwrap();
    assert_eq!(reader.read_chunk(usize::MAX).await.unwrap().unwrap(), "enough");
    reader.stop(ErrorCode(0));
    let stopped = WriteError::Stopped(ErrorCode(0));
    while client_writes(&mut upload).await != Err(stopped) {}
    assert_eq!(upload.finish(), Ok(()));
}

async fn client_writes(upload: &mut tcpls_harness::net::Stream) -> Result<(), WriteError> {
    upload.write_chunk(Bytes::from_static(b"more")).await?;
    tokio::task::yield_now().await;
    Ok(())
}

#[tokio::test]
async fn a_writer_can_wait_until_all_is_delivered() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let (mut send, mut recv) = client.open_stream().await.unwrap().split();
    send.write_chunk(pattern(500_000).into()).await.unwrap();
    send.finish().unwrap();
    let reader = async {
        let mut stream = peer.accept_stream().await.unwrap();
        assert_eq!(read_all(stream.recv()).await, pattern(500_000));
        stream.finish().unwrap();
    };
    let (delivered, stopped, ()) = tokio::join!(send.delivered(), send.stopped(), reader);
    assert_eq!((delivered, stopped), (Ok(()), None));
    assert_eq!(read_all(&mut recv).await, b"");
    assert_eq!(send.delivered().await, Ok(()), "and knows it when nothing is left of the stream");
    send.shutdown().await.unwrap();
    assert_eq!(client.close(ErrorCode(0), b"").await.undelivered, 0);
}

#[tokio::test]
async fn a_writer_can_wait_until_the_peer_stops_it() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let (mut request, mut answer) = client.open_stream().await.unwrap().split();
    request.write_chunk(Bytes::from_static(b"GET /")).await.unwrap();
    request.finish().unwrap();
    let (mut send, mut recv) = peer.accept_stream().await.unwrap().split();
    assert_eq!(read_all(&mut recv).await, b"GET /");
    let cancel = async { answer.stop(ErrorCode(42)) };
    let (stopped, ()) = tokio::join!(send.stopped(), cancel);
    assert_eq!(stopped, Some(ErrorCode(42)));
    assert_eq!(send.delivered().await, Err(WriteError::Stopped(ErrorCode(42))));
    assert_eq!(send.write_chunk(Bytes::from_static(b"200")).await, Err(WriteError::Stopped(ErrorCode(42))));
    assert_eq!(answer.read_chunk(9).await, Err(ReadError::Stopped), "this is no end of the answer");
}

#[tokio::test]
async fn waiting_for_a_stream_ends_with_its_session() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut stream = client.open_stream().await.unwrap();
    stream.write_chunk(Bytes::from_static(b"part")).await.unwrap();
    let send = stream.send();
    let (delivered, stopped, _) = tokio::join!(send.delivered(), send.stopped(), peer.close(ErrorCode(3), b""));
    assert_eq!((delivered, stopped), (Err(WriteError::Closed), None));
    send.reset(ErrorCode(1));
    assert_eq!(send.delivered().await, Err(WriteError::Closed));
}

#[tokio::test]
async fn peer_learns_of_a_close_that_was_cut_short_once_it_takes_the_data_before() {
    let mut server = Server::start();
    server.config.close_limit = Duration::from_millis(50);
    let path = relay(server.addresses[0]);
    let (client, peer) = server.pair(path.address()).await;
    let mut upload = client.open_stream().await.unwrap();
    upload.write_chunk(pattern(1000).into()).await.unwrap();
    let mut download = peer.accept_stream().await.unwrap();
    path.stall();
    // Not more than the window: more than the path and the kernel's buffers hold, so that the socket is full.
    upload.write_chunk(pattern(1_000_000).into()).await.unwrap();
    upload.finish().unwrap();
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close(ErrorCode(0), b"enough").await }
    });
    let reason = CloseReason::Local { error: ErrorCode(0) };
    assert_eq!(client.closed().await, reason, "nothing was taken for the limit");
    path.resume();
    let heard = CloseReason::Peer { error: ErrorCode(0), reason: b"enough".to_vec() };
    assert_eq!(peer.closed().await, heard, "and not, after a minute, that the session is stranded");
    let end = loop {
        match download.read_chunk(usize::MAX).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    let closed = closing.await.unwrap();
    assert!(closed.reason == reason && closed.undelivered > 0, "{closed:?}");
    assert!(matches!(end, Err(ReadError::Truncated) | Ok(None)), "{end:?}");
}

#[tokio::test]
async fn session_of_a_stream_can_be_closed_when_no_other_handle_is_left() {
    let mut server = Server::start();
    let (client, peer) = server.pair(server.addresses[0]).await;
    let mut stream = client.open_stream().await.unwrap();
    drop(client);
    let session = stream.session();
    stream.write_chunk(Bytes::from_static(b"the last")).await.unwrap();
    stream.finish().unwrap();
    drop(stream);
    let read = async {
        let mut stream = peer.accept_stream().await.unwrap();
        read_all(stream.recv()).await
    };
    let (_, read) = tokio::join!(session.close(ErrorCode(0), b""), read);
    assert_eq!(read, b"the last");
}
