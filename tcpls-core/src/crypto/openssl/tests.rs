//! Numbers of records behind the server's flight, and what OpenSSL alone decides. Whole sessions are in `tests/it/openssl.rs`.

mod early;
mod raw_server;
mod shared;
mod token;
mod verify;

use core::sync::atomic::{AtomicUsize, Ordering};

use openssl::pkey::{Id, PKey};
use openssl::ssl::{ExtensionContext, SslAcceptor, SslAcceptorBuilder, SslConnector, SslConnectorBuilder, SslMethod};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::driver::{ClientSide, Driver};
use super::extensions::Policy;
use super::*;
use crate::crypto::nonce::nonce;
use crate::crypto::{Agreed, Handshake, OpenKeys, TAG_LEN, TlsClient, TlsServer};
use crate::error::{AlertDescription, HandshakeErrorKind as Kind};
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::ids::ConnectionId;
use crate::wire::record::{HEADER_LEN, RecordHeader, split_inner};

const CERTIFICATE: &[u8] = include_bytes!("../../testing/server.der");
const NAME: &str = "server.test";
/// Lifetime and age, a nonce of 1 byte, a ticket of 2, extensions of 3.
const TICKET: [u8; 19] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 2, 9, 9, 0, 3, 1, 1, 1];

fn connector() -> SslConnectorBuilder {
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(X509::from_der(CERTIFICATE).unwrap()).unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_cert_store(store.build());
    connector
}

fn acceptor() -> SslAcceptorBuilder {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&X509::from_der(CERTIFICATE).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_raw_bytes(&[1; 32], Id::ED25519).unwrap()).unwrap();
    acceptor
}

fn client() -> Box<dyn Handshake> {
    OpensslClient::new(connector(), &[b"h3"]).unwrap().handshake(NAME).unwrap()
}

fn server(tickets: usize) -> Box<dyn Handshake> {
    let mut acceptor = acceptor();
    acceptor.set_num_tickets(tickets).unwrap();
    OpensslServer::new(acceptor, &[b"h3"]).unwrap().handshake().unwrap()
}

fn written(end: &mut dyn Handshake) -> Vec<u8> {
    let mut out = Vec::new();
    end.write(&mut out);
    out
}

fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut records = Vec::new();
    while let Some(header) = RecordHeader::parse(rest).unwrap() {
        let (record, others) = rest.split_at(header.record_len());
        records.push(record.to_vec());
        rest = others;
    }
    assert!(rest.is_empty());
    records
}

/// Feeds records until the end is complete, and returns those that are left.
fn feed(end: &mut dyn Handshake, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = records(bytes).into_iter();
    for mut record in rest.by_ref() {
        end.handle_record(&mut record).unwrap();
        if end.is_complete() {
            break;
        }
    }
    rest.collect()
}

/// A server that has sent its flight and `half_rtt`, the client that has answered, its flight, and what the server sent under
/// application keys.
struct Answered {
    server: Box<dyn Handshake>,
    client: Agreed,
    flight: Vec<u8>,
    application: Vec<Vec<u8>>,
}

fn answered(server: Box<dyn Handshake>, half_rtt: &[&[u8]]) -> Answered {
    answered_by(client(), server, half_rtt, 0)
}

/// The client sends `early` records of early data.
fn answered_by(
    mut client: Box<dyn Handshake>,
    mut server: Box<dyn Handshake>,
    half_rtt: &[&[u8]],
    early: usize,
) -> Answered {
    let mut hello = written(&mut *client);
    for _ in 0..early {
        assert!(client.write_early(b"early data", &mut hello));
    }
    feed(&mut *server, &hello);
    let mut sent = written(&mut *server);
    for data in half_rtt {
        assert!(server.write_half_rtt(data, &mut sent));
    }
    let application = feed(&mut *client, &sent);
    let flight = written(&mut *client);
    Answered { server, client: client.finish().unwrap(), flight, application }
}

/// Type and content of a record that opens with number `number`.
fn open(keys: &OpenKeys, number: u64, record: &[u8]) -> Option<(u8, Vec<u8>)> {
    let (header, sealed) = record.split_at(HEADER_LEN);
    let mut sealed = sealed.to_vec();
    keys.key.open(nonce(&keys.iv, ConnectionId::FIRST, number), header, &mut sealed).ok()?;
    let inner = &sealed[..sealed.len() - TAG_LEN];
    let (content_type, len) = split_inner(inner).unwrap();
    Some((content_type, inner[..len].to_vec()))
}

/// Asserts that these are all records under the server's keys, each with the number of its place and no other.
fn numbered(keys: &OpenKeys, records: &[Vec<u8>]) -> Vec<(u8, Vec<u8>)> {
    let opened = records.iter().enumerate().map(|(place, record)| {
        let fits: Vec<_> = (0..8).filter(|number| open(keys, *number, record).is_some()).collect();
        assert_eq!(fits, [place as u64], "the numbers of record {place} among {}", records.len());
        open(keys, place as u64, record).unwrap()
    });
    opened.collect()
}

#[test]
fn alert_about_a_spoilt_finished_has_a_number_that_no_other_record_has() {
    for half_rtt in [&[][..], &[&b"first"[..]], &[b"first", b"second"]] {
        for tickets in [0, 2] {
            let Answered { mut server, client, flight, mut application } = answered(server(tickets), half_rtt);
            let mut flight = records(&flight);
            let finished = flight.last_mut().unwrap();
            *finished.last_mut().unwrap() ^= 1;
            let outcome: Result<Vec<()>, _> = flight.iter_mut().map(|record| server.handle_record(record)).collect();
            assert_eq!(outcome.unwrap_err().kind(), Kind::Violation);
            application.extend(records(&written(&mut *server)));
            let opened = numbered(&client.open.1, &application);
            assert_eq!(opened.len(), half_rtt.len() + 1, "the server sent more than its alert");
            assert_eq!(opened.last().unwrap(), &(21, vec![2, 20]), "fatal, bad_record_mac");
            assert!(!server.write_half_rtt(b"late", &mut Vec::new()), "the handshake has failed");
            assert!(!server.is_complete());
        }
    }
}

#[test]
fn tickets_have_numbers_behind_half_rtt_data() {
    for half_rtt in [&[][..], &[&b"first"[..]], &[b"first", b"second"]] {
        for tickets in [0, 1, 2, 4] {
            let Answered { mut server, client, flight, mut application } = answered(server(tickets), half_rtt);
            assert!(feed(&mut *server, &flight).is_empty() && server.is_complete());
            application.extend(records(&written(&mut *server)));
            let opened = numbered(&client.open.1, &application);
            let types: Vec<u8> = opened.iter().map(|(content_type, _)| *content_type).collect();
            assert_eq!(types, [vec![23; half_rtt.len()], vec![22; tickets]].concat());
            let mut agreed = server.finish().unwrap();
            assert_eq!(agreed.seal.0, application.len() as u64, "the session goes on with the next number");
            let mut client = client;
            for (_, ticket) in &opened[half_rtt.len()..] {
                client.schedule.handle_new_session_ticket(&ticket[4..]).unwrap();
            }
            assert!(agreed.schedule.handle_new_session_ticket(&TICKET).is_err(), "clients send none");
        }
    }
}

#[test]
fn half_rtt_data_waits_for_the_flight_after_a_hello_retry_request() {
    let (mut connector, mut acceptor) = (connector(), acceptor());
    connector.set_groups_list("P-256:X25519").unwrap();
    acceptor.set_groups_list("X25519").unwrap();
    let mut client = OpensslClient::new(connector, &[b"h3"]).unwrap().handshake(NAME).unwrap();
    let mut server = OpensslServer::new(acceptor, &[b"h3"]).unwrap().handshake().unwrap();
    feed(&mut *server, &written(&mut *client));
    assert_eq!(server.tcpls(), None, "the server's flight is not made");
    assert!(!server.write_half_rtt(b"early", &mut Vec::new()));
    feed(&mut *client, &written(&mut *server));
    feed(&mut *server, &written(&mut *client));
    assert_eq!(server.tcpls(), Some(true));
    let mut sent = Vec::new();
    assert!(server.write_half_rtt(b"early", &mut sent));
    let mut application = feed(&mut *client, &sent);
    feed(&mut *server, &written(&mut *client));
    application.extend(records(&written(&mut *server)));
    let client = client.finish().unwrap();
    assert_eq!(numbered(&client.open.1, &application)[0], (23, b"early".to_vec()));
    assert_eq!(server.finish().unwrap().seal.0, application.len() as u64);
}

#[test]
fn malformed_tickets_are_a_violation() {
    let Answered { mut client, .. } = answered(server(0), &[]);
    client.schedule.handle_new_session_ticket(&TICKET).unwrap();
    for len in 0..TICKET.len() {
        assert!(client.schedule.handle_new_session_ticket(&TICKET[..len]).is_err(), "{len} bytes");
    }
    let without_ticket = [&[0; 8][..], &[0], &[0, 0], &[0, 0]].concat();
    let longer = [&TICKET[..], &[0]].concat();
    for malformed in [without_ticket, longer] {
        let error = client.schedule.handle_new_session_ticket(&malformed).unwrap_err();
        assert_eq!(error.kind(), Kind::Violation);
    }
}

/// The code points of `tcpls` and `tcpls_parameters`.
const CODES: [u16; 2] = [0xff60, 0xff63];

/// How often these bytes are in `hello`.
fn extensions(hello: &[u8]) -> [usize; 2] {
    CODES.map(|code| {
        let [high, low] = code.to_be_bytes();
        hello.windows(4).filter(|bytes| *bytes == [high, low, 0, 0]).count()
    })
}

// draft I30
#[test]
fn client_sends_empty_extensions_only_if_it_negotiates_by_them() {
    let by_alpn = OpensslClient::new(connector(), &[b"h3"]).unwrap();
    let by_extensions = by_alpn.by_extensions();
    let clients = [
        (by_alpn.clone(), [0, 0], &[&b"tcpls+h3"[..], b"h3"][..]),
        (by_extensions.clone(), [1, 1], &[b"h3"]),
        (by_extensions.tcpls_only(), [1, 1], &[b"h3"]),
        (by_extensions.without_tcpls().unwrap(), [0, 0], &[b"h3"]),
        (OpensslClient::new(connector(), &[]).unwrap().by_extensions(), [1, 1], &[]),
    ];
    for (client, expected, names) in clients {
        let hello = written(&mut *client.handshake(NAME).unwrap());
        assert_eq!(extensions(&hello), expected);
        let (hello, _) = peek_client_hello(&hello, &ExtensionTypes::default()).unwrap().unwrap();
        assert_eq!((hello.tcpls, hello.alpn.as_slice() == names), (expected == [1, 1], true), "{:?}", hello.alpn);
    }
}

#[test]
fn extensions_agree_on_tcpls_after_a_hello_retry_request_too() {
    for groups in ["X25519", "P-256:X25519"] {
        let (mut connector, mut acceptor) = (connector(), acceptor());
        connector.set_groups_list(groups).unwrap();
        acceptor.set_groups_list("X25519").unwrap();
        let client = OpensslClient::new(connector, &[b"h3"]).unwrap().by_extensions().tcpls_only();
        let mut client = client.handshake(NAME).unwrap();
        let mut server = OpensslServer::new(acceptor, &[b"h3"]).unwrap().handshake().unwrap();
        while !server.is_complete() {
            feed(&mut *server, &written(&mut *client));
            let sent = written(&mut *server);
            if !client.is_complete() {
                feed(&mut *client, &sent);
            }
        }
        for end in [client, server] {
            assert_eq!(end.tcpls(), Some(true));
            let end = end.finish().unwrap();
            assert_eq!((end.tcpls, end.alpn.as_deref()), (true, Some(&b"h3"[..])));
            assert_eq!(end.application_protocol.as_deref(), Some(&b"h3"[..]));
        }
    }
}

const BOTH: ExtensionContext = ExtensionContext::CLIENT_HELLO.union(ExtensionContext::TLS1_3_ENCRYPTED_EXTENSIONS);

/// A client that is not ours, and how often it was answered. The last three are the content of its extensions, and which of its
/// ClientHellos have `tcpls` and `tcpls_parameters`.
fn foreign(groups: &str, content: &'static [u8], hellos: [&'static [bool]; 2]) -> (Driver, Arc<[AtomicUsize; 2]>) {
    let mut connector = connector();
    connector.set_groups_list(groups).unwrap();
    let answers = Arc::new([const { AtomicUsize::new(0) }; 2]);
    let extension = |which: usize| {
        let (sent, answers) = (AtomicUsize::new(0), answers.clone());
        let send = move || hellos[which][sent.fetch_add(1, Ordering::Relaxed)].then_some(content);
        let take = move || {
            answers[which].fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        (send, take)
    };
    let (send, take) = extension(0);
    connector.add_custom_ext(CODES[0], BOTH, move |_, _, _| Ok(send()), move |_, _, _, _| take()).unwrap();
    let (send, take) = extension(1);
    connector.add_custom_ext(CODES[1], BOTH, move |_, _, _| Ok(send()), move |_, _, _, _| take()).unwrap();
    let tls = connector.build().configure().unwrap().into_ssl(NAME).unwrap();
    (Driver::client(tls, ClientSide::default()).unwrap(), answers)
}

#[test]
fn server_answers_as_many_extensions_as_each_hello_has() {
    const YES: bool = true;
    const NO: bool = false;
    // What `tcpls` and `tcpls_parameters` get for an answer.
    let (both, draft_only, none) = ([1, 1], [1, 0], [0, 0]);
    let cases: [([&[bool]; 2], [usize; 2]); 11] = [
        ([&[YES], &[NO]], draft_only),
        ([&[NO], &[YES]], none),
        ([&[YES], &[YES]], both),
        ([&[NO], &[NO]], none),
        ([&[YES, YES], &[YES, NO]], none),
        ([&[YES, NO], &[YES, YES]], none),
        ([&[NO, YES], &[YES, NO]], none),
        ([&[YES, YES], &[YES, YES]], both),
        ([&[YES, YES], &[NO, NO]], draft_only),
        ([&[NO, YES], &[NO, NO]], draft_only),
        ([&[YES, NO], &[NO, NO]], none),
    ];
    for (hellos, expected) in cases {
        for takes_draft_only in [true, false] {
            let groups = if hellos[0].len() == 1 { "X25519" } else { "P-256:X25519" };
            let (mut client, answers) = foreign(groups, b"", hellos);
            let mut acceptor = acceptor();
            acceptor.set_groups_list("X25519").unwrap();
            let server = OpensslServer::new(acceptor, &[]).unwrap();
            let server = if takes_draft_only { server } else { server.with_parameters() };
            let mut server = server.handshake().unwrap();
            for hello in 0..hellos[0].len() {
                assert_eq!(server.tcpls(), None, "hello {hello}");
                feed(&mut *server, &written(&mut client));
                feed(&mut client, &written(&mut *server));
            }
            assert!(client.is_complete());
            let expected = if takes_draft_only || expected != draft_only { expected } else { none };
            let [tcpls, parameters] = [0, 1].map(|which: usize| answers[which].load(Ordering::Relaxed));
            assert_eq!([tcpls, parameters], expected, "{hellos:?}");
            assert_eq!((server.tcpls(), server.is_draft_only()), (Some(expected != none), expected == draft_only));
            feed(&mut *server, &written(&mut client));
            written(&mut *server);
            let agreed = server.finish().unwrap();
            assert_eq!((agreed.tcpls, agreed.draft_only), (expected != none, expected == draft_only));
        }
    }
}

#[test]
fn client_that_agrees_by_alpn_has_every_frame_although_it_sends_tcpls_alone() {
    let mut connector = connector();
    connector.set_alpn_protos(b"\x08tcpls+h3").unwrap();
    connector.add_custom_ext(CODES[0], BOTH, |_, _, _| Ok(Some(*b"")), |_, _, _, _| Ok(())).unwrap();
    let tls = connector.build().configure().unwrap().into_ssl(NAME).unwrap();
    let (mut client, mut server) = (Driver::client(tls, ClientSide::default()).unwrap(), server(0));
    feed(&mut *server, &written(&mut client));
    assert_eq!((server.tcpls(), server.is_draft_only()), (Some(true), false));
    feed(&mut client, &written(&mut *server));
    feed(&mut *server, &written(&mut client));
    let agreed = server.finish().unwrap();
    assert_eq!((agreed.tcpls, agreed.draft_only), (true, false));
}

#[test]
fn an_extension_that_is_not_empty_ends_the_handshake() {
    let mut server = server(0);
    let error = server.handle_record(&mut written(&mut foreign("X25519", b"1", [&[true], &[true]]).0)).unwrap_err();
    assert_eq!(error.kind(), Kind::Violation, "{error}");
    assert_eq!(written(&mut *server)[3..], [0, 2, 2, 50], "fatal, decode_error");
}

#[test]
fn client_accepts_a_server_of_the_draft_alone_unless_it_needs_parameters() {
    let mut acceptor = acceptor();
    acceptor.add_custom_ext(CODES[0], BOTH, |_, _, _| Ok(Some(*b"")), |_, _, _, _| Ok(())).unwrap();
    let acceptor = acceptor.build();
    let server = || Driver::server(Ssl::new(acceptor.context()).unwrap(), Policy::Absent, None).unwrap();
    let client = OpensslClient::new(connector(), &[]).unwrap();

    for client in [client.by_extensions(), client.by_extensions().tcpls_only()] {
        let (mut client, mut server) = (client.handshake(NAME).unwrap(), server());
        feed(&mut server, &written(&mut *client));
        feed(&mut *client, &written(&mut server));
        assert_eq!((client.tcpls(), client.is_draft_only()), (Some(true), true));
        written(&mut *client);
        let agreed = client.finish().unwrap();
        assert_eq!((agreed.tcpls, agreed.draft_only), (true, true));
    }

    let (mut client, mut server) = (client.by_extensions_with_parameters().handshake(NAME).unwrap(), server());
    feed(&mut server, &written(&mut *client));
    let outcome: Result<Vec<()>, _> =
        records(&written(&mut server)).iter_mut().map(|record| client.handle_record(record)).collect();
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Incompatible, "{error}");
    let alert =
        records(&written(&mut *client)).iter_mut().map(|record| server.handle_record(record)).find_map(Result::err);
    assert_eq!(alert.unwrap().kind(), Kind::PeerAlert(AlertDescription(40)));
}

#[test]
fn a_handshake_that_never_ends_is_cut_off_at_128_kib() {
    let mut server = server(0);
    // A ClientHello that is a little longer than the limit, and about as long as OpenSSL's own, in full records.
    let mut record = [&[22, 3, 1, 0x40, 0][..], &[1, 2, 1, 0], &vec![0; (1 << 14) - 4]].concat();
    let mut fed = 0;
    let error = loop {
        match server.handle_record(&mut record) {
            Ok(()) => fed += record.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Violation);
    assert!(fed <= 128 << 10, "{fed} bytes");
    assert_eq!(written(&mut *server), [21, 3, 3, 0, 2, 2, 10], "fatal, unexpected_message");
    assert!(server.handle_record(&mut record).is_err() && !server.is_complete());
}

#[test]
fn a_third_change_cipher_spec_ends_the_handshake_with_an_alert() {
    const RECORD: [u8; 6] = [20, 3, 3, 0, 1, 1];
    let Answered { mut server, client, flight, .. } = answered(server(0), &[]);
    for _ in 0..2 {
        server.handle_record(&mut RECORD.to_vec()).unwrap();
    }
    let error = server.handle_record(&mut RECORD.to_vec()).unwrap_err();
    assert_eq!(error.kind(), Kind::Violation, "{error}");
    let opened = numbered(&client.open.1, &records(&written(&mut *server)));
    assert_eq!(opened, [(21, vec![2, 10])], "fatal, unexpected_message");
    assert!(records(&flight).iter_mut().all(|record| server.handle_record(record).is_err()) && !server.is_complete());
}

#[test]
fn a_client_of_tls_1_2_is_refused_with_an_alert() {
    let mut old = connector();
    old.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
    let tls = old.build().configure().unwrap().into_ssl(NAME).unwrap();
    let mut hello = Driver::client(tls, ClientSide::default()).unwrap();
    let mut server = server(0);
    let mut record = written(&mut hello);
    let error = server.handle_record(&mut record).unwrap_err();
    assert_eq!(error.kind(), Kind::Incompatible, "{error}");
    let mut alert = written(&mut *server);
    assert_eq!((alert[0], &alert[3..]), (21, &[0, 2, 2, 70][..]), "fatal, protocol_version");
    let error = hello.handle_record(&mut alert).unwrap_err();
    assert_eq!(error.kind(), Kind::PeerAlert(AlertDescription(70)));
}

#[test]
fn a_peer_that_closes_is_reported_as_such() {
    let mut client = client();
    let error = client.handle_record(&mut [21, 3, 3, 0, 2, 1, 0]).unwrap_err();
    assert_eq!(error.kind(), Kind::PeerClosed, "{error}");
    assert_eq!(written(&mut *client).first(), Some(&22), "nothing but the ClientHello");
}

#[test]
fn names_that_no_server_can_have_are_refused() {
    let client = OpensslClient::new(connector(), &[]).unwrap();
    for name in ["", ".", "a..b", "a b", "a\0b", "-a.test", "a-.test", &"a".repeat(64), &["abcdefg"; 33].join(".")] {
        let error = client.handshake(name).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration, "{name:?}");
    }
    for name in ["a", "server.test", "xn--bcher-kva.example", "a_b.test", "192.0.2.1", "2001:db8::1"] {
        assert!(client.handshake(name).is_ok(), "{name}");
    }
}

#[test]
fn debug_output_shows_no_secret() {
    let log = Log::default();
    log.take_line("SERVER_TRAFFIC_SECRET_0 00ff 00a1B2");
    assert_eq!(format!("{:?}", log.secret_of(crate::wire::ids::Side::Server).unwrap()), "Secret(..)");
    for line in ["CLIENT_TRAFFIC_SECRET_0 00 0", "CLIENT_TRAFFIC_SECRET_0 00 0g", "CLIENT_TRAFFIC_SECRET_0", ""] {
        log.take_line(line);
    }
    assert!(log.secret_of(crate::wire::ids::Side::Client).is_none());
}
