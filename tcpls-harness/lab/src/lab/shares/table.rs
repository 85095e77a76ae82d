//! Rates in the measured time, and their table.

use std::fmt;
use std::time::Duration;

use tcpls_results::{Better, Cell, Column, Row, Table};

use super::{COMPETITOR, Network, Run, Who, name};
use crate::lab::Outcome;
use crate::lab::path::DOWN;
use crate::lab::wire::Sample;

/// The figures of a case, of each run.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) case: (Network, Who),
    /// Mbit/s of the session.
    session: Vec<f64>,
    /// Mbit/s of it on the second path.
    second: Vec<f64>,
    /// Mbit/s of the competitor; none without one.
    competitor: Vec<f64>,
    /// How alike the queues of separate paths are: Pearson's coefficient.
    correlation: Vec<f64>,
}

impl Figures {
    pub(super) fn new(case: (Network, Who)) -> Self {
        Self { case, session: Vec::new(), second: Vec::new(), competitor: Vec::new(), correlation: Vec::new() }
    }

    /// Adds what was delivered in `length`, `settle` after the session began.
    pub(super) fn add(&mut self, run: &Run, settle: Duration, length: Duration) -> Outcome {
        let from = run.began + settle.as_secs_f64();
        let is_in = |sample: &&Sample| (from..from + length.as_secs_f64()).contains(&sample.at);
        let samples: Vec<&Sample> = run.record.samples.iter().filter(is_in).collect();
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            return Err("nothing was measured".into());
        };
        let mbit = |end: usize| (last.bytes[end][DOWN] - first.bytes[end][DOWN]) as f64 * 8e-6 / (last.at - first.at);
        self.session.push((0..COMPETITOR).map(mbit).sum());
        self.second.push(mbit(1));
        match self.case {
            (Network::Shared { .. }, _) => self.competitor.push(mbit(COMPETITOR)),
            (Network::Separate, Who::Tcpls) => {
                let queues = [0, 1].map(|path| samples.iter().map(|sample| sample.rtt_ms[path]).collect::<Vec<f64>>());
                self.correlation.extend(correlation(&queues[0], &queues[1]));
            }
            (Network::Separate, _) => {}
        }
        Ok(())
    }

    /// What the session got for each Mbit/s of the competitor.
    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.session.iter().zip(&self.competitor).map(|(session, competitor)| session / competitor)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |values: &[f64]| values.last().map_or("–".to_owned(), |value| format!("{value:.1}"));
        let [session, second, competitor] = [&self.session, &self.second, &self.competitor].map(|values| last(values));
        let name = name(self.case);
        write!(f, "{name}: {session} Mbit/s, {second} on the second path, competitor {competitor} Mbit/s")
    }
}

/// Pearson's coefficient; `None` if one of them does not change.
fn correlation(left: &[f64], right: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (left_mean, right_mean) = (mean(left), mean(right));
    let sum = |product: fn(f64, f64) -> f64| {
        let deviations = left.iter().zip(right).map(|(left, right)| (left - left_mean, right - right_mean));
        deviations.map(|(left, right)| product(left, right)).sum::<f64>()
    };
    let spread = (sum(|left, _| left * left) * sum(|_, right| right * right)).sqrt();
    (spread > 0.0).then(|| sum(|left, right| left * right) / spread)
}

/// All figures.
pub(super) fn shares(all: &[Figures]) -> Table {
    let row = |figures: &Figures| {
        let cells = vec![
            Cell::median(figures.session.iter().copied()),
            Cell::median(figures.second.iter().copied()),
            Cell::median(figures.competitor.iter().copied()),
            Cell::median(figures.ratios()),
            Cell::median(figures.correlation.iter().copied()),
            Cell::value(figures.session.len() as f64),
        ];
        Row { name: name(figures.case), cells }
    };
    Table {
        name: "shares".to_owned(),
        rows_are: "network: what uses both interfaces".to_owned(),
        columns: vec![
            Column::new("session", "Mbit/s", 1, Better::Neither),
            Column::new("of it on the second path", "Mbit/s", 1, Better::Neither),
            Column::new("competitor", "Mbit/s", 1, Better::Neither),
            Column::new("session / competitor", "", 2, Better::Neither),
            Column::new("correlation of queues", "", 2, Better::Neither),
            Column::new("runs", "", 0, Better::Neither),
        ],
        rows: all.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::wire::Record;

    #[test]
    fn rates_are_those_of_the_measured_time() {
        let sample = |tenth: u32| {
            let at = f64::from(tenth) / 10.0;
            let bytes = |per_tenth: u64| [u64::from(tenth) * per_tenth, 0];
            Sample { at, bytes: [200_000, 200_000, 100_000].map(bytes).to_vec(), rtt_ms: vec![90.0] }
        };
        let samples: Vec<Sample> = (0..100).map(sample).collect();
        let run = Run { record: Record { samples, ..Record::default() }, began: 1.0 };
        let mut figures = Figures::new((Network::Shared { queue: 50.0 }, Who::Tcpls));
        figures.add(&run, Duration::from_secs(2), Duration::from_secs(4)).unwrap();
        assert!((figures.session[0] - 32.0).abs() < 1e-9 && (figures.competitor[0] - 8.0).abs() < 1e-9);
        let text = shares(&[figures.clone()]).text();
        assert!(text.contains("one bottleneck, queue 50 ms: tcpls") && text.contains("4.00"), "{text}");
        assert!(figures.add(&run, Duration::from_secs(20), Duration::from_secs(4)).is_err());
    }

    #[test]
    fn queues_that_grow_together_are_correlated() {
        let close =
            |left: &[f64], right: &[f64], expected: f64| (correlation(left, right).unwrap() - expected).abs() < 1e-9;
        assert!(close(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0], 1.0));
        assert!(close(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], -1.0));
        assert!(close(&[1.0, 2.0, 1.0, 2.0], &[1.0, 1.0, 2.0, 2.0], 0.0));
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
