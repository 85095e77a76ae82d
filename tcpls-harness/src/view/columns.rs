//! Columns of numbers, as the page reads them: a million events take a few bytes each.

use serde::Serialize;

/// Numbers above this are not exact in a browser; columns store this number instead.
pub(super) const MAX_EXACT: u64 = (1 << 53) - 1;

/// Numbers as LEB128, one after the other.
#[derive(Debug, Default)]
pub(super) struct Column {
    bytes: Vec<u8>,
    count: usize,
    /// The last number, if the column stores differences.
    last: Option<u64>,
}

impl Column {
    /// A column of numbers that never decrease: it stores differences.
    pub(super) fn ascending() -> Self {
        Self { last: Some(0), ..Self::default() }
    }

    /// Appends a number.
    pub(super) fn push(&mut self, value: u64) {
        let value = value.min(MAX_EXACT);
        let mut rest = match &mut self.last {
            Some(last) => value.saturating_sub(std::mem::replace(last, value.max(*last))),
            None => value,
        };
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
        self.count += 1;
    }

    /// Appends a number that may be absent.
    pub(super) fn push_option(&mut self, value: Option<u64>) {
        self.push(value.map_or(0, |value| value.saturating_add(1)));
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }
}

/// Where a column is in the bytes of all of them, for the page.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    name: &'static str,
    count: usize,
    ascending: bool,
    start: usize,
    end: usize,
}

/// Joins columns to one piece of data, and returns where each is.
pub(super) fn join<'a>(columns: impl IntoIterator<Item = (&'static str, &'a Column)>) -> (Vec<Place>, Vec<u8>) {
    let (mut places, mut bytes) = (Vec::new(), Vec::new());
    for (name, column) in columns {
        let start = bytes.len();
        bytes.extend_from_slice(&column.bytes);
        places.push(Place { name, count: column.count, ascending: column.last.is_some(), start, end: bytes.len() });
    }
    (places, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(column: &Column) -> &[u8] {
        &column.bytes
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let mut column = Column::default();
        [0, 127, 128, 300].into_iter().for_each(|value| column.push(value));
        assert_eq!(encoded(&column), [0, 127, 0x80, 1, 0xac, 2]);
        assert_eq!(column.len(), 4);
        column.push_option(None);
        column.push_option(Some(0));
        assert_eq!(encoded(&column)[6..], [0, 1]);
    }

    #[test]
    fn ascending_numbers_are_stored_as_differences() {
        let mut column = Column::ascending();
        [1_000_000, 1_000_001, 1_000_001].into_iter().for_each(|value| column.push(value));
        assert_eq!(encoded(&column)[3..], [1, 0]);
    }

    #[test]
    fn numbers_that_a_browser_cannot_represent_become_the_largest_that_it_can() {
        let (mut huge, mut largest) = (Column::default(), Column::default());
        huge.push(u64::MAX);
        largest.push(MAX_EXACT);
        assert_eq!(encoded(&huge), encoded(&largest));
    }
}
