//! Text columns that come out of a text, gathered row by row.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringViewBuilder};

/// Text columns that are filled row by row, in any order within a row.
pub(super) struct Columns {
    builders: Vec<StringViewBuilder>,
    row: Vec<Option<String>>,
}

impl Columns {
    /// Empty columns.
    pub(super) fn new(fields: usize, rows: usize) -> Self {
        let builders = (0..fields).map(|_| StringViewBuilder::with_capacity(rows)).collect();
        Self { builders, row: vec![None; fields] }
    }

    /// Sets a field of the current row.
    pub(super) fn set(&mut self, field: usize, value: Option<impl Into<String>>) {
        self.row[field] = value.map(Into::into);
    }

    /// Makes all fields of the current row null.
    pub(super) fn clear_row(&mut self) {
        self.row.fill(None);
    }

    /// Goes on to the next row.
    pub(super) fn end_row(&mut self) {
        for (builder, value) in self.builders.iter_mut().zip(&mut self.row) {
            builder.append_option(value.take());
        }
    }

    /// The columns.
    pub(super) fn finish(self) -> Vec<ArrayRef> {
        self.builders.into_iter().map(|mut b| Arc::new(b.finish()) as ArrayRef).collect()
    }
}
