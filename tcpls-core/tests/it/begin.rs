//! The start of a session for an application: `Established` is reported when streams can be opened, for any
//! fragmentation of the peer's flight.

use core::time::Duration;
use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::config::Config;
use tcpls_core::connection::{Connection, State, TcpEnd};
use tcpls_core::crypto::rustls::RustlsServer;
use tcpls_core::endpoint::{Endpoint, EndpointConfig, Incoming};
use tcpls_core::error::{CloseReason, TcpFault, Violation};
use tcpls_core::event::{Event, StreamEvent, TcpEvent};
use tcpls_core::time::Time;
use tcpls_core::wire::frame::{Frame, NewToken, SessionParameters};
use tcpls_core::wire::ids::{ConnectionId, StreamId, Token};

use crate::support::peer::{FIRST, GENEROUS, Peer, entries};
use crate::support::seed;
use crate::support::tls::{ClientCertificate, start_client};
use crate::support::{Client, Server, Tls};

const NOW: Time = Time::from_millis(5);

fn client(tls: &Tls) -> Connection {
    Connection::client(NOW, Arc::new(Config::default()), start_client(&tls.client(1)), seed(2))
}

fn server(tls: &RustlsServer, hello: &[u8]) -> Connection {
    let mut hello = BytesMut::from(hello);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], seed(3));
    let incoming = endpoint.handle_accepted(NOW);
    let Some(Incoming::New(session)) = endpoint.handle_bytes(NOW, incoming, &mut hello) else {
        panic!("a ClientHello without a token starts a session");
    };
    let mut conn = Connection::server(NOW, Arc::new(Config::default()), tls.handshake().unwrap(), session, seed(4));
    conn.handle_bytes(NOW, FIRST, &mut hello);
    conn
}

fn transmit(conn: &mut Connection) -> Vec<u8> {
    let mut out = Vec::new();
    while conn.poll_transmit(NOW, FIRST, 1 << 16, &mut out) > 0 {}
    out
}

/// Hands `flight` over in these pieces, with the documented pattern in between: a stream is opened on `Established`.
fn opens_a_stream<'a>(conn: &mut Connection, pieces: impl Iterator<Item = &'a [u8]>, what: &str) -> StreamId {
    let (mut unread, mut opened) = (BytesMut::new(), None);
    for piece in pieces {
        unread.extend_from_slice(piece);
        conn.handle_bytes(NOW, FIRST, &mut unread);
        while let Some(event) = conn.poll_event() {
            let is_first = opened.is_none();
            match event {
                Event::Established(_) => {
                    assert!(is_first, "{what}: Established came twice");
                    opened = Some(conn.open_stream().unwrap_or_else(|error| panic!("{what}: {error}")));
                }
                Event::TokensAvailable { .. } | Event::Stream(_) => {
                    assert!(!is_first, "{what}: {event:?} came before Established");
                }
                _ => {}
            }
        }
        assert_eq!(conn.state() == State::Handshaking, opened.is_none(), "{what}: the state and the event disagree");
    }
    opened.unwrap_or_else(|| panic!("{what}: Established did not come"))
}

/// All ways to cut `flight` once, and all ways to cut it into pieces of one size.
fn for_every_cut(flight: &[u8], mut start: impl FnMut() -> Connection) {
    assert!(flight.len() > 100, "{} bytes are no flight", flight.len());
    for at in 1..flight.len() {
        let (head, tail) = flight.split_at(at);
        opens_a_stream(&mut start(), [head, tail].into_iter(), &format!("cut at {at}"));
    }
    // Longer pieces than half of it were tried just now.
    for size in 1..=flight.len() / 2 {
        opens_a_stream(&mut start(), flight.chunks(size), &format!("pieces of {size}"));
    }
}

#[test]
fn client_opens_streams_on_established_for_any_fragmentation() {
    let tls = Tls::default();
    let flight = transmit(&mut server(&tls.server(1), &transmit(&mut client(&tls))));
    for_every_cut(&flight, || {
        let mut conn = client(&tls);
        transmit(&mut conn);
        conn
    });
}

#[test]
fn server_opens_streams_on_established_for_any_fragmentation() {
    let tls = Tls::default();
    let mut first = client(&tls);
    let hello = transmit(&mut first);
    let flight = transmit(&mut server(&tls.server(1), &hello));
    first.handle_bytes(NOW, FIRST, &mut BytesMut::from(&flight[..]));
    let finished = transmit(&mut first);
    for_every_cut(&finished, || {
        let mut conn = server(&tls.server(1), &hello);
        assert_eq!(transmit(&mut conn), flight);
        conn
    });
}

#[test]
fn with_client_certificates_established_comes_after_the_server_has_accepted_one() {
    let tls = Tls { client_auth: true, client_certificate: Some(ClientCertificate::Trusted), ..Tls::default() };
    let mut first = client(&tls);
    let mut peer = server(&tls.server(1), &transmit(&mut first));
    let flight = transmit(&mut peer);
    first.handle_bytes(NOW, FIRST, &mut BytesMut::from(&flight[..]));
    peer.handle_bytes(NOW, FIRST, &mut BytesMut::from(&transmit(&mut first)[..]));
    let second = transmit(&mut peer);
    for_every_cut(&second, || {
        let mut conn = client(&tls);
        transmit(&mut conn);
        conn.handle_bytes(NOW, FIRST, &mut BytesMut::from(&flight[..]));
        transmit(&mut conn);
        assert_eq!(conn.state(), State::Handshaking);
        conn
    });
}

#[test]
fn plain_session_opens_its_stream_on_established_for_any_fragmentation() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
    let mut peer = tls.plain_server(3);
    peer.read_tls(&mut &transmit(&mut client(&tls))[..]).unwrap();
    peer.process_new_packets().unwrap();
    let mut flight = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut flight).unwrap();
    }
    for_every_cut(&flight, || {
        let mut conn = client(&tls);
        transmit(&mut conn);
        conn
    });
}

#[test]
fn established_comes_before_the_tokens_of_the_same_record() {
    let mut peer = Peer::bare(Server, Config::default());
    let parameters = entries(&GENEROUS);
    let token = Frame::NewToken(NewToken { sequence: 1, token: Token([7; 32]) });
    // Frames are processed from the last to the first.
    peer.send(FIRST, &[Frame::SessionParameters(SessionParameters { entries: &parameters }), token]);
    let events = peer.take_events();
    assert!(
        matches!(
            events.as_slice(),
            [Event::Tcp(TcpEvent::Joined { .. }), Event::Established(_), Event::TokensAvailable { count: 1 }, ..]
        ),
        "{events:?}"
    );
}

#[test]
fn a_peer_that_allows_no_stream_yet_is_announced_and_available_follows() {
    let mut peer = Peer::bare(Server, Config::default());
    peer.send(FIRST, &[Frame::SessionParameters(SessionParameters { entries: &[] })]);
    assert!(peer.take_events().iter().any(|event| matches!(event, Event::Established(_))));
    assert!(peer.conn.open_stream().is_err());
    peer.send(FIRST, &[Frame::MaxStreams(tcpls_core::wire::frame::MaxStreams { maximum: 1 })]);
    assert!(peer.take_events().contains(&Event::Stream(StreamEvent::Available)));
    peer.conn.open_stream().unwrap();
}

#[test]
fn peer_silent_before_its_parameters_has_the_session_timeout_to_return() {
    for side in [Server, Client] {
        let config = Config::default().with(|config| {
            config.idle_timeout = None;
            config.session_timeout = Duration::from_secs(100);
        });
        let mut peer = Peer::bare(side, config);
        peer.send(FIRST, &[Frame::Ping]);
        peer.rest();
        let asleep = |peer: &mut Peer, ms: u64| (0..ms / 100).for_each(|_| peer.sleep(100));
        asleep(&mut peer, 99_000);
        assert_eq!(peer.conn.close_reason(), None, "{side:?}");
        asleep(&mut peer, 2_000);
        assert_eq!(peer.conn.close_reason(), Some(&CloseReason::HandshakeTimeout), "{side:?}");
    }
}

#[test]
fn application_is_not_notified_of_a_session_whose_peer_sends_no_parameters() {
    for side in [Server, Client] {
        let mut peer = Peer::bare(side, Config::default());
        let began = peer.now;
        while peer.conn.state() == State::Handshaking {
            peer.send(FIRST, &[Frame::Ping]);
            peer.rest();
            peer.sleep(970);
        }
        assert_eq!(peer.conn.close_reason(), Some(&CloseReason::Violation(Violation::Parameters)));
        let took = (peer.now - began).as_millis();
        assert!((30_000..=31_000).contains(&took), "{side:?}: after {took} ms");
        let events = peer.take_events();
        assert!(!events.iter().any(|event| matches!(event, Event::Established(_))), "{side:?}: {events:?}");
    }
}

#[test]
fn a_client_whose_server_falls_silent_before_its_parameters_ends_in_time() {
    let mut peer = Peer::bare(Server, Config::default());
    assert!(!peer.recv(FIRST).is_empty());
    peer.sleep(11_000);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::LostInHandshake(TcpFault::UserTimeout)));
}

#[test]
fn client_cut_off_before_the_peers_parameters_ends_at_once() {
    let mut peer = Peer::bare(Server, Config::default());
    let now = peer.now;
    peer.conn.handle_tcp_end(now, ConnectionId::FIRST, TcpEnd::Reset);
    assert_eq!(peer.conn.close_reason(), Some(&CloseReason::LostInHandshake(TcpFault::Reset)));
}
