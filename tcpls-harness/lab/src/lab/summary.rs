//! Summary of all runs of a scenario: quantiles by case, ratios, and the goals; as JSON and as a table.

use std::fmt::Write;

use serde::Serialize;

use super::goal::{self, Figure, Verdict, quantile};
use super::outcome::Run;
use super::scenario::{Case, Scenario};

/// A distribution. What is infinite (the transfer never went on) is null in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min: _, p50, p90, p99, max } = self;
        write!(f, "p50 {p50:>5.0}  p90 {p90:>5.0}  p99 {p99:>5.0}  max {max:>5.0} ms")
    }
}

/// The results of a case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CaseSummary {
    pub(crate) case: &'static str,
    pub(crate) runs: usize,
    pub(crate) intact: usize,
    pub(crate) seconds: Option<Spread>,
    /// From the start of the client.
    pub(crate) whole_seconds: Option<Spread>,
    pub(crate) mbit: Option<Spread>,
    pub(crate) mbit_first: Option<Spread>,
    pub(crate) mbit_after: Option<Spread>,
    pub(crate) gaps_ms: Vec<Option<Spread>>,
    /// Those that begin within 0.2 s after the event.
    pub(crate) gaps_soon_ms: Vec<Option<Spread>>,
    /// Medians, for each gap.
    pub(crate) loaded_rtt_ms: Vec<Option<f64>>,
    /// Runs in which the machine was too busy, though they were done anew.
    pub(crate) disturbed: usize,
}

/// The results of a scenario.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: &'static str,
    about: &'static str,
    pub(crate) cases: Vec<CaseSummary>,
    /// Ours divided by MPTCP's, median and p99 of each gap; and of each that begins within 0.2 s.
    ratios: Vec<[Option<f64>; 2]>,
    ratios_soon: Vec<[Option<f64>; 2]>,
    pub(crate) goals: Vec<Verdict>,
}

fn spread(figure: Figure, runs: &[Run], case: &str) -> Option<Spread> {
    let values = figure.sorted(runs, case);
    let at = |share| quantile(&values, share);
    Some(Spread { min: at(0.0)?, p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, max: at(1.0)? })
}

impl Summary {
    /// Summarizes `runs`, all of this scenario.
    pub(crate) fn of(scenario: &Scenario, runs: &[Run]) -> Self {
        let gaps = 0..scenario.gaps.len();
        let case = |case: &Case| {
            let name = case.name;
            let mine: Vec<&Run> = runs.iter().filter(|run| run.case == name).collect();
            let gaps = if case.events { gaps.clone() } else { 0..0 };
            CaseSummary {
                case: name,
                runs: mine.len(),
                intact: mine.iter().filter(|run| run.intact).count(),
                seconds: spread(Figure::Seconds, runs, name),
                whole_seconds: spread(Figure::Whole, runs, name),
                mbit: spread(Figure::Mbit, runs, name),
                mbit_first: spread(Figure::MbitFirst, runs, name),
                mbit_after: spread(Figure::MbitAfter, runs, name),
                gaps_ms: gaps.clone().map(|gap| spread(Figure::Gap(gap), runs, name)).collect(),
                gaps_soon_ms: gaps.clone().map(|gap| spread(Figure::GapSoon(gap), runs, name)).collect(),
                loaded_rtt_ms: gaps.map(|gap| goal::loaded_rtt(runs, name, gap)).collect(),
                disturbed: mine.iter().filter(|run| run.was_disturbed()).count(),
            }
        };
        let ratio = |gap| [0.5, 0.99].map(|at| goal::ratio(gap, at, runs));
        Self {
            scenario: scenario.name,
            about: scenario.about,
            cases: scenario.cases.iter().map(case).filter(|case| case.runs > 0).collect(),
            ratios: gaps.clone().map(|gap| ratio(Figure::Gap(gap))).collect(),
            ratios_soon: gaps.clone().map(|gap| ratio(Figure::GapSoon(gap))).collect(),
            goals: scenario.goals.iter().map(|goal| goal.judge(runs)).collect(),
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}: {}\n", self.scenario, self.about);
        for case in &self.cases {
            let range = |spread: &Option<Spread>, digits| {
                let Some(Spread { min, p50, max, .. }) = spread else { return "-".to_owned() };
                // Rates of narrow paths are a few kbit/s.
                let digits = if *p50 < 1.0 { 4 } else { digits };
                format!("{p50:.digits$} ({min:.digits$}–{max:.digits$})")
            };
            let (mbit, first) = (range(&case.mbit, 1), range(&case.mbit_first, 1));
            let seconds = range(&case.whole_seconds, 2);
            let disturbed =
                if case.disturbed > 0 { format!("  ({} disturbed)", case.disturbed) } else { String::new() };
            let (name, runs, intact) = (case.case, case.runs, case.intact);
            _ = writeln!(
                text,
                "  {name:<16} {runs:>3} runs, {intact:>3} intact  {mbit} Mbit/s, first 2 s {first}, whole {seconds} s{disturbed}"
            );
            let gaps = case.gaps_ms.iter().zip(&case.gaps_soon_ms).zip(&case.loaded_rtt_ms).enumerate();
            for (index, ((gap, soon), rtt)) in gaps {
                let (Some(gap), Some(soon), Some(rtt)) = (gap, soon, rtt) else { continue };
                let name = format!("gap {}", index + 1);
                _ = writeln!(text, "    {name} {gap}  at an RTT of {rtt:.0} ms");
                _ = writeln!(text, "     soon {soon}");
            }
        }
        for (name, ratios) in [("", &self.ratios), (" soon", &self.ratios_soon)] {
            for (index, ratio) in ratios.iter().enumerate() {
                if let [Some(median), Some(p99)] = ratio {
                    _ = writeln!(text, "  gap {}{name}: {median:.2} × MPTCP's at p50, {p99:.2} × at p99", index + 1);
                }
            }
        }
        for goal in &self.goals {
            let met = match goal.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "not measured",
            };
            let (value, limit) = (goal.value.unwrap_or(f64::NAN), goal.limit.unwrap_or(f64::NAN));
            _ = writeln!(text, "  {met:<7} {}: {value:.2}, limit {limit:.2}", goal.goal);
        }
        text
    }
}
