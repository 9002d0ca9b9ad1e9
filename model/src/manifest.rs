//! What one epoch commits: positions, operator state, staged objects, dead letters, counters, watermark.
//!
//! A manifest is an object in the object store; the log holds its reference and hash only.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::state::StateRef;
use crate::{Epoch, Incarnation, PipelineId, Positions, Result, RowCounters, TaskId, Watermark};

/// Version of the manifest's form. A reader refuses what it does not know.
pub const FORMAT: u32 = 1;

/// An object that holds rows of an epoch and is not yet visible to readers of the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedRef {
    /// Where the object lies now, in words of the sink.
    pub staged: String,
    /// Where readers will find it, in words of the sink.
    pub publish: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes in it.
    pub bytes: u64,
}

/// What one task reports for an epoch: cumulative since the last committed epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAck {
    /// The task.
    pub task: TaskId,
    /// Positions at the barrier; sources only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub positions: Positions,
    /// Uploaded state by step id; stateful steps only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, StateRef>,
    /// Output staged since the last committed epoch; sinks only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<StagedRef>,
    /// Dead letters staged since the last committed epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<StagedRef>,
    /// Rows since the last committed epoch.
    pub counters: RowCounters,
    /// The task's watermark at the barrier.
    pub watermark: Option<Watermark>,
    /// The task's input has ended and all of it is in this epoch.
    #[serde(default)]
    pub finished: bool,
}

/// Reference to a manifest: object key and SHA-256 of its bytes in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestRef {
    /// Object key.
    pub key: String,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// All that a restart needs to go on from an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Plan version that ran.
    pub plan_version: u64,
    /// Incarnation that wrote it.
    pub incarnation: Incarnation,
    /// The epoch.
    pub epoch: Epoch,
    /// The committed epoch before it.
    pub parent: Option<(Epoch, ManifestRef)>,
    /// One entry a task; `node_names` of the plan make them findable after an edit.
    pub tasks: Vec<NamedAck>,
    /// Minimum over all sinks' watermarks; never goes back from manifest to manifest.
    pub watermark: Option<Watermark>,
    /// Every source has ended and all its rows are committed with this epoch.
    pub finished: bool,
    /// Rows since the pipeline's first epoch, by node name.
    pub totals: BTreeMap<String, RowCounters>,
    /// Wall time of writing, microseconds since 1970.
    pub written_us: i64,
}

/// An ack together with its node's name, which outlives a change of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedAck {
    /// Name of the node in the plan.
    pub node: String,
    /// What it reported.
    #[serde(flatten)]
    pub ack: TaskAck,
}

/// Keeps manifests. Implemented in `store` over an object store.
#[async_trait]
pub trait Manifests: Send + Sync {
    /// Writes a manifest, create-if-absent, and returns its reference.
    ///
    /// # Errors
    /// `Fenced` if another manifest of this name with other content exists; `Unavailable` if the store does not answer.
    async fn write(&self, manifest: &Manifest) -> Result<ManifestRef>;

    /// Reads a manifest and checks its hash.
    ///
    /// # Errors
    /// `Corrupt` if the hash differs: there is no silent fall-back to the parent.
    async fn read(&self, pipeline: &PipelineId, reference: &ManifestRef) -> Result<Manifest>;

    /// Deletes what no retained manifest names: keeps the last `keep` manifests and all that they refer to.
    ///
    /// # Errors
    /// If the store does not answer; nothing is lost, the next call tries again.
    async fn clean_up(&self, pipeline: &PipelineId, committed: &ManifestRef, keep: usize) -> Result<()>;
}
