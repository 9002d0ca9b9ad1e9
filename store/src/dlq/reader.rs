//! The reading side: lists published files, counts, streams their rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use conveyor_model::{Epoch, Error, Kind, PipelineId, Result};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::file;
use super::schema::{CODE, FAILED_AT, OPERATOR_NAME};
use super::store::in_order;
use crate::objects::{self, Objects};
use crate::{blocking, paths};

/// A published file of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterFile {
    /// Key below the location.
    pub key: String,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Stable id of the step that failed.
    pub operator: String,
    /// Day of failure, `yyyy-mm-dd`.
    pub date: String,
    /// Epoch.
    pub epoch: Epoch,
    /// Size in bytes.
    pub bytes: u64,
}

/// Dead letters of one pipeline, step and code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Stable id of the step.
    pub operator_id: String,
    /// Its name.
    pub operator_name: String,
    /// Error code.
    pub code: String,
    /// Rows.
    pub rows: u64,
    /// First failure, microseconds since 1970.
    pub first_us: i64,
    /// Last failure.
    pub last_us: i64,
}

/// Reads what was published. Cheap to clone.
#[derive(Clone)]
pub struct DeadLetterReader {
    pub(crate) objects: Arc<dyn Objects>,
}

impl DeadLetterReader {
    /// Opens a directory or an object-store URL.
    ///
    /// # Errors
    /// As [`crate::Store::open`].
    pub fn open(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open(location)? })
    }

    /// Opens a location to read from: a directory that does not exist has no dead letters, and is not created.
    ///
    /// # Errors
    /// As [`crate::Store::open`].
    pub fn open_existing(location: &str) -> Result<Self> {
        Ok(Self { objects: objects::open_existing(location)? })
    }

    pub(crate) fn with_objects(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// Published files, of one pipeline or of all, in the order of their keys. Purges that a crash has cut short are
    /// completed first.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn files(&self, pipeline: Option<&PipelineId>) -> Result<Vec<DeadLetterFile>> {
        self.finish_purges().await?;
        let prefix = pipeline.map(paths::dlq_pipeline).unwrap_or_default();
        let listed = self.objects.list(&prefix).await?.into_iter();
        let published = listed.filter_map(|(key, bytes)| {
            let (pipeline, operator, date, epoch) = paths::parse_dlq(&key)?;
            Some(DeadLetterFile { key, pipeline, operator, date, epoch, bytes })
        });
        Ok(published.collect())
    }

    /// The rows of one file, in the columns of [`super::schema::schema`]. All of them have the same `row_schema`.
    ///
    /// # Errors
    /// `Corrupt` if the file is damaged, `dead-letters-gone` if it was purged meanwhile.
    pub async fn read(&self, file: &DeadLetterFile) -> Result<Vec<RecordBatch>> {
        self.columns(file, None).await
    }

    async fn columns(
        &self,
        of: &DeadLetterFile,
        only: Option<&'static [&'static str]>,
    ) -> Result<Vec<RecordBatch>> {
        let place = format!("{}/{}", self.objects.location(), of.key);
        let Some(bytes) = self.objects.get(&of.key).await? else {
            return Err(Error::new(
                Kind::Runtime,
                "dead-letters-gone",
                "a file of dead letters is no longer there",
            )
            .in_split(place)
            .help("it was purged meanwhile: run the command again"));
        };
        let epoch = of.epoch;
        let work = blocking::run(move || file::decode_letters(&place, bytes, epoch, only));
        let stopped =
            |e| Error::runtime("store-stopped", "the process stops while dead letters are read").because(e);
        work.await.map_err(stopped)?
    }

    /// All rows of `files`, one file in memory at a time.
    pub fn stream(&self, files: Vec<DeadLetterFile>) -> BoxStream<'static, Result<RecordBatch>> {
        let reader = self.clone();
        let batches = futures::stream::iter(files).then(move |file| {
            let reader = reader.clone();
            async move {
                reader.read(&file).await.map(|batches| futures::stream::iter(batches.into_iter().map(Ok)))
            }
        });
        batches.try_flatten().boxed()
    }

    /// Counts by pipeline, step and code.
    ///
    /// # Errors
    /// As [`DeadLetterReader::read`].
    pub async fn summary(&self, pipeline: Option<&PipelineId>) -> Result<Vec<Summary>> {
        const ONLY: &[&str] = &[OPERATOR_NAME, CODE, FAILED_AT];
        let files = self.files(pipeline).await?;
        let read = in_order(files, |file| async move {
            let batches = self.columns(&file, Some(ONLY)).await?;
            Ok(count(&file, &batches))
        });
        let mut found: BTreeMap<(PipelineId, String, String), Summary> = BTreeMap::new();
        for s in read.await?.into_iter().flatten() {
            let key = (s.pipeline.clone(), s.operator_id.clone(), s.code.clone());
            match found.get_mut(&key) {
                Some(sum) => {
                    sum.rows += s.rows;
                    sum.first_us = sum.first_us.min(s.first_us);
                    sum.last_us = sum.last_us.max(s.last_us);
                }
                None => {
                    found.insert(key, s);
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

/// Counts of one file by code.
fn count(file: &DeadLetterFile, batches: &[RecordBatch]) -> Vec<Summary> {
    let mut found: BTreeMap<String, Summary> = BTreeMap::new();
    for batch in batches {
        let names = batch.column(0).as_string_view();
        let codes = batch.column(1).as_string_view();
        let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let (code, at) = (codes.value(row), times.value(row));
            if let Some(sum) = found.get_mut(code) {
                sum.rows += 1;
                sum.first_us = sum.first_us.min(at);
                sum.last_us = sum.last_us.max(at);
                continue;
            }
            let sum = Summary {
                pipeline: file.pipeline.clone(),
                operator_id: file.operator.clone(),
                operator_name: names.value(row).to_owned(),
                code: code.to_owned(),
                rows: 1,
                first_us: at,
                last_us: at,
            };
            found.insert(code.to_owned(), sum);
        }
    }
    found.into_values().collect()
}
