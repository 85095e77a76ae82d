//! Regressions between two measurements.

use std::path::Path;

use crate::{Better, Cell, Column, Results, Row, Table, round};

/// What two files of results say of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Figures that are worse by more than the tolerance, and what is missing.
    pub regressions: Vec<String>,
    /// What was not compared, and why; goals that are no longer reached.
    pub notes: Vec<String>,
    /// Figures that were compared.
    pub compared: usize,
}

/// Compares two files and prints the outcome; returns whether there is no regression.
///
/// # Errors
/// A file can't be read.
pub fn compare_files(old: &Path, new: &Path, tolerance: f64) -> Result<bool, String> {
    let outcome = compare(&Results::read(old)?, &Results::read(new)?, tolerance);
    outcome.notes.iter().for_each(|note| println!("note: {note}"));
    outcome.regressions.iter().for_each(|regression| println!("regression: {regression}"));
    let (regressions, compared) = (outcome.regressions.len(), outcome.compared);
    println!("{compared} figures compared, {regressions} regressions beyond {tolerance} %");
    Ok(regressions == 0)
}

/// Compares `new` with `old`: a figure is a regression if it is worse by more than `tolerance` per cent. Of different
/// machines, only portable figures are compared.
pub fn compare(old: &Results, new: &Results, tolerance: f64) -> Comparison {
    let mut outcome = Comparison::default();
    let same_machine = old.measured.machine == new.measured.machine;
    if !same_machine {
        let (old, new) = (&old.measured.machine, &new.measured.machine);
        outcome.notes.push(format!("other machine ({old}; {new}): only figures that do not depend on it are compared"));
    }
    for table in &old.tables {
        match new.tables.iter().find(|other| other.name == table.name) {
            Some(other) => outcome.compare_tables(table, other, same_machine, tolerance),
            None => outcome.regressions.push(format!("{}: the table is missing", table.name)),
        }
    }
    outcome
}

impl Comparison {
    fn compare_tables(&mut self, old: &Table, new: &Table, same_machine: bool, tolerance: f64) {
        let place = &old.name;
        let mut columns = Vec::new();
        for (index, column) in old.columns.iter().enumerate() {
            let Some(other) = new.columns.iter().position(|other| other.name == column.name) else {
                self.regressions.push(format!("{place}: the column {:?} is missing", column.name));
                continue;
            };
            if new.columns[other].unit != column.unit {
                let (old, new) = (&column.unit, &new.columns[other].unit);
                self.regressions.push(format!("{place}: {:?} was in {old:?} and is in {new:?}", column.name));
            } else if column.better != Better::Neither && (same_machine || column.portable) {
                columns.push((column, index, other));
            }
        }
        for row in &old.rows {
            let Some(other) = new.rows.iter().find(|other| other.name == row.name) else {
                self.regressions.push(format!("{place}: {}: the row is missing", row.name));
                continue;
            };
            for (column, before, after) in &columns {
                self.compare_cells(place, (row, *before), (other, *after), column, tolerance);
            }
        }
        for row in new.rows.iter().filter(|row| old.rows.iter().all(|other| other.name != row.name)) {
            self.notes.push(format!("{place}: {}: the row is new", row.name));
        }
    }

    fn compare_cells(
        &mut self,
        place: &str,
        (row, before): (&Row, usize),
        (other, after): (&Row, usize),
        column: &Column,
        tolerance: f64,
    ) {
        let place = format!("{place}: {}: {}", row.name, column.name);
        let Some(old) = row.cells[before] else { return };
        let Some(new) = other.cells[after] else {
            self.regressions.push(format!("{place}: the figure is missing"));
            return;
        };
        self.compared += 1;
        if is_worse(old, new, column, tolerance) {
            self.regressions.push(format!("{place}: {}", change(old, new, column)));
        }
        if let Some(goal) = new.goal.filter(|goal| old.goal == Some(*goal)) {
            let met = |cell: Cell| goal.is_met(cell.value, column.digits);
            if met(old) && !met(new) {
                self.notes.push(format!("{place}: the goal is no longer reached: {}", change(old, new, column)));
            }
        }
    }
}

/// Compares figures as they are shown: what rounds to the same is the same.
fn is_worse(old: Cell, new: Cell, column: &Column, tolerance: f64) -> bool {
    let [old, new] = [old, new].map(|cell| round(cell.value, column.digits));
    let loss = match column.better {
        Better::Higher => old - new,
        Better::Lower => new - old,
        Better::Neither => 0.0,
    };
    loss > 0.0 && loss > old.abs() * tolerance / 100.0
}

fn change(old: Cell, new: Cell, column: &Column) -> String {
    let (digits, unit) = (column.digits, &column.unit);
    let space = if unit.is_empty() { "" } else { " " };
    let mut text = format!("{:.digits$} → {:.digits$}{space}{unit}", old.value, new.value);
    if old.value != 0.0 {
        text += &format!(", {:+.1} %", (new.value / old.value - 1.0) * 100.0);
    }
    if let Some([low, high]) = old.range {
        text += &format!(" (was {low:.digits$} to {high:.digits$})");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Goal, Measured};

    /// A table with a rate and a portable cost.
    pub(crate) fn results(rows: &[(&str, Option<f64>)]) -> Results {
        let row = |(name, rate): &(&str, Option<f64>)| Row {
            name: (*name).to_owned(),
            cells: vec![rate.and_then(Cell::value), Cell::value(10.0)],
        };
        let columns = vec![
            Column::new("rate", "Gbit/s", 1, Better::Higher),
            Column::portable("instructions", "", 0, Better::Lower),
        ];
        let measured = Measured { machine: "one".to_owned(), ..Measured::default() };
        let rows = rows.iter().map(row).collect();
        Results { measured, tables: vec![Table { name: "speed".to_owned(), rows_are: String::new(), columns, rows }] }
    }

    fn cell(results: &mut Results, column: usize) -> &mut Cell {
        results.tables[0].rows[0].cells[column].as_mut().unwrap()
    }

    fn regressions(old: &Results, new: &Results) -> Vec<String> {
        compare(old, new, 5.0).regressions
    }

    #[test]
    fn a_figure_that_is_worse_beyond_the_tolerance_is_named_with_its_unit() {
        let old = results(&[("tcpls", Some(37.4)), ("bare", Some(35.0))]);
        let new = results(&[("tcpls", Some(30.0)), ("bare", Some(36.0))]);
        assert_eq!(regressions(&old, &new), ["speed: tcpls: rate: 37.4 → 30.0 Gbit/s, -19.8 %"]);
        assert_eq!(regressions(&new, &old), [""; 0], "faster");
        assert_eq!(regressions(&old, &results(&[("tcpls", Some(35.6)), ("bare", Some(33.3))])), [""; 0]);
        let mut costly = old.clone();
        cell(&mut costly, 1).value = 11.0;
        assert_eq!(regressions(&old, &costly), ["speed: tcpls: instructions: 10 → 11, +10.0 %"]);
        assert_eq!(regressions(&costly, &old), [""; 0], "cheaper");
    }

    #[test]
    fn the_range_of_the_old_figure_is_named() {
        let (mut old, new) = (results(&[("tcpls", Some(37.0))]), results(&[("tcpls", Some(30.0))]));
        cell(&mut old, 0).range = Some([29.0, 39.5]);
        assert_eq!(regressions(&old, &new), ["speed: tcpls: rate: 37.0 → 30.0 Gbit/s, -18.9 % (was 29.0 to 39.5)"]);
    }

    #[test]
    fn a_cost_that_was_0_is_a_regression_once_it_is_shown() {
        let mut old = results(&[("tcpls", Some(1.0))]);
        cell(&mut old, 1).value = 0.0;
        let mut new = old.clone();
        cell(&mut new, 1).value = 0.4;
        assert_eq!(regressions(&old, &new), [""; 0]);
        cell(&mut new, 1).value = 1.0;
        assert_eq!(regressions(&old, &new), ["speed: tcpls: instructions: 0 → 1"]);
    }

    #[test]
    fn rows_columns_figures_and_tables_that_are_missing_are_regressions() {
        let old = results(&[("a", Some(1.0)), ("b", Some(2.0))]);
        assert_eq!(regressions(&old, &results(&[("a", Some(1.0))])), ["speed: b: the row is missing"]);
        let without = results(&[("a", None), ("b", Some(2.0))]);
        assert_eq!(regressions(&old, &without), ["speed: a: rate: the figure is missing"]);
        assert_eq!(regressions(&without, &old), [""; 0]);
        let mut new = old.clone();
        new.tables[0].columns[0].name = "pace".to_owned();
        assert_eq!(regressions(&old, &new), ["speed: the column \"rate\" is missing"]);
        new.tables.clear();
        assert_eq!(regressions(&old, &new), ["speed: the table is missing"]);
        let more = compare(&results(&[("a", Some(1.0))]), &old, 5.0);
        assert_eq!((more.regressions, more.notes), (vec![], vec!["speed: b: the row is new".to_owned()]));
    }

    #[test]
    fn another_unit_is_a_regression() {
        let old = results(&[("a", Some(1.0))]);
        let mut new = old.clone();
        new.tables[0].columns[0].unit = "Mbit/s".to_owned();
        assert_eq!(regressions(&old, &new), ["speed: \"rate\" was in \"Gbit/s\" and is in \"Mbit/s\""]);
    }

    #[test]
    fn of_another_machine_only_portable_figures_are_compared() {
        let (old, mut new) = (results(&[("a", Some(10.0))]), results(&[("a", Some(1.0))]));
        new.measured.machine = "two".to_owned();
        let outcome = compare(&old, &new, 5.0);
        assert_eq!((outcome.regressions, outcome.compared), (vec![], 1));
        assert!(outcome.notes[0].starts_with("other machine (one; two)"), "{:?}", outcome.notes);
        cell(&mut new, 1).value = 12.0;
        assert_eq!(regressions(&old, &new), ["speed: a: instructions: 10 → 12, +20.0 %"]);
    }

    #[test]
    fn a_goal_that_is_no_longer_reached_is_noted_within_the_tolerance() {
        let (mut old, mut new) = (results(&[("a", Some(10.0))]), results(&[("a", Some(9.8))]));
        for results in [&mut old, &mut new] {
            cell(results, 0).goal = Some(Goal::AtLeast(9.9));
        }
        let outcome = compare(&old, &new, 5.0);
        assert_eq!(outcome.notes, ["speed: a: rate: the goal is no longer reached: 10.0 → 9.8 Gbit/s, -2.0 %"]);
        assert_eq!(outcome.regressions, [""; 0]);
    }
}
