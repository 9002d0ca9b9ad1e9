//! Columns being built: cells of one row come in, Arrow arrays go out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, NullBufferBuilder,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use conveyor_model::{Error, Result};

use super::text_number::{Misfit, number_end, scaled};
use super::text_scan::sixteen;
use super::text_time;

/// How the text of a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` and `false`.
    Bool,
    /// Whole numbers between two bounds, both of which an `i64` holds.
    Int(i64, i64),
    /// Whole numbers from 0 on that need 64 bits.
    Unsigned,
    /// Numbers.
    Float,
    /// Numbers with a precision and a scale.
    Decimal(u8, i8),
    /// Text.
    Text,
    /// Points in time.
    Timestamp(TimeUnit),
    /// Days.
    Date,
    /// Lists, structs, maps, binary and the rest: read one value at a time.
    Other,
}

impl Kind {
    /// How columns of a type are read.
    pub(super) fn of(data_type: &DataType) -> Kind {
        match data_type {
            DataType::Boolean => Kind::Bool,
            DataType::Int8 => Kind::Int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => Kind::Int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => Kind::Int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => Kind::Int(i64::MIN, i64::MAX),
            DataType::UInt8 => Kind::Int(0, u8::MAX.into()),
            DataType::UInt16 => Kind::Int(0, u16::MAX.into()),
            DataType::UInt32 => Kind::Int(0, u32::MAX.into()),
            DataType::UInt64 => Kind::Unsigned,
            DataType::Float32 | DataType::Float64 => Kind::Float,
            DataType::Decimal128(precision, scale) if *scale >= 0 => Kind::Decimal(*precision, *scale),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
            DataType::Timestamp(unit, _) => Kind::Timestamp(*unit),
            DataType::Date32 => Kind::Date,
            _ => Kind::Other,
        }
    }

    /// What a person calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Bool => "a boolean",
            Kind::Int(..) | Kind::Unsigned => "an integer",
            Kind::Float => "a number",
            Kind::Decimal(..) => "a decimal",
            Kind::Text => "text",
            Kind::Timestamp(_) => "a timestamp",
            Kind::Date => "a date",
            Kind::Other => "a nested value",
        }
    }
}

/// One value of the row at hand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cell {
    /// Not seen yet; null if it stays so.
    Missing,
    /// Null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number, a timestamp in its column's unit or a date.
    Int(i64),
    /// A number.
    Float(f64),
    /// A whole number beyond `i64`, or a decimal times its scale.
    Wide(i128),
    /// Text that stands in the input as it is.
    Text(Span),
    /// Text with escapes.
    Escaped(Span),
    /// A value that is read when the row is taken, if it is.
    Raw(Span),
    /// A value that its column cannot hold.
    Bad(Span),
}

/// Bytes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) len: u32,
    /// Whether all bytes are known to be ASCII.
    pub(super) ascii: bool,
}

impl Span {
    /// Bytes `start..end`. Inputs are cut to what 31 bits address.
    #[inline(always)]
    pub(super) fn new(start: usize, end: usize, ascii: bool) -> Self {
        Self { start: start as u32, len: (end - start) as u32, ascii }
    }

    /// The bytes.
    #[inline(always)]
    pub(super) fn of(self, input: &[u8]) -> &[u8] {
        &input[self.start as usize..][..self.len as usize]
    }
}

/// A timestamp or a date.
#[inline(always)]
pub(super) fn timely(kind: Kind, text: &[u8]) -> Option<Cell> {
    Some(Cell::Int(match kind {
        Kind::Timestamp(unit) => text_time::in_unit(text_time::timestamp(text)?, unit)?,
        _ => text_time::date(text)?,
    }))
}

/// A decimal: digits beyond the scale would be lost and are refused, unless they are zeros.
pub(super) fn decimal(token: &[u8], precision: u8, scale: i8) -> Result<i128, Misfit> {
    if number_end(token, 0) != Some(token.len()) {
        return Err(Misfit::Form);
    }
    let value = scaled(token, i32::from(scale))?;
    let bound = 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX);
    if value.abs() < bound { Ok(value) } else { Err(Misfit::Range) }
}

/// Values of one column, in the widest form of its kind.
#[derive(Debug)]
enum Values {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Wide(Vec<i128>),
    Float(Vec<f64>),
    Text(Vec<u128>),
    Other(Vec<Option<serde_json::Value>>),
}

/// A column being built.
#[derive(Debug)]
pub(super) struct Column {
    data_type: DataType,
    values: Values,
    nulls: NullBufferBuilder,
}

/// Text that does not stand in the input, shared by the columns of a batch. Views name it as buffer 1.
pub(super) const SIDE: u32 = 1;
const INPUT: u32 = 0;

/// The view of a text of `len` bytes at `start` of `data`, which is buffer `buffer`.
#[inline(always)]
fn view(data: &[u8], start: u32, len: u32, buffer: u32) -> u128 {
    let at = start as usize;
    if len <= 12 {
        let bytes = match sixteen(data, at) {
            Some(chunk) => u128::from_le_bytes(chunk),
            None => {
                let mut chunk = [0; 16];
                chunk[..len as usize].copy_from_slice(&data[at..at + len as usize]);
                u128::from_le_bytes(chunk)
            }
        };
        let kept = bytes & ((1u128 << (8 * len)) - 1);
        return u128::from(len) | kept << 32;
    }
    let prefix = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
    u128::from(len) | u128::from(prefix) << 32 | u128::from(buffer) << 64 | u128::from(start) << 96
}

impl Column {
    /// An empty column.
    pub(super) fn new(data_type: &DataType) -> Self {
        let values = match Kind::of(data_type) {
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Int(..) | Kind::Timestamp(_) | Kind::Date => Values::Int(Vec::new()),
            Kind::Unsigned | Kind::Decimal(..) => Values::Wide(Vec::new()),
            Kind::Float => Values::Float(Vec::new()),
            Kind::Text => Values::Text(Vec::new()),
            Kind::Other => Values::Other(Vec::new()),
        };
        Self { data_type: data_type.clone(), values, nulls: NullBufferBuilder::new(0) }
    }

    /// Makes room for `rows` rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(v) => v.reserve(rows),
            Values::Int(v) => v.reserve(rows),
            Values::Wide(v) => v.reserve(rows),
            Values::Float(v) => v.reserve(rows),
            Values::Text(v) => v.reserve(rows),
            Values::Other(v) => v.reserve(rows),
        }
    }

    /// Drops rows from `rows` on.
    pub(super) fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Bool(v) => v.truncate(rows),
            Values::Int(v) => v.truncate(rows),
            Values::Wide(v) => v.truncate(rows),
            Values::Float(v) => v.truncate(rows),
            Values::Text(v) => v.truncate(rows),
            Values::Other(v) => v.truncate(rows),
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    /// Appends null.
    pub(super) fn push_null(&mut self) {
        match &mut self.values {
            Values::Bool(v) => v.push(false),
            Values::Int(v) => v.push(0),
            Values::Wide(v) => v.push(0),
            Values::Float(v) => v.push(0.0),
            Values::Text(v) => v.push(0),
            Values::Other(v) => v.push(None),
        }
        self.nulls.append_null();
    }

    /// Appends a plain value. `false` if the cell is not of the column's kind, in which case nothing changes.
    #[inline(always)]
    pub(super) fn push(&mut self, cell: &Cell, input: &[u8]) -> bool {
        match (&mut self.values, cell) {
            (Values::Int(v), Cell::Int(x)) => v.push(*x),
            (Values::Float(v), Cell::Float(x)) => v.push(*x),
            (Values::Text(v), Cell::Text(s)) => v.push(view(input, s.start, s.len, INPUT)),
            (Values::Bool(v), Cell::Bool(x)) => v.push(*x),
            (Values::Wide(v), Cell::Wide(x)) => v.push(*x),
            (_, Cell::Missing | Cell::Null) => {
                self.push_null();
                return true;
            }
            _ => return false,
        }
        self.nulls.append_non_null();
        true
    }

    /// Appends text that was put at the end of the side buffer, from `start` on.
    pub(super) fn push_side(&mut self, side: &[u8], start: usize) {
        if let Values::Text(v) = &mut self.values {
            v.push(view(side, start as u32, (side.len() - start) as u32, SIDE));
            self.nulls.append_non_null();
        }
    }

    /// Appends a nested value.
    pub(super) fn push_other(&mut self, value: serde_json::Value) {
        if let Values::Other(v) = &mut self.values {
            v.push(Some(value));
            self.nulls.append_non_null();
        }
    }

    /// Bytes of text that stand in the input and are not part of their view.
    pub(super) fn borrowed(&self) -> usize {
        match &self.values {
            Values::Text(v) => {
                v.iter().map(|v| if is_long(*v, INPUT) { *v as u32 as usize } else { 0 }).sum()
            }
            _ => 0,
        }
    }

    /// Copies texts out of the input, so that the batch does not keep it alive.
    pub(super) fn detach(&mut self, input: &[u8], side: &mut Vec<u8>) {
        if let Values::Text(views) = &mut self.values {
            for v in views.iter_mut().filter(|v| is_long(**v, INPUT)) {
                let (len, start) = (*v as u32, (*v >> 96) as u32);
                let copy = side.len();
                side.extend_from_slice(&input[start as usize..][..len as usize]);
                *v = view(side, copy as u32, len, SIDE);
            }
        }
    }

    /// The array of the rows so far; the column is empty again.
    pub(super) fn finish(&mut self, input: &Buffer, side: &Buffer) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let capacity = |len: usize| Vec::with_capacity(len);
        let array: ArrayRef = match &mut self.values {
            Values::Bool(v) => {
                let array = BooleanArray::new(v.as_slice().into(), nulls);
                v.clear();
                Arc::new(array)
            }
            Values::Int(v) => {
                let rows = v.len();
                let values = ScalarBuffer::from(std::mem::replace(v, capacity(rows)));
                return int_array(&self.data_type, values, nulls);
            }
            Values::Wide(v) => {
                let values = std::mem::take(v);
                return wide_array(&self.data_type, values, nulls);
            }
            Values::Float(v) => {
                let rows = v.len();
                let values = std::mem::replace(v, Vec::with_capacity(rows));
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Values::Text(v) => {
                let rows = v.len();
                let views = std::mem::replace(v, Vec::with_capacity(rows));
                let uses = |buffer| views.iter().any(|v| is_long(*v, buffer));
                let buffers = match (uses(INPUT), uses(SIDE)) {
                    (false, false) => vec![],
                    (true, false) => vec![input.clone()],
                    // Views name the side buffer by its number, so a buffer stands before it.
                    (false, true) => vec![Buffer::default(), side.clone()],
                    (true, true) => vec![input.clone(), side.clone()],
                };
                let array = StringViewArray::try_new(views.into(), buffers, nulls);
                Arc::new(array.map_err(broken_invariant)?)
            }
            Values::Other(v) => {
                let values = std::mem::take(v);
                let values: Vec<_> = values.iter().map(Option::as_ref).collect();
                return super::ndjson::nested_array(&self.data_type, &values);
            }
        };
        convert(array, &self.data_type)
    }
}

fn is_long(view: u128, buffer: u32) -> bool {
    view as u32 > 12 && (view >> 64) as u32 == buffer
}

fn broken_invariant(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::runtime("decode-column", "a column could not be built from its values").because(error)
}

fn convert(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    cast(&array, data_type).map_err(broken_invariant)
}

fn int_array(
    data_type: &DataType,
    values: ScalarBuffer<i64>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Int64 => Arc::new(Int64Array::new(values, nulls)),
        DataType::Timestamp(unit, zone) => match unit {
            TimeUnit::Second => {
                Arc::new(TimestampSecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
            }
            TimeUnit::Millisecond => {
                Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
            }
            TimeUnit::Microsecond => {
                Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
            }
            TimeUnit::Nanosecond => {
                Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
            }
        },
        DataType::Date32 => {
            let days: Vec<i32> = values.iter().map(|v| *v as i32).collect();
            Arc::new(Date32Array::new(days.into(), nulls))
        }
        _ => return convert(Arc::new(Int64Array::new(values, nulls)), data_type),
    })
}

fn wide_array(
    data_type: &DataType,
    values: Vec<i128>,
    nulls: Option<arrow::buffer::NullBuffer>,
) -> Result<ArrayRef> {
    match data_type {
        DataType::UInt64 => {
            let values: Vec<u64> = values.iter().map(|v| *v as u64).collect();
            Ok(Arc::new(UInt64Array::new(values.into(), nulls)))
        }
        _ => {
            let array = Decimal128Array::new(values.into(), nulls);
            Ok(Arc::new(array.with_data_type(data_type.clone())))
        }
    }
}
