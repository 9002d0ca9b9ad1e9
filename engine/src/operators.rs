//! Operators: one kind of step, one file. All are synchronous and vectorized; [`build`] makes one from its step,
//! [`build_chain`] a row of them, with a filter and the projection behind it as one.

mod cast;
mod compute;
mod dedupe;
mod event_time;
mod explode;
mod failed;
mod filter;
mod flatten;
mod layout;
mod lookup;
mod mask;
mod merge_by_time;
mod origin_rows;
mod parse;
mod project;
mod rate_limit;
mod sql;
mod state;
#[cfg(test)]
mod tests;
mod validate;

use conveyor_expr::ExprError;
use conveyor_model::step::{Flatten, Op, Step};
use conveyor_model::{Error, Result};

use crate::operator::{BuildContext, Operator, StepInfo};

/// Builds the operator of a step.
///
/// # Errors
/// `BadInput` if the step's expressions or settings do not fit its input; `plan-mismatch` if its output is not what the
/// operator makes, which is a plan of another version.
pub fn build(step: &Step, context: &BuildContext<'_>) -> Result<Box<dyn Operator>> {
    Ok(match &step.op {
        Op::Filter { expr } => Box::new(filter::Filter::new(step, expr)?),
        Op::Compute { columns } => Box::new(compute::Compute::new(step, columns)?),
        Op::Project { columns } => Box::new(project::Project::new(step, columns)?),
        Op::Cast { columns } => Box::new(cast::Cast::new(step, columns)?),
        Op::Mask { columns, key } => Box::new(mask::Mask::new(step, columns, key.as_ref(), context)?),
        Op::Parse(parse) => Box::new(parse::ParseText::new(step, parse)?),
        Op::Flatten(Flatten::Structs { columns, separator }) => {
            Box::new(flatten::FlattenStructs::new(step, columns, separator)?)
        }
        Op::Flatten(Flatten::Explode { column }) => Box::new(explode::Explode::new(step, column)?),
        Op::Validate { rules, on_fail } => Box::new(validate::Validate::new(step, rules, *on_fail)?),
        Op::Lookup(lookup) => Box::new(lookup::Lookup::new(step, lookup, context)?),
        Op::Dedupe(dedupe) => Box::new(dedupe::Dedupe::new(step, dedupe, context)?),
        Op::RateLimit { rows_per_second, burst } => {
            Box::new(rate_limit::RateLimit::new(step, *rows_per_second, *burst, context)?)
        }
        Op::Sql { query } => Box::new(sql::Sql::new(step, query)?),
        Op::MergeByTime { column, max_bytes } => {
            Box::new(merge_by_time::MergeByTime::new(step, column, *max_bytes)?)
        }
    })
}

/// Builds the operators of a node's steps, in order.
///
/// A filter and the projection that follows it become one operator under the filter's id (a projection fails no row and
/// has no state), so that columns which nobody wants are not gathered.
///
/// # Errors
/// As for [`build`].
pub fn build_chain(steps: &[Step], context: &BuildContext<'_>) -> Result<Vec<(StepInfo, Box<dyn Operator>)>> {
    let mut chain: Vec<(StepInfo, Box<dyn Operator>)> = Vec::with_capacity(steps.len());
    let mut rest = steps;
    while let Some((step, after)) = rest.split_first() {
        rest = after;
        let operator: Box<dyn Operator> = match (&step.op, after.first().map(|next| (&next.op, next))) {
            (Op::Filter { expr }, Some((Op::Project { columns }, next))) => {
                rest = &after[1..];
                let project = project::Project::new(next, columns)?;
                Box::new(filter::Filter::new(step, expr)?.then_project(next, project))
            }
            _ => build(step, context)?,
        };
        chain.push((StepInfo { id: step.id.as_str().into(), name: step.name.as_str().into() }, operator));
    }
    Ok(chain)
}

/// An expression of the plan that does not compile: with the step that has it.
fn compile_error(step: &Step, error: ExprError) -> Error {
    let made = Error::bad_input(error.code, error.message).at(&step.name);
    match error.help {
        Some(help) => made.help(help),
        None => made,
    }
}

/// A plan that this operator cannot follow.
fn plan_error(step: &Step, message: impl Into<String>) -> Error {
    Error::runtime("plan-mismatch", message).at(&step.name).help("make the plan anew with this version")
}
