//! `dedupe`: lets the first row of each key pass within an event-time window.
//!
//! A key is forgotten once the watermark has passed its window. Whether it is forgotten is a question of watermark and
//! time alone, not of when memory was swept, so that a restart from a snapshot answers as if nothing had happened.

use std::collections::HashMap as Facts;
use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use bytes::Bytes;
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::{self, Step};
use conveyor_model::{Batch, Error, Kind, Result, Watermark};
use hashbrown::HashMap;

use super::event_time;
use super::failed::Failed;
use super::layout::{column_index, kernel, with_schema};
use super::state::Snapshot;
use crate::operator::{BuildContext, Emitter, Operator};
use crate::partition::{hash_key, subtask_of};

/// Kind and version of the snapshot.
const FORM: &str = "dedupe/1";
/// Fact of the snapshot: the watermark in microseconds.
const WATERMARK: &str = "watermark";
/// Last column of the snapshot: event time of the row that passed, in microseconds.
const PASSED: &str = "passed_us";
/// Keys in one batch of a snapshot.
const SNAPSHOT_ROWS: usize = 65_536;

/// Remembers, for each key, when a row of it was let through.
pub(super) struct Dedupe {
    name: String,
    keys: Vec<usize>,
    time: usize,
    time_name: String,
    within_us: i64,
    max_keys: usize,
    converter: RowConverter,
    seen: HashMap<Box<[u8]>, Times, RandomState>,
    /// Entries of `seen`, counting each time.
    count: usize,
    watermark: i64,
    swept: i64,
    subtask: u32,
    parallelism: u32,
    saved: SchemaRef,
    schema: SchemaRef,
}

/// Event times at which rows of one key were let through: mostly one.
#[derive(Debug)]
struct Times {
    first: i64,
    more: Vec<i64>,
}

impl Times {
    fn iter(&self) -> impl Iterator<Item = i64> {
        std::iter::once(self.first).chain(self.more.iter().copied())
    }
}

impl Dedupe {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If a column is missing, cannot be a key, or the event time is no time.
    pub(super) fn new(step: &Step, dedupe: &step::Dedupe, context: &BuildContext<'_>) -> Result<Self> {
        let keys = dedupe.keys.iter().map(|k| column_index(step, k)).collect::<Result<Vec<_>>>()?;
        let time = event_time::column(step, &dedupe.event_time)?;
        let mut saved: Vec<_> =
            keys.iter().map(|&i| step.input.field(i).as_ref().clone().with_nullable(true)).collect();
        let sort = saved.iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::new(sort).map_err(|e| {
            Error::bad_input("key-type", "these columns cannot be a key").because(e).at(&step.name)
        })?;
        saved.push(Field::new(PASSED, DataType::Int64, false));
        Ok(Self {
            name: step.name.clone(),
            keys,
            time,
            time_name: dedupe.event_time.clone(),
            within_us: i64::try_from(dedupe.within_ms.saturating_mul(1000)).unwrap_or(i64::MAX),
            max_keys: usize::try_from(dedupe.max_keys).unwrap_or(usize::MAX),
            converter,
            seen: HashMap::with_hasher(seeded()),
            count: 0,
            watermark: i64::MIN,
            swept: i64::MIN,
            subtask: context.subtask,
            parallelism: context.parallelism,
            saved: Arc::new(Schema::new(saved)),
            schema: step.output.clone(),
        })
    }

    /// Whether a row of this time may still be compared with one that passed at `time`.
    fn remembers(&self, time: i64) -> bool {
        self.watermark <= time.saturating_add(self.within_us)
    }

    /// Whether the row passes; remembers it if so.
    fn admit(&mut self, key: &[u8], time: i64) -> Result<bool> {
        let (within, watermark) = (self.within_us, self.watermark);
        let close =
            |at: i64| watermark <= at.saturating_add(within) && at.abs_diff(time) <= within.unsigned_abs();
        match self.seen.get_mut(key) {
            Some(times) if times.iter().any(close) => return Ok(false),
            Some(times) => times.more.push(time),
            None => {
                self.seen.insert(key.into(), Times { first: time, more: Vec::new() });
            }
        }
        self.count += 1;
        if self.count > self.max_keys {
            self.sweep();
        }
        if self.count > self.max_keys {
            return Err(self.overflow());
        }
        Ok(true)
    }

    fn overflow(&self) -> Error {
        let message = format!("more than {} keys are within the window of the de-duplication", self.max_keys);
        Error::new(Kind::Exhausted, "dedupe-keys", message)
            .at(&self.name)
            .help("raise `maxKeys`, shorten `within`, or check that the watermark advances")
    }

    /// Frees what is forgotten.
    fn sweep(&mut self) {
        let (within, watermark) = (self.within_us, self.watermark);
        let alive = |time: i64| watermark <= time.saturating_add(within);
        let mut count = 0;
        self.seen.retain(|_, times| {
            times.more.retain(|&time| alive(time));
            if !alive(times.first) {
                match times.more.pop() {
                    Some(time) => times.first = time,
                    None => return false,
                }
            }
            count += 1 + times.more.len();
            true
        });
        if self.seen.capacity() > 4 * self.seen.len() {
            self.seen.shrink_to(2 * self.seen.len());
        }
        self.count = count;
        self.swept = watermark;
    }

    /// Keys and times as columns, a batch of bounded length at a time.
    fn save(&self) -> Result<Vec<RecordBatch>> {
        let parser = self.converter.parser();
        let entries: Vec<(&[u8], i64)> = self
            .seen
            .iter()
            .flat_map(|(key, times)| times.iter().map(|time| (key.as_ref(), time)))
            .filter(|(_, time)| self.remembers(*time))
            .collect();
        let mut batches = Vec::new();
        for part in entries.chunks(SNAPSHOT_ROWS) {
            let keys = part.iter().map(|(key, _)| parser.parse(key));
            let mut columns: Vec<ArrayRef> = self.converter.convert_rows(keys).map_err(kernel)?;
            columns.push(Arc::new(part.iter().map(|(_, time)| *time).collect::<Int64Array>()));
            batches.push(RecordBatch::try_new(self.saved.clone(), columns).map_err(kernel)?);
        }
        Ok(batches)
    }

    /// Takes the keys of this subtask from one batch of a snapshot.
    fn load(&mut self, rows: &RecordBatch) -> Result<()> {
        let (times, keys) = rows.columns().split_last().expect("a snapshot has the column of times");
        let keys = self.converter.convert_columns(keys).map_err(kernel)?;
        for (key, &time) in keys.iter().zip(times.as_primitive::<Int64Type>().values()) {
            let key = key.data();
            if subtask_of(hash_key(key), self.parallelism) == self.subtask {
                match self.seen.get_mut(key) {
                    Some(times) => times.more.push(time),
                    None => {
                        self.seen.insert(key.into(), Times { first: time, more: Vec::new() });
                    }
                }
                self.count += 1;
            }
        }
        Ok(())
    }
}

impl Operator for Dedupe {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let columns: Vec<_> = self.keys.iter().map(|&i| batch.rows().column(i).clone()).collect();
        let keys = self.converter.convert_columns(&columns).map_err(kernel)?;
        let times = event_time::micros(batch.rows().column(self.time))?;
        let mut failed = Failed::default();
        let mut pass = Vec::with_capacity(batch.num_rows());
        for (row, key) in keys.iter().enumerate() {
            if times.is_null(row) {
                failed.add_row(row, || {
                    RowError::new("event-time-null", "a row without event time is in no window")
                        .column(&self.time_name)
                });
                pass.push(false);
                continue;
            }
            pass.push(self.admit(key.data(), times.value(row))?);
        }
        let passed = pass.iter().filter(|p| **p).count();
        out.filtered((batch.num_rows() - passed - failed.len()) as u64);
        failed.report(&batch, out)?;
        if passed == 0 {
            return Ok(());
        }
        let batch = if passed == batch.num_rows() {
            batch
        } else {
            let pass = BooleanArray::new(BooleanBuffer::from(pass), None);
            batch.filter(&pass).map_err(kernel)?
        };
        let (rows, origin) = batch.into_parts();
        out.emit(Batch::new(with_schema(rows, &self.schema)?, origin));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, _out: &mut Emitter) -> Result<()> {
        // The end of the input is no event time: the next run of a finished job still compares with what passed in this one.
        if watermark == Watermark::MAX {
            return Ok(());
        }
        self.watermark = self.watermark.max(watermark.0);
        // Each key is looked at a few times in its life, however often the watermark moves.
        if self.watermark.saturating_sub(self.swept) > self.within_us / 4 {
            self.sweep();
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Option<Bytes>> {
        let facts = Facts::from([(WATERMARK.to_owned(), self.watermark.to_string())]);
        let rows = self.save()?;
        Snapshot { form: FORM, facts, schema: self.saved.clone(), rows }.write().map(Some)
    }

    fn restore(&mut self, snapshots: &[Bytes]) -> Result<()> {
        let mut watermark: Option<i64> = None;
        for bytes in snapshots {
            let snapshot = Snapshot::read(bytes, FORM, &self.saved).map_err(|e| e.at(&self.name))?;
            let at = snapshot.facts.get(WATERMARK).and_then(|w| w.parse().ok()).unwrap_or(i64::MIN);
            watermark = Some(watermark.map_or(at, |w| w.min(at)));
            for rows in &snapshot.rows {
                self.load(rows)?;
            }
        }
        self.watermark = watermark.unwrap_or(i64::MIN);
        Ok(())
    }
}

/// Fixed seeds: two runs over the same rows behave alike.
fn seeded() -> RandomState {
    RandomState::with_seeds(
        0x517c_c1b7_2722_0a95,
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
    )
}
