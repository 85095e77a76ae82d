//! The hellos of a join in front of a TLS library, and a TLS library's hello in front of ours: a join has to pass for
//! a handshake (draft, 4.3), and the endpoint looks at the hello of every new session.

#![allow(clippy::unwrap_used)] // a test that panics has failed, as it should

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tcpls_core::testing::hello::{ExtensionTypes, JoinHello, ZeroRtt, peek_client_hello};
use tcpls_core::wire::ids::Token;

fn join(zero_rtt: Option<ZeroRtt<'_>>) -> Vec<u8> {
    let hello = JoinHello {
        random: [1; 32],
        session_id: [2; 32],
        suite: 0x1301,
        server_name: Some("example.com"),
        alpn: Some(b"tcpls+h2"),
        key_share: [3; 32],
        token: Token([4; 32]),
        zero_rtt,
    };
    let mut out = Vec::new();
    hello.encode(&ExtensionTypes::default(), &mut out);
    out
}

fn client() -> ClientConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"tcpls".to_vec(), b"h2".to_vec()];
    ClientConnection::new(Arc::new(config), ServerName::try_from("example.com").unwrap()).unwrap()
}

#[test]
fn a_join_is_a_client_hello_to_a_tls_library() {
    // draft E01, I02
    let zero_rtt = ZeroRtt { identity: &[5; 200], obfuscated_age: 6, binder: &[7; 32] };
    for zero_rtt in [None, Some(zero_rtt)] {
        let wire = join(zero_rtt);
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.read_tls(&mut &wire[..]).unwrap(), wire.len());
        let Ok(Some(accepted)) = acceptor.accept() else { panic!("not accepted as a ClientHello") };
        let hello = accepted.client_hello();
        assert_eq!(hello.server_name(), Some("example.com"));
        assert_eq!(hello.alpn().unwrap().collect::<Vec<_>>(), [b"tcpls+h2"]);
    }
}

#[test]
fn the_hello_of_a_tls_library_is_no_join() {
    let mut wire = Vec::new();
    client().write_tls(&mut wire).unwrap();
    let (hello, len) = peek_client_hello(&wire, &ExtensionTypes::default()).unwrap().unwrap();
    assert_eq!(len, wire.len());
    assert_eq!(hello.server_name.as_deref(), Some("example.com"));
    assert_eq!(hello.alpn, [b"tcpls".to_vec(), b"h2".to_vec()]);
    assert!(hello.supports_tls13);
    assert!(hello.suites.contains(&0x1301));
    assert!(!hello.tcpls && !hello.early_data && !hello.psk);
    assert_eq!(hello.join, None);
}

#[test]
fn a_join_offers_the_suites_and_groups_that_a_tls_library_offers() {
    let mut wire = Vec::new();
    client().write_tls(&mut wire).unwrap();
    let ext = ExtensionTypes::default();
    let (real, _) = peek_client_hello(&wire, &ext).unwrap().unwrap();
    let (apparent, _) = peek_client_hello(&join(None), &ext).unwrap().unwrap();
    assert!(apparent.suites.iter().all(|suite| real.suites.contains(suite)));
    assert_eq!(apparent.key_shares, real.key_shares);
    assert_eq!(apparent.session_id.len(), real.session_id.len());
}

#[test]
fn a_server_hello_of_a_join_takes_a_tls_client_on_to_encrypted_records() {
    use tcpls_core::testing::hello::{CHANGE_CIPHER_SPEC, JoinServerHello};

    let (mut client, mut wire) = (client(), Vec::new());
    client.write_tls(&mut wire).unwrap();
    let (hello, _) = peek_client_hello(&wire, &ExtensionTypes::default()).unwrap().unwrap();
    let (random, session_id) = ([8; 32], &hello.session_id[..]);
    let mut answer = Vec::new();
    JoinServerHello { random, session_id, suite: 0x1301, key_share: [9; 32], psk: false }.encode(&mut answer);
    answer.extend(CHANGE_CIPHER_SPEC);
    assert_eq!(client.read_tls(&mut &answer[..]).unwrap(), answer.len());
    client.process_new_packets().expect("a ServerHello like any other");
    assert!(client.is_handshaking());
}
