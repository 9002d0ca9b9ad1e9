//! The two ends of a channel, and the way to get one that leads to another process.
//!
//! A local edge implements the ends without serialization, an Arrow Flight edge between processes.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::{Frame, Incarnation, PipelineId, Result};

/// Sending end of one channel.
#[async_trait]
pub trait Outlet: Send {
    /// Sends a frame. Data waits for credit and for nothing else; control frames do not wait.
    ///
    /// # Errors
    /// When the receiver is gone: the task must stop, its incarnation is over.
    async fn send(&mut self, frame: Frame) -> Result<()>;
}

/// Receiving end of one channel. Taking a data frame refunds its credit.
#[async_trait]
pub trait Inlet: Send {
    /// The next frame, or `None` when the sender is gone without [`Frame::End`]. Cancel-safe.
    async fn next(&mut self) -> Option<Frame>;
}

/// A channel of one incarnation of a pipeline: from a subtask of an edge's sender to one of its receiver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// Fencing token: frames of another incarnation are refused.
    pub incarnation: Incarnation,
    /// Index of the edge in [`Plan::edges`](crate::plan::Plan::edges).
    pub edge: u32,
    /// Sending subtask.
    pub from: u32,
    /// Receiving subtask.
    pub to: u32,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, incarnation, edge, from, to } = self;
        write!(f, "{pipeline} incarnation {incarnation} edge {edge} {from}->{to}")
    }
}

/// What both ends of a channel are made from.
#[derive(Clone)]
pub struct ChannelSpec {
    /// Which channel.
    pub id: ChannelId,
    /// Schema of the rows.
    pub schema: SchemaRef,
    /// Most bytes in flight.
    pub window_bytes: u64,
    /// What is counted.
    pub meter: Arc<dyn Meter>,
}

/// Takes note of a channel's credit, for people who ask which edge is slow.
pub trait Meter: Send + Sync {
    /// Bytes of credit left, and bytes sent that are not refunded yet.
    fn credits(&self, available: u64, in_flight: u64);
    /// The sender waits for credit since then, in microseconds of the monotonic clock.
    fn starving(&self, since_us: u64);
    /// The sender has waited so long, in microseconds, and goes on.
    fn starved(&self, for_us: u64);
}

/// Those who watch an edge, for a task that sends on it.
pub trait Watchers: Send + Sync {
    /// Whether there are any: cheap enough to ask for every batch.
    fn are_there(&self) -> bool;

    /// Shows rows that leave the task on the edge. Never waits: a watcher without room misses them.
    fn show(&self, rows: &RecordBatch);
}

/// Channels to and from other processes.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// The sending end of a channel whose receiver runs in the process that listens at `peer` (`host:port`). The peer need not
    /// be ready yet: frames wait.
    ///
    /// # Errors
    /// `BadInput` if `peer` is no address.
    async fn outlet(&self, channel: ChannelSpec, peer: &str) -> Result<Box<dyn Outlet>>;

    /// The receiving end of a channel whose sender runs in another process.
    ///
    /// # Errors
    /// `Fenced` if this process has the same channel already, or one of a newer incarnation.
    async fn inlet(&self, channel: ChannelSpec) -> Result<Box<dyn Inlet>>;

    /// Those who watch the edge `edge` of a pipeline, whose rows have `schema`; none where edges cannot be watched. The edge
    /// can be watched for as long as the task keeps this.
    fn watchers(
        &self,
        _pipeline: &PipelineId,
        _edge: &str,
        _schema: &SchemaRef,
    ) -> Option<Arc<dyn Watchers>> {
        None
    }
}
