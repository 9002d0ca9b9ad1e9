//! From the columns that a file has to those that are wanted: canonical types, declared types, missing columns, and the
//! predicate where the format could not apply it itself.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use conveyor_model::dead_letter::RowError;
use conveyor_model::origin::RowIds;
use conveyor_model::predicate::Predicate;
use conveyor_model::{Error, Result};

use super::reader::{BadRecord, Piece, Wanted};
use crate::predicate::evaluate;

/// The type in which the engine holds values of a file's type.
pub(crate) fn canonical(kind: &DataType) -> DataType {
    let field = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(canonical(f.data_type())));
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Date64 => DataType::Date32,
        DataType::Float16 => DataType::Float32,
        DataType::Dictionary(_, value) => canonical(value),
        DataType::RunEndEncoded(_, value) => canonical(value.data_type()),
        DataType::List(f) | DataType::LargeList(f) | DataType::ListView(f) | DataType::LargeListView(f) => {
            DataType::List(field(f))
        }
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(field(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The canonical schema of a file; declared types win.
///
/// # Errors
/// `BadInput` for a declared column that the file does not have, or a column name that comes twice.
pub(crate) fn declare(found: &Schema, declared: &[FieldRef]) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = Vec::with_capacity(found.fields().len());
    for f in found.fields() {
        if fields.iter().any(|g| g.name() == f.name()) {
            return Err(Error::bad_input(
                "column-twice",
                format!("the file has two columns named `{}`", f.name()),
            ));
        }
        let kind = match declared.iter().find(|d| d.name() == f.name()) {
            Some(d) => d.data_type().clone(),
            None => canonical(f.data_type()),
        };
        // Other files of the same source may lack the column or have nulls in it.
        fields.push(Arc::new(Field::new(f.name(), kind, true)));
    }
    if let Some(d) = declared.iter().find(|d| !fields.iter().any(|f| f.name() == d.name())) {
        return Err(Error::bad_input(
            "column-unknown",
            format!("the column `{}` is declared, but the file does not have it", d.name()),
        )
        .help("remove it from `schema` or correct its name"));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns to decode and what to do with them.
pub(crate) struct Columns {
    /// The projected columns, then those that only the predicate looks at.
    needed: Vec<FieldRef>,
    /// Of those, how many are projected.
    projected: usize,
    schema: SchemaRef,
    predicate: Predicate,
    /// Whether the predicate looks at the column.
    tested: Vec<bool>,
}

impl Columns {
    /// The columns of a source, or without the predicate where the format applies it itself.
    pub(crate) fn new(wanted: &Wanted, predicate: Predicate) -> Self {
        let mut needed: Vec<FieldRef> = wanted.schema.fields().iter().cloned().collect();
        let projected = needed.len();
        for condition in &predicate.all {
            let name = condition.column();
            if let (false, Ok(field)) =
                (needed.iter().any(|f| f.name() == name), wanted.full_schema.field_with_name(name))
            {
                needed.push(Arc::new(field.clone()));
            }
        }
        let tested = needed.iter().map(|f| predicate.all.iter().any(|c| c.column() == f.name())).collect();
        Self { needed, projected, schema: wanted.schema.clone(), predicate, tested }
    }

    /// Indices of the file's top-level columns to decode, ascending.
    pub(crate) fn indices(&self, file: &Schema) -> Vec<usize> {
        let mut all: Vec<usize> = self.needed.iter().filter_map(|f| file.index_of(f.name()).ok()).collect();
        all.sort_unstable();
        all
    }

    /// No rows, in the schema of the projection.
    pub(crate) fn empty(&self) -> RecordBatch {
        RecordBatch::new_empty(self.schema.clone())
    }

    /// The rows wanted of what was decoded.
    ///
    /// # Errors
    /// If a column of the file has a type that can never become the wanted one.
    pub(crate) fn piece(&self, decoded: &RecordBatch, ids: &RowIds, bytes: u64) -> Result<Piece> {
        let rows = decoded.num_rows();
        let mut columns = Vec::with_capacity(self.needed.len());
        let mut bad: Vec<(usize, usize)> = Vec::new();
        for (index, field) in self.needed.iter().enumerate() {
            let column = match decoded.column_by_name(field.name()) {
                Some(column) => convert(column, field)?,
                None => new_null_array(field.data_type(), rows),
            };
            if let Some(before) = decoded.column_by_name(field.name())
                && column.null_count() > before.logical_null_count()
            {
                bad.extend(failed(before, &column).map(|row| (row, index)));
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(self.needed.clone()));
        let all = RecordBatch::try_new_with_options(schema, columns, &options).map_err(|e| {
            Error::bad_input("file-schema", "the file's columns do not fit the planned schema").because(e)
        })?;
        let wanted = self.select(&all, decoded, ids, bad)?;
        let out = all.columns()[..self.projected].to_vec();
        let out = RecordBatch::try_new_with_options(self.schema.clone(), out, &options).map_err(|e| {
            Error::bad_input("file-schema", "the file's columns do not fit the planned schema").because(e)
        })?;
        let (out, kept) = match &wanted.keep {
            None => (out, ids.clone()),
            Some(keep) => {
                let kept = keep_ids(ids, keep);
                let filtered = filter_record_batch(&out, &BooleanArray::new(keep.clone(), None));
                (
                    filtered.map_err(|e| {
                        Error::runtime("filter-failed", "rows could not be filtered").because(e)
                    })?,
                    kept,
                )
            }
        };
        Ok(Piece { rows: out, ids: kept, rejected: wanted.rejected, pruned: wanted.pruned, bytes })
    }

    /// Which rows stay. A row whose tested columns are good and for which the predicate is not true is pruned, whatever
    /// else is wrong with it.
    fn select(
        &self,
        all: &RecordBatch,
        decoded: &RecordBatch,
        ids: &RowIds,
        mut bad: Vec<(usize, usize)>,
    ) -> Result<Selected> {
        if bad.is_empty() && self.predicate.all.is_empty() {
            return Ok(Selected { keep: None, rejected: Vec::new(), pruned: 0 });
        }
        let matches = evaluate(&self.predicate, all)?;
        bad.sort_by_key(|&(row, index)| (row, !self.tested[index], index));
        bad.dedup_by_key(|&mut (row, _)| row);
        let mut keep = BooleanBufferBuilder::new(all.num_rows());
        keep.append_buffer(matches.values());
        let mut rejected = Vec::new();
        let mut matching = matches.true_count();
        for (row, index) in bad {
            let in_test = self.tested[index];
            if !in_test && !matches.value(row) {
                continue;
            }
            matching += usize::from(!matches.value(row));
            keep.set_bit(row, false);
            let field = &self.needed[index];
            let message =
                format!("the value of column `{}` cannot become {}", field.name(), field.data_type());
            rejected.push(BadRecord {
                at: id(ids, row),
                error: RowError::new("cast-failed", message).column(field.name()),
                bytes: as_json(&decoded.slice(row, 1)),
            });
        }
        let pruned = (all.num_rows() - matching) as u64;
        Ok(Selected { keep: Some(keep.finish()), rejected, pruned })
    }
}

struct Selected {
    /// `None` for all.
    keep: Option<BooleanBuffer>,
    rejected: Vec<BadRecord>,
    pruned: u64,
}

fn convert(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|e| {
        Error::bad_input(
            "column-type",
            format!(
                "column `{}` is {} in the file and cannot become {}",
                field.name(),
                column.data_type(),
                field.data_type()
            ),
        )
        .because(e)
        .help("declare another type in `schema`, or leave the column out")
    })
}

fn failed<'a>(before: &'a ArrayRef, after: &'a ArrayRef) -> impl Iterator<Item = usize> + 'a {
    let nulls = before.logical_nulls();
    (0..after.len()).filter(move |&row| after.is_null(row) && nulls.as_ref().is_none_or(|n| n.is_valid(row)))
}

fn id(ids: &RowIds, row: usize) -> u64 {
    match ids {
        RowIds::Range { start, .. } => start + row as u64,
        RowIds::Listed { at, .. } => at[row],
    }
}

fn keep_ids(ids: &RowIds, keep: &BooleanBuffer) -> RowIds {
    RowIds::Listed { at: keep.set_indices().map(|row| id(ids, row)).collect(), sub: None }
}

/// A row as one JSON object, for a person to look at.
fn as_json(row: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    match writer.write(row).and_then(|()| writer.finish()) {
        Ok(()) => {
            let mut text = writer.into_inner();
            text.truncate(text.trim_ascii_end().len());
            text
        }
        Err(e) => format!("(the row cannot be shown: {e})").into_bytes(),
    }
}
