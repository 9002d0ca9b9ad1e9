//! The contract of sinks: rows are staged, and become visible only after their epoch's commit.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::connector::ConnectorSpec;
use crate::dead_letter::RowError;
use crate::manifest::StagedRef;
use crate::plan::{Delivery, Mode};
use crate::{Batch, Clock, Epoch, Incarnation, PipelineId, Result};

/// Rows that a sink could not take: indices into the batch given to [`Sink::write`], ascending, with the reason.
pub type Refused = Vec<(usize, RowError)>;

/// One subtask of a sink. Driven by one task, never concurrently.
#[async_trait]
pub trait Sink: Send {
    /// Takes rows. Those refused go to the dead letters; all others are in the next [`Sink::prepare`].
    ///
    /// # Errors
    /// When no row can be taken (a full disk, a target that is gone).
    async fn write(&mut self, batch: Batch) -> Result<Refused>;

    /// Closes every object that holds rows, makes it durable, and returns the objects staged since the last call. An
    /// aborted epoch is not undone: the engine keeps the references until an epoch commits. A sink that delivers at
    /// least once flushes and returns nothing.
    ///
    /// # Errors
    /// When the objects cannot be made durable.
    async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>>;

    /// Bytes written outside so far; for progress display.
    fn bytes(&self) -> u64;
}

/// Applies committed epochs to the target, one for each sink of a pipeline.
#[async_trait]
pub trait Committer: Send {
    /// The newest epoch that the target's ledger says is applied.
    ///
    /// # Errors
    /// `Corrupt` if the ledger cannot be read, `Unavailable` if the target does not answer.
    async fn ledger(&mut self) -> Result<Option<Epoch>>;

    /// Where the ledger lies, for people.
    fn place(&self) -> Option<String> {
        None
    }

    /// Makes the staged objects of a committed epoch visible and writes the epoch into the target's ledger, atomically
    /// for the target's readers. Idempotent: an epoch at or below the ledger changes nothing. `last` says that the
    /// pipeline has finished with this epoch.
    ///
    /// # Errors
    /// `Fenced` if the ledger belongs to a newer incarnation; otherwise the engine tries again.
    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], last: bool) -> Result<()>;
}

/// What a subtask needs to open.
#[derive(Clone)]
pub struct SinkContext {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Name of the sink in the manifest.
    pub name: Arc<str>,
    /// The connector's part of the manifest, checked: durations in milliseconds, sizes in bytes.
    pub config: serde_json::Value,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Fencing token.
    pub incarnation: Incarnation,
    /// Job or streaming.
    pub mode: Mode,
    /// Exactly once or at least once.
    pub delivery: Delivery,
    /// This subtask's number; 0 for a committer.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// For a committer: epochs up to this one were committed before the pipeline was reset. What they published stays, and is
    /// no part of what this run makes.
    pub forgotten: Option<Epoch>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A kind of sink (`file`, `blackhole`, …).
#[async_trait]
pub trait SinkConnector: Send + Sync {
    /// Name and settings.
    fn spec(&self) -> &'static ConnectorSpec;

    /// The best delivery that it can give; `plan` says when that is less than was asked for.
    fn delivery(&self) -> Delivery;

    /// Whether it writes to the process's standard output, where nothing else may stand between its rows.
    fn takes_stdout(&self) -> bool {
        false
    }

    /// Checks settings against the schema of the rows, before anything runs and without touching the target.
    ///
    /// # Errors
    /// `BadInput`, for example a column type that the format cannot hold or a `partitionBy` column that does not exist.
    fn check(&self, config: &serde_json::Value, schema: &SchemaRef, mode: Mode) -> Result<()>;

    /// Opens one subtask.
    ///
    /// # Errors
    /// When the target cannot be written.
    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>>;

    /// Opens the committer of a sink.
    ///
    /// # Errors
    /// When the target cannot be reached.
    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>>;
}
