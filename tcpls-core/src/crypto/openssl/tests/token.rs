//! `tcpls_token` in EncryptedExtensions (decision D146), from a server that is not ours.

use std::sync::Arc;

use bytes::BytesMut;

use super::raw_server::RawServer;
use super::{CODES, NAME, connector, open, records, written};
use crate::config::Config;
use crate::connection::{Connection, State};
use crate::crypto::openssl::OpensslClient;
use crate::crypto::rng::Seed;
use crate::crypto::{Handshake, TlsClient};
use crate::error::{CloseReason, HandshakeError, HandshakeErrorKind as Kind, Violation};
use crate::event::Event;
use crate::time::Time;
use crate::wire::frame::{Frame, NewToken};
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::ids::{ConnectionId, Token};

const TOKEN: u16 = 0xff62;
const TCPLS: (u16, &[u8]) = (CODES[0], b"");
const PARAMETERS: (u16, &[u8]) = (CODES[1], b"");
/// supported_groups, which is allowed there.
const GROUPS: (u16, &[u8]) = (10, &[0, 2, 0, 0x1d]);

fn client() -> Box<dyn Handshake> {
    OpensslClient::new(connector(), &[]).unwrap().by_extensions().handshake(NAME).unwrap()
}

/// Extensions by their code points.
type Extensions<'a> = &'a [(u16, &'a [u8])];

/// A client that has got the flight of such a server, and the server.
fn answered(
    client: &mut dyn Handshake,
    extensions: Extensions<'_>,
    piece: usize,
) -> (RawServer, Result<(), HandshakeError>) {
    let server = RawServer::answer(&written(client), extensions, piece);
    let outcome = server.flight.clone().iter_mut().try_for_each(|record| client.handle_record(record));
    (server, outcome)
}

#[test]
fn client_takes_the_token_of_a_server_that_agrees_to_tcpls() {
    let cases: [(Extensions<'_>, bool, Option<[u8; 32]>); 6] = [
        (&[TCPLS, (TOKEN, &[9; 32])], true, Some([9; 32])),
        (&[(TOKEN, &[9; 32]), GROUPS, TCPLS], true, Some([9; 32])),
        (&[TCPLS, PARAMETERS, (TOKEN, &[9; 32])], false, Some([9; 32])),
        (&[TCPLS], true, None),
        (&[(TOKEN, &[9; 32])], false, None),
        (&[(TOKEN, &[9; 31])], false, None),
    ];
    for (extensions, draft_only, token) in cases {
        for piece in [usize::MAX, 20, 3] {
            let mut client = client();
            let (_, outcome) = answered(&mut *client, extensions, piece);
            outcome.unwrap();
            assert!(client.is_complete());
            written(&mut *client);
            let agreed = client.finish().unwrap();
            let tcpls = extensions.contains(&TCPLS);
            assert_eq!((agreed.tcpls, agreed.draft_only, agreed.early_token), (tcpls, draft_only, token));
        }
    }
}

#[test]
fn malformed_token_ends_the_handshake_with_decode_error() {
    let cases: [Extensions<'_>; 4] = [
        &[TCPLS, (TOKEN, b"")],
        &[TCPLS, (TOKEN, &[9; 31])],
        &[TCPLS, (TOKEN, &[9; 33])],
        &[TCPLS, (TOKEN, &[9; 32]), (TOKEN, &[9; 32])],
    ];
    for extensions in cases {
        let mut client = client();
        let (server, outcome) = answered(&mut *client, extensions, usize::MAX);
        assert_eq!(outcome.unwrap_err().kind(), Kind::Violation);
        let sent = records(&written(&mut *client));
        let alert = open(&server.open, 0, sent.last().unwrap());
        assert_eq!(alert, Some((21, vec![2, 50])), "fatal, decode_error");
    }
}

#[test]
fn token_of_a_flight_that_is_not_authentic_is_not_taken() {
    for spoilt in 1..5 {
        let mut client = client();
        let server = RawServer::answer(&written(&mut *client), &[TCPLS, (TOKEN, &[9; 32])], usize::MAX);
        let mut flight = server.flight;
        *flight[spoilt].last_mut().unwrap() ^= 1;
        assert!(flight.iter_mut().try_for_each(|record| client.handle_record(record)).is_err());
        assert!(!client.is_complete() && client.finish().is_err());
    }
}

#[test]
fn client_without_extensions_refuses_a_server_that_sends_them() {
    let mut client = OpensslClient::new(connector(), &[]).unwrap().handshake(NAME).unwrap();
    let (_, outcome) = answered(&mut *client, &[TCPLS], usize::MAX);
    assert_eq!(outcome.unwrap_err().kind(), Kind::Violation);
    assert!(!client.is_complete() && !client.is_draft_only());
}

// draft I33
#[test]
fn client_joins_with_the_token_of_encrypted_extensions_which_has_number_1() {
    for value in [9, 8] {
        let now = Time::from_millis(1000);
        let mut conn = Connection::client(now, Arc::new(Config::default()), client(), Seed([3; 32]));
        let mut hello = Vec::new();
        conn.poll_transmit(now, ConnectionId::FIRST, 1 << 16, &mut hello);
        let server = RawServer::answer(&hello, &[TCPLS, (TOKEN, &[9; 32])], usize::MAX);
        conn.handle_bytes(now, ConnectionId::FIRST, &mut BytesMut::from(&server.flight.concat()[..]));
        assert_eq!((conn.state(), conn.is_draft_only(), conn.tokens()), (State::Established, true, 1));
        let events: Vec<Event> = core::iter::from_fn(|| conn.poll_event()).collect();
        assert!(matches!(events[..], [_, Event::Established(_), Event::TokensAvailable { count: 1 }]), "{events:?}");

        // New Token has the same value, or another.
        let mut frame = Vec::new();
        Frame::NewToken(NewToken { sequence: 1, token: Token([value; 32]) }).encode(&mut frame);
        conn.handle_bytes(now, ConnectionId::FIRST, &mut BytesMut::from(&server.seal(0, 23, &frame)[..]));
        if value != 9 {
            assert_eq!(conn.close_reason(), Some(&CloseReason::Violation(Violation::ConflictingToken(1))));
            continue;
        }
        let tcp = conn.open_tcp(now).unwrap();
        let mut join = Vec::new();
        conn.poll_transmit(now, tcp, 1 << 16, &mut join);
        let (hello, _) = peek_client_hello(&join, &ExtensionTypes::default()).unwrap().unwrap();
        assert_eq!((tcp, hello.join, conn.tokens()), (ConnectionId(1), Some(Token([9; 32])), 0));
    }
}
