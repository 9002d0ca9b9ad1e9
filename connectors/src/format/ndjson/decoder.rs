//! Lines of JSON into rows.

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use conveyor_model::Result;
use conveyor_model::dead_letter::RowError;

use super::super::text_column::{Cell, Column, Kind, Span, decimal, timely};
use super::super::text_number::{Misfit, float, integer, number_end, whole};
use super::super::text_record::{Records, Slot, check_utf8};
use super::super::text_scan::{MAX_DEPTH, SkipError, blanks, byte, string_end, unescape, value_end};
use super::super::{DecodeOptions, Decoded, TextDecoder};
use super::keys::{Keys, UNWANTED};
use super::nested;

/// Decoder of NDJSON.
#[derive(Debug)]
pub struct Decoder {
    records: Records,
    line: Line,
}

/// What reading one line needs.
#[derive(Debug)]
struct Line {
    keys: Keys,
    cells: Vec<Cell>,
}

/// What became of a line.
enum Outcome {
    Row,
    Pruned,
    Rejected(RowError),
}

/// A line that cannot be read. Boxed, so that results of hot functions fit into registers.
#[derive(Debug)]
pub(super) struct Fault(Box<(Broken, usize)>);

#[derive(Debug)]
enum Broken {
    Syntax(&'static str),
    Depth,
    KeyUtf8,
}

impl From<SkipError> for Fault {
    #[cold]
    fn from(error: SkipError) -> Self {
        match error {
            SkipError::Syntax(at) => Fault::syntax(at, "a value that does not end"),
            SkipError::Depth(at) => Fault(Box::new((Broken::Depth, at))),
        }
    }
}

impl Fault {
    fn syntax(at: usize, what: &'static str) -> Self {
        Self(Box::new((Broken::Syntax(what), at)))
    }

    /// The error, with the byte within the line that starts at `start`.
    fn error(self, start: usize) -> RowError {
        let (broken, at) = *self.0;
        let at = at - start + 1;
        match broken {
            Broken::Syntax(what) => RowError::new("json-syntax", format!("broken JSON at byte {at}: {what}")),
            Broken::Depth => {
                let message = format!("a value nests deeper than {MAX_DEPTH} at byte {at}");
                RowError::new("json-depth", message)
            }
            Broken::KeyUtf8 => RowError::new("invalid-utf8", format!("a key is not UTF-8 at byte {at}")),
        }
    }
}

impl Decoder {
    /// A decoder.
    ///
    /// # Errors
    /// As for [`TextFormat::decoder`](super::super::TextFormat::decoder).
    pub fn new(options: DecodeOptions) -> Result<Self> {
        let records = Records::new(&options)?;
        for slot in records.slots.iter().filter(|s| s.kind == Kind::Other) {
            nested::check(&slot.name, &slot.data_type)?;
        }
        let keys = Keys::new(records.slots.iter().map(|s| &*s.name));
        let cells = vec![Cell::Missing; records.slots.len()];
        Ok(Self { records, line: Line { keys, cells } })
    }
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
        if offset == 0 && text.starts_with(b"\xEF\xBB\xBF") {
            at = 3;
        }
        self.records.begin();
        while at < text.len() && !self.records.full() {
            let (end, next) = match memchr::memchr(b'\n', &text[at..]) {
                Some(n) => (at + n, at + n + 1),
                None if last => (text.len(), text.len()),
                None if text.len() - at > self.records.max_record_bytes => {
                    self.records.reject_overlong(offset + at as u64, &text[at..]);
                    at = text.len();
                    overlong = true;
                    break;
                }
                None => break,
            };
            self.record(text, at, end, offset);
            at = next;
        }
        self.records.finish(at, overlong)
    }
}

impl Decoder {
    /// Reads the line `start..end`.
    #[inline(always)]
    fn record(&mut self, text: &[u8], start: usize, end: usize, offset: u64) {
        let position = offset + start as u64;
        if end - start > self.records.max_record_bytes {
            self.records.reject_overlong(position, &text[start..end]);
            return;
        }
        let mut end = end;
        while end > start && matches!(text[end - 1], b'\r' | b' ' | b'\t') {
            end -= 1;
        }
        let first = blanks(text, start);
        if first >= end {
            return;
        }
        match self.line.read(&mut self.records, text, first, end, position) {
            Outcome::Row => {}
            Outcome::Pruned => self.records.prune(),
            Outcome::Rejected(error) => {
                self.records.reject(position, error, &text[start..end]);
            }
        }
    }
}

impl Line {
    /// Reads the line whose first byte is at `start` and whose last is before `end`, and appends its row.
    #[inline(always)]
    fn read(
        &mut self,
        records: &mut Records,
        text: &[u8],
        start: usize,
        end: usize,
        position: u64,
    ) -> Outcome {
        self.cells.fill(Cell::Missing);
        match self.cells(records, text, start) {
            Ok(true) => {}
            Ok(false) => return Outcome::Pruned,
            Err(fault) => return Outcome::Rejected(fault.error(start)),
        }
        if text[end - 1] != b'}' {
            return Outcome::Rejected(Fault::syntax(end, "the object does not end").error(start));
        }
        if records.filtered
            && let Some(outcome) = self.verdict(records, text)
        {
            return outcome;
        }
        match records
            .push(&self.cells, text, position, |slot, cell, column| resolve(slot, cell, column, text))
        {
            Ok(()) => Outcome::Row,
            Err(error) => Outcome::Rejected(error),
        }
    }

    /// Fills the cells from the object at `start`. `false` if a condition is known to be not true.
    #[inline(always)]
    fn cells(&mut self, records: &Records, text: &[u8], start: usize) -> Result<bool, Fault> {
        let (mut at, mut place, mut found) = (start, 0, 0);
        let wanted = self.cells.len();
        loop {
            let (slot, value) = match self.keys.predict(text, at, place) {
                Some((next, slot, value)) => {
                    place = next;
                    (slot, value)
                }
                None => match self.key(text, at, place, at == start)? {
                    Some((slot, value)) => {
                        place += 1;
                        (slot, value)
                    }
                    None => return Ok(true),
                },
            };
            if slot == UNWANTED || self.cells[slot] != Cell::Missing {
                at = value_end(text, value)?;
                continue;
            }
            let wants = &records.slots[slot];
            let cell = &mut self.cells[slot];
            let tested = !wants.tests.is_empty();
            at = read_value(wants.kind, text, value, tested, cell)?;
            if tested && wants.tests.hold(cell, text) == Some(false) {
                return Ok(false);
            }
            found += 1;
            if found == wanted {
                return Ok(true);
            }
        }
    }

    /// Reads a key that is not where it was expected: its slot and the start of its value; `None` at the object's end.
    #[cold]
    fn key(
        &mut self,
        text: &[u8],
        start: usize,
        place: usize,
        first: bool,
    ) -> Result<Option<(usize, usize)>, Fault> {
        let mut at = blanks(text, start);
        match (byte(text, at), first) {
            (b'{', true) | (b',', false) => {}
            (b'}', false) => return self.end(text, at),
            (_, true) => return Err(Fault::syntax(at, "a record must be an object")),
            (_, false) => return Err(Fault::syntax(at, "expected `,` or `}`")),
        }
        at = blanks(text, at + 1);
        if first && byte(text, at) == b'}' {
            return self.end(text, at);
        }
        if byte(text, at) != b'"' {
            return Err(Fault::syntax(at, "expected a key"));
        }
        let end = string_end(text, at + 1).map_err(|at| Fault::syntax(at, "a key that does not end"))?;
        let raw = &text[at + 1..end.at];
        if !end.ascii && simdutf8::basic::from_utf8(raw).is_err() {
            return Err(Fault(Box::new((Broken::KeyUtf8, at + 1))));
        }
        let slot = if end.escaped {
            let mut key = Vec::with_capacity(raw.len());
            unescape(raw, &mut key).map_err(|(n, what)| Fault::syntax(at + 1 + n, what))?;
            self.keys.slot(&key)
        } else {
            self.keys.slot(raw)
        };
        at = blanks(text, end.at + 1);
        if byte(text, at) != b':' {
            return Err(Fault::syntax(at, "expected `:`"));
        }
        at = blanks(text, at + 1);
        self.keys.learn(place, &text[start..at], slot);
        Ok(Some((slot, at)))
    }

    fn end(&self, text: &[u8], at: usize) -> Result<Option<(usize, usize)>, Fault> {
        let behind = blanks(text, at + 1);
        if byte(text, behind) != b'\n' {
            return Err(Fault::syntax(behind, "something follows the object"));
        }
        Ok(None)
    }

    /// What becomes of a line by the conditions that its values did not decide: on columns that are not there, and on
    /// values that their columns cannot hold.
    fn verdict(&self, records: &Records, text: &[u8]) -> Option<Outcome> {
        let mut rejected = None;
        for (slot, cell) in records.slots.iter().zip(&self.cells).filter(|(slot, _)| !slot.tests.is_empty()) {
            match slot.tests.hold(cell, text) {
                Some(true) => {}
                Some(false) => return Some(Outcome::Pruned),
                None if rejected.is_none() => {
                    let mut column = Column::new(&slot.data_type);
                    rejected = resolve(slot, *cell, &mut column, text).err();
                }
                None => {}
            }
        }
        rejected.map(Outcome::Rejected)
    }
}

/// Reads the value at `at` as its column wants it: puts it into `cell` and returns the first byte behind. `now` says that
/// a condition needs the value at once.
///
/// The cell is written in its place, part by part: built elsewhere and copied as a whole, it is loaded before its parts are
/// stored, for which the processor waits.
#[inline(always)]
pub(super) fn read_value(
    kind: Kind,
    text: &[u8],
    at: usize,
    now: bool,
    cell: &mut Cell,
) -> Result<usize, Fault> {
    match kind {
        Kind::Int(least, greatest) => {
            if let Some((value, end)) = integer(text, at)
                && least <= value
                && value <= greatest
            {
                *cell = Cell::Int(value);
                return Ok(end);
            }
        }
        Kind::Float => {
            if let Some((value, end)) = float(text, at) {
                *cell = Cell::Float(value);
                return Ok(end);
            }
        }
        Kind::Text if byte(text, at) == b'"' => {
            let end = string_end(text, at + 1).map_err(unended)?;
            let span = Span::new(at + 1, end.at, end.ascii);
            if end.escaped {
                *cell = Cell::Escaped(span);
            } else {
                *cell = Cell::Text(span);
            }
            return Ok(end.at + 1);
        }
        Kind::Timestamp(_) | Kind::Date if byte(text, at) == b'"' => {
            let end = string_end(text, at + 1).map_err(unended)?;
            let span = Span::new(at + 1, end.at, end.ascii);
            if now {
                *cell = timely(kind, span.of(text)).unwrap_or(Cell::Bad(span));
            } else {
                *cell = Cell::Raw(span);
            }
            return Ok(end.at + 1);
        }
        _ => {}
    }
    let (value, end) = read_other(kind, text, at)?;
    *cell = value;
    Ok(end)
}

#[cold]
fn unended(at: usize) -> Fault {
    Fault::syntax(at, "a string that does not end")
}

/// Values that are not what their column mostly holds.
#[cold]
fn read_other(kind: Kind, text: &[u8], at: usize) -> Result<(Cell, usize), Fault> {
    let end = value_end(text, at)?;
    let token = &text[at..end];
    let span = Span::new(at, end, false);
    let cell = match (kind, token) {
        (_, b"null") => Cell::Null,
        (Kind::Bool, b"true") => Cell::Bool(true),
        (Kind::Bool, b"false") => Cell::Bool(false),
        (Kind::Int(least, greatest), _) => match whole(token) {
            Ok(v) if i128::from(least) <= v && v <= i128::from(greatest) => Cell::Int(v as i64),
            _ => Cell::Bad(span),
        },
        (Kind::Unsigned, _) => match whole(token) {
            Ok(v) if v >= 0 && v <= i128::from(u64::MAX) => Cell::Wide(v),
            _ => Cell::Bad(span),
        },
        (Kind::Decimal(precision, scale), _) => {
            decimal(token, precision, scale).map_or(Cell::Bad(span), Cell::Wide)
        }
        (Kind::Text, _) if is_json(token) => Cell::Text(span),
        (Kind::Other, _) => Cell::Raw(span),
        _ => Cell::Bad(span),
    };
    Ok((cell, end))
}

fn is_json(token: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(token).is_ok()
}

/// Puts a cell that is not plain into its column.
fn resolve(slot: &Slot, cell: Cell, column: &mut Column, text: &[u8]) -> Result<(), RowError> {
    match cell {
        Cell::Text(span) => {
            check_utf8(slot, span.of(text))?;
            column.push(&Cell::Text(Span { ascii: true, ..span }), text);
        }
        Cell::Escaped(span) => {
            let raw = span.of(text);
            if !span.ascii {
                check_utf8(slot, raw)?;
            }
            let written = column.push_text(|out| unescape(raw, out));
            written.map_err(|(_, what)| {
                let code = if what == "lone surrogate" { "invalid-utf8" } else { "json-syntax" };
                RowError::new(code, format!("column `{}`: {what}", slot.name)).column(&slot.name)
            })?;
        }
        Cell::Raw(span) if slot.kind == Kind::Other => {
            column.push_other(nested::value(slot, span.of(text))?);
        }
        Cell::Raw(span) => match timely(slot.kind, span.of(text)) {
            Some(cell) => drop(column.push(&cell, text)),
            None => return Err(misfit(slot, span.of(text))),
        },
        Cell::Bad(span) => return Err(misfit(slot, span.of(text))),
        _ => {}
    }
    Ok(())
}

/// Why a value does not fit its column.
#[cold]
fn misfit(slot: &Slot, token: &[u8]) -> RowError {
    let shown = super::super::text_write::shown(token);
    let (name, wanted) = (&slot.name, slot.kind.name());
    let number = number_end(token, 0) == Some(token.len());
    let too_wide = match slot.kind {
        Kind::Int(..) | Kind::Unsigned => whole(token) != Err(Misfit::Form),
        Kind::Decimal(precision, scale) => decimal(token, precision, scale) == Err(Misfit::Range),
        Kind::Float => number,
        _ => false,
    };
    let error = if too_wide {
        let message = format!("column `{name}`: {shown} does not fit into {}", slot.data_type);
        RowError::new("json-number-range", message)
    } else if !is_json(token) && !matches!(slot.kind, Kind::Timestamp(_) | Kind::Date) {
        RowError::new("json-syntax", format!("column `{name}`: {shown} is not JSON"))
    } else {
        RowError::new("json-type", format!("column `{name}`: expected {wanted}, found {shown}"))
    };
    error.column(name)
}
