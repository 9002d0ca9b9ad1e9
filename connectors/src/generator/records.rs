//! Events of a web shop: eight columns, about 140 bytes of JSON a row.

use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringViewBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::random::{below, mix, pick};

/// 2026-01-01T00:00:00Z.
const START_US: i64 = 1_767_225_600_000_000;
const EVENTS: [&str; 6] = ["view", "click", "cart", "purchase", "refund", "search"];
const COUNTRIES: [&str; 10] = ["DE", "US", "FR", "GB", "ES", "IT", "JP", "BR", "IN", "PL"];
const WORDS: [&str; 12] = [
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "ümlaut",
    "tab\there",
    "quote\"d",
    "plain",
    "back\\slash",
];

/// `Timestamp(µs, UTC)`.
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The columns.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("ts", timestamp(), true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("event", DataType::Utf8View, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("country", DataType::Utf8View, true),
        Field::new("url", DataType::Utf8View, true),
        Field::new("note", DataType::Utf8View, true),
    ]))
}

/// A text column, one row after the other written into a buffer.
pub(super) fn text(rows: Range<u64>, mut write: impl FnMut(u64, &mut String)) -> ArrayRef {
    let mut builder = StringViewBuilder::new();
    let mut value = String::new();
    for row in rows {
        value.clear();
        write(row, &mut value);
        builder.append_value(&value);
    }
    Arc::new(builder.finish())
}

/// A timestamp column.
pub(super) fn times(rows: Range<u64>, at_us: impl Fn(u64) -> i64) -> ArrayRef {
    let values: TimestampMicrosecondArray = rows.map(|r| Some(at_us(r))).collect();
    Arc::new(values.with_timezone("UTC"))
}

/// One column.
pub(super) fn column(seed: u64, name: &str, rows: Range<u64>) -> ArrayRef {
    let number = |salt, n| move |r: u64| below(seed, r, salt, n);
    match name {
        "id" => Arc::new(Int64Array::from_iter_values(rows.map(|r| r as i64))),
        // A thousand events a second, in order.
        "ts" => times(rows, |r| START_US + r as i64 * 1000),
        "user_id" => Arc::new(Int64Array::from_iter_values(rows.map(number(1, 100_000)).map(|v| v as i64))),
        "event" => text(rows, |r, out| out.push_str(pick(seed, r, 2, &EVENTS))),
        "amount" => {
            Arc::new(Float64Array::from_iter_values(rows.map(number(3, 100_000)).map(|v| v as f64 / 100.0)))
        }
        "country" => text(rows, |r, out| out.push_str(pick(seed, r, 4, &COUNTRIES))),
        "url" => text(rows, |r, out| {
            let (section, page) = (below(seed, r, 5, 50), below(seed, r, 6, 10_000));
            write!(out, "/shop/{section}/item/{page}").expect("a string takes all that is written to it");
        }),
        _ => text(rows, |r, out| {
            for word in 0..1 + mix(seed, r, 7) % 4 {
                if word > 0 {
                    out.push(' ');
                }
                out.push_str(pick(seed, r, 8 + word, &WORDS));
            }
        }),
    }
}
