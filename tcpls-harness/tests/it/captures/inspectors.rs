//! What inspectors without keys say of joins, compared with what they say of resumptions of sessions between the same ends:
//! tshark, nDPI and Suricata, where they are installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tcpls_core::Side;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};
use tcpls_core::testing::{Pair, Setup, Tls, bytes, tls};

use super::tap::Tap;
use crate::support::Directory;

/// Captures of one TCP connection each.
struct Captures {
    resumption: Tap,
    join: Tap,
}

/// A session that resumes another one, and a join, with a request each.
fn captures(resumed_joins: bool, early_data: bool) -> Captures {
    let tls = Tls { resumed_joins, early_client: early_data, early_server: early_data, ..Tls::default() };
    let (client, server) = (tls.client(1), tls.server(2));
    session(&client, &server).drive();

    let (mut pair, mut resumption) = (session(&client, &server), Tap::default());
    if !early_data {
        resumption.run(&mut pair);
    }
    request(&mut pair);
    resumption.run(&mut pair);
    end(&mut pair, &mut resumption, 0);

    let (mut pair, mut join) = (session(&client, &server), Tap::default());
    pair.drive();
    join.run(&mut pair);
    pair.cut(tcpls_core::ConnectionId::FIRST);
    request(&mut pair);
    if early_data {
        pair.open_tcp()
    } else {
        pair.open_tcp_slowly()
    };
    join.run(&mut pair);
    end(&mut pair, &mut join, 1);
    join.keep_only(1);
    Captures { resumption, join }
}

fn session(client: &RustlsClient, server: &RustlsServer) -> Pair {
    Pair::new(Setup::default(), tls::start_client(client), server.handshake().unwrap())
}

fn request(pair: &mut Pair) {
    let stream = pair.open_stream(Side::Client);
    pair.submit(Side::Client, stream, &bytes(300));
}

fn end(pair: &mut Pair, tap: &mut Tap, number: usize) {
    pair.close(Side::Client, 0, b"");
    tap.run(pair);
    tap.fin(number, Side::Client);
    tap.fin(number, Side::Server);
}

fn is_installed(program: &str, version: &str) -> bool {
    let is_there = Command::new(program).arg(version).output().is_ok();
    if !is_there {
        eprintln!("skipped: {program} is not installed");
    }
    is_there
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes both captures to files; returns what `inspect` says of them, the resumption first.
fn inspect<T>(by: &str, captures: &Captures, inspect: impl Fn(&Path) -> T) -> [T; 2] {
    let directory = Directory::new(&format!("inspectors-{by}"));
    [("resumption", &captures.resumption), ("join", &captures.join)].map(|(name, tap)| {
        let file = directory.path().join(name);
        std::fs::write(&file, tap.pcap()).unwrap();
        inspect(&file)
    })
}

/// The versions, types and extensions of the handshake that tshark shows, and what it complains of.
fn tshark(file: &Path) -> (Vec<Vec<String>>, String) {
    let fields = [
        "tls.record.version",
        "tls.handshake.type",
        "tls.handshake.extension.type",
        "tls.handshake.extensions_alpn_str",
        "tls.handshake.extensions.supported_version",
        "tls.handshake.extensions_key_share_group",
        "tls.handshake.ciphersuite",
        "tls.handshake.session_ticket_length",
    ];
    let read = || {
        let mut command = Command::new("tshark");
        command.args(["-n", "-o", "tcp.check_checksum:false", "-r"]).arg(file);
        command
    };
    let hellos = fields.iter().flat_map(|field| ["-e", field]);
    let text = output(read().args(["-Y", "tls.handshake.type", "-T", "fields", "-E", "separator=|"]).args(hellos));
    // The order of extensions is random. How many records a packet has is not compared: the server of a session adds its Session
    // Parameters to its flight, the owner of a join has nothing to add.
    let sorted = |field: &str| {
        let mut values: Vec<&str> = field.split(',').collect();
        values.sort_unstable();
        values.dedup();
        values.join(",")
    };
    let shown = text.lines().map(|line| line.split('|').map(sorted).collect()).collect();
    let complaints =
        "(_ws.expert.severity >= \"Warning\" || _ws.malformed) || (tls && _ws.expert.severity >= \"Note\")";
    (shown, output(read().args(["-Y", complaints])))
}

#[test]
fn tshark_shows_joins_as_resumptions_and_flags_neither() {
    if !is_installed("tshark", "-v") {
        return;
    }
    for early_data in [false, true] {
        let [resumption, join] = inspect("tshark", &captures(true, early_data), tshark);
        assert_eq!(join.0, resumption.0);
        assert_eq!(join.0.len(), 2, "{:?}: two hellos", join.0);
        assert_eq!((resumption.1.as_str(), join.1.as_str()), ("", ""));
    }
    let [resumption, join] = inspect("tshark", &captures(false, true), tshark);
    assert_ne!(join.0, resumption.0, "a join in the draft's form has extensions of its own");
}

/// What nDPI says of the flow, but for addresses and amounts, and which risks it sees.
fn ndpi(file: &Path) -> (BTreeSet<String>, String) {
    let text = output(Command::new("ndpiReader").args(["-v", "2", "-i"]).arg(file));
    let flow = text.lines().find(|line| line.contains(":443 [")).unwrap_or_else(|| panic!("{text}"));
    let said: BTreeSet<String> = flow.split(['[', ']']).map(|part| part.trim().to_owned()).collect();
    let verdicts =
        ["proto:", "Encrypted", "Confidence", "cat:", "Hostname", "(Advertised)", "TLS", "JA3S", "Cipher", "Risk"];
    let verdict = |part: &String| verdicts.iter().any(|verdict| part.starts_with(verdict));
    let said: BTreeSet<String> = said.into_iter().filter(verdict).collect();
    let risks = said.iter().filter(|part| part.starts_with("Risk")).cloned().collect::<Vec<String>>().join("; ");
    (said, risks)
}

#[test]
fn ndpi_says_the_same_of_joins_and_resumptions_and_sees_no_risk() {
    if !is_installed("ndpiReader", "-h") {
        return;
    }
    for early_data in [false, true] {
        let [resumption, join] = inspect("ndpi", &captures(true, early_data), ndpi);
        assert_eq!(join.0, resumption.0);
        assert!(join.0.iter().any(|part| part.starts_with("proto: 91/TLS")), "{:?}", join.0);
        assert_eq!(join.1, "");
    }
    let [_, join] = inspect("ndpi", &captures(false, true), ndpi);
    assert!(join.1.contains("Suspicious Extension"), "{:?}: nDPI flags joins in the draft's form", join.1);
}

/// Where packages of Suricata have its rules about traffic that is not as its protocol demands.
const RULES: [&str; 2] = ["/etc/suricata/rules", "/usr/share/suricata/rules"];
/// What Suricata says of a flow, but for addresses, times, amounts, and the fingerprint of the client's hello: the order of
/// extensions is random.
const SAID: [&str; 8] = [
    "/event_type",
    "/app_proto",
    "/tls/sni",
    "/tls/version",
    "/tls/ja3s/hash",
    "/flow/state",
    "/flow/reason",
    "/flow/alerted",
];

/// What Suricata says of the flow, and its alerts.
fn suricata(rules: &str, file: &Path) -> (Vec<Vec<String>>, Vec<String>) {
    let directory = Directory::new("inspectors-suricata-log");
    let rules = ["app-layer", "decoder", "stream", "tls"]
        .map(|about| std::fs::read_to_string(format!("{rules}/{about}-events.rules")).unwrap())
        .concat();
    // The captures were taken where the kernel has not yet computed checksums.
    let rules: Vec<&str> = rules.lines().filter(|rule| !rule.contains("checksum")).collect();
    let rules_file = directory.path().join("rules");
    std::fs::write(&rules_file, rules.join("\n")).unwrap();
    let mut command = Command::new("suricata");
    command.args(["-k", "none", "--set", "app-layer.protocols.tls.ja3-fingerprints=yes"]);
    output(command.arg("-S").arg(&rules_file).arg("-l").arg(directory.path()).arg("-r").arg(file));
    let log = std::fs::read_to_string(directory.path().join("eve.json")).unwrap();
    let events: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = |event: &serde_json::Value| {
        SAID.iter().filter_map(|at| Some(format!("{at}: {}", event.pointer(at)?))).collect::<Vec<String>>()
    };
    let alerts = events.iter().filter_map(|event| Some(event.pointer("/alert/signature")?.to_string()));
    let of_flow = events.iter().filter(|event| event["event_type"] != "stats" && event["event_type"] != "alert");
    (of_flow.map(said).collect(), alerts.collect())
}

#[test]
fn suricata_says_the_same_of_joins_and_resumptions_and_raises_no_alert() {
    if !is_installed("suricata", "-V") {
        return;
    }
    let Some(rules) = RULES.into_iter().find(|rules| Path::new(rules).exists()) else {
        return eprintln!("skipped: Suricata's rules are not in {RULES:?}");
    };
    let say = |captures: &Captures| inspect("suricata", captures, |file| suricata(rules, file));
    for early_data in [false, true] {
        let [resumption, join] = say(&captures(true, early_data));
        assert_eq!(join, resumption);
        assert_eq!(
            join.0.iter().filter(|said| said.contains(&"/event_type: \"tls\"".to_owned())).count(),
            1,
            "{join:?}"
        );
        assert_eq!(join.1, [""; 0]);
    }
    let [resumption, join] = say(&captures(false, true));
    assert_ne!(join.0, resumption.0, "the fingerprint of the ServerHello of a join in the draft's form is its own");
}
