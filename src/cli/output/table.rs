//! Tables as docker prints them: columns padded with blanks, three of them between two columns.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use crate::diagnostic::escape_controls;

const GAP: usize = 3;
/// Docker's tables make a column no narrower than this, gap included.
const NARROWEST: usize = 10;

/// Rows below their titles. Cells may hold untrusted text: they are escaped.
#[derive(Debug)]
pub(crate) struct Table {
    narrowest: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        let titles = titles.into_iter().map(Into::into).collect();
        Self { narrowest: NARROWEST, rows: vec![titles] }
    }

    /// Sets the least width of a column, gap included.
    pub(crate) fn no_narrower_than(self, narrowest: usize) -> Self {
        Self { narrowest, ..self }
    }

    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let clean = |cell: T| escape_controls(&cell.into().replace('\t', " "));
        self.rows.push(cells.into_iter().map(clean).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.width()).max().unwrap_or(0);
            (widest + GAP).max(self.narrowest)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                formatter.write_str(cell)?;
                if column + 1 < row.len() {
                    let blanks = widths[column] - cell.width();
                    write!(formatter, "{:blanks$}", "")?;
                }
            }
            formatter.write_str("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_three_blanks_apart_and_controls_are_escaped() {
        let mut table = Table::new(["CONTAINER ID", "NAMES"]);
        table.row(["0123456789ab", "a\u{1b}[2J"]);
        table.row(["x", "日本"]);
        let expected = "CONTAINER ID   NAMES\n0123456789ab   a\\u{1b}[2J\nx              日本\n";
        assert_eq!(table.to_string(), expected);
    }
}
