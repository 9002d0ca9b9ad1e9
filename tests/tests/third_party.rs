//! A connector that is not ours, in the conformance suite, as its author would write it: docs/connectors.md shows this file.
//! And what the suite says when a connector breaks the contract, for a suite that lets everything pass is worth nothing.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use conveyor_connectors::conformance::{SinkCase, SourceCase, check_sink, check_source, show};
use conveyor_model::connector::ConnectorSpec;
use conveyor_model::manifest::StagedRef;
use conveyor_model::origin::RowIds;
use conveyor_model::plan::{Delivery, Mode};
use conveyor_model::sink::{Committer, Refused, Sink, SinkConnector, SinkContext};
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{
    Batch, Epoch, Error, Incarnation, Kind, Origin, Position, Positions, Result, SplitState,
};
use serde_json::json;

/// Numbers up to a limit, in two splits: the even and the odd ones.
#[derive(Default)]
struct Numbers {
    /// A mistake to make: restored positions are not looked at.
    forgets: bool,
}

struct Counting {
    context: SourceContext,
    schema: SchemaRef,
    limit: i64,
    /// Of each split of this subtask the next number.
    next: BTreeMap<&'static str, i64>,
    draining: bool,
}

static SPEC: ConnectorSpec = ConnectorSpec { name: "numbers", doc: "Numbers.", fields: &[] };

#[async_trait]
impl SourceConnector for Numbers {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, _request: &DiscoverRequest) -> Result<Discovered> {
        let field = |name| Field::new(name, DataType::Int64, true);
        let schema = Arc::new(Schema::new(vec![field("n"), field("square")]));
        Ok(Discovered { schema, projection: true, predicate: Pushdown::No, notes: Vec::new() })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let mut next = BTreeMap::new();
        for (number, split) in (0..).zip(["even", "odd"]) {
            if number % i64::from(context.parallelism) == i64::from(context.subtask) {
                let restored = context.restore.get(split).filter(|_| !self.forgets);
                next.insert(split, restored.and_then(|s| s.position.0.as_i64()).unwrap_or(number));
            }
        }
        let fields = context.projection.iter().map(|name| Field::new(name, DataType::Int64, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let limit = context.config["limit"].as_i64().unwrap_or(0);
        Ok(Box::new(Counting { context, schema, limit, next, draining: false }))
    }
}

#[async_trait]
impl Source for Counting {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn read(&mut self) -> Result<Read> {
        let due = self.next.iter_mut().find(|(_, next)| **next < self.limit && !self.draining);
        let Some((split, next)) = due else {
            return Ok(if self.context.mode == Mode::Job || self.draining { Read::End } else { Read::Idle });
        };
        let numbers: Vec<i64> = (*next..self.limit).step_by(2).take(self.context.batch_rows).collect();
        *next += 2 * numbers.len() as i64;
        let columns = self.context.projection.iter().map(|name| {
            let values = numbers.iter().map(|n| if name == "n" { *n } else { n * n });
            Arc::new(Int64Array::from_iter_values(values)) as _
        });
        let rows = RecordBatch::try_new(self.schema.clone(), columns.collect())
            .map_err(|e| Error::runtime("numbers-failed", "the numbers make no batch").because(e))?;
        let at = numbers.iter().map(|n| n.unsigned_abs()).collect();
        let origin =
            Origin::new(self.context.name.clone(), (*split).into(), RowIds::Listed { at, sub: None });
        let batch = Batch::new(rows, origin);
        Ok(Read::Rows(SourceRows {
            batch,
            split: (*split).into(),
            rejected: Vec::new(),
            pruned: 0,
            bytes: 8,
        }))
    }

    fn positions(&self) -> Positions {
        let state = |(split, next): (&&str, &i64)| {
            let done = *next >= self.limit;
            let state = SplitState { position: Position(json!(next)), done, event_time_max_us: None };
            ((*split).to_owned(), state)
        };
        self.next.iter().map(state).collect()
    }

    fn drain(&mut self) {
        self.draining = true;
    }
}

/// What a target keeps: staged rows by name, published rows, and a ledger.
#[derive(Default)]
struct Table {
    staged: BTreeMap<String, Vec<RecordBatch>>,
    published: Vec<RecordBatch>,
    ledger: Option<Epoch>,
    incarnation: Incarnation,
}

/// A sink that keeps rows in memory, exactly once.
#[derive(Clone, Default)]
struct Memory {
    table: Arc<Mutex<Table>>,
    /// A mistake to make: the ledger is not looked at.
    repeats: bool,
}

struct MemorySink {
    table: Arc<Mutex<Table>>,
    prefix: String,
    rows: Vec<RecordBatch>,
    bytes: u64,
}

struct MemoryCommitter {
    table: Arc<Mutex<Table>>,
    incarnation: Incarnation,
    repeats: bool,
}

#[async_trait]
impl SinkConnector for Memory {
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
        let prefix = format!("{}-{}", context.incarnation.0, context.subtask);
        Ok(Box::new(MemorySink { table: self.table.clone(), prefix, rows: Vec::new(), bytes: 0 }))
    }

    async fn committer(&self, context: SinkContext) -> Result<Box<dyn Committer>> {
        let mut table = self.table.lock().expect("no holder panics");
        table.incarnation = table.incarnation.max(context.incarnation);
        let (table, incarnation) = (self.table.clone(), context.incarnation);
        Ok(Box::new(MemoryCommitter { table, incarnation, repeats: self.repeats }))
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn write(&mut self, batch: Batch) -> Result<Refused> {
        self.bytes += batch.num_rows() as u64;
        self.rows.push(batch.rows().clone());
        Ok(Refused::new())
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedRef>> {
        let name = format!("{}-{}", self.prefix, epoch.0);
        let rows = self.rows.iter().map(|b| b.num_rows() as u64).sum();
        self.table
            .lock()
            .expect("no holder panics")
            .staged
            .insert(name.clone(), std::mem::take(&mut self.rows));
        Ok(vec![StagedRef { staged: name.clone(), publish: name, rows, bytes: 0 }])
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[async_trait]
impl Committer for MemoryCommitter {
    async fn ledger(&mut self) -> Result<Option<Epoch>> {
        Ok(self.table.lock().expect("no holder panics").ledger)
    }

    async fn commit(&mut self, epoch: Epoch, staged: &[StagedRef], _last: bool) -> Result<()> {
        let mut table = self.table.lock().expect("no holder panics");
        if table.incarnation > self.incarnation {
            return Err(Error::new(Kind::Fenced, "fenced", "a newer incarnation has taken over"));
        }
        if table.ledger >= Some(epoch) && !self.repeats {
            return Ok(());
        }
        for one in staged {
            let rows = table.staged.get(&one.staged).cloned().unwrap_or_default();
            table.published.extend(rows);
        }
        table.ledger = Some(epoch);
        Ok(())
    }
}

fn sink_case(sink: Memory) -> SinkCase {
    let batch = |b: i64| {
        let numbers = Int64Array::from_iter_values(b * 10..b * 10 + 10);
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).expect("one column")
    };
    let table = sink.table.clone();
    let read_back = move || {
        let rows = table.lock().expect("no holder panics").published.iter().flat_map(show).collect();
        Box::pin(std::future::ready(rows)) as _
    };
    SinkCase::new(
        Arc::new(sink),
        json!({}),
        Mode::Streaming,
        (0..6).map(batch).collect(),
        Arc::new(read_back),
    )
}

fn source_case(source: Numbers) -> SourceCase {
    SourceCase::new(Arc::new(source), json!({"limit": 1001})).expect_rows(1001)
}

#[tokio::test]
async fn a_source_of_a_third_party_conforms() {
    check_source(&source_case(Numbers::default())).await;
}

#[tokio::test]
async fn a_sink_of_a_third_party_conforms() {
    check_sink(&sink_case(Memory::default())).await;
}

/// What the suite says of a connector that breaks the contract.
fn complaint(suite: impl Future<Output = ()>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let panic =
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(suite))).expect_err("the suite must complain");
    panic.downcast_ref::<String>().cloned().expect("a message with the place")
}

#[test]
fn a_source_that_forgets_its_positions_is_found() {
    let said = complaint(check_source(&source_case(Numbers { forgets: true })));
    assert!(said.contains("comes again after a restart"), "{said}");
}

#[test]
fn a_sink_that_commits_twice_is_found() {
    let said = complaint(check_sink(&sink_case(Memory { repeats: true, ..Memory::default() })));
    assert!(said.contains("a repeated commit changes nothing"), "{said}");
}
