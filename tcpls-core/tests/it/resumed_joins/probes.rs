//! Active probes: what a server answers to captured joins, compared with captured resumptions of sessions.

use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::wire::ids::ConnectionId;
use tcpls_core::wire::record::ContentType;

use super::{Elsewhere, FIRST, first_flight, records, resuming};
use crate::support::{Client, Pair, Server, Setup, Tls, tls};

/// A client and a server with tickets of a session before.
struct Ends {
    client: RustlsClient,
    server: RustlsServer,
    early_data: bool,
}

impl Ends {
    fn new(early_data: bool) -> Self {
        let tls = Tls { early_client: early_data, early_server: early_data, ..resuming() };
        let ends = Self { client: tls.client(1), server: tls.server(2), early_data };
        ends.session().drive();
        ends
    }

    fn session(&self) -> Pair {
        Pair::new(Setup::default(), tls::start_client(&self.client), self.server.handshake().unwrap())
    }

    /// The first flight of a session that resumes; the server gets it.
    fn resumption(&self) -> (Pair, Vec<u8>) {
        let mut pair = self.session();
        if self.early_data {
            let stream = pair.open_stream(Client);
            pair.write(Client, stream, b"a request");
        }
        let flight = first_flight(&mut pair, FIRST);
        (pair, flight)
    }

    /// The first flight of a join.
    fn join(&self) -> (Pair, ConnectionId, Vec<u8>) {
        let mut pair = self.session();
        pair.drive();
        let tcp = if self.early_data { pair.open_tcp() } else { pair.open_tcp_slowly() };
        let flight = first_flight(&mut pair, tcp);
        (pair, tcp, flight)
    }

    fn tls(&self) -> Box<dyn Handshake> {
        self.server.handshake().unwrap()
    }
}

/// The records with which the server's process answers bytes that begin a session there.
fn answer(pair: &mut Pair, ends: &Ends, flight: &[u8]) -> Vec<(ContentType, usize)> {
    records(&Elsewhere::with(pair, flight, ends.tls(), 90).exchange(pair, &[]))
}

#[test]
fn replayed_join_gets_the_records_that_a_replayed_resumption_gets() {
    for early_data in [false, true] {
        let ends = Ends::new(early_data);
        let (mut resumed, flight) = ends.resumption();
        resumed.drive();
        let to_resumption = answer(&mut resumed, &ends, &flight);

        let (mut pair, tcp, flight) = ends.join();
        pair.drive();
        assert_eq!(pair.live(Server), [FIRST, tcp], "the token is used");
        let to_join = answer(&mut pair, &ends, &flight);
        assert_eq!(to_join, to_resumption);
        assert!(to_join.len() > 3 && to_join.iter().map(|(_, len)| len).sum::<usize>() > 600, "{to_join:?}: in full");
        // Again, and cut short: it waits.
        assert_eq!(answer(&mut pair, &ends, &flight), to_resumption);
        assert!(answer_to_part(&mut pair, &flight[..100]).is_empty());
    }
}

/// What the endpoint answers to the beginning of a hello.
fn answer_to_part(pair: &mut Pair, part: &[u8]) -> Vec<u8> {
    let stranger = pair.connect_stranger();
    pair.stranger_sends(stranger, part);
    pair.drive();
    let (answer, is_closed) = pair.stranger_has(stranger);
    assert!(!is_closed);
    answer
}

#[test]
fn join_with_a_wrong_binder_gets_the_answer_that_a_resumption_with_one_gets() {
    for early_data in [false, true] {
        let ends = Ends::new(early_data);
        let (mut resumed, mut flight) = ends.resumption();
        flight[20] ^= 1;
        let mut server = Elsewhere::with(&resumed, &flight, ends.tls(), 90);
        let to_resumption = server.exchange(&mut resumed, &[]);

        let (mut pair, tcp, mut flight) = ends.join();
        flight[20] ^= 1;
        pair.stall(tcp);
        let stranger = pair.connect_stranger();
        pair.stranger_sends(stranger, &flight);
        pair.drive();
        assert_eq!(pair.stranger_has(stranger), (to_resumption, true));
    }
}
