//! Schema inference from the first bytes of a file.
//!
//! Whole numbers become `Int64`, others `Float64`, RFC 3339 strings timestamps in microseconds (UTC), in CSV also `YYYY-MM-DD`
//! dates and times without a zone; a column without a value, or with values that have nothing in common, becomes text.
//! Numbers beyond 64 bits are floats; digits with a leading zero are text. Records that cannot be read are left out and noted.

mod csv;
mod json;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use conveyor_model::{Error, Result};

pub(super) use csv::{csv, header_names};
pub(super) use json::ndjson;

use super::lines::COLUMN;
use super::text_column::Kind;

/// What was found.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// All columns: declared ones with their types, the others inferred, in file order.
    pub schema: SchemaRef,
    /// What a person should know about how it was found.
    pub notes: Vec<String>,
}

/// What the values of a column have in common so far.
#[derive(Debug, Clone, PartialEq)]
enum Common {
    Nothing,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    Text,
    List(Box<Common>),
    Struct(Members),
}

/// Members of an object in the order in which they were first seen.
#[derive(Debug, Clone, Default, PartialEq)]
struct Members {
    names: std::collections::HashMap<String, usize>,
    types: Vec<(String, Common)>,
}

impl Members {
    /// Adds what one object says of one member.
    fn add(&mut self, name: &str, common: Common) {
        match self.names.get(name) {
            Some(&at) => {
                let known = &mut self.types[at].1;
                *known = std::mem::replace(known, Common::Nothing).and(common);
            }
            None => {
                self.names.insert(name.to_string(), self.types.len());
                self.types.push((name.to_string(), common));
            }
        }
    }
}

impl Common {
    /// What both have in common.
    fn and(self, other: Common) -> Common {
        match (self, other) {
            (Common::Nothing, x) | (x, Common::Nothing) => x,
            (Common::Int, Common::Float) | (Common::Float, Common::Int) => Common::Float,
            (Common::Date, Common::Timestamp) | (Common::Timestamp, Common::Date) => Common::Timestamp,
            (Common::List(a), Common::List(b)) => Common::List(Box::new(a.and(*b))),
            (Common::Struct(mut a), Common::Struct(b)) => {
                b.types.into_iter().for_each(|(name, common)| a.add(&name, common));
                Common::Struct(a)
            }
            (a, b) if a == b => a,
            _ => Common::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Common::Nothing | Common::Text => DataType::Utf8View,
            Common::Bool => DataType::Boolean,
            Common::Int => DataType::Int64,
            Common::Float => DataType::Float64,
            Common::Date => DataType::Date32,
            Common::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Common::List(item) => DataType::List(Arc::new(Field::new("item", item.data_type(), true))),
            // Arrow files cannot hold a struct without members.
            Common::Struct(members) if members.types.is_empty() => DataType::Utf8View,
            Common::Struct(members) => DataType::Struct(members.fields()),
        }
    }
}

impl Members {
    fn fields(self) -> Fields {
        self.types.into_iter().map(|(name, common)| Field::new(name, common.data_type(), true)).collect()
    }
}

/// The lines that a sample holds whole.
fn whole(sample: &[u8], complete: bool) -> &[u8] {
    let sample = sample.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(sample);
    match memchr::memrchr(b'\n', sample) {
        _ if complete => sample,
        Some(end) => &sample[..=end],
        None => &[],
    }
}

/// Declared columns in the place of inferred ones. Those that were not seen come last, if `add`.
fn declare(inferred: Fields, declared: &[FieldRef], add: bool) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = inferred.iter().cloned().collect();
    for field in declared {
        match fields.iter_mut().find(|f| f.name() == field.name()) {
            Some(known) => *known = field.clone(),
            None if add => fields.push(field.clone()),
            None => {
                let names: Vec<_> = inferred.iter().map(|f| f.name().as_str()).collect();
                let message = format!("there is no column `{}` among {}", field.name(), names.join(", "));
                return Err(
                    Error::bad_input("unknown-column", message).help("declare columns that the file has")
                );
            }
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Notes on what could not be read.
fn notes(records: usize, skipped: usize) -> Vec<String> {
    let mut notes = vec![format!("schema inferred from {records} records")];
    if skipped > 0 {
        notes.push(format!("{skipped} of the sampled records cannot be read and were left out"));
    }
    notes
}

/// The schema of plain lines.
///
/// # Errors
/// If other columns are declared.
pub(super) fn lines(declared: &[FieldRef]) -> Result<Inferred> {
    let line = Fields::from(vec![Field::new(COLUMN, DataType::Utf8View, true)]);
    let schema = declare(line, declared, false)?;
    if Kind::of(schema.field(0).data_type()) != Kind::Text {
        let message =
            format!("the column `{COLUMN}` of plain lines is text, not {}", schema.field(0).data_type());
        return Err(Error::bad_input("lines-schema", message).help("cast it in a step"));
    }
    Ok(Inferred { schema, notes: Vec::new() })
}
