//! How cost grows: with the size of records and writes, with the number of streams, TCP connections and sessions, with
//! round-trip time and loss, with the number of records per acknowledgment. Each curve is a table and a picture.
//!
//! | file | what grows |
//! | --- | --- |
//! | `sizes` | records, writes |
//! | `numbers` | streams, TCP connections, sessions |
//! | `acks` | what is received before it is acknowledged, over loopback |
//! | `simulated` | round-trip time and loss; what a lost TCP connection had not acknowledged. In virtual time: always the same |
//! | `plot` | the pictures |

mod acks;
mod numbers;
mod plot;
mod simulated;
mod sizes;

use std::path::PathBuf;

use tcpls_results::{Better, Cell, Column, Row, Table};

use crate::Outcome;
use crate::cores::pin;
use crate::loopback::{Job, Sample};
use crate::median::median;
use crate::memory::work::Work;
use crate::meter::{Mark, Span};
use crate::output::Output;

/// How cost grows with sizes and numbers, as tables and pictures
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Curves to measure, separated by commas. Default: all
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Draw each into a file NAME.svg in this directory
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Rounds of each point; simulated ones have one
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Few points and little work, to check that the command works
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: Output,
    /// List the curves
    #[arg(long)]
    list: bool,
}

/// One curve, or several on the same axes.
struct Curve {
    name: &'static str,
    title: &'static str,
    /// The quantity that grows.
    x: &'static str,
    /// The measured quantities, with their number of significant digits.
    columns: &'static [(&'static str, usize)],
    drawn: Drawn,
    /// Whether it is the same whenever it is measured.
    exact: bool,
    points: fn(Effort) -> Vec<Point>,
}

/// The lines of a picture.
#[derive(Clone, Copy, Debug)]
enum Drawn {
    /// The first column, a line for each series.
    First,
    /// A line for each of these columns, as multiples of what the first point has.
    Multiples(&'static [usize]),
}

/// One point of a curve.
struct Point {
    series: String,
    x: f64,
    /// Measures it once: a number for each column.
    measure: Box<dyn Fn() -> Outcome<Vec<f64>>>,
}

impl Point {
    fn new(series: &str, x: f64, measure: impl Fn() -> Outcome<Vec<f64>> + 'static) -> Self {
        Self { series: series.to_owned(), x, measure: Box::new(measure) }
    }
}

const CURVES: &[Curve] = &[
    sizes::RECORDS,
    sizes::WRITES,
    numbers::STREAMS,
    numbers::TCPS,
    numbers::SESSIONS,
    simulated::PATHS,
    acks::RECORDS,
    acks::DELAYS,
    simulated::UNACKNOWLEDGED,
];

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Full,
    Quick,
}

impl Effort {
    /// One or the other.
    fn choose<T>(self, full: T, quick: T) -> T {
        if self == Self::Full { full } else { quick }
    }

    /// A transfer over loopback of at most `mib` MiB; less if it consists of small pieces.
    fn job(self, mib: u64, piece: usize) -> Outcome<Job> {
        let most = self.choose(mib << 20, 1 << 20);
        let bytes = most.min(piece as u64 * self.choose(200_000, 1000));
        Job::new(bytes / 8, bytes)
    }
}

/// The medians of one point.
#[derive(Debug, PartialEq)]
struct Measured {
    series: String,
    x: f64,
    values: Vec<f64>,
}

/// Measures all that is wanted, prints, draws.
pub fn run(args: &Args) -> Outcome {
    if args.list {
        CURVES.iter().for_each(|curve| println!("{:<16} {}", curve.name, curve.title));
        return Ok(());
    }
    if let Some(unknown) = args.only.iter().find(|name| CURVES.iter().all(|curve| curve.name != **name)) {
        return Err(format!("no curve is called {unknown}: --list says which there are").into());
    }
    let mut tables = Vec::new();
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    for curve in CURVES.iter().filter(|curve| args.only.is_empty() || args.only.iter().any(|name| name == curve.name)) {
        let points = curve.measure(effort, args.rounds)?;
        tables.push(curve.table(&points));
        if let Some(directory) = &args.svg {
            std::fs::write(directory.join(curve.name).with_extension("svg"), plot::svg(curve, &points)?)?;
        }
    }
    args.output.give(tables)
}

impl Curve {
    /// All points have a turn in each round, so that what else the machine does hits all alike.
    fn measure(&self, effort: Effort, rounds: usize) -> Outcome<Vec<Measured>> {
        let (points, rounds) = ((self.points)(effort), if self.exact { 1 } else { rounds.max(1) });
        let mut samples: Vec<Vec<Vec<f64>>> = points.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for (point, samples) in points.iter().zip(&mut samples) {
                eprint!("\r{} {} of {rounds}: {:<30} {:<8}", self.name, round + 1, point.series, point.x);
                let values = (point.measure)();
                samples.push(values.map_err(|error| format!("{} {} {}: {error}", self.name, point.series, point.x))?);
            }
        }
        eprint!("\r{:70}\r", "");
        let median = |samples: &[Vec<f64>], column| median(samples.iter().map(|values: &Vec<f64>| values[column]));
        let values = |samples: &[Vec<f64>]| (0..self.columns.len()).map(|column| median(samples, column)).collect();
        let measured =
            |(point, samples): (Point, Vec<_>)| Measured { series: point.series, x: point.x, values: values(&samples) };
        Ok(points.into_iter().zip(samples).map(measured).collect())
    }

    /// The table has no verdict on the figures: curves show how they depend on each other.
    fn table(&self, points: &[Measured]) -> Table {
        let column = |(name, digits): &(&str, usize)| Column {
            portable: self.exact,
            ..Column::new(name, "", *digits, Better::Neither)
        };
        let row = |point: &Measured| {
            let series = if point.series.is_empty() { String::new() } else { format!("{}, ", point.series) };
            let cells = point.values.iter().map(|value| Cell::value(*value)).collect();
            Row { name: format!("{series}{}", point.x), cells }
        };
        Table {
            name: self.name.to_owned(),
            rows_are: self.x.to_owned(),
            columns: self.columns.iter().map(column).collect(),
            rows: points.iter().map(row).collect(),
        }
    }
}

/// Runs something on a core of its own, in a thread whose allocations are counted from nothing.
fn alone<T: Send>(work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            pin(0);
            work()
        });
        worker.join().map_err(|_| "panicked")?
    })
}

/// The cost of a number of units of work, after a quarter as many that do not count.
fn spent(mut work: Work, units: u32) -> Span {
    work(units.div_ceil(4));
    let mark = Mark::now();
    work(units);
    mark.until_now()
}

/// Bits per nanosecond and CPU time for each GB of a thread that did nothing but moving `bytes`.
fn rate_and_cpu(span: Span, bytes: f64) -> (f64, f64) {
    (bytes * 8.0 / 1e9 / span.cpu_seconds, span.cpu_seconds * 1e9 / bytes)
}

/// The same of two ends on two threads.
fn rate_and_cpu_of(sample: &Sample) -> (f64, f64) {
    (sample.rate / 1e9, sample.cpu_seconds())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(curve: &Curve) -> Vec<Measured> {
        let points = curve.measure(Effort::Quick, 1).unwrap();
        assert!(points.len() > 1, "{} has no points", curve.name);
        points
    }

    #[test]
    fn every_point_of_every_curve_can_be_measured_and_drawn() {
        for curve in CURVES {
            let points = quick(curve);
            for point in &points {
                assert_eq!(point.values.len(), curve.columns.len(), "{}", curve.name);
                assert!(point.values.iter().all(|value| value.is_finite()), "{} {point:?}", curve.name);
                assert!(point.values[0] > 0.0, "{} {point:?}", curve.name);
            }
            let svg = plot::svg(curve, &points).unwrap();
            let names = plot::lines(curve, &points).into_iter().map(|(name, _)| name);
            assert!(names.clone().count() > 0 && names.clone().all(|name| svg.contains(name)), "{}", curve.name);
        }
    }

    #[test]
    fn simulation_gives_the_same_result_twice() {
        let simulated: Vec<&Curve> = CURVES.iter().filter(|curve| curve.exact).collect();
        assert!(!simulated.is_empty());
        simulated.iter().for_each(|curve| assert_eq!(quick(curve), quick(curve), "{}", curve.name));
    }

    #[test]
    fn no_two_curves_have_one_name() {
        let mut names: Vec<&str> = CURVES.iter().map(|curve| curve.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CURVES.len());
    }
}
