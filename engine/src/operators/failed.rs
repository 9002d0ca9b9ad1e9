//! Rows that failed within one batch: the first error of each, and the parting of good rows from bad ones.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use arrow::json::LineDelimitedWriter;
use conveyor_model::dead_letter::RowError;
use conveyor_model::{Batch, Result};

use super::layout::kernel;
use crate::operator::Emitter;

/// Longest text of a row in an error message, in characters.
const ROW_TEXT: usize = 1_000;

/// First error of each failing row, by row.
#[derive(Debug, Default)]
pub(super) struct Failed {
    errors: BTreeMap<usize, RowError>,
}

impl Failed {
    /// Adds the errors of the next column or rule: a row that failed before keeps its first error.
    pub(super) fn add(&mut self, errors: Vec<(usize, RowError)>) {
        for (row, error) in errors {
            self.errors.entry(row).or_insert(error);
        }
    }

    /// Adds one row's error, unless it has one.
    pub(super) fn add_row(&mut self, row: usize, error: impl FnOnce() -> RowError) {
        self.errors.entry(row).or_insert_with(error);
    }

    /// Number of failed rows.
    pub(super) fn len(&self) -> usize {
        self.errors.len()
    }

    /// Whether a row failed.
    pub(super) fn contains(&self, row: usize) -> bool {
        self.errors.contains_key(&row)
    }

    /// Hands the failed rows of `input` to the dead letters and returns the good rows of `input` and of the columns
    /// `made` from it, in their order.
    ///
    /// # Errors
    /// Only if a kernel fails.
    pub(super) fn part(
        self,
        input: Batch,
        made: Vec<ArrayRef>,
        out: &mut Emitter,
    ) -> Result<(Batch, Vec<ArrayRef>)> {
        if self.errors.is_empty() {
            return Ok((input, made));
        }
        let good = BooleanBuffer::collect_bool(input.num_rows(), |row| !self.errors.contains_key(&row));
        let good = BooleanArray::new(good, None);
        self.report(&input, out)?;
        let made =
            made.iter().map(|column| filter(column, &good)).collect::<Result<_, _>>().map_err(kernel)?;
        Ok((input.filter(&good).map_err(kernel)?, made))
    }

    /// Hands the failed rows of `input` to the dead letters.
    ///
    /// # Errors
    /// Only if a kernel fails.
    pub(super) fn report(self, input: &Batch, out: &mut Emitter) -> Result<()> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let rows: UInt32Array = self.errors.keys().map(|&row| row as u32).collect();
        out.fail(input.take(&rows).map_err(kernel)?, self.errors.into_values().collect());
        Ok(())
    }
}

/// One row as JSON, shortened, for an error that stops the pipeline.
pub(super) fn describe(rows: &RecordBatch, row: usize) -> String {
    let mut text = Vec::new();
    let written = LineDelimitedWriter::new(&mut text).write(&rows.slice(row, 1));
    if let Err(error) = written {
        return format!("a row that cannot be shown: {error}");
    }
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_end();
    match text.char_indices().nth(ROW_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
