//! Pins threads to cores. Sender and receiver each have one, so that they neither share nor migrate.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps the calling thread on the `index`-th of the cores that the process may use; with fewer cores, on the last. A system
/// that does not allow it goes without.
pub fn pin(index: usize) {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return };
    let cores: Vec<usize> = (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
    let Some(&core) = cores.get(index.min(cores.len().saturating_sub(1))) else { return };
    let mut only = CpuSet::new();
    if only.set(core).is_ok() {
        _ = sched_setaffinity(Pid::from_raw(0), &only);
    }
}
