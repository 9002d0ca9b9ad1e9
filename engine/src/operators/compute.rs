//! `compute`: adds or replaces columns by expressions over the step's input.

use arrow::array::ArrayRef;
use conveyor_expr::Expr;
use conveyor_model::credit::{MAX_WINDOW, column_cost};
use conveyor_model::step::{NamedExpr, Step};
use conveyor_model::{Batch, Result};

use super::compile_error;
use super::failed::Failed;
use super::layout::Layout;
use crate::operator::{Emitter, Operator};

/// Most bytes of new columns that are made in one go: what a channel takes at most.
const MAX_MADE: u64 = MAX_WINDOW;

/// Evaluates every expression on the whole batch; all see the input, none another's result.
pub(super) struct Compute {
    columns: Vec<Expr>,
    layout: Layout,
}

impl Compute {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If an expression does not compile, or makes a type that the step's output does not have.
    pub(super) fn new(step: &Step, columns: &[NamedExpr]) -> Result<Self> {
        let mut exprs = Vec::with_capacity(columns.len());
        let mut made = Vec::with_capacity(columns.len());
        for column in columns {
            let expr = Expr::compile(&column.expr, &step.input).map_err(|e| compile_error(step, e))?;
            made.push((column.name.clone(), expr.data_type().clone()));
            exprs.push(expr);
        }
        Ok(Self { columns: exprs, layout: Layout::new(step, &made)? })
    }
}

impl Operator for Compute {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let mut failed = Failed::default();
        let mut made: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        let mut bytes = 0;
        for expr in &self.columns {
            let Ok(evaluated) = expr.evaluate_at_once(batch.rows()) else {
                out.give_back(batch);
                return Ok(());
            };
            if expr.as_column().is_none() {
                bytes += column_cost(&evaluated.values);
            }
            if bytes > MAX_MADE && batch.num_rows() > 1 {
                out.give_back(batch);
                return Ok(());
            }
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
