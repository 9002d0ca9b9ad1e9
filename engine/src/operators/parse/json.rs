//! JSON objects: fields by name, missing is null.
//!
//! Scalars are read as the text that stands there and typed by the strict cast, because the JSON reader would make 1 of
//! 1.5 in an integer column without a word; lists and structs are read as what they are.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;

use super::super::layout::kernel;
use super::{Format, Parts};

/// Deepest nesting of a text: the reader follows deeper ones by recursion.
const MAX_DEPTH: usize = 128;

/// Reads JSON objects.
pub(super) struct Json {
    column: String,
    schema: SchemaRef,
}

impl Json {
    /// A reader of these fields.
    pub(super) fn new(column: &str, fields: &[FieldRef]) -> Self {
        let read = |field: &FieldRef| {
            let of =
                if field.data_type().is_nested() { field.data_type().clone() } else { DataType::Utf8View };
            Field::new(field.name(), of, true)
        };
        let schema = Arc::new(Schema::new(fields.iter().map(read).collect::<Vec<_>>()));
        Self { column: column.to_owned(), schema }
    }

    /// The objects of these rows in one go, or the first reason why that cannot be.
    fn read(&self, texts: &StringViewArray, rows: Range<usize>) -> Result<RecordBatch, String> {
        let builder = ReaderBuilder::new(self.schema.clone()).with_coerce_primitive(true);
        // One row more than there is, so that a text with two objects is seen and not left over.
        let builder = builder.with_batch_size(rows.len() + 1);
        let mut decoder = builder.build_decoder().map_err(|e| e.to_string())?;
        for (count, row) in rows.clone().enumerate() {
            let text = if texts.is_valid(row) { texts.value(row) } else { "{}" };
            if too_deep(text) {
                return Err(format!("nested deeper than {MAX_DEPTH}"));
            }
            for part in [text.as_bytes(), b"\n"] {
                let read = decoder.decode(part).map_err(|e| e.to_string())?;
                if read < part.len() {
                    return Err("there is more than one object".to_owned());
                }
            }
            if decoder.has_partial_record() {
                return Err("the object ends too soon".to_owned());
            }
            match decoder.len() {
                n if n == count + 1 => {}
                n if n <= count => return Err("there is no object".to_owned()),
                _ => return Err("there is more than one object".to_owned()),
            }
        }
        let read = decoder.flush().map_err(|e| e.to_string())?;
        Ok(read.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone())))
    }

    /// Reads a range; where it fails, its halves, down to the single text that is to blame.
    fn search(&self, texts: &StringViewArray, rows: Range<usize>, found: &mut Found) {
        match self.read(texts, rows.clone()) {
            Ok(batch) => {
                found.rows.extend(rows);
                found.batches.push(batch);
            }
            Err(reason) if rows.len() == 1 => {
                let error =
                    RowError::new("parse-json", format!("not the JSON object it should be: {reason}"));
                found.failures.push((rows.start, error.column(&self.column)));
            }
            Err(_) => {
                let middle = rows.start + rows.len() / 2;
                self.search(texts, rows.start..middle, found);
                self.search(texts, middle..rows.end, found);
            }
        }
    }
}

/// What a search found, in row order.
#[derive(Default)]
struct Found {
    batches: Vec<RecordBatch>,
    rows: Vec<usize>,
    failures: Vec<(usize, RowError)>,
}

impl Format for Json {
    fn parse(&mut self, texts: &StringViewArray) -> Result<Parts> {
        let mut found = Found::default();
        if !texts.is_empty() {
            self.search(texts, 0..texts.len(), &mut found);
        }
        let read = concat_batches(&self.schema, &found.batches).map_err(kernel)?;
        if found.failures.is_empty() {
            return Ok(Parts { columns: read.columns().to_vec(), failures: Vec::new() });
        }
        let mut places: Vec<Option<u32>> = vec![None; texts.len()];
        for (place, row) in found.rows.into_iter().enumerate() {
            places[row] = Some(place as u32);
        }
        let places = UInt32Array::from(places);
        let columns: Vec<ArrayRef> = read
            .columns()
            .iter()
            .map(|c| take(c, &places, None))
            .collect::<Result<_, _>>()
            .map_err(kernel)?;
        Ok(Parts { columns, failures: found.failures })
    }
}

/// Whether brackets outside of strings are nested deeper than [`MAX_DEPTH`].
fn too_deep(text: &str) -> bool {
    // Most texts have few brackets at all, and counting them is one pass without branches.
    if text.bytes().filter(|b| matches!(b, b'[' | b'{')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!too_deep(&nested(MAX_DEPTH)));
        assert!(too_deep(&nested(MAX_DEPTH + 1)));
        assert!(!too_deep(&"[]".repeat(1000)));
        assert!(!too_deep(&format!("\"\\\"{}\"", "[".repeat(1000))));
    }
}
