//! `cast`: changes column types; a row with a value that does not fit is a dead letter.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use conveyor_model::step::{CastColumn, Step};
use conveyor_model::{Batch, Result};

use super::failed::Failed;
use super::layout::{Layout, column_index};
use crate::operator::{Emitter, Operator};

/// One column to cast.
struct Column {
    name: String,
    index: usize,
    to: DataType,
}

/// Casts columns strictly, in the order of the step.
pub(super) struct Cast {
    columns: Vec<Column>,
    layout: Layout,
}

impl Cast {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the input lacks a column.
    pub(super) fn new(step: &Step, columns: &[CastColumn]) -> Result<Self> {
        let made: Vec<_> = columns.iter().map(|c| (c.name.clone(), c.to.clone())).collect();
        let columns = columns
            .iter()
            .map(|c| {
                Ok(Column { name: c.name.clone(), index: column_index(step, &c.name)?, to: c.to.clone() })
            })
            .collect::<Result<_>>()?;
        Ok(Self { columns, layout: Layout::new(step, &made)? })
    }
}

impl Operator for Cast {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let mut failed = Failed::default();
        let mut made: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let values = batch.rows().column(column.index);
            if *values.data_type() == column.to {
                made.push(values.clone());
                continue;
            }
            let evaluated = conveyor_expr::cast(values, &column.to, &column.name);
            failed.add(evaluated.failures);
            made.push(evaluated.values);
        }
        let (batch, made) = failed.part(batch, made, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let rows = self.layout.assemble(batch.rows(), &made)?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}
