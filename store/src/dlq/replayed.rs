//! Which dead letters were replayed, and how often.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use conveyor_model::{Epoch, Error, PipelineId, Result};

use super::file;
use super::reader::DeadLetterReader;
use super::schema::{OPERATOR_ID, POSITION, ROW_INDEX, SOURCE, SPLIT};
use super::store::in_order;
use crate::paths;

/// Identity of a dead letter: the step that failed and the row's own identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// Stable id of the step.
    pub operator_id: String,
    /// Source.
    pub source: String,
    /// Split.
    pub split: String,
    /// Position of the record.
    pub position: i64,
    /// Number of the row within its record.
    pub row_index: i64,
}

impl LetterId {
    /// The identities of the rows of a batch with the columns `operator_id`, `source`, `split`, `position`, `row_index`.
    ///
    /// # Errors
    /// `BadInput` if one is missing or of another type.
    pub fn of(letters: &RecordBatch) -> Result<Vec<Self>> {
        let missing = |name: &str| {
            Error::bad_input(
                "dead-letter-column",
                format!("dead letters need the column `{name}` to be told apart"),
            )
            .help("select it, or all columns")
        };
        let text = |name: &'static str| {
            letters.column_by_name(name).and_then(|c| c.as_string_view_opt()).ok_or_else(|| missing(name))
        };
        let number = |name: &'static str| {
            letters
                .column_by_name(name)
                .and_then(|c| c.as_primitive_opt::<Int64Type>())
                .ok_or_else(|| missing(name))
        };
        let (operators, sources, splits) = (text(OPERATOR_ID)?, text(SOURCE)?, text(SPLIT)?);
        let (positions, rows) = (number(POSITION)?, number(ROW_INDEX)?);
        let id = |row| Self {
            operator_id: operators.value(row).to_owned(),
            source: sources.value(row).to_owned(),
            split: splits.value(row).to_owned(),
            position: positions.value(row),
            row_index: rows.value(row),
        };
        Ok((0..letters.num_rows()).map(id).collect())
    }
}

fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8View, false);
    let int = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![text(OPERATOR_ID), text(SOURCE), text(SPLIT), int(POSITION), int(ROW_INDEX)]))
}

impl DeadLetterReader {
    /// Records that epoch `epoch` of the replay `replay` has taken these dead letters of `pipeline`. A second record of
    /// the same epoch changes nothing.
    ///
    /// # Errors
    /// If the store does not take it.
    pub async fn record_replayed(
        &self,
        pipeline: &PipelineId,
        replay: &str,
        epoch: Epoch,
        letters: &[LetterId],
    ) -> Result<()> {
        let text = |of: fn(&LetterId) -> &str| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(letters.iter().map(of)))
        };
        let number = |of: fn(&LetterId) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(letters.iter().map(of)))
        };
        let columns = vec![
            text(|l| &l.operator_id),
            text(|l| &l.source),
            text(|l| &l.split),
            number(|l| l.position),
            number(|l| l.row_index),
        ];
        let batch = RecordBatch::try_new(schema(), columns).map_err(|e| {
            Error::runtime("dead-letter-type", "a record of a replay does not fit its schema").because(e)
        })?;
        let key = paths::replayed_epoch(pipeline, replay, epoch);
        self.objects.create(&key, file::encode(&[batch], schema())?).await.map(drop)
    }

    /// How often each dead letter of `pipeline` was replayed; those that never were are not in it.
    ///
    /// # Errors
    /// `Corrupt` if a record is damaged.
    pub async fn replayed(&self, pipeline: &PipelineId) -> Result<BTreeMap<LetterId, u32>> {
        let records = self.objects.list(&paths::replayed(pipeline)).await?;
        let read = in_order(records, |(key, _)| async move {
            let Some(bytes) = self.objects.get(&key).await? else { return Ok(Vec::new()) };
            file::decode(&format!("{}/{key}", self.objects.location()), bytes, schema(), None)
        });
        let mut counts = BTreeMap::new();
        for batch in read.await?.into_iter().flatten() {
            for id in LetterId::of(&batch)? {
                *counts.entry(id).or_insert(0) += 1;
            }
        }
        Ok(counts)
    }
}
