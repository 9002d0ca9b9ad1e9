//! Plain lines: one text column, `line`.
//!
//! Every line is a row, blank ones too, without its line end (`\n` or `\r\n`). A line that is not UTF-8 is rejected
//! (`invalid-utf8`), one that is too long as well (`record-too-long`). When written, null is an empty line, and a text with a line
//! end in it is refused (`line-break`), because it would come back as two.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use conveyor_model::dead_letter::RowError;
use conveyor_model::sink::Refused;
use conveyor_model::{Error, Result};

use super::text_column::{Cell, Kind, Span};
use super::text_record::{Records, check_utf8};
use super::{DecodeOptions, Decoded, TextDecoder};

/// Name of the column.
pub const COLUMN: &str = "line";

fn one_text_column(schema: &SchemaRef) -> Result<()> {
    match schema.fields().as_ref() {
        [field] if Kind::of(field.data_type()) == Kind::Text => Ok(()),
        _ => {
            let message =
                format!("plain lines are one column of text, not {} columns", schema.fields().len());
            Err(Error::bad_input("lines-schema", message)
                .help("select one text column, or use another format"))
        }
    }
}

/// Decoder of plain lines.
#[derive(Debug)]
pub struct Decoder {
    records: Records,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// As for [`TextFormat::decoder`](super::TextFormat::decoder).
    pub fn new(options: DecodeOptions) -> Result<Self> {
        one_text_column(&options.full_schema)?;
        Ok(Self { records: Records::new(&options)? })
    }

    fn line(&mut self, text: &[u8], start: usize, end: usize, position: u64) {
        let line = text[start..end].strip_suffix(b"\r").unwrap_or(&text[start..end]);
        if end - start > self.records.max_record_bytes {
            return self.records.reject_overlong(position, line);
        }
        let cell = Cell::Text(Span::new(start, start + line.len(), false));
        let cells = [cell];
        let wanted = self.records.slots.len();
        if self.records.slots.iter().any(|s| s.tests.hold(&cell, text) == Some(false)) {
            return self.records.prune();
        }
        let pushed = self.records.push(&cells[..wanted], text, position, |slot, _, column| {
            check_utf8(slot, line)?;
            column.push(&Cell::Text(Span::new(start, start + line.len(), true)), text);
            Ok(())
        });
        if let Err(error) = pushed {
            self.records.reject(position, error, line);
        }
    }
}

impl TextDecoder for Decoder {
    fn schema(&self) -> SchemaRef {
        self.records.schema()
    }

    fn decode(&mut self, input: &Bytes, offset: u64, last: bool) -> Result<Decoded> {
        let (input, whole) = Records::cut(input);
        let text: &[u8] = &input;
        let mut at = if offset == 0 && text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let mut overlong = false;
        self.records.begin();
        while at < text.len() && !self.records.full() {
            let position = offset + at as u64;
            let (end, next) = match memchr::memchr(b'\n', &text[at..]) {
                Some(n) => (at + n, at + n + 1),
                None if last && whole => (text.len(), text.len()),
                None if text.len() - at > self.records.max_record_bytes => {
                    self.records.reject_overlong(position, &text[at..]);
                    at = text.len();
                    overlong = true;
                    break;
                }
                None => break,
            };
            self.line(text, at, end, position);
            at = next;
        }
        self.records.finish(at, overlong)
    }
}

/// Encoder of plain lines.
#[derive(Debug)]
pub struct Encoder {
    name: String,
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// As for [`TextFormat::encoder`](super::TextFormat::encoder).
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        one_text_column(schema)?;
        Ok(Self { name: schema.field(0).name().clone() })
    }
}

impl super::Encoder for Encoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        let column = cast(rows.column(0), &DataType::Utf8View)
            .map_err(|error| Error::runtime("encode-column", "the column is not text").because(error))?;
        let lines = column.as_string_view();
        let mut refused = Refused::new();
        for row in 0..lines.len() {
            let line = if lines.is_null(row) { "" } else { lines.value(row) };
            if line.contains('\n') || line.ends_with('\r') {
                let message = format!("column `{}`: the text has a line end in it", self.name);
                refused.push((row, RowError::new("line-break", message).column(&self.name)));
                continue;
            }
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        Ok(refused)
    }

    fn finish(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}
