//! One run of one case: creates the namespaces and the wire, starts the software, and reads the outcome.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Outcome;
use super::arrivals::{AFTER, Arrivals, FIRST, SOON};
use super::netns::{self, Namespaces};
use super::outcome::Run;
use super::path::Path;
use super::scenario::{Case, Scenario};
use super::stack::{self, Files, Said};
use super::wire::{Fired, Record, Wire, unix_time};

/// How often it looks whether the client has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A run is not given up before this many times of what the paths need for the file.
const SLOWER: u32 = 4;

/// The common settings of all runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The command under test.
    pub(crate) tcpls: PathBuf,
    /// A directory for files that come and go; best in memory.
    pub(crate) scratch: PathBuf,
    /// The directory for logs, if they are stored.
    pub(crate) keep: Option<PathBuf>,
    /// When a run is given up.
    pub(crate) timeout: Duration,
    /// Set when the user interrupts the command.
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// Does one run.
///
/// # Errors
/// The run could not be made, or was interrupted. That the software under test fails is a result.
pub(crate) fn run(scenario: &Scenario, case: &Case, number: u32, settings: &Settings) -> Outcome<Run> {
    let scenario = &scenario.shifted(number);
    let directory = settings.scratch.join(format!("run{number}"));
    std::fs::create_dir_all(directory.join("root"))?;
    let files = Files { source: directory.join("root").join("file"), directory };
    stack::write_source(&files.source, (case.megabytes * 1e6) as usize)?;
    let result = measure(scenario, case, number, &files, settings);
    if let (Some(keep), Ok(run)) = (&settings.keep, &result) {
        std::fs::create_dir_all(keep)?;
        let name = format!("{}.{}.{number}.log", scenario.name, case.name.replace(' ', "-"));
        // There is none if nothing arrived.
        _ = std::fs::copy(files.log(), keep.join(&name));
        std::fs::write(keep.join(name).with_extension("json"), serde_json::to_string(&run.0)?)?;
    }
    std::fs::remove_dir_all(&files.directory)?;
    let (_, mut run) = result?;
    run.run = number;
    Ok(run)
}

fn measure(
    scenario: &Scenario,
    case: &Case,
    number: u32,
    files: &Files,
    settings: &Settings,
) -> Outcome<(Record, Run)> {
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(scenario.paths.len())?;
    stack::prepare(case, &namespaces)?;
    // Each run, and each of its paths, loses other packets; all stacks meet the same losses in a run of the same number.
    let seed = |index| u64::from(number) << 8 | index as u64;
    let path = |(index, spec)| Path::new(spec, netns::client(index), netns::server(index), seed(index));
    let paths = scenario.paths.iter().copied().enumerate().map(path).collect();
    let events = if case.events { scenario.events.clone() } else { Vec::new() };
    let wire = Wire::start(paths, devices, events);
    let mut server = stack::start_server(case, &namespaces, files, &settings.tcpls)?;
    let began = unix_time();
    let mut client = stack::start_client(case, &namespaces, files, &settings.tcpls)?;
    let ended = wait(&mut client, settings.timeout.max(scenario.ideal(case) * SLOWER), settings)?;
    let record = wire.stop();
    let said = client.end();
    let server_said = server.end();
    let mut error = (!ended).then(|| format!("{}; the server: {}", stack::last(&said), stack::last(&server_said)));
    let log = std::fs::read_to_string(files.log()).unwrap_or_default();
    if error.is_none() && stack::writes_target(case) {
        let same = std::fs::read(files.target())? == std::fs::read(&files.source)?;
        error = (!same).then(|| "what came is not what was sent".to_owned());
    }
    let arrivals = Arrivals::parse(&log);
    let mut run = describe(scenario, case, &arrivals, &record, [said, server_said], error);
    run.whole_seconds = arrivals.end().map(|end| end - began);
    Ok((record, run))
}

/// Waits for the client; returns whether it did what it should, in time.
fn wait(client: &mut stack::Process, patience: Duration, settings: &Settings) -> Outcome<bool> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(status) = client.child.try_wait()? {
            return Ok(status.success());
        }
        if settings.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

fn describe(
    scenario: &Scenario,
    case: &Case,
    arrivals: &Arrivals,
    record: &Record,
    said: [Vec<Said>; 2],
    error: Option<String>,
) -> Run {
    let measured: Vec<&Fired> = scenario.gaps.iter().filter_map(|index| record.events.get(*index)).collect();
    let len = (case.megabytes * 1e6) as u64;
    let first = measured.first().map_or(arrivals.start(), |event| event.time);
    let reports_losses = stack::writes_target(case);
    let when = |time: f64| ((time - first) * 1e4).round() / 10.0;
    let [said, server_said] = said;
    let lost = said.iter().filter(|(_, line)| line.contains(" lost: ")).count() as u32;
    Run {
        scenario: scenario.name.to_owned(),
        case: case.name.to_owned(),
        run: 0,
        intact: error.is_none() && arrivals.bytes() == len,
        error,
        bytes: arrivals.bytes(),
        seconds: arrivals.seconds(),
        mbit: arrivals.mbit_after(0.0),
        mbit_first: arrivals.mbit_first(FIRST),
        whole_seconds: None,
        mbit_after: arrivals.mbit_after(first),
        lowest_mbit: arrivals.lowest(0.5, 0.2),
        gaps_ms: measured.iter().map(|event| arrivals.gap(event.time, AFTER, len)).collect(),
        gaps_soon_ms: measured.iter().map(|event| arrivals.gap(event.time, SOON, len)).collect(),
        rtt_ms: measured.iter().map(|event| event.rtt_ms[event.path]).collect(),
        path_bytes: record.bytes.clone(),
        lost: reports_losses.then_some(lost),
        said: said.into_iter().map(|(time, line)| (when(time), line)).collect(),
        server_said: server_said.into_iter().map(|(time, line)| (when(time), line)).collect(),
        late_ms: record.late_ms,
        late: record.late,
        packets: record.packets,
    }
}
