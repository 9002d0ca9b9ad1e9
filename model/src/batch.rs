//! A batch: Arrow rows together with where each of them came from.

use arrow_array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::{concat::concat_batches, filter::filter_record_batch, take::take_record_batch};

use crate::origin::Origin;

/// Rows a source or operator aims at in one batch.
pub const BATCH_ROWS: usize = 8192;

/// Columns of equal length and the origin of each row.
///
/// `rows.num_rows() == origin.len()` always holds.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: RecordBatch,
    origin: Origin,
}

impl Batch {
    /// Joins rows and their origin.
    ///
    /// # Panics
    /// If the two differ in length: an operator has lost track of its rows.
    pub fn new(rows: RecordBatch, origin: Origin) -> Self {
        assert_eq!(rows.num_rows(), origin.len(), "a batch and its origin must have the same number of rows");
        Self { rows, origin }
    }

    /// The columns.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Where the rows came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Takes the batch apart.
    pub fn into_parts(self) -> (RecordBatch, Origin) {
        (self.rows, self.origin)
    }

    /// The schema of the columns.
    pub fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.num_rows() == 0
    }

    /// The same rows with other columns.
    ///
    /// # Panics
    /// If the number of rows differs.
    #[must_use]
    pub fn with_rows(self, rows: RecordBatch) -> Self {
        Self::new(rows, self.origin)
    }

    /// Rows `offset .. offset + length`, without a copy.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self { rows: self.rows.slice(offset, length), origin: self.origin.slice(offset, length) }
    }

    /// The rows where `keep` is true; null counts as false.
    ///
    /// # Errors
    /// If the mask's length differs from the batch's.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self, ArrowError> {
        let rows = filter_record_batch(&self.rows, keep)?;
        let origin = match keep.nulls() {
            Some(nulls) => self.origin.filter(&(keep.values() & nulls.inner())),
            None => self.origin.filter(keep.values()),
        };
        Ok(Self { rows, origin })
    }

    /// The rows at `indices`, which may repeat.
    ///
    /// # Errors
    /// If an index is out of bounds.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self, ArrowError> {
        let rows = take_record_batch(&self.rows, indices)?;
        Ok(Self { rows, origin: self.origin.take(indices.values()) })
    }

    /// The rows of `parts` in one batch.
    ///
    /// # Errors
    /// If a part's schema is not `schema`.
    pub fn concat(schema: &SchemaRef, parts: &[Batch]) -> Result<Self, ArrowError> {
        let rows = concat_batches(schema, parts.iter().map(|b| &b.rows))?;
        Ok(Self { rows, origin: Origin::concat(parts.iter().map(|b| &b.origin)) })
    }
}
