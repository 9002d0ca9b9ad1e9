//! The origin of rows as columns of a snapshot, and as a key to order rows by.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringBuilder, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt32Type, UInt64Type};
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Origin, Result};

use super::layout::{conform, kernel};

/// Columns that [`schema`] adds.
const ADDED: usize = 4;

/// Source and split by rank within the batch, position, number within the record.
pub(super) type OrderKey = (u32, u64, u32);

/// A step's columns, nullable, with those of the origin behind them.
pub(super) fn schema(rows: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = rows.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("conveyor_source", DataType::Utf8, false)));
    fields.push(Arc::new(Field::new("conveyor_split", DataType::Utf8, false)));
    fields.push(Arc::new(Field::new("conveyor_position", DataType::UInt64, false)));
    fields.push(Arc::new(Field::new("conveyor_sub", DataType::UInt32, false)));
    Arc::new(Schema::new(fields))
}

/// The batch with its origin as columns, in the schema of [`schema`].
///
/// # Errors
/// If the batch is not of that schema.
pub(super) fn write(batch: &Batch, saved: &SchemaRef) -> Result<RecordBatch> {
    let (mut sources, mut splits) = (StringBuilder::new(), StringBuilder::new());
    let mut places = Vec::with_capacity(batch.num_rows());
    for segment in batch.origin().segments() {
        for _ in 0..segment.rows.len() {
            sources.append_value(&segment.source);
            splits.append_value(&segment.split);
        }
        push_places(&segment.rows, &mut places);
    }
    let mut columns = batch.rows().columns().to_vec();
    columns.push(Arc::new(sources.finish()));
    columns.push(Arc::new(splits.finish()));
    columns.push(Arc::new(places.iter().map(|p| p.0).collect::<UInt64Array>()));
    columns.push(Arc::new(places.iter().map(|p| p.1).collect::<UInt32Array>()));
    conform(saved, columns, batch.num_rows())
}

/// The batch that [`write`] made columns of.
///
/// # Errors
/// If the columns do not fit.
pub(super) fn read(saved: &RecordBatch, rows: &SchemaRef) -> Result<Batch> {
    let (columns, added) = saved.columns().split_at(saved.num_columns() - ADDED);
    let (sources, splits) = (added[0].as_string::<i32>(), added[1].as_string::<i32>());
    let positions = added[2].as_primitive::<UInt64Type>();
    let subs = added[3].as_primitive::<UInt32Type>();
    let mut parts = Vec::new();
    let mut from = 0;
    while from < saved.num_rows() {
        let of = (sources.value(from), splits.value(from));
        let same = |row: &usize| (sources.value(*row), splits.value(*row)) == of;
        let count = (from..saved.num_rows()).take_while(same).count();
        let sub = subs.values().slice(from, count);
        let ids = RowIds::Listed {
            at: positions.values().slice(from, count),
            sub: sub.iter().any(|&s| s != 0).then_some(sub),
        };
        parts.push(Origin::new(of.0.into(), of.1.into(), ids));
        from += count;
    }
    let batch = conform(rows, columns.to_vec(), saved.num_rows())?;
    Ok(Batch::new(batch, Origin::concat(&parts)))
}

/// One key a row: rows of one source and split by their place, splits by their names.
pub(super) fn order_keys(origin: &Origin) -> Vec<OrderKey> {
    let mut names: Vec<_> = origin.segments().iter().map(|s| (&s.source, &s.split)).collect();
    names.sort_unstable();
    names.dedup();
    let mut keys = Vec::with_capacity(origin.len());
    let mut places = Vec::new();
    for segment in origin.segments() {
        let rank = names.partition_point(|name| *name < (&segment.source, &segment.split)) as u32;
        places.clear();
        push_places(&segment.rows, &mut places);
        keys.extend(places.iter().map(|&(position, sub)| (rank, position, sub)));
    }
    keys
}

fn push_places(ids: &RowIds, to: &mut Vec<(u64, u32)>) {
    match ids {
        RowIds::Range { start, len } => to.extend((*start..*start + *len as u64).map(|p| (p, 0))),
        RowIds::Listed { at, sub: None } => to.extend(at.iter().map(|&p| (p, 0))),
        RowIds::Listed { at, sub: Some(sub) } => to.extend(at.iter().copied().zip(sub.iter().copied())),
    }
}

/// A copy of the rows alone, without the buffers that they were cut from.
///
/// # Errors
/// Only if a kernel fails.
pub(super) fn compact(batch: Batch) -> Result<Batch> {
    let all: UInt32Array = (0..batch.num_rows() as u32).collect();
    let (rows, origin) = batch.into_parts();
    let columns = rows.columns().iter().map(|column| {
        let copied = arrow::compute::take(column, &all, None).map_err(kernel)?;
        Ok(match copied.as_string_view_opt() {
            Some(text) => Arc::new(text.gc()) as ArrayRef,
            None => copied,
        })
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let count = rows.num_rows();
    Ok(Batch::new(conform(&rows.schema(), columns, count)?, origin))
}
