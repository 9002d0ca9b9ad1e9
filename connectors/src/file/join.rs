//! One columnar file made of parts. Unlike text, parts of Parquet, IPC and Avro cannot be put behind each other: their rows
//! are read again and written into one file. At most one part is in memory at a time.

use std::fs::File;
use std::io::{BufReader, Cursor};

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_avro::reader::ReaderBuilder;
use arrow_ipc::reader::FileReader;
use bytes::Bytes;
use conveyor_model::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::task::spawn_blocking;

use super::sink_config::{Encoding, SinkPlan};
use super::target::{Pieces, Target};
use crate::format::Encoder;

/// Rows of one batch of a part.
const BATCH_ROWS: usize = 8192;

/// A part of ours.
pub(crate) enum Part {
    /// On the local file system.
    File(File),
    /// From an object store.
    Bytes(Bytes),
}

type Batches = Box<dyn Iterator<Item = std::result::Result<RecordBatch, ArrowError>>>;

fn batches(part: Part, encoding: &Encoding) -> std::result::Result<Batches, ArrowError> {
    Ok(match (encoding, part) {
        (Encoding::Parquet(_), Part::File(file)) => {
            Box::new(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build()?)
        }
        (Encoding::Parquet(_), Part::Bytes(bytes)) => {
            Box::new(ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(BATCH_ROWS).build()?)
        }
        (Encoding::Ipc(_), Part::File(file)) => Box::new(FileReader::try_new_buffered(file, None)?),
        (Encoding::Ipc(_), Part::Bytes(bytes)) => Box::new(FileReader::try_new(Cursor::new(bytes), None)?),
        (_, Part::File(file)) => {
            Box::new(ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(BufReader::new(file))?)
        }
        (_, Part::Bytes(bytes)) => {
            Box::new(ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(Cursor::new(bytes))?)
        }
    })
}

/// Columns by name, in the types in which the sink writes them.
fn fitting(rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| {
        let column = rows.column_by_name(field.name());
        let column =
            column.ok_or_else(|| ArrowError::SchemaError(format!("no column `{}`", field.name())))?;
        cast(column, field.data_type())
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<std::result::Result<_, _>>()?)
}

fn encode(
    part: Part,
    name: &str,
    plan: &SinkPlan,
    encoder: &mut dyn Encoder,
    out: &mut Vec<u8>,
) -> Result<()> {
    let unread = |e: ArrowError| {
        Error::runtime("part-unreadable", "a part of the one file cannot be read").because(e).in_split(name).help(
            "a part that an earlier run left has other columns, or was changed: move it away, or write to another path",
        )
    };
    for rows in batches(part, &plan.encoding).map_err(unread)? {
        let rows = fitting(&rows.map_err(unread)?, &plan.file_schema).map_err(unread)?;
        let refused = encoder.encode(&rows, out)?;
        if let Some((_, error)) = refused.first() {
            return Err(Error::runtime("part-refused", format!("rows of a part are refused: {error:?}"))
                .in_split(name));
        }
    }
    Ok(())
}

/// Writes the rows of `parts` into one object `to`, which appears whole or not at all.
///
/// # Errors
/// When a part cannot be read or the target cannot be written.
pub(crate) async fn join(
    target: &Target,
    plan: &SinkPlan,
    parts: &[String],
    scratch: &str,
    to: &str,
) -> Result<()> {
    if let [_] = parts {
        // A whole file already.
        let whole = Pieces { parts: parts.to_vec(), ..Pieces::default() };
        return target.concatenate(whole, scratch, to).await;
    }
    // An object appears when it is complete, a local file when it is renamed.
    let fresh = if target.is_local() { scratch } else { to };
    target.delete(scratch).await?;
    let mut writer = target.create(fresh).await?;
    let mut encoder = super::encode::encoder(plan, true)?;
    let mut buffer = Vec::new();
    for name in parts {
        let part = target.part(name).await?;
        let (plan, shown) = (plan.clone(), target.display(name));
        let work = move || {
            encode(part, &shown, &plan, &mut *encoder, &mut buffer)?;
            Ok::<_, Error>((encoder, buffer))
        };
        let stopped = |e| Error::runtime("write-stopped", "file work was stopped").because(e);
        (encoder, buffer) = spawn_blocking(work).await.map_err(stopped)??;
        writer.write(&mut buffer).await?;
    }
    encoder.finish(&mut buffer)?;
    writer.write(&mut buffer).await?;
    writer.finish().await?;
    fail::fail_point!("file-join-before-rename");
    if fresh != to {
        target.rename(fresh, to).await?;
    }
    fail::fail_point!("file-join-after-rename");
    target.sync(to.rsplit_once('/').map_or("", |(folder, _)| folder)).await
}
