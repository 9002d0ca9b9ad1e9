//! One CSV record (RFC 4180): fields by place. An empty field is null, a quoted empty one is an empty text.

use arrow::array::{Array, StringViewArray};
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::Step;
use conveyor_model::{Error, Result};

use super::columns::Columns;
use super::{Format, Parts};

/// Takes CSV records apart.
pub(super) struct Csv {
    column: String,
    delimiter: char,
    fields: usize,
}

impl Csv {
    /// A reader of this many fields.
    ///
    /// # Errors
    /// If the delimiter is not one ASCII character, or is the quote.
    pub(super) fn new(step: &Step, column: &str, delimiter: char, fields: usize) -> Result<Self> {
        if !delimiter.is_ascii() || matches!(delimiter, '"' | '\r' | '\n') {
            return Err(Error::bad_input(
                "csv-delimiter",
                format!("{delimiter:?} cannot separate CSV fields"),
            )
            .at(&step.name)
            .help("use one ASCII character other than the quote and the line end"));
        }
        Ok(Self { column: column.to_owned(), delimiter, fields })
    }

    fn record(&self, text: &str, columns: &mut Columns) -> Result<(), String> {
        let mut rest = Some(text.trim_end_matches(['\r', '\n']));
        let mut count = 0;
        while let Some(at) = rest {
            let (field, next) = split_field(at, self.delimiter)?;
            if count < self.fields {
                columns.set(count, field);
            }
            count += 1;
            rest = next;
        }
        if count != self.fields {
            return Err(format!("{count} fields where {} are expected", self.fields));
        }
        Ok(())
    }
}

/// The next field, `None` if it is empty and unquoted, and what follows its delimiter.
fn split_field(text: &str, delimiter: char) -> Result<(Option<String>, Option<&str>), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Ok(match text.split_once(delimiter) {
            Some((field, rest)) => (some_text(field), Some(rest)),
            None => (some_text(text), None),
        });
    };
    let (mut field, mut at) = (String::new(), quoted);
    loop {
        let Some((part, rest)) = at.split_once('"') else {
            return Err("a quoted field does not end".to_owned());
        };
        field.push_str(part);
        if let Some(rest) = rest.strip_prefix('"') {
            field.push('"');
            at = rest;
            continue;
        }
        return match rest.strip_prefix(delimiter) {
            Some(next) => Ok((Some(field), Some(next))),
            None if rest.is_empty() => Ok((Some(field), None)),
            None => Err("text follows a closing quote".to_owned()),
        };
    }
}

fn some_text(field: &str) -> Option<String> {
    (!field.is_empty()).then(|| field.to_owned())
}

impl Format for Csv {
    fn parse(&mut self, texts: &StringViewArray) -> Result<Parts> {
        let mut columns = Columns::new(self.fields, texts.len());
        let mut failures = Vec::new();
        for row in 0..texts.len() {
            if texts.is_valid(row)
                && let Err(reason) = self.record(texts.value(row), &mut columns)
            {
                columns.clear_row();
                failures.push((row, RowError::new("parse-csv", reason).column(&self.column)));
            }
            columns.end_row();
        }
        Ok(Parts { columns: columns.finish(), failures })
    }
}
