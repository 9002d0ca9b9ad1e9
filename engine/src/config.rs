//! What a run is made of: parts that are handed in, settings, and how it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use conveyor_model::batch::BATCH_ROWS;
use conveyor_model::connector::Registry;
use conveyor_model::dead_letter::DeadLetterQueue;
use conveyor_model::edge::Exchange;
use conveyor_model::manifest::{Manifest, Manifests};
use conveyor_model::secret::Secrets;
use conveyor_model::state::StateStore;
use conveyor_model::{Clock, RowCounters};
use tokio_util::sync::CancellationToken;

/// The parts of the world that a member touches.
#[derive(Clone)]
pub struct Components {
    /// Connectors by name.
    pub registry: Registry,
    /// Where epochs' manifests lie.
    pub manifests: Arc<dyn Manifests>,
    /// Where operators' state lies.
    pub state: Arc<dyn StateStore>,
    /// Where dead letters go.
    pub dlq: Arc<dyn DeadLetterQueue>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Secrets.
    pub secrets: Arc<dyn Secrets>,
    /// An epoch of another pipeline: while this one has no epoch of its own, its `dedupe` steps know the keys that those
    /// of the same id knew there. A replay of dead letters starts so.
    pub seed: Option<Arc<Manifest>>,
    /// Edges to other processes; none where all tasks run in this one.
    pub exchange: Option<Arc<dyn Exchange>>,
}

/// Settings of a run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads for data tasks.
    pub worker_threads: usize,
    /// An epoch that takes longer is given up; its rows go into the next one.
    pub epoch_timeout: Option<Duration>,
    /// Committed manifests that are kept.
    pub keep_manifests: usize,
    /// Rows to aim at in one batch.
    pub batch_rows: usize,
    /// Batches of less than half as many rows are joined before they are sent on or written.
    pub coalesce_rows: usize,
    /// Bytes read since the last commit above which sources wait for the next one.
    pub max_uncommitted_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            worker_threads: std::thread::available_parallelism().map_or(1, usize::from),
            epoch_timeout: None,
            keep_manifests: 3,
            batch_rows: BATCH_ROWS,
            coalesce_rows: BATCH_ROWS,
            max_uncommitted_bytes: 4 << 30,
        }
    }
}

/// How a run is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Sources stop, one last epoch commits, the run ends.
    pub drain: CancellationToken,
    /// The run ends at once; what is not committed is read again next time.
    pub stop: CancellationToken,
}

/// What a run has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Every source has ended and all its rows are committed.
    pub finished: bool,
    /// The run was drained before its sources had ended.
    pub drained: bool,
    /// Epochs committed by this run.
    pub epochs: u64,
    /// Nodes in plan order.
    pub nodes: Vec<NodeSummary>,
    /// Dead letters committed by this run, by code.
    pub dead_letters_by_code: BTreeMap<String, u64>,
    /// Time from start to end.
    pub elapsed: Duration,
}

/// What one node has done.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSummary {
    /// Name in the plan.
    pub name: String,
    /// `source`, `stage` or `sink`.
    pub kind: &'static str,
    /// Committed by this run.
    pub counters: RowCounters,
    /// Committed since the pipeline's first epoch.
    pub totals: RowCounters,
}
