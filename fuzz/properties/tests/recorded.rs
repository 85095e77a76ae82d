//! Inputs of fuzz targets become recordings, as those that fail do, and these replay.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tcpls_core::record::replay::{Recording, Replay, ReplayError};
use tcpls_core::testing::recordings::{entries_of, file_of};

/// The inputs of a target, in order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("a file").path()).collect();
    inputs.sort();
    inputs
}

/// Runs an input in a process of its own, and returns the recording that it leaves.
fn recorded(target: &str, input: &Path) -> Vec<u8> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{}.tcplsrec", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpls-fuzz-properties"));
    command.arg(target).arg(input).env("TCPLS_RECORDING", &file).env("TCPLS_RECORDING_ALWAYS", "1");
    let output = command.env_remove("TCPLS_REPLAY").output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let recording = fs::read(&file).expect("it is written");
    fs::remove_file(&file).expect("it exists");
    recording
}

/// The calls of all sessions.
fn replay(file: &[u8], calls: &mut BTreeSet<String>) -> Result<usize, ReplayError> {
    let recording = Recording::read(file).map_err(ReplayError::Format)?;
    assert_eq!(recording.damage(), None);
    let mut made = 0;
    for session in recording.sessions() {
        let mut replay = Replay::new(session);
        while let Some(step) = replay.step()? {
            made += 1;
            calls.insert(step.call().split([' ', '(', '{']).next().unwrap_or_default().to_owned());
        }
    }
    Ok(made)
}

#[test]
fn input_of_each_target_with_sessions_becomes_a_recording_that_replays() {
    let mut calls = BTreeSet::new();
    for target in ["acks", "bytes", "early", "joins", "ops", "reassembly"] {
        let inputs = corpus(target);
        for input in inputs.iter().step_by(inputs.len().div_ceil(2)) {
            let made = replay(&recorded(target, input), &mut calls);
            let made = made.unwrap_or_else(|error| panic!("{}: {error}", input.display()));
            assert!(made > 2, "{}: {made} calls", input.display());
        }
    }
    // From the handshake of a join to the end: what is recorded of a session is not only its beginning.
    for call in ["Client", "Server", "HandleJoin", "HandleClaimBytes", "HandleTimeout", "WriteChunk", "Read", "Close"] {
        assert!(calls.contains(call), "{call}: {calls:?}");
    }
}

/// The number of the entry in which each byte is.
fn numbers(entries: &[u8]) -> Vec<u64> {
    let (mut numbers, mut number) = (Vec::new(), 0);
    while numbers.len() < entries.len() {
        let rest = &entries[numbers.len()..];
        let length = rest.iter().position(|byte| byte & 0x80 == 0).expect("a length") + 1;
        let body = rest[..length].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
        numbers.resize(numbers.len() + length + body, number);
        number += 1;
    }
    numbers
}

#[test]
fn changes_of_a_recording_of_an_input_are_reported_where_they_are_or_behind() {
    let file = recorded("early", &corpus("early")[0]);
    let entries = entries_of(&file);
    let numbers = numbers(entries);
    let whole = replay(&file_of(entries, false), &mut BTreeSet::new());
    assert_eq!(whole, Ok(numbers.last().map_or(0, |last| *last as usize + 1)));
    let mut differences = 0;
    for (at, number) in numbers.into_iter().enumerate() {
        let mut changed = entries.to_vec();
        changed[at] ^= 1;
        // Some arguments do not matter to the session, and some bytes are no value of their item.
        let Err(ReplayError::Difference(difference)) = replay(&file_of(&changed, false), &mut BTreeSet::new()) else {
            continue;
        };
        assert!(difference.entry >= number && difference.recorded != difference.replayed, "{at}: {difference}");
        differences += 1;
    }
    assert!(differences > entries.len() / 2, "{differences} of {}", entries.len());
}
