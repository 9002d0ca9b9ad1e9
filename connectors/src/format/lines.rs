//! Plain lines: one text column, `line`.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::sink::Refused;
use conveyor_model::{Error, Result};

use super::{DecodeOptions, Decoded, TextDecoder};

fn unbuilt() -> Error {
    Error::runtime("format-unavailable", "this format is not built yet")
}

/// Decoder of lines.
pub struct Decoder {
    schema: SchemaRef,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// As for [`super::TextFormat::decoder`].
    pub fn new(_options: DecodeOptions) -> Result<Self> {
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

/// Encoder of lines.
pub struct Encoder {}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// As for [`super::TextFormat::encoder`].
    pub fn new(_schema: &SchemaRef) -> Result<Self> {
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
