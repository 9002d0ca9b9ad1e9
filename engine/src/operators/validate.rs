//! `validate`: checks rules in order; the first broken one decides what happens to the row.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use conveyor_expr::Expr;
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::{OnFail, Rule, Step};
use conveyor_model::{Batch, Error, Result};

use super::compile_error;
use super::failed::{Failed, describe};
use super::layout::{kernel, with_schema};
use crate::operator::{Emitter, Operator};

/// Checks every rule on the whole batch. Null does not break a rule.
pub(super) struct Validate {
    rules: Vec<(Rule, Expr)>,
    on_fail: OnFail,
    name: String,
    schema: SchemaRef,
}

impl Validate {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If a rule does not compile against the step's input.
    pub(super) fn new(step: &Step, rules: &[Rule], on_fail: OnFail) -> Result<Self> {
        let rules = rules
            .iter()
            .map(|rule| {
                let expr =
                    Expr::compile_boolean(&rule.expr, &step.input).map_err(|e| compile_error(step, e))?;
                Ok((rule.clone(), expr))
            })
            .collect::<Result<_>>()?;
        Ok(Self { rules, on_fail, name: step.name.clone(), schema: step.output.clone() })
    }

    /// Rows that break a rule before any rule failed on them, as the rows to drop; all others that fail, as failed.
    fn check(&self, batch: &Batch) -> Result<(Failed, Vec<bool>)> {
        let mut failed = Failed::default();
        let mut dropped = vec![false; if self.on_fail == OnFail::Drop { batch.num_rows() } else { 0 }];
        for (rule, expr) in &self.rules {
            let evaluated = expr.evaluate(batch.rows());
            let late = |row: &usize| dropped.get(*row).copied().unwrap_or(false);
            failed.add(evaluated.failures.into_iter().filter(|(row, _)| !late(row)).collect());
            for row in broken(&evaluated.values) {
                match self.on_fail {
                    OnFail::Dlq => failed.add_row(row, || self.error(rule)),
                    OnFail::Drop if !failed.contains(row) => dropped[row] = true,
                    OnFail::Fail if !failed.contains(row) => return Err(self.stop(rule, batch, row)),
                    OnFail::Drop | OnFail::Fail => {}
                }
            }
        }
        Ok((failed, dropped))
    }

    fn error(&self, rule: &Rule) -> RowError {
        RowError::new("validate-failed", format!("rule `{}` is broken: {}", rule.name, rule.expr))
    }

    fn stop(&self, rule: &Rule, batch: &Batch, row: usize) -> Error {
        let at = batch.origin().get(row);
        let text = describe(batch.rows(), row);
        Error::runtime(
            "validate-failed",
            format!("a row breaks rule `{}` ({}): {text}", rule.name, rule.expr),
        )
        .at(&self.name)
        .in_split(&at.split)
        .at_position(at.position)
        .help("mend the data, or set `onFail` to `dlq` or `drop`")
    }
}

impl Operator for Validate {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let (failed, dropped) = self.check(&batch)?;
        let count = dropped.iter().filter(|d| **d).count();
        out.filtered(count as u64);
        let keep: Option<ArrayRef> = (count > 0).then(|| {
            let keep = BooleanBuffer::collect_bool(dropped.len(), |row| !dropped[row]);
            std::sync::Arc::new(BooleanArray::new(keep, None)) as ArrayRef
        });
        let (mut batch, keep) = failed.part(batch, Vec::from_iter(keep), out)?;
        if let Some(keep) = keep.first() {
            batch = batch.filter(keep.as_boolean()).map_err(kernel)?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (rows, origin) = batch.into_parts();
        out.emit(Batch::new(with_schema(rows, &self.schema)?, origin));
        Ok(())
    }
}

/// Rows whose value is false.
fn broken(values: &ArrayRef) -> Vec<usize> {
    let values = values.as_boolean();
    let mut bits = !values.values();
    if let Some(nulls) = values.nulls() {
        bits = &bits & nulls.inner();
    }
    bits.set_indices().collect()
}
