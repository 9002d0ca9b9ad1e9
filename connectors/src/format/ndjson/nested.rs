//! Lists, structs, maps, binary and other rare types: one value at a time, by way of a parsed JSON value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, ListArray, MapArray, NullArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conveyor_model::dead_letter::RowError;
use conveyor_model::{Error, Result};
use serde_json::Value;

use super::super::text_column::{Cell, Column, Kind, Span, timely};
use super::super::text_record::Slot;
use super::super::text_write::shown;
use super::decoder::read_value;

/// Makes sure that a nested type can be read and written.
///
/// # Errors
/// `BadInput` that names the column and the type.
pub(super) fn check(name: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => check(name, item.data_type()),
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check(name, f.data_type())),
        DataType::Map(entries, _) => match entry_fields(entries) {
            Some((key, value)) if Kind::of(key.data_type()) == Kind::Text => check(name, value.data_type()),
            _ => Err(unsupported(name, data_type)),
        },
        DataType::Null | DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Ok(()),
        _ if Kind::of(data_type) != Kind::Other => Ok(()),
        _ => Err(unsupported(name, data_type)),
    }
}

/// Makes sure that a type can be written.
///
/// # Errors
/// `BadInput` that names the column and the type.
pub(super) fn check_written(name: &str, data_type: &DataType) -> Result<()> {
    if super::value::writable(data_type) { Ok(()) } else { Err(unsupported(name, data_type)) }
}

fn unsupported(name: &str, data_type: &DataType) -> Error {
    Error::bad_input("type-unsupported", format!("column `{name}`: NDJSON cannot hold {data_type}"))
        .help("cast the column to a number, text, a timestamp, or a list or struct of these")
}

fn entry_fields(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

/// Parses the value of a nested column and makes sure that it fits.
///
/// # Errors
/// Why it does not.
pub(super) fn value(slot: &Slot, token: &[u8]) -> Result<Value, RowError> {
    let name = &slot.name;
    let value: Value = serde_json::from_slice(token).map_err(|error| {
        let code = if std::str::from_utf8(token).is_err() { "invalid-utf8" } else { "json-syntax" };
        RowError::new(code, format!("column `{name}`: {error}")).column(name)
    })?;
    match fits(&slot.data_type, &value) {
        Ok(()) => Ok(value),
        Err((wanted, found)) => {
            let message = format!("column `{name}`: expected {wanted}, found {}", shown(found.as_bytes()));
            Err(RowError::new("json-type", message).column(name))
        }
    }
}

/// Whether a value fits a type; if not, the innermost type and value that do not.
fn fits(data_type: &DataType, value: &Value) -> Result<(), (DataType, String)> {
    match (data_type, value) {
        (_, Value::Null) => Ok(()),
        (DataType::List(item) | DataType::LargeList(item), Value::Array(items)) => {
            items.iter().try_for_each(|v| fits(item.data_type(), v))
        }
        (DataType::Struct(fields), Value::Object(object)) => {
            fields.iter().try_for_each(|f| object.get(f.name()).map_or(Ok(()), |v| fits(f.data_type(), v)))
        }
        (DataType::Map(entries, _), Value::Object(object)) => match entry_fields(entries) {
            Some((_, of)) => object.values().try_for_each(|v| fits(of.data_type(), v)),
            None => Err((data_type.clone(), value.to_string())),
        },
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView, Value::String(text))
            if STANDARD.decode(text).is_ok() =>
        {
            Ok(())
        }
        _ => match leaf(data_type, value) {
            Some(_) => Ok(()),
            None => Err((data_type.clone(), value.to_string())),
        },
    }
}

/// The cell of a value that is neither nested nor null, and the text that it points into.
fn leaf(data_type: &DataType, value: &Value) -> Option<(Cell, String)> {
    let kind = Kind::of(data_type);
    let (cell, text) = match (kind, value) {
        (Kind::Other, _) => return None,
        (Kind::Text, Value::String(text)) => (Cell::Text(Span::new(0, text.len(), true)), text.clone()),
        (Kind::Timestamp(_) | Kind::Date, Value::String(text)) => {
            (timely(kind, text.as_bytes())?, String::new())
        }
        (Kind::Timestamp(_) | Kind::Date, _) => return None,
        _ => {
            let text = value.to_string();
            let mut cell = Cell::Missing;
            read_value(kind, text.as_bytes(), 0, false, &mut cell).ok()?;
            (cell, text)
        }
    };
    match cell {
        Cell::Bad(_) | Cell::Raw(_) | Cell::Escaped(_) => None,
        _ => Some((cell, text)),
    }
}

/// The array of values, all of which fit.
///
/// # Errors
/// If the type is none that [`check`] lets through.
pub(in super::super) fn nested_array(data_type: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let present = |v: &Option<&Value>| !matches!(v, None | Some(Value::Null));
    let nulls = || Some(NullBuffer::from_iter(values.iter().map(present))).filter(|n| n.null_count() > 0);
    let array: ArrayRef = match data_type {
        DataType::Null => Arc::new(NullArray::new(values.len())),
        DataType::List(item) | DataType::LargeList(item) => {
            let items = values.iter().map(|v| v.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
            let offsets = OffsetBuffer::from_lengths(items.clone().map(<[Value]>::len));
            let items: Vec<_> = items.flatten().map(Some).collect();
            let items = nested_array(item.data_type(), &items)?;
            Arc::new(ListArray::try_new(item.clone(), offsets, items, nulls()).map_err(unbuilt)?)
        }
        DataType::Struct(fields) => struct_array(fields, values, nulls())?,
        DataType::Map(entries, sorted) => map_array(entries, *sorted, values, nulls())?,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => {
            let bytes =
                values.iter().map(|v| v.and_then(Value::as_str).and_then(|t| STANDARD.decode(t).ok()));
            Arc::new(bytes.collect::<BinaryArray>())
        }
        _ => return leaf_array(data_type, values),
    };
    if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type).map_err(unbuilt) }
}

fn unbuilt(error: arrow::error::ArrowError) -> Error {
    Error::runtime("decode-column", "a nested column could not be built from its values").because(error)
}

fn struct_array(fields: &Fields, values: &[Option<&Value>], nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    let mut children = Vec::with_capacity(fields.len());
    for field in fields {
        let column: Vec<_> = values.iter().map(|v| v.and_then(|v| v.get(field.name()))).collect();
        children.push(nested_array(field.data_type(), &column)?);
    }
    let array = StructArray::try_new_with_length(fields.clone(), children, nulls, values.len());
    Ok(Arc::new(array.map_err(unbuilt)?))
}

fn map_array(
    entries: &FieldRef,
    sorted: bool,
    values: &[Option<&Value>],
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let (Some((key, item)), DataType::Struct(fields)) = (entry_fields(entries), entries.data_type()) else {
        return Err(unsupported(entries.name(), entries.data_type()));
    };
    let objects: Vec<_> = values.iter().map(|v| v.and_then(Value::as_object)).collect();
    let offsets = OffsetBuffer::from_lengths(objects.iter().map(|o| o.map_or(0, |o| o.len())));
    let pairs = || objects.iter().flatten().flat_map(|o| o.iter());
    let keys: Vec<Value> = pairs().map(|(k, _)| Value::String(k.clone())).collect();
    let keys: Vec<_> = keys.iter().map(Some).collect();
    let items: Vec<_> = pairs().map(|(_, v)| Some(v)).collect();
    let columns = vec![nested_array(key.data_type(), &keys)?, nested_array(item.data_type(), &items)?];
    let pairs = StructArray::try_new(fields.clone(), columns, None).map_err(unbuilt)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls, sorted).map_err(unbuilt)?))
}

fn leaf_array(data_type: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef> {
    let mut column = Column::new(data_type);
    for value in values {
        match value.and_then(|v| leaf(data_type, v)) {
            Some((Cell::Text(_), text)) => {
                column.push(&Cell::Text(Span::new(0, text.len(), true)), text.as_bytes());
            }
            Some((cell, _)) if column.push(&cell, &[]) => {}
            _ => column.push_null(),
        }
    }
    column.finish()
}
