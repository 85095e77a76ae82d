//! A download under three congestion controls of the server: a BPF program that the client brings, one that the client asks
//! for by name, and that of the server's route. Which one the kernel uses is read from `ss`.

mod ends;
mod plot;

use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tcpls_results::{Better, Cell, Column, Measured, Results, Row, Table};

use self::ends::{Program, congestion_control};
use super::arrivals::Arrivals;
use super::netns::{self, CONGESTION_CONTROL, Namespaces};
use super::path::{Path, PathSpec};
use super::scratch::{Scratch, find_tcpls};
use super::stack::{self, Files};
use super::wire::{Record, Wire};
use super::{Outcome, calm};

/// How long a download may take to begin: the server answers within 10 s whether it uses a program.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The path: rate in Mbit/s, round-trip time in ms, queue in ms, loss in per cent
    #[arg(long, value_name = "MBIT,RTT,QUEUE[,LOSS]", value_parser = PathSpec::parse, default_value = "30,40,40,0.5")]
    path: PathSpec,
    /// Length of each download from its first byte, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u32,
    /// The object file that the client brings, signed with a key made on the spot
    #[arg(long, value_name = "FILE", default_value = "tcpls-harness/bpf/multcp.o")]
    program: PathBuf,
    /// A parameter of the program, as with `tcpls bpf-sign`; repeat it for several
    #[arg(long, value_name = "NAME=VALUE", default_value = "flows=8")]
    set: Vec<String>,
    /// The congestion control that the client asks for by name
    #[arg(long, value_name = "NAME", default_value = "bbr")]
    ask: String,
    /// The `tcpls` command, built with the feature bpf. Default: the one next to this command
    #[arg(long, value_name = "FILE")]
    tcpls: Option<PathBuf>,
    /// Draw the curves in this SVG file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write the table in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// How the server comes to its congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Brought,
    Asked,
    Route,
}

/// One download.
struct Run {
    source: Source,
    /// What `ss` calls the congestion control.
    control: String,
    /// Goodput in each second, in Mbit/s.
    rates: Vec<f64>,
    record: Record,
}

impl Run {
    fn name(&self) -> String {
        let how = match self.source {
            Source::Brought => "brought by the client",
            Source::Asked => "asked for by the client",
            Source::Route => "of the server's route",
        };
        format!("{}, {how}", self.control)
    }

    fn mean(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }
}

/// What all runs have in common.
struct Setting<'a> {
    args: &'a Args,
    tcpls: &'a FilePath,
    files: &'a Files,
    program: &'a Program,
    interrupted: &'a AtomicBool,
}

/// Runs the three.
pub(crate) fn run(args: &Args, command: String) -> Outcome {
    let (tcpls, scratch) = (find_tcpls(args.tcpls.as_deref())?, Scratch::new()?);
    let interrupted = calm::interruption()?;
    let root = scratch.path().join("root");
    std::fs::create_dir(&root)?;
    let files = Files { source: root.join("file"), directory: scratch.path().to_owned() };
    stack::write_source(&files.source, (args.path.rate * 1e6 / 8.0 * f64::from(args.seconds + 2)) as usize)?;
    let program = Program::sign(&tcpls, &args.program, &args.set, scratch.path())?;
    let setting = Setting { args, tcpls: &tcpls, files: &files, program: &program, interrupted: &interrupted };
    let mut runs = Vec::new();
    for source in [Source::Brought, Source::Asked, Source::Route] {
        let run = calm::measure(&interrupted, || measure(&setting, source), was_disturbed, Run::name)?;
        eprintln!("{}: {:.1} Mbit/s", run.name(), run.mean());
        runs.push(run);
    }
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::svg(&runs)?)?;
    }
    let table = table(&runs);
    println!("{}", table.text());
    let Some(file) = &args.results else { return Ok(()) };
    Ok(Results { measured: Measured::here(command), tables: vec![table] }.write(file)?)
}

/// Whether the machine was too busy for the figures to mean much: one packet in fifty was late.
fn was_disturbed(run: &Run) -> bool {
    run.record.late * 50 > run.record.packets
}

fn measure(setting: &Setting<'_>, source: Source) -> Outcome<Run> {
    let directory = setting.files.directory.join("run");
    std::fs::create_dir(&directory)?;
    let files = Files { source: setting.files.source.clone(), directory: directory.clone() };
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(1)?;
    let path = Path::new(setting.args.path, netns::client(0), netns::server(0), 0);
    let wire = Wire::start(vec![path], devices, Vec::new());
    let helper = ends::start_helper(setting.tcpls, setting.program, &namespaces, &directory)?;
    let server = ends::serve(setting.tcpls, &namespaces, &files)?;
    let mut client = ends::get(setting, source, &namespaces, &files)?;
    let (control, arrivals) = watch(setting, &namespaces, &files, &mut client)?;
    let record = wire.stop();
    let said = client.end();
    drop((server, helper));
    std::fs::remove_dir_all(directory)?;
    let is_wanted = match source {
        Source::Brought => ends::is_program(&control),
        Source::Asked => control == setting.args.ask,
        Source::Route => control == CONGESTION_CONTROL,
    };
    if !is_wanted {
        return Err(format!("the server's kernel used {control}: {}", stack::last(&said)).into());
    }
    Ok(Run { source, control, rates: arrivals.each_second(setting.args.seconds), record })
}

/// Waits until the download has taken as long as it shall. Returns what the kernel used in the end, and the arrivals.
fn watch(
    setting: &Setting<'_>,
    namespaces: &Namespaces,
    files: &Files,
    client: &mut stack::Process,
) -> Outcome<(String, Arrivals)> {
    let (started, mut control) = (Instant::now(), None);
    loop {
        std::thread::sleep(LOOK);
        let arrivals = Arrivals::parse(&std::fs::read_to_string(files.log()).unwrap_or_default());
        if arrivals.bytes() > 0 {
            control = congestion_control(namespaces)?.or(control);
        }
        if arrivals.seconds() > f64::from(setting.args.seconds) {
            return Ok((control.ok_or("ss shows no TCP connection of the server")?, arrivals));
        }
        let is_late = arrivals.bytes() == 0 && started.elapsed() > PATIENCE;
        if is_late || client.child.try_wait()?.is_some() {
            return Err(format!("the download ended: {}", stack::last(&client.end())).into());
        }
        if setting.interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
    }
}

/// Goodput in each second and over all of them.
fn table(runs: &[Run]) -> Table {
    let seconds = runs.iter().map(|run| run.rates.len()).max().unwrap_or(0);
    let column = |name: String| Column::new(&name, "Mbit/s", 1, Better::Higher);
    let columns = (1..=seconds).map(|second| column(second.to_string())).chain([column("mean".to_owned())]);
    let row = |run: &Run| Row {
        name: run.name(),
        cells: run.rates.iter().copied().chain([run.mean()]).map(Cell::value).collect(),
    };
    Table {
        name: "congestion".to_owned(),
        rows_are: "congestion control; second".to_owned(),
        columns: columns.collect(),
        rows: runs.iter().map(row).collect(),
    }
}
