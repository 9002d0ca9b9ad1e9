//! `parse`: takes a text column apart into typed columns; a text that is not what it should be is a dead letter.
//!
//! Each format makes text columns, one a field; typing them is one strict cast for all formats, so that a number means
//! the same in JSON, CSV and a log line.

mod columns;
mod csv;
mod json;
mod key_value;
mod regex;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use conveyor_model::dead_letter::RowError;
use conveyor_model::step::{Parse, ParseFormat, Step};
use conveyor_model::{Batch, Result};

use super::failed::Failed;
use super::layout::{Layout, column_index, kernel};
use super::plan_error;
use crate::operator::{Emitter, Operator};

/// The columns that a format finds in texts, null where a text has nothing or failed, and the texts that failed.
struct Parts {
    columns: Vec<ArrayRef>,
    failures: Vec<(usize, RowError)>,
}

/// One way of writing fields down as text.
trait Format: Send {
    /// Columns for the fields, in their order: text, or the field's own type.
    ///
    /// # Errors
    /// Only if a kernel fails; texts that do not parse are failures.
    fn parse(&mut self, texts: &StringViewArray) -> Result<Parts>;
}

/// Takes one text column apart.
pub(super) struct ParseText {
    column: usize,
    fields: Vec<FieldRef>,
    format: Box<dyn Format>,
    layout: Layout,
}

impl ParseText {
    /// The operator of `step`.
    ///
    /// # Errors
    /// If the column is not text or the settings of the format are wrong.
    pub(super) fn new(step: &Step, parse: &Parse) -> Result<Self> {
        let column = column_index(step, &parse.column)?;
        let of = step.input.field(column).data_type();
        if !matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(plan_error(step, format!("`{}` is {of}, and only text can be parsed", parse.column)));
        }
        let format: Box<dyn Format> = match &parse.format {
            ParseFormat::Json => Box::new(json::Json::new(&parse.column, &parse.fields)),
            ParseFormat::Csv { delimiter } => {
                Box::new(csv::Csv::new(step, &parse.column, *delimiter, parse.fields.len())?)
            }
            ParseFormat::Regex { pattern } => {
                Box::new(regex::Pattern::new(step, &parse.column, pattern, &parse.fields)?)
            }
            ParseFormat::KeyValue { pair, separator } => {
                Box::new(key_value::KeyValue::new(step, &parse.column, pair, separator, &parse.fields)?)
            }
        };
        let made: Vec<_> = parse.fields.iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
        Ok(Self { column, fields: parse.fields.clone(), format, layout: Layout::new(step, &made)? })
    }
}

impl Operator for ParseText {
    fn on_batch(&mut self, batch: Batch, out: &mut Emitter) -> Result<()> {
        let texts = cast(batch.rows().column(self.column), &DataType::Utf8View).map_err(kernel)?;
        let parts = self.format.parse(texts.as_string_view())?;
        let mut failed = Failed::default();
        failed.add(parts.failures);
        let mut made = Vec::with_capacity(self.fields.len());
        for (values, field) in parts.columns.into_iter().zip(&self.fields) {
            if values.data_type() == field.data_type() {
                made.push(values);
                continue;
            }
            let typed = conveyor_expr::cast(&values, field.data_type(), field.name());
            failed.add(typed.failures);
            made.push(typed.values);
        }
        let (batch, made) = failed.part(batch, made, out)?;
        if batch.is_empty() {
            return Ok(());
        }
        let rows = self.layout.assemble(batch.rows(), &made)?;
        out.emit(batch.with_rows(rows));
        Ok(())
    }
}
