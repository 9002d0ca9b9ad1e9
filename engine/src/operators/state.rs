//! Snapshots of operators: an Arrow IPC stream that names its kind and version, so that it outlives the process.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use conveyor_model::{Error, Kind, Result};

/// Metadata key of the snapshot's kind and version, `dedupe/1`.
const FORM: &str = "conveyor.state";

/// What a snapshot holds.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Kind and version.
    pub(super) form: &'static str,
    /// Facts that are no rows.
    pub(super) facts: HashMap<String, String>,
    /// Columns of the rows.
    pub(super) schema: SchemaRef,
    /// The rows.
    pub(super) rows: Vec<RecordBatch>,
}

impl Snapshot {
    /// Writes the snapshot, compressed.
    ///
    /// # Errors
    /// If the columns cannot be written as Arrow IPC.
    pub(super) fn write(&self) -> Result<Bytes> {
        self.stream().map(Bytes::from).map_err(|e| {
            Error::runtime("state-not-written", format!("the state {} cannot be written", self.form))
                .because(e)
        })
    }

    fn stream(&self) -> Result<Vec<u8>, ArrowError> {
        let mut metadata = self.facts.clone();
        metadata.insert(FORM.to_owned(), self.form.to_owned());
        let schema = Arc::new(self.schema.as_ref().clone().with_metadata(metadata));
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options)?;
        for rows in &self.rows {
            writer.write(&rows.clone().with_schema(schema.clone())?)?;
        }
        writer.into_inner()
    }

    /// Reads a snapshot of this kind and version, with columns of these types.
    ///
    /// # Errors
    /// `state-form` if it is of another kind or version, or its columns are others; `state-damaged` if it is no snapshot.
    pub(super) fn read(bytes: &[u8], form: &'static str, schema: &SchemaRef) -> Result<Self> {
        let damaged = |e: ArrowError| {
            Error::new(Kind::Corrupt, "state-damaged", format!("the state {form} cannot be read")).because(e)
        };
        let reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(damaged)?;
        let found = reader.schema();
        let mut facts = found.metadata().clone();
        let written = facts.remove(FORM).unwrap_or_default();
        if written != form || !same_columns(&found, schema) {
            return Err(other_form(form, &written));
        }
        let plain = Arc::new(found.as_ref().clone().with_metadata(HashMap::new()));
        let rows = reader
            .map(|rows| rows.and_then(|rows| RecordBatch::try_new(plain.clone(), rows.columns().to_vec())))
            .collect::<Result<_, _>>()
            .map_err(damaged)?;
        Ok(Self { form, facts, schema: plain, rows })
    }
}

fn same_columns(a: &Schema, b: &Schema) -> bool {
    let columns =
        |s: &Schema| s.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect::<Vec<_>>();
    columns(a) == columns(b)
}

fn other_form(wanted: &str, written: &str) -> Error {
    let message = format!("the saved state is `{written}` or has other columns; this step needs `{wanted}`");
    Error::bad_input("state-form", message)
        .help("run the plan that wrote it, or give up the state of this step by a new name")
}
