//! `tcpls sim run`: one scenario file.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::files::{OutFile, Written, unreadable, unwritable};
use super::super::plot::{Curve, Picture, PlotFile};
use super::super::units::{bits_per_second, rate, size};
use super::super::{Outcome, output, qlog, report, view};
use super::real::RealRun;
use tcpls_core::testing::Recordings;

use crate::sim::report::{BIN, Meter, SessionReport};
use crate::sim::scenario::Transport;
use crate::sim::{Report, RunOptions, Scenario, run as simulate};
use crate::view::Collector;

/// What to run, and what to write down.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Scenario file; docs/simulation.md describes the format
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// Seed of everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kind of TCP, instead of the one in the file
    #[arg(long, value_enum)]
    transport: Option<TransportArg>,
    /// Number of clients, instead of the one in the file; at most 100000, or 100 with packets
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
    /// Number of servers behind a load balancer, instead of the one in the file; at most 1000
    #[arg(long, value_name = "N")]
    servers: Option<u16>,
    /// Write all events to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Record all sessions in this file, for "tcpls replay"
    #[arg(long, value_name = "FILE")]
    pub(super) record: Option<PathBuf>,
    /// Write bytes over time to this file, as comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write a plot of goodput over time to this file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PlotFile>,
    /// Write a page that shows the run to this file, for a browser; `tcpls view` makes one of a trace
    #[arg(long, value_name = "PAGE.html")]
    pub(super) view: Option<PathBuf>,
    /// Also run it over real sockets, and compare what is delivered. Files of --trace, --record and --view are written for
    /// this run, too, with "-real" in their names
    #[arg(long)]
    pub(super) real: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// The sessions of more clients are summed up; `--json` has each.
const MOST_PRINTED: usize = 100;

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum TransportArg {
    /// Byte pipes: fast
    Pipes,
    /// TCP over packets: with losses, reordering and retransmissions
    Packets,
}

impl Args {
    /// Whether it has sessions over sockets.
    pub(crate) fn is_real(&self) -> bool {
        self.real
    }

    /// An option whose file does not exist for a run over sockets.
    pub(super) fn without_sockets(&self) -> Option<&'static str> {
        self.csv.as_ref().map(|_| "--csv").or(self.plot.as_ref().map(|_| "--plot"))
    }
}

pub(crate) async fn run(args: &Args) -> Outcome {
    report::or_error(run_file(args).await, args.json)
}

async fn run_file(args: &Args) -> Outcome {
    let mut scenario = read(&args.scenario)?;
    match args.transport {
        Some(TransportArg::Pipes) => scenario.transport = Transport::Pipes,
        Some(TransportArg::Packets) => scenario.transport = Transport::Packets,
        None => {}
    }
    if args.clients.is_some() || args.servers.is_some() {
        scenario.clients = args.clients.unwrap_or(scenario.clients);
        scenario.farm.servers = args.servers.unwrap_or(scenario.farm.servers);
        scenario.goals.hand_overs = None; // it is for the numbers in the file
        scenario.check()?;
    }
    let real = args.real.then(|| RealRun::prepare(args, &scenario)).transpose()?;
    let trace = args.trace.as_deref().map(OutFile::create).transpose()?;
    let csv = args.csv.as_deref().map(OutFile::create).transpose()?;
    let plot = args.plot.as_ref().map(PlotFile::create).transpose()?;
    let page = args.view.as_deref().map(OutFile::create).transpose()?;
    let (trace, traced) = trace.unzip();
    let recordings = args.record.as_ref().map(|_| Recordings::redacted());
    let events = page.is_some().then(Collector::default);
    let trace = both_of(trace, events.clone()).map(|trace| trace as Box<dyn Write>);
    let options = RunOptions { trace, recordings: recordings.clone(), qlog: qlog::current(), ..RunOptions::default() };
    let report = simulate(&scenario, args.seed, options);
    traced.map_or(Ok(()), Written::check)?;
    if let (Some(path), Some(recordings)) = (&args.record, recordings) {
        std::fs::write(path, recordings.file()).map_err(|error| unwritable(path, error))?;
    }
    if let (Some(path), Some(file), Some(events)) = (&args.view, page, events) {
        view::write(path, events.page()?, file)?;
    }
    if let Some((mut csv, written)) = csv {
        _ = csv.write_all(report.meter.csv().as_bytes()).and_then(|()| csv.flush());
        written.check()?;
    }
    if let Some(plot) = plot {
        picture(&report).write(plot)?;
    }
    if args.json {
        output::result_json(&report)?;
    } else {
        print(&report)?;
    }
    if !report.is_good() {
        return Err(verdict(&report).into());
    }
    match real {
        Some(real) => real.compare(&scenario, &report).await,
        None => Ok(()),
    }
}

/// A writer to both, or to the one that there is.
pub(super) fn both_of(file: Option<OutFile>, events: Option<Collector>) -> Option<Box<dyn Write + Send>> {
    struct Both(OutFile, Collector);
    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // Each keeps its own error; one that fails does not stop the other.
            _ = self.1.write_all(bytes);
            _ = self.0.write_all(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.0.flush()
        }
    }
    match (file, events) {
        (Some(file), Some(events)) => Some(Box::new(Both(file, events))),
        (Some(file), None) => Some(Box::new(file)),
        (None, events) => events.map(|events| Box::new(events) as Box<dyn Write + Send>),
    }
}

/// Reads a scenario file.
pub(super) fn read(path: &Path) -> Outcome<Scenario> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    Ok(Scenario::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn verdict(report: &Report) -> String {
    let all = report.wrong.iter().map(|what| format!("wrong: {what}"));
    let all: Vec<String> = all.chain(report.missed.iter().map(|what| format!("missed: {what}"))).collect();
    all.join("; ")
}

fn print(report: &Report) -> Outcome {
    let mut out = String::new();
    writeln!(out, "{} (seed {}): {:.3} s, trace {}", report.title, report.seed, report.ended, report.trace)?;
    if report.sessions.len() > MOST_PRINTED {
        let good = report.sessions.iter().filter(|session| session.missed.is_empty()).count();
        writeln!(out, "  {good} of {} sessions reached their goals", report.sessions.len())?;
    }
    let printed = report.sessions.iter().filter(|_| report.sessions.len() <= MOST_PRINTED);
    for (number, session) in printed.enumerate() {
        if report.sessions.len() > 1 {
            writeln!(out, "  -- client {}", number + 1)?;
        }
        print_session(&mut out, session)?;
    }
    if report.hand_overs > 0 {
        writeln!(out, "  {} joins were passed on to the server of their session", report.hand_overs)?;
    }
    if report.evicted > 0 {
        writeln!(out, "  {} sessions gave way to others at the server", report.evicted)?;
    }
    Ok(output::result(out.trim_end())?)
}

fn print_session(out: &mut String, session: &SessionReport) -> std::fmt::Result {
    for (number, transfer) in session.transfers.iter().enumerate() {
        let bytes: u64 = transfer.read.iter().sum();
        let took = transfer.started.zip(transfer.ended).map_or(0.0, |(start, end)| (end - start).max(0.0));
        let goodput = rate(bits_per_second(bytes, Duration::from_secs_f64(took)));
        let (gap, at) = (transfer.gap.0 * 1e3, transfer.gap.1);
        let read = size(bytes);
        writeln!(out, "  transfer {number}: {read} in {took:.3} s, {goodput}, longest gap {gap:.1} ms at {at:.3} s")?;
    }
    for (end, tcps) in ["client", "server"].iter().zip(&session.tcp) {
        for tcp in tcps {
            let (sent, received, again) = (size(tcp.sent), size(tcp.received), size(tcp.requeued));
            writeln!(
                out,
                "  {end} TCP {}: sent {sent}, received {received}, {again} again on others, {}",
                tcp.tcp, tcp.state
            )?;
        }
    }
    for (end, reason) in ["client", "server"].iter().zip(&session.closed) {
        writeln!(out, "  {end}: {}", reason.as_deref().unwrap_or("not closed"))?;
    }
    Ok(())
}

fn picture(report: &Report) -> Picture {
    let Meter { columns, rows, marks } = &report.meter;
    let curve = |(column, label): (usize, &String)| {
        let point = |(number, row): (usize, &Vec<u64>)| {
            (BIN.as_secs_f64() * number as f64, bits_per_second(row[column], BIN) / 1e6)
        };
        Curve { label: label.clone(), points: rows.iter().enumerate().map(point).collect() }
    };
    let curves = columns.iter().enumerate().map(curve).collect();
    Picture { title: report.title.clone(), curves, marks: marks.clone() }
}
