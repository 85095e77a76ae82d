//! How long small requests take beside bulk data that saturates a path: in the same session with lanes and without, in a
//! session of their own, and in one connection of HTTP/2 and of QUIC; and what is left of the bulk data's rate.

mod conn;
mod http2;
mod peer;
mod quic;
mod table;
mod tcpls;

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use tcpls_results::Results;

pub(crate) use self::peer::{Args as PeerArgs, answer, ask};
use self::peer::{Bulk, Measured, Over};
use self::table::Figures;
use super::netns::{self, Namespaces};
use super::path::{Path, PathSpec};
use super::scratch::Scratch;
use super::stack::{self, PORT, Process};
use super::wire::{Record, Wire};
use super::{Outcome, calm};

/// The path of the failover scenarios.
const PATH: &str = "25,20,50";

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The busy path: rate in Mbit/s, round-trip time in ms, queue in ms, loss in per cent
    #[arg(long, value_name = "MBIT,RTT,QUEUE[,LOSS]", value_parser = PathSpec::parse, default_value = PATH)]
    path: PathSpec,
    /// The second, idle path of one of the cases
    #[arg(long, value_name = "MBIT,RTT,QUEUE[,LOSS]", value_parser = PathSpec::parse, default_value = PATH)]
    idle: PathSpec,
    /// Requests in each case
    #[arg(long, value_name = "N", default_value_t = 1000)]
    requests: u32,
    /// Milliseconds from one request to the next
    #[arg(long, value_name = "MS", default_value_t = 50)]
    every: u64,
    /// Write the tables in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Where the requests are made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    /// Nowhere: the bulk data is alone.
    OnlyBulk,
    Apart,
    Beside {
        lanes: bool,
    },
    /// Beside bulk data that uses one of two paths.
    IdlePath,
    /// Beside bulk data in one connection of another protocol.
    Peer(Over),
    /// Beside bulk data in another connection of QUIC, which shares nothing but the path.
    QuicApart,
}

impl Case {
    const ALL: [Self; 8] = [
        Self::OnlyBulk,
        Self::Apart,
        Self::Beside { lanes: false },
        Self::Beside { lanes: true },
        Self::IdlePath,
        Self::Peer(Over::Http2),
        Self::Peer(Over::Quic),
        Self::QuicApart,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::OnlyBulk => "no requests",
            Self::Apart => "a session of their own",
            Self::Beside { lanes: false } => "the same session, no lanes",
            Self::Beside { lanes: true } => "the same session",
            Self::IdlePath => "the same session, a second path is idle",
            Self::Peer(Over::Http2) => "HTTP/2 over TLS (h2)",
            Self::Peer(_) => "QUIC (quinn)",
            Self::QuicApart => "QUIC (quinn), a connection of their own",
        }
    }

    fn over(self) -> Over {
        match self {
            Self::Peer(over) => over,
            Self::QuicApart => Over::Quic,
            _ => Over::Tcpls,
        }
    }
}

/// Runs all cases.
pub(crate) fn run(args: &Args, command: String) -> Outcome {
    let mut rows = Vec::new();
    let never = AtomicBool::new(false); // a signal ends this process, and with it the lock and the namespaces
    for bulk in [Bulk::Download, Bulk::Upload] {
        for case in Case::ALL {
            let (measured, _) =
                calm::measure(&never, || measure(args, case, bulk), was_disturbed, |_| case.name().to_owned())?;
            let figures = Figures::new(bulk, case, &measured);
            println!("{figures}");
            rows.push(figures);
        }
    }
    let goals = table::goals(&rows, args.idle.rtt);
    println!("\n{}", goals.text());
    let Some(file) = &args.results else { return Ok(()) };
    let measured = tcpls_results::Measured::here(command);
    Ok(Results { measured, tables: vec![table::latency(&rows), goals] }.write(file)?)
}

/// Whether the machine was too busy for the figures to mean much: one packet in fifty was late. One packet that is very late
/// changes one request of a thousand, not their quantiles.
fn was_disturbed((_, record): &(Measured, Record)) -> bool {
    record.late * 50 > record.packets
}

fn measure(args: &Args, case: Case, bulk: Bulk) -> Outcome<(Measured, Record)> {
    let scratch = Scratch::new()?;
    let specs = if case == Case::IdlePath { vec![args.path, args.idle] } else { vec![args.path] };
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(specs.len())?;
    let path = |(index, spec)| Path::new(spec, netns::client(index), netns::server(index), index as u64);
    let wire = Wire::start(specs.iter().copied().enumerate().map(path).collect(), devices, Vec::new());
    let command = |end| command(end, args, case, bulk, specs.len(), &scratch.path().join("certificate.pem"));
    let _server = Process::start(command("answer")?, &namespaces.server, 0)?.wait_until_it_listens()?;
    let mut client = Process::start(command("ask")?, &namespaces.client, 1)?;
    let mut printed = String::new();
    client.child.stdout.take().ok_or("it is piped")?.read_to_string(&mut printed)?;
    let status = client.child.wait()?;
    if !status.success() {
        return Err(format!("{}: the client failed: {}", case.name(), stack::last(&client.end())).into());
    }
    Ok((serde_json::from_str(&printed)?, wire.stop()))
}

fn command(
    end: &str,
    args: &Args,
    case: Case,
    bulk: Bulk,
    paths: usize,
    certificate: &FilePath,
) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(end).arg("--certificate").arg(certificate);
    for index in 0..paths {
        command.args(["--address", &format!("{}:{PORT}", netns::server(index))]);
    }
    let over = match case.over() {
        Over::Tcpls => "tcpls",
        Over::Http2 => "http2",
        Over::Quic => "quic",
    };
    command.args(["--over", over, "--bulk", if bulk == Bulk::Download { "download" } else { "upload" }]);
    command.args(["--requests", &args.requests.to_string(), "--every", &args.every.to_string()]);
    let flags = [
        ("--only-bulk", case == Case::OnlyBulk),
        ("--apart", matches!(case, Case::Apart | Case::QuicApart)),
        ("--no-lanes", case == Case::Beside { lanes: false }),
        ("--attach", case == Case::IdlePath),
    ];
    command.args(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag));
    Ok(command)
}
