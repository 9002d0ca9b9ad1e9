//! The event-time column of a stateful step, in microseconds since 1970-01-01T00:00:00Z.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use conveyor_model::step::Step;
use conveyor_model::{Error, Result};

use super::layout::{column_index, kernel};

/// Index of the step's event-time column.
///
/// # Errors
/// If it is missing or neither a timestamp nor a date.
pub(super) fn column(step: &Step, name: &str) -> Result<usize> {
    let index = column_index(step, name)?;
    let of = step.input.field(index).data_type();
    if !matches!(of, DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) {
        return Err(Error::bad_input("event-time-type", format!("`{name}` is {of}, which is no event time"))
            .at(&step.name)
            .help("name a timestamp or date column, or cast it before"));
    }
    Ok(index)
}

/// Event times in microseconds; null stays null.
///
/// # Errors
/// If the column is of another type than planned.
pub(super) fn micros(column: &ArrayRef) -> Result<Int64Array> {
    let zone = match column.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let micros = cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone)).map_err(kernel)?;
    Ok(cast(&micros, &DataType::Int64).map_err(kernel)?.as_primitive::<Int64Type>().clone())
}
