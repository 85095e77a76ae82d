//! A recording from anyone: reading and replaying it ends, without a panic, in an error or at its end.
//!
//! The first byte of the input says what follows: a whole file, or the entries of one session, which get a header and a
//! checksum here because a fuzzer would not find it.

use tcpls_core::record::replay::{Recording, Replay};
use tcpls_core::testing::recordings::file_of;

/// Calls of a recording that are made at most: each costs little, but a fuzzer waits for all.
const MAX_CALLS: u64 = 4000;

/// The target `replay`: see above.
pub fn replay(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else { return };
    let file = match first & 3 {
        0 => rest.to_vec(),
        1 => file_of(rest, true),
        _ => file_of(rest, false),
    };
    let Ok(recording) = Recording::read(&file) else { return };
    for session in recording.sessions() {
        let mut replay = Replay::new(session);
        while let Ok(Some(step)) = replay.step() {
            assert!(!step.to_string().is_empty());
            if step.number() >= MAX_CALLS {
                break;
            }
        }
    }
}
