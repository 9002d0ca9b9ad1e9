//! The plan: a DAG of nodes that the engine runs, serializable, without secrets.

use std::collections::{BTreeMap, BTreeSet};

use arrow_schema::{FieldRef, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::predicate::Predicate;
use crate::step::Step;
use crate::{NodeId, PipelineId};

/// Version of the plan's form. A reader refuses what it does not know.
pub const FORMAT: u32 = 1;

/// Whether a pipeline ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Run, drain, exit.
    Job,
    /// Run on.
    #[default]
    Streaming,
}

/// What is promised to the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Sinks write through; rows after the last commit may come twice after a crash.
    AtLeastOnce,
    /// Sinks stage, and publish what is committed.
    #[default]
    ExactlyOnce,
}

/// All that the engine needs to run a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Job or streaming.
    pub mode: Mode,
    /// Delivery asked for.
    pub delivery: Delivery,
    /// Time between epochs.
    pub checkpoint_interval_ms: u64,
    /// Nodes in topological order; `nodes[i].id == NodeId(i)`.
    pub nodes: Vec<Node>,
    /// Edges in a fixed order.
    pub edges: Vec<Edge>,
    /// Tables that lookup steps use, by name.
    pub lookups: BTreeMap<String, LookupPlan>,
    /// Dead letters.
    pub dlq: DlqPlan,
    /// Saved state of earlier versions that this one does not take up, because a person has agreed to lose it.
    #[serde(default, skip_serializing_if = "Forget::is_empty")]
    pub forget: Forget,
    /// Where its tasks may run, and how they are spread.
    #[serde(default, skip_serializing_if = "Wishes::are_none")]
    pub placement: Wishes,
}

/// What a pipeline wishes of the sidecars that run it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wishes {
    /// Only sidecars with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Every node on another sidecar as far as there are enough, instead of neighbours together.
    pub spread: bool,
}

impl Wishes {
    /// Whether anything is wished at all.
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// State that a changed plan leaves behind. Holds for epochs that an earlier version has committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Forget {
    /// Sources that are read from the start.
    pub sources: BTreeSet<String>,
    /// Ids of steps that begin anew.
    pub steps: BTreeSet<String>,
}

impl Forget {
    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.steps.is_empty()
    }

    /// Forgets also what `other` forgets.
    pub fn extend(&mut self, other: Forget) {
        self.sources.extend(other.sources);
        self.steps.extend(other.steps);
    }
}

impl Plan {
    /// The node with this id.
    ///
    /// # Panics
    /// If the plan has no such node: ids come from this plan.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Edges that end at a node.
    pub fn inputs(&self, id: NodeId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.to == id)
    }

    /// Edges that start at a node.
    pub fn outputs(&self, id: NodeId) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.from == id)
    }
}

/// A node: what its tasks read from, the fused steps, and what they write to.
///
/// `input` -> `steps` one after the other in one task -> `output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its place in [`Plan::nodes`].
    pub id: NodeId,
    /// Unique name, stable under edits that do not concern it: the source's, the first step's or the sink's.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Where rows come from.
    pub input: NodeInput,
    /// Steps run in the task, in order.
    pub steps: Vec<Step>,
    /// Where rows go.
    pub output: NodeOutput,
    /// Schema after the last step.
    pub schema: SchemaRef,
}

/// Where a node's rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeInput {
    /// From outside.
    Source(Box<SourcePlan>),
    /// From the edges that end at the node, as they arrive.
    Edges,
}

/// Where a node's rows go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeOutput {
    /// To the edges that start at the node: each edge whose condition holds gets the row.
    Edges,
    /// Outside.
    Sink(Box<SinkPlan>),
}

/// A source of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcePlan {
    /// Name in the manifest.
    pub name: String,
    /// Connector.
    pub connector: String,
    /// Its settings, checked; secrets are references.
    pub config: serde_json::Value,
    /// Full schema as declared and inferred.
    pub full_schema: SchemaRef,
    /// Columns that are read.
    pub projection: Vec<String>,
    /// Predicate handed to the connector.
    pub predicate: Predicate,
    /// Event time.
    pub event_time: Option<EventTime>,
    /// Delay before a read is tried again, and how often, after an `Unavailable` error.
    pub retry: Retry,
}

/// Event time of a source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTime {
    /// A timestamp (or date) column.
    pub column: String,
    /// The watermark of a split trails its largest event time by this much. A row is late if its event time is before
    /// the watermark that its split had just before the row, which makes lateness independent of batches and subtasks.
    pub allowed_lateness_ms: u64,
    /// A split without rows for this long does not hold back the watermark.
    pub idle_timeout_ms: Option<u64>,
    /// What happens to late rows.
    pub late: Late,
}

/// What happens to late rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// They go on as all others.
    #[default]
    Keep,
    /// Dropped on purpose, and counted.
    Drop,
    /// To the dead letters.
    Dlq,
}

/// A sink of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkPlan {
    /// Name in the manifest.
    pub name: String,
    /// Connector.
    pub connector: String,
    /// Its settings, checked; secrets are references.
    pub config: serde_json::Value,
    /// What this sink can promise.
    pub delivery: Delivery,
    /// Retries of writes and commits after an `Unavailable` error.
    pub retry: Retry,
}

/// How often and how soon something is tried again: exponential from `base_ms`, at most `max_ms` apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Tries after the first.
    pub max_retries: u32,
    /// First delay.
    pub base_ms: u64,
    /// Longest delay.
    pub max_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_retries: 3, base_ms: 100, max_ms: 10_000 }
    }
}

/// How rows are spread over the subtasks of the receiving node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Partition {
    /// Subtask i to subtask i; both nodes have the same parallelism.
    Forward,
    /// Batches in turn.
    RoundRobin,
    /// By a hash of these columns: equal keys meet.
    Hash(Vec<String>),
}

/// An edge between two nodes: `from.parallelism x to.parallelism` channels, or one each for `Forward`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Stable name, `from->to`.
    pub name: String,
    /// Sending node.
    pub from: NodeId,
    /// Receiving node.
    pub to: NodeId,
    /// Spreading.
    pub partition: Partition,
    /// Boolean SQL over the sender's schema; only rows for which it is true take this edge.
    pub when: Option<String>,
    /// `(output name, column)` sent; `None` sends all columns.
    pub projection: Option<Vec<(String, String)>>,
    /// Schema of what is sent.
    pub schema: SchemaRef,
    /// Most bytes in flight on one channel.
    pub window_bytes: u64,
}

/// A lookup table of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookupPlan {
    /// Connector.
    pub connector: String,
    /// Its settings, checked.
    pub config: serde_json::Value,
    /// Declared columns.
    pub declared: Vec<FieldRef>,
    /// Columns used.
    pub projection: Vec<String>,
    /// Schema of the whole table.
    pub schema: SchemaRef,
    /// How often the table is loaded anew.
    pub refresh_ms: Option<u64>,
}

/// Dead letters of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DlqPlan {
    /// Whether failing rows are kept; if not, the first one stops the pipeline.
    pub enabled: bool,
    /// Local folder or object-store URL; `None` means under the data directory.
    pub path: Option<String>,
    /// Replays after which a row is left alone.
    pub max_retries: u32,
    /// Share of rows (0 to 1) over a minute above which the pipeline stops.
    pub max_ratio: f64,
    /// Whether columns that no later step or sink needs are read and kept nevertheless, so that dead letters hold them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_rows: bool,
}
