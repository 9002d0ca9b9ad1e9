//! `sql`: a stateless SELECT over the step's input.

use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;
use conveyor_expr::Select;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Result};

use super::layout::{kernel, with_schema};
use super::{compile_error, plan_error};
use crate::operator::{Emitter, Operator};

/// Runs a projection, a WHERE and an UNNEST on each batch.
pub(super) struct Sql {
    select: Select,
    schema: SchemaRef,
    name: String,
}

impl Sql {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the query does not compile, or gives other columns than planned.
    pub(super) fn new(step: &Step, query: &str) -> Result<Self> {
        let select = Select::compile(query, &step.input).map_err(|e| compile_error(step, e))?;
        let made = select.schema();
        if !made.fields().iter().map(|f| f.name()).eq(step.output.fields().iter().map(|f| f.name())) {
            return Err(plan_error(step, "the query gives other columns than planned"));
        }
        Ok(Self { select, schema: step.output.clone(), name: step.name.clone() })
    }
}

impl Operator for Sql {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let Some(selected) = self.select.evaluate(batch.rows()).map_err(|e| e.at(&self.name))? else {
            out.give_back(batch);
            return Ok(());
        };
        let (made, failed) = (selected.rows.num_rows(), selected.failures.len());
        // Every input row that is neither failed nor filtered gave at least one row; the others of it are expanded.
        out.filtered(selected.filtered as u64);
        out.expanded((made + failed + selected.filtered - batch.num_rows()) as u64);
        if failed > 0 {
            let (rows, errors): (Vec<_>, Vec<_>) = selected.failures.into_iter().unzip();
            let rows: UInt32Array = rows.into_iter().map(|row| row as u32).collect();
            out.fail(batch.take(&rows).map_err(kernel)?, errors);
        }
        if made > 0 {
            let rows = with_schema(selected.rows, &self.schema)?;
            out.emit(Batch::new(rows, batch.origin().take(selected.from.values())));
        }
        Ok(())
    }
}
