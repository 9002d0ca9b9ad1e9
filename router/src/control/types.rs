//! What the façade takes and gives, in the form that REST and gRPC send.

use std::collections::BTreeMap;

use conveyor_model::RowCounters;
use conveyor_model::log::{Phase, What};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rest;

/// A pipeline in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSummary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Plan version.
    pub version: u64,
    /// Where it stands.
    #[schema(value_type = rest::views::Phase)]
    pub phase: Phase,
    /// Why, where there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often it was started.
    pub incarnation: u64,
    /// Newest committed epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Event time up to which everything is committed, microseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Sidecars that run it now.
    pub sidecars: Vec<String>,
}

/// All that is known of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// As in lists.
    #[serde(flatten)]
    pub summary: PipelineSummary,
    /// SHA-256 of the plan in hex.
    pub plan_sha256: String,
    /// The epoch between its begin and its commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_epoch: Option<u64>,
    /// Epochs given up in a row.
    pub epochs_failed: u32,
    /// Which task runs where.
    pub tasks: Vec<PlacedTask>,
    /// What the leader sees of it.
    #[serde(flatten)]
    pub live: Live,
}

/// What the leader sees of a pipeline that runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Live {
    /// Failures in a row since its last commit.
    pub failures: u32,
    /// The last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Epochs since this leader drives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<EpochStatus>,
    /// Counters by node since this incarnation's start.
    pub nodes: Vec<NodeStatus>,
    /// Counters by edge since this incarnation's start.
    pub edges: Vec<EdgeStatus>,
}

/// Where a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacedTask {
    /// Number of the node in the plan.
    pub node: u32,
    /// Subtask.
    pub subtask: u32,
    /// Sidecar.
    pub sidecar: String,
}

/// Epochs of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EpochStatus {
    /// Committed under this leader.
    pub commits: u64,
    /// Given up under this leader.
    pub failures: u64,
    /// Seconds since the last commit.
    pub age_seconds: f64,
    /// Seconds from begin to commit of the last one.
    pub last_duration_seconds: f64,
}

/// Counters of a node, of all its subtasks together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Name in the plan.
    pub name: String,
    /// Rows and bytes.
    #[schema(value_type = rest::views::RowCounters)]
    pub counters: RowCounters,
    /// Least watermark of its subtasks, microseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark_us: Option<i64>,
    /// Dead letters by code.
    pub rejected: BTreeMap<String, u64>,
    /// A source that has found nothing more to read.
    pub idle: bool,
}

/// Counters of an edge, of all its channels together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeStatus {
    /// Name in the plan.
    pub name: String,
    /// Rows sent.
    pub rows: u64,
    /// Bytes of credit spent.
    pub bytes: u64,
    /// Batches sent.
    pub batches: u64,
    /// Credit left, in bytes.
    pub credits_available: u64,
    /// Credit granted and not yet given back, in bytes.
    pub window_bytes: u64,
    /// Seconds that senders waited for credit: the edge with most is the slow one.
    pub starved_seconds: f64,
}

/// A sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarStatus {
    /// Its id.
    pub id: String,
    /// Which start of the process.
    pub boot: String,
    /// `host:port` of its Arrow Flight service.
    pub endpoint: String,
    /// Version of conveyor that it runs.
    pub version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Source connectors.
    pub sources: Vec<String>,
    /// Sink connectors.
    pub sinks: Vec<String>,
    /// Lookup connectors.
    pub lookups: Vec<String>,
    /// Processors.
    pub cores: u32,
    /// Memory that its tasks may take, in bytes.
    pub memory_bytes: u64,
    /// Resident memory of its process, in bytes.
    pub resident_bytes: u64,
    /// It has a stream to the leader now.
    pub attached: bool,
    /// It takes nothing new and wants to go.
    pub draining: bool,
    /// Milliseconds until its lease ends.
    pub lease_ms: u64,
    /// Tasks that it was given.
    pub tasks: u32,
    /// Pipelines that it runs, as `namespace/name`.
    pub pipelines: Vec<String>,
    /// Services found on the ports beside it.
    pub services: Vec<ServiceStatus>,
}

/// A service beside a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// `host:port`.
    pub address: String,
    /// `arrow-flight`, `grpc` or `tcp`.
    pub protocol: String,
    /// Names of gRPC services, or of flights.
    pub names: Vec<String>,
}

/// The routers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub cluster: String,
    /// The router that says so.
    pub node: u64,
    /// Its term.
    pub term: u64,
    /// The leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<u64>,
    /// Last entry of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_entry: Option<u64>,
    /// Last entry that it has applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_entry: Option<u64>,
    /// Last entry in its snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_entry: Option<u64>,
    /// All routers.
    pub routers: Vec<RouterStatus>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouterStatus {
    /// Its id.
    pub id: u64,
    /// `host:port` of its gRPC service.
    pub address: String,
    /// `voter` or `learner`.
    pub role: String,
    /// Last entry that it is known to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_entry: Option<u64>,
}

/// Something that has happened to a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When, microseconds since 1970.
    pub at_us: i64,
    /// What.
    #[schema(value_type = rest::views::What)]
    pub what: What,
    /// Plan version after it.
    pub version: u64,
    /// Incarnation after it.
    pub incarnation: u64,
    /// Phase after it.
    #[schema(value_type = rest::views::Phase)]
    pub phase: Phase,
    /// Why.
    pub reason: String,
}

/// A version of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionEntry {
    /// The version.
    pub version: u64,
    /// SHA-256 of the plan in hex.
    pub plan_sha256: String,
    /// When, microseconds since 1970.
    pub at_us: i64,
}

/// What the log remembers of a pipeline, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// Changes.
    pub changes: Vec<HistoryEntry>,
    /// Versions to which it can be rolled back.
    pub versions: Vec<VersionEntry>,
}
