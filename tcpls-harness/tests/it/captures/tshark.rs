//! What tshark shows of a decrypted capture with the dissector of the docs, where tshark is installed.

use std::collections::BTreeSet;
use std::process::Command;

use tcpls_core::testing::Tls;

use super::{run, two_paths};
use crate::support::Directory;

/// The lines that tshark prints for a filter: the values of fields, separated by `|`.
fn tshark(file: &std::path::Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wireshark/tcpls.lua");
    let mut command = Command::new("tshark");
    command.args(["-X", &format!("lua_script:{script}"), "-r"]).arg(file).args(["-Y", filter, "-T", "fields"]);
    command.args(["-E", "separator=|"]).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !error.contains("Lua"), "{error}");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn dissector_is_short_and_names_every_frame() {
    let script = include_str!("../../../../docs/wireshark/tcpls.lua");
    assert!(script.lines().count() <= 150);
    let page = include_str!("../../../../docs/protocol.md");
    let types = page.lines().filter_map(|line| line.strip_prefix("| 0x")?.split(" | ").next());
    let types: BTreeSet<&str> = types.flat_map(|types| types.split(", 0x")).filter(|ty| ty.len() == 2).collect();
    assert!(types.len() >= 25, "{types:?}");
    for ty in types {
        assert!(script.contains(&format!("[0x{ty}] = \"")), "0x{ty} has no name");
    }
}

#[test]
fn tshark_shows_and_filters_frames_of_a_decrypted_capture() {
    if Command::new("tshark").arg("-v").output().is_err() {
        eprintln!("skipped: tshark is not installed");
        return;
    }
    let directory = Directory::new("tshark");
    let (capture, key_log, out) =
        (directory.path().join("in.pcap"), directory.path().join("keys"), directory.path().join("out.pcapng"));
    let (tap, secrets, _) = two_paths(Tls::default());
    std::fs::write(&capture, tap.pcap()).unwrap();
    std::fs::write(&key_log, secrets.text()).unwrap();
    let mut decrypt = Command::new(env!("CARGO_BIN_EXE_tcpls"));
    decrypt.arg("decrypt").arg(&capture).arg("--keylog").arg(&key_log).arg("-o").arg(&out);
    let output = decrypt.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (found, _) = run(&tap.pcap(), &secrets.text());
    let all = tshark(&out, "tcpls", &["tcpls.tcp", "tcpls.sender", "tcpls.record_number", "tcpls.key_generation"]);
    let expected: Vec<String> = found
        .iter()
        .map(|record| {
            let number = record.number.unwrap();
            format!("{}|{}|{number}|{}", record.tcp, record.sender as u8, record.generation)
        })
        .collect();
    assert_eq!(all, expected);
    assert_eq!(tshark(&out, "tcpls.malformed", &["frame.number"]), [""; 0]);

    // Streams over both TCP connections, with their ends.
    let offsets = tshark(&out, "tcpls.stream_id == 1 && tcpls.sender == 1", &["tcpls.tcp", "tcpls.fin"]);
    let tcps: BTreeSet<&str> = offsets.iter().map(|line| line.split('|').next().unwrap()).collect();
    assert!(tcps.len() >= 2, "{offsets:?}");
    let fin = tshark(&out, "tcpls.stream_id == 1 && tcpls.fin == 1", &["ip.src", "tcp.port"]);
    assert!(!fin.is_empty(), "stream 1 has no end");
    let lengths = tshark(&out, "tcpls.stream_id == 0 && tcpls.sender == 0", &["tcpls.length"]);
    let sum: u32 = lengths.iter().flat_map(|line| line.split(',')).map(|len| len.parse::<u32>().unwrap()).sum();
    assert!(sum >= 60_000, "{sum}");
    // Tokens, the loss, and the end.
    let tokens = tshark(&out, "tcpls.token && tcpls.tcp == 0 && tcpls.record_number == 0", &["tcpls.token_sequence"]);
    assert_eq!(tokens, ["4,3,2,1"]);
    let lost = tshark(&out, "tcpls.frame_type == 0x49", &["tcpls.about_tcp", "tcpls.reason"]);
    assert!(lost.contains(&"0|1".to_owned()), "{lost:?}");
    assert!(!tshark(&out, "tcpls.alert == 0", &["tcpls.tcp"]).is_empty());
    assert!(!tshark(&out, "tcpls.handshake_type == 24", &["tcpls.tcp"]).is_empty());
}
