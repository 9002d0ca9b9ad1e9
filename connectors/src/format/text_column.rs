//! Columns being built: cells of one row come in, Arrow arrays go out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, NullBufferBuilder,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
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
    Text(Texts),
    Other(Vec<Option<serde_json::Value>>),
}

/// Texts of one column, copied out of the input: a batch that pointed into it would keep all of it in memory for the few
/// bytes that are wanted, and the input could not be read into again.
#[derive(Debug, Default)]
struct Texts {
    views: Vec<u128>,
    /// The texts that are too long for their view.
    bytes: Vec<u8>,
}

impl Texts {
    /// Appends text, all of which is UTF-8.
    #[inline(always)]
    fn push(&mut self, text: &[u8]) {
        if text.len() > INLINE {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(text);
            self.views.push(long_view(text, start));
        } else {
            self.views.push(short_view(text, 0, text.len()));
        }
    }

    /// The same for text that stands in `input`, where a short one can be taken with what is behind it.
    #[inline(always)]
    fn push_span(&mut self, input: &[u8], span: Span) {
        let len = span.len as usize;
        if len > INLINE {
            return self.push(span.of(input));
        }
        self.views.push(short_view(input, span.start as usize, len));
    }

    /// Appends what `write` appends to the bytes, if it succeeds.
    fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let text = &self.bytes[start..];
        if text.len() > INLINE {
            self.views.push(long_view(text, start));
        } else {
            self.views.push(short_view(text, 0, text.len()));
            self.bytes.truncate(start);
        }
        Ok(())
    }

    /// The array of the texts; none is left, and there is room for about as many bytes.
    fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<StringViewArray> {
        let (views, bytes) = (std::mem::take(&mut self.views), std::mem::take(&mut self.bytes));
        self.bytes = Vec::with_capacity((bytes.len() + bytes.len() / 8).max(bytes.capacity() / 2));
        assert!(
            u32::try_from(bytes.len()).is_ok(),
            "a batch has no more text than its input, which is cut to 31 bits"
        );
        let buffers = if bytes.is_empty() { vec![] } else { vec![Buffer::from_vec(bytes)] };
        text_array(views.into(), buffers, nulls)
    }
}

/// The array of views that [`Texts`] made. Arrow's own check of every text costs as much as a tenth of reading and writing
/// the row; debug builds do it nevertheless, so that tests would see a broken promise.
#[allow(unsafe_code)]
fn text_array(
    views: ScalarBuffer<u128>,
    buffers: Vec<Buffer>,
    nulls: Option<NullBuffer>,
) -> Result<StringViewArray> {
    if cfg!(debug_assertions) {
        return StringViewArray::try_new(views, buffers, nulls).map_err(broken_invariant);
    }
    // SAFETY: `Texts` makes each view from a slice that it has just put at that place of the only buffer, which afterwards
    // only grows, or from the text itself with zeros behind it. Decoders push nothing that they have not found to be
    // ASCII or checked as UTF-8. Nulls are as many as views: `Column` appends to both.
    Ok(unsafe { StringViewArray::new_unchecked(views, buffers, nulls) })
}

/// A column being built.
#[derive(Debug)]
pub(super) struct Column {
    data_type: DataType,
    values: Values,
    nulls: NullBufferBuilder,
}

/// Longest text that stands in its view.
const INLINE: usize = 12;

/// The view of a text of at most [`INLINE`] bytes at `at` of `data`.
#[inline(always)]
fn short_view(data: &[u8], at: usize, len: usize) -> u128 {
    let bytes = match sixteen(data, at) {
        Some(chunk) => u128::from_le_bytes(chunk),
        None => {
            let mut chunk = [0; 16];
            chunk[..len].copy_from_slice(&data[at..at + len]);
            u128::from_le_bytes(chunk)
        }
    };
    let kept = bytes & ((1u128 << (8 * len)) - 1);
    len as u128 | kept << 32
}

/// The view of a longer text, which starts at `start` of the column's bytes; 32 bits hold both (see [`Texts::finish`]).
#[inline(always)]
fn long_view(text: &[u8], start: usize) -> u128 {
    let prefix = u32::from_le_bytes([text[0], text[1], text[2], text[3]]);
    text.len() as u128 | u128::from(prefix) << 32 | (start as u128) << 96
}

impl Column {
    /// An empty column.
    pub(super) fn new(data_type: &DataType) -> Self {
        let values = match Kind::of(data_type) {
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Int(..) | Kind::Timestamp(_) | Kind::Date => Values::Int(Vec::new()),
            Kind::Unsigned | Kind::Decimal(..) => Values::Wide(Vec::new()),
            Kind::Float => Values::Float(Vec::new()),
            Kind::Text => Values::Text(Texts::default()),
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
            Values::Text(v) => v.views.reserve(rows),
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
            Values::Text(v) => v.views.truncate(rows),
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
            Values::Text(v) => v.views.push(0),
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
            (Values::Text(v), Cell::Text(span)) => v.push_span(input, *span),
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

    /// Appends the text that `write` appends to the bytes it is given: UTF-8. Nothing if it fails.
    ///
    /// # Errors
    /// What `write` says.
    pub(super) fn push_text<E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Values::Text(v) = &mut self.values {
            v.push_with(write)?;
            self.nulls.append_non_null();
        }
        Ok(())
    }

    /// Appends a nested value.
    pub(super) fn push_other(&mut self, value: serde_json::Value) {
        if let Values::Other(v) = &mut self.values {
            v.push(Some(value));
            self.nulls.append_non_null();
        }
    }

    /// The array of the rows so far; the column is empty again.
    pub(super) fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        let array: ArrayRef = match &mut self.values {
            Values::Bool(v) => {
                let array = BooleanArray::new(v.as_slice().into(), nulls);
                v.clear();
                Arc::new(array)
            }
            Values::Int(v) => {
                return int_array(&self.data_type, std::mem::take(v).into(), nulls);
            }
            Values::Wide(v) => {
                let values = std::mem::take(v);
                return wide_array(&self.data_type, values, nulls);
            }
            Values::Float(v) => {
                let values = std::mem::take(v);
                Arc::new(Float64Array::new(values.into(), nulls))
            }
            Values::Text(v) => Arc::new(v.finish(nulls)?),
            Values::Other(v) => {
                let values = std::mem::take(v);
                let values: Vec<_> = values.iter().map(Option::as_ref).collect();
                return super::ndjson::nested_array(&self.data_type, &values);
            }
        };
        convert(array, &self.data_type)
    }
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

fn int_array(data_type: &DataType, values: ScalarBuffer<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
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

fn wide_array(data_type: &DataType, values: Vec<i128>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
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
