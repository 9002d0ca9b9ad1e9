//! Parquet bytes of dead letters.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use conveyor_model::{Epoch, Error, Kind, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::schema::{EPOCH, EVENT_TIME, FORMAT, FORMAT_KEY, MESSAGE, POSITION, RAW, ROW_JSON, schema};

/// One Parquet file with these rows.
pub(crate) fn encode(batches: &[RecordBatch], schema: SchemaRef) -> Result<Bytes> {
    let failed = |e: ParquetError| {
        Error::runtime("dead-letter-encoding", "dead letters cannot be written as Parquet").because(e)
    };
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_owned())]));
    // Values that hardly repeat: a dictionary would be built and thrown away.
    for column in [POSITION, MESSAGE, RAW, ROW_JSON, EVENT_TIME] {
        properties = properties.set_column_dictionary_enabled(column.into(), false);
    }
    // Without Arrow's own schema in it the file has plain Parquet types, which every reader knows.
    let options =
        ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    Ok(writer.into_inner().map_err(failed)?.into())
}

/// The rows of a dead-letter file, in the columns `only` (all without it), with the epoch that the file's name says.
pub(crate) fn decode_letters(
    place: &str,
    bytes: Bytes,
    epoch: Epoch,
    only: Option<&[&str]>,
) -> Result<Vec<RecordBatch>> {
    let batches = decode(place, bytes, schema(), only)?;
    let fill = |batch: RecordBatch| -> Result<RecordBatch> {
        let Some((at, _)) = batch.schema_ref().column_with_name(EPOCH) else { return Ok(batch) };
        let mut columns = batch.columns().to_vec();
        let number = epoch.0.try_into().unwrap_or(i64::MAX);
        columns[at] = Arc::new(Int64Array::from_value(number, batch.num_rows())) as ArrayRef;
        RecordBatch::try_new(batch.schema(), columns)
            .map_err(|e| damaged(place, "has other columns").because(e))
    };
    batches.into_iter().map(fill).collect()
}

/// The rows of a Parquet file with this schema.
pub(crate) fn decode(
    place: &str,
    bytes: Bytes,
    schema: SchemaRef,
    only: Option<&[&str]>,
) -> Result<Vec<RecordBatch>> {
    let unreadable = |e: ParquetError| damaged(place, "cannot be read").because(e);
    let known = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(unreadable)?;
    let pairs = known.metadata().file_metadata().key_value_metadata();
    let format =
        pairs.and_then(|p| p.iter().find(|kv| kv.key == FORMAT_KEY)).and_then(|kv| kv.value.as_deref());
    if format != Some(FORMAT) {
        let why = format!("has the unknown format version {}", format.unwrap_or("none"));
        return Err(
            damaged(place, &why).help("it was written by another version of conveyor, or by something else")
        );
    }
    let options = ArrowReaderOptions::new().with_schema(schema);
    let mut reader =
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(unreadable)?;
    if let Some(only) = only {
        let mask = ProjectionMask::columns(reader.parquet_schema(), only.iter().copied());
        reader = reader.with_projection(mask);
    }
    let batches = reader.build().map_err(unreadable)?;
    batches.collect::<Result<_, _>>().map_err(|e| damaged(place, "cannot be read").because(e))
}

fn damaged(place: &str, why: &str) -> Error {
    Error::new(Kind::Corrupt, "dead-letters-damaged", format!("a file of dead letters {why}")).in_split(place)
}
