//! Servers that share a store of sessions: each ticket works once among all of them, whatever the store answers.

use core::sync::atomic::AtomicBool;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use openssl::ssl::SslVerifyMode;

use super::verify::{Certificate, KNOWN};
use super::*;
use crate::crypto::EarlyData;

/// A store in memory that counts what it is asked, and can be made to know nothing.
#[derive(Default)]
struct Store {
    sessions: Mutex<BTreeMap<[u8; 32], Vec<u8>>>,
    takes: AtomicUsize,
    is_behind: AtomicBool,
}

impl Store {
    fn sessions(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Vec<u8>>> {
        self.sessions.lock().unwrap()
    }

    fn takes(&self) -> usize {
        self.takes.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl Fn(&mut Vec<u8>)) {
        self.sessions().values_mut().for_each(change);
    }
}

impl SharedSessions for Store {
    fn put(&self, ticket: &[u8; 32], session: Vec<u8>) {
        self.sessions().insert(*ticket, session);
    }

    fn take(&self, ticket: &[u8; 32]) -> Option<Vec<u8>> {
        self.takes.fetch_add(1, Ordering::Relaxed);
        if self.is_behind.load(Ordering::Relaxed) { None } else { self.sessions().remove(ticket) }
    }
}

/// A client with one ticket, and servers that share what they know.
struct Farm {
    store: Arc<Store>,
    /// The server that has issued the ticket.
    issuer: Option<OpensslServer>,
    client: OpensslClient,
    tickets: Arc<OpensslTickets>,
}

impl Farm {
    fn with_ticket() -> Self {
        let tickets = Arc::new(OpensslTickets::default());
        let client = OpensslClient::new(connector(), &[b"h3"]).unwrap().with_early_data(tickets.clone());
        let mut farm = Self { store: Arc::default(), issuer: None, client, tickets };
        let issuer = farm.configured(|_| {}).with_early_data().unwrap();
        let mut first = start(&issuer, b"terms");
        farm.issuer = Some(issuer);
        let Answered { mut client, flight, .. } = answered_with(farm.client(), &mut *first, 0);
        feed(&mut *first, &flight);
        client.schedule.remember(b"state");
        for (number, record) in records(&written(&mut *first)).iter().enumerate() {
            let (_, ticket) = open(&client.open.1, number as u64, record).unwrap();
            client.schedule.handle_new_session_ticket(&ticket[4..]).unwrap();
        }
        assert_eq!((farm.tickets.export().len(), farm.store.sessions().len(), farm.store.takes()), (1, 1, 0));
        farm
    }

    fn client(&self) -> Box<dyn Handshake> {
        self.client.handshake(NAME).unwrap()
    }

    fn configured(&self, change: impl Fn(&mut SslAcceptorBuilder)) -> OpensslServer {
        let mut acceptor = acceptor();
        acceptor.set_num_tickets(1).unwrap();
        change(&mut acceptor);
        OpensslServer::with_shared_sessions(acceptor, &[b"h3"], self.store.clone()).unwrap()
    }

    /// Another server, which has nothing but the store in common with those before.
    fn server(&self, terms: &[u8]) -> Box<dyn Handshake> {
        start(&self.configured(|_| {}).with_early_data().unwrap(), terms)
    }

    /// What is left of early data with the ticket at a new server: what it has read, how it was answered, and whether the session
    /// was resumed. The handshake is complete in any case.
    fn resume(&self, terms: &[u8]) -> (usize, EarlyData, bool) {
        resume(self.client(), self.server(terms))
    }
}

fn start(server: &OpensslServer, terms: &[u8]) -> Box<dyn Handshake> {
    let mut server = server.handshake().unwrap();
    server.set_early_terms(terms);
    server
}

/// A handshake up to the client's last flight.
struct Answered {
    client: Agreed,
    flight: Vec<u8>,
}

fn answered_with(mut client: Box<dyn Handshake>, server: &mut dyn Handshake, early: usize) -> Answered {
    let mut hello = written(&mut *client);
    for _ in 0..early {
        assert!(client.write_early(b"early data", &mut hello));
    }
    feed(server, &hello);
    let flight = written(server);
    feed(&mut *client, &flight);
    let flight = written(&mut *client);
    Answered { client: client.finish().unwrap(), flight }
}

fn taken(server: &mut dyn Handshake) -> usize {
    core::iter::from_fn(|| server.read_early()).count()
}

fn resume(client: Box<dyn Handshake>, mut server: Box<dyn Handshake>) -> (usize, EarlyData, bool) {
    let Answered { client, flight } = answered_with(client, &mut *server, 2);
    let taken = taken(&mut *server);
    feed(&mut *server, &flight);
    assert!(server.is_complete());
    let is_resumed = server.is_resumed();
    written(&mut *server);
    let agreed = server.finish().unwrap();
    assert_eq!(client.early_data, agreed.early_data);
    (taken, agreed.early_data, is_resumed)
}

const ACCEPTED: (usize, EarlyData, bool) = (2, EarlyData::Accepted, true);
const FULL_HANDSHAKE: (usize, EarlyData, bool) = (0, EarlyData::Rejected, false);

#[test]
fn early_data_with_the_ticket_of_one_server_is_accepted_by_another_and_once() {
    let farm = Farm::with_ticket();
    let mut client = farm.client();
    let mut flight = written(&mut *client);
    assert!(client.write_early(b"early data", &mut flight));
    let [accepting, other] = [(); 2].map(|()| farm.configured(|_| {}).with_early_data().unwrap());
    let mut second = start(&accepting, b"terms");
    feed(&mut *second, &flight);
    assert_eq!(taken(&mut *second), 1);
    // Copies at the same server and at others, before and after the handshake is complete.
    for server in [&accepting, &other, &farm.configured(|_| {}), farm.issuer.as_ref().unwrap()] {
        let mut copy = start(server, b"terms");
        feed(&mut *copy, &flight);
        assert_eq!((taken(&mut *copy), copy.is_resumed(), copy.tcpls()), (0, false, Some(true)));
        assert!(!written(&mut *copy).is_empty(), "the handshake goes on");
    }
    feed(&mut *client, &written(&mut *second));
    feed(&mut *second, &written(&mut *client));
    assert!(second.is_complete() && second.is_resumed());
    for server in [&accepting, &other] {
        let mut copy = start(server, b"terms");
        feed(&mut *copy, &flight);
        assert_eq!(taken(&mut *copy), 0);
    }
    assert_eq!(farm.store.takes(), 7, "one question for each hello");
}

#[test]
fn of_two_servers_that_get_a_first_flight_at_the_same_time_one_accepts_it() {
    for _ in 0..8 {
        let farm = Farm::with_ticket();
        let mut client = farm.client();
        let mut flight = written(&mut *client);
        assert!(client.write_early(b"early data", &mut flight));
        let barrier = std::sync::Barrier::new(2);
        let accepted: usize = std::thread::scope(|scope| {
            let race = || {
                let server = farm.configured(|_| {}).with_early_data().unwrap();
                barrier.wait();
                let mut server = start(&server, b"terms");
                feed(&mut *server, &flight);
                taken(&mut *server)
            };
            [scope.spawn(race), scope.spawn(race)].into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(accepted, 1);
    }
}

#[test]
fn a_store_without_or_with_a_late_answer_costs_early_data_and_not_the_handshake() {
    let farm = Farm::with_ticket();
    let stored = farm.tickets.export();
    farm.store.is_behind.store(true, Ordering::Relaxed);
    assert_eq!(farm.resume(b"terms"), FULL_HANDSHAKE);
    // It has the session now, which no client asks for but one with the same ticket.
    farm.store.is_behind.store(false, Ordering::Relaxed);
    farm.tickets.import(stored.clone());
    assert_eq!(farm.resume(b"terms"), ACCEPTED);
    farm.tickets.import(stored);
    assert_eq!(farm.resume(b"terms"), FULL_HANDSHAKE);
    let farm = Farm::with_ticket();
    farm.store.sessions().clear();
    assert_eq!(farm.resume(b"terms"), FULL_HANDSHAKE);
}

#[test]
fn sessions_under_other_terms_are_resumed_without_early_data() {
    let farm = Farm::with_ticket();
    assert_eq!(farm.resume(b"other"), (0, EarlyData::Rejected, true));
    let farm = Farm::with_ticket();
    let server = farm.configured(|_| {});
    assert_eq!(resume(farm.client(), start(&server, b"terms")), (0, EarlyData::Rejected, true), "not opted in");
}

#[test]
fn a_store_that_returns_anything_else_leads_to_a_full_handshake() {
    let changes: [fn(&mut Vec<u8>); 7] = [
        |value| value.clear(),
        |value| value.truncate(1),
        |value| value.truncate(value.len() - 1),
        |value| value[0] = 0xff,
        |value| value[0] &= 0x7f,
        |value| value.extend([0; 17 << 10]),
        |value| *value = [&[0x80][..], &[0x30; 100]].concat(),
    ];
    for change in changes {
        let farm = Farm::with_ticket();
        farm.store.change(change);
        assert_eq!(farm.resume(b"terms"), FULL_HANDSHAKE);
    }
    // The session of another ticket has another key.
    let farm = Farm::with_ticket();
    let other = Farm::with_ticket().store.sessions().values().next().unwrap().clone();
    farm.store.change(|value| value.clone_from(&other));
    let mut server = farm.server(b"terms");
    let outcome: Result<Vec<()>, _> =
        records(&written(&mut *farm.client())).iter_mut().map(|record| server.handle_record(record)).collect();
    assert_eq!(outcome.unwrap_err().kind(), Kind::Violation, "its binder does not fit");
}

#[test]
fn the_store_is_asked_once_although_a_hello_retry_request_brings_a_second_hello() {
    let farm = Farm::with_ticket();
    let mut connector = connector();
    connector.set_groups_list("P-256:X25519").unwrap();
    let client = OpensslClient::new(connector, &[b"h3"]).unwrap().with_early_data(farm.tickets.clone());
    let server = farm.configured(|acceptor| acceptor.set_groups_list("X25519").unwrap()).with_early_data().unwrap();
    let (mut client, mut server) = (client.handshake(NAME).unwrap(), start(&server, b"terms"));
    let mut hello = written(&mut *client);
    assert!(client.write_early(b"early data", &mut hello));
    feed(&mut *server, &hello);
    for _ in 0..2 {
        feed(&mut *client, &written(&mut *server));
        feed(&mut *server, &written(&mut *client));
    }
    assert!(server.is_complete() && server.is_resumed());
    assert_eq!((taken(&mut *server), farm.store.takes()), (0, 1));
}

#[test]
fn a_resumed_client_is_the_one_whose_certificate_the_other_server_has_verified() {
    let mut farm = Farm::with_ticket();
    let trusting = |acceptor: &mut SslAcceptorBuilder| {
        let certificate = X509::from_der(CERTIFICATE).unwrap();
        trust_by_key(acceptor, &[certificate], SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT).unwrap();
    };
    let mut connector = connector();
    connector.set_certificate(&X509::from_der(CERTIFICATE).unwrap()).unwrap();
    connector.set_private_key(&PKey::private_key_from_raw_bytes(&[1; 32], Id::ED25519).unwrap()).unwrap();
    farm.tickets = Arc::new(OpensslTickets::default());
    let client = OpensslClient::new(connector, &[b"h3"]).unwrap();
    farm.client = client.with_resumption(farm.tickets.clone());
    for is_resumed in [false, true] {
        let mut server = start(&farm.configured(trusting), b"terms");
        let Answered { mut client, flight } = answered_with(farm.client(), &mut *server, 0);
        feed(&mut *server, &flight);
        assert_eq!(server.is_resumed(), is_resumed);
        client.schedule.remember(b"state");
        for (number, record) in records(&written(&mut *server)).iter().enumerate() {
            let (_, ticket) = open(&client.open.1, number as u64, record).unwrap();
            client.schedule.handle_new_session_ticket(&ticket[4..]).unwrap();
        }
        assert_eq!(server.finish().unwrap().peer_certificates, [CERTIFICATE]);
    }
}

#[test]
fn a_session_with_a_long_certificate_is_not_stored() {
    for (others, stored) in [(1, 2), (600, 1)] {
        let mut farm = Farm::with_ticket();
        let mut connector = connector();
        Certificate { others, ..KNOWN }.present(&mut connector);
        farm.client = OpensslClient::new(connector, &[b"h3"]).unwrap();
        let trusting = |acceptor: &mut SslAcceptorBuilder| {
            acceptor.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, _| true);
        };
        let mut server = start(&farm.configured(trusting), b"terms");
        let Answered { flight, .. } = answered_with(farm.client(), &mut *server, 0);
        feed(&mut *server, &flight);
        assert!(server.is_complete());
        assert_eq!(farm.store.sessions().len(), stored, "a certificate with {others} more names");
    }
}

#[test]
fn tickets_have_numbers_behind_half_rtt_data_in_shared_sessions_as_well() {
    let farm = Farm::with_ticket();
    let super::Answered { mut server, client, flight, mut application } =
        answered_by(farm.client(), farm.server(b"terms"), &[b"first", b"second"], 1);
    feed(&mut *server, &flight);
    application.extend(records(&written(&mut *server)));
    let opened = numbered(&client.open.1, &application);
    let types: Vec<u8> = opened.iter().map(|(content_type, _)| *content_type).collect();
    assert_eq!((types, farm.store.sessions().len()), (vec![23, 23, 22], 1));
}
