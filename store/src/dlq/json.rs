//! Typed rows as JSON text, and back.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch, StringBuilder, StructArray,
};
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use conveyor_model::{Error, Kind, Result};

use super::schema::{ROW_JSON, ROW_SCHEMA};

/// Appends each row as a JSON object with all its fields; returns the bytes appended.
///
/// # Errors
/// For a type that has no form in JSON.
pub(crate) fn append_rows(rows: &RecordBatch, out: &mut StringBuilder) -> Result<usize> {
    let no_form = |e: ArrowError| {
        Error::runtime("dead-letter-type", "a failed row has a type that JSON cannot hold").because(e)
    };
    let options = EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats));
    let field: FieldRef = Arc::new(Field::new_struct("row", rows.schema().fields().clone(), false));
    let array = StructArray::try_new(rows.schema().fields().clone(), rows.columns().to_vec(), None)
        .map_err(no_form)?;
    let mut encoder = make_encoder(&field, &array, &options).map_err(no_form)?;
    let (mut line, mut total) = (Vec::with_capacity(256), 0);
    for row in 0..rows.num_rows() {
        line.clear();
        encoder.encode(row, &mut line);
        out.append_value(String::from_utf8_lossy(&line));
        total += line.len();
    }
    Ok(total)
}

/// Writes NaN and the infinities as text, which the JSON reader takes for a number again; JSON itself has none of them.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float64 => Box::new(Doubles(array.as_primitive())),
            DataType::Float32 => Box::new(Singles(array.as_primitive())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

struct Doubles<'a>(&'a Float64Array);
struct Singles<'a>(&'a Float32Array);

impl Encoder for Doubles<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        push_float(value.is_finite(), format_args!("{value:?}"), out);
    }
}

impl Encoder for Singles<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = self.0.value(row);
        push_float(value.is_finite(), format_args!("{value:?}"), out);
    }
}

fn push_float(finite: bool, text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    use std::io::Write;
    let done = if finite { write!(out, "{text}") } else { write!(out, "\"{text}\"") };
    done.expect("writing to a Vec cannot fail");
}

/// The typed rows of dead letters that all have the same row schema (all those of one file do), or `None` if they
/// never were typed. Row `i` of the result is letter `i`.
///
/// # Errors
/// `Corrupt` if a row or its schema cannot be read back.
pub fn retype(letters: &RecordBatch) -> Result<Option<RecordBatch>> {
    let text = |name: &str| {
        let column = letters.column_by_name(name).and_then(|c| c.as_string_view_opt());
        column.ok_or_else(|| damaged(&format!("dead letters have no text column `{name}`")))
    };
    let (schemas, rows) = (text(ROW_SCHEMA)?, text(ROW_JSON)?);
    if letters.num_rows() == 0 || schemas.is_null(0) {
        return Ok(None);
    }
    let first = schemas.value(0);
    let schema: Schema = serde_json::from_str(first)
        .map_err(|e| damaged("the schema of a dead letter cannot be read").because(e))?;
    let schema: SchemaRef = Arc::new(schema);
    let unreadable = |e: ArrowError| damaged("a dead letter's row does not fit its schema").because(e);
    let mut decoder = arrow::json::ReaderBuilder::new(schema.clone())
        .with_batch_size(letters.num_rows())
        .build_decoder()
        .map_err(unreadable)?;
    for row in 0..letters.num_rows() {
        if schemas.is_null(row) || rows.is_null(row) || schemas.value(row) != first {
            return Err(damaged("dead letters of one file have several schemas"));
        }
        let mut rest = rows.value(row).as_bytes();
        while !rest.is_empty() {
            let taken = decoder.decode(rest).map_err(unreadable)?;
            if taken == 0 {
                return Err(damaged("a dead letter holds more than one row"));
            }
            rest = &rest[taken..];
        }
    }
    let typed = decoder.flush().map_err(unreadable)?;
    let typed = typed.unwrap_or_else(|| RecordBatch::new_empty(schema));
    if typed.num_rows() != letters.num_rows() {
        return Err(damaged("a dead letter holds no row"));
    }
    Ok(Some(typed))
}

fn damaged(why: &str) -> Error {
    Error::new(Kind::Corrupt, "dead-letter-damaged", why)
        .help("the file was changed by something else than conveyor")
}

/// A text column with one value in every row: the bytes are there once.
pub(crate) fn repeated(value: Option<&str>, rows: usize) -> ArrayRef {
    use arrow::array::{StringViewArray, StringViewBuilder, new_null_array};
    let Some(value) = value else { return new_null_array(&DataType::Utf8View, rows) };
    if value.len() <= 12 {
        return Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(value, rows)));
    }
    let mut builder = StringViewBuilder::with_capacity(rows);
    let block = builder.append_block(value.as_bytes().to_vec().into());
    for _ in 0..rows {
        builder
            .try_append_view(block, 0, value.len() as u32)
            .expect("the block was just appended and holds the whole value");
    }
    Arc::new(builder.finish())
}
