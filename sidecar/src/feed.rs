//! Rows of clients for the `flight` sources that run here.

use std::sync::Arc;

use async_trait::async_trait;
use conveyor_connectors::flight::{Intake, Offered};
use conveyor_flight::{Committed, Ingest, Put};
use conveyor_model::{PipelineId, Result};

/// Hands what clients put to the sources' tasks.
pub(crate) struct Feeds(pub(crate) Arc<Intake>);

#[async_trait]
impl Ingest for Feeds {
    async fn put(&self, pipeline: &PipelineId, put: Put) -> Result<Committed> {
        let Put { source, producer, sequence, rows } = put;
        let accepted = self.0.put(pipeline, Offered { source, producer, sequence, rows }).await?;
        Ok(accepted.committed)
    }
}
