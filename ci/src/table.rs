//! Tables of figures, for a terminal and for Markdown.

use comfy_table::CellAlignment;
use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};

/// A table whose first column is text and whose other columns are figures.
#[derive(Debug)]
pub struct Table(comfy_table::Table);

impl Table {
    /// Makes a table without rows. Cells are separated by `|`.
    pub fn new(header: &str) -> Self {
        let mut table = comfy_table::Table::new();
        table.set_header(header.split('|'));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        Table(table)
    }

    pub fn row(&mut self, cells: &str) {
        self.0.add_row(cells.split('|'));
    }

    pub fn plain(&self) -> String {
        let mut table = self.0.clone();
        table.load_style(NOTHING);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.trim_fmt()
    }

    pub fn markdown(&self) -> String {
        let mut table = self.0.clone();
        table.load_style(ASCII_MARKDOWN);
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_aligned_right() {
        let mut table = Table::new("|µs|ratio");
        table.row("-j1|100|0.9");
        table.row("-j64|7|1.0");
        let plain = "\n       µs  ratio\n-j1   100    0.9\n-j64    7    1.0";
        assert_eq!(format!("\n{}", table.plain()), plain);
        let markdown = table.markdown();
        assert!(markdown.contains("\n| -j64 |   7 |   1.0 |"), "{markdown}");
    }
}
