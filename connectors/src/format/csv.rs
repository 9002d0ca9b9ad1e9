//! CSV: values between delimiters.
//!
//! # Reading
//! Columns go by their place; the header, where there is one, must name the columns of the schema in their order, or the
//! file is refused (`csv-header`). A byte order mark and blank lines are skipped.
//!
//! - An unquoted value that is empty or one of `null_values` is null. A quoted value is never null, except for an empty one
//!   in a column that is not text. Blanks around numbers, booleans and times do not count.
//! - Without `multiline` a record is a line, and a quote left open at its end rejects it (`csv-quote`), as does text behind a
//!   closing quote. With it, a quoted value may hold line ends.
//! - A record with too many or too few values is rejected (`csv-columns`), before the predicate is looked at. A
//!   record for which the predicate is not true is left out whatever its other values are.
//! - A value that cannot be converted rejects its record: `cast-failed`, `invalid-utf8`; also `record-too-long`. Values of
//!   unwanted columns are not looked at.
//!
//! # Writing
//! The header first, even if no row follows. Values are quoted where they must be: for a delimiter, a quote, a line end, a
//! text that reads as null. Timestamps as RFC 3339, binary as base64, nested values as JSON.

mod decoder;
mod encoder;
mod fields;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub(super) use fields::{Fields, record_end, unquote};

/// How values are separated and quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first record names the columns. Read and written.
    pub header: bool,
    /// Byte between values.
    pub delimiter: u8,
    /// Byte around values that hold a delimiter, a quote or a line end; `None` means that quotes are ordinary.
    pub quote: Option<u8>,
    /// Byte before a quote within a quoted value, beside doubling it.
    pub escape: Option<u8>,
    /// Lines that start with this byte are skipped.
    pub comment: Option<u8>,
    /// Unquoted values that mean null, beside the empty one.
    pub null_values: Vec<String>,
    /// What is written for null.
    pub null_text: String,
    /// Whether quoted values may hold line ends. Then a file cannot be read in ranges.
    pub multiline: bool,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self {
            header: true,
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            comment: None,
            null_values: Vec::new(),
            null_text: String::new(),
            multiline: false,
        }
    }
}

/// What is wrong with a record as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A quote is not closed.
    Open,
    /// Something stands behind a closing quote.
    Behind,
}

impl Malformed {
    /// In words.
    pub(super) fn message(self) -> &'static str {
        match self {
            Malformed::Open => "a quoted value is not closed in its record",
            Malformed::Behind => "something stands between a closing quote and the next delimiter",
        }
    }
}
