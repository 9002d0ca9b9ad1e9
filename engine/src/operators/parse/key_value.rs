//! `a=1 b="x y"`: fields by key. A missing key is null, of a repeated key the last counts, keys that are no field are
//! passed over.

use std::collections::HashMap;

use arrow::array::{Array, StringViewArray};
use arrow::datatypes::FieldRef;
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::Step;
use conveyor_model::{Error, Result};

use super::columns::Columns;
use super::{Format, Parts};

/// Takes pairs apart.
pub(super) struct KeyValue {
    column: String,
    pair: String,
    separator: String,
    fields: HashMap<String, usize>,
}

impl KeyValue {
    /// A reader of these fields.
    ///
    /// # Errors
    /// If a separator is empty or both are the same.
    pub(super) fn new(
        step: &Step,
        column: &str,
        pair: &str,
        separator: &str,
        fields: &[FieldRef],
    ) -> Result<Self> {
        let quotes = pair.contains('"') || separator.contains('"');
        if pair.is_empty() || separator.is_empty() || pair == separator || quotes {
            return Err(Error::bad_input("key-value-separators", "pairs and keys cannot be told apart")
                .at(&step.name)
                .help("give two different separators without quotes, a space and `=` for example"));
        }
        let fields = fields.iter().enumerate().map(|(i, f)| (f.name().clone(), i)).collect();
        Ok(Self { column: column.to_owned(), pair: pair.to_owned(), separator: separator.to_owned(), fields })
    }

    fn pairs(&self, text: &str, columns: &mut Columns) -> Result<(), String> {
        let mut rest = text.trim();
        while !rest.is_empty() {
            if let Some(next) = rest.strip_prefix(&self.pair) {
                rest = next;
                continue;
            }
            let end = rest.find(&self.pair).unwrap_or(rest.len());
            let Some(at) = rest[..end].find(&self.separator) else {
                return Err(format!("a pair has no `{}`", self.separator));
            };
            let (key, after) = (rest[..at].trim(), &rest[at + self.separator.len()..]);
            let (value, next) = self.value(after)?;
            if let Some(&field) = self.fields.get(key) {
                columns.set(field, Some(value));
            }
            rest = next;
        }
        Ok(())
    }

    /// A value, quoted or up to the end of its pair, and what follows it.
    fn value<'a>(&self, text: &'a str) -> Result<(String, &'a str), String> {
        let Some(quoted) = text.strip_prefix('"') else {
            let end = text.find(&self.pair).unwrap_or(text.len());
            return Ok((text[..end].to_owned(), &text[end..]));
        };
        let (mut value, mut escaped) = (String::new(), false);
        for (at, c) in quoted.char_indices() {
            match c {
                _ if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    let rest = &quoted[at + 1..];
                    if rest.is_empty() || rest.starts_with(&self.pair) {
                        return Ok((value, rest));
                    }
                    return Err("text follows a closing quote".to_owned());
                }
                _ => value.push(c),
            }
        }
        Err("a quoted value does not end".to_owned())
    }
}

impl Format for KeyValue {
    fn parse(&mut self, texts: &StringViewArray) -> Result<Parts> {
        let mut columns = Columns::new(self.fields.len(), texts.len());
        let mut failures = Vec::new();
        for row in 0..texts.len() {
            if texts.is_valid(row)
                && let Err(reason) = self.pairs(texts.value(row), &mut columns)
            {
                columns.clear_row();
                failures.push((row, RowError::new("parse-key-value", reason).column(&self.column)));
            }
            columns.end_row();
        }
        Ok(Parts { columns: columns.finish(), failures })
    }
}
