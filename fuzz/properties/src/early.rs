//! First flights with early data at a server with a real TLS library: any frames in any records, cut anywhere, damaged,
//! copied, to a server that accepts early data, or rejects it, or has other limits by now.
//!
//! The input is a byte for the server, one for the size of the pieces in which the flight arrives, one that damages it,
//! and then the contents of records, each behind a byte of its length.

use std::sync::Arc;

use bytes::BytesMut;
use tcpls_core::crypto::{EARLY_DATA, TlsClient, TlsServer};
use tcpls_core::testing::recordings::Kept;
use tcpls_core::testing::tls::SERVER_NAME;
use tcpls_core::testing::{Pair, Setup, Tls};
use tcpls_core::wire::frame::{Frame, SessionParameters};
use tcpls_core::{
    CloseReason, Config, Connection, ConnectionId, Endpoint, EndpointConfig, Incoming, Seed, Side, State, Time,
};

/// Records in one flight at most.
const MAX_RECORDS: usize = 64;
/// Memory of a session that has only its first flight, in bytes.
const MAX_MEMORY: usize = 256 << 10;
const NOW: Time = Time::from_millis(1_000);

/// What the server does about early data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Accepts,
    HasOtherLimits,
    Rejects,
}

/// A client with a ticket, and the server that has issued it.
fn ends(policy: Policy) -> (Arc<dyn TlsClient>, Arc<dyn TlsServer>) {
    let tls = Tls { early_client: true, early_server: policy != Policy::Rejects, ..Tls::default() };
    let (client, server) = (tls.client_end(1), tls.server_end(2));
    let issuer = Tls { early_server: true, ..tls }.server_end(2);
    let issuer = if policy == Policy::Rejects { &issuer } else { &server };
    let handshakes = (client.handshake(SERVER_NAME), issuer.handshake());
    let (Ok(on_client), Ok(on_server)) = handshakes else { panic!("complete configurations") };
    let mut pair = Pair::new(Setup::default(), on_client, on_server);
    pair.drive();
    pair.transfer(Side::Server, b"behind the tickets");
    (client, server)
}

/// A server's session that got `flight` in pieces; `None` if the endpoint has refused it.
fn receive(server: &dyn TlsServer, policy: Policy, flight: &[u8], piece: usize, kept: &Kept) -> Option<Connection> {
    let change = |config: &mut Config| config.initial_session_window -= u64::from(policy == Policy::HasOtherLimits);
    let config = Arc::new(Config::default().with(change));
    let mut endpoint = Endpoint::new(EndpointConfig::default(), [1; 32], Seed([4; 32]));
    let incoming = endpoint.handle_accepted(NOW);
    let mut conn: Option<Connection> = None;
    let mut waiting = BytesMut::new();
    for part in flight.chunks(piece) {
        waiting.extend_from_slice(part);
        match &mut conn {
            Some(conn) => conn.handle_bytes(NOW, ConnectionId::FIRST, &mut waiting),
            None => match endpoint.handle_bytes(NOW, incoming, &mut waiting) {
                None => {}
                Some(Incoming::New(session)) => {
                    let Ok(tls) = server.handshake() else { panic!("a complete configuration") };
                    let begun =
                        Connection::server_with(NOW, config.clone(), tls, session, Seed([5; 32]), kept.recorder());
                    conn.insert(begun).handle_bytes(NOW, ConnectionId::FIRST, &mut waiting);
                }
                Some(_) => return None,
            },
        }
    }
    conn
}

/// All stream data that the application of a server reads.
fn read(conn: &mut Connection) -> usize {
    let mut read = 0;
    while let Some(id) = conn.accept_stream() {
        assert!(conn.stream(id).is_early());
        while let Ok(Some(data)) = conn.stream(id).read(usize::MAX) {
            read += data.len();
        }
    }
    read
}

/// The target `early`: see above.
pub fn early(input: &[u8]) {
    let [policy, piece, damage, contents @ ..] = input else { return };
    let kept = Kept::new();
    let policy = [Policy::Accepts, Policy::HasOtherLimits, Policy::Rejects][usize::from(*policy) % 3];
    let piece = usize::from(*piece) * 8 + 1;
    let (client, server) = ends(policy);
    let Ok(mut tls) = client.handshake(SERVER_NAME) else { panic!("a complete configuration") };
    let mut flight = Vec::new();
    tls.write(&mut flight);
    let hello = flight.len();
    let mut parameters = Vec::new();
    Frame::SessionParameters(SessionParameters { entries: &[] }).encode(&mut parameters);
    let mut rest = contents;
    let mut sent = 0;
    for number in 0..MAX_RECORDS {
        let Some((&len, after)) = rest.split_first() else { break };
        let (content, after) = after.split_at(after.len().min(usize::from(len)));
        rest = after;
        // Without them, a session ends at the first record.
        let content = if number == 0 { [content, &parameters].concat() } else { content.to_vec() };
        let is_possible = !content.is_empty() && sent + content.len() <= EARLY_DATA;
        assert_eq!(tls.write_early(&content, &mut flight), is_possible);
        sent += if is_possible { content.len() } else { 0 };
    }
    // The ClientHello is the library's to judge, and a client's that cannot be told from one without damage.
    let is_damaged = *damage > 0 && flight.len() > hello;
    if is_damaged {
        let at = hello + usize::from(*damage) * 37 % (flight.len() - hello);
        flight[at] ^= 1;
    }

    let Some(mut conn) = receive(&*server, policy, &flight, piece, &kept) else { panic!("the ClientHello is whole") };
    assert!(conn.memory() <= MAX_MEMORY, "{} bytes", conn.memory());
    assert!(!conn.is_confirmed(), "there is no Finished");
    let is_whole = conn.close_reason().is_none();
    let delivered = read(&mut conn);
    assert!(delivered <= sent);
    assert!(policy == Policy::Accepts || delivered == 0, "rejected early data was delivered");
    if policy != Policy::Accepts && !is_damaged {
        assert_eq!((conn.state(), is_whole), (State::Handshaking, true), "rejected early data is skipped");
    }
    let mut out = Vec::new();
    while conn.poll_transmit(NOW, ConnectionId::FIRST, 20_000, &mut out) > 0 {}
    match conn.close_reason() {
        None => assert!(out.starts_with(&[22, 3, 3]), "a ServerHello"),
        Some(CloseReason::Violation(_)) => assert!(matches!(out[out.len() - 7..], [21, 3, 3, 0, 2, 2, _]), "an alert"),
        Some(_) => {}
    }
    // Its ticket works once.
    let Some(mut copy) = receive(&*server, policy, &flight, piece, &kept) else { panic!("the ClientHello is whole") };
    assert_eq!(read(&mut copy), 0, "a copy was delivered");
}
