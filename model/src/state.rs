//! Operator state as objects.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Incarnation, PipelineId, Result, TaskId};

/// Reference to an uploaded snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateRef {
    /// Object key.
    pub key: String,
    /// SHA-256 in hex.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// Keeps snapshots of operators. Implemented in `store` over an object store.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Uploads a snapshot under a unique name, create-if-absent.
    ///
    /// # Errors
    /// If the store does not take it.
    async fn put(
        &self,
        pipeline: &PipelineId,
        incarnation: Incarnation,
        task: TaskId,
        step: &str,
        snapshot: Bytes,
    ) -> Result<StateRef>;

    /// Reads a snapshot and checks its hash and length.
    ///
    /// # Errors
    /// `Corrupt` if they differ.
    async fn get(&self, reference: &StateRef) -> Result<Bytes>;
}
