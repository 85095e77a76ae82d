//! Captures of packets and key logs as any bytes: what is decrypted is written as a capture that can be read.

use std::ops::ControlFlow;

use tcpls_harness::capture::{KeyLog, PduWriter, Record, decrypt};

/// The secrets of the session that the corpus has captures of.
const KEY_LOG: &[u8] = include_bytes!("../testdata/capture.keys");

/// The target `capture`: the first byte selects what the others are.
pub fn capture(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, key_log)) => _ = KeyLog::parse(key_log),
        Some((_, capture)) => decrypted(capture),
        None => {}
    }
}

fn decrypted(capture: &[u8]) {
    let key_log = KeyLog::parse(KEY_LOG).expect("it has secrets");
    let mut out = PduWriter::new(Vec::new()).expect("memory can be written");
    let mut records = 0;
    let summary = decrypt(capture, &key_log, |record| {
        check(record);
        out.write(record).expect("memory can be written");
        records += 1;
        ControlFlow::Continue(())
    });
    let Ok(summary) = summary else { return };
    assert_eq!(summary.records, records);
    assert!(u64::from(summary.sessions) <= records && summary.tcp_connections <= summary.packets);
    // A record needs 22 bytes besides its content.
    assert!(records <= capture.len() as u64 / 22);
    let out = out.finish().expect("memory can be written");
    let written = decrypt(&out[..], &key_log, |_| ControlFlow::Continue(())).expect("a capture was written");
    assert_eq!((written.packets, written.is_cut), (records, false));
}

fn check(record: &Record<'_>) {
    assert!(record.content.len() <= (1 << 14) + 256);
    assert!(record.generation <= record.number.unwrap_or(0) as u32 || record.tcp.0 > 0);
    let line = record.to_string();
    assert!(!line.contains('\n') && line.starts_with(|first: char| first.is_ascii_digit()), "{line}");
}
