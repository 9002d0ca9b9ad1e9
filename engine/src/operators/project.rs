//! `select`, `drop` and `rename`: picks, orders and renames columns, without touching a value.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Result};

use super::layout::{column_index, conform, no_such_column};
use crate::operator::{Emitter, Operator};

/// Picks columns by index.
pub(super) struct Project {
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Project {
    /// The operator of `step` with `(output name, input column)` in output order.
    ///
    /// # Errors
    /// If the input lacks a column or the step's output has other names.
    pub(super) fn new(step: &Step, columns: &[(String, String)]) -> Result<Self> {
        let names = step.output.fields().iter().map(|f| f.name().as_str());
        if let Some((name, _)) = columns.iter().zip(names).find(|((name, _), planned)| name != planned) {
            return Err(no_such_column(step, &name.0));
        }
        if columns.len() != step.output.fields().len() {
            return Err(super::plan_error(step, "the output has another number of columns"));
        }
        let columns = columns.iter().map(|(_, from)| column_index(step, from)).collect::<Result<_>>()?;
        Ok(Self { columns, schema: step.output.clone() })
    }

    /// The picked columns under the step's output schema.
    ///
    /// # Errors
    /// If a column is null where the plan promises no nulls.
    pub(super) fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|&i| rows.column(i).clone()).collect();
        conform(&self.schema, columns, rows.num_rows())
    }
}

impl Operator for Project {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let rows = self.rows(batch.rows())?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}
