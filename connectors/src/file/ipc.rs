//! Reads Arrow IPC files, a record batch at a time. A row's position is the number of its record batch times 2^32 plus
//! its number in the batch, which needs no pass over the batches before.
//!
//! Every length that the file declares is checked against the file, and what its compressed buffers declare against a
//! limit, before anything is allocated.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, MetadataVersion};
use async_trait::async_trait;
use conveyor_model::origin::RowIds;
use conveyor_model::{Error, Kind, Result};

use super::blocking::corrupt;
use super::chunks::get;
use super::columnar::Columns;
use super::guard::guarded;
use super::listing::SourceFile;
use super::parquet::{group, not_a};
use super::reader::{Next, SplitReader, Wanted};
use super::split::Split;

/// Length of the footer's length and the magic behind it.
const TRAILER: u64 = 10;
/// Most bytes that the buffers of one record batch may decompress to.
const MAX_BATCH: u64 = 1 << 30;

struct Footer {
    schema: SchemaRef,
    version: MetadataVersion,
    dictionaries: Vec<Block>,
    batches: Vec<Block>,
}

async fn footer(file: &SourceFile) -> Result<Footer> {
    let url = &*file.url;
    if file.size < TRAILER + 8 {
        return Err(not_a("an Arrow IPC file", url));
    }
    let trailer = get(file, file.size - TRAILER..file.size, false).await?;
    let trailer: [u8; 10] = trailer[..].try_into().map_err(|_| not_a("an Arrow IPC file", url))?;
    let length = read_footer_length(trailer).map_err(|e| not_a("an Arrow IPC file", url).because(e))? as u64;
    let end = file.size - TRAILER;
    if length > end {
        return Err(corrupt(url, "the footer claims to be longer than the file"));
    }
    let bytes = get(file, end - length..end, false).await?;
    guarded(url, || parse_footer(file, &bytes))
}

fn parse_footer(file: &SourceFile, bytes: &[u8]) -> Result<Footer> {
    let url = &*file.url;
    let footer = arrow_ipc::root_as_footer(bytes)
        .map_err(|e| corrupt(url, "the footer cannot be read").because(e.to_string()))?;
    let schema = footer.schema().ok_or_else(|| corrupt(url, "the footer has no schema"))?;
    if !schema.endianness().equals_to_target_endianness() {
        return Err(
            Error::bad_input("ipc-endianness", "the file was written with another byte order").in_split(url)
        );
    }
    let blocks = |list: Vec<&Block>| -> Result<Vec<Block>> {
        list.into_iter()
            .map(|b| {
                if fits(b, file.size) {
                    Ok(*b)
                } else {
                    Err(corrupt(url, "a block lies outside of the file"))
                }
            })
            .collect()
    };
    Ok(Footer {
        schema: Arc::new(arrow_ipc::convert::fb_to_schema(schema)),
        version: footer.version(),
        dictionaries: blocks(footer.dictionaries().into_iter().flatten().collect())?,
        batches: blocks(footer.recordBatches().into_iter().flatten().collect())?,
    })
}

fn range_of(block: &Block) -> Option<std::ops::Range<u64>> {
    let start = u64::try_from(block.offset()).ok()?;
    let metadata = u64::try_from(block.metaDataLength()).ok()?;
    let body = u64::try_from(block.bodyLength()).ok()?;
    Some(start..start.checked_add(metadata)?.checked_add(body)?)
}

fn fits(block: &Block, size: u64) -> bool {
    block.metaDataLength() > 8 && range_of(block).is_some_and(|r| r.end <= size)
}

async fn read_block(file: &SourceFile, block: &Block) -> Result<Buffer> {
    let range = range_of(block).ok_or_else(|| corrupt(&file.url, "a block lies outside of the file"))?;
    let bytes = get(file, range, false).await?;
    guarded(&file.url, || check_declared(&file.url, block, &bytes))?;
    Ok(Buffer::from(bytes))
}

/// Adds up what compressed buffers claim to hold: the decoder allocates that much before it looks.
fn check_declared(url: &str, block: &Block, bytes: &[u8]) -> Result<()> {
    let metadata = usize::try_from(block.metaDataLength()).unwrap_or(0).min(bytes.len());
    let (head, body) = bytes.split_at(metadata);
    let skip = if head.starts_with(&[0xff; 4]) { 8 } else { 4 };
    let message = arrow_ipc::root_as_message(head.get(skip..).unwrap_or_default())
        .map_err(|e| corrupt(url, "a block's header cannot be read").because(e.to_string()))?;
    let batch = message
        .header_as_record_batch()
        .or_else(|| message.header_as_dictionary_batch().and_then(|d| d.data()));
    let Some(batch) = batch.filter(|b| b.compression().is_some()) else { return Ok(()) };
    let mut total: u64 = 0;
    for buffer in batch.buffers().iter().flatten() {
        let declared =
            usize::try_from(buffer.offset()).ok().and_then(|at| body.get(at..)?.first_chunk::<8>());
        // -1 stands for "not compressed".
        let declared = declared.map_or(0, |d| i64::from_le_bytes(*d)).max(0);
        total = total.saturating_add(declared.unsigned_abs());
    }
    if total > MAX_BATCH {
        return Err(Error::new(
            Kind::BadInput,
            "decompression-limit",
            format!("one record batch claims to hold {total} bytes; at most {MAX_BATCH} are read"),
        )
        .in_split(url)
        .help("if the file is honest, write it with smaller batches"));
    }
    Ok(())
}

/// The file's own schema.
///
/// # Errors
/// `file-corrupt` if the footer cannot be read.
pub(crate) async fn schema(file: &Arc<SourceFile>) -> Result<Schema> {
    Ok(footer(file).await?.schema.as_ref().clone())
}

/// Splits of some record batches each, of about `range_bytes`.
///
/// # Errors
/// As [`schema`].
pub(crate) async fn splits(file: &Arc<SourceFile>, range_bytes: u64) -> Result<Vec<Split>> {
    let footer = footer(file).await?;
    let sizes = footer.batches.iter().map(|b| range_of(b).map_or(0, |r| r.end - r.start));
    let (starts, total) = group(sizes, range_bytes);
    Ok(Split::pieces(file, &starts, total))
}

/// Reads some record batches of a file.
pub(crate) struct IpcReader {
    file: Arc<SourceFile>,
    columns: Columns,
    decoder: FileDecoder,
    blocks: Vec<Block>,
    /// First block behind the split.
    end: usize,
    batch_rows: usize,
    /// The block being delivered, decoded.
    current: Option<RecordBatch>,
    block: usize,
    row: usize,
}

impl IpcReader {
    /// Opens a split at a position (0 means its start).
    ///
    /// # Errors
    /// `file-corrupt` if the footer or a dictionary cannot be read.
    pub(crate) async fn open(split: &Split, wanted: &Arc<Wanted>, from: u64) -> Result<Self> {
        let file = split.file.clone();
        let footer = footer(&file).await?;
        let columns = Columns::new(wanted, wanted.predicate.clone());
        let projection = columns.indices(&footer.schema);
        let mut decoder = FileDecoder::new(footer.schema.clone(), footer.version).with_projection(projection);
        for block in &footer.dictionaries {
            let bytes = read_block(&file, block).await?;
            guarded(&file.url, || {
                let read = decoder.read_dictionary(block, &bytes);
                read.map_err(|e| corrupt(&file.url, "a dictionary cannot be read").because(e))
            })?;
        }
        let all = footer.batches.len();
        let (start, end) = split.piece.map_or((0, all), |p| (p.start as usize, (p.end as usize).min(all)));
        let (block, row) = ((from >> 32) as usize, (from & u64::from(u32::MAX)) as usize);
        let (block, row) = if block < start { (start, 0) } else { (block, row) };
        Ok(Self {
            file,
            columns,
            decoder,
            blocks: footer.batches,
            end,
            batch_rows: wanted.batch_rows,
            current: None,
            block,
            row,
        })
    }

    fn place(&self) -> String {
        format!("record batch {}, row {}", self.block, self.row)
    }

    async fn decode(&mut self) -> Result<RecordBatch> {
        let block = self.blocks[self.block];
        let bytes = read_block(&self.file, &block).await?;
        let url = &self.file.url;
        let decoded = guarded(url, || {
            let batch = self.decoder.read_record_batch(&block, &bytes);
            batch.map_err(|e| corrupt(url, "a record batch cannot be read").because(e))
        })?;
        decoded.ok_or_else(|| corrupt(url, "a block holds no record batch"))
    }
}

#[async_trait]
impl SplitReader for IpcReader {
    async fn next(&mut self) -> Result<Next> {
        loop {
            if self.block >= self.end {
                return Ok(Next::End);
            }
            let (batch, bytes) = match self.current.take() {
                Some(batch) => (batch, 0),
                None => {
                    let batch = self.decode().await.map_err(|e| e.at_position(self.place()))?;
                    (batch, range_of(&self.blocks[self.block]).map_or(0, |r| r.end - r.start))
                }
            };
            let rows = batch.num_rows().saturating_sub(self.row).min(self.batch_rows);
            if rows == 0 {
                self.block += 1;
                self.row = 0;
                continue;
            }
            let ids = RowIds::Range { start: ((self.block as u64) << 32) + self.row as u64, len: rows };
            let piece = self.columns.piece(&batch.slice(self.row, rows), &ids, bytes)?;
            self.row += rows;
            if self.row < batch.num_rows() {
                self.current = Some(batch);
            } else {
                self.block += 1;
                self.row = 0;
            }
            return Ok(Next::Rows(piece));
        }
    }

    fn position(&self) -> u64 {
        ((self.block as u64) << 32) + self.row as u64
    }
}
