//! The share of a bottleneck that a session takes with two interfaces behind it, beside a download over one TCP
//! connection (TLS); the same with kernel MPTCP, and what a group of paths (`--path ...,share=NAME`) changes.

mod session;
mod table;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tcpls_results::Results;

use self::table::Figures;
use super::netns::{self, Namespaces};
use super::path::{Path, PathSpec};
use super::scratch::{Scratch, find_tcpls};
use super::stack::{self, Files};
use super::wire::{Record, Wire};
use super::{Outcome, calm};

/// The bottleneck, with the smaller of its queues, in milliseconds, and the larger one.
const BOTTLENECK: PathSpec = PathSpec { rate: 50.0, rtt: 40.0, queue: 50.0, loss: 0.0 };
const LARGE_QUEUE: f64 = 200.0;
/// What a run lasts beyond what is measured.
const SPARE: Duration = Duration::from_secs(1);
/// The index of the competitor's pair of devices, behind those of the session.
const COMPETITOR: usize = 2;
const LOOK: Duration = Duration::from_millis(20);

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs of each case; they take turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: u32,
    /// Length of what is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// What is left out before it, in seconds, until congestion control has divided the bottleneck
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    settle: u64,
    /// Run only cases whose names contain this; repeat it for several
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// The `tcpls` command to measure. Default: the one next to this command
    #[arg(long, value_name = "FILE")]
    tcpls: Option<PathBuf>,
    /// Write the table in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Where the interfaces of the session lead.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    /// Through one bottleneck, which the competitor uses, too. Its queue in milliseconds.
    Shared { queue: f64 },
    /// Through a bottleneck each, without a competitor.
    Separate,
}

/// What uses both interfaces, or the first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Tls {
        paced: bool,
    },
    Tcpls,
    /// TCPLS whose paths share the rate of one.
    Group,
    Mptcp,
}

impl Who {
    fn is_tcpls(self) -> bool {
        matches!(self, Self::Tcpls | Self::Group)
    }
}

const CASES: [(Network, Who); 12] = {
    use Network::{Separate, Shared};
    const SMALL: Network = Shared { queue: BOTTLENECK.queue };
    const LARGE: Network = Shared { queue: LARGE_QUEUE };
    [
        (SMALL, Who::Tls { paced: false }),
        (SMALL, Who::Tls { paced: true }),
        (SMALL, Who::Tcpls),
        (SMALL, Who::Group),
        (SMALL, Who::Mptcp),
        (LARGE, Who::Tls { paced: false }),
        (LARGE, Who::Tls { paced: true }),
        (LARGE, Who::Tcpls),
        (LARGE, Who::Group),
        (LARGE, Who::Mptcp),
        (Separate, Who::Tcpls),
        (Separate, Who::Group),
    ]
};

fn name((network, who): (Network, Who)) -> String {
    let network = match network {
        Network::Shared { queue } => format!("one bottleneck, queue {queue} ms"),
        Network::Separate => "a bottleneck each".to_owned(),
    };
    let who = match who {
        Who::Tls { paced: false } => "tls on one path",
        Who::Tls { paced: true } => "paced tls on one path",
        Who::Tcpls => "tcpls",
        Who::Group => "tcpls, paths in a group",
        Who::Mptcp => "mptcp",
    };
    format!("{network}: {who}")
}

/// The wire's record of a run, and when the session began, on its clock.
struct Run {
    record: Record,
    began: f64,
}

/// Runs all cases.
pub(crate) fn run(args: &Args, command: &str) -> Outcome {
    let (tcpls, scratch) = (find_tcpls(args.tcpls.as_deref())?, Scratch::new()?);
    let interrupted = calm::interruption()?;
    let root = scratch.path().join("root");
    std::fs::create_dir(&root)?;
    let files = Files { source: root.join("file"), directory: scratch.path().to_owned() };
    let length = Duration::from_secs(args.settle + args.seconds);
    let two_paths = 2.0 * BOTTLENECK.rate * 1e6 / 8.0;
    stack::write_source(&files.source, (two_paths * (length + 2 * SPARE).as_secs_f64()) as usize)?;
    let wanted =
        |case: &(Network, Who)| args.only.is_empty() || args.only.iter().any(|text| name(*case).contains(text));
    let mut figures: Vec<Figures> = CASES.iter().copied().filter(wanted).map(Figures::new).collect();
    for _ in 0..args.runs {
        for figures in &mut figures {
            let case = figures.case;
            let once = || measure(case, &files, &tcpls, length, &interrupted);
            let run = calm::measure(&interrupted, once, was_disturbed, |_| name(case))?;
            figures.add(&run, Duration::from_secs(args.settle), Duration::from_secs(args.seconds))?;
            eprintln!("{figures}");
        }
        if let Some(file) = &args.results {
            let measured = tcpls_results::Measured::here(command.to_owned());
            Results { measured, tables: vec![table::shares(&figures)] }.write(file)?;
        }
    }
    println!("{}", table::shares(&figures).text());
    Ok(())
}

/// Whether the machine was too busy for the figures to mean much: one packet in fifty was late.
fn was_disturbed(run: &Run) -> bool {
    run.record.late * 50 > run.record.packets
}

fn measure(
    (network, who): (Network, Who),
    files: &Files,
    tcpls: &std::path::Path,
    length: Duration,
    interrupted: &AtomicBool,
) -> Outcome<Run> {
    let directory = files.directory.join("run");
    std::fs::create_dir(&directory)?;
    let files = Files { source: files.source.clone(), directory: directory.clone() };
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(COMPETITOR + 1)?;
    namespaces.add_beyond(COMPETITOR)?;
    let wire = Wire::start(paths(network, who), devices, Vec::new());
    let wire_began = Instant::now();
    let server = session::serve(who, &namespaces, &files, tcpls)?;
    let competitor = matches!(network, Network::Shared { .. }).then(|| session::compete(&namespaces, &files));
    let competitor = competitor.transpose()?;
    let began = wire_began.elapsed().as_secs_f64();
    let mut client = session::connect(who, &namespaces, &files, tcpls)?;
    let started = Instant::now();
    while started.elapsed() < length + SPARE {
        if client.child.try_wait()?.is_some() {
            return Err(format!("the client ended: {}", stack::last(&client.end())).into());
        }
        if interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        std::thread::sleep(LOOK);
    }
    let record = wire.stop();
    drop((client, server, competitor));
    std::fs::remove_dir_all(directory)?;
    Ok(Run { record, began })
}

/// The paths of a network, with the session's pairs of devices before the competitor's.
fn paths(network: Network, who: Who) -> Vec<Path> {
    let is_beyond = |index: usize| index < COMPETITOR && who.is_tcpls();
    let server = |index: usize| if is_beyond(index) { netns::BEYOND } else { netns::server(index) };
    let ends = |index: usize| [netns::client(index), server(index)];
    match network {
        Network::Shared { queue } => {
            let spec = PathSpec { queue, ..BOTTLENECK };
            vec![Path::shared(spec, (0..=COMPETITOR).map(ends).collect(), 0)]
        }
        Network::Separate => (0..=COMPETITOR).map(|index| Path::shared(BOTTLENECK, vec![ends(index)], 0)).collect(),
    }
}
