//! A replayable source: rows in splits, read from any position, some of them broken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::dead_letter::{Rejected, RowError};
use conveyor_model::origin::{Origin, RowIds};
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{Batch, Error, Position, Positions, Result, RowRef, SplitState, simulation};

/// Name of the connector.
pub(crate) const NAME: &str = "rows";

static SPEC: ConnectorSpec = ConnectorSpec { name: NAME, doc: "Rows of a simulation.", fields: &[] };

/// What the source has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) splits: i64,
    pub(crate) rows: i64,
    pub(crate) batch: i64,
    /// Longest time for a batch.
    pub(crate) pace: Duration,
}

/// What becomes of a row in a faultless world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Into the output.
    Written,
    /// To the dead letters, of the source.
    Broken,
    /// To the dead letters, of the rule.
    Invalid,
    /// Filtered: its key was there before.
    Repeated,
}

/// The fate of a row.
pub(crate) fn fate(id: i64) -> Fate {
    match id {
        _ if id % 29 == 3 => Fate::Broken,
        _ if id % 31 == 8 => Fate::Invalid,
        _ if repeats(id) => Fate::Repeated,
        _ => Fate::Written,
    }
}

/// A row that repeats the key of one some batches before it, if that one was not broken.
fn repeats(id: i64) -> bool {
    id % 7 == 5 && id >= 40 && !matches!(id - 40, before if before % 29 == 3 || before % 31 == 8)
}

/// The key of a row: unique, unless it repeats an earlier one.
pub(crate) fn key(split: i64, id: i64) -> i64 {
    let of = if repeats(id) && !repeats(id - 40) { id - 40 } else { id };
    split * 1_000_000 + of
}

/// Columns of the rows.
pub(crate) fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("split", DataType::Int64, false),
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Int64, false),
        Field::new("t", time, false),
    ]))
}

/// Opens the source.
pub(crate) struct Rows(pub(crate) Input);

#[async_trait]
impl SourceConnector for Rows {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, _request: &DiscoverRequest) -> Result<Discovered> {
        let (schema, notes) = (schema(), Vec::new());
        Ok(Discovered { schema, projection: false, predicate: Pushdown::No, notes })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let mine = |s: &i64| s.rem_euclid(i64::from(context.parallelism)) == i64::from(context.subtask);
        let at = |name: &str| context.restore.get(name).and_then(|s| s.position.0.as_i64()).unwrap_or(0);
        let splits = (0..self.0.splits).filter(mine).map(|s| (s, at(&name(s)))).collect();
        Ok(Box::new(Reader {
            input: self.0,
            name: context.name,
            splits,
            next: 0,
            opened: Positions::new(),
            draining: false,
        }))
    }
}

fn name(split: i64) -> String {
    format!("split-{split}")
}

struct Reader {
    input: Input,
    name: Arc<str>,
    splits: BTreeMap<i64, i64>,
    next: usize,
    opened: Positions,
    draining: bool,
}

impl Reader {
    /// The split whose turn it is, if there is more to read.
    fn turn(&mut self) -> Option<i64> {
        let rows = self.input.rows;
        let open: Vec<i64> = self.splits.iter().filter(|(_, at)| **at < rows).map(|(s, _)| *s).collect();
        self.next += 1;
        (!open.is_empty() && !self.draining).then(|| open[self.next % open.len()])
    }
}

#[async_trait]
impl Source for Reader {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    async fn read(&mut self) -> Result<Read> {
        tokio::time::sleep(self.input.pace.mul_f64(simulation::below(1000) as f64 / 1000.0)).await;
        let Some(split) = self.turn() else { return Ok(Read::End) };
        let from = self.splits[&split];
        let to = (from + 1 + simulation::below(self.input.batch as u64) as i64).min(self.input.rows);
        self.splits.insert(split, to);
        let done = to == self.input.rows;
        let state = SplitState { position: Position(to.into()), done, event_time_max_us: None };
        self.opened.insert(name(split), state);
        let text: Arc<str> = name(split).into();
        let rejected = (from..to).filter(|id| fate(*id) == Fate::Broken).map(|id| Rejected {
            row: RowRef { source: self.name.clone(), split: text.clone(), position: id as u64, sub: 0 },
            error: RowError::new("broken-row", "the record is broken"),
            bytes: format!("{split} {id}").into_bytes(),
        });
        let rejected = rejected.collect();
        let batch = batch(&self.name, &text, split, from..to)?;
        Ok(Read::Rows(SourceRows { batch, split: text, rejected, pruned: 0, bytes: 32 * (to - from) as u64 }))
    }

    fn positions(&self) -> Positions {
        self.opened.clone()
    }

    fn drain(&mut self) {
        self.draining = true;
    }
}

fn batch(source: &Arc<str>, name: &Arc<str>, split: i64, ids: std::ops::Range<i64>) -> Result<Batch> {
    let all = |of: &dyn Fn(i64) -> i64| Int64Array::from_iter_values(ids.clone().map(of));
    let times = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| id * 1000));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all(&|_| split)),
        Arc::new(all(&|id| id)),
        Arc::new(all(&|id| key(split, id))),
        Arc::new(times.with_timezone("UTC")),
    ];
    let bad = |e| Error::runtime("simulation", "rows do not fit their schema").because(e);
    let rows = RecordBatch::try_new(schema(), columns).map_err(bad)?;
    let at = RowIds::Range { start: ids.start as u64, len: rows.num_rows() };
    let good: BooleanArray = ids.map(|id| Some(fate(id) != Fate::Broken)).collect();
    Batch::new(rows, Origin::new(source.clone(), name.clone(), at)).filter(&good).map_err(bad)
}
