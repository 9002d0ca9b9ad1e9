//! Record formats, apart from where their bytes come from and go to.
//!
//! A [`TextDecoder`] takes a range of a text file apart; a [`Encoder`] makes a file of batches. The file source and
//! sink, standard input and output and the file lookup all use these and know no format by itself.

use arrow::array::RecordBatch;
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;
use conveyor_model::predicate::Predicate;
use conveyor_model::sink::Refused;

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
    /// Its bytes without the line end; of an overlong record the first part.
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
}

/// Decodes whole records of a line-oriented text format. Stateless between calls but for reused buffers, so that
/// results do not depend on where the input is cut.
pub trait TextDecoder: Send {
    /// Schema of the rows.
    fn schema(&self) -> SchemaRef;

    /// Decodes at most `batch_rows` records from the front of `input`, whose first byte is at `offset` of the file and
    /// starts a record. `last` says that nothing follows `input`, so its last record may lack a line end. String views
    /// may point into `input` without a copy.
    ///
    /// # Errors
    /// Only for what concerns the file as a whole. Bad records are in [`Decoded::rejected`].
    fn decode(&mut self, input: &Bytes, offset: u64, last: bool) -> Result<Decoded>;
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
