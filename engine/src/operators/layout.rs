//! Where each column of a step's output comes from: the step's input or the columns that it makes.
//!
//! It is worked out once, when the operator is built, so that a plan that disagrees with its operator is an error before
//! the first row and not a surprise within a batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use conveyor_model::step::Step;
use conveyor_model::{Error, Result};

/// The source of one output column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Column of the input batch.
    Input(usize),
    /// Column that the operator made.
    Made(usize),
}

/// A map from input and made columns to the step's output schema.
#[derive(Debug)]
pub(super) struct Layout {
    slots: Vec<Slot>,
    schema: SchemaRef,
}

impl Layout {
    /// The layout of `step` whose operator makes columns of these names and types. A made column wins over an input
    /// column of the same name.
    ///
    /// # Errors
    /// `plan-mismatch` if the step's output has a column that is neither, or one of a type that cannot be had.
    pub(super) fn new(step: &Step, made: &[(String, DataType)]) -> Result<Self> {
        let mut slots = Vec::with_capacity(step.output.fields().len());
        for field in step.output.fields() {
            let (slot, found) = match made.iter().rposition(|(name, _)| name == field.name()) {
                Some(i) => (Slot::Made(i), &made[i].1),
                None => match step.input.index_of(field.name()) {
                    Ok(i) => (Slot::Input(i), step.input.field(i).data_type()),
                    Err(_) => return Err(no_such_column(step, field.name())),
                },
            };
            check_type(step, field.name(), found, field.data_type())?;
            slots.push(slot);
        }
        if let Some((name, _)) = made.iter().find(|(name, _)| step.output.index_of(name).is_err()) {
            return Err(no_such_column(step, name));
        }
        Ok(Self { slots, schema: step.output.clone() })
    }

    /// The output batch.
    ///
    /// # Errors
    /// If a column does not fit the output schema: a null where the plan promises none.
    pub(super) fn assemble(&self, input: &RecordBatch, made: &[ArrayRef]) -> Result<RecordBatch> {
        let columns = self.slots.iter().map(|slot| match *slot {
            Slot::Input(i) => input.column(i).clone(),
            Slot::Made(i) => made[i].clone(),
        });
        conform(&self.schema, columns.collect(), input.num_rows())
    }
}

/// Whether an operator that makes `found` can deliver what the plan says.
fn check_type(step: &Step, column: &str, found: &DataType, planned: &DataType) -> Result<()> {
    if found == planned || can_cast_types(found, planned) {
        return Ok(());
    }
    Err(Error::runtime(
        "plan-mismatch",
        format!("step `{}` makes column `{column}` as {found}, the plan says {planned}", step.name),
    )
    .at(&step.name)
    .help("make the plan anew with this version"))
}

/// The error for a column that plan and operator do not agree on.
pub(super) fn no_such_column(step: &Step, column: &str) -> Error {
    Error::runtime(
        "plan-mismatch",
        format!("step `{}` and its plan disagree on column `{column}`", step.name),
    )
    .at(&step.name)
    .help("make the plan anew with this version")
}

/// A batch of exactly this schema: columns of another form of the same type (`Utf8` for `Utf8View`, say) are cast.
///
/// # Errors
/// If a value does not fit, or is null where the schema has no nulls.
pub(super) fn conform(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let fitted = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                return Ok(column);
            }
            cast_with_options(&column, field.data_type(), &strict)
        })
        .collect::<Result<Vec<_>, _>>();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    fitted
        .and_then(|columns| RecordBatch::try_new_with_options(schema.clone(), columns, &options))
        .map_err(kernel)
}

/// The same rows under the planned schema, without a copy where only names, nullability or metadata differ.
///
/// # Errors
/// As for [`conform`].
pub(super) fn with_schema(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(rows.schema_ref(), schema) || rows.schema_ref() == schema {
        return Ok(rows);
    }
    let count = rows.num_rows();
    conform(schema, rows.columns().to_vec(), count)
}

/// An Arrow kernel that failed on rows that were checked before: not a fault of the data.
pub(super) fn kernel(error: arrow::error::ArrowError) -> Error {
    Error::runtime("kernel-failed", "a batch could not be computed").because(error)
}

/// Index of a column that the plan names.
///
/// # Errors
/// `plan-mismatch` if the step's input lacks it.
pub(super) fn column_index(step: &Step, column: &str) -> Result<usize> {
    step.input.index_of(column).map_err(|_| no_such_column(step, column))
}
