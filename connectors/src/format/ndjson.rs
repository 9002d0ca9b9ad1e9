//! NDJSON: one JSON object a line.
//!
//! # Reading
//! A record is a line (`\n` or `\r\n`); blank lines are skipped. The schema leads: only wanted columns are read, straight
//! from the bytes into Arrow's form.
//!
//! - A missing key and `null` are null. Of a repeated key the first counts. Unknown keys are ignored.
//! - A record whose predicate is not true is left out whatever else is wrong in it, as long as the columns of the
//!   predicate can be found.
//! - What is not wanted is only walked over: strings, brackets and nesting are checked, the rest is not. Once all
//!   wanted columns are found, the line must still end in `}`, but nothing between is looked at.
//! - A value that does not fit its column rejects the record: `json-type` (another type), `json-number-range` (does not fit
//!   in the column), `invalid-utf8` (also a surrogate escape without its partner), `json-syntax` (broken JSON, with the byte
//!   within the line), `json-depth` (nested deeper than 64), `record-too-long`.
//! - A column of text takes any value: what is not a string comes as its JSON text. Whole numbers may be written `1.0` or
//!   `1e3`. Timestamps and dates are strings as in RFC 3339. Binary is base64. A `\u0000` is a character like others.
//!
//! # Writing
//! One object a row, all columns in order, null as `null`, floats as the shortest text that reads back the same,
//! timestamps as RFC 3339 in UTC, binary as base64, maps and structs as objects. A row with a NaN or an infinite number is
//! refused (`json-nan`), because JSON has none.

mod decoder;
mod encoder;
mod keys;
mod nested;
#[cfg(test)]
mod tests;
mod value;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub(super) use nested::nested_array;
pub(super) use value::{Value, writable};
