//! Costs of sessions in memory, without sockets: both ends on one thread. `pair` has the two ends, `work` the
//! workloads; `counts` counts the instructions of the same workloads.

pub mod pair;
pub mod work;

use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use self::work::{WORKLOADS, Workload};
use crate::Outcome;
use crate::cores::pin;
use crate::meter::Mark;
use crate::output::Output;

/// Both ends in memory: time and allocations for each unit of work
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Workloads to measure, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    #[command(flatten)]
    output: Output,
}

/// A comparison and its goal: the rate of the first divided by that of the second.
const GOALS: &[(&str, &str, Option<f64>)] = &[
    ("bulk", "bare", Some(if cfg!(feature = "aws-lc-rs") { 0.90 } else { 0.95 })),
    ("bulk-2-tcp", "bulk", None),
    ("bulk-4-tcp", "bulk", None),
    ("streams-1000", "bulk", None),
];

struct Measured {
    name: &'static str,
    unit: &'static str,
    /// CPU time for one unit in each round, in nanoseconds.
    nanoseconds: Vec<f64>,
    /// Allocations for one unit in the last round.
    allocations: f64,
}

/// The workloads with these names, or all.
pub fn chosen(only: &[String]) -> Outcome<Vec<&'static Workload>> {
    if let Some(unknown) = only.iter().find(|name| WORKLOADS.iter().all(|work| work.name != **name)) {
        return Err(format!("there is no {unknown}").into());
    }
    Ok(WORKLOADS.iter().filter(|work| only.is_empty() || only.iter().any(|name| name == work.name)).collect())
}

/// Runs all in turns and prints.
pub fn run(args: &Args) -> Outcome {
    pin(0);
    let mut all: Vec<_> = chosen(&args.only)?
        .into_iter()
        .map(|work| {
            let result = Measured { name: work.name, unit: work.unit, nanoseconds: Vec::new(), allocations: 0.0 };
            (work, (work.prepare)(), result)
        })
        .collect();
    all.iter_mut().for_each(|(work, act, _)| act(work.units)); // caches and windows
    for _ in 0..args.rounds {
        for (work, act, result) in &mut all {
            let mark = Mark::now();
            act(work.units);
            let span = mark.until_now();
            result.nanoseconds.push(span.cpu_seconds * 1e9 / f64::from(work.units));
            result.allocations = span.allocations as f64 / f64::from(work.units);
        }
    }
    let results: Vec<Measured> = all.into_iter().map(|(_, _, result)| result).collect();
    args.output.give(vec![costs(&results), ratios(&results)])
}

fn costs(results: &[Measured]) -> Table {
    let columns = vec![
        Column::new("CPU of both ends", "ns", 0, Better::Lower),
        Column::portable("allocations", "", 3, Better::Lower),
    ];
    let row = |result: &Measured| Row {
        name: format!("{}: {}", result.name, result.unit),
        cells: vec![Cell::median(result.nanoseconds.iter().copied()), Cell::value(result.allocations)],
    };
    let rows = results.iter().map(row).collect();
    Table { name: "costs".to_owned(), rows_are: "workload: unit".to_owned(), columns, rows }
}

fn ratios(results: &[Measured]) -> Table {
    let row = |&(first, second, goal): &(&str, &str, Option<f64>)| {
        let find = |name: &str| results.iter().find(|result| result.name == name);
        let (a, b) = (find(first)?, find(second)?);
        let ratio = Cell::median(a.nanoseconds.iter().zip(&b.nanoseconds).map(|(a, b)| b / a))?;
        let cells = vec![Some(ratio.with_goal(goal.map(Goal::AtLeast)))];
        Some(Row { name: format!("{first} / {second}"), cells })
    };
    let columns = vec![Column::portable("rate", "", 3, Better::Higher)];
    Table { name: "ratios".to_owned(), rows_are: String::new(), columns, rows: GOALS.iter().filter_map(row).collect() }
}
