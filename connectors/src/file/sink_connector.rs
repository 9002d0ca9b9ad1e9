//! The file sink as a connector.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::Result;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::secret::Secrets;
use conveyor_model::sink::{Committer, Sink, SinkConnector, SinkContext};

use super::commit::FileCommitter;
use super::sink::FileSink;
use super::sink_config::{self, SinkPlan};
use crate::secret::EnvSecrets;

/// Points in the file sink at which a test can stop the process, with the cargo feature `failpoints`: before and after
/// every step that outlives it.
pub const FAILPOINTS: [&str; 14] = [
    "file-stage-before-sync",
    "file-stage-after-sync",
    "file-stage-after-folder-sync",
    "file-publish-before-rename",
    "file-publish-after-rename",
    "file-publish-after-folder-sync",
    "file-ledger-before-write",
    "file-ledger-after-write",
    "file-join-before",
    "file-join-before-rename",
    "file-join-after-rename",
    "file-join-after",
    "file-clean-before-delete",
    "file-clean-after-delete",
];

/// Such a point that only comes where a name is given by copying: in object stores.
pub const REMOTE_FAILPOINTS: [&str; 1] = ["file-publish-after-copy"];

static SPEC: LazyLock<ConnectorSpec> = LazyLock::new(|| ConnectorSpec {
    name: "file",
    doc: "Files: CSV, NDJSON, Parquet, Arrow IPC, Avro and plain lines, local or in an object store, exactly once.",
    fields: sink_config::fields().leak(),
});

/// Writes files.
pub struct FileSinkConnector {
    secrets: Arc<dyn Secrets>,
}

impl Default for FileSinkConnector {
    fn default() -> Self {
        Self { secrets: Arc::new(EnvSecrets) }
    }
}

#[async_trait]
impl SinkConnector for FileSinkConnector {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self, config: &serde_json::Value, schema: &SchemaRef, mode: Mode) -> Result<()> {
        SinkPlan::new(config, schema, mode).map(drop)
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        let name = context.name.clone();
        match FileSink::open(context, &*self.secrets) {
            Ok(sink) => Ok(Box::new(sink)),
            Err(e) => Err(e.at(name)),
        }
    }

    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>> {
        let name = context.name.clone();
        match FileCommitter::open(context, &*self.secrets) {
            Ok(committer) => Ok(Box::new(committer)),
            Err(e) => Err(e.at(name)),
        }
    }
}
