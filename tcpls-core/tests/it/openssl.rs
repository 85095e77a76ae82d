//! The provider for OpenSSL: sessions between it and the provider for rustls, either way round, and between two of its own. What
//! every provider has to do is in `support::provider`; `crypto/openssl/tests.rs` has the numbers of records.

use std::sync::Arc;

use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use tcpls_core::HandshakeErrorKind as Kind;
use tcpls_core::connection::State;
use tcpls_core::crypto::openssl::{OpensslTickets, SharedSessions, StoredTicket};
use tcpls_core::crypto::{Handshake, TlsClient, TlsServer};
use tcpls_core::error::CloseReason;
use tcpls_core::testing::openssl;
use tcpls_core::wire::ids::ConnectionId;

use crate::support::provider::{self, SERVER_CERTIFICATE, assert_failed, established};
use crate::support::tls::{ClientCertificate, SERVER_NAME, SUITES, client_certificate, start_client};
use crate::support::{Client, Pair, Server, Setup, Side, Tls};

const FIRST: ConnectionId = ConnectionId::FIRST;

fn openssl_end(tls: &Tls, side: Side) -> Box<dyn Handshake> {
    match side {
        Client => openssl::start_client(&tls.openssl_client()),
        Server => tls.openssl_server().handshake().unwrap(),
    }
}

fn rustls_end(tls: &Tls, side: Side) -> Box<dyn Handshake> {
    match side {
        Client => start_client(&tls.client(1)),
        Server => tls.server(1).handshake().unwrap(),
    }
}

/// Each way of having OpenSSL at one end or both.
fn pairs(tls: &Tls) -> [Pair; 3] {
    [
        (openssl_end(tls, Client), rustls_end(tls, Server)),
        (rustls_end(tls, Client), openssl_end(tls, Server)),
        (openssl_end(tls, Client), openssl_end(tls, Server)),
    ]
    .map(|(client, server)| Pair::new(Setup::default(), client, server))
}

#[test]
fn openssl_carries_sessions_with_every_suite_over_joins_and_key_updates() {
    provider::carries_sessions_with_every_suite_over_joins_and_key_updates(pairs);
}

#[test]
fn openssl_sends_the_first_tokens_as_half_rtt_data() {
    provider::sends_the_first_tokens_as_half_rtt_data(pairs);
}

#[test]
fn openssl_sends_no_half_rtt_data_to_clients_without_a_certificate() {
    provider::sends_no_half_rtt_data_to_clients_without_a_certificate(pairs);
    let untrusted = Some(ClientCertificate::Untrusted);
    for mut pair in pairs(&Tls { client_auth: true, client_certificate: untrusted, ..Tls::default() }) {
        pair.drive();
        assert_failed(&mut pair, Server, &[Kind::UnknownIssuer, Kind::BadCertificate]);
    }
}

#[test]
fn tickets_of_openssl_count_in_its_record_numbers() {
    provider::counts_its_tickets_as_records(pairs);
}

#[test]
fn client_resumes_with_a_ticket_that_openssl_made() {
    for certificate in [None, Some(ClientCertificate::Trusted)] {
        let tls = Tls { client_auth: certificate.is_some(), client_certificate: certificate, ..Tls::default() };
        let (client, server) = (tls.client(1), tls.openssl_server());
        let flight = || {
            let mut pair = established(Pair::new(Setup::default(), start_client(&client), server.handshake().unwrap()));
            pair.transfer(Server, b"behind the tickets");
            assert_eq!(pair.client().peer_certificates(), [SERVER_CERTIFICATE]);
            assert_eq!(
                pair.server().peer_certificates().first().map(Vec::as_slice),
                certificate.map(|_| client_certificate()).as_deref()
            );
            pair.wire()[0].1.len()
        };
        let (full, resumed) = (flight(), flight());
        assert!(resumed + SERVER_CERTIFICATE.len() < full, "the certificate is sent again: {resumed} of {full} bytes");
    }
}

/// Each way of having OpenSSL at one end or both, with early data: what makes the handshakes.
fn ends_with_early_data(tls: &Tls) -> [(Arc<dyn TlsClient>, Arc<dyn TlsServer>); 3] {
    let client = || -> Arc<dyn TlsClient> { Arc::new(tls.openssl_client().with_early_data(Arc::default())) };
    let server = || -> Arc<dyn TlsServer> { Arc::new(tls.openssl_server()) };
    [(client(), Arc::new(tls.server(1))), (Arc::new(tls.client(1)), server()), (client(), server())]
}

fn pair_of((client, server): &(Arc<dyn TlsClient>, Arc<dyn TlsServer>)) -> Pair {
    Pair::new(Setup::default(), client.handshake(SERVER_NAME).unwrap(), server.handshake().unwrap())
}

#[test]
fn client_with_openssl_resumes_sessions_of_either_library() {
    for certificate in [None, Some(ClientCertificate::Trusted)] {
        let tls = Tls {
            client_auth: certificate.is_some(),
            client_certificate: certificate,
            server_chain: 3,
            ..Tls::default()
        };
        let servers: [Arc<dyn TlsServer>; 2] = [Arc::new(tls.server(1)), Arc::new(tls.openssl_server())];
        for server in servers {
            let client: Arc<dyn TlsClient> = Arc::new(tls.openssl_client().with_resumption(Arc::default()));
            let ends = (client, server);
            let flight = || {
                let mut pair = established(pair_of(&ends));
                assert_eq!(pair.client().early_data(), 0);
                pair.transfer(Server, b"behind the tickets");
                assert_eq!(pair.client().peer_certificates(), [SERVER_CERTIFICATE; 3], "also of a resumed session");
                let known = pair.server().peer_certificates().first().map(Vec::as_slice);
                assert_eq!(known, certificate.map(|_| client_certificate()).as_deref());
                pair.join();
                pair.transfer(Client, b"over two");
                pair.wire()[0].1.len()
            };
            let (full, resumed) = (flight(), flight());
            assert!(resumed + SERVER_CERTIFICATE.len() < full, "no certificate: {resumed} of {full} bytes");
        }
    }
}

#[test]
fn request_arrives_with_the_client_hello_whichever_end_has_openssl() {
    for suite in SUITES {
        let tls = Tls { suites: vec![suite], early_client: true, early_server: true, ..Tls::default() };
        for ends in ends_with_early_data(&tls) {
            let mut pair = established(pair_of(&ends));
            pair.transfer(Server, b"behind the tickets");
            let mut pair = pair_of(&ends);
            let id = pair.open_stream(Client);
            pair.write(Client, id, b"question");
            pair.step(Client);
            pair.deliver_all();
            assert!(pair.server().stream(id).is_early() && !pair.server().is_confirmed());
            assert_eq!(pair.read_all(Server, id), b"question");
            pair.write(Server, id, b"answer");
            while pair.step(Server) {}
            pair.deliver_all();
            assert_eq!(pair.read_all(Client, id), b"answer");
            pair.drive();
            assert!(pair.server().is_confirmed());
            pair.join();
            [Client, Server].into_iter().for_each(|side| pair.update_keys(side));
            pair.transfer(Server, b"over two");
        }
    }
}

#[test]
fn copy_of_a_first_flight_delivers_nothing_at_a_server_with_openssl() {
    let tls = Tls { early_client: true, early_server: true, ..Tls::default() };
    let [_, _, ends] = ends_with_early_data(&tls);
    established(pair_of(&ends)).transfer(Server, b"behind the tickets");
    let mut pair = pair_of(&ends);
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"pay");
    pair.step(Client);
    let flight: Vec<u8> = pair.flow(FIRST, Server).in_flight.iter().copied().collect();
    pair.deliver_all();
    assert_eq!(pair.read_all(Server, id), b"pay");
    for _ in 0..3 {
        let mut copy = pair_of(&ends);
        copy.step(Client);
        let flow = copy.flow(FIRST, Server);
        flow.in_flight = flight.iter().copied().collect();
        copy.deliver_all();
        assert_eq!((copy.server().state(), copy.server().accept_stream()), (State::Handshaking, None));
    }
}

#[test]
fn replayed_first_flight_delivers_nothing_twice_at_servers_that_share_a_store() {
    let tls = Tls { early_client: true, early_server: true, ..Tls::default() };
    // The store of rustls, whose interface OpenSSL's servers take.
    let sessions: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(64);
    let store: Arc<dyn SharedSessions> = Arc::new(sessions);
    let client: Arc<dyn TlsClient> = Arc::new(tls.openssl_client().with_early_data(Arc::default()));
    let ends = || (client.clone(), Arc::new(tls.openssl_server_sharing(store.clone())) as Arc<dyn TlsServer>);
    established(pair_of(&ends())).transfer(Server, b"behind the tickets");
    let mut pair = pair_of(&ends());
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"pay");
    pair.step(Client);
    let flight: Vec<u8> = pair.flow(FIRST, Server).in_flight.iter().copied().collect();
    pair.deliver_all();
    assert!(pair.server().stream(id).is_early());
    assert_eq!(pair.read_all(Server, id), b"pay");
    for _ in 0..2 {
        let mut copy = pair_of(&ends());
        copy.step(Client);
        copy.flow(FIRST, Server).in_flight = flight.iter().copied().collect();
        copy.deliver_all();
        assert_eq!((copy.server().state(), copy.server().accept_stream()), (State::Handshaking, None));
    }
    pair.drive();
    assert!(pair.server().is_confirmed());
    pair.transfer(Server, b"in the session itself");
    // A copy that overtakes the original: the client's own session delivers the request once, and not as early data.
    let mut pair = pair_of(&ends());
    let id = pair.open_stream(Client);
    pair.write(Client, id, b"pay");
    pair.step(Client);
    let flight: Vec<u8> = pair.flow(FIRST, Server).in_flight.iter().copied().collect();
    let mut copy = pair_of(&ends());
    copy.step(Client);
    copy.flow(FIRST, Server).in_flight = flight.iter().copied().collect();
    copy.deliver_all();
    assert!(copy.server().stream(id).is_early() && !copy.server().is_confirmed());
    pair.drive();
    assert_eq!(pair.read_all(Server, id), b"pay");
    assert!(!pair.server().stream(id).is_early());
}

#[test]
fn tickets_of_openssl_serve_another_process_once_they_are_stored() {
    let tls = Tls { early_client: true, early_server: true, ..Tls::default() };
    for server in [Arc::new(tls.server(1)) as Arc<dyn TlsServer>, Arc::new(tls.openssl_server())] {
        let tickets = Arc::new(OpensslTickets::default());
        let client = |tickets: &Arc<OpensslTickets>| tls.openssl_client().with_early_data(tickets.clone());
        let ends = (Arc::new(client(&tickets)) as Arc<dyn TlsClient>, server.clone());
        established(pair_of(&ends)).transfer(Server, b"behind the tickets");
        let stored = tickets.export();
        assert_eq!(stored.len(), 2);
        let other = Arc::new(OpensslTickets::default());
        other.import(stored);
        let mut pair = pair_of(&(Arc::new(client(&other)), server));
        assert!(pair.client().early_data() > 14_000);
        let id = pair.open_stream(Client);
        pair.write(Client, id, b"question");
        pair.step(Client);
        pair.deliver_all();
        assert!(pair.server().stream(id).is_early());
        pair.drive();
        assert_eq!(pair.client().peer_certificates(), [SERVER_CERTIFICATE]);
    }
}

#[test]
fn a_stored_ticket_that_is_damaged_leads_to_a_full_handshake() {
    let tls = Tls { early_client: true, early_server: true, ..Tls::default() };
    let (tickets, server) = (Arc::new(OpensslTickets::default()), Arc::new(tls.openssl_server()));
    let client = |tickets: Arc<OpensslTickets>| -> Arc<dyn TlsClient> {
        Arc::new(tls.openssl_client().with_early_data(tickets)) //
    };
    established(pair_of(&(client(tickets.clone()), server.clone()))).transfer(Server, b"behind the tickets");
    let [stored, ..] = &tickets.export()[..] else { panic!("no ticket") };
    for len in [0, 1, stored.session.len() / 2, stored.session.len() - 1] {
        let damaged = Arc::new(OpensslTickets::default());
        let session = stored.session[..len].to_vec();
        damaged.import([StoredTicket { session, ..stored.clone() }]);
        let mut pair = pair_of(&(client(damaged), server.clone()));
        assert_eq!(pair.client().early_data(), 0);
        pair.drive();
        pair.transfer(Client, b"all the same");
    }
}

#[test]
fn handshakes_of_openssl_fail_with_an_alert_that_reaches_the_peer() {
    provider::fails_with_an_alert_that_reaches_the_peer(pairs);
}

#[test]
fn openssl_falls_back_to_plain_tls() {
    let protocols = vec![&b"h2"[..]];
    let tls = Tls { client_protocols: protocols.clone(), server_protocols: protocols, ..Tls::default() };
    let client = tls.openssl_client().without_tcpls().unwrap();
    for server in [rustls_end(&tls, Server), openssl_end(&tls, Server)] {
        let mut pair = Pair::new(Setup::default(), openssl::start_client(&client), server);
        pair.drive();
        assert_eq!([pair.client().state(), pair.server().state()], [State::Plain; 2]);
        pair.transfer(Client, b"plain");
    }
}

#[test]
fn client_of_openssl_for_tcpls_alone_refuses_a_server_without_it() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
    let mut pair = Pair::new(
        Setup::default(),
        openssl::start_client(&tls.openssl_client().tcpls_only()),
        openssl_end(&Tls { server_protocols: vec![b"other"], ..tls.clone() }, Server),
    );
    pair.drive();
    assert_failed(&mut pair, Server, &[Kind::NoApplicationProtocol]);
    let mut pair = Pair::new(
        Setup::default(),
        openssl::start_client(&tls.openssl_client().tcpls_only()),
        openssl_end(&tls, Server),
    );
    pair.drive();
    assert_eq!(pair.client().state(), State::Established);
    assert!(Tls::default().openssl_client().without_tcpls().is_err(), "there is no protocol to offer");
}

// draft E08
#[test]
fn sessions_that_the_extension_negotiates_join_and_move_as_others() {
    for protocols in [vec![], vec![&b"h2"[..]]] {
        let tls = Tls { client_protocols: protocols.clone(), server_protocols: protocols.clone(), ..Tls::default() };
        let client = openssl::start_client(&tls.openssl_client().by_extensions().tcpls_only());
        let mut pair = established(Pair::new(Setup::default(), client, openssl_end(&tls, Server)));
        for side in [Client, Server] {
            assert_eq!(pair.conn(side).application_protocol(), protocols.first().copied());
        }
        for slowly in [false, true] {
            let tcp = if slowly { pair.open_tcp_slowly() } else { pair.open_tcp() };
            pair.drive();
            assert!(pair.live(Server).contains(&tcp), "{:?}", pair.live(Server));
        }
        pair.transfer(Client, b"question");
        pair.cut(FIRST);
        pair.drive();
        pair.transfer(Server, b"answer");
    }
}

#[test]
fn a_server_without_the_extension_is_one_of_plain_tls_to_a_client_that_offers_it() {
    let tls = Tls { client_protocols: vec![b"h2"], server_protocols: vec![b"h2"], ..Tls::default() };
    let client = tls.openssl_client().by_extensions();
    let mut pair = Pair::new(Setup::default(), openssl::start_client(&client), rustls_end(&tls, Server));
    pair.drive();
    assert_eq!([pair.client().state(), pair.server().state()], [State::Plain; 2]);
    pair.transfer(Client, b"plain");
    let only = openssl::start_client(&client.tcpls_only());
    let mut pair = Pair::new(Setup::default(), only, rustls_end(&tls, Server));
    pair.drive();
    assert_eq!(pair.close_reason(Client), Some(CloseReason::NoTcpls));
}
