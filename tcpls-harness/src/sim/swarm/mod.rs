//! The swarm: random scenarios by the thousand. Each seed gives one scenario and one run of it. A failing scenario is
//! reduced until nothing can be left out, and can then be saved as a scenario file.

mod extras;
mod generate;
mod minimise;
mod save;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tcpls_core::testing::Recordings;

pub use self::generate::{Mode, generate};
pub use self::minimise::minimise;
pub use self::save::{Saved, save};
use crate::sim::report::{Report, SessionReport};
use crate::sim::scenario::{Scenario, Transport};
use crate::sim::world::{RunOptions, run};

/// The outcome of one seed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// How its scenario was made.
    pub mode: Mode,
    /// What was wrong, or which goals were missed.
    pub what: Vec<String>,
}

/// The outcome of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Virtual seconds.
    pub seconds: f64,
    /// Bytes that applications read.
    pub bytes: u64,
    /// TCP connections that were made.
    pub tcps: u64,
    /// Sessions whose client had no token left when all TCP connections were lost: see [`SessionReport::starved`]. They count as failures only if anything else is wrong.
    pub starved: u64,
    /// Sessions of servers that gave way to others. Those of clients count as failures only if anything else is wrong.
    pub evicted: u64,
    /// Runs that failed, by seed.
    pub failures: Vec<Failure>,
}

/// Returns the errors of a run; a panic is an error, too.
pub fn faults_of(scenario: &Scenario, seed: u64) -> Vec<String> {
    try_run(scenario, seed, None).1
}

/// Runs a scenario, and returns the recordings of its sessions as a file.
pub fn record(scenario: &Scenario, seed: u64) -> Vec<u8> {
    let recordings = Recordings::redacted();
    _ = try_run(scenario, seed, Some(&recordings));
    recordings.file()
}

/// Runs a scenario; a replay of its sessions that differs is an error, too.
fn run_and_replay(scenario: &Scenario, seed: u64) -> (Option<Report>, Vec<String>) {
    let recordings = Recordings::redacted();
    let (report, mut what) = try_run(scenario, seed, Some(&recordings));
    if report.is_some() {
        what.extend(recordings.replay().err());
    }
    (report, what)
}

fn try_run(scenario: &Scenario, seed: u64, recordings: Option<&Recordings>) -> (Option<Report>, Vec<String>) {
    let options = RunOptions { hash: false, recordings: recordings.cloned(), ..RunOptions::default() };
    match catch_unwind(AssertUnwindSafe(|| run(scenario, seed, options))) {
        Ok(report) => {
            let packets = scenario.transport == Transport::Packets;
            let bounded = scenario.bounds.is_set();
            let hopeless = |session: &&SessionReport| {
                session.starved || session.evicted || (!session.began && (packets || bounded))
            };
            let missed =
                report.sessions.iter().filter(|session| !hopeless(session)).flat_map(|session| &session.missed);
            let what = report.wrong.iter().chain(missed).cloned().collect();
            (Some(report), what)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (None, vec![format!("panic: {}", text.unwrap_or_default())])
        }
    }
}

/// Runs all `seeds` in all `modes` on `jobs` threads. The outcome does not depend on their number.
pub fn swarm(seeds: std::ops::Range<u64>, modes: &[Mode], jobs: usize) -> Tally {
    run_all(seeds, modes, jobs, &|scenario, seed| try_run(scenario, seed, None))
}

/// Does the same, records all sessions, and replays them: a difference is a failure.
pub fn replayed_swarm(seeds: std::ops::Range<u64>, modes: &[Mode], jobs: usize) -> Tally {
    run_all(seeds, modes, jobs, &run_and_replay)
}

type RunOne = dyn Fn(&Scenario, u64) -> (Option<Report>, Vec<String>) + Sync;

fn run_all(seeds: std::ops::Range<u64>, modes: &[Mode], jobs: usize, run_one: &RunOne) -> Tally {
    let (next, tally) = (AtomicU64::new(seeds.start), Mutex::new(Tally::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            for mode in modes {
                let (report, what) = run_one(&generate(seed, *mode), seed);
                let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                tally.count(report.as_ref());
                if !what.is_empty() {
                    tally.failures.push(Failure { seed, mode: *mode, what });
                }
            }
        }
    };
    std::thread::scope(|scope| (0..jobs.max(1)).for_each(|_| _ = scope.spawn(work)));
    let mut tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    tally.failures.sort_by_key(|failure| (failure.seed, failure.mode));
    tally
}

impl Tally {
    fn count(&mut self, report: Option<&Report>) {
        self.runs += 1;
        if let Some(report) = report {
            self.seconds += report.ended;
            self.evicted += report.evicted as u64;
            for session in &report.sessions {
                self.starved += u64::from(session.starved);
                self.bytes += session.transfers.iter().flat_map(|transfer| transfer.read).sum::<u64>();
                self.tcps += session.tcp[0].len() as u64;
            }
        }
    }
}
