//! Keys of a lookup: the type in which the row's and the table's columns meet, and their text in messages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use conveyor_model::step::LookupStep;
use conveyor_model::{Error, Result};

use super::super::layout::kernel;

/// Longest text of a key's value in a message, in characters.
const VALUE_TEXT: usize = 100;

/// The common type of each pair of key columns.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeyTypes(Vec<DataType>);

impl KeyTypes {
    /// The types in which rows and table meet.
    ///
    /// # Errors
    /// `lookup-column-missing`, or `lookup-key-type` if two columns can never be equal.
    pub(super) fn new(lookup: &LookupStep, row: &[DataType], table: &Schema) -> Result<Self> {
        let mut types = Vec::with_capacity(row.len());
        for ((row_column, table_column), row) in lookup.on.iter().zip(row) {
            let field = table.field_with_name(table_column).map_err(|_| {
                let message = format!("table `{}` has no column `{table_column}`", lookup.table);
                Error::bad_input("lookup-column-missing", message)
            })?;
            let met = common(row, field.data_type()).ok_or_else(|| {
                let message = format!(
                    "`{row_column}` is {row}, `{table_column}` of table `{}` is {}: they are never equal",
                    lookup.table,
                    field.data_type()
                );
                Error::bad_input("lookup-key-type", message).help("cast one of them before the lookup")
            })?;
            types.push(met);
        }
        Ok(Self(types))
    }

    /// The types, in key order.
    pub(super) fn types(&self) -> &[DataType] {
        &self.0
    }

    /// Key columns in the common types. What does not fit becomes null, and null matches nothing: an integer that the
    /// other side's type cannot hold is equal to none of its values.
    ///
    /// # Errors
    /// If a column has another type than planned.
    pub(super) fn fit(&self, columns: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        columns.iter().zip(&self.0).map(|(column, to)| fit(column, to)).collect()
    }
}

fn fit(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let column = if column.data_type() == to { column.clone() } else { cast(column, to).map_err(kernel)? };
    if *to == DataType::Float64 {
        // Minus zero and zero are equal in SQL, and differ as bits.
        return Ok(Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(|v| v + 0.0)));
    }
    Ok(column)
}

fn common(row: &DataType, table: &DataType) -> Option<DataType> {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if row.is_integer() && table.is_integer() {
        let both = *row == DataType::UInt64 && *table == DataType::UInt64;
        return Some(if both { DataType::UInt64 } else { DataType::Int64 });
    }
    if (row.is_floating() && table.is_numeric()) || (row.is_numeric() && table.is_floating()) {
        return Some(DataType::Float64);
    }
    match (row, table) {
        (r, t) if text(r) && text(t) => Some(DataType::Utf8View),
        (DataType::Timestamp(_, a), DataType::Timestamp(_, b)) if a.is_some() == b.is_some() => {
            Some(row.clone())
        }
        (r, t) if r == t && !r.is_nested() => Some(r.clone()),
        _ => None,
    }
}

/// `carrier = AA and year = 2013`, for a message.
pub(super) fn describe<'a>(names: impl Iterator<Item = &'a str>, columns: &[ArrayRef], row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    let parts: Vec<String> = names
        .zip(columns)
        .map(|(name, column)| {
            let value = match ArrayFormatter::try_new(column, &options) {
                Ok(formatter) => formatter.value(row).try_to_string().unwrap_or_else(|_| "?".to_owned()),
                Err(_) => "?".to_owned(),
            };
            match value.char_indices().nth(VALUE_TEXT) {
                Some((end, _)) => format!("{name} = {}...", &value[..end]),
                None => format!("{name} = {value}"),
            }
        })
        .collect();
    parts.join(" and ")
}
