//! Encrypted ClientHello (RFC 9849): no TCP connection of a session shows the name that connection 0 has encrypted.

use rustls::client::{EchConfig, EchGreaseConfig, EchMode};
use rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::pki_types::ServerName;
use tcpls_core::crypto::{Agreed, JoinName};
use tcpls_core::error::{AlertDescription, HandshakeErrorKind as Kind, TcpFault};
use tcpls_core::testing::tls::SERVER_NAME;

use super::ech_server::{EchServer, Keys, suite};
use super::*;

const PUBLIC_NAME: &str = "public.test";

fn client(mode: EchMode) -> ClientConfig {
    let provider = CryptoProvider { kx_groups: vec![X25519MLKEM768, X25519], ..default_provider() };
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_ech(mode)
        .unwrap()
        .with_root_certificates(roots(SERVER_CERTIFICATE.to_vec()))
        .with_no_client_auth()
}

fn client_of(keys: &Keys) -> ClientConfig {
    client(EchConfig::new(keys.config_list(), ALL_SUPPORTED_SUITES).unwrap().into())
}

/// A client and a server that share `keys`.
fn hidden() -> Pair {
    let keys = Keys::new(PUBLIC_NAME);
    pair_with(client_of(&keys), EchServer::boxed(Some(keys)))
}

/// Asserts that no byte that crosses the network on any TCP connection belongs to the server's name, and that each
/// ClientHello has the public name.
fn assert_hidden(pair: &Pair) {
    for (to_server, to_client) in pair.wire() {
        assert_eq!(shown_name(to_server).as_deref(), Some(PUBLIC_NAME));
        for bytes in [to_server, to_client] {
            assert!(!bytes.windows(SERVER_NAME.len()).any(|window| window == SERVER_NAME.as_bytes()));
        }
    }
}

#[test]
fn joins_show_the_public_name_that_connection_0_has_shown() {
    let mut pair = hidden();
    assert_works(&mut pair);
    pair.open_tcp_slowly();
    pair.drive();
    pair.transfer(Client, b"over a join without 0-RTT");
    assert_eq!(pair.live(Server).len(), 2);
    assert_eq!(pair.wire().len(), 3);
    assert_hidden(&pair);
    for side in [Client, Server] {
        assert_eq!(pair.conn(side).server_name(), Some(SERVER_NAME));
    }
}

/// Puts the inner ClientHello in the place of the outer one, as a server that decrypts for others does.
fn pass_through_a_front_server(pair: &mut Pair, keys: &Keys) {
    pair.step(Client);
    let flow = pair.flow(FIRST, Server);
    let outer: Vec<u8> = flow.in_flight.drain(..).collect();
    flow.in_flight.extend(keys.decrypt(&outer));
}

#[test]
fn server_behind_one_that_decrypts_accepts_joins_with_the_public_name() {
    let keys = Keys::new(PUBLIC_NAME);
    let mut pair = pair_with(client_of(&keys), EchServer::boxed(None));
    pass_through_a_front_server(&mut pair, &keys);
    assert_works(&mut pair);
    assert_hidden(&pair);
    assert_eq!(pair.server().server_name(), Some(SERVER_NAME));
}

#[test]
fn server_refuses_joins_with_a_name_that_connection_0_has_not_shown() {
    let mut pair = hidden();
    pair.drive();
    let tcp = pair.open_tcp();
    pair.step(Client);
    let bytes = pair.flow(tcp, Server).in_flight.make_contiguous();
    let at = bytes.windows(PUBLIC_NAME.len()).position(|window| window == PUBLIC_NAME.as_bytes()).unwrap();
    bytes[at] = b'q';
    pair.drive();
    assert_eq!(pair.fault(Client, tcp), Some(TcpFault::Alert(47)));
    pair.transfer(Client, b"unharmed");
}

/// A client whose joins show no name.
struct Nameless(Box<dyn Handshake>);

impl Handshake for Nameless {
    fn handle_record(&mut self, record: &mut [u8]) -> Result<(), HandshakeError> {
        self.0.handle_record(record)
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn write_half_rtt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.write_half_rtt(plaintext, out)
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn tcpls(&self) -> Option<bool> {
        self.0.tcpls()
    }

    fn finish(self: Box<Self>) -> Result<Agreed, HandshakeError> {
        let mut agreed = self.0.finish()?;
        agreed.join_name = JoinName::Public(None);
        Ok(agreed)
    }
}

#[test]
fn joins_without_a_name_are_accepted_only_if_connection_0_has_encrypted_it() {
    let keys = Keys::new(PUBLIC_NAME);
    let client = Box::new(Nameless(handshake_of(client_of(&keys))));
    let mut hidden = Pair::new(Setup::default(), client, EchServer::boxed(Some(keys)));
    assert_works(&mut hidden);
    assert_eq!(shown_name(&sent(&hidden, 1, Server)), None);

    let client = Box::new(Nameless(handshake_of(client_with(default_provider()).with_no_client_auth())));
    let server = RustlsServer::new(Arc::new(server_of(default_provider(), 1)), &[]).unwrap();
    let mut shown = Pair::new(Setup::default(), client, server.handshake().unwrap());
    shown.drive();
    let tcp = shown.open_tcp();
    shown.drive();
    assert_eq!(shown.fault(Client, tcp), Some(TcpFault::Alert(47)));
}

#[test]
fn client_that_only_pretends_to_encrypt_shows_the_name_everywhere() {
    let (public, _) = suite().generate_key_pair().unwrap();
    let grease = EchGreaseConfig::new(suite(), public);
    let mut pair = pair(client(EchMode::Grease(grease)), server_of(default_provider(), 1));
    assert_works(&mut pair);
    for (to_server, _) in pair.wire() {
        assert_eq!(shown_name(to_server).as_deref(), Some(SERVER_NAME));
    }
}

#[test]
fn server_without_the_keys_ends_the_handshake_and_never_learns_the_name() {
    // The server proves that it is the one of the public name, so that the client believes that its keys are old.
    let keys = Keys::new(SERVER_NAME);
    let tls = RustlsClient::new(Arc::new(client_of(&keys)), &[]).unwrap();
    let handshake = tls.handshake(ServerName::try_from("hidden.test").unwrap()).unwrap();
    let server = RustlsServer::new(Arc::new(server_of(default_provider(), 1)), &[]).unwrap();
    let mut pair = Pair::new(Setup::default(), handshake, server.handshake().unwrap());
    pair.drive();
    let error = failure(&mut pair, Client);
    assert_eq!(error.kind(), Kind::Incompatible);
    let text = "the server rejected Encrypted ClientHello: it no longer has the keys of this configuration";
    assert_eq!(error.to_string(), text);
    assert_eq!(failure(&mut pair, Server).kind(), Kind::PeerAlert(AlertDescription(121)));
    assert!(!sent(&pair, 0, Server).windows(11).any(|window| window == b"hidden.test"));
}

#[test]
fn client_hello_with_an_encrypted_one_inside_may_be_split_anywhere() {
    let len = {
        let mut pair = hidden();
        pair.step(Client);
        pair.flow(FIRST, Server).in_flight.len()
    };
    assert!(len > 1500, "{len} bytes: two segments of TCP");
    for split in (1..len).step_by(211) {
        let mut pair = hidden();
        pair.step(Client);
        pair.deliver(FIRST, Server, split);
        pair.drive();
        assert_eq!(pair.server().state(), State::Established, "split at {split}");
    }
}
