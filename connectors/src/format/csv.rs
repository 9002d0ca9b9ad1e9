//! Separated values: options, decoder and encoder.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::sink::Refused;
use conveyor_model::{Error, Result};

use super::{DecodeOptions, Decoded, TextDecoder};

/// How values are separated and quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first record names the columns. Read and written.
    pub header: bool,
    /// Byte between values.
    pub delimiter: u8,
    /// Byte around values that hold a delimiter, a quote or a line end; `None` means that quotes are ordinary.
    pub quote: Option<u8>,
    /// Byte before a quote within a quoted value, beside doubling it.
    pub escape: Option<u8>,
    /// Lines that start with this byte are skipped.
    pub comment: Option<u8>,
    /// Unquoted values that mean null, beside the empty one.
    pub null_values: Vec<String>,
    /// What is written for null.
    pub null_text: String,
    /// Whether quoted values may hold line ends. Then a file cannot be read in ranges.
    pub multiline: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            comment: None,
            null_values: Vec::new(),
            null_text: String::new(),
            multiline: false,
        }
    }
}

fn unbuilt() -> Error {
    Error::runtime("format-unavailable", "this format is not built yet")
}

/// Decoder of CSV.
pub struct Decoder {
    schema: SchemaRef,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// As for [`super::TextFormat::decoder`].
    pub fn new(_options: DecodeOptions, _csv: CsvOptions) -> Result<Self> {
        Err(unbuilt())
    }
}

impl TextDecoder for Decoder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, _input: &Bytes, _offset: u64, _last: bool) -> Result<Decoded> {
        Err(unbuilt())
    }
}

/// Encoder of CSV.
pub struct Encoder {}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// As for [`super::TextFormat::encoder`].
    pub fn new(_schema: &SchemaRef, _csv: CsvOptions) -> Result<Self> {
        Err(unbuilt())
    }
}

impl super::Encoder for Encoder {
    fn encode(&mut self, _rows: &RecordBatch, _out: &mut Vec<u8>) -> Result<Refused> {
        Err(unbuilt())
    }
    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
    fn buffered(&self) -> usize {
        0
    }
}
