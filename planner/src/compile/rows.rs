//! What is known of the rows between two steps while a plan is typed.
//!
//! After a mistake typing goes on: a column whose type could not be found is remembered as doubtful, and nothing that
//! mentions it is reported again.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use conveyor_expr::{Expr, ExprError};

use crate::diagnostic::{At, Diagnostics, Located, did_you_mean};

/// Schema as far as known.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    /// Whether `schema` and `doubtful` are all columns; if not, nothing is reported as unknown.
    pub(crate) known: bool,
    /// Columns that exist, but whose type is not known because of an earlier mistake.
    pub(crate) doubtful: BTreeSet<String>,
}

impl Rows {
    pub(crate) fn of(schema: SchemaRef) -> Self {
        Self { schema, known: true, doubtful: BTreeSet::new() }
    }

    pub(crate) fn unknown() -> Self {
        Self { schema: Arc::new(Schema::empty()), known: false, doubtful: BTreeSet::new() }
    }

    /// Whether every column and its type is known.
    pub(crate) fn is_sure(&self) -> bool {
        self.known && self.doubtful.is_empty()
    }

    /// The same rows with another schema, keeping the doubts about columns that it does not have.
    pub(crate) fn with(&self, schema: SchemaRef) -> Self {
        let doubtful = self.doubtful.iter().filter(|d| schema.field_with_name(d).is_err()).cloned().collect();
        Self { schema, known: self.known, doubtful }
    }

    /// The type of a column; reports it where it does not exist.
    pub(crate) fn column(&self, name: &Located<String>, diags: &mut Diagnostics) -> Option<DataType> {
        if let Ok(field) = self.schema.field_with_name(&name.value) {
            return Some(field.data_type().clone());
        }
        if self.known && !self.doubtful.contains(&name.value) {
            let names = self.schema.fields().iter().map(|f| f.name().as_str());
            let message = format!("there is no column `{}` here", name.value);
            diags.error_help("unknown-column", &name.at, message, did_you_mean(&name.value, names));
        }
        None
    }

    /// Types an expression; reports what is wrong with it unless that follows from an earlier mistake.
    pub(crate) fn expr(&self, sql: &Located<String>, diags: &mut Diagnostics) -> Option<Expr> {
        self.report(Expr::compile(&sql.value, &self.schema), sql, diags)
    }

    /// Types a condition.
    pub(crate) fn condition(&self, sql: &Located<String>, diags: &mut Diagnostics) -> Option<Expr> {
        self.report(Expr::compile_boolean(&sql.value, &self.schema), sql, diags)
    }

    pub(crate) fn report<T>(
        &self,
        result: Result<T, ExprError>,
        sql: &Located<String>,
        diags: &mut Diagnostics,
    ) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let follows =
            error.code != "syntax" && (!self.known || self.doubtful.iter().any(|d| mentions(&sql.value, d)));
        if !follows {
            let at = place(diags, sql, error.offset);
            diags.error_help(error.code, &at, error.message, error.help);
        }
        None
    }
}

fn place(diags: &Diagnostics, sql: &Located<String>, offset: Option<usize>) -> At {
    match offset {
        Some(offset) if offset < sql.value.len() => diags.files().within(&sql.at, &sql.value, offset),
        _ => sql.at.clone(),
    }
}

/// Whether `name` stands in the text as a word of its own.
fn mentions(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(i, _)| {
        !text[..i].chars().next_back().is_some_and(word)
            && !text[i + name.len()..].chars().next().is_some_and(word)
    })
}
