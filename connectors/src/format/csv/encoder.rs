//! Rows into CSV.

use arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use conveyor_model::dead_letter::RowError;
use conveyor_model::sink::Refused;
use conveyor_model::{Error, Result};

use super::super::ndjson::{Value, writable};
use super::super::text_write::Pen;
use super::CsvOptions;

/// Encoder of CSV.
#[derive(Debug)]
pub struct Encoder {
    csv: CsvOptions,
    schema: SchemaRef,
    begun: bool,
    pen: Pen,
    /// One value that may need quotes.
    value: Pen,
    scratch: Vec<u8>,
}

/// A column being written.
enum Source {
    Text(StringViewArray),
    /// Floats have values that JSON does not have.
    Float(arrow::array::Float64Array),
    /// Nested values, which hold delimiters and quotes.
    Other(Value, Option<arrow::buffer::NullBuffer>),
}

impl Source {
    fn new(array: &arrow::array::ArrayRef) -> Result<Self> {
        let to = |data_type: &DataType| {
            cast(array, data_type).map_err(|error| {
                Error::runtime("encode-column", "a column could not be made ready for CSV").because(error)
            })
        };
        Ok(match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Source::Text(to(&DataType::Utf8View)?.as_string_view().clone())
            }
            DataType::Float64 => Source::Float(to(&DataType::Float64)?.as_primitive::<Float64Type>().clone()),
            _ => Source::Other(Value::new(array)?, array.nulls().cloned()),
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Source::Text(array) => array.is_null(row),
            Source::Float(array) => array.is_null(row),
            Source::Other(_, nulls) => nulls.as_ref().is_some_and(|n| n.is_null(row)),
        }
    }
}

impl Encoder {
    /// An encoder.
    ///
    /// # Errors
    /// As for [`TextFormat::encoder`](super::super::TextFormat::encoder).
    pub fn new(schema: &SchemaRef, csv: CsvOptions) -> Result<Self> {
        if let Some(field) = schema.fields().iter().find(|f| !writable(f.data_type())) {
            let message = format!("column `{}`: CSV cannot hold {}", field.name(), field.data_type());
            return Err(Error::bad_input("type-unsupported", message).help("cast the column to text"));
        }
        let (pen, value) = (Pen::default(), Pen::default());
        Ok(Self { csv, schema: schema.clone(), begun: false, pen, value, scratch: Vec::new() })
    }

    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) || !self.csv.header {
            return;
        }
        let schema = self.schema.clone();
        for (at, field) in schema.fields().iter().enumerate() {
            self.delimit(at);
            // Without a quote a header cannot be refused; its delimiters then stand as they are.
            if !write_text(&self.csv, field.name().as_bytes(), &mut self.pen) {
                self.pen.plain(field.name().as_bytes());
            }
        }
        self.end();
    }

    #[inline(always)]
    fn delimit(&mut self, at: usize) {
        if at > 0 {
            self.pen.room(1);
            self.pen.byte(self.csv.delimiter);
        }
    }

    fn end(&mut self) {
        self.pen.room(1);
        self.pen.byte(b'\n');
    }

    /// Writes one value that is not null; `false` if it needs a quote and there is none.
    #[inline(always)]
    fn write(&mut self, source: &Source, row: usize) -> bool {
        match source {
            Source::Text(array) => write_text(&self.csv, array.value(row).as_bytes(), &mut self.pen),
            Source::Float(array) if array.value(row).is_finite() => {
                self.pen.float(array.value(row));
                true
            }
            Source::Float(array) => {
                let value = array.value(row);
                self.pen.plain(if value.is_nan() {
                    b"NaN"
                } else if value > 0.0 {
                    b"inf"
                } else {
                    b"-inf"
                });
                true
            }
            Source::Other(value, _) => self.write_other(value, row),
        }
    }

    fn write_other(&mut self, value: &Value, row: usize) -> bool {
        self.scratch.clear();
        if !value.write(row, &mut self.value) {
            self.value.back(0);
            return write_text(&self.csv, b"NaN", &mut self.pen);
        }
        self.value.flush(&mut self.scratch);
        // Times and binary come as JSON strings without escapes.
        let text: &[u8] = match self.scratch.as_slice() {
            [b'"', text @ .., b'"'] => text,
            text => text,
        };
        write_text(&self.csv, text, &mut self.pen)
    }
}

/// Writes text, in quotes if it must be; `false` if it must be and there is no quote.
#[inline(always)]
fn write_text(csv: &CsvOptions, text: &[u8], pen: &mut Pen) -> bool {
    let special = |b: &u8| matches!(*b, b'\n' | b'\r') || *b == csv.delimiter || csv.quote == Some(*b);
    let reads_as_null =
        text == csv.null_text.as_bytes() || csv.null_values.iter().any(|n| n.as_bytes() == text);
    let comment = csv.comment.is_some() && csv.comment == text.first().copied();
    let escapes = csv.escape.is_some_and(|e| text.contains(&e));
    if !(text.is_empty() || reads_as_null || comment || escapes || text.iter().any(special)) {
        pen.plain(text);
        return true;
    }
    let Some(quote) = csv.quote else {
        return false;
    };
    pen.room(2 * text.len() + 2);
    pen.byte(quote);
    for &b in text {
        if csv.escape == Some(b) {
            pen.byte(b);
        } else if b == quote {
            pen.byte(csv.escape.unwrap_or(quote));
        }
        pen.byte(b);
    }
    pen.byte(quote);
    true
}

impl super::super::Encoder for Encoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<Refused> {
        self.begin();
        let sources: Vec<Source> = rows.columns().iter().map(Source::new).collect::<Result<_>>()?;
        let null = self.csv.null_text.clone();
        let mut refused = Refused::new();
        'rows: for row in 0..rows.num_rows() {
            let start = self.pen.at();
            for (at, source) in sources.iter().enumerate() {
                self.delimit(at);
                if source.is_null(row) {
                    // A line with nothing on it would be skipped by every reader.
                    let alone = sources.len() == 1 && null.is_empty();
                    self.pen.plain(if alone && self.csv.quote.is_some() { b"\"\"" } else { null.as_bytes() });
                } else if !self.write(source, row) {
                    self.pen.back(start);
                    let name = rows.schema_ref().field(at).name().clone();
                    let message = format!("column `{name}`: the value needs quotes, and the format has none");
                    refused.push((row, RowError::new("csv-quote", message).column(&name)));
                    continue 'rows;
                }
            }
            self.end();
            self.pen.send(out);
        }
        self.pen.flush(out);
        Ok(refused)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.begin();
        self.pen.flush(out);
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}
