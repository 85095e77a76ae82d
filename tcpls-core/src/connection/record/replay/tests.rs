//! Where a replay differs, and files from anyone.

use super::super::format::{BLOCK_HEADER, Put, file_header, seal_block};
use super::super::item::items;
use super::*;
use crate::testing::recordings::{entries_of, file_of};
use crate::testing::{Pair, Recordings, Setup, bytes};
use crate::wire::ids::Side;

fn recorded() -> Vec<u8> {
    let recordings = Recordings::redacted();
    let setup = Setup { tls: None, recordings: Some(recordings.clone()), ..Setup::default() };
    let mut pair: Pair = setup.established();
    pair.join();
    pair.transfer(Side::Client, &bytes(60_000));
    drop(pair);
    recordings.file()
}

fn replay(file: &[u8]) -> Result<u64, ReplayError> {
    let recording = Recording::read(file).map_err(ReplayError::Format)?;
    let (mut replay, mut calls) = (Replay::new(&recording.sessions()[0]), 0);
    while let Some(step) = replay.step()? {
        calls = step.number() + 1;
    }
    Ok(calls)
}

/// The entries of the first session in the file, one by one.
fn entries(file: &[u8]) -> Vec<Vec<u8>> {
    let mut get = Get::new(entries_of(file));
    let mut all = Vec::new();
    while !get.is_empty() {
        all.push(get.bytes().unwrap().to_vec());
    }
    all
}

fn joined(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    entries.iter().for_each(|entry| out.bytes(entry));
    file_of(&out, false)
}

/// The number of the first call that this is true of, and its items.
fn find(entries: &[Vec<u8>], is: impl Fn(&[Item]) -> bool) -> usize {
    let mut clock = Time::ZERO;
    entries
        .iter()
        .position(|entry| {
            let (items, after) = items(entry, clock).unwrap();
            clock = after;
            is(&items)
        })
        .expect("there is one")
}

#[test]
fn the_first_difference_is_reported_with_its_call_and_both_sides() {
    let mut entries = entries(&recorded());
    assert_eq!(replay(&joined(&entries)).unwrap(), entries.len() as u64);
    // The last byte of an entry that ends with the number of bytes that were returned.
    let at = find(&entries, |items| {
        matches!(items, [Item::PollTransmit { .. }, .., Item::Sent { .. }, Item::Returned { .. }])
    });
    let last = entries[at].last_mut().unwrap();
    *last ^= 1;
    let Err(ReplayError::Difference(difference)) = replay(&joined(&entries)) else { panic!("no difference") };
    assert_eq!(difference.entry, at as u64);
    assert!(difference.call.contains("PollTransmit"), "{difference}");
    assert!(difference.before.iter().any(|item| item.contains("sends record")), "{difference}");
    let (recorded, replayed) = (difference.recorded.clone().unwrap(), difference.replayed.clone().unwrap());
    assert!(recorded.starts_with("returned") && replayed.starts_with("returned") && recorded != replayed);
    assert!(difference.to_string().contains(&format!("call #{at}")));
}

#[test]
fn a_call_that_is_left_out_is_a_difference_further_on() {
    let mut entries = entries(&recorded());
    let at = find(&entries, |items| matches!(items.first(), Some(Item::OpenStream {})));
    entries.remove(at);
    let Err(ReplayError::Difference(difference)) = replay(&joined(&entries)) else { panic!("no difference") };
    assert!(difference.entry >= at as u64);
}

#[test]
fn a_recording_of_another_version_is_refused_with_its_release() {
    let mut file = recorded();
    file[9] = 2;
    assert_eq!(Recording::read(&file).err(), Some(FormatError::Checksum { at: 0 }));
}

#[test]
fn entries_that_no_recorder_writes_are_errors() {
    let real = entries(&recorded());
    let cases: [(&str, Vec<Vec<u8>>); 4] = [
        ("it is empty", vec![Vec::new()]),
        ("the recording does not begin with its session", real[1..].to_vec()),
        ("unknown item", vec![vec![0xff]]),
        ("it does not begin with a call", vec![real[0].clone(), vec![0x41]]),
    ];
    for (expected, entries) in cases {
        let error = replay(&joined(&entries)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, not {expected}");
    }
}

#[test]
fn a_length_that_a_hostile_file_claims_is_not_allocated() {
    let real = entries(&recorded());
    let mut entry = vec![0x03, 0]; // HandleBytes
    entry.number(0);
    entry.number(1 << 50);
    let error = replay(&joined(&[real[0].clone(), entry])).unwrap_err();
    assert!(error.to_string().contains("longer than 64 MiB"), "{error}");
}

#[test]
fn blocks_of_several_sessions_may_alternate() {
    let file = recorded();
    let entries = entries(&file);
    let half = entries.len() / 2;
    let block = |session: u32, mark: u8, part: &[Vec<u8>]| {
        let mut block = vec![0; BLOCK_HEADER];
        part.iter().for_each(|entry| block.bytes(entry));
        seal_block(&mut block, session, mark);
        block
    };
    let parts = [
        file_header(false),
        block(7, 0, &entries[..half]),
        block(2, 0, &entries[..half]),
        block(7, 2, &entries[half..]),
        block(2, 1, &entries[half..]),
    ];
    let file = parts.concat();
    let recording = Recording::read(&file).unwrap();
    let [two, seven] = recording.sessions() else { panic!("two sessions") };
    assert_eq!((two.number(), seven.number()), (2, 7));
    assert_eq!((two.mark(), seven.mark()), (Some(super::super::Mark::Complete), Some(super::super::Mark::Limit)));
    assert_eq!(replay(&file).unwrap(), entries.len() as u64);
}
