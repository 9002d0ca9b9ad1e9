//! `compute`: adds or replaces columns by expressions over the step's input.

use arrow::array::ArrayRef;
use conveyor_expr::Expr;
use conveyor_model::step::{NamedExpr, Step};
use conveyor_model::{Batch, Result};

use super::compile_error;
use super::failed::Failed;
use super::layout::Layout;
use crate::operator::{Emitter, Operator};

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
        for expr in &self.columns {
            let evaluated = expr.evaluate(batch.rows());
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
