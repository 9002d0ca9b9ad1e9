//! `filter`: keeps the rows for which an expression is true, and where a projection follows, only its columns.

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::datatypes::SchemaRef;
use conveyor_expr::Expr;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Result};

use super::failed::Failed;
use super::layout::{kernel, with_schema};
use super::project::Project;
use super::{compile_error, plan_error};
use crate::operator::{Emitter, Operator};

/// Keeps the rows for which the expression is true: neither null nor false.
pub(super) struct Filter {
    condition: Expr,
    /// A projection done before rows are gathered, so that columns nobody wants are never copied.
    project: Option<Project>,
    schema: SchemaRef,
}

impl Filter {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the expression does not compile against the step's input.
    pub(super) fn new(step: &Step, expr: &str) -> Result<Self> {
        let condition = Expr::compile_boolean(expr, &step.input).map_err(|e| compile_error(step, e))?;
        if step.input.fields().len() != step.output.fields().len() {
            return Err(plan_error(step, "a filter does not change columns"));
        }
        Ok(Self { condition, project: None, schema: step.output.clone() })
    }

    /// The same filter with the projection that follows it.
    pub(super) fn then_project(mut self, step: &Step, project: Project) -> Self {
        self.project = Some(project);
        self.schema = step.output.clone();
        self
    }

    /// The columns that go on.
    fn narrow(&self, batch: Batch) -> Result<Batch> {
        let (rows, origin) = batch.into_parts();
        let rows = match &self.project {
            Some(project) => project.rows(&rows)?,
            None => with_schema(rows, &self.schema)?,
        };
        Ok(Batch::new(rows, origin))
    }
}

impl Operator for Filter {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let rows = batch.num_rows();
        let evaluated = self.condition.evaluate(batch.rows());
        let keep = evaluated.values.as_boolean();
        let kept = keep.true_count();
        let mut failed = Failed::default();
        failed.add(evaluated.failures);
        out.filtered((rows - kept - failed.len()) as u64);
        failed.report(&batch, out)?;
        if kept == 0 {
            return Ok(());
        }
        let batch = self.narrow(batch)?;
        if kept == rows {
            out.emit(batch);
            return Ok(());
        }
        out.emit(batch.filter(&only_true(keep)).map_err(kernel)?);
        Ok(())
    }
}

/// The mask with nulls turned to false, so that every column is gathered by the same plain bits.
fn only_true(mask: &BooleanArray) -> BooleanArray {
    match mask.nulls() {
        Some(nulls) => BooleanArray::new(mask.values() & nulls.inner(), None),
        None => mask.clone(),
    }
}
