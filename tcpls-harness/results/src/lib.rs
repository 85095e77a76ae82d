//! Results of measurements, as the commands of the benchmark and the lab write them: tables with units, goals, and where,
//! when and with which command they were measured.
//!
//! | file | subject |
//! | --- | --- |
//! | `lib` | the data |
//! | `json` | the file format |
//! | `markdown` | the tables in the documentation |
//! | `compare` | regressions between two files |
//! | `here` | date, machine, commit and compiler of a measurement |

mod compare;
mod here;
mod json;
mod markdown;

use serde::{Deserialize, Serialize};

pub use self::compare::{Comparison, compare, compare_files};
pub use self::markdown::update_page;

/// A file of results.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// When, where and how.
    pub measured: Measured,
    /// What.
    pub tables: Vec<Table>,
}

/// When, where and how results were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Year, month and day.
    pub date: String,
    /// Processor, number of cores, operating system.
    pub machine: String,
    /// The commit, with a plus sign if there were changes since; empty if that is not known.
    #[serde(default)]
    pub commit: String,
    /// The compiler; empty if that is not known.
    #[serde(default)]
    pub rustc: String,
    /// The command that measures the same again.
    pub command: String,
    /// What else must be known to read the figures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A table: rows and columns have names.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name in the file.
    pub name: String,
    /// What the rows are; may be empty.
    #[serde(default)]
    pub rows_are: String,
    /// The columns, without that of the names.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The quantity.
    pub name: String,
    /// Its unit; empty for ratios and numbers.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Digits behind the point.
    pub digits: usize,
    /// Which values are better.
    pub better: Better,
    /// Whether figures of different machines can be compared, as ratios and numbers of instructions or allocations.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub portable: bool,
}

/// Which values are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Rates.
    Higher,
    /// Costs and times.
    Lower,
    /// The figure describes the measurement.
    Neither,
}

/// A row: a cell for each column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name in the table.
    pub name: String,
    /// `None`: not measured.
    pub cells: Vec<Option<Cell>>,
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The median, if there were several measurements.
    pub value: f64,
    /// The lowest and the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// What is to be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

/// The bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// A lower bound.
    AtLeast(f64),
    /// An upper bound.
    AtMost(f64),
}

impl Goal {
    /// Whether `value`, as it is shown with this number of digits, reaches it.
    fn is_met(self, value: f64, digits: usize) -> bool {
        let value = round(value, digits);
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl Column {
    /// A column of figures that depend on the machine.
    pub fn new(name: &str, unit: &str, digits: usize, better: Better) -> Self {
        Self { name: name.to_owned(), unit: unit.to_owned(), digits, better, portable: false }
    }

    /// The same, of figures that hardly depend on it.
    pub fn portable(name: &str, unit: &str, digits: usize, better: Better) -> Self {
        Self { portable: true, ..Self::new(name, unit, digits, better) }
    }
}

impl Cell {
    /// A single figure; `None` if it is not finite.
    pub fn value(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self { value, range: None, goal: None })
    }

    /// The median and the range; `None` of none.
    pub fn median(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let range = [*values.first()?, *values.last()?];
        let middle = values.len() / 2;
        let value = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { value, range: Some(range), goal: None })
    }

    /// The same without the range.
    #[must_use]
    pub fn without_range(self) -> Self {
        Self { range: None, ..self }
    }

    /// With a goal.
    #[must_use]
    pub fn with_goal(self, goal: Option<Goal>) -> Self {
        Self { goal, ..self }
    }
}

fn round(value: f64, digits: usize) -> f64 {
    let scale = 10_f64.powi(i32::try_from(digits).unwrap_or(0));
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one_or_the_mean_of_two() {
        let median = |values: &[f64]| Cell::median(values.iter().copied()).map(|cell| (cell.value, cell.range));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some((2.0, Some([1.0, 3.0]))));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, Some([1.0, 4.0]))));
        assert_eq!(median(&[f64::NAN]), None);
    }

    #[test]
    fn a_goal_is_judged_by_what_is_shown() {
        assert!(Goal::AtLeast(0.97).is_met(0.9651, 2) && !Goal::AtLeast(0.97).is_met(0.9649, 2));
        assert!(Goal::AtMost(1.0).is_met(1.004, 2) && !Goal::AtMost(1.0).is_met(1.005_1, 2));
    }
}
