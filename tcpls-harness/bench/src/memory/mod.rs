//! Costs of sessions in memory, without sockets: both ends on one thread. `pair` has the two ends, `work` the
//! workloads; `counts` counts the instructions of the same workloads.

pub mod pair;
pub mod work;

use serde::Serialize;

use self::work::{WORKLOADS, Workload};
use crate::Outcome;
use crate::cores::pin;
use crate::meter::Mark;
use crate::table::{self, Cell};
use crate::tls::PROVIDER;

/// Both ends in memory: time and allocations for each unit of work
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Workloads to measure, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A comparison and its goal: the rate of the first divided by that of the second.
const GOALS: &[(&str, &str, Option<f64>)] = &[
    ("bulk", "bare", Some(0.92)),
    ("bulk-2-tcp", "bulk", None),
    ("bulk-4-tcp", "bulk", None),
    ("streams-1000", "bulk", None),
];

#[derive(Serialize)]
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
    if args.json {
        println!("{}", serde_json::to_string(&results)?);
    } else {
        print(&results);
    }
    Ok(())
}

fn print(results: &[Measured]) {
    println!("in memory, CPU time of both ends together, AES-128-GCM by {PROVIDER}");
    let text = |text: &str| Cell::Text(text.to_owned());
    let mut rows = vec![["", "ns", "min", "max", "allocations", "for each"].map(text).to_vec()];
    for result in results {
        let fold = |f: fn(f64, f64) -> f64| result.nanoseconds.iter().copied().reduce(f).unwrap_or(f64::NAN);
        rows.push(vec![
            text(result.name),
            Cell::Number(table::median(result.nanoseconds.iter().copied()), 0),
            Cell::Number(fold(f64::min), 0),
            Cell::Number(fold(f64::max), 0),
            Cell::Number(result.allocations, 3),
            text(result.unit),
        ]);
    }
    table::print(&rows);
    println!();
    let mut rows = vec![["", "rate", "goal", ""].map(text).to_vec()];
    for (first, second, goal) in GOALS {
        let find = |name: &str| results.iter().find(|result| result.name == name);
        let (Some(a), Some(b)) = (find(first), find(second)) else { continue };
        let ratio = table::median(a.nanoseconds.iter().zip(&b.nanoseconds).map(|(a, b)| b / a));
        let (goal_text, missed) = match goal {
            Some(goal) => (Cell::Number(*goal, 2), ratio < *goal),
            None => (text(""), false),
        };
        let verdict = text(if missed { "missed" } else { "" });
        rows.push(vec![Cell::Text(format!("{first} / {second}")), Cell::Number(ratio, 3), goal_text, verdict]);
    }
    table::print(&rows);
}
