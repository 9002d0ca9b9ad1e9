//! What is agreed: commands to the replicated log, its answers, and the state per pipeline that it keeps.
//!
//! Entries hold references and hashes, never data. The state machine (`raft::ClusterState`) is pure.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::manifest::ManifestRef;
use crate::{Epoch, Incarnation, PipelineId, Result, Watermark};

/// Where a pipeline stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Planned, not started.
    #[default]
    Pending,
    /// Tasks run.
    Running,
    /// Paused by a person or by the dead-letter ratio.
    Paused,
    /// Sources have stopped; what is in flight is finished.
    Draining,
    /// Runs, but epochs keep failing.
    Degraded,
    /// Stopped by an error.
    Failed,
    /// A job that has committed its last epoch.
    Finished,
}

/// A command to the log. Pure data: no clock is read when it is applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Registers a plan (an object in the store) as the pipeline's newest version. The same hash again changes nothing.
    PutPlan {
        /// The pipeline.
        pipeline: PipelineId,
        /// Object key and SHA-256 of the plan.
        plan: ManifestRef,
        /// The version that the caller saw, 0 for none: compare-and-set.
        expect_version: u64,
        /// Forgets the committed epoch together with the version before, as [`Command::Reset`] does.
        reset: bool,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Starts the pipeline anew: fences all older tasks and clears a pending epoch.
    NewIncarnation {
        /// The pipeline.
        pipeline: PipelineId,
        /// The incarnation that the caller saw.
        expect: Incarnation,
        /// Which task runs where; opaque here.
        assignment: String,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Asks for a new epoch.
    BeginEpoch {
        /// The pipeline.
        pipeline: PipelineId,
        /// Caller's incarnation.
        incarnation: Incarnation,
    },
    /// The commit point.
    CommitEpoch {
        /// The pipeline.
        pipeline: PipelineId,
        /// Plan version that ran.
        version: u64,
        /// Caller's incarnation.
        incarnation: Incarnation,
        /// The pending epoch.
        epoch: Epoch,
        /// The committed epoch that the manifest names as its parent.
        parent: Option<Epoch>,
        /// The manifest.
        manifest: ManifestRef,
        /// The pipeline's watermark in it.
        watermark: Option<Watermark>,
        /// The pipeline has finished with this epoch.
        last: bool,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Gives up the pending epoch.
    AbortEpoch {
        /// The pipeline.
        pipeline: PipelineId,
        /// Caller's incarnation.
        incarnation: Incarnation,
        /// The pending epoch.
        epoch: Epoch,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Changes the phase.
    SetPhase {
        /// The pipeline.
        pipeline: PipelineId,
        /// Caller's incarnation.
        incarnation: Incarnation,
        /// The new phase.
        phase: Phase,
        /// Why, one sentence.
        reason: String,
        /// The plan version that the caller saw, where that matters.
        expect_version: Option<u64>,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Forgets the committed epoch (a reset on a person's word). Epoch numbers go on.
    Reset {
        /// The pipeline.
        pipeline: PipelineId,
        /// The incarnation that the caller saw.
        expect: Incarnation,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
    /// Forgets the pipeline's plan; epoch and incarnation counters stay, so that none is ever reused.
    DeletePipeline {
        /// The pipeline.
        pipeline: PipelineId,
        /// The version that the caller saw.
        expect_version: u64,
    },
    /// Takes a pipeline over from a backup, into a log that has never known it. Its epochs and incarnations go on
    /// [`RESTORED_AHEAD`] numbers later: none that the lost cluster gave after the backup is given again.
    RestorePipeline {
        /// The pipeline.
        pipeline: PipelineId,
        /// What the backup knows of it.
        state: Box<PipelineState>,
        /// Names the backup: the same one again changes nothing.
        backup: String,
        /// Wall time of the proposal, microseconds since 1970; for people, never for a decision.
        at_us: i64,
    },
}

impl Command {
    /// The pipeline that it is about.
    pub fn pipeline(&self) -> &PipelineId {
        match self {
            Command::PutPlan { pipeline, .. }
            | Command::NewIncarnation { pipeline, .. }
            | Command::BeginEpoch { pipeline, .. }
            | Command::CommitEpoch { pipeline, .. }
            | Command::AbortEpoch { pipeline, .. }
            | Command::SetPhase { pipeline, .. }
            | Command::Reset { pipeline, .. }
            | Command::DeletePipeline { pipeline, .. }
            | Command::RestorePipeline { pipeline, .. } => pipeline,
        }
    }
}

/// The answer to a command. A replayed command gives the same answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Plan stored under this version.
    PlanVersion(u64),
    /// The new incarnation.
    Incarnation(Incarnation),
    /// The new epoch, now pending.
    Begun(Epoch),
    /// Done.
    Done,
    /// Refused; nothing changed.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such pipeline.
    #[error("the log knows no such pipeline")]
    UnknownPipeline,
    /// Another incarnation is current.
    #[error("incarnation {got} is fenced: {current} is current")]
    Fenced {
        /// The caller's.
        got: Incarnation,
        /// The current one.
        current: Incarnation,
    },
    /// An epoch is pending already.
    #[error("epoch {0} is pending already")]
    EpochPending(Epoch),
    /// The epoch is not the pending one.
    #[error("epoch {got} is not pending (pending: {pending:?})")]
    NotPending {
        /// The caller's.
        got: Epoch,
        /// The pending one.
        pending: Option<Epoch>,
    },
    /// The manifest's parent is not the committed epoch.
    #[error("parent epoch {got:?} is not the committed one ({committed:?})")]
    WrongParent {
        /// The caller's.
        got: Option<Epoch>,
        /// The committed one.
        committed: Option<Epoch>,
    },
    /// The plan has another version.
    #[error("plan version {got} is stale: {current} is current")]
    StalePlan {
        /// The caller's.
        got: u64,
        /// The current one.
        current: u64,
    },
    /// The watermark would go back.
    #[error("the watermark would go back from {committed} to {got}")]
    WatermarkBack {
        /// The caller's.
        got: Watermark,
        /// The committed one.
        committed: Watermark,
    },
}

/// A committed epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The epoch.
    pub epoch: Epoch,
    /// The incarnation that committed it.
    pub incarnation: Incarnation,
    /// Its manifest.
    pub manifest: ManifestRef,
}

/// What the log keeps of one pipeline: a few hundred bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineState {
    /// Newest plan version, 0 for none.
    pub version: u64,
    /// Its plan.
    pub plan: Option<ManifestRef>,
    /// Current incarnation, 0 before the first start.
    pub incarnation: Incarnation,
    /// Which task runs where.
    pub assignment: String,
    /// Phase.
    pub phase: Phase,
    /// Why.
    pub reason: String,
    /// Newest committed epoch.
    pub committed: Option<Committed>,
    /// The epoch between `BeginEpoch` and its commit or abort.
    pub pending: Option<Epoch>,
    /// The number that the next epoch gets; 1 at first.
    pub next_epoch: u64,
    /// Aborts in a row.
    pub fail_streak: u32,
    /// Watermark of the committed epoch.
    pub watermark: Option<Watermark>,
    /// Newest epoch that was committed before a reset. What it published stays: targets' ledgers may be as far as this.
    pub forgotten: Option<Epoch>,
    /// Newest epoch of a finished pipeline that all targets were seen to have.
    pub settled: Option<Epoch>,
    /// What has happened to it, oldest first: the last [`HISTORY`] changes.
    pub history: Vec<Change>,
    /// Its last [`PLANS`] plan versions, oldest first.
    pub plans: Vec<PlanVersion>,
}

/// Changes of a pipeline that are kept.
pub const HISTORY: usize = 32;

/// Plan versions of a pipeline that are kept to go back to.
pub const PLANS: usize = 16;

/// Numbers that a restored pipeline leaves out: more than a cluster gives between a backup and its loss.
pub const RESTORED_AHEAD: u64 = 1_000_000;

/// Longest reason in the history, in bytes.
pub const REASON: usize = 240;

/// Something that has happened to a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it was proposed, microseconds since 1970.
    pub at_us: i64,
    /// What it was.
    pub what: What,
    /// Plan version after it.
    pub version: u64,
    /// Incarnation after it.
    pub incarnation: Incarnation,
    /// Phase after it.
    pub phase: Phase,
    /// Why, cut off at [`REASON`] bytes.
    pub reason: String,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A new plan version.
    Plan,
    /// A new incarnation.
    Start,
    /// Another phase, or another reason for it.
    Phase,
    /// Progress was forgotten.
    Reset,
    /// It came from a backup, which the reason names.
    Restore,
}

/// A version of a pipeline's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanVersion {
    /// The version.
    pub version: u64,
    /// The plan.
    pub plan: ManifestRef,
    /// When it was proposed, microseconds since 1970.
    pub at_us: i64,
}

impl PipelineState {
    /// Whether nothing is left to be published of a finished pipeline.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some() && self.settled == self.committed.as_ref().map(|c| c.epoch)
    }

    /// The newest epoch that any target of the pipeline can have applied.
    pub fn newest_published(&self) -> Option<Epoch> {
        self.committed.as_ref().map(|c| c.epoch).max(self.forgotten)
    }
}

/// The log as its users see it: a single durable voter in `run`, three routers in a cluster.
#[async_trait]
pub trait Log: Send + Sync {
    /// Appends a command, waits until it is durable and applied, and returns the state machine's answer.
    ///
    /// # Errors
    /// When the log cannot be written or has no leader. The command may or may not have been applied then: read before
    /// trying again.
    async fn propose(&self, command: Command) -> Result<Outcome>;

    /// The pipeline's state, as of all commands applied before the call.
    ///
    /// # Errors
    /// When the log cannot be read.
    async fn read(&self, pipeline: &PipelineId) -> Result<Option<PipelineState>>;

    /// All pipelines, in order.
    ///
    /// # Errors
    /// When the log cannot be read.
    async fn list(&self) -> Result<Vec<(PipelineId, PipelineState)>>;
}
