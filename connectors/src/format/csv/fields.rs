//! The values of one record, and where records end.

use super::super::text_scan::sixteen;
use super::{CsvOptions, Malformed};
use wide::u8x16;

/// One value as it stands in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Field {
    /// First byte, behind the quote if there is one.
    pub(in super::super) start: usize,
    /// Behind its last byte.
    pub(in super::super) end: usize,
    /// Whether it stands in quotes.
    pub(in super::super) quoted: bool,
    /// Whether quotes or escapes within it must be undone.
    pub(in super::super) escaped: bool,
    /// Whether all its bytes are ASCII.
    pub(in super::super) ascii: bool,
}

/// Walks over the values of the record `at..end`.
#[derive(Debug)]
pub(in super::super) struct Fields<'a> {
    csv: &'a CsvOptions,
    text: &'a [u8],
    at: usize,
    end: usize,
    done: bool,
}

impl<'a> Fields<'a> {
    /// Of the record `start..end`, without its line end.
    pub(in super::super) fn new(csv: &'a CsvOptions, text: &'a [u8], start: usize, end: usize) -> Self {
        Self { csv, text, at: start, end, done: false }
    }

    /// The next value.
    ///
    /// # Errors
    /// If its quotes are wrong.
    #[inline(always)]
    pub(in super::super) fn next(&mut self) -> Option<Result<Field, Malformed>> {
        if self.done {
            return None;
        }
        if self.at < self.end && self.csv.quote == Some(self.text[self.at]) {
            return Some(self.quoted());
        }
        let start = self.at;
        let (end, ascii) = delimiter(&self.text[..self.end], start, self.csv.delimiter);
        self.behind(end);
        Some(Ok(Field { start, end, quoted: false, escaped: false, ascii }))
    }

    /// Goes on behind the value that ends at `end`.
    #[inline(always)]
    fn behind(&mut self, end: usize) {
        self.done = end >= self.end;
        self.at = end + 1;
    }

    fn quoted(&mut self) -> Result<Field, Malformed> {
        let quote = self.text[self.at];
        let start = self.at + 1;
        let (mut at, mut escaped) = (start, false);
        loop {
            let Some(&b) = self.text[..self.end].get(at) else {
                self.done = true;
                return Err(Malformed::Open);
            };
            if b == quote
                && self.text[..self.end].get(at + 1) == Some(&quote)
                && self.csv.escape != Some(quote)
            {
                escaped = true;
                at += 2;
            } else if b == quote {
                break;
            } else if self.csv.escape == Some(b) {
                escaped = true;
                at += 2;
            } else {
                at += 1;
            }
        }
        let field = Field { start, end: at, quoted: true, escaped, ascii: self.text[start..at].is_ascii() };
        match self.text[..self.end].get(at + 1) {
            None => self.behind(self.end),
            Some(b) if *b == self.csv.delimiter => self.behind(at + 1),
            Some(_) => {
                self.done = true;
                return Err(Malformed::Behind);
            }
        }
        Ok(field)
    }
}

/// The next delimiter from `at` on, or the text's end, and whether only ASCII stands before it.
#[inline(always)]
fn delimiter(text: &[u8], mut at: usize, delimiter: u8) -> (usize, bool) {
    let splat = u8x16::splat(delimiter);
    let mut high = 0;
    while let Some(chunk) = sixteen(text, at) {
        let v = u8x16::new(chunk);
        let stop = v.simd_eq(splat).to_bitmask();
        let above = v.to_bitmask();
        if stop != 0 {
            let n = stop.trailing_zeros();
            return (at + n as usize, (high | (above & ((1 << n) - 1))) == 0);
        }
        high |= above;
        at += 16;
    }
    let mut ascii = high == 0;
    while at < text.len() && text[at] != delimiter {
        ascii &= text[at] < 0x80;
        at += 1;
    }
    (at, ascii)
}

/// Appends a quoted value with its quotes and escapes undone.
pub(in super::super) fn unquote(csv: &CsvOptions, raw: &[u8], out: &mut Vec<u8>) {
    let mut bytes = raw.iter();
    while let Some(&b) = bytes.next() {
        let marks = csv.quote == Some(b) || csv.escape == Some(b);
        match bytes.as_slice().first() {
            Some(&next) if marks => {
                out.push(next);
                bytes.next();
            }
            _ => out.push(b),
        }
    }
}

/// Where the end of a record is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Within {
    /// At the start of a value.
    #[default]
    Start,
    /// In a value without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// Behind a byte that escapes the next.
    Escape,
    /// Behind a quote within quotes: the end of the value, or half of a doubled quote.
    Quote,
}

/// Looks for the line end of a record in which quoted values may hold line ends: its place, if it is in `text`. `within`
/// is where it begins, and where it stopped.
pub(in super::super) fn record_end_from(csv: &CsvOptions, text: &[u8], within: &mut Within) -> Option<usize> {
    for (at, &b) in text.iter().enumerate() {
        *within = match *within {
            Within::Escape => Within::Quoted,
            Within::Quoted if csv.quote == Some(b) => Within::Quote,
            Within::Quoted if csv.escape == Some(b) => Within::Escape,
            Within::Quoted => Within::Quoted,
            Within::Quote if csv.quote == Some(b) => Within::Quoted,
            Within::Start if csv.quote == Some(b) => Within::Quoted,
            _ if b == b'\n' => return Some(at),
            _ if b == csv.delimiter => Within::Start,
            _ => Within::Plain,
        };
    }
    None
}

/// The line end of the record that starts with `text`, if it is there.
pub(in super::super) fn record_end(csv: &CsvOptions, text: &[u8]) -> Option<usize> {
    let comment = csv.comment.is_some() && csv.comment == text.first().copied();
    if csv.multiline && !comment {
        record_end_from(csv, text, &mut Within::Start)
    } else {
        memchr::memchr(b'\n', text)
    }
}
