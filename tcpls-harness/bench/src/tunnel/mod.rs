//! TCP connections of programs through a forwarder over loopback: over a session, a stream for each, and over
//! tokio-rustls, a TLS connection for each, in turns.
//!
//! | file | subject |
//! | --- | --- |
//! | `mod` | what is measured |
//! | `forwarders` | the forwarder's two ends, over each transport |
//! | `programs` | the programs at both ends of a forwarded connection |

mod forwarders;
mod listen;
mod programs;

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use self::forwarders::with_forwarder;
use crate::Outcome;
use crate::footprint::raise_limit;
use crate::loopback::block_on;
use crate::output::Output;
use crate::tls::Tls;

/// Bytes of an exchange, in each direction.
const SIZE: usize = 1024;
/// How much longer than through tokio-rustls 99 % of the exchanges may take, in microseconds.
const P99_GOAL: f64 = 150.0;
/// The rate of a transfer, as a multiple of that through tokio-rustls.
const RATE_GOAL: f64 = 1.5;

/// TCP connections through a forwarder: over TCPLS and over tokio-rustls, in turns
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Exchanges of 1 KiB on one connection in each turn
    #[arg(long, value_name = "N", default_value_t = 5000)]
    exchanges: usize,
    /// MiB to move in each turn, on one connection and on 8
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    size: usize,
    /// Short connections in each turn: each is opened, has one exchange, and is closed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// How many of them there are at a time; also those whose memory is measured
    #[arg(long, value_name = "N", default_value_t = 1000)]
    at_once: usize,
    /// Print only the memory that connections hold: measured in a process of its own, which has freed none before
    #[arg(long, value_name = "WAY", hide = true)]
    memory_of: Option<Way>,
    /// Print only the rates of one upload and of 8, which a profiler can look at
    #[arg(long, value_name = "WAY", hide = true)]
    rates_of: Option<Way>,
    #[command(flatten)]
    output: Output,
}

/// What carries the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    /// Nothing: the programs are connected directly.
    Direct,
    /// A TLS connection for each, and tokio's copy with its own buffers.
    Rustls,
    /// The same with buffers of 64 KiB.
    RustlsTuned,
    /// A session.
    Tcpls,
}

const WAYS: [Way; 4] = [Way::Direct, Way::Rustls, Way::RustlsTuned, Way::Tcpls];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "no forwarder",
            Self::Rustls => "tokio-rustls",
            Self::RustlsTuned => "tokio-rustls, 64 KiB at once",
            Self::Tcpls => "tcpls",
        }
    }
}

/// The results of one turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Of an exchange, in microseconds.
    p50: f64,
    p99: f64,
    /// Gbit/s.
    one: f64,
    eight: f64,
    /// Connections per second.
    short: f64,
    /// KiB of the process for each open connection.
    resident: f64,
}

/// Runs all in turns and prints.
pub fn run(args: &Args) -> Outcome {
    raise_limit()?;
    let tls = Tls::new()?;
    if let Some(way) = args.memory_of {
        let resident = |address| block_on(programs::resident_for_each(address, args.at_once));
        println!("{}", with_forwarder(&tls, way, resident)?);
        return Ok(());
    }
    if let Some(way) = args.rates_of {
        for connections in [1, 8] {
            let rate = |address| block_on(programs::transfer(address, args.size << 20, connections));
            println!("{connections}: {:.2}", with_forwarder(&tls, way, rate)?);
        }
        return Ok(());
    }
    let mut turns = WAYS.map(|way| (way, Vec::new()));
    for round in 0..args.rounds {
        for (way, turns) in &mut turns {
            eprint!("\rround {} of {}: {:<32}", round + 1, args.rounds, way.name());
            turns.push(measure(&tls, *way, args).map_err(|error| format!("{}: {error}", way.name()))?);
        }
    }
    eprint!("\r{:60}\r", "");
    args.output.give(vec![figures(&turns), comparison(&turns)])
}

/// A forwarder for each measurement: what one leaves behind must not count in another.
fn measure(tls: &Tls, way: Way, args: &Args) -> Outcome<Turn> {
    let (exchanges, bytes) = (args.exchanges, args.size << 20);
    let (connections, at_once) = (args.connections, args.at_once);
    let run = |program: &(dyn Fn(SocketAddr) -> Outcome<f64> + Sync)| with_forwarder(tls, way, program);
    let short = |address| async move {
        let before = programs::open_files()?;
        let rate = programs::short_connections(address, connections, at_once).await?;
        programs::all_closed(before).await?;
        Outcome::Ok(rate)
    };
    let mut times = with_forwarder(tls, way, |address| block_on(programs::exchanges(address, exchanges)))?;
    times.sort();
    let at = |share: f64| micros(times[((times.len() - 1) as f64 * share) as usize]);
    Ok(Turn {
        p50: at(0.5),
        p99: at(0.99),
        one: run(&|address| block_on(programs::transfer(address, bytes, 1)))?,
        eight: run(&|address| block_on(programs::transfer(address, bytes, 8)))?,
        short: run(&|address| block_on(short(address)))?,
        resident: resident_for_each(way, at_once)?,
    })
}

/// Memory for each of `count` connections, in a process of its own.
fn resident_for_each(way: Way, count: usize) -> Outcome<f64> {
    let way = way.to_possible_value().ok_or("the way has no name")?;
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["tunnel", "--memory-of", way.get_name(), "--at-once", &count.to_string()]);
    let output = child.stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn figures(turns: &[(Way, Vec<Turn>)]) -> Table {
    let columns = vec![
        Column::new("p50", "µs", 1, Better::Lower),
        Column::new("p99", "µs", 1, Better::Lower),
        Column::new("1 connection", "Gbit/s", 2, Better::Higher),
        Column::new("8 connections", "Gbit/s", 2, Better::Higher),
        Column::new("short connections", "per second", 0, Better::Higher),
        Column::new("resident for each", "KiB", 1, Better::Lower),
    ];
    let row = |(way, turns): &(Way, Vec<Turn>)| {
        let of = |value: fn(&Turn) -> f64| Cell::median(turns.iter().map(value));
        let cells = vec![
            of(|turn| turn.p50).map(Cell::without_range),
            of(|turn| turn.p99),
            of(|turn| turn.one),
            of(|turn| turn.eight),
            of(|turn| turn.short),
            of(|turn| turn.resident).map(Cell::without_range),
        ];
        Row { name: way.name().to_owned(), cells }
    };
    let rows = turns.iter().map(row).collect();
    Table { name: "figures".to_owned(), rows_are: String::new(), columns, rows }
}

/// TCPLS against each of the others: the medians of what the rounds gave.
fn comparison(turns: &[(Way, Vec<Turn>)]) -> Table {
    let columns = vec![
        Column::new("added p99", "µs", 1, Better::Lower),
        Column::portable("1 connection", "", 2, Better::Higher),
        Column::portable("8 connections", "", 2, Better::Higher),
        Column::portable("short connections", "", 2, Better::Higher),
    ];
    let of = |way| turns.iter().filter(move |(other, _)| *other == way).flat_map(|(_, turns)| turns);
    let row = |theirs: Way| {
        let is_peer = theirs != Way::Direct;
        let median =
            |value: fn(&Turn, &Turn) -> f64| Cell::median(of(Way::Tcpls).zip(of(theirs)).map(|(a, b)| value(a, b)));
        let goal = |goal| is_peer.then_some(goal);
        let cells = vec![
            median(|a, b| a.p99 - b.p99).map(|cell| cell.with_goal(goal(Goal::AtMost(P99_GOAL)))),
            median(|a, b| a.one / b.one).map(|cell| cell.with_goal(goal(Goal::AtLeast(RATE_GOAL)))),
            median(|a, b| a.eight / b.eight).map(|cell| cell.with_goal(goal(Goal::AtLeast(RATE_GOAL)))),
            median(|a, b| a.short / b.short),
        ];
        Row { name: format!("tcpls / {}", theirs.name()), cells }
    };
    let rows = [Way::Rustls, Way::RustlsTuned, Way::Direct].into_iter().map(row).collect();
    Table { name: "comparison".to_owned(), rows_are: String::new(), columns, rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ways_carry_exchanges_transfers_and_short_connections() {
        let tls = Tls::new().unwrap();
        for way in WAYS {
            let times = with_forwarder(&tls, way, |address| block_on(programs::exchanges(address, 10))).unwrap();
            assert_eq!(times.len(), 10, "{way:?}");
            let rate = with_forwarder(&tls, way, |address| block_on(programs::transfer(address, 3 << 20, 3)));
            assert!(rate.unwrap() > 0.0, "{way:?}");
            let short = with_forwarder(&tls, way, |address| block_on(programs::short_connections(address, 100, 20)));
            assert!(short.unwrap() > 0.0, "{way:?}");
            with_forwarder(&tls, way, |address| block_on(programs::resident_for_each(address, 20))).unwrap();
        }
    }

    #[test]
    fn tables_compare_tcpls_with_both_forwarders() {
        let turn = |p99, one| Turn { p99, one, eight: 1.0, short: 1.0, ..Turn::default() };
        let turns = [
            (Way::Direct, vec![turn(50.0, 20.0)]),
            (Way::Rustls, vec![turn(100.0, 4.0)]),
            (Way::RustlsTuned, vec![turn(90.0, 5.0)]),
            (Way::Tcpls, vec![turn(250.5, 6.0)]),
        ];
        let text = comparison(&turns).text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            text.contains(
                "tcpls / tokio-rustls 150.5 (150.5–150.5); goal ≤ 150: **missed** 1.50 (1.50–1.50); goal ≥ 1.5: met"
            ),
            "{text}"
        );
        assert!(figures(&turns).text().contains("250.5"));
    }
}
