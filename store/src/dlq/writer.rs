//! The dead letters of one task: in memory up to a bound, then in staged Parquet objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::temporal_conversions::timestamp_us_to_datetime;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::dead_letter::{DeadLetterContext, DeadLetters, DeadRows};
use conveyor_model::manifest::StagedRef;
use conveyor_model::{Clock, Epoch, Error, Kind, Result};

use super::file;
use super::group::{Group, GroupKey};
use super::schema::schema;
use super::store::Attempts;
use crate::objects::{self, Objects};
use crate::{blocking, paths};

/// Rows in memory at which they are staged.
pub(crate) const MOST_ROWS: usize = 50_000;
/// Bytes in memory at which they are staged.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// Numbers the files of this process; a task of one incarnation lives in one process.
static FILES: AtomicU64 = AtomicU64::new(1);

/// A file on its way to the store, or there.
struct Staged {
    key: String,
    group: GroupKey,
    sequence: u64,
    rows: u64,
    bytes: u64,
    /// The epoch that its rows name; none while it was full before the number was known.
    epoch: Option<Epoch>,
    /// What is not in the store yet.
    unsent: Option<Bytes>,
}

pub(crate) struct Writer {
    objects: Arc<dyn Objects>,
    clock: Arc<dyn Clock>,
    attempts: Option<Attempts>,
    context: DeadLetterContext,
    groups: BTreeMap<GroupKey, Group>,
    staged: Vec<Staged>,
    schemas: Vec<(SchemaRef, Arc<str>)>,
    /// Set while rows are in no place from which they could be staged. Still set at the next call, they are lost, and an
    /// epoch that went on without them would be wrong.
    in_doubt: bool,
}

impl Writer {
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        clock: Arc<dyn Clock>,
        attempts: Option<Attempts>,
        context: DeadLetterContext,
    ) -> Self {
        Self {
            objects,
            clock,
            attempts,
            context,
            groups: BTreeMap::new(),
            staged: Vec::new(),
            schemas: Vec::new(),
            in_doubt: false,
        }
    }

    /// The schema as JSON, made once for each.
    fn schema_json(&mut self, schema: &SchemaRef) -> Result<Arc<str>> {
        let known = |s: &SchemaRef| Arc::ptr_eq(s, schema) || s == schema;
        if let Some((_, json)) = self.schemas.iter().find(|(s, _)| known(s)) {
            return Ok(json.clone());
        }
        let json = serde_json::to_string(schema.as_ref()).map_err(|e| {
            Error::runtime("dead-letter-type", "a row's schema cannot be written as JSON").because(e)
        })?;
        let json: Arc<str> = json.into();
        self.schemas.push((schema.clone(), json.clone()));
        Ok(json)
    }

    fn check(&self) -> Result<()> {
        if self.in_doubt {
            return Err(Error::runtime(
                "dead-letters-in-doubt",
                "an earlier failure has lost dead letters of this task",
            )
            .help("start the pipeline again from its committed epoch"));
        }
        Ok(())
    }

    /// A name for a staged file that no other has, and the number in it.
    fn fresh_name(&self) -> (String, u64) {
        let sequence = FILES.fetch_add(1, Ordering::Relaxed);
        let random = uuid::Uuid::new_v4().simple().to_string();
        let DeadLetterContext { pipeline, incarnation, task, .. } = &self.context;
        (paths::dlq_staged(pipeline, *incarnation, *task, sequence, &random), sequence)
    }

    /// Writes files anew that name no epoch, or one that was given up: readers of the plain Parquet files look there.
    async fn number(&mut self, epoch: Epoch) -> Result<()> {
        for at in 0..self.staged.len() {
            if self.staged[at].epoch == Some(epoch) {
                continue;
            }
            let old = self.staged[at].key.clone();
            let place = format!("{}/{old}", self.objects.location());
            let bytes = self.objects.get(&old).await?.ok_or_else(|| {
                Error::new(Kind::Corrupt, "dead-letters-lost", "a staged file of dead letters is gone")
                    .in_split(&place)
            })?;
            let encoded = blocking::run(move || {
                file::encode(&file::decode_letters(&place, bytes, epoch, None)?, schema())
            });
            let bytes = encoded.await.map_err(stopped)??;
            let (key, _) = self.fresh_name();
            objects::create_same(self.objects.as_ref(), &key, bytes.clone()).await?;
            let staged = &mut self.staged[at];
            (staged.key, staged.bytes, staged.epoch) = (key, bytes.len() as u64, Some(epoch));
            self.objects.delete(&old).await?;
        }
        Ok(())
    }

    /// Turns all rows in memory into files and sends them. What could not be sent stays and is sent by the next call.
    async fn flush(&mut self, epoch: Option<Epoch>) -> Result<()> {
        while let Some((key, group)) = self.groups.pop_first() {
            self.in_doubt = true;
            let (name, sequence) = self.fresh_name();
            let (context, of, rows) = (self.context.clone(), key.clone(), group.rows() as u64);
            let encoded = blocking::run(move || {
                let batch = group.finish(&of, &context, epoch.map(|e| e.0))?;
                file::encode(&[batch], schema())
            });
            let bytes = encoded.await.map_err(stopped)??;
            let (length, unsent) = (bytes.len() as u64, Some(bytes));
            self.staged.push(Staged { key: name, group: key, sequence, rows, bytes: length, epoch, unsent });
            self.in_doubt = false;
        }
        for file in &mut self.staged {
            if let Some(bytes) = &file.unsent {
                fail::fail_point!("store-before-dlq-flush");
                objects::create_same(self.objects.as_ref(), &file.key, bytes.clone()).await?;
                file.unsent = None;
                fail::fail_point!("store-after-dlq-flush");
            }
        }
        Ok(())
    }
}

fn stopped(e: tokio::task::JoinError) -> Error {
    Error::runtime("store-stopped", "the process stops while dead letters are written").because(e)
}

#[async_trait]
impl DeadLetters for Writer {
    async fn write(
        &mut self,
        operator: &str,
        name: &str,
        rows: DeadRows,
        event_time_us: Option<Vec<Option<i64>>>,
    ) -> Result<()> {
        self.check()?;
        if rows.is_empty() {
            return Ok(());
        }
        let now = self.clock.wall_us();
        let date = timestamp_us_to_datetime(now)
            .map_or_else(|| "unknown".to_owned(), |t| t.format("%Y-%m-%d").to_string());
        let schema = match &rows {
            DeadRows::Raw(_) => None,
            DeadRows::Typed { rows, .. } => Some(self.schema_json(&rows.schema())?),
        };
        let key = GroupKey { operator: operator.to_owned(), date, schema };
        let group = self.groups.entry(key).or_insert_with(|| Group::new(name));
        self.in_doubt = true;
        group.push(operator, &rows, event_time_us.as_deref(), now, self.attempts.as_ref())?;
        self.in_doubt = false;
        let (held, bytes) = self.groups.values().fold((0, 0), |(r, b), g| (r + g.rows(), b + g.bytes()));
        if held >= MOST_ROWS || bytes >= MOST_BYTES {
            self.flush(None).await?;
        }
        Ok(())
    }

    async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.check()?;
        self.flush(Some(epoch)).await?;
        self.number(epoch).await?;
        let DeadLetterContext { pipeline, incarnation, task, .. } = &self.context;
        let name = |file: Staged| {
            let folder = paths::dlq_folder(pipeline, &file.group.operator, &file.group.date);
            let part = paths::dlq_part(epoch, *incarnation, *task, file.sequence);
            StagedRef {
                staged: file.key,
                publish: format!("{folder}/{part}"),
                rows: file.rows,
                bytes: file.bytes,
            }
        };
        Ok(std::mem::take(&mut self.staged).into_iter().map(name).collect())
    }
}
