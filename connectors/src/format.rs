//! Record formats, apart from where their bytes come from and go to.
//!
//! A [`TextDecoder`] takes a range of a text file apart; an [`Encoder`] makes a file of batches. The file source and
//! sink, standard input and output and the file lookup all use these and know no format by itself.
//!
//! # Constructors
//! [`TextFormat`] names a text format with its options (`Ndjson`, `Csv(CsvOptions)`, `Lines`) and gives
//! [`TextFormat::decoder`], [`TextFormat::encoder`], [`TextFormat::infer`] and [`TextFormat::ranges`].
//!
//! # How to drive a decoder
//! 1. Gather bytes from a record's first byte on (`offset`), and call [`TextDecoder::decode`] with them, again and again
//!    with what is left behind [`Decoded::consumed`].
//! 2. `consumed == 0` (only when `last` is false): the input ends within its first record. Read on and call again
//!    with a longer input that starts at the same byte. An input longer than `max_record_bytes` is never refused in
//!    this way, so the memory that a caller needs is `max_record_bytes` and one read.
//! 3. [`Decoded::overlong`]: the last of the rejected records is too long and its end is not in the input, all of which is
//!    consumed. Feed the bytes that follow to [`TextDecoder::skip`], piece by piece without keeping them, until it
//!    returns `Some(n)`: the next record starts `n` bytes into that piece. Decoders keep no other state between calls, so a
//!    position to restart from is one between `decode` calls that is not followed by a skip.
//! 4. `offset == 0` is the start of the file: a byte order mark and a CSV header are taken from there and nowhere else.
//! 5. A range of a file (where [`TextFormat::ranges`] allows it) starts behind the first `\n` at or after its start - 1 and
//!    ends with the record in which its last byte lies.
//!
//! Text columns are copied out of the input, so that a few rows do not keep a large input alive and its buffer can be read
//! into again.

pub mod csv;
pub mod infer;
pub mod lines;
pub mod ndjson;
mod text_column;
mod text_number;
mod text_predicate;
mod text_record;
mod text_scan;
#[cfg(test)]
mod text_testing;
mod text_time;
mod text_write;

use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;
use conveyor_model::predicate::Predicate;
use conveyor_model::sink::Refused;

pub use csv::CsvOptions;
pub use infer::Inferred;

/// Bytes kept of a record that is too long.
pub const OVERLONG_KEPT: usize = 64 << 10;

/// A text format with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextFormat {
    /// One JSON object a line.
    Ndjson,
    /// Separated values.
    Csv(CsvOptions),
    /// One text column, `line`.
    Lines,
}

impl TextFormat {
    /// A decoder.
    ///
    /// # Errors
    /// `BadInput` if the projection or the predicate names an unknown column, or a column's type cannot be read from
    /// this format.
    pub fn decoder(&self, options: DecodeOptions) -> Result<Box<dyn TextDecoder>> {
        Ok(match self {
            TextFormat::Ndjson => Box::new(ndjson::Decoder::new(options)?),
            TextFormat::Csv(csv) => Box::new(csv::Decoder::new(options, csv.clone())?),
            TextFormat::Lines => Box::new(lines::Decoder::new(options)?),
        })
    }

    /// An encoder for one file.
    ///
    /// # Errors
    /// `BadInput` if the format cannot hold a column's type. This is also the check to make before anything runs.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            TextFormat::Ndjson => Box::new(ndjson::Encoder::new(schema)?),
            TextFormat::Csv(csv) => Box::new(csv::Encoder::new(schema, csv.clone())?),
            TextFormat::Lines => Box::new(lines::Encoder::new(schema)?),
        })
    }

    /// The schema of a file by its first bytes (1 to 4 MiB are plenty). `complete` says that `sample` is the whole
    /// file, so that its last line counts although it has no line end. Declared columns win over inference.
    ///
    /// # Errors
    /// `BadInput` if the sample is not of this format, or the declared columns do not fit it.
    pub fn infer(&self, sample: &[u8], complete: bool, declared: &[FieldRef]) -> Result<Inferred> {
        match self {
            TextFormat::Ndjson => infer::ndjson(sample, complete, declared),
            TextFormat::Csv(csv) => infer::csv(csv, sample, complete, declared),
            TextFormat::Lines => infer::lines(declared),
        }
    }

    /// Whether a record never spans lines, so that a file may be read in ranges.
    pub fn ranges(&self) -> bool {
        match self {
            TextFormat::Ndjson | TextFormat::Lines => true,
            TextFormat::Csv(csv) => !csv.multiline,
        }
    }
}

/// What a text decoder delivers.
#[derive(Debug, Clone)]
pub struct DecodeOptions {
    /// Full schema of the records, in file order where the format has one.
    pub full_schema: SchemaRef,
    /// Columns to deliver, by name, in this order.
    pub projection: Vec<String>,
    /// Rows for which this is not true are left out and counted as pruned; applied exactly.
    pub predicate: Predicate,
    /// Rows to aim at in one batch.
    pub batch_rows: usize,
    /// Longest record in bytes; a longer one is rejected with its first bytes.
    pub max_record_bytes: usize,
}

/// A record that could not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Byte offset of the record's first byte in the (decompressed) file.
    pub offset: u64,
    /// Why.
    pub error: RowError,
    /// Its bytes without the line end; of an overlong record the first [`OVERLONG_KEPT`] (or
    /// `max_record_bytes`, if that is less).
    pub bytes: Vec<u8>,
}

/// One step of decoding.
#[derive(Debug)]
pub struct Decoded {
    /// The rows.
    pub rows: RecordBatch,
    /// Byte offset of each row's record.
    pub at: ScalarBuffer<u64>,
    /// Records that could not become rows.
    pub rejected: Vec<RejectedRecord>,
    /// Rows left out by the predicate.
    pub pruned: u64,
    /// Bytes of the input that are done with; 0 means that the input ends within its first record.
    pub consumed: usize,
    /// The record at the end of the input is rejected as too long and goes on behind the input: see
    /// [`TextDecoder::skip`].
    pub overlong: bool,
}

/// Decodes whole records of a line-oriented text format. Stateless between calls but for reused buffers (and the end of
/// an overlong record), so that results do not depend on where the input is cut.
pub trait TextDecoder: Send {
    /// Schema of the rows.
    fn schema(&self) -> SchemaRef;

    /// Decodes records from the front of `input`, whose first byte is at `offset` of the file and starts a record, until
    /// there are `batch_rows` rows or the input ends. `last` says that nothing follows `input`, so its last record may
    /// lack a line end.
    ///
    /// # Errors
    /// Only for what concerns the file as a whole. Bad records are in [`Decoded::rejected`].
    fn decode(&mut self, input: &Bytes, offset: u64, last: bool) -> Result<Decoded>;

    /// Looks for the end of an overlong record in the bytes that follow: `Some(n)` if it ends with the first `n` bytes
    /// of `piece` (line end included), `None` if all of `piece` belongs to it.
    fn skip(&mut self, piece: &[u8]) -> Option<usize> {
        memchr::memchr(b'\n', piece).map(|end| end + 1)
    }
}

/// Makes the bytes of one output file. One encoder per file.
pub trait Encoder: Send {
    /// Appends rows; bytes that are ready go to `out`. Rows that the format cannot hold are left out and returned.
    ///
    /// # Errors
    /// When no row can be encoded.
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused>;

    /// Appends what is left (footers, last blocks) to `out`.
    ///
    /// # Errors
    /// When the file cannot be completed.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()>;

    /// Bytes held back in memory, not yet in `out`.
    fn buffered(&self) -> usize;
}
