//! Strict casts that name the rows whose value does not fit.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::can_cast_types;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use conveyor_model::dead_letter::RowError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};

use crate::bisect::run;
use crate::checked::{Checked, Node};
use crate::expr::Evaluated;

/// Longest value shown in a message, in characters.
const SHOWN: usize = 100;

/// Casts a column as SQL's `CAST` does; a value that does not fit fails with the code `cast-failed`, null stays null.
///
/// - Text to a number, bool, date or timestamp: the whole text must be one; nothing is trimmed, `''` does not fit.
/// - A number to a narrower one: must be in range. Float to integer cuts off the fraction; NaN and infinity do not fit.
/// - Anything to text: always fits.
///
/// `column` is the name told in the errors. Where no cast exists at all ([`can_cast`]), every value fails.
pub fn cast(values: &ArrayRef, to: &DataType, column: &str) -> Evaluated {
    if values.data_type() == to {
        return Evaluated { values: Arc::clone(values), failures: Vec::new() };
    }
    let schema = Arc::new(Schema::new(vec![Field::new(column, values.data_type().clone(), true)]));
    let rows = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(values)])
        .expect("one column of the type that the schema was made from");
    let kernel: Arc<dyn PhysicalExpr> =
        Arc::new(CastExpr::new(Arc::new(Column::new(column, 0)), to.clone(), None));
    match run(&kernel, &rows, to) {
        Ok(values) => Evaluated { values, failures: Vec::new() },
        Err(_) => Node::new(&kernel, &schema, false)
            .evaluate(&rows)
            .expect("a cast calls no function that has a limit")
            .finish(to),
    }
}

/// Whether any value of one type can be cast to the other.
pub fn can_cast(from: &DataType, to: &DataType) -> bool {
    can_cast_types(from, to)
}

/// What a safe cast made of `from`, and the rows where it lost a value.
pub(crate) fn lost(from: &ArrayRef, values: ArrayRef, column: Option<&Arc<str>>) -> Checked {
    let to = name(values.data_type());
    let formatter = ArrayFormatter::try_new(from.as_ref(), &FormatOptions::default());
    let mut failures = Vec::new();
    for row in 0..values.len() {
        if values.is_valid(row) || from.is_null(row) {
            continue;
        }
        let shown = match &formatter {
            Ok(formatter) => short(&formatter.value(row).try_to_string().unwrap_or_default()),
            Err(_) => String::new(),
        };
        let error = RowError::new("cast-failed", format!("'{shown}' is not a valid {to}"));
        let row = u32::try_from(row).expect("batches have fewer than 2^32 rows");
        failures.push((row, RowError { column: column.cloned(), ..error }));
    }
    Checked { values, failures }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A type's name in messages.
fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => "text".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamp".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
