//! The file format: JSON with a line for each column and each row, so that a change of a figure is a change of a line.

use std::fmt::Write;
use std::path::Path;

use serde_json::to_string;

use crate::{Cell, Results, Row, Table, round};

/// Digits that are kept beyond those that are shown.
const MORE: usize = 2;

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, is no file of results, or a row has not a cell for each column.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// It is not what [`Results::json`] writes, or a row has not a cell for each column.
    pub fn parse(text: &str) -> Result<Self, String> {
        let results: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for table in &results.tables {
            if let Some(row) = table.rows.iter().find(|row| row.cells.len() != table.columns.len()) {
                let (cells, columns) = (row.cells.len(), table.columns.len());
                return Err(format!("{}: {:?} has {cells} cells, not {columns}", table.name, row.name));
            }
        }
        Ok(results)
    }

    /// The content of a file.
    pub fn json(&self) -> String {
        let measured = serde_json::to_string_pretty(&self.measured).expect("it consists of text");
        let tables: Vec<String> = self.tables.iter().map(Table::json).collect();
        format!("{{\n\"measured\": {measured},\n\"tables\": [\n{}\n]\n}}\n", tables.join(",\n"))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        std::fs::write(path, self.json()).map_err(|error| format!("can't write {}: {error}", path.display()))
    }
}

impl Table {
    fn json(&self) -> String {
        let text = |text: &str| to_string(text).expect("text is JSON");
        let columns: Vec<String> =
            self.columns.iter().map(|column| to_string(column).expect("it consists of text and numbers")).collect();
        let rows: Vec<String> = self.rows.iter().map(|row| to_string(&self.rounded(row)).expect("see above")).collect();
        let mut json = format!("{{\n\"name\": {}, ", text(&self.name));
        if !self.rows_are.is_empty() {
            _ = write!(json, "\"rows_are\": {}, ", text(&self.rows_are));
        }
        let (columns, rows) = (columns.join(",\n  "), rows.join(",\n  "));
        _ = write!(json, "\"columns\": [\n  {columns}\n],\n\"rows\": [\n  {rows}\n]\n}}");
        json
    }

    fn rounded(&self, row: &Row) -> Row {
        let round = |(cell, column): (&Option<Cell>, &crate::Column)| {
            let round = |value| round(value, column.digits + MORE);
            cell.map(|cell| Cell { value: round(cell.value), range: cell.range.map(|range| range.map(round)), ..cell })
        };
        Row { name: row.name.clone(), cells: row.cells.iter().zip(&self.columns).map(round).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::results;

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let results = results(&[("a", Some(1.25)), ("b \"c\"", None)]);
        assert_eq!(Results::parse(&results.json()).unwrap(), results);
    }

    #[test]
    fn a_row_without_a_cell_for_each_column_is_refused() {
        let mut results = results(&[("a", Some(1.0))]);
        results.tables[0].rows[0].cells.pop();
        assert_eq!(Results::parse(&results.json()).unwrap_err(), "speed: \"a\" has 1 cells, not 2");
    }
}
