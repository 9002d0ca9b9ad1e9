//! What reads one split, whatever its format.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;
use conveyor_model::origin::RowIds;
use conveyor_model::predicate::Predicate;

use super::config::{FileFormat, SourceConfig};
use super::follow::Tail;
use super::split::Split;
use super::{avro, ipc, parquet, text};

/// A record that could not become a row.
#[derive(Debug)]
pub(crate) struct BadRecord {
    /// Byte offset or row number.
    pub(crate) at: u64,
    /// Why.
    pub(crate) error: RowError,
    /// What stands there.
    pub(crate) bytes: Vec<u8>,
}

/// Rows of one read.
pub(crate) struct Piece {
    /// The rows, projected.
    pub(crate) rows: RecordBatch,
    /// Their positions.
    pub(crate) ids: RowIds,
    /// Records that could not become rows.
    pub(crate) rejected: Vec<BadRecord>,
    /// Rows left out by the predicate.
    pub(crate) pruned: u64,
    /// Bytes read for it.
    pub(crate) bytes: u64,
}

/// What a reader says.
pub(crate) enum Next {
    /// Rows.
    Rows(Piece),
    /// Nothing for now; only from a file that may grow.
    Wait,
    /// The split is read to its end.
    End,
}

/// Reads one split from a position on.
#[async_trait]
pub(crate) trait SplitReader: Send {
    /// The next rows.
    ///
    /// # Errors
    /// When the file cannot be read on.
    async fn next(&mut self) -> Result<Next>;

    /// Where to go on after what was delivered.
    fn position(&self) -> u64;

    /// The file now has `size` bytes, more than before.
    fn grown(&mut self, _size: u64) {}

    /// The last bytes before [`SplitReader::position`], of a file that may grow.
    fn tail(&self) -> Option<Tail> {
        None
    }

    /// The file that grew is no longer the one of this name: reads what is left of it, then ends. False if nothing can be
    /// left, because it was cut.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    async fn finish(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// Ends where the file ends now.
    fn grows_no_more(&mut self) {}
}

/// What all readers of a source are asked for.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// Full schema as planned.
    pub(crate) full_schema: SchemaRef,
    /// Columns to deliver, in this order.
    pub(crate) projection: Vec<String>,
    /// Schema of those.
    pub(crate) schema: SchemaRef,
    /// Only rows for which this is true.
    pub(crate) predicate: Predicate,
    /// Rows to aim at.
    pub(crate) batch_rows: usize,
    /// Streaming with `follow`.
    pub(crate) grows: bool,
}

/// Opens the reader of a split at a position (0 at first).
///
/// # Errors
/// `BadInput` if the file is not what its format says.
pub(crate) async fn open(
    split: &Split,
    config: &SourceConfig,
    wanted: &Arc<Wanted>,
    from: Option<u64>,
) -> Result<Box<dyn SplitReader>> {
    match config.format_of(&split.file.url)? {
        FileFormat::Text(format, compression) => {
            Ok(Box::new(text::TextReader::open(split, config, wanted, &format, compression, from)?))
        }
        FileFormat::Parquet => {
            Ok(Box::new(parquet::ParquetReader::open(split, wanted, from.unwrap_or(0)).await?))
        }
        FileFormat::Ipc => Ok(Box::new(ipc::IpcReader::open(split, wanted, from.unwrap_or(0)).await?)),
        FileFormat::Avro => {
            Ok(Box::new(avro::AvroReader::open(split, wanted, from.unwrap_or(0), config.limits())))
        }
    }
}

/// The splits of a file.
///
/// # Errors
/// When a columnar file's footer cannot be read.
pub(crate) async fn splits(
    file: &Arc<super::listing::SourceFile>,
    config: &SourceConfig,
    one: bool,
) -> Result<Vec<Split>> {
    if one || file.size <= config.range_bytes {
        return Ok(vec![Split::whole(file)]);
    }
    match config.format_of(&file.url)? {
        FileFormat::Text(format, super::decompress::Compression::None) if format.ranges() => {
            Ok(Split::ranges(file, config.range_bytes))
        }
        FileFormat::Text(..) | FileFormat::Avro => Ok(vec![Split::whole(file)]),
        FileFormat::Parquet => parquet::splits(file, config.range_bytes).await,
        FileFormat::Ipc => ipc::splits(file, config.range_bytes).await,
    }
}
