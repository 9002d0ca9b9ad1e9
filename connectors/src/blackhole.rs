//! The `blackhole` sink: takes rows and forgets them, at a bounded rate if asked to.

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Result};
use serde::Deserialize;

use crate::plain::{NoLedger, Pace};

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "blackhole",
    doc: "Takes rows and forgets them.",
    fields: &[FieldSpec {
        name: "bytesPerSecond",
        kind: FieldKind::Size,
        required: false,
        default: None,
        doc: "Limit on what each subtask takes, in bytes of memory.",
    }],
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    bytes_per_second: Option<u64>,
}

/// Forgets rows. Exactly once, trivially: no row is ever seen, let alone twice.
#[derive(Debug, Default)]
pub struct Blackhole;

struct Hole {
    pace: Pace,
    bytes: u64,
}

#[async_trait]
impl Sink for Hole {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        let columns = batch.rows().columns().iter();
        let bytes: usize = columns.map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        self.bytes += bytes as u64;
        self.pace.spend(bytes as u64).await;
        Ok(Refused::new())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<StagedRef>> {
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[async_trait]
impl SinkConnector for Blackhole {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self, config: &serde_json::Value, _schema: &SchemaRef, _mode: Mode) -> Result<()> {
        crate::settings::parse::<Config>("blackhole", config).map(drop)
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        let config: Config = crate::settings::parse("blackhole", &context.config)?;
        Ok(Box::new(Hole { pace: Pace::new(config.bytes_per_second), bytes: 0 }))
    }

    async fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NoLedger::default()))
    }
}
