//! Reads Parquet: only the wanted columns, only row groups and pages that may match, and within them exactly the rows
//! that do. A row's position is its number in the file.

mod pages;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use bytes::Bytes;
use conveyor_model::origin::RowIds;
use conveyor_model::predicate::Predicate;
use conveyor_model::{Error, Result};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, RowFilter, RowSelection,
};
use parquet::arrow::async_reader::{
    AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder,
};
use parquet::arrow::{ProjectionMask, RowNumber};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

use super::blocking::corrupt;
use super::chunks::get;
use super::columnar::{Columns, canonical};
use super::guard::{guarded, guarded_async};
use super::listing::SourceFile;
use super::prune;
use super::reader::{Next, Piece, SplitReader, Wanted};
use super::split::Split;
use super::store::file_changed;
use crate::predicate::evaluate;

/// Name of the column that counts rows; no file can have it, for names hold no NUL.
const ROW: &str = "\0row";
/// Most bytes that a page may hold. Writers end a page after a megabyte or so, unless one value is larger.
const PAGE_BYTES: u64 = 256 << 20;

/// A file as the Parquet library reads it: only what was listed, and nothing behind its end.
struct Ranges {
    file: Arc<SourceFile>,
    /// Where pages are read: first bytes of the columns that gzip packed, and first bytes behind them.
    gzip: Option<Vec<Range<u64>>>,
}

impl AsyncFileReader for Ranges {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let file = &self.file;
        let gzip = self.gzip.as_ref().map(|all| all.iter().any(|r| r.contains(&range.start)));
        async move {
            if range.start > range.end || range.end > file.size {
                let outside = format!("bytes {}..{} lie outside of the file", range.start, range.end);
                return Err(ParquetError::General(outside));
            }
            let bytes = get(file, range, false).await.map_err(|e| ParquetError::External(Box::new(e)))?;
            match gzip.map_or(Ok(()), |gzip| pages::check(&bytes, gzip)) {
                Ok(()) => Ok(bytes),
                Err(size) => Err(ParquetError::External(Box::new(page_too_large(&file.url, size)))),
            }
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.file.size;
        async move {
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}

fn page_too_large(url: &str, size: u64) -> Error {
    let message = format!("a page becomes {size} bytes or more; at most {PAGE_BYTES} are unpacked");
    Error::bad_input("decompression-limit", message)
        .in_split(url)
        .help("if the file is honest, write it with smaller pages")
}

/// The columns of a file that gzip packed.
fn gzip_columns(metadata: &ParquetMetaData) -> Vec<Range<u64>> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    let gzip = columns.filter(|column| matches!(column.compression(), Compression::GZIP(_)));
    gzip.map(|column| {
        let (start, length) = column.byte_range();
        start..start.saturating_add(length)
    })
    .collect()
}

/// The store's own error if that is what stopped the decoder, `file-corrupt` otherwise.
fn broken(url: &str, message: &str, e: ParquetError) -> Error {
    match e {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => corrupt(url, message).because(other),
        },
        e => corrupt(url, message).because(e),
    }
}

/// Reads the footer. A decoder's panic on hostile bytes is an error like any other.
async fn footer(file: &Arc<SourceFile>, options: ArrowReaderOptions) -> Result<ArrowReaderMetadata> {
    let mut reader = Ranges { file: file.clone(), gzip: None };
    let read = guarded_async(&file.url, ArrowReaderMetadata::load_async(&mut reader, options)).await?;
    read.map_err(|e| broken(&file.url, "the file is not whole Parquet: its footer cannot be read", e))
}

/// The file's own schema.
///
/// # Errors
/// `file-corrupt` if the footer cannot be read.
pub(crate) async fn schema(file: &Arc<SourceFile>) -> Result<Schema> {
    Ok(footer(file, ArrowReaderOptions::new()).await?.schema().as_ref().clone())
}

/// Splits of some row groups each, of about `range_bytes`.
///
/// # Errors
/// As [`schema`].
pub(crate) async fn splits(file: &Arc<SourceFile>, range_bytes: u64) -> Result<Vec<Split>> {
    let metadata = footer(file, ArrowReaderOptions::new()).await?;
    let sizes =
        metadata.metadata().row_groups().iter().map(|g| u64::try_from(g.compressed_size()).unwrap_or(0));
    let (starts, total) = group(sizes, range_bytes);
    Ok(Split::pieces(file, &starts, total))
}

/// Where to cut a row of units so that each piece is at least `least` long; also the number of units.
pub(crate) fn group(sizes: impl Iterator<Item = u64>, least: u64) -> (Vec<u64>, u64) {
    let (mut starts, mut size, mut total) = (vec![0], 0, 0);
    for bytes in sizes {
        if size >= least {
            starts.push(total);
            size = 0;
        }
        size += bytes;
        total += 1;
    }
    (starts, total)
}

/// Text as views from the start, instead of a copy afterwards.
fn with_views(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| match f.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => {
            Arc::new(f.as_ref().clone().with_data_type(DataType::Utf8View))
        }
        _ => f.clone(),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

/// Reads some row groups of a file.
pub(crate) struct ParquetReader {
    split: Split,
    columns: Columns,
    stream: Option<ParquetRecordBatchStream<Ranges>>,
    /// Next row of the file.
    next: u64,
    /// First row behind the split.
    end: u64,
    /// Whether the stream leaves rows out.
    filtered: bool,
    bytes_per_row: f64,
}

impl ParquetReader {
    /// Opens a split at row `from` of the file (or at its start).
    ///
    /// # Errors
    /// `file-corrupt` if the footer cannot be read.
    pub(crate) async fn open(split: &Split, wanted: &Arc<Wanted>, from: u64) -> Result<Self> {
        let file = &split.file;
        let policy =
            if wanted.predicate.all.is_empty() { PageIndexPolicy::Skip } else { PageIndexPolicy::Optional };
        let plain = ArrowReaderOptions::new().with_page_index_policy(policy);
        let found = footer(file, plain.clone()).await?;
        guarded(&file.url, || Self::plan(split, wanted, from, plain, &found))
    }

    /// What to read, by the footer.
    fn plan(
        split: &Split,
        wanted: &Wanted,
        from: u64,
        plain: ArrowReaderOptions,
        found: &ArrowReaderMetadata,
    ) -> Result<Self> {
        let file = &split.file;
        let number = Arc::new(Field::new(ROW, DataType::Int64, false).with_extension_type(RowNumber));
        let bad = |e| broken(&file.url, "the file's schema cannot be used", e);
        let options = plain.with_virtual_columns(vec![number]).map_err(bad)?;
        let views = options.clone().with_schema(with_views(found.schema()));
        let metadata = ArrowReaderMetadata::try_new(found.metadata().clone(), views)
            .or_else(|_| ArrowReaderMetadata::try_new(found.metadata().clone(), options))
            .map_err(bad)?;

        // The format filters by itself where its types mean the same as the planned ones.
        let exact = wanted.predicate.all.iter().all(|c| same_type(found, wanted, c.column()));
        let (inside, after) = match exact {
            true => (wanted.predicate.clone(), Predicate::default()),
            false => (Predicate::default(), wanted.predicate.clone()),
        };
        let columns = Columns::new(wanted, after);
        let all = found.metadata().row_groups();
        let first_rows = first_rows(found);
        let groups = split.piece.map_or(0..all.len(), |p| p.start as usize..(p.end as usize).min(all.len()));
        let start = first_rows.get(groups.start).copied().unwrap_or(0).max(from);
        let end = first_rows.get(groups.end).copied().unwrap_or(start);
        let left: Vec<usize> = groups.filter(|&g| first_rows[g + 1] > start).collect();
        let kept = prune::groups(found, &inside, left);
        if !kept.iter().all(|&group| prune::index_in_order(found, group)) {
            return Err(corrupt(&file.url, "the page index does not fit the rows of its row group"));
        }
        let ranges = selected(found, &inside, &kept, &first_rows, start);
        let total = kept.iter().map(|&g| (first_rows[g + 1] - first_rows[g]) as usize).sum();

        let bytes = Ranges { file: file.clone(), gzip: Some(gzip_columns(found.metadata())) };
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(bytes, metadata);
        let roots = columns.indices(found.schema());
        let mut builder = builder
            .with_batch_size(wanted.batch_rows)
            .with_row_groups(kept)
            .with_row_selection(RowSelection::from_consecutive_ranges(ranges.into_iter(), total))
            .with_projection(ProjectionMask::roots(found.parquet_schema(), roots));
        if !inside.all.is_empty() {
            builder = builder.with_row_filter(filter(found, wanted, &inside));
        }
        let rows = end.saturating_sub(start).max(1);
        Ok(Self {
            split: split.clone(),
            columns,
            stream: Some(builder.build().map_err(bad)?),
            next: start,
            end,
            filtered: !inside.all.is_empty(),
            bytes_per_row: split.bytes() as f64 / rows as f64,
        })
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Piece> {
        let lost =
            || corrupt(&self.split.file.url, "the decoder lost count of the rows").at_position(self.next);
        let numbers =
            batch.column_by_name(ROW).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(lost)?;
        let at: ScalarBuffer<u64> = numbers.values().iter().map(|&n| n.unsigned_abs()).collect();
        let behind = at.last().map_or(self.next, |last| last + 1);
        let passed = behind.saturating_sub(self.next);
        let bytes = (passed as f64 * self.bytes_per_row) as u64;
        let ids = match self.filtered {
            true => RowIds::Listed { at, sub: None },
            false => RowIds::Range { start: at.first().copied().unwrap_or(self.next), len: at.len() },
        };
        let left_out = passed.saturating_sub(batch.num_rows() as u64);
        self.next = behind;
        let mut piece = self.columns.piece(batch, &ids, bytes)?;
        piece.pruned += left_out;
        Ok(piece)
    }

    /// The rows behind the last one that matched, if any.
    async fn rest(&mut self) -> Result<Next> {
        if !self.split.file.same(&self.split.file.now().await?) {
            return Err(file_changed(&self.split.file.url));
        }
        if self.next >= self.end {
            return Ok(Next::End);
        }
        if !self.filtered {
            let fewer = corrupt(&self.split.file.url, "the file holds fewer rows than its footer says");
            return Err(fewer.at_position(format!("row {}", self.next)));
        }
        let left = self.end - self.next;
        self.next = self.end;
        let empty = self.columns.empty();
        let bytes = (left as f64 * self.bytes_per_row) as u64;
        let ids = RowIds::Range { start: self.end, len: 0 };
        Ok(Next::Rows(Piece { rows: empty, ids, rejected: Vec::new(), pruned: left, bytes }))
    }
}

#[async_trait]
impl SplitReader for ParquetReader {
    async fn next(&mut self) -> Result<Next> {
        let Some(stream) = &mut self.stream else { return self.rest().await };
        let place = |e: Error| e.at_position(format!("row {}", self.next));
        match guarded_async(&self.split.file.url, stream.next()).await.map_err(place)? {
            Some(Ok(batch)) => Ok(Next::Rows(self.rows(&batch)?)),
            None => {
                self.stream = None;
                self.rest().await
            }
            Some(Err(e)) => Err(place(broken(&self.split.file.url, "the Parquet data cannot be read on", e))),
        }
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// First row of each row group, and the number of rows of the file at the end.
fn first_rows(metadata: &ArrowReaderMetadata) -> Vec<u64> {
    let mut rows = vec![0];
    for group in metadata.metadata().row_groups() {
        let before: u64 = rows.last().copied().unwrap_or(0);
        rows.push(before.saturating_add(u64::try_from(group.num_rows()).unwrap_or(0)));
    }
    rows
}

/// Whether a column of the file is what the plan thinks without a conversion that could fail.
fn same_type(found: &ArrowReaderMetadata, wanted: &Wanted, column: &str) -> bool {
    match (found.schema().field_with_name(column), wanted.full_schema.field_with_name(column)) {
        (Ok(file), Ok(planned)) => &canonical(file.data_type()) == planned.data_type(),
        _ => false,
    }
}

/// The rows to read, numbered through the kept row groups.
fn selected(
    metadata: &ArrowReaderMetadata,
    predicate: &Predicate,
    kept: &[usize],
    first_rows: &[u64],
    start: u64,
) -> Vec<Range<usize>> {
    let mut before = 0;
    let mut ranges = Vec::new();
    for &group in kept {
        let rows = first_rows[group + 1] - first_rows[group];
        let left = start.saturating_sub(first_rows[group])..rows;
        let pages = prune::pages(metadata, predicate, group);
        for range in prune::intersect(&pages, std::slice::from_ref(&left)) {
            ranges.push((before + range.start) as usize..(before + range.end) as usize);
        }
        before += rows;
    }
    ranges
}

fn filter(found: &ArrowReaderMetadata, wanted: &Wanted, predicate: &Predicate) -> RowFilter {
    let roots = predicate.all.iter().filter_map(|c| found.schema().index_of(c.column()).ok());
    let mask = ProjectionMask::roots(found.parquet_schema(), roots);
    let (predicate, planned) = (predicate.clone(), wanted.full_schema.clone());
    let test = move |batch: RecordBatch| -> Result<BooleanArray, ArrowError> {
        let mut columns = Vec::new();
        for field in batch.schema().fields() {
            if let (Ok(planned), Some(column)) =
                (planned.field_with_name(field.name()), batch.column_by_name(field.name()))
            {
                let column = arrow::compute::cast(column, planned.data_type())?;
                columns.push((field.name().clone(), column));
            }
        }
        let typed = RecordBatch::try_from_iter(columns)?;
        evaluate(&predicate, &typed).map_err(|e| ArrowError::ComputeError(e.to_string()))
    };
    RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, test))])
}

/// An error for a file of another format; shared by the columnar readers.
pub(crate) fn not_a(format: &str, url: &str) -> Error {
    corrupt(
        url,
        &format!("the file does not begin and end as {format} does: it is another format, or cut off"),
    )
}
