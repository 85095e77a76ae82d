//! Summaries as a file of results, for the documentation and for comparisons.

use tcpls_results::{Better, Cell, Column, Goal, Row, Table};

use super::goal::Verdict;
use super::summary::{CaseSummary, Spread, Summary};

/// The tables: gaps, transfers and goals of all scenarios. A column without any figure is left out.
pub(crate) fn tables(summaries: &[Summary]) -> Vec<Table> {
    let mut tables = vec![gaps(summaries), transfers(summaries), goals(summaries)];
    tables.iter_mut().for_each(leave_out_empty_columns);
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn table(name: &str, rows_are: &str, columns: Vec<Column>, rows: Vec<Row>) -> Table {
    Table { name: name.to_owned(), rows_are: rows_are.to_owned(), columns, rows }
}

fn leave_out_empty_columns(table: &mut Table) {
    let used: Vec<bool> =
        (0..table.columns.len()).map(|index| table.rows.iter().any(|row| row.cells[index].is_some())).collect();
    let mut keep = used.iter();
    table.columns.retain(|_| *keep.next().expect("one for each column"));
    for row in &mut table.rows {
        let mut keep = used.iter();
        row.cells.retain(|_| *keep.next().expect("one for each column"));
    }
}

fn cases(summaries: &[Summary]) -> impl Iterator<Item = (String, &CaseSummary)> {
    let named = |summary: &Summary, case: &CaseSummary| format!("{}: {}", summary.scenario, case.case);
    summaries.iter().flat_map(move |summary| summary.cases.iter().map(move |case| (named(summary, case), case)))
}

fn gaps(summaries: &[Summary]) -> Table {
    let names = ["gap p50", "p90", "p99", "soon p50", "soon p90", "soon p99"];
    let mut columns = names.map(|name| Column::new(name, "ms", 0, Better::Lower)).to_vec();
    columns.push(Column::new("loaded RTT", "ms", 0, Better::Neither));
    columns.push(Column::new("runs", "", 0, Better::Neither));
    let mut rows = Vec::new();
    for (name, case) in cases(summaries) {
        let several = case.gaps_ms.len() > 1;
        for (index, (gap, soon)) in case.gaps_ms.iter().zip(&case.gaps_soon_ms).enumerate() {
            let quantiles = |spread: &Option<Spread>| match spread {
                Some(spread) => [spread.p50, spread.p90, spread.p99].map(Cell::value),
                None => [None; 3],
            };
            let mut cells = [quantiles(gap), quantiles(soon)].concat();
            cells.push(case.loaded_rtt_ms[index].and_then(Cell::value));
            cells.push(Cell::value(case.runs as f64));
            let number = if several { format!(", gap {}", index + 1) } else { String::new() };
            rows.push(Row { name: format!("{name}{number}"), cells });
        }
    }
    table("gaps", "scenario: stack", columns, rows)
}

fn transfers(summaries: &[Summary]) -> Table {
    let columns = vec![
        Column::new("goodput", "Mbit/s", 1, Better::Higher),
        Column::new("first 2 s", "Mbit/s", 1, Better::Higher),
        Column::new("from the event on", "Mbit/s", 1, Better::Higher),
        Column::new("first byte to last", "s", 2, Better::Lower),
        Column::new("whole", "s", 2, Better::Lower),
        Column::new("runs", "", 0, Better::Neither),
        Column::new("intact", "", 0, Better::Neither),
    ];
    let row = |(name, case): (String, &CaseSummary)| {
        let has_events = !case.gaps_ms.is_empty();
        let after = case.mbit_after.as_ref().filter(|_| has_events);
        let [mbit, first, seconds, whole] =
            [&case.mbit, &case.mbit_first, &case.seconds, &case.whole_seconds].map(Option::as_ref);
        let figures = [mbit, first, after, seconds, whole];
        let mut cells: Vec<Option<Cell>> = figures.map(|spread| spread.and_then(range)).to_vec();
        cells.extend([case.runs, case.intact].map(|runs| Cell::value(runs as f64)));
        Row { name, cells }
    };
    table("transfers", "scenario: stack", columns, cases(summaries).map(row).collect())
}

fn range(spread: &Spread) -> Option<Cell> {
    let range = [spread.min, spread.max];
    let cell = Cell::value(spread.p50)?;
    Some(if range.iter().all(|value| value.is_finite()) { Cell { range: Some(range), ..cell } } else { cell })
}

fn goals(summaries: &[Summary]) -> Table {
    let columns = vec![Column::new("TCPLS", "", 2, Better::Neither)];
    let row = |summary: &Summary, verdict: &Verdict| {
        let goal = verdict.limit.filter(|limit| limit.is_finite());
        let goal = goal.map(|limit| if verdict.is_lower_bound { Goal::AtLeast(limit) } else { Goal::AtMost(limit) });
        let cell = verdict.value.and_then(Cell::value).map(|cell| cell.with_goal(goal));
        Row { name: format!("{}: {}", summary.scenario, verdict.goal), cells: vec![cell] }
    };
    let rows = summaries.iter().flat_map(|summary| summary.goals.iter().map(|verdict| row(summary, verdict))).collect();
    table("goals", "scenario: goal", columns, rows)
}

#[cfg(test)]
mod tests {
    use super::super::outcome::{MPTCP, OURS, Run};
    use super::super::scenario;
    use super::*;

    #[test]
    fn tables_have_the_cases_that_ran_with_their_gaps_and_goals() {
        let scenario = scenario::all().into_iter().find(|scenario| scenario.name == "dark-active").unwrap();
        let run = |case: &str, gap: f64| Run {
            scenario: scenario.name.to_owned(),
            case: case.to_owned(),
            intact: true,
            mbit: 40.0,
            mbit_after: 20.0,
            gaps_ms: vec![Some(gap)],
            gaps_soon_ms: vec![None],
            rtt_ms: vec![50.0],
            whole_seconds: Some(3.0),
            ..Run::default()
        };
        let runs = [run(OURS, 90.0), run(OURS, 100.0), run(MPTCP, 300.0)];
        let tables = tables(&[Summary::of(&scenario, &runs)]);
        let texts: Vec<String> = tables.iter().map(Table::text).collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(texts[0].lines().any(|line| words(line) == "dark-active: tcpls 90 100 100 50 2"), "{}", texts[0]);
        assert!(!texts[0].contains("soon"), "gaps that never ended are not figures: {}", texts[0]);
        assert!(texts[1].contains("40.0 (40.0–40.0)") && texts[1].contains("20.0 (20.0–20.0)"), "{}", texts[1]);
        assert!(
            texts[2].contains("p50 of gap 1 ≤ 0.5 × mptcp") && texts[2].contains("90.00; goal ≤ 150: met"),
            "{}",
            texts[2]
        );
    }
}
