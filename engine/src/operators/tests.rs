//! Laws of all operators, and each one's own behaviour: every row is emitted, failed or filtered, never two of these
//! and never none; good rows keep their order; the result does not depend on how rows are cut into batches.

mod cases;
mod enrich;
mod laws;
mod stateful;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::json::LineDelimitedWriter;
use conveyor_model::dead_letter::RowError;
use conveyor_model::origin::RowIds;
use conveyor_model::secret::{SecretRef, Secrets};
use conveyor_model::step::{Op, Step};
use conveyor_model::{Batch, Clock, Error, Origin, Result, RowRef, Watermark};

use super::build;
use crate::lookups::LookupTables;
use crate::operator::{BuildContext, Emitter, Operator};

/// A clock that a test moves.
#[derive(Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn wall_us(&self) -> i64 {
        0
    }

    fn monotonic_us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The key of every secret is `key`.
struct OneKey;

impl Secrets for OneKey {
    fn resolve(&self, _: &SecretRef) -> Result<Vec<u8>> {
        Ok(b"key".to_vec())
    }
}

/// Builds an operator as subtask `subtask` of `parallelism`.
fn build_of(step: &Step, tables: &LookupTables, subtask: u32, parallelism: u32) -> Result<Box<dyn Operator>> {
    let clock = Arc::new(TestClock::default());
    build(step, &BuildContext { subtask, parallelism, lookups: tables, secrets: &OneKey, clock })
}

/// Builds the only subtask, without tables.
fn build_alone(step: &Step) -> Result<Box<dyn Operator>> {
    build_of(step, &LookupTables::default(), 0, 1)
}

fn step(op: Op, input: &SchemaRef, output: &SchemaRef) -> Step {
    Step { id: "id".into(), name: "step".into(), op, input: input.clone(), output: output.clone() }
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn ints(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Int64Array>())
}

fn floats(values: impl IntoIterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<Float64Array>())
}

fn texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringViewArray>())
}

fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Rows of split `split`, numbered from 0.
fn batch_of(split: &str, schema: &SchemaRef, columns: Vec<ArrayRef>) -> Batch {
    let rows = RecordBatch::try_new(schema.clone(), columns).expect("columns fit");
    let ids = RowIds::Range { start: 0, len: rows.num_rows() };
    Batch::new(rows, Origin::new("source".into(), split.into(), ids))
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Batch {
    batch_of("split", schema, columns)
}

/// Everything an operator gave.
#[derive(Debug, Default, Clone, PartialEq)]
struct Given {
    /// Rows as JSON, with their origin.
    rows: Vec<(RowRef, String)>,
    /// Failed rows, likewise.
    failed: Vec<(RowRef, RowError)>,
    filtered: u64,
    expanded: u64,
}

impl Given {
    fn take(&mut self, out: &mut Emitter, output: Option<&SchemaRef>) {
        for batch in out.take_batches() {
            if let Some(output) = output {
                assert_eq!(batch.schema(), *output, "the output has the planned schema");
            }
            let lines = lines(batch.rows());
            assert_eq!(lines.len(), batch.num_rows());
            self.rows.extend(lines.into_iter().enumerate().map(|(i, line)| (batch.origin().get(i), line)));
        }
        for failed in out.take_failed() {
            let rows = (0..failed.rows.num_rows()).map(|i| failed.rows.origin().get(i));
            self.failed.extend(rows.zip(failed.errors));
        }
        let (filtered, expanded) = out.take_counts();
        self.filtered += filtered;
        self.expanded += expanded;
    }

    fn lines(&self) -> Vec<&str> {
        self.rows.iter().map(|(_, line)| line.as_str()).collect()
    }

    fn positions(&self) -> Vec<u64> {
        self.rows.iter().map(|(at, _)| at.position).collect()
    }

    /// `(position, code)` of the failed rows.
    fn codes(&self) -> Vec<(u64, &str)> {
        self.failed.iter().map(|(at, e)| (at.position, e.code.as_ref())).collect()
    }
}

fn lines(rows: &RecordBatch) -> Vec<String> {
    let mut text = Vec::new();
    LineDelimitedWriter::new(&mut text).write(rows).expect("rows have a JSON form");
    String::from_utf8(text).expect("JSON is UTF-8").lines().map(str::to_owned).collect()
}

/// Runs batches through an operator to its end.
fn run(operator: &mut dyn Operator, batches: impl IntoIterator<Item = Batch>) -> Result<Given> {
    let (mut given, mut out) = (Given::default(), Emitter::default());
    for batch in batches {
        operator.on_batch(batch, &mut out)?;
    }
    operator.on_watermark(Watermark::MAX, &mut out)?;
    operator.on_end(&mut out)?;
    given.take(&mut out, None);
    Ok(given)
}

/// Runs one batch through a new operator, with the schema checked.
fn run_one(step: &Step, batch: Batch) -> Result<Given> {
    let (mut given, mut out) = (Given::default(), Emitter::default());
    let rows = batch.num_rows() as u64;
    build_alone(step)?.on_batch(batch, &mut out)?;
    given.take(&mut out, Some(&step.output));
    assert_eq!(
        rows + given.expanded,
        given.rows.len() as u64 + given.failed.len() as u64 + given.filtered,
        "no row is lost or made up"
    );
    Ok(given)
}

/// The error of building an operator.
fn build_error(step: &Step) -> Error {
    match build_alone(step) {
        Ok(_) => panic!("the step should not build"),
        Err(error) => error,
    }
}
