//! Numbers of records in sessions that are resumed with early data, and tickets on either side.

use std::sync::Arc;

use openssl::ssl::{SslOptions, SslSessionCacheMode};

use super::*;
use crate::crypto::EarlyData;

/// A client and a server that share tickets, with what the client has remembered.
struct Ends {
    client: OpensslClient,
    server: OpensslServer,
    tickets: Arc<OpensslTickets>,
}

impl Ends {
    /// The client has as many tickets.
    fn with_tickets(count: usize) -> Self {
        let mut acceptor = acceptor();
        acceptor.set_num_tickets(count).unwrap();
        let server = OpensslServer::new(acceptor, &[b"h3"]).unwrap().with_early_data().unwrap();
        let tickets = Arc::new(OpensslTickets::default());
        let client = OpensslClient::new(connector(), &[b"h3"]).unwrap().with_early_data(tickets.clone());
        let ends = Self { client, server, tickets };
        let mut begun = ends.begin(b"terms");
        let Answered { mut server, mut client, flight, .. } = begun.answer(&[], 0);
        feed(&mut *server, &flight);
        client.schedule.remember(b"state");
        deliver_tickets(&mut client, 0, &records(&written(&mut *server)));
        assert_eq!(ends.tickets.export().len(), count);
        ends
    }

    fn begin(&self, terms: &[u8]) -> Begun {
        let mut server = self.server.handshake().unwrap();
        server.set_early_terms(terms);
        Begun { client: Some(self.client.handshake(NAME).unwrap()), server: Some(server) }
    }
}

struct Begun {
    client: Option<Box<dyn Handshake>>,
    server: Option<Box<dyn Handshake>>,
}

impl Begun {
    /// Runs the handshake up to the client's last flight; the client sends `early` records of early data.
    fn answer(&mut self, half_rtt: &[&[u8]], early: usize) -> Answered {
        answered_by(self.client.take().unwrap(), self.server.take().unwrap(), half_rtt, early)
    }
}

/// Opens the server's records and gives the tickets in them to the client.
fn deliver_tickets(client: &mut Agreed, first: u64, application: &[Vec<u8>]) {
    for (number, record) in application.iter().enumerate() {
        let (content_type, content) = open(&client.open.1, first + number as u64, record).unwrap();
        if content_type == 22 {
            client.schedule.handle_new_session_ticket(&content[4..]).unwrap();
        }
    }
}

fn taken(server: &mut dyn Handshake) -> Vec<Vec<u8>> {
    core::iter::from_fn(|| server.read_early()).collect()
}

#[test]
fn no_number_is_used_twice_after_early_data_whatever_the_server_writes() {
    for half_rtt in [&[][..], &[&b"first"[..]], &[b"first", b"second"]] {
        for early in 0..3 {
            for is_spoilt in [false, true] {
                let ends = Ends::with_tickets(2);
                let Answered { mut server, client, flight, mut application } =
                    ends.begin(b"terms").answer(half_rtt, early);
                assert_eq!(taken(&mut *server), vec![b"early data".to_vec(); early]);
                let mut flight = records(&flight);
                if is_spoilt {
                    *flight.last_mut().unwrap().last_mut().unwrap() ^= 1;
                }
                let failed = flight.iter_mut().filter_map(|record| server.handle_record(record).err()).count();
                assert_eq!((failed, server.is_complete()), (usize::from(is_spoilt), !is_spoilt));
                application.extend(records(&written(&mut *server)));
                let opened = numbered(&client.open.1, &application);
                let types: Vec<u8> = opened.iter().map(|(content_type, _)| *content_type).collect();
                let last = if is_spoilt { 21 } else { 22 };
                assert_eq!(types, [vec![23; half_rtt.len()], vec![last]].concat(), "one ticket, or an alert");
                if !is_spoilt {
                    assert_eq!(server.finish().unwrap().seal.0, application.len() as u64);
                }
            }
        }
    }
}

#[test]
fn client_seals_nothing_with_application_keys_before_the_session_does() {
    for early in 0..3 {
        let ends = Ends::with_tickets(1);
        let Answered { mut server, mut client, flight, .. } = ends.begin(b"terms").answer(&[], early);
        feed(&mut *server, &flight);
        let tickets = records(&written(&mut *server));
        client.schedule.remember(b"state");
        deliver_tickets(&mut client, 0, &tickets);
        let server = server.finish().unwrap();
        assert_eq!((client.seal.0, server.open.0), (0, 0));
        for record in records(&flight).iter().filter(|record| record[0] == 23) {
            assert!((0..8).all(|number| open(&server.open.1, number, record).is_none()));
        }
        assert_eq!(client.early_data, if early > 0 { EarlyData::Accepted } else { client.early_data });
    }
}

#[test]
fn tickets_of_sessions_without_tcpls_are_dropped() {
    let ends = Ends::with_tickets(1);
    assert!(ends.tickets.take(NAME).is_some());
    let Answered { mut server, mut client, flight, .. } = ends.begin(b"terms").answer(&[], 0);
    feed(&mut *server, &flight);
    deliver_tickets(&mut client, 0, &records(&written(&mut *server)));
    assert_eq!(ends.tickets.export(), [], "nothing was remembered");
}

#[test]
fn tickets_of_a_resumed_session_work_no_longer_than_the_one_that_it_began_with() {
    let ends = Ends::with_tickets(1);
    let mut stored = ends.tickets.export();
    let limit = stored[0].expiry - 10;
    stored[0].expiry = limit;
    ends.tickets.import(stored); // the newest is taken first
    let Answered { mut server, mut client, flight, .. } = ends.begin(b"terms").answer(&[], 0);
    feed(&mut *server, &flight);
    client.schedule.remember(b"state");
    deliver_tickets(&mut client, 0, &records(&written(&mut *server)));
    assert_eq!(ends.tickets.export().last().unwrap().expiry, limit);
}

#[test]
fn a_ticket_that_only_openssl_refuses_is_a_violation() {
    let ends = Ends::with_tickets(1);
    let Answered { mut client, .. } = ends.begin(b"terms").answer(&[], 0);
    client.schedule.remember(b"state");
    // early_data with a content of 1 byte instead of 4.
    let malformed = [&TICKET[..14], &[0, 5, 0, 42, 0, 1, 1]].concat();
    let error = client.schedule.handle_new_session_ticket(&malformed).unwrap_err();
    assert_eq!(error.kind(), Kind::Violation, "{error}");
    assert_eq!(ends.tickets.export(), []);
}

#[test]
fn early_data_under_other_terms_is_rejected_and_the_session_resumed() {
    let ends = Ends::with_tickets(2);
    let Answered { mut server, client, flight, .. } = ends.begin(b"other").answer(&[b"first"], 2);
    assert_eq!(taken(&mut *server), [] as [Vec<u8>; 0]);
    assert!(feed(&mut *server, &flight).is_empty() && server.is_resumed());
    written(&mut *server);
    assert_eq!((client.early_data, server.finish().unwrap().early_data), (EarlyData::Rejected, EarlyData::Rejected));
    let Answered { mut server, .. } = ends.begin(b"terms").answer(&[], 1);
    assert_eq!(taken(&mut *server).len(), 1, "those of now");
}

#[test]
fn early_data_ends_at_14_kib_and_with_the_servers_flight() {
    let ends = Ends::with_tickets(2);
    let mut client = ends.client.handshake(NAME).unwrap();
    let mut hello = written(&mut *client);
    assert_eq!(client.early_state(), Some(&b"state"[..]));
    assert!(!client.write_early(b"", &mut hello));
    assert!(client.write_early(&[1; 8 << 10], &mut hello) && client.write_early(&[2; 6 << 10], &mut hello));
    assert!(!client.write_early(b"x", &mut hello));
    assert_eq!(records(&hello).iter().filter(|record| record[0] == 23).count(), 2);

    let Begun { client, server } = ends.begin(b"terms");
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    feed(&mut *server, &written(&mut *client));
    feed(&mut *client, &written(&mut *server));
    assert!(!client.write_early(b"late", &mut Vec::new()));
}

#[test]
fn servers_without_a_cache_or_protection_against_copies_cannot_opt_in() {
    let server = |change: fn(&mut SslAcceptorBuilder)| {
        let mut acceptor = acceptor();
        change(&mut acceptor);
        OpensslServer::new(acceptor, &[]).unwrap().with_early_data()
    };
    assert!(server(|_| {}).is_ok());
    for change in [
        |acceptor: &mut SslAcceptorBuilder| _ = acceptor.set_session_cache_mode(SslSessionCacheMode::OFF),
        |acceptor: &mut SslAcceptorBuilder| {
            let mode = SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL_STORE;
            acceptor.set_session_cache_mode(mode);
        },
        |acceptor: &mut SslAcceptorBuilder| _ = acceptor.set_options(SslOptions::from_bits_retain(1 << 24)),
    ] {
        assert_eq!(server(change).unwrap_err().kind(), Kind::Configuration);
    }
}
