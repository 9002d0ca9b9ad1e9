//! Running one kernel: on a whole batch, or, when it fails for no reason that we can see in the values, on ever smaller
//! slices until the failing rows stand alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow_schema::{ArrowError, DataType};
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::bounded::{Refused, TooMuch, attempt, refused};

/// Evaluations spent on halving; beyond them what is left is looked at row by row.
const HALVINGS: usize = 64;

/// Evaluates on all rows of `rows`; a panic inside a library is an error like others.
pub(crate) fn run(
    kernel: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    data_type: &DataType,
) -> Result<ArrayRef, DataFusionError> {
    let evaluate = || kernel.evaluate(rows)?.into_array(rows.num_rows());
    let caught = || {
        catch_unwind(AssertUnwindSafe(evaluate))
            .unwrap_or_else(|_| Err(DataFusionError::Execution("the function panicked".to_owned())))
    };
    let values = attempt(caught)?;
    if values.data_type() == data_type {
        return Ok(values);
    }
    // Some functions give another text type than they announce.
    Ok(arrow::compute::cast(&values, data_type)?)
}

/// Values and failing rows of a kernel that is opaque but pure: a row's result depends on that row alone.
///
/// Never more than [`HALVINGS`] evaluations of many rows and one of each single row.
pub(crate) fn bisect(
    kernel: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    data_type: &DataType,
) -> Result<(ArrayRef, Vec<(u32, DataFusionError)>), TooMuch> {
    let mut search =
        Search { kernel, rows, data_type, halvings: HALVINGS, parts: Vec::new(), failures: Vec::new() };
    search.range(0, rows.num_rows())?;
    let parts: Vec<_> = search.parts.iter().map(AsRef::as_ref).collect();
    let values = if parts.is_empty() {
        new_empty_array(data_type)
    } else {
        concat(&parts).expect("parts of one type always join: `run` made them so")
    };
    Ok((values, search.failures))
}

struct Search<'a> {
    kernel: &'a Arc<dyn PhysicalExpr>,
    rows: &'a RecordBatch,
    data_type: &'a DataType,
    halvings: usize,
    parts: Vec<ArrayRef>,
    failures: Vec<(u32, DataFusionError)>,
}

impl Search<'_> {
    fn range(&mut self, start: usize, length: usize) -> Result<(), TooMuch> {
        if length == 0 {
            return Ok(());
        }
        if length > 1 && self.halvings == 0 {
            for row in start..start + length {
                self.range(row, 1)?;
            }
            return Ok(());
        }
        if length > 1 {
            self.halvings -= 1;
        }
        match run(self.kernel, &self.rows.slice(start, length), self.data_type) {
            Ok(values) => self.parts.push(values),
            Err(error) if refused(&error) == Some(Refused::Together) => return Err(TooMuch),
            Err(error) if length == 1 => {
                self.parts.push(new_null_array(self.data_type, 1));
                self.failures.push((u32::try_from(start).expect("batches have fewer than 2^32 rows"), error));
            }
            Err(_) => {
                self.range(start, length / 2)?;
                self.range(start + length / 2, length - length / 2)?;
            }
        }
        Ok(())
    }
}

/// The sentence of an error without the library's decorations.
pub(crate) fn sentence(error: &DataFusionError) -> String {
    if let Some(refused) = refused(error) {
        return refused.to_string();
    }
    let text = match error.find_root() {
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::InvalidArgumentError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::CastError(text)
            | ArrowError::ParseError(text)
            | ArrowError::ArithmeticOverflow(text) => text.clone(),
            other => other.to_string(),
        },
        DataFusionError::Execution(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(300).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
