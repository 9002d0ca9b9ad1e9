//! What any Arrow Flight client may do: list the edges of running pipelines, watch one, feed a `flight` source.
//!
//! Who may do it is decided before a call gets here.

mod feed;
mod flights;
mod rows;
mod taps;
mod view;

use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use conveyor_model::{Epoch, Error, Kind, PipelineId, Result};
use futures::future::BoxFuture;
use tonic::Status;

pub(crate) use feed::feed;
pub use flights::{Directory, Flight};
pub(crate) use flights::{describe, list};
pub use taps::{EdgeTap, Taps};
pub(crate) use view::view;
pub use view::{Filter, Filters};

/// When the rows of a batch are committed: the epoch that they are part of; none for a batch that was put before, and was
/// committed by then.
pub type Committed = BoxFuture<'static, Result<Option<Epoch>>>;

/// A batch for a `flight` source.
#[derive(Debug, Clone)]
pub struct Put {
    /// Name of the source in the manifest.
    pub source: String,
    /// Who puts it: a client that numbers its batches, so that one that is put again is not taken twice.
    pub producer: Option<String>,
    /// Its number among the producer's batches, from 1; there where the producer is.
    pub sequence: Option<u64>,
    /// The rows.
    pub rows: RecordBatch,
}

/// Takes rows for `flight` sources.
#[async_trait]
pub trait Ingest: Send + Sync {
    /// Takes a batch. It waits while the source has no room, and returns when it has taken the rows; what it returns
    /// resolves once they are committed.
    ///
    /// # Errors
    /// `BadInput` if there is no such source here, or the rows do not have its columns.
    async fn put(&self, pipeline: &PipelineId, put: Put) -> Result<Committed>;
}

/// What the service offers to clients that are no processes of the cluster.
#[derive(Clone)]
pub struct Public {
    /// Edges that can be watched.
    pub taps: Arc<Taps>,
    /// Compiles the predicates of viewers.
    pub filters: Arc<dyn Filters>,
    /// Takes rows.
    pub ingest: Arc<dyn Ingest>,
    /// Knows what there is elsewhere.
    pub directory: Arc<dyn Directory>,
}

/// An error as the client of a call gets it.
pub(crate) fn status(error: &Error) -> Status {
    let text = error.to_string();
    match error.kind() {
        Kind::BadInput => Status::invalid_argument(text),
        Kind::Unavailable => Status::unavailable(text),
        Kind::Fenced => Status::failed_precondition(text),
        Kind::Corrupt => Status::data_loss(text),
        Kind::Exhausted => Status::resource_exhausted(text),
        Kind::Runtime => Status::internal(text),
    }
}

/// `namespace/name`, or a name in the namespace `default`.
pub(crate) fn pipeline_of(text: &str) -> PipelineId {
    match text.split_once('/') {
        Some((namespace, name)) => PipelineId::new(namespace, name),
        None => PipelineId::new("default", text),
    }
}
