//! The `stdout` sink: whole lines, as they come, at least once.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Result};

use super::Config;
use crate::format::{Encoder, TextFormat};
use crate::plain::{NoLedger, Output};

/// Bytes gathered before they are written within an epoch.
const FLUSH: usize = 256 << 10;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "stdout",
    doc: "Standard output, in lines. At least once: a reader of a pipe cannot be told to forget.",
    fields: &[
        super::FORMAT,
        super::HEADER,
        super::DELIMITER,
        FieldSpec {
            name: "nullValue",
            kind: FieldKind::Text,
            required: false,
            default: Some("\"\""),
            doc: "What stands for null in CSV.",
        },
    ],
};

/// Writes to standard output.
pub struct Stdout {
    output: Output,
    /// Sinks whose CSV header is written.
    headed: Arc<Mutex<HashSet<String>>>,
}

impl Default for Stdout {
    fn default() -> Self {
        Self::to(Output::new(std::io::stdout()))
    }
}

impl Stdout {
    pub(crate) fn to(output: Output) -> Self {
        Self { output, headed: Arc::default() }
    }
}

fn encoder(format: &TextFormat, schema: &SchemaRef, header: bool) -> Result<Box<dyn Encoder>> {
    match format {
        TextFormat::Csv(csv) => {
            let mut csv = csv.clone();
            csv.header &= header;
            TextFormat::Csv(csv).encoder(schema)
        }
        other => other.encoder(schema),
    }
}

struct StdoutSink {
    output: Output,
    encoder: Box<dyn Encoder>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl StdoutSink {
    fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.output.write(&self.buffer)?;
            self.bytes += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for StdoutSink {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        let refused = self.encoder.encode(batch.rows(), &mut self.buffer)?;
        if self.buffer.len() >= FLUSH {
            self.flush()?;
        }
        Ok(refused)
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.flush()?;
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[async_trait]
impl SinkConnector for Stdout {
    fn takes_stdout(&self) -> bool {
        true
    }

    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn check(&self, config: &serde_json::Value, schema: &SchemaRef, _mode: Mode) -> Result<()> {
        let config: Config = crate::settings::parse("stdout", config)?;
        config.format()?.encoder(schema).map(drop)
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        let config: Config = crate::settings::parse("stdout", &context.config)?;
        let format = config.format()?;
        let key = format!("{}/{}/{}", context.pipeline, context.name, context.incarnation);
        {
            // Written when the first subtask opens, under the lock: no row of another can come before it.
            let mut headed = self.headed.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(format, TextFormat::Csv(_)) && headed.insert(key) {
                let mut head = Vec::new();
                let mut first = encoder(&format, &context.schema, true)?;
                first.encode(&RecordBatch::new_empty(context.schema.clone()), &mut head)?;
                first.finish(&mut head)?;
                self.output.write(&head)?;
            }
        }
        let encoder = encoder(&format, &context.schema, false)?;
        Ok(Box::new(StdoutSink { output: self.output.clone(), encoder, buffer: Vec::new(), bytes: 0 }))
    }

    async fn committer(&self, _context: SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(NoLedger::default()))
    }
}
