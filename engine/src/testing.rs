//! A world in memory for tests: a clock, a log, stores, sources and sinks that remember across runs.

pub(crate) mod connectors;
pub(crate) mod plans;
pub(crate) mod stores;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use conveyor_model::origin::RowIds;
use conveyor_model::{Batch, Clock, Error, Origin, Result};

use crate::operator::{Emitter, Operator, StepInfo};

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn advance(&self, us: u64) {
        self.0.fetch_add(us, SeqCst);
    }
}

impl Clock for ManualClock {
    fn wall_us(&self) -> i64 {
        self.0.load(SeqCst) as i64
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// Schema of the test rows: `id` and an event time `t`, which is the id in milliseconds.
pub(crate) fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("t", time, true)]))
}

/// Rows with these ids, which are their positions too.
pub(crate) fn numbers(source: &str, split: &str, ids: Range<i64>) -> Batch {
    numbers_at(source, split, ids, |id| id * 1000)
}

/// As `numbers`, with other event times.
pub(crate) fn numbers_at(source: &str, split: &str, ids: Range<i64>, time_us: fn(i64) -> i64) -> Batch {
    let n = (ids.end - ids.start) as usize;
    let times = TimestampMicrosecondArray::from_iter_values(ids.clone().map(time_us)).with_timezone("UTC");
    let rows = RowIds::Range { start: ids.start as u64, len: n };
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(times)];
    let batch = RecordBatch::try_new(schema(), columns).expect("columns fit the schema");
    Batch::new(batch, Origin::new(source.into(), split.into(), rows))
}

/// The ids of a batch.
pub(crate) fn ids(batch: &Batch) -> Vec<i64> {
    batch.rows().column(0).as_primitive::<Int64Type>().values().to_vec()
}

pub(crate) fn info(name: &str) -> StepInfo {
    crate::task::sink::named(name)
}

/// Lets even ids pass, and counts the rows it saw as its state.
#[derive(Default)]
pub(crate) struct KeepEven(u64);

impl Operator for KeepEven {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        self.0 += batch.num_rows() as u64;
        let even: BooleanArray = ids(&batch).iter().map(|i| Some(i % 2 == 0)).collect();
        out.filtered(even.false_count() as u64);
        out.emit(batch.filter(&even).map_err(|e| Error::runtime("test", "filter").because(e))?);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Option<Bytes>> {
        Ok(Some(self.0.to_string().into()))
    }

    fn restore(&mut self, snapshots: &[Bytes]) -> Result<()> {
        let parse = |b: &Bytes| String::from_utf8_lossy(b).parse().unwrap_or(0);
        self.0 = snapshots.iter().map(parse).sum::<u64>();
        Ok(())
    }
}

/// Doubles ids.
pub(crate) struct Double;

impl Operator for Double {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let doubled = Int64Array::from_iter_values(ids(&batch).iter().map(|i| i * 2));
        let rows =
            RecordBatch::try_new(batch.schema(), vec![Arc::new(doubled), batch.rows().column(1).clone()])
                .map_err(|e| Error::runtime("test", "columns").because(e))?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}
