//! Tokens and keys are in no event of a trace and in no `Debug` output, in no notation.

use std::fmt::{Debug, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ::bytes::{Bytes, BytesMut};
use ring::hkdf;
use rustls::{CipherSuite, KeyLog};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::testing::{Recordings, seed};
use tcpls_core::trace::{Content, Event, Sink};
use tcpls_core::wire::frame::{Frame, NewToken};
use tcpls_core::wire::ids::{ConnectionId, Token};
use tcpls_core::{Endpoint, EndpointConfig, Incoming, Time, TokenSecret, TokenSecrets};

use crate::support::{Client, Pair, Server, Setup};

/// The token secret of the pair.
const SECRET: [u8; 32] = [0x5e; 32];
/// The application protocol.
const NAME: &[u8] = b"unheard-of";
/// Long enough to come up by chance in no text, short enough to find a part of a secret.
const PART: usize = 8;

/// Keeps every event at full verbosity, its frames one by one too.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

impl Sink for Everything {
    fn event(&mut self, now: Time, event: &Event<'_>) {
        let mut text = self.0.lock().unwrap();
        writeln!(text, "{now:?} {event:?}\n{event:#?}").unwrap();
        if let Event::RecordSent { content: Content::Frames(frames), .. }
        | Event::RecordReceived { content: Content::Frames(frames), .. } = event
        {
            frames.iter().for_each(|frame| writeln!(text, "{frame:?}").unwrap());
        }
    }
}

/// Keeps the secrets of a TLS session.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<Vec<u8>>>);

impl KeyLog for Secrets {
    fn log(&self, _label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push(secret.to_vec());
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446, 7.1) without context.
fn expand(secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]];
    let mut out = vec![0; len];
    let key = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret);
    key.expand(&info, Length(len)).unwrap().fill(&mut out).unwrap();
    out
}

/// A pair whose TLS secrets are known, and those.
fn logged(setup: Setup) -> (Pair, Arc<Secrets>) {
    let secrets = Arc::<Secrets>::default();
    let made = rcgen::generate_simple_self_signed(vec!["server.test".into()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let tls13 = &[&rustls::version::TLS13];
    let client = rustls::ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(tls13);
    let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    client.key_log = secrets.clone();
    let server = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(tls13);
    let server = server.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let client =
        RustlsClient::new(client.into(), &[NAME]).unwrap().handshake("server.test".try_into().unwrap()).unwrap();
    let server = RustlsServer::new(server.into(), &[NAME]).unwrap().handshake().unwrap();
    (Pair::new(setup, client, server), secrets)
}

/// The ways in which a text may show bytes.
fn notations(bytes: &[u8]) -> Vec<String> {
    let list = |text: String| text.trim_matches(['[', ']']).to_owned();
    let escaped = format!("{:?}", Bytes::copy_from_slice(bytes));
    vec![
        hex::encode(bytes),
        hex::encode_upper(bytes),
        list(format!("{bytes:?}")),
        list(format!("{bytes:02x?}")),
        list(format!("{bytes:02X?}")),
        list(format!("{bytes:#04x?}")),
        list(format!("{bytes:#?}")).trim().replace("    ", ""),
        escaped.trim_start_matches("b\"").trim_end_matches('"').to_owned(),
        String::from_utf8_lossy(bytes).into_owned(),
    ]
}

/// Panics if a part of a secret is in a text, whatever the indentation.
fn assert_absent(name: &str, secret: &[u8], text: &str) {
    for part in secret.windows(PART) {
        for notation in notations(part) {
            assert!(!text.contains(&notation), "{name} is shown as {notation}");
        }
    }
}

fn show(text: &mut String, value: &dyn Debug) {
    writeln!(text, "{value:?}\n{value:#?}").unwrap();
}

#[test]
fn no_token_and_no_key_is_shown_by_a_trace_or_a_debug_output() {
    let everything = Everything::default();
    let (mut pair, secrets) = logged(Setup::default());
    pair.client().set_trace(Some(Box::new(everything.clone())));
    pair.round();
    pair.server().set_trace(Some(Box::new(everything.clone())));
    pair.drive();
    let second = pair.join();
    let payload = b"stream data that no event contains";
    pair.transfer(Client, payload);
    pair.update_keys(Client);
    pair.update_keys(Server);
    pair.cut(ConnectionId::FIRST);
    pair.drive();
    pair.join();

    let session = pair.server().session_id().unwrap();
    let tokens: Vec<Token> = (1..=8).map(|sequence| TokenSecret::new(SECRET).seal(session, sequence)).collect();
    let hello = pair.wire()[1].0.to_vec();
    assert!(hello.windows(32).any(|bytes| bytes == tokens[0].0), "these are the session's tokens");
    assert!(secrets.0.lock().unwrap().len() >= 4, "the traffic secrets are known");

    let mut text = everything.0.lock().unwrap().clone();
    assert!(text.contains("NewToken") && text.contains("KeyUpdateSent") && text.contains("ClaimAccepted"));
    let stranger = Endpoint::new(EndpointConfig::default(), SECRET, seed(1));
    show(&mut text, &stranger);
    let mut door = stranger;
    let incoming = door.handle_accepted(Time::ZERO);
    let join = door.handle_bytes(Time::ZERO, incoming, &mut BytesMut::from(&hello[..]));
    assert!(matches!(join, Some(Incoming::Join(_))));
    show(&mut text, &join);
    show(&mut text, &TokenSecret::new(SECRET));
    show(&mut text, &TokenSecrets::new(SECRET).accepting([0x77; 32]));
    show(&mut text, &tokens);
    show(&mut text, &Frame::NewToken(NewToken { sequence: 1, token: tokens[0] }));
    show(&mut text, &seed(1));
    for side in [Client, Server] {
        show(&mut text, pair.conn(side));
        let stats = pair.conn(side).stats();
        show(&mut text, &stats);
        let second = pair.conn(side).tcp_stats(second);
        show(&mut text, &second);
        let events = pair.events(side).to_vec();
        show(&mut text, &events);
    }
    // Without the indentation of {:#?}, in which long lists would escape the search.
    let text = text.replace("    ", "");

    assert_absent("a secret of the endpoint", &SECRET, &text);
    assert_absent("stream data", payload, &text);
    tokens.iter().for_each(|token| assert_absent("a token", &token.0, &text));
    for secret in &*secrets.0.lock().unwrap() {
        assert_absent("a TLS secret", secret, &text);
        assert_absent("a key", &expand(secret, "key", 16), &text);
        assert_absent("an IV", &expand(secret, "iv", 12), &text);
        let next = expand(secret, "traffic upd", 32);
        assert_absent("a later TLS secret", &next, &text);
        assert_absent("a later key", &expand(&next, "key", 16), &text);
        assert_absent("a later IV", &expand(&next, "iv", 12), &text);
    }
}

/// Panics if a part of a secret is among the bytes.
fn assert_not_recorded(name: &str, secret: &[u8], file: &[u8]) {
    for part in secret.windows(PART.min(secret.len())) {
        assert!(!file.windows(part.len()).any(|bytes| bytes == part), "{name} is recorded: {part:02x?}");
    }
}

#[test]
fn no_key_token_name_address_or_data_is_in_a_recording() {
    let recordings = Recordings::redacted();
    let (mut pair, secrets) = logged(Setup { recordings: Some(recordings.clone()), ..Setup::default() });
    pair.drive();
    pair.join();
    let payload = b"stream data that no recording contains";
    pair.transfer(Client, payload);
    pair.update_keys(Client);
    pair.update_keys(Server);
    pair.transfer(Server, payload);
    let addresses: [SocketAddr; 2] =
        ["203.0.113.119:47215".parse().unwrap(), "[fd5a:9c21::77:81]:47215".parse().unwrap()];
    pair.client().set_tcp_addresses(ConnectionId(1), Some(addresses[0]), Some(addresses[1]));
    addresses.iter().for_each(|address| _ = pair.server().advertise(*address).unwrap());
    pair.client().send_tcp_option(254, b"the value of an option").unwrap();
    pair.drive();
    pair.cut(ConnectionId::FIRST);
    pair.drive();
    pair.join();
    let session = pair.server().session_id().unwrap();
    let certificate = pair.client().peer_certificates()[0].clone();
    let hellos: Vec<Vec<u8>> = pair
        .wire()
        .iter()
        .flat_map(|(up, down)| [up[..up.len().min(500)].to_vec(), down[..down.len().min(400)].to_vec()])
        .collect();
    pair.close(Server, 3, b"the reason of the close");
    pair.drive();
    drop(pair);
    recordings.check();
    let file = recordings.file();

    assert_not_recorded("a secret of the endpoint", &SECRET, &file);
    for (name, text) in [("data", &payload[..]), ("a name", b"server.test"), ("a protocol", NAME)] {
        assert_not_recorded(name, text, &file);
    }
    assert_not_recorded("an option", b"the value of an option", &file);
    assert_not_recorded("a reason", b"the reason of the close", &file);
    assert_not_recorded("a session ID", &session.0, &file);
    assert_not_recorded("a certificate", &certificate, &file);
    assert_not_recorded("an address", &[203, 0, 113, 119], &file);
    assert_not_recorded("an address", &[0xfd, 0x5a, 0x9c, 0x21, 0, 0, 0, 0], &file);
    for hello in hellos.iter().filter(|hello| hello.len() > 43) {
        assert_not_recorded("a random number", &hello[11..43], &file);
    }
    for sequence in 1..=12 {
        assert_not_recorded("a token", &TokenSecret::new(SECRET).seal(session, sequence).0, &file);
    }
    for secret in &*secrets.0.lock().unwrap() {
        assert_not_recorded("a TLS secret", secret, &file);
        assert_not_recorded("a key", &expand(secret, "key", 16), &file);
        assert_not_recorded("an IV", &expand(secret, "iv", 12), &file);
    }
}

#[test]
fn search_for_secrets_finds_them_in_every_notation() {
    let secret: Vec<u8> = (0xc0..0xe0).collect();
    for notation in notations(&secret[5..5 + PART]) {
        let found = std::panic::catch_unwind(|| assert_absent("it", &secret, &format!("[{notation}]")));
        assert!(found.is_err(), "{notation}");
    }
}
