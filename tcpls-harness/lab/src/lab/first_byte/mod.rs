//! How soon the first byte of a short answer arrives in a new connection: with a full handshake, a resumed one, and early
//! data; for TCPLS, TLS over TCP (tokio-rustls) and QUIC (quinn).

mod peer;
mod quic;
mod tcpls;
mod tls;

use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use tcpls_results::{Better, Cell, Column, Goal, Results, Row, Table};

pub(crate) use self::peer::{Args as PeerArgs, answer, ask};
use self::peer::{Measured, Over, Start};
use super::netns::{self, Namespaces};
use super::path::{Path, PathSpec};
use super::scratch::Scratch;
use super::stack::{self, PORT, Process};
use super::wire::{Record, Wire};
use super::{Outcome, calm};

/// What a round trip costs beyond the path's delay, in round trips: work of both ends, and the time on the link of a
/// certificate chain.
const ALLOWANCE: f64 = 0.25;

/// What is measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The path: rate in Mbit/s, round-trip time in ms, queue in ms, loss in per cent
    #[arg(long, value_name = "MBIT,RTT,QUEUE[,LOSS]", value_parser = PathSpec::parse, default_value = "100,50,50")]
    path: PathSpec,
    /// Connections of each kind
    #[arg(long, value_name = "N", default_value_t = 20)]
    connections: u32,
    /// Write the table in JSON to this file, for the documentation and for `compare`
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// Measures all protocols and kinds of handshake.
pub(crate) fn run(args: &Args, command: String) -> Outcome {
    let never = AtomicBool::new(false); // a signal ends this process, and with it the lock and the namespaces
    let mut rows = Vec::new();
    for over in [Over::Tcpls, Over::Tls, Over::Quic] {
        for start in [Start::Full, Start::Resumed, Start::Early] {
            let name = format!("{}: {}", over.name(), start.name());
            let (measured, _) = calm::measure(&never, || measure(args, over, start), was_disturbed, |_| name.clone())?;
            let row = row(&name, over, start, &measured, args.path.rtt);
            println!("{name:<40} {}", text(&row));
            rows.push(row);
        }
    }
    let Some(file) = &args.results else { return Ok(()) };
    let measured = tcpls_results::Measured::here(command);
    Ok(Results { measured, tables: vec![table(rows)] }.write(file)?)
}

/// Whether the machine was too busy for the figures to mean much.
fn was_disturbed((_, record): &(Measured, Record)) -> bool {
    record.late * 50 > record.packets
}

/// Medians: from the start to the first byte, and of that what follows TCP's handshake, in round trips.
fn row(name: &str, over: Over, start: Start, measured: &Measured, rtt: f64) -> Row {
    let whole = median(&measured.first_bytes);
    let handshake = median(&measured.tcp_handshakes);
    let after = whole.map(|whole| (whole - handshake.unwrap_or(0.0)) / rtt);
    let goal = start.round_trips(over).map(|trips| Goal::AtMost(trips + ALLOWANCE));
    let after = after.and_then(Cell::value).map(|cell| cell.with_goal(goal));
    Row { name: name.to_owned(), cells: vec![whole.and_then(Cell::value), after] }
}

fn text(row: &Row) -> String {
    let shown = |at: usize| row.cells[at].as_ref().map_or(f64::NAN, |cell| cell.value);
    format!("first byte after {:6.1} ms; {:4.2} round trips after TCP's handshake", shown(0), shown(1))
}

fn table(rows: Vec<Row>) -> Table {
    Table {
        name: "first-byte".to_owned(),
        rows_are: "protocol: handshake".to_owned(),
        columns: vec![
            Column::new("first byte", "ms", 1, Better::Lower),
            Column::new("after TCP's handshake", "RTT", 2, Better::Lower),
        ],
        rows,
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn measure(args: &Args, over: Over, start: Start) -> Outcome<(Measured, Record)> {
    let scratch = Scratch::new()?;
    let namespaces = Namespaces::new()?;
    let devices = namespaces.add_paths(1)?;
    let wire = Wire::start(vec![Path::new(args.path, netns::client(0), netns::server(0), 0)], devices, Vec::new());
    let command = |end| command(end, args, over, start, &scratch.path().join("certificate.pem"));
    let _server = Process::start(command("first-byte-server")?, &namespaces.server, 0)?.wait_until_it_listens()?;
    let mut client = Process::start(command("first-byte-client")?, &namespaces.client, 1)?;
    let mut printed = String::new();
    client.child.stdout.take().ok_or("it is piped")?.read_to_string(&mut printed)?;
    let status = client.child.wait()?;
    if !status.success() {
        return Err(format!("{}: the client failed: {}", over.name(), stack::last(&client.end())).into());
    }
    Ok((serde_json::from_str(&printed)?, wire.stop()))
}

fn command(end: &str, args: &Args, over: Over, start: Start, certificate: &FilePath) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(end).arg("--certificate").arg(certificate);
    command.args(["--address", &format!("{}:{PORT}", netns::server(0))]);
    command.args(["--over", over.value(), "--start", start.value()]);
    command.args(["--connections", &args.connections.to_string()]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_counted_from_the_end_of_tcps_handshake() {
        let measured = Measured { first_bytes: vec![151.0, 150.0, 900.0], tcp_handshakes: vec![50.0] };
        let row = row("TCPLS: full", Over::Tcpls, Start::Full, &measured, 50.0);
        assert_eq!(text(&row), "first byte after  151.0 ms; 2.02 round trips after TCP's handshake");
        let quic = Measured { first_bytes: vec![101.0], tcp_handshakes: Vec::new() };
        let row = super::row("QUIC: full", Over::Quic, Start::Full, &quic, 50.0);
        assert_eq!(text(&row), "first byte after  101.0 ms; 2.02 round trips after TCP's handshake");
    }
}
