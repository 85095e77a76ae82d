//! The command line.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tcpls_results::{Measured, Results, compare_files};

use super::outcome::Run;
use super::path::PathSpec;
use super::run::{Settings, run};
use super::scenario::{self, Scenario};
use super::scratch::{Scratch, find_tcpls};
use super::summary::Summary;
use super::{Outcome, calm, congestion, first_byte, inspect, latency, netns, peer, results, selftest, shares, sums};

/// The exit code if the lab is not permitted to create namespaces or devices.
const NOT_PERMITTED: u8 = 77;

/// Measures failover of TCPLS, kernel MPTCP and TLS on paths made in network namespaces. Needs root
#[derive(Debug, Parser)]
#[command(name = "tcpls-lab", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the scenarios
    List,
    /// Measure
    Run(Args),
    /// Check the properties of the paths with real sockets
    Selftest,
    /// Summarize the results of an earlier `run --out`
    Summary(SummaryArgs),
    /// Name the regressions between two files of results, of the lab or the benchmark; fails if there are any
    Compare(CompareArgs),
    /// Measure how long requests take beside bulk data that saturates a path
    Latency(latency::Args),
    /// Measure how soon the first byte of an answer arrives in a new connection: full, resumed, with early data
    FirstByte(first_byte::Args),
    /// Measure the share of a bottleneck that a session takes with two interfaces behind it, beside one TCP connection
    Shares(shares::Args),
    /// Measure a download under a congestion control that the client brings, beside others. Needs the feature bpf
    Congestion(congestion::Args),
    /// Measure what thousands of hostile sessions cost a server with limits, and its honest clients. Needs no root
    Sums(sums::Args),
    /// Train a classifier to tell joins from TLS resumptions without keys, and judge unseen flows. Needs no root
    Inspect(inspect::Args),
    #[command(hide = true)]
    Hostile(sums::HostileArgs),
    #[command(hide = true)]
    Serve(peer::Args),
    #[command(hide = true)]
    Connect(peer::Args),
    #[command(hide = true)]
    Answer(latency::PeerArgs),
    #[command(hide = true)]
    Ask(latency::PeerArgs),
    #[command(hide = true)]
    FirstByteServer(first_byte::PeerArgs),
    #[command(hide = true)]
    FirstByteClient(first_byte::PeerArgs),
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Names of scenarios, or prefixes of names. Default: all
    #[arg(conflicts_with = "path")]
    scenarios: Vec<String>,
    /// A path of your own instead, without events: rate in Mbit/s, round-trip time in ms, queue in ms, loss in per
    /// cent; repeat it for up to four paths
    #[arg(long, value_name = "MBIT,RTT,QUEUE[,LOSS]", value_parser = PathSpec::parse)]
    path: Vec<PathSpec>,
    /// Length of the transfer over such paths at their rates, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8.0)]
    seconds: f64,
    /// Runs of each stack; they take turns
    #[arg(long, value_name = "N", default_value_t = 5)]
    runs: u32,
    /// Run only this case; repeat it for several cases
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print each run and the summaries as JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Append each run to this file, as a line of JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the summaries as tables in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// The `tcpls` command to measure. Default: the one next to this command
    #[arg(long, value_name = "FILE")]
    tcpls: Option<PathBuf>,
    /// Keep the clients' logs of arrival times, and the log of the wire, in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Time limit of a run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

#[derive(Debug, clap::Args)]
struct SummaryArgs {
    /// File that `run --out` has written
    file: PathBuf,
    /// Write the summaries as tables in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Print the summaries as JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CompareArgs {
    /// The results before
    old: PathBuf,
    /// The results after
    new: PathBuf,
    /// How much worse a figure may be, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    tolerance: f64,
}

/// Runs what the command line asks for.
pub(crate) fn main() -> ExitCode {
    let command = Cli::parse().command;
    let needs_paths = matches!(
        command,
        Command::Run(_)
            | Command::Selftest
            | Command::Latency(_)
            | Command::FirstByte(_)
            | Command::Shares(_)
            | Command::Congestion(_)
    );
    if needs_paths && let Err(error) = permitted() {
        eprintln!("tcpls-lab: network namespaces or TUN devices are not permitted here: {error}");
        return ExitCode::from(NOT_PERMITTED);
    }
    let done = match command {
        Command::List => list(),
        Command::Run(args) => measure(&args),
        Command::Selftest => selftest::run(),
        Command::Summary(args) => sum_up(&args),
        Command::Compare(args) => match compare_files(&args.old, &args.new, args.tolerance) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error.into()),
        },
        Command::Shares(args) => shares::run(&args, &own_command()),
        Command::Congestion(args) => congestion::run(&args, own_command()),
        Command::Sums(args) => sums::run(&args),
        Command::Inspect(args) => inspect::run(&args, own_command()),
        Command::Hostile(args) => sums::run_hostile(&args),
        Command::Serve(args) => peer::serve(&args),
        Command::Connect(args) => peer::connect(&args),
        Command::Latency(args) => latency::run(&args, own_command()),
        Command::Answer(args) => latency::answer(&args),
        Command::Ask(args) => latency::ask(&args),
        Command::FirstByte(args) => first_byte::run(&args, own_command()),
        Command::FirstByteServer(args) => first_byte::answer(&args),
        Command::FirstByteClient(args) => first_byte::ask(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcpls-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Outcome {
    for scenario in scenario::all() {
        println!("{:<18} {}", scenario.name, scenario.about);
    }
    Ok(())
}

/// Makes what every run needs, once, to see whether it can be made.
fn permitted() -> Outcome {
    netns::clean_up();
    netns::Namespaces::new()?.add_paths(1).map(|_| ())
}

fn measure(args: &Args) -> Outcome {
    let scenarios =
        if args.path.is_empty() { choose(&args.scenarios)? } else { vec![scenario::given(&args.path, args.seconds)?] };
    let scratch = Scratch::new()?;
    let settings = Settings {
        tcpls: find_tcpls(args.tcpls.as_deref())?,
        scratch: scratch.path().to_owned(),
        keep: args.keep.clone(),
        timeout: Duration::from_secs(args.timeout),
        interrupted: calm::interruption()?,
    };
    let append = |path| File::options().append(true).create(true).open(path);
    let mut out = args.out.as_ref().map(append).transpose()?;
    let mut summaries = Vec::new();
    for scenario in &scenarios {
        let runs = run_all(scenario, args, &settings, &mut out)?;
        let summary = Summary::of(scenario, &runs);
        print(&summary, args.json)?;
        summaries.push(summary);
    }
    write_results(args.results.as_deref(), &summaries)
}

fn write_results(file: Option<&Path>, summaries: &[Summary]) -> Outcome {
    let Some(file) = file else { return Ok(()) };
    let results = Results { measured: Measured::here(own_command()), tables: results::tables(summaries) };
    Ok(results.write(file)?)
}

/// The command that runs, without what is said of the output.
fn own_command() -> String {
    let mut words = vec!["sudo target/release/tcpls-lab".to_owned()];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => {}
            "--results" | "--out" | "--keep" | "--plot" => _ = args.next(),
            other if ["--results=", "--out=", "--keep=", "--plot="].iter().any(|option| other.starts_with(option)) => {}
            _ => words.push(arg),
        }
    }
    words.join(" ")
}

/// All runs of a scenario; its cases take turns.
fn run_all(scenario: &Scenario, args: &Args, settings: &Settings, out: &mut Option<File>) -> Outcome<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 0..args.runs {
        for case in &scenario.cases {
            let wanted = args.only.is_empty() || args.only.iter().any(|name| name == case.name);
            if !wanted || round % case.every != 0 {
                continue;
            }
            let once = || run(scenario, case, round, settings);
            let run = calm::measure(&settings.interrupted, once, Run::was_disturbed, brief)?;
            let line = serde_json::to_string(&run)?;
            if let Some(out) = out {
                writeln!(out, "{line}")?;
            }
            if args.json {
                println!("{line}");
            } else {
                eprintln!("{}", brief(&run));
            }
            runs.push(run);
        }
    }
    Ok(runs)
}

fn brief(run: &Run) -> String {
    let gap = |gap: &Option<f64>| gap.map_or("never".to_owned(), |gap| format!("{gap:.0} ms"));
    let gaps: Vec<String> = run.gaps_ms.iter().map(gap).collect();
    let error = run.error.as_deref().map_or(String::new(), |error| format!("  FAILED: {error}"));
    let (seconds, mbit, late) = (run.seconds, run.mbit, run.late_ms);
    let gaps = gaps.join(", ");
    format!(
        "{} {} {}: {seconds:.2} s, {mbit:.1} Mbit/s, gaps {gaps} (late {late:.1} ms){error}",
        run.scenario, run.case, run.run
    )
}

fn print(summary: &Summary, json: bool) -> Outcome {
    if json {
        println!("{}", serde_json::to_string(summary)?);
    } else {
        println!("{}", summary.table());
    }
    Ok(())
}

fn sum_up(args: &SummaryArgs) -> Outcome {
    let text = std::fs::read_to_string(&args.file)?;
    let runs: Vec<Run> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut summaries = Vec::new();
    for scenario in scenario::all() {
        let mine: Vec<Run> = runs.iter().filter(|run| run.scenario == scenario.name).cloned().collect();
        if !mine.is_empty() {
            let summary = Summary::of(&scenario, &mine);
            print(&summary, args.json)?;
            summaries.push(summary);
        }
    }
    write_results(args.results.as_deref(), &summaries)
}

fn choose(names: &[String]) -> Outcome<Vec<Scenario>> {
    let all = scenario::all();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|scenario| scenario.name.starts_with(*name))) {
        return Err(format!("no scenario is called {unknown:?}; see tcpls-lab list").into());
    }
    let chosen = |scenario: &Scenario| names.is_empty() || names.iter().any(|name| scenario.name.starts_with(name));
    Ok(all.into_iter().filter(chosen).collect())
}
