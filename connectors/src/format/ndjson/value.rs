//! Arrow values as JSON text.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
    Int64Array, StringViewArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conveyor_model::{Error, Result};
use wide::u8x16;

use super::super::text_scan::sixteen;
use super::super::text_time::{from_unit, write_date, write_timestamp};
use super::super::text_write::{Fixed, Pen};

/// Values of a column and whether they are null.
#[derive(Debug)]
pub(in super::super) struct Value {
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    Unsigned(UInt64Array),
    Float(Float64Array),
    Float32(Float32Array),
    Text(StringViewArray),
    Timestamp(ScalarBuffer<i64>, TimeUnit, bool),
    Date(ScalarBuffer<i32>),
    Decimal(Decimal128Array),
    Binary(BinaryArray),
    List(OffsetBuffer<i32>, Box<Value>),
    Struct(Vec<(Fixed, Value)>),
    Map(OffsetBuffer<i32>, StringViewArray, Box<Value>),
}

/// A key as it stands in an object, with the byte before it.
pub(super) fn key(name: &str, first: bool) -> Fixed {
    let mut pen = Pen::default();
    pen.room(1);
    pen.byte(if first { b'{' } else { b',' });
    write_text(name.as_bytes(), &mut pen);
    pen.room(1);
    pen.byte(b':');
    let mut text = Vec::new();
    pen.flush(&mut text);
    Fixed::new(&text)
}

/// The type that values of a type are brought to before they are written; `None` if they are written as they are.
fn canonical(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Time32(_) | DataType::Time64(_) | DataType::Decimal256(..) => DataType::Utf8View,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
        DataType::Dictionary(_, value) => value.as_ref().clone(),
        _ => return None,
    })
}

/// Whether values of a type can be written.
pub(in super::super) fn writable(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            writable(item.data_type())
        }
        DataType::Struct(fields) => fields.iter().all(|f| writable(f.data_type())),
        DataType::Map(entries, _) => matches!(entries.data_type(), DataType::Struct(f) if f.len() == 2
            && matches!(f[0].data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
            && writable(f[1].data_type())),
        DataType::Dictionary(_, value) => writable(value),
        DataType::Null | DataType::Boolean | DataType::Int64 | DataType::UInt64 | DataType::Float32 => true,
        DataType::Float64 | DataType::Utf8View | DataType::Timestamp(..) | DataType::Date32 => true,
        DataType::Decimal128(..) | DataType::Binary => true,
        _ => canonical(data_type).is_some(),
    }
}

fn unwritable(data_type: &DataType) -> Error {
    Error::bad_input("type-unsupported", format!("JSON cannot hold values of type {data_type}"))
}

impl Value {
    /// Values of a column.
    ///
    /// # Errors
    /// If its type is not [`writable`].
    pub(in super::super) fn new(array: &ArrayRef) -> Result<Self> {
        let data_type = array.data_type();
        if let Some(to) = canonical(data_type) {
            let array = cast(array, &to).map_err(|error| unwritable(data_type).because(error))?;
            return Value::new(&array);
        }
        let values = match data_type {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean().clone()),
            DataType::Int64 => Values::Int(array.as_primitive().clone()),
            DataType::UInt64 => Values::Unsigned(array.as_primitive().clone()),
            DataType::Float64 => Values::Float(array.as_primitive().clone()),
            DataType::Float32 => Values::Float32(array.as_primitive().clone()),
            DataType::Utf8View => Values::Text(array.as_string_view().clone()),
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>().values().clone()),
            DataType::Decimal128(..) => Values::Decimal(array.as_primitive().clone()),
            DataType::Binary => Values::Binary(array.as_binary().clone()),
            DataType::Timestamp(unit, zone) => {
                Values::Timestamp(instants(array, *unit), *unit, zone.is_some())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(list.offsets().clone(), Box::new(Value::new(list.values())?))
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().map(Value::new);
                let names = fields.iter().enumerate().map(|(i, f)| key(f.name(), i == 0));
                Values::Struct(names.zip(columns).map(|(n, c)| Ok((n, c?))).collect::<Result<_>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let keys =
                    cast(map.keys(), &DataType::Utf8View).map_err(|e| unwritable(data_type).because(e))?;
                let items = Box::new(Value::new(map.values())?);
                Values::Map(map.offsets().clone(), keys.as_string_view().clone(), items)
            }
            _ => return Err(unwritable(data_type)),
        };
        let nulls = array.nulls().filter(|n| n.null_count() > 0).cloned();
        Ok(Self { nulls, values })
    }

    /// Writes the value of a row. `false` if it is a number that JSON does not have.
    #[inline(always)]
    pub(in super::super) fn write(&self, row: usize, pen: &mut Pen) -> bool {
        if let Some(nulls) = &self.nulls
            && nulls.is_null(row)
        {
            pen.room(0);
            pen.bytes(b"null");
            return true;
        }
        match &self.values {
            Values::Int(v) => pen.integer(v.values()[row]),
            Values::Text(v) => write_view(v, row, pen),
            Values::Timestamp(v, unit, zone) => {
                pen.room(0);
                pen.byte(b'"');
                write_timestamp(from_unit(v[row], *unit), *zone, pen);
                pen.room(0);
                pen.byte(b'"');
            }
            Values::Float(v) => {
                let value = v.values()[row];
                if !value.is_finite() {
                    return false;
                }
                pen.float(value);
            }
            _ => return self.write_rare(row, pen),
        }
        true
    }

    fn write_rare(&self, row: usize, pen: &mut Pen) -> bool {
        pen.room(0);
        match &self.values {
            Values::Bool(v) => pen.bytes(if v.value(row) { b"true" } else { b"false" }),
            Values::Unsigned(v) => pen.integer(v.value(row)),
            Values::Float32(v) if !v.value(row).is_finite() => return false,
            Values::Float32(v) => pen.float32(v.value(row)),
            Values::Date(v) => {
                pen.byte(b'"');
                write_date(i64::from(v[row]), pen);
                pen.byte(b'"');
            }
            Values::Decimal(v) => pen.plain(v.value_as_string(row).as_bytes()),
            Values::Binary(v) => {
                let text = STANDARD.encode(v.value(row));
                pen.byte(b'"');
                pen.plain(text.as_bytes());
                pen.byte(b'"');
            }
            Values::List(offsets, items) => return write_list(offsets, items, row, pen),
            Values::Struct(fields) => return write_struct(fields, row, pen),
            Values::Map(offsets, keys, items) => return write_map(offsets, keys, items, row, pen),
            Values::Null | Values::Int(_) | Values::Text(_) | Values::Timestamp(..) | Values::Float(_) => {
                pen.bytes(b"null");
            }
        }
        true
    }
}

fn write_list(offsets: &OffsetBuffer<i32>, items: &Value, row: usize, pen: &mut Pen) -> bool {
    pen.byte(b'[');
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    for item in start..end {
        pen.room(1);
        if item > start {
            pen.byte(b',');
        }
        if !items.write(item, pen) {
            return false;
        }
    }
    pen.room(1);
    pen.byte(b']');
    true
}

fn write_struct(fields: &[(Fixed, Value)], row: usize, pen: &mut Pen) -> bool {
    if fields.is_empty() {
        pen.byte(b'{');
    }
    for (key, value) in fields {
        pen.fixed(key);
        if !value.write(row, pen) {
            return false;
        }
    }
    pen.room(1);
    pen.byte(b'}');
    true
}

fn write_map(
    offsets: &OffsetBuffer<i32>,
    keys: &StringViewArray,
    items: &Value,
    row: usize,
    pen: &mut Pen,
) -> bool {
    pen.byte(b'{');
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    for item in start..end {
        pen.room(1);
        if item > start {
            pen.byte(b',');
        }
        write_text(keys.value(item).as_bytes(), pen);
        pen.room(1);
        pen.byte(b':');
        if !items.write(item, pen) {
            return false;
        }
    }
    pen.room(1);
    pen.byte(b'}');
    true
}

fn instants(array: &ArrayRef, unit: TimeUnit) -> ScalarBuffer<i64> {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values().clone(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values().clone(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values().clone(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values().clone(),
    }
}

/// One bit for each byte that cannot stand in a JSON string as it is.
#[inline(always)]
fn special(chunk: [u8; 16]) -> u32 {
    let v = u8x16::new(chunk);
    let control = v.min(u8x16::splat(0x1f)).simd_eq(v);
    (v.simd_eq(u8x16::splat(b'"')) | v.simd_eq(u8x16::splat(b'\\')) | control).to_bitmask()
}

/// Writes the text of a row as a JSON string. Texts of up to twelve bytes stand in their view itself.
#[inline(always)]
fn write_view(array: &StringViewArray, row: usize, pen: &mut Pen) {
    let view = array.views()[row];
    let len = view as u32 as usize;
    if len > 12 {
        let (buffer, start) = ((view >> 64) as u32 as usize, (view >> 96) as usize);
        return write_text(&array.data_buffers()[buffer][start..start + len], pen);
    }
    let chunk = (view >> 32).to_le_bytes();
    if special(chunk) & ((1 << len) - 1) != 0 {
        return write_text(&chunk[..len], pen);
    }
    pen.room(0);
    pen.byte(b'"');
    pen.part(chunk, len);
    pen.byte(b'"');
}

/// Writes text as a JSON string.
#[inline(always)]
fn write_text(text: &[u8], pen: &mut Pen) {
    pen.room(text.len() + 2);
    pen.byte(b'"');
    let mut at = 0;
    while let Some(chunk) = sixteen(text, at) {
        let stop = special(chunk);
        if stop != 0 {
            pen.part(chunk, stop.trailing_zeros() as usize);
            return write_escaped(&text[at + stop.trailing_zeros() as usize..], pen);
        }
        pen.part(chunk, 16);
        at += 16;
    }
    let mut tail = [b' '; 16];
    let rest = &text[at..];
    tail[..rest.len()].copy_from_slice(rest);
    if special(tail) != 0 {
        return write_escaped(rest, pen);
    }
    pen.part(tail, rest.len());
    pen.byte(b'"');
}

/// Writes the rest of a string in which something must be escaped, and its closing quote.
#[cold]
fn write_escaped(text: &[u8], pen: &mut Pen) {
    pen.room(6 * text.len() + 1);
    for &b in text {
        match b {
            b'"' => pen.bytes(b"\\\""),
            b'\\' => pen.bytes(b"\\\\"),
            b'\n' => pen.bytes(b"\\n"),
            b'\r' => pen.bytes(b"\\r"),
            b'\t' => pen.bytes(b"\\t"),
            8 => pen.bytes(b"\\b"),
            12 => pen.bytes(b"\\f"),
            0..0x20 => {
                let hex = |n: u8| b"0123456789abcdef"[usize::from(n)];
                pen.bytes(&[b'\\', b'u', b'0', b'0', hex(b >> 4), hex(b & 15)]);
            }
            _ => pen.byte(b),
        }
    }
    pen.byte(b'"');
}
