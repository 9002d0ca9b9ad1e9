//! Dead letters of one step, day and row schema on their way to one file.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Array, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::cast;
use arrow_schema::DataType;
use conveyor_model::dead_letter::{DeadLetterContext, DeadRows, RowError};
use conveyor_model::origin::RowIds;
use conveyor_model::{Error, Origin, Result, RowRef};

use super::json;
use super::schema::{schema, timestamp};
use super::store::Attempts;

/// Which file a dead letter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupKey {
    /// Stable id of the step.
    pub(crate) operator: String,
    /// Day of failure, `yyyy-mm-dd`.
    pub(crate) date: String,
    /// Arrow schema of the typed rows as JSON; none for rows that never were typed.
    pub(crate) schema: Option<Arc<str>>,
}

/// Column builders; what is the same in all rows is added when the group is finished.
pub(crate) struct Group {
    name: String,
    rows: usize,
    bytes: usize,
    source: StringBuilder,
    split: StringBuilder,
    position: Int64Builder,
    row_index: Int64Builder,
    code: StringBuilder,
    message: StringBuilder,
    column: StringBuilder,
    raw: BinaryBuilder,
    row_json: StringBuilder,
    event_time: TimestampMicrosecondBuilder,
    failed_at: TimestampMicrosecondBuilder,
    attempts: Int64Builder,
}

/// Bytes of a row apart from its texts.
const ROW_BYTES: usize = 96;

impl Group {
    pub(crate) fn new(name: &str) -> Self {
        let zone = || TimestampMicrosecondBuilder::new().with_data_type(timestamp());
        Self {
            name: name.to_owned(),
            rows: 0,
            bytes: 0,
            source: StringBuilder::new(),
            split: StringBuilder::new(),
            position: Int64Builder::new(),
            row_index: Int64Builder::new(),
            code: StringBuilder::new(),
            message: StringBuilder::new(),
            column: StringBuilder::new(),
            raw: BinaryBuilder::new(),
            row_json: StringBuilder::new(),
            event_time: zone(),
            failed_at: zone(),
            attempts: Int64Builder::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of content, about what the builders hold.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends failed rows; `times` has one entry a row where it is there.
    pub(crate) fn push(
        &mut self,
        operator: &str,
        rows: &DeadRows,
        times: Option<&[Option<i64>]>,
        failed_at_us: i64,
        attempts: Option<&Attempts>,
    ) -> Result<()> {
        let tries = |row: &RowRef| attempts.map_or(1, |a| i64::from(a(operator, row)));
        match rows {
            DeadRows::Raw(rows) => {
                for rejected in rows {
                    self.push_place(&rejected.row, &rejected.error, tries(&rejected.row));
                    self.raw.append_value(&rejected.bytes);
                    self.row_json.append_null();
                    self.bytes += rejected.bytes.len();
                }
            }
            DeadRows::Typed { rows, errors } => {
                if errors.len() != rows.num_rows() {
                    return Err(Error::runtime(
                        "dead-letter-count",
                        "a step gave another number of errors than of failed rows",
                    ));
                }
                self.bytes += json::append_rows(rows.rows(), &mut self.row_json)?;
                self.raw.append_nulls(rows.num_rows());
                let mut errors = errors.iter();
                for_each_row(rows.origin(), |row| {
                    if let Some(error) = errors.next() {
                        self.push_place(row, error, tries(row));
                    }
                });
            }
        }
        let added = rows.len();
        match times.filter(|t| t.len() == added) {
            Some(times) => times.iter().for_each(|t| self.event_time.append_option(*t)),
            None => self.event_time.append_nulls(added),
        }
        self.failed_at.append_value_n(failed_at_us, added);
        self.rows += added;
        self.bytes += added * ROW_BYTES;
        Ok(())
    }

    fn push_place(&mut self, row: &RowRef, error: &RowError, attempts: i64) {
        self.source.append_value(&row.source);
        self.split.append_value(&row.split);
        // Positions are byte offsets and row numbers: none reaches 2^63.
        self.position.append_value(row.position.try_into().unwrap_or(i64::MAX));
        self.row_index.append_value(i64::from(row.sub));
        self.code.append_value(&error.code);
        self.message.append_value(&error.message);
        self.column.append_option(error.column.as_deref());
        self.attempts.append_value(attempts);
        self.bytes += row.source.len() + row.split.len() + error.code.len() + error.message.len();
    }

    /// The rows as a batch of [`schema`].
    pub(crate) fn finish(
        mut self,
        key: &GroupKey,
        context: &DeadLetterContext,
        epoch: Option<u64>,
    ) -> Result<RecordBatch> {
        let rows = self.rows;
        let same = |value: u64| -> ArrayRef {
            Arc::new(Int64Array::from_value(value.try_into().unwrap_or(i64::MAX), rows))
        };
        let epoch: ArrayRef = match epoch {
            Some(epoch) => same(epoch),
            None => Arc::new(Int64Array::new_null(rows)),
        };
        let view = |mut builder: StringBuilder| cast(&builder.finish(), &DataType::Utf8View);
        let columns = || -> Result<RecordBatch, arrow_schema::ArrowError> {
            let columns: Vec<ArrayRef> = vec![
                json::repeated(Some(&context.pipeline.to_string()), rows),
                same(context.plan_version),
                epoch,
                same(context.incarnation.0),
                json::repeated(Some(&key.operator), rows),
                json::repeated(Some(&self.name), rows),
                view(self.source)?,
                view(self.split)?,
                Arc::new(self.position.finish()),
                Arc::new(self.row_index.finish()),
                view(self.code)?,
                view(self.message)?,
                view(self.column)?,
                Arc::new(self.raw.finish()),
                view(self.row_json)?,
                json::repeated(key.schema.as_deref(), rows),
                Arc::new(self.event_time.finish()),
                Arc::new(self.failed_at.finish()),
                Arc::new(self.attempts.finish()),
            ];
            RecordBatch::try_new(schema(), columns)
        };
        columns().map_err(|e| {
            Error::runtime("dead-letter-type", "dead letters do not fit their own schema").because(e)
        })
    }
}

/// Calls `each` with the place of every row, in order.
fn for_each_row(origin: &Origin, mut each: impl FnMut(&RowRef)) {
    for segment in origin.segments() {
        let mut row =
            RowRef { source: segment.source.clone(), split: segment.split.clone(), position: 0, sub: 0 };
        for nth in 0..segment.rows.len() {
            match &segment.rows {
                RowIds::Range { start, .. } => row.position = start + nth as u64,
                RowIds::Listed { at, sub } => {
                    row.position = at[nth];
                    row.sub = sub.as_ref().map_or(0, |s| s[nth]);
                }
            }
            each(&row);
        }
    }
}
