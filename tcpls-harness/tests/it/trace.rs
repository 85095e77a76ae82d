//! Traces as JSON lines: what is in them, and what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, KeyLog, RootCertStore};
use serde_json::Value;
use tcpls_core::connection::JoinOptions;
use tcpls_core::crypto::rustls::RustlsClient;
use tcpls_core::testing::{Pair, Setup};
use tcpls_core::trace::{Event, Limit, Sink};
use tcpls_core::wire::frame::{Frame, Frames};
use tcpls_core::{ConnectionId, Side, Time};
use tcpls_harness::sim::{RunOptions, Scenario, run};
use tcpls_harness::tls::Identity;
use tcpls_harness::trace::JsonLines;
use tcpls_harness::trace::qlog::{Header, JsonSeq};

use crate::support::Lines;

const SIDES: [Side; 2] = [Side::Client, Side::Server];

fn page(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `RecordSent` as `record-sent`.
fn kebab(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// The events of the table in `docs/trace.md`, as lines name them, with their fields.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let page = page("trace.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        (kebab(&quoted(cells[0])[0]), quoted(cells[2]).into_iter().collect())
    };
    rows.map(row).collect()
}

fn fields(line: &Value) -> BTreeSet<String> {
    let names = line.as_object().unwrap().keys().cloned();
    names.filter(|name| !["t", "at", "session", "what"].contains(&name.as_str())).collect()
}

/// What sessions of the scenarios that are shipped report.
fn traced(names: &[&str]) -> Vec<Value> {
    let mut all = Vec::new();
    for name in names {
        let file = format!("{}/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        all.extend(lines_of(&std::fs::read_to_string(file).unwrap()));
    }
    all
}

fn lines_of(scenario: &str) -> Vec<Value> {
    let lines = Lines::default();
    run(
        &Scenario::parse(scenario).unwrap(),
        1,
        RunOptions { trace: Some(Box::new(lines.clone())), hash: false, ..RunOptions::default() },
    );
    parsed(&lines.text())
}

/// What a client with early data and its server report, which accepts it or rejects it.
fn early() -> Vec<Value> {
    let text = "title = 't'\npath = [{ name = 'a', delay = '50ms' }]\ntransfer = [{ send = '300B', receive = '10kB' }]";
    let outcomes = ["accepted", "rejected"];
    outcomes.iter().flat_map(|outcome| lines_of(&format!("early-data = '{outcome}'\n{text}"))).collect()
}

/// The lines of a session whose server refuses a claim because it ends, with a text that is not for traces.
fn refused_claim() -> Vec<Value> {
    let lines = Lines::default();
    let mut pair = Setup { tls: None, ..Setup::default() }.established();
    for side in SIDES {
        pair.conn(side).set_trace(Some(Box::new(JsonLines::new(lines.clone()))));
    }
    let claim = pair.open_tcp_with(JoinOptions::default());
    pair.step(Side::Client);
    pair.deliver(claim, Side::Server, usize::MAX);
    pair.close(Side::Server, 7, b"a text for the peer");
    pair.drive_for(Duration::from_secs(30));
    parsed(&lines.text())
}

/// The lines of both ends of a session that its server drains.
fn drained() -> Vec<Value> {
    let lines = Lines::default();
    let mut pair = Setup { tls: None, ..Setup::default() }.established();
    for side in SIDES {
        pair.conn(side).set_trace(Some(Box::new(JsonLines::new(lines.clone()))));
    }
    let now = pair.now;
    pair.server().drain(now, Duration::from_secs(1));
    pair.drive_for(Duration::from_secs(3));
    parsed(&lines.text())
}

#[test]
fn lines_have_the_fields_of_the_table_for_every_event() {
    let lines = Lines::default();
    let mut sink = JsonLines::new(lines.clone());
    sink.event(Time::ZERO, &Event::LimitReached { limit: Limit::BadRecord, tcp: None });
    sink.event(Time::ZERO, &Event::Probed { tcp: ConnectionId::FIRST });
    sink.event(Time::ZERO, &Event::LaneDeclared { tcp: ConnectionId::FIRST });
    let table = table();
    let mut seen = BTreeSet::new();
    let mut all = [parsed(&lines.text()), refused_claim(), drained(), early()].concat();
    all.extend(traced(&["two-outages", "migration", "tls-aware-box"]));
    for line in &all {
        let name = line["what"].as_str().unwrap();
        if let Some(expected) = table.get(name) {
            assert_eq!(&fields(line), expected, "{line}");
            seen.insert(name);
        }
    }
    let missing: Vec<&String> = table.keys().filter(|name| !seen.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The ways in which a line could show bytes: as text, in hexadecimal, as numbers.
fn shown(bytes: &[u8]) -> [String; 4] {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [String::from_utf8_lossy(bytes).into_owned(), hex.to_uppercase(), hex, numbers.join(",")]
}

/// Keeps the secrets of TLS.
#[derive(Clone, Debug, Default)]
struct Secrets(Arc<Mutex<Vec<Vec<u8>>>>);

impl KeyLog for Secrets {
    fn log(&self, _label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push(secret.to_vec());
    }
}

#[test]
fn no_line_shows_stream_data_a_token_or_a_key() {
    let sink = |lines: Lines, _: Side| Box::new(JsonLines::new(lines)) as Box<dyn Sink>;
    shows_no_secret(sink, &["stream", "new-token", "key-update-sent", "closed"]);
}

#[test]
fn no_qlog_record_shows_stream_data_a_token_or_a_key() {
    let sink = |lines: Lines, side| Box::new(JsonSeq::new(lines, &Header::new(side, Time::ZERO))) as Box<dyn Sink>;
    shows_no_secret(sink, &["stream", "new_token", "key_update_sent", "closed"]);
}

/// Searches what a sink writes for the secrets of sessions. It must contain the names, which show that it wrote something.
fn shows_no_secret(sink: impl Fn(Lines, Side) -> Box<dyn Sink>, names: &[&str]) {
    let data = b"what was written to a stream";
    let (lines, secrets) = (Lines::default(), Secrets::default());
    // Null crypto leaves tokens readable on the wire; TLS has secrets.
    let identity = Identity::self_signed(&["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(identity.certificate_pem().as_bytes()).unwrap()).unwrap();
    // Named, because with both crypto libraries built in rustls has no default.
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.key_log = Arc::new(secrets.clone());
    let client = RustlsClient::new(Arc::new(config), &[b"test"]).unwrap();
    let client = client.handshake("localhost".try_into().unwrap()).unwrap();
    let server = identity.server(&[b"test"]).unwrap().handshake().unwrap();
    let mut tls = Pair::new(Setup::default(), client, server);
    let mut null = Setup { tls: None, ..Setup::default() }.start();
    for pair in [&mut tls, &mut null] {
        pair.client().set_trace(Some(sink(lines.clone(), Side::Client)));
        pair.round();
        pair.server().set_trace(Some(sink(lines.clone(), Side::Server)));
        pair.drive();
        pair.join();
        pair.transfer(Side::Client, data);
        pair.update_keys(Side::Client);
        pair.transfer(Side::Server, data);
        pair.close(Side::Server, 7, data);
        pair.drive();
    }
    let text = lines.text();
    assert!(names.iter().all(|name| text.contains(name)));
    let (secrets, tokens) = (secrets.0.lock().unwrap().clone(), tokens(&null));
    assert!(secrets.len() >= 4 && tokens.len() >= 2, "{} secrets, {} tokens", secrets.len(), tokens.len());
    for secret in secrets.iter().chain(&tokens).map(Vec::as_slice).chain([&data[..]]) {
        for part in secret.windows(8).flat_map(shown) {
            let line = text.lines().find(|line| line.contains(&part));
            assert!(line.is_none(), "{part} in {}", line.unwrap_or_default());
        }
    }
}

/// The tokens that the server of a pair with null crypto has sent.
fn tokens(pair: &Pair) -> Vec<Vec<u8>> {
    let mut tokens = Vec::new();
    for (_, down) in pair.wire() {
        let mut rest = down;
        while let [ty, _, _, high, low, more @ ..] = rest {
            let (body, next) = more.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            rest = next;
            let Some((content, _tag)) = body.split_last_chunk::<16>().filter(|_| *ty == 23) else { continue };
            let last = content.iter().rposition(|byte| *byte != 0).unwrap();
            for frame in Frames::new(&content[..last]).flatten() {
                if let Frame::NewToken(new) = frame {
                    tokens.push(new.token.0.to_vec());
                }
            }
        }
    }
    tokens
}
