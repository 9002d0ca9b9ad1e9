//! Rows that could not be processed, with their whole context.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;

use crate::manifest::StagedRef;
use crate::{Batch, Epoch, Incarnation, PipelineId, Result, RowRef, TaskId};

/// Why one row failed. `message` never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Stable code, kebab-case: `cast-failed`, `lookup-miss`, `late`.
    pub code: Cow<'static, str>,
    /// One sentence for a person.
    pub message: String,
    /// The column, where one is to blame.
    pub column: Option<Arc<str>>,
}

impl RowError {
    /// An error without a column.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), column: None }
    }

    /// Names the column.
    #[must_use]
    pub fn column(mut self, column: &str) -> Self {
        self.column = Some(column.into());
        self
    }
}

/// A record that never became a typed row: its original bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands.
    pub row: RowRef,
    /// Why it failed.
    pub error: RowError,
    /// The record as it was read, without its line end.
    pub bytes: Vec<u8>,
}

/// Failed rows of one step, in one go.
#[derive(Debug, Clone)]
pub enum DeadRows {
    /// Never typed.
    Raw(Vec<Rejected>),
    /// Typed as the input of the step that failed; one error a row.
    Typed {
        /// The failing rows alone.
        rows: Batch,
        /// `errors.len() == rows.num_rows()`.
        errors: Vec<RowError>,
    },
}

impl DeadRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            DeadRows::Raw(rows) => rows.len(),
            DeadRows::Typed { errors, .. } => errors.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Who writes dead letters: filled in once per task and incarnation.
#[derive(Debug, Clone)]
pub struct DeadLetterContext {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Plan version.
    pub plan_version: u64,
    /// Incarnation.
    pub incarnation: Incarnation,
    /// The writing task.
    pub task: TaskId,
}

/// Where one task puts its dead letters. Rows are in memory only up to a bound, then in staged Parquet objects.
#[async_trait]
pub trait DeadLetters: Send {
    /// Takes failed rows of the step `operator` (stable id) named `name`, which fail within epoch `epoch`.
    /// `event_time_us` has one entry a row where the source has an event time.
    ///
    /// # Errors
    /// When a full buffer cannot be staged: the pipeline must stop, because the rows would be lost.
    async fn write(
        &mut self,
        operator: &str,
        name: &str,
        rows: DeadRows,
        event_time_us: Option<Vec<Option<i64>>>,
    ) -> Result<()>;

    /// Closes what holds rows and returns the objects staged since the last call, ready to be named in epoch
    /// `epoch`'s manifest.
    ///
    /// # Errors
    /// When the object store does not take them.
    async fn stage(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>>;
}

/// Opens dead-letter writers and publishes what they staged. Implemented in `store`.
#[async_trait]
pub trait DeadLetterQueue: Send + Sync {
    /// A writer for one task.
    fn writer(&self, context: DeadLetterContext) -> Box<dyn DeadLetters>;

    /// Makes the staged files of a committed epoch visible under their final names. Idempotent.
    ///
    /// # Errors
    /// When the object store does not answer or a staged object is gone.
    async fn publish(&self, epoch: Epoch, staged: &[StagedRef]) -> Result<()>;

    /// Deletes what incarnations before `current` staged and never committed. Only once every committed epoch that may
    /// name some of it has been published.
    ///
    /// # Errors
    /// When the object store does not answer; the next call tries again.
    async fn sweep(&self, pipeline: &PipelineId, current: Incarnation) -> Result<()>;
}
