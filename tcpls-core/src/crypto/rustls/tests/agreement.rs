//! Results of handshakes: TCPLS or not, names, certificates, and when they are known.

use rustls::crypto::SupportedKxGroup;
use rustls::{ClientConnection, NamedGroup, ServerConnection};

use super::*;
use crate::crypto::{TlsClient, TlsServer};
use crate::error::HandshakeErrorKind;
use crate::wire::hello::{ExtensionTypes, peek_client_hello};

#[test]
fn both_ends_agree_on_tcpls_with_every_suite() {
    for (suite, algorithm) in SUITES
        .into_iter()
        .flat_map(|suite| [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256].map(|algorithm| (suite, algorithm)))
    {
        let identity = Identity::with(algorithm);
        let client = start_client(identity.client(provider_with(&SUITES)), &[b"h3"]);
        let server = start_server(identity.server(provider_with(&[suite])), &[b"h3"]);
        let Done { client, server, .. } = complete(client, server, &[b"half-RTT"]);
        for end in [&client, &server] {
            assert!(end.tcpls);
            assert_eq!(end.application_protocol.as_deref(), Some(&b"h3"[..]));
            assert_eq!(end.alpn.as_deref(), Some(&b"tcpls+h3"[..]));
            assert_eq!(end.server_name.as_deref(), Some("localhost"));
            assert_eq!(end.suite, u16::from(suite));
            assert_eq!(end.early_token, None);
        }
        assert_eq!(client.peer_certificates, [identity.certificate.to_vec()]);
        assert!(server.peer_certificates.is_empty());
        assert_keys_agree(&client.seal.1, &server.open.1);
        assert_keys_agree(&server.seal.1, &client.open.1);
    }
}

#[test]
fn without_an_application_protocol_the_name_is_that_of_tcpls() {
    let (client, server) = start(&[], &[]);
    let done = complete(client, server, &[]);
    for end in [done.client, done.server] {
        assert!(end.tcpls);
        assert_eq!((end.application_protocol, end.alpn.as_deref()), (None, Some(&b"tcpls"[..])));
    }
}

#[test]
fn the_alpn_names_of_the_users_configuration_count_where_no_others_are_given() {
    let identity = Identity::new();
    let config = |given: &[&[u8]]| {
        let server = with_alpn(identity.server(provider_with(&SUITES)), &[b"configured"]);
        let client = start_client(identity.client(provider_with(&SUITES)), &[b"configured", b"given"]);
        complete(client, start_server(server, given), &[]).client.application_protocol.unwrap()
    };
    assert_eq!(config(&[]), b"configured");
    assert_eq!(config(&[b"given"]), b"given");
}

#[test]
fn a_client_without_tcpls_offers_the_plain_names_only() {
    let identity = Identity::new();
    let client = |protocols: &[&[u8]]| {
        RustlsClient::new(Arc::new(identity.client(provider_with(&SUITES))), protocols).unwrap().without_tcpls()
    };
    let hello = written(&mut *client(&[b"a", b"b"]).unwrap().handshake(localhost()).unwrap());
    let (offered, _) = peek_client_hello(&hello, &ExtensionTypes::default()).unwrap().unwrap();
    assert_eq!(offered.alpn, [b"a", b"b"]);
    assert!(client(&[]).is_err(), "there is nothing left to offer");
}

#[test]
fn the_server_prefers_tcpls_and_then_its_own_order() {
    let (client, server) = start(&[b"a", b"b"], &[b"b", b"a"]);
    assert_eq!(complete(client, server, &[]).server.alpn.unwrap(), b"tcpls+b");
}

/// Runs a handshake between ours and rustls as other programs use it.
macro_rules! with_plain_peer {
    ($ours:expr, $plain:expr) => {{
        let (mut ours, mut plain) = ($ours, $plain);
        while !ours.is_complete() || plain.is_handshaking() {
            let mut bytes = Vec::new();
            while plain.wants_write() {
                plain.write_tls(&mut bytes).unwrap();
            }
            feed(&mut *ours, &bytes).unwrap();
            plain.read_tls(&mut &written(&mut *ours)[..]).unwrap();
            plain.process_new_packets().unwrap();
        }
        (ours.finish().unwrap(), plain)
    }};
}

#[test]
fn server_without_tcpls_gets_plain_tls() {
    for (server_names, agreed) in [(&[&b"h2"[..]][..], Some(b"h2".to_vec())), (&[], None)] {
        let identity = Identity::new();
        let ours = start_client(identity.client(provider_with(&SUITES)), &[b"h2"]);
        let config = with_alpn(identity.server(provider_with(&SUITES)), server_names);
        let (ours, _) = with_plain_peer!(ours, ServerConnection::new(Arc::new(config)).unwrap());
        assert!(!ours.tcpls);
        assert_eq!((ours.application_protocol, ours.alpn), (agreed.clone(), agreed));
    }
}

#[test]
fn client_without_tcpls_gets_plain_tls() {
    for (client_names, agreed) in [(vec![b"h2".to_vec()], Some(b"h2".to_vec())), (vec![], None)] {
        let identity = Identity::new();
        let ours = start_server(identity.server(provider_with(&SUITES)), &[b"h2"]);
        let mut config = identity.client(provider_with(&SUITES));
        config.alpn_protocols = client_names;
        let (ours, _) = with_plain_peer!(ours, ClientConnection::new(Arc::new(config), localhost()).unwrap());
        assert!(!ours.tcpls);
        assert_eq!((ours.application_protocol, ours.alpn), (agreed.clone(), agreed));
        assert_eq!(ours.server_name.as_deref(), Some("localhost"));
    }
}

#[test]
fn the_server_knows_whether_it_is_tcpls_once_it_has_the_client_hello() {
    for (client_protocols, agreed) in [(&[&b"x"[..]][..], true), (&[], false)] {
        let identity = Identity::new();
        let mut server = start_server(identity.server(provider_with(&SUITES)), &[b"x"]);
        assert_eq!(server.tcpls(), None);
        let hello = if agreed {
            written(&mut *start_client(identity.client(provider_with(&SUITES)), client_protocols))
        } else {
            let config = Arc::new(identity.client(provider_with(&SUITES)));
            let mut hello = Vec::new();
            ClientConnection::new(config, localhost()).unwrap().write_tls(&mut hello).unwrap();
            hello
        };
        feed(&mut *server, &hello).unwrap();
        assert_eq!(server.tcpls(), Some(agreed));
        assert_eq!(server.write_half_rtt(b"token", &mut Vec::new()), agreed);
    }
}

#[test]
fn the_client_knows_whether_it_is_tcpls_once_the_server_has_answered() {
    let (mut client, mut server) = start(&[], &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    assert_eq!(client.tcpls(), None);
    feed(&mut *client, &written(&mut *server)).unwrap();
    assert_eq!(client.tcpls(), Some(true));
}

#[test]
fn endpoint_reads_the_client_hello_of_rustls() {
    let (mut client, _) = start(&[b"x"], &[]);
    let bytes = written(&mut *client);
    let (hello, len) = peek_client_hello(&bytes, &ExtensionTypes::default()).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    assert!(hello.supports_tls13 && hello.join.is_none());
    assert_eq!(hello.alpn, [&b"tcpls+x"[..], b"x"]);
    assert_eq!(hello.server_name.as_deref(), Some("localhost"));
}

#[test]
fn half_rtt_data_and_tickets_are_counted_in_the_sequence_numbers() {
    let (client, server) = start(&[], &[]);
    let done = complete(client, server, &[b"first", b"second"]);
    let opened: Vec<_> =
        (0..).zip(&done.from_server).map(|(seq, record)| open(&done.client.open.1, seq, record).unwrap()).collect();
    assert_eq!(opened[..2], [(b"first".to_vec(), 23), (b"second".to_vec(), 23)]);
    assert!(opened.len() > 2 && opened[2..].iter().all(|(content, ty)| *ty == 22 && content[0] == 4));
    assert_eq!(done.server.seal.0, opened.len() as u64);
    assert_eq!((done.client.open.0, done.client.seal.0, done.server.open.0), (0, 0, 0));
}

#[test]
fn half_rtt_data_needs_the_client_hello_and_ends_with_the_handshake() {
    let (mut client, mut server) = start(&[], &[]);
    let mut out = Vec::new();
    assert!(!server.write_half_rtt(b"too early", &mut out) && out.is_empty());
    feed(&mut *server, &written(&mut *client)).unwrap();
    assert!(!server.write_half_rtt(b"", &mut out) && out.is_empty());
    assert!(!server.write_half_rtt(&vec![0; (1 << 14) + 1], &mut out) && out.is_empty());
    assert!(server.write_half_rtt(&vec![0; 1 << 14], &mut out));
    assert_eq!(feed(&mut *client, &out).unwrap().len(), 1);
    assert!(!client.write_half_rtt(b"clients have none", &mut Vec::new()));
    feed(&mut *server, &written(&mut *client)).unwrap();
    assert!(!server.write_half_rtt(b"too late", &mut Vec::new()));
}

#[test]
fn half_rtt_data_is_one_record_for_any_configured_record_size() {
    let identity = Identity::new();
    let mut config = identity.server(provider_with(&SUITES));
    config.max_fragment_size = Some(64);
    let client = start_client(identity.client(provider_with(&SUITES)), &[]);
    let done = complete(client, start_server(config, &[]), &[&[7; 1000]]);
    assert_eq!(open(&done.client.open.1, 0, &done.from_server[0]), Some((vec![7; 1000], 23)));
}

#[test]
fn with_client_certificates_there_is_no_half_rtt_data() {
    let (us, them) = (Identity::new(), Identity::with(&rcgen::PKCS_ECDSA_P256_SHA256));
    let mut client = start_client(us.client_with_certificate_of(&them), &[]);
    let mut server = start_server(us.server_that_wants_certificates_of(&them), &[]);
    feed(&mut *server, &written(&mut *client)).unwrap();
    assert_eq!(server.tcpls(), Some(true));
    assert!(!server.write_half_rtt(b"token", &mut Vec::new()));
    feed(&mut *client, &written(&mut *server)).unwrap();
    feed(&mut *server, &written(&mut *client)).unwrap();
    written(&mut *server);
    let server = server.finish().unwrap();
    assert_eq!(server.peer_certificates, [them.certificate.to_vec()]);
    assert_keys_agree(&server.seal.1, &client.finish().unwrap().open.1);
}

#[test]
fn a_hello_retry_request_is_followed() {
    let identity = Identity::new();
    let config = |group: NamedGroup, all: bool| {
        let mut provider = default_provider();
        provider.kx_groups.sort_by_key(|kx: &&dyn SupportedKxGroup| kx.name() != group);
        provider.kx_groups.truncate(if all { usize::MAX } else { 1 });
        Arc::new(provider)
    };
    let client = start_client(identity.client(config(NamedGroup::X25519, true)), &[b"x"]);
    let server = start_server(identity.server(config(NamedGroup::secp384r1, false)), &[b"x"]);
    let done = complete(client, server, &[b"half-RTT"]);
    assert!(done.client.tcpls && done.server.tcpls);
    assert_eq!(done.server.server_name.as_deref(), Some("localhost"));
    assert_eq!(open(&done.client.open.1, 0, &done.from_server[0]), Some((b"half-RTT".to_vec(), 23)));
}

#[test]
fn an_address_or_a_name_kept_to_oneself_is_no_server_name() {
    let identity = Identity::new();
    let run = |config: ClientConfig, name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        let client = RustlsClient::new(Arc::new(config), &[]).unwrap().handshake(name).unwrap();
        let done = complete(client, start_server(identity.server(provider_with(&SUITES)), &[]), &[]);
        (done.client.server_name, done.server.server_name)
    };
    let mut config = identity.client(provider_with(&SUITES));
    assert_eq!(run(config.clone(), "127.0.0.1"), (None, None));
    config.enable_sni = false;
    assert_eq!(run(config, "localhost"), (None, None));
}

#[test]
fn handshake_messages_may_be_cut_into_records_in_any_way() {
    let identity = Identity::new();
    for size in [1, 2, 5, 100] {
        let mut client = start_client(identity.client(provider_with(&SUITES)), &[]);
        let mut server = start_server(identity.server(provider_with(&SUITES)), &[]);
        let hello = written(&mut *client);
        for part in hello[5..].chunks(size) {
            let mut record = [&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()], part].concat();
            server.handle_record(&mut record).unwrap();
        }
        complete_from_server(client, server);
    }
}

/// The rest of a handshake whose ClientHello has arrived.
fn complete_from_server(mut client: Box<dyn Handshake>, mut server: Box<dyn Handshake>) {
    feed(&mut *client, &written(&mut *server)).unwrap();
    feed(&mut *server, &written(&mut *client)).unwrap();
    written(&mut *server);
    assert_keys_agree(&client.finish().unwrap().seal.1, &server.finish().unwrap().open.1);
}

#[test]
fn encrypted_handshake_messages_may_span_records() {
    let (identity, them) = (Identity::new(), Identity::new());
    for size in [32, 33, 100] {
        let mut config = with_alpn(identity.server_that_wants_certificates_of(&them), &[b"tcpls"]);
        config.max_fragment_size = Some(size);
        let ours = start_client(identity.client_with_certificate_of(&them), &[]);
        assert!(with_plain_peer!(ours, ServerConnection::new(Arc::new(config)).unwrap()).0.tcpls);

        let mut config = identity.client_with_certificate_of(&them);
        config.max_fragment_size = Some(size);
        let ours = start_server(identity.server_that_wants_certificates_of(&them), &[]);
        complete(start_client(config, &[]), ours, &[]);
    }
}

#[test]
fn a_driver_names_the_server_as_text() {
    let identity = Identity::new();
    let client = RustlsClient::new(Arc::new(identity.client(provider_with(&SUITES))), &[]).unwrap();
    let client: &dyn TlsClient = &Arc::new(client);
    let server = RustlsServer::new(Arc::new(identity.server(provider_with(&SUITES))), &[]).unwrap();
    let server: &dyn TlsServer = &server;
    let done = complete(client.handshake("localhost").unwrap(), server.handshake().unwrap(), &[]);
    assert_eq!(done.server.server_name.as_deref(), Some("localhost"));
    assert!(client.handshake("192.0.2.1").is_ok() && client.handshake("2001:db8::1").is_ok());
    let error = client.handshake("no name").err().unwrap();
    assert_eq!(error.kind(), HandshakeErrorKind::Configuration);
}
