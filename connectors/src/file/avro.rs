//! Reads Avro object container files, from their start to their end. A row's position is its number in the file.
//!
//! The decoder is never handed what was not checked: [`container`] checks the frame of each block and decompresses it,
//! [`shape`] walks over its records, and only whole records of known number and length go on.

mod container;
mod shape;

use std::io::{BufReader, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow_avro::reader::ReaderBuilder;
use async_trait::async_trait;
use conveyor_model::Result;
use conveyor_model::origin::RowIds;

use self::container::{Container, MARKER, MAX_BLOCK};
use self::shape::{Bytes, Shape};
use super::blocking::{Blocking, ChunkRead, Deliver, corrupt};
use super::chunks::Chunks;
use super::columnar::Columns;
use super::decompress::Limits;
use super::listing::SourceFile;
use super::parquet::not_a;
use super::reader::{Next, SplitReader, Wanted};
use super::split::Split;

/// Memory that decoded rows of one batch take, about, unless one row alone takes more.
const BATCH_BYTES: u64 = 16 << 20;

/// What the thread delivers.
enum Item {
    Schema(Schema),
    /// Number of the first row, and the rows.
    Rows(u64, RecordBatch),
}

/// What to read of a file.
#[derive(Clone, Copy)]
struct Part {
    /// First row wanted.
    from: u64,
    batch_rows: usize,
    limits: Limits,
}

/// Starts to decode a file on a thread: its schema first, then its rows.
fn start(file: &Arc<SourceFile>, part: Part) -> Blocking<Item> {
    let chunks = Chunks::new(file.clone(), 0, file.size, file.size, false);
    let (url, size) = (file.url.clone(), file.size);
    Blocking::spawn(file.url.clone(), chunks, move |mut reader, out| {
        if let Err(e) = pump(&mut reader, &url, size, part, out) {
            out.send(Err(reader.take_error().unwrap_or(e)));
        }
    })
}

fn pump(reader: &mut ChunkRead, url: &Arc<str>, size: u64, part: Part, out: &Deliver<Item>) -> Result<()> {
    let mut file = Container::open(BufReader::with_capacity(128 << 10, reader), url, size, part.limits)?;
    let unusable = |why: String| corrupt(url, "the file's schema cannot be used").because(why);
    let shape = Shape::parse(&file.schema).map_err(unusable)?;
    let decoder = Decoder::new(&file.schema);
    let schema = decoder.schema().map_err(|e| unusable(e.to_string()))?;
    if !out.send(Ok(Item::Schema(schema))) {
        return Ok(());
    }
    let mut rows = Rows { decoder, url, part, out, next: part.from, held: Vec::new(), count: 0, cost: 0 };
    let mut number = 0;
    loop {
        let block = match file.block() {
            Ok(Some(block)) => block,
            Ok(None) => return rows.flush().map(drop),
            Err(e) => return rows.flush().and(Err(e)),
        };
        let (at, records) = (block.at, block.records);
        let behind = records.saturating_add(number);
        // A block that was read before need not be decompressed again.
        let go_on = behind <= part.from
            || match file.records(block) {
                Ok(bytes) => rows.take(&shape, &bytes, records, number, at)?,
                Err(e) => return rows.flush().and(Err(e)),
            };
        if !go_on {
            return Ok(());
        }
        number = behind;
    }
}

/// Checked records that wait to become a batch.
struct Rows<'a> {
    decoder: Decoder,
    url: &'a Arc<str>,
    part: Part,
    out: &'a Deliver<Item>,
    /// Number of the first record held, or of the next one.
    next: u64,
    held: Vec<u8>,
    count: usize,
    cost: u64,
}

impl Rows<'_> {
    /// Takes the records of a block, of which the first is number `first`. Returns whether anybody still listens.
    fn take(&mut self, shape: &Shape, bytes: &[u8], records: u64, first: u64, at: u64) -> Result<bool> {
        let damaged = |message: String| corrupt(self.url, &message);
        if records > bytes.len() as u64 {
            let claim = format!("a block says to hold {records} records in {} bytes", bytes.len());
            let claim = damaged(claim).at_position(format!("byte {at}"));
            return self.flush().and(Err(claim));
        }
        let mut rest = Bytes::new(bytes);
        // Where the records begin that are not held yet.
        let mut begin = 0;
        for number in first..first + records {
            let left = rest.left();
            let cost = match shape.walk(&mut rest, MAX_BLOCK) {
                Ok(cost) => cost,
                Err(why) => {
                    let error = damaged(format!("a record of the Avro file cannot be read: {why}"));
                    self.held.extend_from_slice(&bytes[begin..bytes.len() - left as usize]);
                    return self.flush().and(Err(error.at_position(format!("row {number}"))));
                }
            };
            let end = bytes.len() - rest.left() as usize;
            if number < self.part.from {
                begin = end;
                continue;
            }
            self.count += 1;
            self.cost += cost;
            if self.count >= self.part.batch_rows || self.cost >= BATCH_BYTES {
                self.held.extend_from_slice(&bytes[begin..end]);
                begin = end;
                if !self.flush()? {
                    return Ok(false);
                }
            }
        }
        self.held.extend_from_slice(&bytes[begin..bytes.len() - rest.left() as usize]);
        match rest.left() {
            0 => Ok(true),
            left => {
                let error = damaged(format!("a block holds {left} bytes behind its {records} records"));
                self.flush().and(Err(error.at_position(format!("byte {at}"))))
            }
        }
    }

    /// Decodes and delivers what is held. Returns whether anybody still listens.
    fn flush(&mut self) -> Result<bool> {
        if self.count == 0 {
            return Ok(true);
        }
        let broken = |e: ArrowError| {
            corrupt(self.url, "the Avro data cannot be read on")
                .because(e)
                .at_position(format!("row {}", self.next))
        };
        let rows = self.decoder.decode(self.count, &self.held).map_err(broken)?;
        let first = self.next;
        self.next += self.count as u64;
        (self.count, self.cost) = (0, 0);
        self.held.clear();
        Ok(self.out.send(Ok(Item::Rows(first, rows))))
    }
}

/// Decodes checked records, as if they were the only block of a file.
struct Decoder {
    header: Vec<u8>,
}

impl Decoder {
    fn new(schema: &[u8]) -> Self {
        let mut header = b"Obj\x01\x02".to_vec();
        for part in [b"avro.schema", schema] {
            long(&mut header, part.len());
            header.extend_from_slice(part);
        }
        header.push(0);
        header.extend_from_slice(&[0; MARKER]);
        Self { header }
    }

    fn schema(&self) -> Result<Schema, ArrowError> {
        let reader = ReaderBuilder::new().with_utf8_view(true).build(&self.header[..])?;
        Ok(reader.schema().as_ref().clone())
    }

    fn decode(&self, count: usize, records: &[u8]) -> Result<RecordBatch, ArrowError> {
        let mut frame = Vec::new();
        long(&mut frame, count);
        long(&mut frame, records.len());
        let bytes = self.header.chain(&frame[..]).chain(records).chain(&[0; MARKER][..]);
        // The batch is full with the last record: the decoder is not asked to look behind it.
        // As views arrow-avro 59 loses which strings are null; the columns become views when they are taken up.
        let mut reader = ReaderBuilder::new().with_batch_size(count).build(bytes)?;
        let rows = reader.next().transpose()?;
        rows.filter(|rows| rows.num_rows() == count)
            .ok_or_else(|| ArrowError::AvroError("the decoder lost count of the records".to_owned()))
    }
}

/// Avro's form of a length.
fn long(out: &mut Vec<u8>, value: usize) {
    let mut rest = (value as u64) << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The file's own schema.
///
/// # Errors
/// `file-corrupt` if the header cannot be read.
pub(crate) async fn schema(file: &Arc<SourceFile>, limits: Limits) -> Result<Schema> {
    match start(file, Part { from: u64::MAX, batch_rows: 1, limits }).next().await {
        Some(Ok(Item::Schema(schema))) => Ok(schema),
        Some(Err(e)) => Err(e),
        _ => Err(not_a("an Avro file", &file.url)),
    }
}

/// Reads one file.
pub(crate) struct AvroReader {
    file: Arc<SourceFile>,
    columns: Columns,
    part: Part,
    stream: Option<Blocking<Item>>,
    /// Next row to deliver.
    next: u64,
    reported: u64,
}

impl AvroReader {
    /// Opens a file at row `from`; blocks before it are not decompressed.
    pub(crate) fn open(split: &Split, wanted: &Arc<Wanted>, from: u64, limits: Limits) -> Self {
        Self {
            file: split.file.clone(),
            columns: Columns::new(wanted, wanted.predicate.clone()),
            part: Part { from, batch_rows: wanted.batch_rows, limits },
            stream: None,
            next: from,
            reported: 0,
        }
    }
}

#[async_trait]
impl SplitReader for AvroReader {
    async fn next(&mut self) -> Result<Next> {
        let stream = self.stream.get_or_insert_with(|| start(&self.file, self.part));
        loop {
            let (first, rows) = match stream.next().await {
                Some(Ok(Item::Rows(first, rows))) => (first, rows),
                Some(Ok(Item::Schema(_))) => continue,
                Some(Err(e)) => return Err(e),
                None if self.file.same(&self.file.now().await?) => return Ok(Next::End),
                None => return Err(super::store::file_changed(&self.file.url)),
            };
            let ids = RowIds::Range { start: first, len: rows.num_rows() };
            self.next = first + rows.num_rows() as u64;
            let bytes = stream.bytes() - std::mem::replace(&mut self.reported, stream.bytes());
            return Ok(Next::Rows(self.columns.piece(&rows, &ids, bytes)?));
        }
    }

    fn position(&self) -> u64 {
        self.next
    }
}
