//! The figures of the cases, their tables and their goals.

use std::fmt;

use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use super::Case;
use super::peer::{Bulk, Measured, Over};

/// How much longer a request may take than in a session of its own, in milliseconds: p50 and p99.
const BESIDE: [f64; 2] = [5.0, 10.0];
/// How much longer than the round-trip time of an idle path, in milliseconds: p99.
const IDLE: f64 = 15.0;
/// What requests leave of the rate of bulk data.
const BULK: f64 = 0.97;

/// The figures of one case.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    bulk: Bulk,
    case: Case,
    /// p50 and p99 in milliseconds; `None` without requests.
    times: [Option<f64>; 2],
    /// The rate of the bulk data.
    mbit: f64,
    lanes: usize,
}

impl Figures {
    pub(super) fn new(bulk: Bulk, case: Case, measured: &Measured) -> Self {
        let times = [0.5, 0.99].map(|at| quantile(&measured.requests, at));
        Self { bulk, case, times, mbit: measured.mbit, lanes: measured.lanes }
    }

    fn name(&self) -> String {
        format!("{}: {}", name(self.bulk), self.case.name())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = self.times.map(|time| time.map_or("–".to_owned(), |time| format!("{time:.1} ms")));
        let (name, mbit, lanes) = (self.name(), self.mbit, self.lanes);
        write!(f, "{name:<50} p50 {p50:>8}  p99 {p99:>8}  bulk {mbit:5.2} Mbit/s  lanes {lanes}")
    }
}

fn name(bulk: Bulk) -> &'static str {
    if bulk == Bulk::Download { "download" } else { "upload" }
}

fn quantile(values: &[f64], at: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() as f64 * at) as usize;
    sorted.get(index).or(sorted.last()).copied()
}

/// All figures.
pub(super) fn latency(all: &[Figures]) -> Table {
    let row = |figures: &Figures| {
        let [p50, p99] = figures.times.map(|time| time.and_then(Cell::value));
        let lanes = (figures.case.over() == Over::Tcpls).then_some(figures.lanes as f64).and_then(Cell::value);
        Row { name: figures.name(), cells: vec![p50, p99, Cell::value(figures.mbit), lanes] }
    };
    Table {
        name: "latency".to_owned(),
        rows_are: "bulk data: where requests are made".to_owned(),
        columns: vec![
            Column::new("p50", "ms", 1, Better::Lower),
            Column::new("p99", "ms", 1, Better::Lower),
            Column::new("bulk", "Mbit/s", 2, Better::Higher),
            Column::new("lanes", "", 0, Better::Neither),
        ],
        rows: all.iter().map(row).collect(),
    }
}

/// The goals; `idle_rtt` is the round-trip time of the idle path in milliseconds.
pub(super) fn goals(all: &[Figures], idle_rtt: f64) -> Table {
    let mut rows = Vec::new();
    let mut add = |name: String, value: Option<f64>, goal: Option<Goal>| {
        let cell = value.and_then(Cell::value).map(|cell| cell.with_goal(goal));
        rows.push(Row { name, cells: vec![cell] });
    };
    for bulk in [Bulk::Download, Bulk::Upload] {
        let of = |case| all.iter().find(|figures| figures.bulk == bulk && figures.case == case);
        let time = |case, index: usize| of(case).and_then(|figures| figures.times[index]);
        let (ours, bulk) = (Case::Beside { lanes: true }, name(bulk));
        for (index, name) in ["p50", "p99"].into_iter().enumerate() {
            let own = time(Case::Apart, index).map(|own| Goal::AtMost(tenths(own + BESIDE[index])));
            let what = format!("{bulk}: {name} ≤ that of a session of their own + {} ms", BESIDE[index]);
            add(what, time(ours, index), own);
            for peer in [Case::Peer(Over::Http2), Case::Peer(Over::Quic)] {
                let goal = time(peer, index).map(|theirs| Goal::AtMost(tenths(theirs)));
                add(format!("{bulk}: {name} ≤ that of {}", peer.name()), time(ours, index), goal);
            }
        }
        let what = format!("{bulk}: p99 with an idle path ≤ its RTT + {IDLE} ms");
        add(what, time(Case::IdlePath, 1), Some(Goal::AtMost(idle_rtt + IDLE)));
        let rate = |case| of(case).map(|figures| figures.mbit);
        for case in [ours, Case::IdlePath] {
            let share = rate(case).zip(rate(Case::OnlyBulk)).map(|(rate, alone)| rate / alone);
            add(format!("{bulk}: rate beside requests in {} / without", case.name()), share, Some(Goal::AtLeast(BULK)));
        }
    }
    let columns = vec![Column::new("TCPLS", "", 2, Better::Neither)];
    Table { name: "goals".to_owned(), rows_are: "bulk data: goal, ms or a ratio".to_owned(), columns, rows }
}

/// As the figure is shown in the other table.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(case: Case, milliseconds: f64, mbit: f64) -> Figures {
        let requests = (0..200).map(|index| milliseconds + f64::from(index >= 198) * 10.0).collect();
        Figures::new(Bulk::Upload, case, &Measured { requests, mbit, lanes: 1 })
    }

    #[test]
    fn requests_are_judged_by_those_of_a_session_of_their_own_and_of_peers() {
        let all = [
            figures(Case::OnlyBulk, 0.0, 24.0),
            figures(Case::Apart, 60.0, 24.0),
            figures(Case::Beside { lanes: true }, 66.0, 23.0),
            figures(Case::Peer(Over::Http2), 80.0, 24.0),
            figures(Case::Peer(Over::Quic), 65.0, 24.0),
        ];
        let text = goals(&all, 20.0).text();
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("upload: p50 ≤ that of a session").ends_with("66.00; goal ≤ 65: **missed**"), "{text}");
        assert!(line("upload: p99 ≤ that of a session").ends_with("76.00; goal ≤ 80: met"), "{text}");
        assert!(line("upload: p50 ≤ that of HTTP/2").ends_with("66.00; goal ≤ 80: met"), "{text}");
        assert!(line("upload: p50 ≤ that of QUIC").ends_with("66.00; goal ≤ 65: **missed**"), "{text}");
        assert!(line("upload: rate beside requests in the same session / ").ends_with("0.96; goal ≥ 0.97: **missed**"));
        assert!(line("upload: p99 with an idle path").ends_with("–"), "it was not measured: {text}");
        assert!(line("download: p50 ≤ that of QUIC").ends_with("–"), "{text}");
    }
}
