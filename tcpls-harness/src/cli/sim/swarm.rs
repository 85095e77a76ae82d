//! `tcpls sim swarm`: random scenarios, by the thousand.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;

use super::super::files::make_directory;
use super::super::units::size;
use super::super::{Outcome, output};
use crate::sim::swarm::{Mode, generate, replayed_swarm, save, swarm};

/// Where failing scenarios are written unless the command line says where.
const DIRECTORY: &str = "swarm-failures";

/// What to run.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seeds from A to B, without B
    #[arg(long, value_name = "A..B", value_parser = range)]
    seeds: Range<u64>,
    /// What each run must satisfy
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// Runs in parallel. Default: one for each processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print the scenario of each seed instead of running it
    #[arg(long)]
    print: bool,
    /// Write up to three failing scenarios, reduced, to this directory, and beside each what its sessions recorded, for
    /// "tcpls replay"; created if it does not exist. Default: swarm-failures, if anything fails
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Record all sessions and replay them; a replay that differs counts as a failure
    #[arg(long)]
    replay: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Modes {
    /// Anything may fail at any time: what is delivered is correct
    Safety,
    /// Faults end: then everything is delivered within a bound
    Liveness,
    /// One run in each mode
    Both,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parsed = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    parsed
        .filter(|range| !range.is_empty())
        .ok_or_else(|| format!("{text:?} is not a range of seeds; write for example 0..1000"))
}

pub(crate) fn run(args: &Args) -> Outcome {
    let modes: &[Mode] = match args.mode {
        Modes::Safety => &[Mode::Safety],
        Modes::Liveness => &[Mode::Liveness],
        Modes::Both => &[Mode::Safety, Mode::Liveness],
    };
    if args.print {
        for (seed, mode) in args.seeds.clone().flat_map(|seed| modes.iter().map(move |mode| (seed, *mode))) {
            output::result(generate(seed, mode).print())?;
        }
        return Ok(());
    }
    if let Some(directory) = &args.save {
        make_directory(directory, "--save")?;
    }
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let start = Instant::now();
    // What panics is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let run_all = if args.replay { replayed_swarm } else { swarm };
    let tally = run_all(args.seeds.clone(), modes, jobs);
    output::result(format_args!(
        "{} runs in {:.1} s: {:.0} virtual seconds, {} delivered, {} TCP connections, {} without a token at the end, {} evicted, {} failed",
        tally.runs,
        start.elapsed().as_secs_f64(),
        tally.seconds,
        size(tally.bytes),
        tally.tcps,
        tally.starved,
        tally.evicted,
        tally.failures.len()
    ))?;
    for failure in &tally.failures {
        output::result(format_args!("seed {} {}: {}", failure.seed, failure.mode, failure.what.join("; ")))?;
    }
    let directory = args.save.as_deref().unwrap_or(Path::new(DIRECTORY));
    if !tally.failures.is_empty() {
        make_directory(directory, "--save")?;
    }
    for failure in tally.failures.iter().take(3) {
        let saved = save(failure, directory).map_err(|error| format!("can't write {error}"))?;
        output::result(format_args!("\n{}", saved.text))?;
    }
    _ = std::panic::take_hook();
    if tally.failures.is_empty() { Ok(()) } else { Err(format!("{} runs failed", tally.failures.len()).into()) }
}
