//! `flatten` of a list: one row for each element.

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use conveyor_model::batch::BATCH_ROWS;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Error, Result, RowRef};

use super::layout::{column_index, conform, kernel};
use super::plan_error;
use crate::operator::{Emitter, Operator};

/// Makes one row of each element of a list column; a null or empty list gives one row with null.
pub(super) struct Explode {
    column: usize,
    schema: SchemaRef,
    name: String,
    /// The row that was numbered last.
    last: Option<RowRef>,
}

impl Explode {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the column is not a list, or the output has other columns than the input.
    pub(super) fn new(step: &Step, column: &str) -> Result<Self> {
        let index = column_index(step, column)?;
        let of = step.input.field(index).data_type();
        if !matches!(of, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _)) {
            return Err(Error::bad_input("not-a-list", format!("`{column}` is {of}, which has no elements"))
                .at(&step.name)
                .help("name a list column"));
        }
        let names = |schema: &SchemaRef| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        if names(&step.input) != names(&step.output) {
            return Err(plan_error(step, "explode does not change the names of columns"));
        }
        Ok(Self { column: index, schema: step.output.clone(), name: step.name.clone(), last: None })
    }
}

impl Operator for Explode {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let Elements { rows, places, values } = elements(batch.rows().column(self.column), &self.name)?;
        out.expanded((rows.len() - batch.num_rows()) as u64);
        // Rows of one record are numbered through, wherever input and output are cut.
        let origin = batch.origin().expand(rows.values(), &mut self.last);
        for from in (0..rows.len()).step_by(BATCH_ROWS) {
            let count = BATCH_ROWS.min(rows.len() - from);
            let (part, places) = (rows.slice(from, count), places.slice(from, count));
            let mut columns = Vec::with_capacity(self.schema.fields().len());
            for (i, column) in batch.rows().columns().iter().enumerate() {
                columns.push(if i == self.column {
                    take(&values, &places, None).map_err(kernel)?
                } else {
                    take(column, &part, None).map_err(kernel)?
                });
            }
            out.emit(Batch::new(conform(&self.schema, columns, count)?, origin.slice(from, count)));
        }
        Ok(())
    }
}

/// The elements of a list column: for each output row its input row and, unless the list has none, its element.
struct Elements {
    rows: UInt32Array,
    places: UInt64Array,
    values: ArrayRef,
}

fn elements(column: &ArrayRef, step: &str) -> Result<Elements> {
    match column.data_type() {
        DataType::List(_) => Ok(of_list(column.as_list::<i32>())),
        DataType::LargeList(_) => Ok(of_list(column.as_list::<i64>())),
        DataType::FixedSizeList(_, _) => {
            let list = column.as_fixed_size_list();
            let size = list.value_length() as u64;
            Ok(spread(column, list.values().clone(), |row| (row as u64 * size, (row as u64 + 1) * size)))
        }
        other => Err(Error::runtime("plan-mismatch", format!("a list was planned, {other} came")).at(step)),
    }
}

fn of_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Elements {
    let offsets = list.value_offsets();
    let range = |row: usize| (offsets[row].as_usize() as u64, offsets[row + 1].as_usize() as u64);
    spread(list, list.values().clone(), range)
}

fn spread(list: &dyn Array, values: ArrayRef, range: impl Fn(usize) -> (u64, u64)) -> Elements {
    let mut rows = Vec::with_capacity(list.len());
    let mut places = Vec::with_capacity(list.len());
    for row in 0..list.len() {
        let (start, end) = if list.is_valid(row) { range(row) } else { (0, 0) };
        if start == end {
            rows.push(row as u32);
            places.push(None);
        }
        for place in start..end {
            rows.push(row as u32);
            places.push(Some(place));
        }
    }
    Elements { rows: rows.into(), places: places.into(), values }
}
