//! Reads Avro object container files, from their start to their end. A row's position is its number in the file.

use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow_avro::reader::{Reader, ReaderBuilder};
use async_trait::async_trait;
use conveyor_model::Result;
use conveyor_model::origin::RowIds;

use super::blocking::{Blocking, ChunkRead, Deliver, corrupt};
use super::chunks::{Chunks, get};
use super::columnar::Columns;
use super::listing::SourceFile;
use super::parquet::not_a;
use super::reader::{Next, SplitReader, Wanted};
use super::split::Split;

/// Length of the marker between blocks, with which a whole file ends.
const MARKER: u64 = 16;

/// Longest time in which the decoder may neither deliver rows nor take in bytes. It can spin for ever in a block whose
/// rows are fewer than its bytes say; a store that is silent for so long has failed too.
const STALL: Duration = Duration::from_secs(20);

enum Item {
    Schema(Schema),
    Rows(RecordBatch),
}

/// Starts to decode a file on a thread: its schema first, then its rows.
async fn start(file: &Arc<SourceFile>, batch_rows: usize) -> Result<Blocking<Item>> {
    if file.size < MARKER {
        return Err(not_a("an Avro file", &file.url));
    }
    // The decoder takes a block that is cut off for the end of the file; a whole file ends with the marker.
    let tail = get(file, file.size - MARKER..file.size, false).await?;
    let chunks = Chunks::new(file.clone(), 0, file.size, file.size, false);
    let url = file.url.clone();
    Ok(Blocking::spawn(file.url.clone(), chunks, move |mut reader, out| {
        if let Err(e) = pump(&mut reader, batch_rows, &tail, &url, out) {
            out.send(Err(reader.take_error().unwrap_or(e)));
        }
    }))
}

fn pump(
    reader: &mut ChunkRead,
    batch_rows: usize,
    tail: &[u8],
    url: &str,
    out: &Deliver<Item>,
) -> Result<()> {
    let broken = |e: ArrowError| corrupt(url, "the Avro data cannot be read on").because(e);
    let builder = ReaderBuilder::new().with_batch_size(batch_rows).with_utf8_view(true);
    let mut avro: Reader<_> = builder.build(BufReader::with_capacity(128 << 10, reader)).map_err(broken)?;
    if !out.send(Ok(Item::Schema(avro.schema().as_ref().clone()))) {
        return Ok(());
    }
    let whole = avro.avro_header().sync() == *tail;
    for batch in &mut avro {
        if !out.send(Ok(Item::Rows(batch.map_err(broken)?))) {
            return Ok(());
        }
    }
    match whole {
        true => Ok(()),
        false => Err(corrupt(url, "the last block of the Avro file is cut off")),
    }
}

/// The file's own schema.
///
/// # Errors
/// `file-corrupt` if the header cannot be read.
pub(crate) async fn schema(file: &Arc<SourceFile>) -> Result<Schema> {
    match start(file, 1).await?.next().await {
        Some(Ok(Item::Schema(schema))) => Ok(schema),
        Some(Err(e)) => Err(e),
        _ => Err(not_a("an Avro file", &file.url)),
    }
}

/// Reads one file.
pub(crate) struct AvroReader {
    file: Arc<SourceFile>,
    columns: Columns,
    batch_rows: usize,
    stream: Option<Blocking<Item>>,
    /// Rows decoded so far.
    decoded: u64,
    /// Next row to deliver.
    next: u64,
    reported: u64,
}

impl AvroReader {
    /// Opens a file at row `from`; the rows before are decoded and dropped.
    pub(crate) fn open(split: &Split, wanted: &Arc<Wanted>, from: u64) -> Self {
        Self {
            file: split.file.clone(),
            columns: Columns::new(wanted, wanted.predicate.clone()),
            batch_rows: wanted.batch_rows,
            stream: None,
            decoded: 0,
            next: from,
            reported: 0,
        }
    }
}

#[async_trait]
impl SplitReader for AvroReader {
    async fn next(&mut self) -> Result<Next> {
        if self.stream.is_none() {
            self.stream = Some(start(&self.file, self.batch_rows).await?);
        }
        let Some(stream) = &mut self.stream else { return Ok(Next::End) };
        loop {
            let before = stream.bytes();
            let item = match tokio::time::timeout(STALL, stream.next()).await {
                Ok(item) => item,
                Err(_) if stream.bytes() != before => continue,
                Err(_) => {
                    let stalled = corrupt(
                        &self.file.url,
                        "the Avro data cannot be read on: its decoder makes no progress",
                    );
                    return Err(stalled.at_position(format!("row {}", self.decoded)));
                }
            };
            let batch = match item {
                Some(Ok(Item::Rows(batch))) => batch,
                Some(Ok(Item::Schema(_))) => continue,
                Some(Err(e)) => return Err(e.at_position(format!("row {}", self.decoded))),
                None if self.file.same(&self.file.now().await?) => return Ok(Next::End),
                None => return Err(super::store::file_changed(&self.file.url)),
            };
            let start = self.decoded;
            self.decoded += batch.num_rows() as u64;
            if self.decoded <= self.next {
                continue;
            }
            let skip = usize::try_from(self.next - start).unwrap_or(0);
            let rows = batch.slice(skip, batch.num_rows() - skip);
            let ids = RowIds::Range { start: self.next, len: rows.num_rows() };
            self.next = self.decoded;
            let bytes = stream.bytes() - std::mem::replace(&mut self.reported, stream.bytes());
            return Ok(Next::Rows(self.columns.piece(&rows, &ids, bytes)?));
        }
    }

    fn position(&self) -> u64 {
        self.next
    }
}
