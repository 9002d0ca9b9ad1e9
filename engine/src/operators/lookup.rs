//! `lookup`: enriches rows from a table by an index that the table's refresher keeps up to date.

mod index;
mod key;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, StructArray, UInt32Array, new_null_array};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Fields};
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::{LookupResult, LookupStep, OnMiss, Step};
use conveyor_model::{Batch, Error, Result};

use self::index::{Index, MISS};
use self::key::KeyTypes;
use super::failed::{Failed, describe};
use super::layout::{Layout, column_index, kernel, no_such_column};
use crate::lookups::IndexHandle;
use crate::operator::{BuildContext, Emitter, Operator};

/// Looks every row's key up in the newest version of the table.
pub(super) struct Lookup {
    step: LookupStep,
    /// The row's key columns.
    keys: Vec<usize>,
    types: KeyTypes,
    index: IndexHandle<Index>,
    /// Fields of the one struct column, where the result is nested.
    nested: Option<Fields>,
    layout: Layout,
    name: String,
}

impl Lookup {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the table lacks a column, its key has another type than the row's, or two of its rows have one key.
    pub(super) fn new(step: &Step, lookup: &LookupStep, context: &BuildContext<'_>) -> Result<Self> {
        let table = context.lookups.rows(&lookup.table).map_err(|e| e.at(&step.name))?;
        let keys = lookup.on.iter().map(|(row, _)| column_index(step, row)).collect::<Result<Vec<_>>>()?;
        let row_types: Vec<_> = keys.iter().map(|&i| step.input.field(i).data_type().clone()).collect();
        let types = KeyTypes::new(lookup, &row_types, table.schema_ref()).map_err(|e| e.at(&step.name))?;
        let made = made_columns(step, lookup, &table)?;
        let nested = match (&lookup.result, made.first()) {
            (LookupResult::Nest(_), Some((_, DataType::Struct(fields)))) => Some(fields.clone()),
            _ => None,
        };
        let of = (&lookup.on, &types, &lookup.select);
        let index = {
            let (types, lookup) = (types.clone(), lookup.clone());
            context.lookups.index(&lookup.table.clone(), format!("{of:?}"), move |rows| {
                Index::build(&lookup, &types, rows)
            })?
        };
        let layout = Layout::new(step, &made)?;
        Ok(Self { step: lookup.clone(), keys, types, index, nested, layout, name: step.name.clone() })
    }

    /// Columns of the table at `found`; null where there is no match.
    fn gather(&self, index: &Index, found: Vec<u32>) -> Result<Vec<ArrayRef>> {
        let hits =
            found.contains(&MISS).then(|| found.iter().map(|&row| row != MISS).collect::<NullBuffer>());
        let rows = found.len();
        let columns: Vec<ArrayRef> = if index.is_empty() {
            index.columns().iter().map(|c| new_null_array(c.data_type(), rows)).collect()
        } else {
            // A null index is never followed, but it must be one that exists.
            let at: Vec<u32> = if hits.is_some() {
                found.into_iter().map(|row| if row == MISS { 0 } else { row }).collect()
            } else {
                found
            };
            let at = UInt32Array::new(at.into(), hits.clone());
            index.columns().iter().map(|c| take(c, &at, None)).collect::<Result<_, _>>().map_err(kernel)?
        };
        match &self.nested {
            None => Ok(columns),
            Some(fields) => {
                let one = StructArray::try_new_with_length(fields.clone(), columns, hits, rows);
                Ok(vec![Arc::new(one.map_err(kernel)?)])
            }
        }
    }

    /// Deals with the rows that have no match; returns the rows that go on and what was found for them.
    fn settle(&self, batch: Batch, found: Vec<u32>, out: &mut Emitter) -> Result<(Batch, Vec<u32>)> {
        let misses = found.iter().filter(|&&row| row == MISS).count();
        if misses == 0 || self.step.on_miss == OnMiss::Keep {
            return Ok((batch, found));
        }
        let missing = || found.iter().enumerate().filter(|&(_, &row)| row == MISS).map(|(i, _)| i);
        match self.step.on_miss {
            OnMiss::Keep => {}
            OnMiss::Drop => out.filtered(misses as u64),
            OnMiss::Fail => return Err(self.stop(&batch, missing().next().unwrap_or_default())),
            OnMiss::Dlq => {
                let mut failed = Failed::default();
                failed.add(missing().map(|row| (row, self.miss(batch.rows(), row))).collect());
                failed.report(&batch, out)?;
            }
        }
        let hit = BooleanArray::new(BooleanBuffer::collect_bool(found.len(), |i| found[i] != MISS), None);
        let found = found.into_iter().filter(|&row| row != MISS).collect();
        Ok((batch.filter(&hit).map_err(kernel)?, found))
    }

    fn miss(&self, rows: &RecordBatch, row: usize) -> RowError {
        let columns: Vec<_> = self.keys.iter().map(|&i| rows.column(i).clone()).collect();
        let key = key::describe(self.step.on.iter().map(|(_, table)| table.as_str()), &columns, row);
        let message = format!("no row of table `{}` has {key}", self.step.table);
        let error = RowError::new("lookup-miss", message);
        match self.step.on.as_slice() {
            [(column, _)] => error.column(column),
            _ => error,
        }
    }

    fn stop(&self, batch: &Batch, row: usize) -> Error {
        let at = batch.origin().get(row);
        let text = describe(batch.rows(), row);
        Error::runtime("lookup-miss", format!("{}: {text}", self.miss(batch.rows(), row).message))
            .at(&self.name)
            .in_split(&at.split)
            .at_position(at.position)
            .help("add the row to the table, or set `onMiss` to `keep`, `drop` or `dlq`")
    }
}

impl Operator for Lookup {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let current = self.index.current();
        let keys: Vec<_> = self.keys.iter().map(|&i| batch.rows().column(i).clone()).collect();
        let found = current.index.probe(&self.types.fit(&keys)?)?;
        let (batch, found) = self.settle(batch, found, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let made = self.gather(&current.index, found)?;
        let rows = self.layout.assemble(batch.rows(), &made)?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}

/// Names and types of the columns that the lookup adds.
fn made_columns(step: &Step, lookup: &LookupStep, table: &RecordBatch) -> Result<Vec<(String, DataType)>> {
    let mut made = Vec::with_capacity(lookup.select.len());
    for (name, column) in &lookup.select {
        let schema = table.schema_ref();
        let field = schema.field_with_name(column).map_err(|_| {
            Error::bad_input(
                "lookup-column-missing",
                format!("table `{}` has no column `{column}`", lookup.table),
            )
            .at(&step.name)
        })?;
        let name = match &lookup.result {
            LookupResult::Prefix(prefix) => format!("{prefix}{name}"),
            LookupResult::Merge | LookupResult::Nest(_) => name.clone(),
        };
        made.push((name, field.data_type().clone()));
    }
    let LookupResult::Nest(name) = &lookup.result else { return Ok(made) };
    // The children are named and typed as the plan says; what is gathered for them is checked against it.
    let planned = step.output.field_with_name(name).map_err(|_| no_such_column(step, name))?;
    let DataType::Struct(children) = planned.data_type() else { return Err(no_such_column(step, name)) };
    if !children.iter().map(|c| (c.name(), c.data_type())).eq(made.iter().map(|(n, t)| (n, t))) {
        return Err(no_such_column(step, name));
    }
    Ok(vec![(name.clone(), planned.data_type().clone())])
}
