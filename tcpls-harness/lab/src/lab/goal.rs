//! Goals, and whether they were reached. No I/O.

use serde::Serialize;

use super::outcome::{MPTCP, OURS, Run};

/// The figure that is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Figure {
    /// The gap at the n-th event that is measured, in milliseconds.
    Gap(usize),
    /// The same, if it begins within 0.2 s.
    GapSoon(usize),
    /// From the first byte to the last.
    Seconds,
    /// From the start of the client to the last byte.
    Whole,
    /// Goodput over the first two seconds.
    MbitFirst,
    /// Goodput, from the first byte or from the first event.
    Mbit,
    MbitAfter,
    /// The lowest goodput over any 200 ms.
    Lowest,
    /// TCP connections that were lost.
    Lost,
}

/// The bound of a figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limit {
    /// At most this.
    Value(f64),
    /// At most this many round trips as they were just before the event (their median), and this many milliseconds more.
    RoundTrips { count: f64, plus_ms: f64 },
    /// At most this part of what other cases have together.
    PartOf { cases: Vec<&'static str>, part: f64 },
    /// At least this part of the figure's own median.
    OwnMedian { part: f64 },
    /// At least this part of what other cases have together of a figure, at the same quantile.
    AtLeast { figure: Figure, cases: Vec<&'static str>, part: f64 },
}

/// A goal for our own stack.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    pub(crate) figure: Figure,
    pub(crate) quantile: f64,
    pub(crate) limit: Limit,
}

/// A goal after the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) goal: String,
    pub(crate) value: Option<f64>,
    pub(crate) limit: Option<f64>,
    #[serde(skip)]
    pub(crate) is_lower_bound: bool,
    /// Nothing if runs to compare with are missing.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// Its value in one run; infinite if it was not reached.
    fn of(self, run: &Run) -> f64 {
        match self {
            Self::Gap(index) => run.gaps_ms.get(index).copied().flatten().unwrap_or(f64::INFINITY),
            Self::GapSoon(index) => run.gaps_soon_ms.get(index).copied().flatten().unwrap_or(f64::INFINITY),
            Self::Seconds | Self::Whole if !run.intact => f64::INFINITY,
            Self::Seconds => run.seconds,
            Self::Whole => run.whole_seconds.unwrap_or(f64::INFINITY),
            Self::MbitFirst => run.mbit_first.unwrap_or(0.0),
            Self::Mbit => run.mbit,
            Self::MbitAfter => run.mbit_after,
            Self::Lowest => run.lowest_mbit.unwrap_or(0.0),
            Self::Lost => run.lost.map_or(f64::INFINITY, f64::from),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Gap(index) => format!("gap {}", index + 1),
            Self::GapSoon(index) => format!("gap {} soon", index + 1),
            Self::Seconds => "seconds".to_owned(),
            Self::Whole => "seconds from the start of the client".to_owned(),
            Self::MbitFirst => "Mbit/s in the first 2 s".to_owned(),
            Self::Mbit => "Mbit/s".to_owned(),
            Self::MbitAfter => "Mbit/s from the event on".to_owned(),
            Self::Lowest => "Mbit/s over any 200 ms".to_owned(),
            Self::Lost => "TCP connections lost".to_owned(),
        }
    }

    /// Its values in all runs of a case, from the lowest.
    pub(crate) fn sorted(self, runs: &[Run], case: &str) -> Vec<f64> {
        let mut values: Vec<f64> = runs.iter().filter(|run| run.case == case).map(|run| self.of(run)).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// The value that this part of all are not above: `quantile` from 0 to 1, `sorted` from the lowest. `None` if there are none.
pub(crate) fn quantile(sorted: &[f64], quantile: f64) -> Option<f64> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The median of the round-trip times at the n-th event.
pub(crate) fn loaded_rtt(runs: &[Run], case: &str, event: usize) -> Option<f64> {
    let of_case = runs.iter().filter(|run| run.case == case);
    let mut values: Vec<f64> = of_case.filter_map(|run| run.rtt_ms.get(event).copied()).collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

impl Goal {
    /// Judges the runs of a scenario.
    pub(crate) fn judge(&self, runs: &[Run]) -> Verdict {
        let value = quantile(&self.figure.sorted(runs, OURS), self.quantile);
        let limit = self.limit.value(self, runs);
        let is_lower_bound = matches!(self.limit, Limit::AtLeast { .. } | Limit::OwnMedian { .. });
        let met = value.zip(limit).map(|(value, limit)| if is_lower_bound { value >= limit } else { value <= limit });
        Verdict { goal: self.text(), value, limit, is_lower_bound, met }
    }

    fn text(&self) -> String {
        let what = format!("p{:.0} of {}", self.quantile * 100.0, self.figure.name());
        match &self.limit {
            Limit::Value(value) => format!("{what} ≤ {value}"),
            Limit::RoundTrips { count, plus_ms } => format!("{what} ≤ {count} loaded RTT + {plus_ms} ms"),
            Limit::PartOf { cases, part } => format!("{what} ≤ {part} × {}", cases.join(" + ")),
            Limit::OwnMedian { part } => format!("{what} ≥ {part} × its median"),
            Limit::AtLeast { figure, cases, part } => {
                format!("{what} ≥ {part} × {} of {}", figure.name(), cases.join(" + "))
            }
        }
    }
}

impl Limit {
    fn value(&self, goal: &Goal, runs: &[Run]) -> Option<f64> {
        let of = |figure: Figure, case: &str| quantile(&figure.sorted(runs, case), goal.quantile);
        let sum = |figure, cases: &[&str]| cases.iter().map(|case| of(figure, case)).sum::<Option<f64>>();
        match self {
            Self::Value(value) => Some(*value),
            Self::RoundTrips { count, plus_ms } => {
                let Figure::Gap(event) = goal.figure else { return None };
                Some(count * loaded_rtt(runs, OURS, event)? + plus_ms)
            }
            Self::OwnMedian { part } => Some(quantile(&goal.figure.sorted(runs, OURS), 0.5)? * part),
            Self::PartOf { cases, part } => Some(sum(goal.figure, cases)? * part),
            Self::AtLeast { figure, cases, part } => Some(sum(*figure, cases)? * part),
        }
    }
}

/// Ours divided by MPTCP's.
pub(crate) fn ratio(figure: Figure, at: f64, runs: &[Run]) -> Option<f64> {
    let of = |case| quantile(&figure.sorted(runs, case), at).filter(|value| value.is_finite());
    Some(of(OURS)? / of(MPTCP)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(case: &str, gaps: &[f64]) -> Vec<Run> {
        let run = |gap: &f64| Run {
            case: case.to_owned(),
            gaps_ms: vec![gap.is_finite().then_some(*gap)],
            rtt_ms: vec![50.0],
            ..Run::default()
        };
        gaps.iter().map(run).collect()
    }

    fn judge(quantile: f64, limit: Limit, ours: &[f64], mptcp: &[f64]) -> Verdict {
        let runs = [runs(OURS, ours), runs(MPTCP, mptcp)].concat();
        Goal { figure: Figure::Gap(0), quantile, limit }.judge(&runs)
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.9, 0.99, 1.0].map(|at| quantile(&hundred, at)), [50.0, 90.0, 99.0, 100.0].map(Some));
        assert_eq!([0.5, 0.99].map(|at| quantile(&[1.0, 2.0, 3.0], at)), [2.0, 3.0].map(Some));
        assert_eq!(quantile(&[4.0], 0.0), Some(4.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_goal_in_round_trips_is_held_against_those_of_the_runs() {
        let limit = Limit::RoundTrips { count: 2.0, plus_ms: 30.0 };
        let verdict = judge(0.5, limit.clone(), &[120.0, 130.0, 500.0], &[]);
        assert_eq!((verdict.value, verdict.limit, verdict.met), (Some(130.0), Some(130.0), Some(true)));
        assert_eq!(judge(0.99, limit, &[120.0, 130.0, 500.0], &[]).met, Some(false));
    }

    #[test]
    fn a_goal_against_another_stack_needs_runs_of_it() {
        let limit = Limit::PartOf { cases: vec![MPTCP], part: 0.5 };
        assert_eq!(judge(0.5, limit.clone(), &[99.0], &[200.0]).met, Some(true));
        assert_eq!(judge(0.5, limit.clone(), &[101.0], &[200.0]).met, Some(false));
        assert_eq!(judge(0.5, limit, &[99.0], &[]).met, None);
    }

    #[test]
    fn lower_bounds_are_judged_in_the_other_direction() {
        let limit = Limit::AtLeast { figure: Figure::Gap(0), cases: vec![MPTCP], part: 1.0 };
        assert_eq!(judge(0.5, limit.clone(), &[10.0], &[9.0]).met, Some(true));
        assert_eq!(judge(0.5, limit, &[8.0], &[9.0]).met, Some(false));
    }

    #[test]
    fn the_lowest_run_is_judged_by_the_median_of_all() {
        let limit = Limit::OwnMedian { part: 0.9 };
        assert_eq!(judge(0.0, limit.clone(), &[91.0, 100.0, 120.0], &[]).met, Some(true));
        assert_eq!(judge(0.0, limit, &[89.0, 100.0, 120.0], &[]).met, Some(false));
    }

    #[test]
    fn a_transfer_that_never_went_on_is_worse_than_any_other() {
        let verdict = judge(0.99, Limit::Value(200.0), &[10.0, f64::INFINITY, 20.0], &[]);
        assert_eq!((verdict.value, verdict.met), (Some(f64::INFINITY), Some(false)));
    }
}
