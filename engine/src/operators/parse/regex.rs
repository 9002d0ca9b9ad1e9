//! Named groups of a regular expression. A group that took no part is null; a text without a match is a dead letter.

use arrow::array::{Array, StringViewArray};
use arrow::datatypes::FieldRef;
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::Step;
use conveyor_model::{Error, Result};
use regex::Regex;

use super::columns::Columns;
use super::{Format, Parts};

/// Applies one pattern, whose groups were found when the operator was built.
pub(super) struct Pattern {
    column: String,
    pattern: Regex,
    /// Number of each field's group.
    groups: Vec<usize>,
}

impl Pattern {
    /// The pattern with a group for each field.
    ///
    /// # Errors
    /// If the pattern does not compile, or a field has no group.
    pub(super) fn new(step: &Step, column: &str, pattern: &str, fields: &[FieldRef]) -> Result<Self> {
        let pattern = Regex::new(pattern).map_err(|e| {
            Error::bad_input("regex-syntax", "the pattern is not a regular expression")
                .because(e)
                .at(&step.name)
        })?;
        let group = |field: &FieldRef| {
            pattern.capture_names().position(|name| name == Some(field.name())).ok_or_else(|| {
                Error::bad_input(
                    "regex-group-missing",
                    format!("the pattern has no group `{}`", field.name()),
                )
                .at(&step.name)
                .help(format!("write (?<{}>...) in the pattern", field.name()))
            })
        };
        let groups = fields.iter().map(group).collect::<Result<_>>()?;
        Ok(Self { column: column.to_owned(), pattern, groups })
    }
}

impl Format for Pattern {
    fn parse(&mut self, texts: &StringViewArray) -> Result<Parts> {
        let mut columns = Columns::new(self.groups.len(), texts.len());
        let mut failures = Vec::new();
        let mut places = self.pattern.capture_locations();
        for row in 0..texts.len() {
            if texts.is_valid(row) {
                let text = texts.value(row);
                if self.pattern.captures_read(&mut places, text).is_some() {
                    for (field, group) in self.groups.iter().enumerate() {
                        columns.set(field, places.get(*group).map(|(from, to)| &text[from..to]));
                    }
                } else {
                    let message = "the text does not match the pattern";
                    failures.push((row, RowError::new("parse-regex", message).column(&self.column)));
                }
            }
            columns.end_row();
        }
        Ok(Parts { columns: columns.finish(), failures })
    }
}
