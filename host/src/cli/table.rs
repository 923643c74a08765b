//! Columns of text, as wide as what is in them.

/// A listing in the making.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns with these heads.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// One more row, a value for each column.
    pub(super) fn row<const N: usize>(&mut self, values: [String; N]) {
        self.rows.push(values.into());
    }

    /// Line by line, with each line's indent.
    pub(super) fn to_text(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|value| value.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = indent.to_owned();
            for (value, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{value:width$}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The beginning of a digest, as people read it.
pub(super) fn short(sha256: &str) -> &str {
    sha256.get(..8).unwrap_or(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new(&["PLUGIN", "VERSION", "STATE"]);
        table.row(["fraud-score".into(), "9f86d081".into(), "live".into()]);
        table.row(["täst".into(), "00ff".into(), String::new()]);
        assert_eq!(
            table.to_text("  "),
            "  PLUGIN       VERSION   STATE\n  fraud-score  9f86d081  live\n  täst         00ff\n"
        );
    }
}
