//! After the handshake: further generations of keys, and tickets for the next session.

use rustls::ServerConnection;

use super::*;

const HANDSHAKE: u8 = 22;
/// A KeyUpdate that does not ask for another one, and one that does (RFC 8446, 4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn every_generation_of_one_sides_keys_opens_what_the_others_sealed() {
    for suite in SUITES {
        let identity = Identity::new();
        let client = start_client(identity.client(provider_with(&[suite])), &[]);
        let server = start_server(identity.server(provider_with(&[suite])), &[]);
        let Done { mut client, mut server, .. } = complete(client, server, &[]);
        let mut before = client.seal.1;
        for _ in 0..4 {
            let (seal, open) = (client.schedule.next_seal().unwrap(), server.schedule.next_open().unwrap());
            assert_keys_agree(&seal, &open);
            assert_ne!(seal.iv, before.iv);
            assert_eq!(super::open(&open, 0, &super::seal(&before, 0, b"", 23)), None);
            before = seal;
        }
        assert_keys_agree(&server.schedule.next_seal().unwrap(), &client.schedule.next_open().unwrap());
    }
}

#[test]
fn generations_follow_each_other_as_in_tls() {
    let identity = Identity::new();
    let mut plain = ServerConnection::new(Arc::new(identity.server(provider_with(&SUITES)))).unwrap();
    let mut client = start_client(identity.client(provider_with(&SUITES)), &[]);
    while !client.is_complete() {
        plain.read_tls(&mut &written(&mut *client)[..]).unwrap();
        plain.process_new_packets().unwrap();
        let mut flight = Vec::new();
        plain.write_tls(&mut flight).unwrap();
        assert!(feed(&mut *client, &flight).unwrap().is_empty());
    }
    let finished = written(&mut *client);
    let mut client = client.finish().unwrap();

    // To the peer: KeyUpdate with the old keys, data with the new ones.
    let update = seal(&client.seal.1, 0, &KEY_UPDATE, HANDSHAKE);
    let data = seal(&client.schedule.next_seal().unwrap(), 0, b"hello", 23);
    plain.read_tls(&mut &[finished, update, data].concat()[..]).unwrap();
    assert_eq!(plain.process_new_packets().unwrap().plaintext_bytes_to_read(), 5);

    // And from it; tickets come first.
    plain.refresh_traffic_keys().unwrap();
    std::io::Write::write_all(&mut plain.writer(), b"hi").unwrap();
    let mut bytes = Vec::new();
    while plain.wants_write() {
        plain.write_tls(&mut bytes).unwrap();
    }
    let mut received = records(&bytes);
    let data = received.pop().unwrap();
    let contents: Vec<_> =
        (0..).zip(&received).map(|(seq, record)| open(&client.open.1, seq, record).unwrap()).collect();
    assert_eq!(contents.last(), Some(&(KEY_UPDATE_REQUESTED.to_vec(), HANDSHAKE)));
    assert_eq!(open(&client.schedule.next_open().unwrap(), 0, &data), Some((b"hi".to_vec(), 23)));
}

/// The bodies of the New Session Ticket messages among the server's records.
fn tickets(done: &Done) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for (seq, record) in (0..).zip(&done.from_server) {
        let (content, content_type) = open(&done.client.open.1, seq, record).unwrap();
        let mut rest = if content_type == HANDSHAKE { &content[..] } else { &[] };
        while let [4, a, b, c, after @ ..] = rest {
            let (body, next) = after.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
            bodies.push(body.to_vec());
            rest = next;
        }
    }
    bodies
}

#[test]
fn a_ticket_lets_the_next_session_resume() {
    let identity = Identity::new();
    let client = RustlsClient::new(Arc::new(identity.client(provider_with(&SUITES))), &[b"x"]).unwrap();
    let server = RustlsServer::new(Arc::new(identity.server(provider_with(&SUITES))), &[b"x"]).unwrap();
    let run = || complete(client.handshake(localhost()).unwrap(), server.handshake().unwrap(), &[b"half-RTT"]);

    let mut first = run();
    let tickets = tickets(&first);
    assert!(!tickets.is_empty());
    for ticket in tickets {
        first.client.schedule.handle_new_session_ticket(&ticket).unwrap();
    }
    let second = run();
    // Neither Certificate nor CertificateVerify came.
    assert!(second.server_flight + identity.certificate.len() < first.server_flight);
    assert_eq!(second.client.peer_certificates, [identity.certificate.to_vec()]);
    assert!(second.client.tcpls && second.server.tcpls);
    assert_eq!(second.server.server_name.as_deref(), Some("localhost"));
    assert_eq!(open(&second.client.open.1, 0, &second.from_server[0]), Some((b"half-RTT".to_vec(), 23)));
    assert_ne!(first.client.open.1.iv, second.client.open.1.iv);
}

#[test]
fn a_ticket_that_is_cut_short_or_sent_to_a_server_is_an_error() {
    let (client, server) = start(&[], &[]);
    let mut done = complete(client, server, &[]);
    let ticket = tickets(&done).remove(0);
    for len in 0..ticket.len() {
        assert!(done.client.schedule.handle_new_session_ticket(&ticket[..len]).is_err(), "{len} bytes");
    }
    assert!(done.server.schedule.handle_new_session_ticket(&ticket).is_err());
}
