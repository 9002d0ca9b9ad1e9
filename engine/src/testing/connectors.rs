//! A source of numbers in splits, and a target that remembers what was published, with faults on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::dead_letter::{Rejected, RowError};
use conveyor_model::manifest::StagedRef;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::source::{
    DiscoverRequest, Discovered, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{Batch, Epoch, Error, Position, Positions, Result, RowRef, SplitState};
use parking_lot::Mutex;

use super::{ids, numbers_at, schema};

static SPEC: ConnectorSpec = ConnectorSpec { name: "memory", doc: "For tests.", fields: &[] };

/// What all test sources deliver: `splits` times `rows` numbers, ids `0..rows` in every split.
#[derive(Debug, Clone)]
pub(crate) struct Numbers {
    pub(crate) splits: u64,
    pub(crate) rows: i64,
    pub(crate) batch: i64,
    /// Ids for which the record cannot be read.
    pub(crate) bad: fn(i64) -> bool,
    /// Event time of an id.
    pub(crate) time_us: fn(i64) -> i64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { splits: 1, rows: 0, batch: 1, bad: |_| false, time_us: |id| id * 1000 }
    }
}

/// Opens number sources and keeps what was acknowledged.
pub(crate) struct NumberConnector {
    pub(crate) numbers: Numbers,
    pub(crate) acknowledged: Arc<Mutex<BTreeMap<u32, Epoch>>>,
}

#[async_trait]
impl SourceConnector for NumberConnector {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, _request: &DiscoverRequest) -> Result<Discovered> {
        Err(Error::runtime("test", "tests make their plans by hand"))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let mine = |s: &u64| s % u64::from(context.parallelism) == u64::from(context.subtask);
        let splits = (0..self.numbers.splits).filter(mine).map(|s| {
            let name = format!("split-{s:02}");
            let at = context.restore.get(&name).and_then(|s| s.position.0.as_i64()).unwrap_or(0);
            (name, at)
        });
        Ok(Box::new(NumberSource {
            splits: splits.collect(),
            // Splits that are restored and not read again are the engine's to carry on.
            opened: Positions::new(),
            numbers: self.numbers.clone(),
            context,
            draining: false,
            acknowledged: self.acknowledged.clone(),
        }))
    }
}

struct NumberSource {
    splits: BTreeMap<String, i64>,
    opened: Positions,
    numbers: Numbers,
    context: SourceContext,
    draining: bool,
    acknowledged: Arc<Mutex<BTreeMap<u32, Epoch>>>,
}

#[async_trait]
impl Source for NumberSource {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn read(&mut self) -> Result<Read> {
        let rows = self.numbers.rows;
        let next = self.splits.iter_mut().find(|(_, at)| **at < rows).filter(|_| !self.draining);
        let Some((name, at)) = next else {
            return Ok(if self.draining || self.context.mode == Mode::Job { Read::End } else { Read::Idle });
        };
        let (from, to) = (*at, (*at + self.numbers.batch).min(rows));
        *at = to;
        let split: Arc<str> = name.as_str().into();
        let state = SplitState { position: Position(to.into()), done: to == rows, event_time_max_us: None };
        self.opened.insert(name.clone(), state);
        let all = numbers_at(&self.context.name, name, from..to, self.numbers.time_us);
        let good: arrow::array::BooleanArray = (from..to).map(|i| Some(!(self.numbers.bad)(i))).collect();
        let rejected = (from..to).filter(|i| (self.numbers.bad)(*i)).map(|i| Rejected {
            row: RowRef {
                source: self.context.name.clone(),
                split: split.clone(),
                position: i as u64,
                sub: 0,
            },
            error: RowError::new("bad-number", "a bad number"),
            bytes: i.to_string().into_bytes(),
        });
        let rejected = rejected.collect();
        let batch = all.filter(&good).map_err(|e| Error::runtime("test", "filter").because(e))?;
        Ok(Read::Rows(SourceRows { batch, split, rejected, pruned: 0, bytes: 8 * (to - from) as u64 }))
    }

    fn positions(&self) -> Positions {
        self.opened.clone()
    }

    async fn committed(&mut self, epoch: Epoch, _positions: &Positions) -> Result<()> {
        self.acknowledged.lock().insert(self.context.subtask, epoch);
        Ok(())
    }

    fn drain(&mut self) {
        self.draining = true;
    }
}

/// What a target holds: staged and published objects, and the ledger.
#[derive(Default)]
pub(crate) struct Target {
    staged: BTreeMap<String, Vec<Row>>,
    published: BTreeMap<String, Vec<Row>>,
    pub(crate) ledger: Option<Epoch>,
    /// Batches written since the start of the run.
    pub(crate) writes: u32,
    /// The write with this number fails for good.
    pub(crate) fail_at: Option<u32>,
    /// The write with this number panics.
    pub(crate) panic_at: Option<u32>,
    /// Calls of `prepare` that are still to fail as if the target were down.
    pub(crate) prepare_down: u32,
    /// Calls of `commit` that are still to fail so.
    pub(crate) commit_down: u32,
    files: u64,
}

/// Split and id of a published row.
pub(crate) type Row = (String, i64);

impl Target {
    /// All published rows, sorted.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut all: Vec<_> = self.published.values().flatten().cloned().collect();
        all.sort();
        all
    }
}

/// Opens sinks on targets, by the sink's name.
#[derive(Default)]
pub(crate) struct TargetConnector(pub(crate) Arc<Mutex<BTreeMap<String, Target>>>);

struct TargetSink {
    context: SinkContext,
    targets: Arc<Mutex<BTreeMap<String, Target>>>,
    open: Vec<Row>,
    bytes: u64,
}

fn down() -> Error {
    Error::new(conveyor_model::Kind::Unavailable, "target-down", "the target is down")
}

#[async_trait]
impl SinkConnector for TargetConnector {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn check(&self, _config: &serde_json::Value, _schema: &SchemaRef, _mode: Mode) -> Result<()> {
        Ok(())
    }

    async fn open(&self, context: SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(TargetSink { context, targets: self.0.clone(), open: Vec::new(), bytes: 0 }))
    }

    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>> {
        Ok(Box::new(TargetSink { context, targets: self.0.clone(), open: Vec::new(), bytes: 0 }))
    }
}

impl TargetSink {
    fn with<T>(&self, what: impl FnOnce(&mut Target) -> T) -> T {
        what(self.targets.lock().entry(self.context.name.to_string()).or_default())
    }
}

#[async_trait]
impl Sink for TargetSink {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        self.with(|target| {
            target.writes += 1;
            assert!(target.panic_at != Some(target.writes), "this test wants a panic");
            match target.fail_at {
                Some(at) if target.writes >= at => Err(Error::runtime("target-broken", "the target broke")),
                _ => Ok(()),
            }
        })?;
        self.bytes += 8 * batch.num_rows() as u64;
        for (row, id) in ids(&batch).into_iter().enumerate() {
            self.open.push((batch.origin().get(row).split.to_string(), id));
        }
        Ok(Vec::new())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        self.with(|t| {
            if t.prepare_down > 0 {
                t.prepare_down -= 1;
                Err(down())
            } else {
                Ok(())
            }
        })?;
        if self.open.is_empty() {
            return Ok(Vec::new());
        }
        let rows = std::mem::take(&mut self.open);
        let n = rows.len() as u64;
        let (incarnation, subtask) = (self.context.incarnation, self.context.subtask);
        let staged = self.with(|target| {
            target.files += 1;
            let name = format!("{incarnation}-{subtask}-{epoch}-{}", target.files);
            target.staged.insert(name.clone(), rows);
            name
        });
        Ok(vec![StagedRef { publish: staged.clone(), staged, rows: n, bytes: 8 * n }])
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[async_trait]
impl Committer for TargetSink {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        Ok(self.with(|t| t.ledger))
    }

    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], _last: bool) -> Result<()> {
        self.with(|target| {
            if target.commit_down > 0 {
                target.commit_down -= 1;
                return Err(down());
            }
            if target.ledger >= Some(epoch) {
                return Ok(());
            }
            for file in staged {
                let rows = target.staged.get(&file.staged).cloned().expect("committed files were staged");
                target.published.insert(file.publish.clone(), rows);
            }
            target.ledger = Some(epoch);
            Ok(())
        })
    }
}
