//! `flatten` of structs: their fields become columns, at all depths.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Field, SchemaRef};
use conveyor_model::step::Step;
use conveyor_model::{Batch, Result};

use super::layout::{column_index, conform, kernel};
use super::plan_error;
use crate::operator::{Emitter, Operator};

/// Replaces each struct column, in its place, by the columns of its fields.
pub(super) struct FlattenStructs {
    /// Input columns to lift, by index.
    lifted: Vec<bool>,
    schema: SchemaRef,
}

impl FlattenStructs {
    /// The operator of `step`; no columns means all struct columns.
    ///
    /// # Errors
    /// If the output is not what lifting these columns gives.
    pub(super) fn new(step: &Step, columns: &[String], separator: &str) -> Result<Self> {
        let fields = step.input.fields();
        let mut lifted: Vec<bool> =
            fields.iter().map(|f| columns.is_empty() && is_struct(f.data_type())).collect();
        for column in columns {
            lifted[column_index(step, column)?] = true;
        }
        let mut names = Vec::with_capacity(step.output.fields().len());
        for (field, lift) in fields.iter().zip(&lifted) {
            if *lift {
                leaf_names(field.name(), field, separator, &mut names);
            } else {
                names.push(field.name().clone());
            }
        }
        if !names.iter().eq(step.output.fields().iter().map(|f| f.name())) {
            return Err(plan_error(step, "the output has other columns than the structs have fields"));
        }
        Ok(Self { lifted, schema: step.output.clone() })
    }
}

impl Operator for FlattenStructs {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (column, lift) in batch.rows().columns().iter().zip(&self.lifted) {
            if *lift {
                leaves(column, &mut columns)?;
            } else {
                columns.push(column.clone());
            }
        }
        let rows = conform(&self.schema, columns, batch.num_rows())?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}

fn is_struct(of: &DataType) -> bool {
    matches!(of, DataType::Struct(_))
}

fn leaf_names(prefix: &str, field: &Field, separator: &str, names: &mut Vec<String>) {
    match field.data_type() {
        DataType::Struct(children) => {
            for child in children {
                leaf_names(&format!("{prefix}{separator}{}", child.name()), child, separator, names);
            }
        }
        _ => names.push(prefix.to_owned()),
    }
}

/// The columns below a struct; where a struct is null, so are they.
fn leaves(column: &ArrayRef, to: &mut Vec<ArrayRef>) -> Result<()> {
    if !is_struct(column.data_type()) {
        to.push(column.clone());
        return Ok(());
    }
    let parent = column.as_struct();
    let absent = match parent.nulls() {
        Some(nulls) if nulls.null_count() > 0 => Some((!nulls.inner()).into()),
        _ => None,
    };
    for child in parent.columns() {
        let child = match &absent {
            Some(absent) => nullif(child, absent).map_err(kernel)?,
            None => child.clone(),
        };
        leaves(&child, to)?;
    }
    Ok(())
}
