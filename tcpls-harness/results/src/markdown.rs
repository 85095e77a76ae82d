//! The tables of the documentation. A page has each between two lines, and names the file and the table:
//!
//! ```text
//! <!-- results: loopback-ring.json, rates -->
//! <!-- end of results -->
//! ```

use std::fmt::Write;
use std::path::Path;

use crate::{Cell, Column, Goal, Measured, Results, Table};

const BEGIN: &str = "<!-- results: ";
const MIDDLE: &str = " -->\n";
const END: &str = "<!-- end of results -->\n";
/// The length of lines.
const WIDTH: usize = 120;

/// Returns a page with the tables of the files in `directory`, and the names of these files.
///
/// # Errors
/// A file can't be read, has no such table, or a block of the page has no end.
pub fn update_page(page: &str, directory: &Path) -> Result<(String, Vec<String>), String> {
    let (mut updated, mut rest, mut files) = (String::new(), page, Vec::new());
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let no_end = || format!("no end: {}", after.lines().next().unwrap_or_default());
        let (head, after) = after.split_once(MIDDLE).ok_or_else(no_end)?;
        let (_, after) = after.split_once(END).ok_or_else(no_end)?;
        let (file, name) = head.split_once(", ").ok_or_else(|| format!("no table is named: {head}"))?;
        let results = Results::read(&directory.join(file))?;
        let table = results.tables.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| format!("{file} has no table {name:?}"))?;
        // Consecutive tables of one file have one measurement.
        let measured = if files.last().is_some_and(|last| last == file) { None } else { Some(&results.measured) };
        let measured = measured.map_or(String::new(), Measured::markdown);
        _ = write!(updated, "{before}{BEGIN}{head}{MIDDLE}\n{measured}{}\n{END}", table.markdown());
        files.push(file.to_owned());
        rest = after;
    }
    Ok((updated + rest, files))
}

impl Measured {
    /// A paragraph.
    fn markdown(&self) -> String {
        let mut text = format!("{}, {}", self.date, self.machine);
        if !self.rustc.is_empty() {
            _ = write!(text, ", rustc {}", self.rustc);
        }
        if !self.commit.is_empty() {
            _ = write!(text, ", commit {}", self.commit);
        }
        _ = write!(text, ": `{}`.", self.command);
        if !self.note.is_empty() {
            _ = write!(text, " {}", self.note);
        }
        wrap(&text) + "\n"
    }
}

/// Wrapped lines.
fn wrap(text: &str) -> String {
    let (mut wrapped, mut len) = (String::new(), 0);
    for word in text.split(' ') {
        let word_len = word.chars().count();
        if len > 0 && len + 1 + word_len > WIDTH {
            wrapped.push('\n');
            len = 0;
        } else if len > 0 {
            wrapped.push(' ');
            len += 1;
        }
        wrapped += word;
        len += word_len;
    }
    wrapped + "\n"
}

impl Table {
    /// The table for a page.
    pub(crate) fn markdown(&self) -> String {
        let heads: Vec<String> = self.columns.iter().map(Column::head).collect();
        let mut text = format!("| {} | {} |\n", self.rows_are, heads.join(" | ")).replace("|  |", "| |");
        _ = writeln!(text, "| --- |{}", " --- |".repeat(heads.len()));
        for row in &self.rows {
            let cells: Vec<String> =
                row.cells.iter().zip(&self.columns).map(|(cell, column)| column.show(*cell)).collect();
            _ = writeln!(text, "| {} | {} |", row.name, cells.join(" | "));
        }
        text
    }

    /// The table for a terminal.
    pub fn text(&self) -> String {
        let head = std::iter::once(self.rows_are.clone()).chain(self.columns.iter().map(Column::head));
        let mut rows: Vec<Vec<String>> = vec![head.collect()];
        for row in &self.rows {
            let cells = row.cells.iter().zip(&self.columns).map(|(cell, column)| column.show(*cell));
            rows.push(std::iter::once(row.name.clone()).chain(cells).collect());
        }
        let width = |index: usize| rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..=self.columns.len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let (name, cells) = row.split_first().expect("each row has a name");
            let mut line = format!("{name:<0$}", widths[0]);
            cells.iter().zip(&widths[1..]).for_each(|(cell, width)| _ = write!(line, "  {cell:>width$}"));
            text += line.trim_end();
            text.push('\n');
        }
        text
    }
}

impl Column {
    fn head(&self) -> String {
        if self.unit.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.unit) }
    }

    fn show(&self, cell: Option<Cell>) -> String {
        let Some(cell) = cell else { return "–".to_owned() };
        let mut text = number(cell.value, self.digits);
        if let Some([low, high]) = cell.range {
            _ = write!(text, " ({}–{})", number(low, self.digits), number(high, self.digits));
        }
        if let Some(goal) = cell.goal {
            let (sign, bound) = match goal {
                Goal::AtLeast(bound) => ("≥", bound),
                Goal::AtMost(bound) => ("≤", bound),
            };
            let verdict = if goal.is_met(cell.value, self.digits) { "met" } else { "**missed**" };
            _ = write!(text, "; goal {sign} {}: {verdict}", plain(bound, self.digits));
        }
        text
    }
}

/// As many digits behind the point as there are, but at most two, or `most` if that is more.
fn plain(value: f64, most: usize) -> String {
    let text = value.to_string();
    let (_, behind) = text.split_once('.').unwrap_or((&text, ""));
    number(value, behind.len().min(most.max(2)))
}

/// With a comma for each thousand from 10,000 on.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, behind) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.split_at(usize::from(whole.starts_with('-')));
    if whole.len() < 5 {
        return text;
    }
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::results;

    #[test]
    fn numbers_have_their_digits_and_commas() {
        let numbers = [(0.95, 2), (37.44, 1), (9999.0, 0), (61_035.0, 0), (1_234_567.8, 1), (-12_345.0, 0)];
        let texts = numbers.map(|(value, digits)| number(value, digits));
        assert_eq!(texts, ["0.95", "37.4", "9999", "61,035", "1,234,567.8", "-12,345"]);
    }

    #[test]
    fn a_figure_has_its_range_and_its_goal() {
        let column = Column::new("rate", "Gbit/s", 1, crate::Better::Higher);
        let show = |goal| column.show(Some(Cell { value: 37.41, range: Some([30.0, 40.0]), goal }));
        assert_eq!(show(None), "37.4 (30.0–40.0)");
        assert_eq!(show(Some(Goal::AtLeast(38.25))), "37.4 (30.0–40.0); goal ≥ 38.25: **missed**");
        assert!(show(Some(Goal::AtMost(155.318_521_999))).ends_with("goal ≤ 155.32: met"));
        assert_eq!(show(Some(Goal::AtMost(38.0))), "37.4 (30.0–40.0); goal ≤ 38: met");
        assert_eq!(column.show(None), "–");
    }

    #[test]
    fn a_page_gets_the_tables_that_it_names_and_keeps_its_prose() {
        let directory = std::env::temp_dir().join(format!("tcpls-results-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut results = results(&[("tcpls", Some(37.4)), ("bare", None)]);
        results.measured.command = "measure".to_owned();
        results.write(&directory.join("a.json")).unwrap();
        let block = "<!-- results: a.json, speed -->\nold\n<!-- end of results -->\n";
        let page = format!("before\n{block}between\n{block}after\n");
        let (updated, files) = update_page(&page, &directory).unwrap();
        let table =
            "| | rate, Gbit/s | instructions |\n| --- | --- | --- |\n| tcpls | 37.4 | 10 |\n| bare | – | 10 |\n";
        let begin = "<!-- results: a.json, speed -->\n\n";
        let end = "\n<!-- end of results -->\n";
        let first = format!("{begin}, one: `measure`.\n\n{table}{end}");
        assert_eq!(updated, format!("before\n{first}between\n{begin}{table}{end}after\n"));
        assert_eq!(files, ["a.json", "a.json"]);
        assert_eq!(update_page(&updated, &directory).unwrap().0, updated);
        let unknown = page.replace(", speed", ", pace");
        assert_eq!(update_page(&unknown, &directory).unwrap_err(), "a.json has no table \"pace\"");
        assert!(update_page(&page.replace("<!-- end of results -->", ""), &directory).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_line_about_the_measurement_is_wrapped() {
        let text = wrap(&"word ".repeat(100));
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.chars().count() <= WIDTH));
    }
}
