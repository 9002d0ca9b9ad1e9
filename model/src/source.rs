//! The contract of sources: a conformance suite for it lives in `connectors`.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::connector::ConnectorSpec;
use crate::dead_letter::Rejected;
use crate::plan::Mode;
use crate::predicate::Predicate;
use crate::{Batch, Clock, Epoch, PipelineId, Positions, Result};

/// What a source delivered in one read.
#[derive(Debug)]
pub enum Read {
    /// Rows, and records that could not become rows.
    Rows(SourceRows),
    /// Nothing now. The source has waited a moment (at most about 100 ms) before saying so.
    Idle,
    /// Nothing ever again: all splits of this subtask are read. Only in job mode.
    End,
}

/// Rows of one read. All come from one split.
#[derive(Debug)]
pub struct SourceRows {
    /// The rows, with the schema of [`Source::schema`]; may be empty when all records were rejected or pruned.
    pub batch: Batch,
    /// The split id, as in [`Source::positions`].
    pub split: Arc<str>,
    /// Records that could not become rows: they go to the dead letters.
    pub rejected: Vec<Rejected>,
    /// Rows that a pushed predicate left out.
    pub pruned: u64,
    /// Bytes consumed from outside for this read.
    pub bytes: u64,
}

/// One subtask of a source. Driven by one task, never concurrently.
#[async_trait]
pub trait Source: Send {
    /// Schema of the rows: the projected columns, in the order asked for.
    fn schema(&self) -> SchemaRef;

    /// The next rows. Never cancelled by the engine; must return within about 100 ms when there is nothing, so that a
    /// barrier does not wait for input.
    ///
    /// # Errors
    /// What a retry does not mend (a file changed while read, a truncated columnar file). Bad records are not errors.
    async fn read(&mut self) -> Result<Read>;

    /// Where the next read starts, for every split that this subtask has opened or finished.
    fn positions(&self) -> Positions;

    /// Epoch `epoch` with these positions is committed: acknowledge upstream. Level-triggered, may repeat.
    ///
    /// # Errors
    /// If upstream refuses; the engine reports it and goes on, because the commit itself stands.
    async fn committed(&mut self, _epoch: Epoch, _positions: &Positions) -> Result<()> {
        Ok(())
    }

    /// Bytes that this subtask is to read in all and has read so far, where known; for progress display.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    /// Asks an unbounded source to stop taking in new data: later reads return [`Read::End`] as soon as what was begun
    /// is delivered. Positions stay valid.
    fn drain(&mut self);
}

/// How a source treats a pushed predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushdown {
    /// Ignores it.
    No,
    /// Skips what cannot match (row groups, pages); the filter stays in the plan.
    Prune,
    /// Delivers exactly the rows for which it is true; the filter leaves the plan.
    Exact,
}

/// What can be known of a source before it runs.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// Full schema: declared columns with their types, the others inferred.
    pub schema: SchemaRef,
    /// Whether only the wanted columns are parsed or decoded.
    pub projection: bool,
    /// What happens to a pushed predicate.
    pub predicate: Pushdown,
    /// Notes for `plan`: how the schema was inferred, how many files match.
    pub notes: Vec<String>,
}

/// What to look at when a schema is asked for.
#[derive(Debug, Clone)]
pub struct DiscoverRequest {
    /// Name of the source in the manifest.
    pub name: Arc<str>,
    /// The connector's part of the manifest, checked against its [`ConnectorSpec`]: durations in milliseconds, sizes in bytes.
    pub config: serde_json::Value,
    /// Columns whose type the manifest declares, by name. They win over inference.
    pub declared: Vec<arrow_schema::FieldRef>,
    /// Job or streaming.
    pub mode: Mode,
}

/// What a subtask needs to open.
#[derive(Clone)]
pub struct SourceContext {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Name of the source in the manifest.
    pub name: Arc<str>,
    /// The connector's part of the manifest, as in [`DiscoverRequest`].
    pub config: serde_json::Value,
    /// Full schema as discovered when the plan was made.
    pub full_schema: SchemaRef,
    /// Columns to deliver, by name, in this order.
    pub projection: Vec<String>,
    /// Predicate, where [`Discovered::predicate`] is not `No`. Its columns are columns of `full_schema`, which need not
    /// be in `projection`.
    pub predicate: Predicate,
    /// Job or streaming.
    pub mode: Mode,
    /// Rows of one split must be delivered in their order, and one file is one split: the source has an event time.
    pub ordered: bool,
    /// This subtask's number.
    pub subtask: u32,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Rows to aim at in one batch.
    pub batch_rows: usize,
    /// Committed progress of all splits of the source, of whatever subtask.
    pub restore: Positions,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A kind of source (`file`, `generator`, …): describes its settings, infers schemas, opens subtasks.
#[async_trait]
pub trait SourceConnector: Send + Sync {
    /// Name and settings.
    fn spec(&self) -> &'static ConnectorSpec;

    /// Whether it reads the process's standard input, which can be read once.
    fn takes_stdin(&self) -> bool {
        false
    }

    /// Looks at the outside world and says what rows will come.
    ///
    /// # Errors
    /// `BadInput` if nothing matches or the data has another form than the settings say; `Unavailable` otherwise.
    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered>;

    /// Opens one subtask.
    ///
    /// # Errors
    /// As for `discover`; also when a restored position no longer exists.
    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>>;
}
