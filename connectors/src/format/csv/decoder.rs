//! CSV records into rows.

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::dead_letter::RowError;
use conveyor_model::{Error, Result};

use super::super::infer::header_names;
use super::super::text_column::{Cell, Column, Kind, Span, decimal, timely};
use super::super::text_number::{float, integer, whole};
use super::super::text_record::{Records, Slot, check_utf8};
use super::super::text_write::shown;
use super::super::{DecodeOptions, Decoded, TextDecoder};
use super::fields::{Field, Fields, Within, record_end, record_end_from, unquote};
use super::{CsvOptions, Malformed};

/// Decoder of CSV.
#[derive(Debug)]
pub struct Decoder {
    records: Records,
    full: SchemaRef,
    record: Record,
    /// Where an overlong record was left.
    within: Within,
}

/// What reading one record needs.
#[derive(Debug)]
struct Record {
    csv: CsvOptions,
    /// The slot of each column of the file, where it is wanted.
    slot_of: Vec<Option<usize>>,
    /// Value of each slot.
    fields: Vec<Field>,
    cells: Vec<Cell>,
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// As for [`TextFormat::decoder`](super::super::TextFormat::decoder).
    pub fn new(options: DecodeOptions, csv: CsvOptions) -> Result<Self> {
        let records = Records::new(&options)?;
        if let Some(slot) = records.slots.iter().find(|s| s.kind == Kind::Other) {
            let message = format!("column `{}`: CSV cannot hold {}", slot.name, slot.data_type);
            return Err(Error::bad_input("type-unsupported", message)
                .help("declare it as a number, a boolean, a timestamp, a date or text"));
        }
        let full = options.full_schema;
        let mut slot_of = vec![None; full.fields().len()];
        for (at, slot) in records.slots.iter().enumerate() {
            slot_of[slot.index] = Some(at);
        }
        let none = Field { start: 0, end: 0, quoted: false, escaped: false, ascii: true };
        let fields = vec![none; records.slots.len()];
        let cells = vec![Cell::Missing; records.slots.len()];
        let record = Record { csv, slot_of, fields, cells };
        Ok(Self { records, full, record, within: Within::Start })
    }

    /// Reads the header at the start of the file: the first byte behind it, `None` if its end is not in the input.
    fn header(&self, text: &[u8], last: bool) -> Result<Option<usize>> {
        let csv = &self.record.csv;
        let mut at = if text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        while csv.header && at < text.len() {
            let (end, next) = match record_end(csv, &text[at..]) {
                Some(n) => (at + n, at + n + 1),
                None if last => (text.len(), text.len()),
                None if text.len() - at > self.records.max_record_bytes => {
                    return Err(Error::bad_input("csv-header", "the header is too long to be one"));
                }
                None => return Ok(None),
            };
            let line = strip(text, at, end);
            at = next;
            if line.is_empty() || csv.comment == Some(line[0]) {
                continue;
            }
            let names = header_names(csv, line)?;
            let known: Vec<_> = self.full.fields().iter().map(|f| f.name().as_str()).collect();
            if names != known {
                let message = format!(
                    "the header names the columns {}, but the schema was made for {}",
                    names.join(", "),
                    known.join(", ")
                );
                return Err(Error::bad_input("csv-header", message)
                    .help("read files with different columns as different sources"));
            }
            return Ok(Some(at));
        }
        Ok(Some(at))
    }
}

/// The record `start..end` without its carriage return.
fn strip(text: &[u8], start: usize, end: usize) -> &[u8] {
    let line = &text[start..end];
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl TextDecoder for Decoder {
    fn schema(&self) -> SchemaRef {
        self.records.schema()
    }

    fn decode(&mut self, input: &Bytes, offset: u64, last: bool) -> Result<Decoded> {
        let (input, whole) = Records::cut(input);
        let last = last && whole;
        let text: &[u8] = &input;
        let (mut at, mut overlong) = (0, false);
        self.records.begin();
        if offset == 0 {
            match self.header(text, last)? {
                Some(behind) => at = behind,
                None => return self.records.finish(0, false),
            }
        }
        while at < text.len() && !self.records.full() {
            let position = offset + at as u64;
            let (end, next) = match record_end(&self.record.csv, &text[at..]) {
                Some(n) => (at + n, at + n + 1),
                None if last => (text.len(), text.len()),
                None if text.len() - at > self.records.max_record_bytes => {
                    self.within = Within::Start;
                    record_end_from(&self.record.csv, &text[at..], &mut self.within);
                    self.records.reject_overlong(position, &text[at..]);
                    at = text.len();
                    overlong = true;
                    break;
                }
                None => break,
            };
            let line = strip(text, at, end);
            let comment = self.record.csv.comment;
            if end - at > self.records.max_record_bytes {
                self.records.reject_overlong(position, line);
            } else if !line.is_empty() && (comment.is_none() || comment != line.first().copied()) {
                let outcome = self.record.read(&mut self.records, text, at, at + line.len(), position);
                match outcome {
                    Ok(true) => {}
                    Ok(false) => self.records.prune(),
                    Err(error) => self.records.reject(position, error, line),
                }
            }
            at = next;
        }
        self.records.finish(at, overlong)
    }

    fn skip(&mut self, piece: &[u8]) -> Option<usize> {
        let end = if self.record.csv.multiline {
            record_end_from(&self.record.csv, piece, &mut self.within)
        } else {
            memchr::memchr(b'\n', piece)
        };
        end.map(|end| end + 1)
    }
}

impl Record {
    /// Reads the record `start..end` and appends its row; `false` if the predicate leaves it out.
    #[inline(always)]
    fn read(
        &mut self,
        records: &mut Records,
        text: &[u8],
        start: usize,
        end: usize,
        position: u64,
    ) -> Result<bool, RowError> {
        self.fields(text, start, end)?;
        let mut failed = None;
        if records.filtered {
            for (at, slot) in records.slots.iter().enumerate().filter(|(_, slot)| !slot.tests.is_empty()) {
                self.cells[at] = self.cell(slot.kind, self.fields[at], text);
                match self.hold(slot, &self.cells[at], text) {
                    Some(true) => {}
                    Some(false) => return Ok(false),
                    None => failed = failed.or(Some(at)),
                }
            }
        }
        if let Some(at) = failed {
            return Err(misfit(&records.slots[at], self.cells[at], text));
        }
        for (at, slot) in records.slots.iter().enumerate().filter(|(_, slot)| slot.tests.is_empty()) {
            self.cells[at] = self.cell(slot.kind, self.fields[at], text);
        }
        let csv = &self.csv;
        records
            .push(&self.cells, text, position, |slot, cell, column| resolve(csv, slot, cell, column, text))?;
        Ok(true)
    }

    /// Takes the record apart.
    #[inline(always)]
    fn fields(&mut self, text: &[u8], start: usize, end: usize) -> Result<(), RowError> {
        let mut fields = Fields::new(&self.csv, text, start, end);
        let mut count = 0;
        while let Some(field) = fields.next() {
            let field = field.map_err(quotes)?;
            if let Some(Some(slot)) = self.slot_of.get(count) {
                self.fields[*slot] = field;
            }
            count += 1;
        }
        if count != self.slot_of.len() {
            let message = format!("expected {} values, found {count}", self.slot_of.len());
            return Err(RowError::new("csv-columns", message));
        }
        Ok(())
    }

    /// A value as its column wants it.
    #[inline(always)]
    fn cell(&self, kind: Kind, field: Field, text: &[u8]) -> Cell {
        let span = Span::new(field.start, field.end, field.ascii);
        let value = span.of(text);
        if !field.quoted && (value.is_empty() || self.is_null(value)) {
            return Cell::Null;
        }
        match kind {
            Kind::Text if field.escaped => return Cell::Escaped(span),
            Kind::Text => return Cell::Text(span),
            _ => {}
        }
        let value = value.trim_ascii();
        if value.is_empty() {
            return Cell::Null;
        }
        convert(kind, value).unwrap_or(Cell::Bad(span))
    }

    #[inline(always)]
    fn is_null(&self, value: &[u8]) -> bool {
        self.csv.null_values.iter().any(|n| n.as_bytes() == value)
    }

    fn hold(&self, slot: &Slot, cell: &Cell, text: &[u8]) -> Option<bool> {
        match cell {
            Cell::Escaped(span) => {
                let mut value = Vec::new();
                unquote(&self.csv, span.of(text), &mut value);
                Some(slot.tests.hold_text(&value))
            }
            _ => slot.tests.hold(cell, text),
        }
    }
}

fn quotes(malformed: Malformed) -> RowError {
    RowError::new("csv-quote", malformed.message())
}

/// A value that is not text.
#[inline(always)]
fn convert(kind: Kind, value: &[u8]) -> Option<Cell> {
    match kind {
        Kind::Int(least, greatest) => {
            let number = match integer(value, 0) {
                Some((number, end)) if end == value.len() => number,
                _ => std::str::from_utf8(value).ok()?.parse().ok()?,
            };
            (least..=greatest).contains(&number).then_some(Cell::Int(number))
        }
        Kind::Float => match float(value, 0) {
            Some((number, end)) if end == value.len() => Some(Cell::Float(number)),
            _ => std::str::from_utf8(value).ok()?.parse().ok().map(Cell::Float),
        },
        Kind::Timestamp(unit) if value.len() == 10 => {
            let days = super::super::text_time::date(value)?;
            super::super::text_time::in_unit((days * 86_400, 0), unit).map(Cell::Int)
        }
        Kind::Timestamp(_) | Kind::Date => timely(kind, value),
        Kind::Bool => match value {
            b"1" | b"t" | b"T" => Some(Cell::Bool(true)),
            b"0" | b"f" | b"F" => Some(Cell::Bool(false)),
            _ if value.eq_ignore_ascii_case(b"true") => Some(Cell::Bool(true)),
            _ if value.eq_ignore_ascii_case(b"false") => Some(Cell::Bool(false)),
            _ => None,
        },
        Kind::Unsigned => {
            whole(value).ok().filter(|v| (0..=i128::from(u64::MAX)).contains(v)).map(Cell::Wide)
        }
        Kind::Decimal(precision, scale) => decimal(value, precision, scale).ok().map(Cell::Wide),
        Kind::Text | Kind::Other => None,
    }
}

/// Puts a cell that is not plain into its column.
fn resolve(
    csv: &CsvOptions,
    slot: &Slot,
    cell: Cell,
    column: &mut Column,
    text: &[u8],
) -> Result<(), RowError> {
    match cell {
        Cell::Text(span) => {
            check_utf8(slot, span.of(text))?;
            column.push(&Cell::Text(Span { ascii: true, ..span }), text);
        }
        Cell::Escaped(span) => {
            check_utf8(slot, span.of(text))?;
            column.push_text(|out| {
                unquote(csv, span.of(text), out);
                Ok(())
            })?;
        }
        _ => return Err(misfit(slot, cell, text)),
    }
    Ok(())
}

#[cold]
fn misfit(slot: &Slot, cell: Cell, text: &[u8]) -> RowError {
    let value = match cell {
        Cell::Bad(span) | Cell::Text(span) | Cell::Escaped(span) | Cell::Raw(span) => span.of(text),
        _ => &[],
    };
    let message = format!("column `{}`: {} is not {}", slot.name, shown(value), slot.kind.name());
    RowError::new("cast-failed", message).column(&slot.name)
}
