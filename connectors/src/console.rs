//! The `console` sink: the first rows as a table that a person can read, and at the end how many there were.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use async_trait::async_trait;
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::{Batch, Epoch, Error, Result};
use serde::Deserialize;

use crate::plain::Output;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: "console",
    doc: "Prints the first rows as a table, and the number of rows at the end.",
    fields: &[FieldSpec {
        name: "limit",
        kind: FieldKind::Integer { min: 0, max: 1_000_000 },
        required: false,
        default: Some("10"),
        doc: "Rows to print; the others are only counted.",
    }],
};

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "ten")]
    limit: usize,
}

fn ten() -> usize {
    10
}

/// Rows of one sink that are not printed yet, gathered from all its subtasks.
#[derive(Debug, Default)]
struct Gathered {
    waiting: Vec<RecordBatch>,
    /// Rows taken for printing, printed or not.
    taken: usize,
    rows: u64,
}

type Shared = Arc<Mutex<Gathered>>;

/// Prints rows.
pub struct Console {
    output: Output,
    sinks: Mutex<HashMap<String, Shared>>,
}

impl Default for Console {
    fn default() -> Self {
        Self::to(Output::new(std::io::stdout()))
    }
}

impl Console {
    pub(crate) fn to(output: Output) -> Self {
        Self { output, sinks: Mutex::default() }
    }

    fn shared(&self, context: &SinkContext) -> Shared {
        let key = format!("{}/{}/{}", context.pipeline, context.name, context.incarnation);
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.entry(key).or_default().clone()
    }
}

struct ConsoleSink {
    output: Output,
    gathered: Shared,
    limit: usize,
    bytes: u64,
}

/// Prints what waits, and returns its length.
fn print(output: &Output, gathered: &Shared) -> Result<u64> {
    let waiting = std::mem::take(&mut gathered.lock().unwrap_or_else(PoisonError::into_inner).waiting);
    if waiting.is_empty() {
        return Ok(0);
    }
    let options = FormatOptions::default().with_null("null").with_display_error(true);
    let table = pretty_format_batches_with_options(&waiting, &options)
        .map_err(|e| Error::runtime("print-failed", "the rows cannot be shown as a table").because(e))?;
    let text = format!("{table}\n");
    output.write(text.as_bytes())?;
    Ok(text.len() as u64)
}

#[async_trait]
impl Sink for ConsoleSink {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        let full = {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.rows += batch.num_rows() as u64;
            let take = batch.num_rows().min(self.limit.saturating_sub(gathered.taken));
            if take > 0 {
                gathered.taken += take;
                gathered.waiting.push(batch.rows().slice(0, take));
            }
            take > 0 && gathered.taken >= self.limit
        };
        if full {
            self.bytes += print(&self.output, &self.gathered)?;
        }
        Ok(Refused::new())
    }

    async fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.bytes += print(&self.output, &self.gathered)?;
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct ConsoleCommitter {
    name: Arc<str>,
    output: Output,
    gathered: Shared,
    newest: Option<Epoch>,
}

#[async_trait]
impl Committer for ConsoleCommitter {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        Ok(self.newest)
    }

    async fn commit(&mut self, epoch: Epoch, _staged: &[StagedRef], last: bool) -> Result<()> {
        if self.newest.is_some_and(|newest| newest >= epoch) {
            return Ok(());
        }
        if last {
            print(&self.output, &self.gathered)?;
            let (rows, taken) = {
                let gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
                (gathered.rows, gathered.taken)
            };
            let more = if (taken as u64) < rows { format!(", {taken} of them shown") } else { String::new() };
            let noun = if rows == 1 { "row" } else { "rows" };
            self.output.write(format!("{}: {rows} {noun}{more}\n", self.name).as_bytes())?;
        }
        self.newest = Some(epoch);
        Ok(())
    }
}

#[async_trait]
impl SinkConnector for Console {
    fn takes_stdout(&self) -> bool {
        true
    }

    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    fn check(&self, config: &serde_json::Value, _schema: &SchemaRef, _mode: Mode) -> Result<()> {
        crate::settings::parse::<Config>("console", config).map(drop)
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        let config: Config = crate::settings::parse("console", &context.config)?;
        let gathered = self.shared(&context);
        Ok(Box::new(ConsoleSink { output: self.output.clone(), gathered, limit: config.limit, bytes: 0 }))
    }

    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>> {
        let gathered = self.shared(&context);
        let (name, output) = (context.name, self.output.clone());
        Ok(Box::new(ConsoleCommitter { name, output, gathered, newest: None }))
    }
}
