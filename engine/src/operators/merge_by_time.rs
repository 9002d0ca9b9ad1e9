//! `merge`: gives rows out in event-time order.
//!
//! Rows are held until the watermark has passed them: then no earlier row follows, and rows of one time are all there, so
//! that their order (by source, split and position) does not depend on which arrived first. A row that comes after the
//! watermark has passed it goes on with the next rows; a row without event time goes before all others.

use std::collections::HashMap as Facts;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::batch::BATCH_ROWS;
use conveyor_model::step::Step;
use conveyor_model::{Batch, Result, Watermark, credit};

use super::event_time;
use super::layout::{kernel, with_schema};
use super::origin_rows::{self, OrderKey};
use super::state::Snapshot;
use crate::operator::{Emitter, Operator};

/// Kind and version of the snapshot.
const FORM: &str = "merge/1";

/// Rows of one input batch, in event-time order, of which the first `taken` have gone on.
struct Run {
    batch: Batch,
    times: Vec<i64>,
    taken: usize,
    /// Cost of a row, in bytes.
    row_bytes: f64,
}

impl Run {
    fn left(&self) -> usize {
        self.times.len() - self.taken
    }

    fn bytes(&self) -> f64 {
        self.row_bytes * self.left() as f64
    }
}

/// Holds rows until the watermark passes them, or until they are too many bytes.
pub(super) struct MergeByTime {
    column: usize,
    max_bytes: u64,
    runs: Vec<Run>,
    saved: SchemaRef,
    schema: SchemaRef,
    name: String,
}

impl MergeByTime {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the column is no event time.
    pub(super) fn new(step: &Step, column: &str, max_bytes: u64) -> Result<Self> {
        Ok(Self {
            column: event_time::column(step, column)?,
            max_bytes,
            runs: Vec::new(),
            saved: origin_rows::schema(&step.output),
            schema: step.output.clone(),
            name: step.name.clone(),
        })
    }

    /// Holds a batch, sorted.
    fn hold(&mut self, batch: Batch) -> Result<()> {
        let (rows, origin) = batch.into_parts();
        let mut batch = Batch::new(with_schema(rows, &self.schema)?, origin);
        let times = event_time::micros(batch.rows().column(self.column))?;
        let mut times: Vec<i64> = times.iter().map(|time| time.unwrap_or(i64::MIN)).collect();
        if !times.is_sorted() {
            let mut order: Vec<u32> = (0..times.len() as u32).collect();
            order.sort_by_key(|&row| times[row as usize]);
            times = order.iter().map(|&row| times[row as usize]).collect();
            batch = batch.take(&UInt32Array::from(order)).map_err(kernel)?;
        }
        let row_bytes = credit::cost(batch.rows()) as f64 / times.len() as f64;
        self.runs.push(Run { batch, times, taken: 0, row_bytes });
        Ok(())
    }

    /// Gives out the rows before `bound`, in order.
    fn release(&mut self, bound: Bound, out: &mut Emitter) -> Result<()> {
        let mut parts = Vec::new();
        for run in &mut self.runs {
            let due = run.times[run.taken..].partition_point(|&time| bound.passes(time));
            if due > 0 {
                parts.push(run.batch.slice(run.taken, due));
                run.taken += due;
            }
        }
        self.runs.retain(|run| run.left() > 0);
        for run in &mut self.runs {
            // A few rows must not keep a whole batch in memory.
            if run.taken > 3 * run.left() {
                let left = run.batch.slice(run.taken, run.left());
                run.batch = origin_rows::compact(left)?;
                run.times.drain(..run.taken);
                run.taken = 0;
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let all = Batch::concat(&self.schema, &parts).map_err(kernel)?;
        let sorted = self.sort(all)?;
        for from in (0..sorted.num_rows()).step_by(BATCH_ROWS) {
            out.emit(sorted.slice(from, BATCH_ROWS.min(sorted.num_rows() - from)));
        }
        Ok(())
    }

    fn sort(&self, batch: Batch) -> Result<Batch> {
        let times = event_time::micros(batch.rows().column(self.column))?;
        let keys: Vec<OrderKey> = origin_rows::order_keys(batch.origin());
        let key = |row: u32| {
            let time = if times.is_null(row as usize) { i64::MIN } else { times.value(row as usize) };
            (time, keys[row as usize])
        };
        let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
        if order.is_sorted_by_key(|&row| key(row)) {
            return Ok(batch);
        }
        order.sort_by_key(|&row| key(row));
        batch.take(&UInt32Array::from(order)).map_err(kernel)
    }

    /// The time up to which rows must go on, so that at most half of what may be held is left.
    fn overflow(&self) -> Option<i64> {
        let held: f64 = self.runs.iter().map(Run::bytes).sum();
        if held <= self.max_bytes as f64 {
            return None;
        }
        let rows = self.runs.iter().flat_map(|r| r.times[r.taken..].iter().map(|&time| (time, r.row_bytes)));
        let mut rows: Vec<(i64, f64)> = rows.collect();
        rows.sort_unstable_by_key(|&(time, _)| time);
        let mut over = held - self.max_bytes as f64 / 2.0;
        let last = rows.iter().find(|&&(_, bytes)| {
            over -= bytes;
            over <= 0.0
        });
        last.or(rows.last()).map(|&(time, _)| time)
    }
}

/// Which rows go on.
#[derive(Clone, Copy)]
enum Bound {
    Before(i64),
    UpTo(i64),
    All,
}

impl Bound {
    fn passes(self, time: i64) -> bool {
        match self {
            Bound::Before(bound) => time < bound,
            Bound::UpTo(bound) => time <= bound,
            Bound::All => true,
        }
    }
}

impl Operator for MergeByTime {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.hold(batch)?;
        let Some(time) = self.overflow() else { return Ok(()) };
        tracing::warn!(step = %self.name, "more is held than `maxBytes`: the earliest rows go on before the watermark");
        self.release(Bound::UpTo(time), out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Emitter) -> Result<()> {
        self.release(Bound::Before(watermark.0), out)
    }

    fn on_end(&mut self, out: &mut Emitter) -> Result<()> {
        self.release(Bound::All, out)
    }

    fn snapshot(&mut self) -> Result<Option<Bytes>> {
        let held = self
            .runs
            .iter()
            .map(|run| origin_rows::write(&run.batch.slice(run.taken, run.left()), &self.saved));
        let rows = held.collect::<Result<Vec<RecordBatch>>>()?;
        Snapshot { form: FORM, facts: Facts::new(), schema: self.saved.clone(), rows }.write().map(Some)
    }

    fn restore(&mut self, snapshots: &[Bytes]) -> Result<()> {
        for bytes in snapshots {
            let snapshot = Snapshot::read(bytes, FORM, &self.saved).map_err(|e| e.at(&self.name))?;
            for rows in snapshot.rows {
                let batch = origin_rows::read(&rows, &self.schema)?;
                self.hold(batch)?;
            }
        }
        Ok(())
    }
}
