//! Measures while nothing else disturbs: labs take turns, and what load on the machine disturbed is measured again.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::Outcome;

/// Locked by the lab that measures.
const LOCK: &str = "tcpls-lab.lock";
/// How often a lab looks whether it is its turn.
const TURN: Duration = Duration::from_millis(100);
/// How often a run is tried if the machine is too busy with other things.
const TRIES: u32 = 4;

/// Returns what is set once a signal asks this process to end, so that it can clean up.
pub(crate) fn interruption() -> Outcome<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

/// Runs `once`, and repeats it, regardless of its outcome, if load on the machine disturbed it. The last attempt always
/// counts.
pub(crate) fn measure<T>(
    interrupted: &AtomicBool,
    once: impl Fn() -> Outcome<T>,
    was_disturbed: impl Fn(&T) -> bool,
    name: impl Fn(&T) -> String,
) -> Outcome<T> {
    for _ in 1..TRIES {
        let done = alone(interrupted, &once)?;
        if !was_disturbed(&done) {
            return Ok(done);
        }
        eprintln!("{} (disturbed: once more)", name(&done));
    }
    alone(interrupted, once)
}

/// Waits until no other lab measures on this machine: they take turns.
fn alone<T>(interrupted: &AtomicBool, once: impl Fn() -> Outcome<T>) -> Outcome<T> {
    let file = File::options().append(true).create(true).open(std::env::temp_dir().join(LOCK))?;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        std::thread::sleep(TURN);
    }
    let done = once();
    // Closing the file releases the lock; other labs get time to notice.
    drop(file);
    std::thread::sleep(2 * TURN);
    done
}
