//! Handshakes that fail: on whose word, with which alert, and never with a panic.

use proptest::prelude::*;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConnection, SupportedProtocolVersion};

use super::*;
use crate::error::{AlertDescription, HandshakeErrorKind as Kind};

const ALERT: u8 = 21;

fn refused(code: u8) -> Kind {
    Kind::PeerAlert(AlertDescription(code))
}

fn plaintext_alert(code: u8) -> [u8; 7] {
    [ALERT, 3, 3, 0, 2, 2, code]
}

#[test]
fn server_without_a_common_name_sends_no_application_protocol() {
    let (mut client, mut server) = start(&[b"a"], &[b"b"]);
    let failed = feed(&mut *server, &written(&mut *client)).unwrap_err();
    assert_eq!(failed.kind(), Kind::NoApplicationProtocol);
    // rustls finds out after its ServerHello, so the alert is encrypted.
    assert_eq!(feed(&mut *client, &written(&mut *server)).unwrap_err().kind(), refused(120));
    assert!(!client.is_complete() && !server.is_complete());
}

#[test]
fn untrusted_certificate_is_refused_with_an_alert_to_the_server() {
    let (us, other) = (Identity::new(), Identity::new());
    let mut client = start_client(other.client(provider_with(&SUITES)), &[]);
    let mut server = start_server(us.server(provider_with(&SUITES)), &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    let failed = feed(&mut *client, &written(&mut *server)).unwrap_err();
    assert!(failed.to_string().contains("certificate"), "{}", failed);
    assert!([Kind::UnknownIssuer, Kind::BadCertificate].contains(&failed.kind()), "{failed:?}");
    let failed = feed(&mut *server, &written(&mut *client)).unwrap_err();
    assert!((42..=51).any(|code| failed.kind() == refused(code)), "{failed:?}");
    assert!(client.finish().is_err() && server.finish().is_err());
}

#[test]
fn a_client_without_the_wanted_certificate_is_refused() {
    let (us, them) = (Identity::new(), Identity::new());
    let mut client = start_client(us.client(provider_with(&SUITES)), &[]);
    let mut server = start_server(us.server_that_wants_certificates_of(&them), &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    feed(&mut *client, &written(&mut *server)).unwrap();
    assert!(feed(&mut *server, &written(&mut *client)).is_err());
    assert!(!written(&mut *server).is_empty());
}

fn old_server(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap()
}

fn old_client(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(identity.roots())
        .with_no_client_auth()
}

#[test]
fn server_with_tls_1_2_only_is_refused() {
    let identity = Identity::with(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut plain = ServerConnection::new(Arc::new(old_server(&identity, &[&TLS12]))).unwrap();
    let mut client = start_client(old_client(&identity, &[&TLS12, &TLS13]), &[]);
    plain.read_tls(&mut &written(&mut *client)[..]).unwrap();
    plain.process_new_packets().unwrap();
    let mut flight = Vec::new();
    plain.write_tls(&mut flight).unwrap();
    let failed = feed(&mut *client, &flight).unwrap_err();
    assert_eq!(failed.to_string(), "the peer speaks TLS 1.2 only");
    assert_eq!(failed.kind(), Kind::Incompatible);
    assert_eq!(written(&mut *client), plaintext_alert(70));
}

#[test]
fn client_with_tls_1_2_only_is_refused() {
    let identity = Identity::with(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (versions, message) in [(&[&TLS12, &TLS13][..], Some("the peer speaks TLS 1.2 only")), (&[&TLS13], None)] {
        let mut plain = ClientConnection::new(Arc::new(old_client(&identity, &[&TLS12])), localhost()).unwrap();
        let mut server = start_server(old_server(&identity, versions), &[]);
        let mut hello = Vec::new();
        plain.write_tls(&mut hello).unwrap();
        let failed = feed(&mut *server, &hello).unwrap_err();
        assert!(message.is_none_or(|message| failed.to_string() == message), "{}", failed);
        assert_eq!(written(&mut *server), plaintext_alert(70));
    }
}

#[test]
fn a_configuration_without_tls_1_3_is_refused() {
    let identity = Identity::with(&rcgen::PKCS_ECDSA_P256_SHA256);
    let client = RustlsClient::new(Arc::new(old_client(&identity, &[&TLS12])), &[]);
    let server = RustlsServer::new(Arc::new(old_server(&identity, &[&TLS12])), &[]);
    assert!(client.unwrap_err().to_string().contains("TLS 1.3"));
    assert!(server.unwrap_err().to_string().contains("TLS 1.3"));
}

#[test]
fn application_protocols_that_cannot_be_named_are_refused() {
    let identity = Identity::new();
    let config = Arc::new(identity.client(provider_with(&SUITES)));
    let accepts = |name: &[u8]| RustlsClient::new(config.clone(), &[b"h2", name]).is_ok();
    assert!(accepts(&[b'a'; 249]) && accepts(b"tcpl") && accepts(b"tcplsx"));
    assert!(!accepts(&[b'a'; 250]) && !accepts(b"") && !accepts(b"tcpls") && !accepts(b"tcpls+h2"));
}

#[test]
fn a_handshake_is_not_finished_before_its_end_nor_with_bytes_left() {
    let (client, _) = start(&[], &[]);
    assert!(client.finish().is_err());

    let (mut client, mut server) = start(&[], &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    feed(&mut *client, &written(&mut *server)).unwrap();
    assert!(client.is_complete());
    assert!(client.finish().is_err(), "the client's Finished was not taken");
}

#[test]
fn no_input_is_processed_after_the_end_or_a_failure() {
    let (mut client, mut server) = start(&[], &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    feed(&mut *client, &written(&mut *server)).unwrap();
    assert!(client.handle_record(&mut [23, 3, 3, 0, 1, 0]).is_err());
    written(&mut *client);
    assert!(client.finish().is_ok());

    assert!(server.handle_record(&mut [22, 3, 3, 0, 1, 0]).is_err());
    written(&mut *server);
    assert!(server.handle_record(&mut [22, 3, 3, 0, 1, 0]).is_err());
    assert!(!server.write_half_rtt(b"data", &mut Vec::new()) && written(&mut *server).is_empty());
}

#[test]
fn records_without_progress_are_bounded() {
    let change_cipher_spec = [20, 3, 3, 0, 1, 1].to_vec();
    let (empty, close_notify) = ([22, 3, 3, 0, 0].to_vec(), [ALERT, 3, 3, 0, 2, 1, 0].to_vec());
    for (record, after_hello) in [
        (change_cipher_spec, true),
        (empty.clone(), true),
        (empty, false),
        (close_notify.clone(), true),
        (close_notify, false),
    ] {
        let (mut client, mut server) = start(&[], &[]);
        if after_hello {
            feed(&mut *server, &written(&mut *client)).unwrap();
        }
        let flood = (0..100).find(|_| server.handle_record(&mut record.clone()).is_err());
        assert!(flood.is_some_and(|accepted| accepted <= 32), "{record:?}");
    }
}

#[test]
fn a_record_out_of_place_is_refused_with_an_alert() {
    for record in [&[23, 3, 3, 0, 3, 1, 2, 3][..], &[22, 3, 3, 0, 4, 20, 0, 0, 0], &[20, 3, 3, 0, 1, 1]] {
        let (mut client, mut server) = start(&[], &[]);
        written(&mut *client);
        for end in [&mut client, &mut server] {
            assert!(feed(&mut **end, record).is_err());
            assert_eq!(written(&mut **end)[..6], plaintext_alert(0)[..6], "{record:?}");
        }
    }
}

#[test]
fn an_alert_is_not_answered_with_an_alert() {
    let (mut client, _) = start(&[], &[]);
    written(&mut *client);
    assert_eq!(feed(&mut *client, &plaintext_alert(40)).unwrap_err().kind(), refused(40));
    assert!(written(&mut *client).is_empty());
}

#[test]
fn a_handshake_message_in_endless_pieces_is_refused() {
    let (_, mut server) = start(&[], &[]);
    // The header of a ClientHello of 64 KiB less one byte, which then comes byte by byte.
    let mut taken = 0;
    let mut record = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xff];
    while server.handle_record(&mut record).is_ok() {
        taken += record.len();
        record = vec![22, 3, 1, 0, 1, 0];
    }
    assert!(taken <= 128 << 10, "took {taken} bytes");
    assert!(taken > 120 << 10, "refused after {taken} bytes already");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_server_flight_that_was_tampered_with_never_completes_a_handshake(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut client, mut server) = start(&[b"x"], &[b"x"]);
        feed(&mut *server, &written(&mut *client)).unwrap();
        let mut flight = records(&written(&mut *server));
        // The content, not the framing, which is not the handshake's; ChangeCipherSpec protects nothing.
        flight.retain(|record| record[0] != 20);
        let lengths: Vec<_> = flight.iter().map(|record| record.len() - 5).collect();
        let mut index = at.index(lengths.iter().sum());
        let mut which = 0;
        while index >= lengths[which] {
            index -= lengths[which];
            which += 1;
        }
        flight[which][5 + index] ^= 1u8 << bit;
        let result = feed(&mut *client, &flight.concat());
        prop_assert!(result.is_err() || !client.is_complete());
    }

    #[test]
    fn arbitrary_records_do_no_harm(
        contents in prop::collection::vec((20u8..25, prop::collection::vec(any::<u8>(), 0..100)), 1..8),
        after_hello in any::<bool>(),
    ) {
        let (mut client, mut server) = start(&[], &[]);
        if after_hello {
            feed(&mut *server, &written(&mut *client)).unwrap();
        }
        for (content_type, content) in contents {
            let len = u8::try_from(content.len()).unwrap();
            let record = [&[content_type, 3, 3, 0, len], &content[..]].concat();
            let _ = server.handle_record(&mut record.clone());
            let _ = client.handle_record(&mut record.clone());
            written(&mut *server);
            written(&mut *client);
        }
        prop_assert!(!server.is_complete() && !client.is_complete());
    }
}
