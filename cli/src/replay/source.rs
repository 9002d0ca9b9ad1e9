//! The source of a replay: dead letters as rows again, with the origin that they had.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use conveyor_connectors::format::{DecodeOptions, TextDecoder};
use conveyor_model::connector::{ConnectorSpec, FieldKind, FieldSpec};
use conveyor_model::dead_letter::Rejected;
use conveyor_model::origin::RowIds;
use conveyor_model::source::{
    DiscoverRequest, Discovered, Pushdown, Read, Source, SourceConnector, SourceContext, SourceRows,
};
use conveyor_model::{Batch, Error, Origin, Position, Positions, Result, RowRef, SplitState};
use conveyor_store::dlq::{retype, schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::letters_file;

/// Name of the connector in plans of replays.
pub const CONNECTOR: &str = "dead-letters";
/// Longest record that is decoded again, in bytes.
const MAX_RECORD: usize = 1 << 30;

static SPEC: ConnectorSpec = ConnectorSpec {
    name: CONNECTOR,
    doc: "Dead letters of a replay.",
    fields: &[FieldSpec {
        name: "file",
        kind: FieldKind::Path,
        required: true,
        default: None,
        doc: "The letters.",
    }],
};

/// Settings.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config {
    /// File of letters.
    pub file: String,
    /// Settings of the file source that once failed to read these records; none for rows that were typed.
    pub source: Option<serde_json::Value>,
}

/// Opens letters as a source.
#[derive(Debug, Default)]
pub struct DeadLetterSource;

#[async_trait]
impl SourceConnector for DeadLetterSource {
    fn spec(&self) -> &'static ConnectorSpec {
        &SPEC
    }

    async fn discover(&self, request: &DiscoverRequest) -> Result<Discovered> {
        let fields: Vec<_> = request.declared.clone();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        Ok(Discovered { schema, projection: true, predicate: Pushdown::No, notes: Vec::new() })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>> {
        let config: Config = serde_json::from_value(context.config.clone())
            .map_err(|e| Error::runtime("replay-config", "the plan of a replay is damaged").because(e))?;
        let columns =
            context.projection.iter().map(|name| context.full_schema.field_with_name(name).cloned());
        let columns: Vec<_> = columns
            .collect::<Result<_, _>>()
            .map_err(|e| Error::runtime("replay-config", "the plan of a replay is damaged").because(e))?;
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(columns));
        let done = context
            .restore
            .get(&config.file)
            .and_then(|s| s.position.0.get("batch"))
            .and_then(serde_json::Value::as_u64);
        let next = done.unwrap_or(0) as usize;
        // One subtask reads; the others of its node end at once.
        let batches =
            if context.subtask == 0 { Some(letters_file::open(Path::new(&config.file))?) } else { None };
        let decoding = config.source.map(|source| Decoding { source, context });
        Ok(Box::new(Letters { schema, file: config.file, batches, next, decoding }))
    }
}

/// What it takes to decode a record again.
struct Decoding {
    source: serde_json::Value,
    context: SourceContext,
}

impl Decoding {
    fn decoder(&self, split: &str) -> Result<Box<dyn TextDecoder>> {
        let options = DecodeOptions {
            full_schema: self.context.full_schema.clone(),
            projection: self.context.projection.clone(),
            predicate: self.context.predicate.clone(),
            batch_rows: self.context.batch_rows,
            max_record_bytes: MAX_RECORD,
        };
        conveyor_connectors::file::record_decoder(&self.source, split, options)
    }
}

struct Letters {
    schema: SchemaRef,
    file: String,
    batches: Option<letters_file::Letters>,
    next: usize,
    decoding: Option<Decoding>,
}

#[async_trait]
impl Source for Letters {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    async fn read(&mut self) -> Result<Read> {
        let Some(batches) = &mut self.batches else { return Ok(Read::End) };
        if self.next >= batches.num_batches() {
            return Ok(Read::End);
        }
        let damaged = |e| Error::runtime("replay-file", "the letters of a replay cannot be read").because(e);
        batches.set_index(self.next).map_err(damaged)?;
        let Some(letters) = batches.next().transpose().map_err(damaged)? else { return Ok(Read::End) };
        self.next += 1;
        let rows = origins(&letters)?;
        let (batch, rejected) = match &self.decoding {
            Some(decoding) => self.decode(decoding, &letters, &rows)?,
            None => (self.typed(&letters, &rows)?, Vec::new()),
        };
        Ok(Read::Rows(SourceRows { batch, split: self.file.as_str().into(), rejected, pruned: 0, bytes: 0 }))
    }

    fn positions(&self) -> Positions {
        let Some(batches) = &self.batches else { return Positions::new() };
        let done = self.next >= batches.num_batches();
        let state =
            SplitState { position: Position(json!({"batch": self.next})), done, event_time_max_us: None };
        Positions::from([(self.file.clone(), state)])
    }

    fn drain(&mut self) {
        self.batches = None;
    }
}

impl Letters {
    /// Rows that were typed when they failed, in today's columns. A column that they do not hold has no value that could be
    /// made up for it: null would be wrong data.
    fn typed(&self, letters: &RecordBatch, rows: &[RowRef]) -> Result<Batch> {
        let Some(was) = retype(letters)? else {
            return Err(
                Error::runtime("replay-mixed", "a replay mixes records and typed rows").in_split(&self.file)
            );
        };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let column = match was.column_by_name(field.name()) {
                Some(column) if column.data_type() == field.data_type() => column.clone(),
                Some(column) => {
                    let cast = conveyor_expr::cast(column, field.data_type(), field.name());
                    if let Some((row, error)) = cast.failures.first() {
                        let why = format!(
                            "a dead letter's column `{}` no longer fits: {}",
                            field.name(),
                            error.message
                        );
                        return Err(Error::bad_input("replay-type", why)
                            .in_split(&rows[*row].split)
                            .at_position(rows[*row].position));
                    }
                    cast.values
                }
                None => {
                    let why = format!("the dead letters do not hold the column `{}`", field.name());
                    return Err(Error::bad_input("replay-columns", why).in_split(&self.file));
                }
            };
            columns.push(column);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|e| {
            Error::bad_input("replay-type", "dead letters no longer fit the step's input").because(e)
        })?;
        Ok(Batch::new(batch, origin(rows)))
    }

    /// Records that never were typed, read once more.
    fn decode(
        &self,
        decoding: &Decoding,
        letters: &RecordBatch,
        rows: &[RowRef],
    ) -> Result<(Batch, Vec<Rejected>)> {
        let raw = letters.column_by_name(schema::RAW).and_then(|c| c.as_binary_opt::<i32>());
        let Some(raw) = raw else {
            return Err(
                Error::runtime("replay-file", "letters without the column `raw`").in_split(&self.file)
            );
        };
        let (mut parts, mut picked, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let record = if raw.is_valid(i) { raw.value(i) } else { b"" };
            let mut line = record.to_vec();
            line.push(b'\n');
            // Not at the start of a file: no header is expected there.
            let decoded = decoding.decoder(&row.split)?.decode(&Bytes::from(line), 1, true)?;
            picked.extend(std::iter::repeat_n(i as u32, decoded.rows.num_rows()));
            parts.push(decoded.rows);
            rejected.extend(decoded.rejected.into_iter().map(|r| Rejected {
                row: row.clone(),
                error: r.error,
                bytes: r.bytes,
            }));
        }
        let batch = arrow::compute::concat_batches(&self.schema, &parts).map_err(|e| {
            Error::runtime("replay-type", "decoded dead letters do not fit together").because(e)
        })?;
        let picked = UInt32Array::from(picked);
        Ok((Batch::new(batch, origin(rows).take(picked.values())), rejected))
    }
}

/// Where the rows of letters came from.
fn origins(letters: &RecordBatch) -> Result<Vec<RowRef>> {
    let missing = || Error::runtime("replay-file", "letters without source, split or position");
    let text = |name| letters.column_by_name(name).and_then(|c| c.as_string_view_opt()).ok_or_else(missing);
    let number = |name| {
        letters.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(missing)
    };
    let (sources, splits) = (text(schema::SOURCE)?, text(schema::SPLIT)?);
    let (positions, subs) = (number(schema::POSITION)?, number(schema::ROW_INDEX)?);
    let row = |i| RowRef {
        source: sources.value(i).into(),
        split: splits.value(i).into(),
        position: positions.value(i) as u64,
        sub: subs.value(i) as u32,
    };
    Ok((0..letters.num_rows()).map(row).collect())
}

fn origin(rows: &[RowRef]) -> Origin {
    let one = |row: &RowRef| {
        let at = RowIds::Listed { at: vec![row.position].into(), sub: Some(vec![row.sub].into()) };
        Origin::new(row.source.clone(), row.split.clone(), at)
    };
    Origin::concat(&rows.iter().map(one).collect::<Vec<_>>())
}
