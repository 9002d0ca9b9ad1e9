//! The contract of lookups: reference tables that rows are enriched from.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{FieldRef, SchemaRef};
use async_trait::async_trait;

use crate::Result;
use crate::connector::ConnectorSpec;

/// What to load.
#[derive(Debug, Clone)]
pub struct LookupRequest {
    /// Name of the lookup in the manifest.
    pub name: Arc<str>,
    /// The connector's part of the manifest, checked.
    pub config: serde_json::Value,
    /// Columns whose type the manifest declares.
    pub declared: Vec<FieldRef>,
    /// Columns that are used; empty means all. Ignored by `discover`.
    pub projection: Vec<String>,
}

/// A kind of lookup (`file`, later databases).
#[async_trait]
pub trait LookupConnector: Send + Sync {
    /// Name and settings.
    fn spec(&self) -> &'static ConnectorSpec;

    /// Schema of the table.
    ///
    /// # Errors
    /// As for sources.
    async fn discover(&self, request: &LookupRequest) -> Result<SchemaRef>;

    /// Loads the whole table. Called again on every refresh; the old table is used until the new one is whole.
    ///
    /// # Errors
    /// A row that cannot be typed is an error here, with its place: a table with holes would enrich wrongly in silence.
    async fn load(&self, request: &LookupRequest) -> Result<Vec<RecordBatch>>;
}
