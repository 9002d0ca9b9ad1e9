//! Errors of planning: what is wrong with the text, where, and what was probably meant.

use arrow_schema::Schema;
use datafusion::common::{DataFusionError, SchemaError};

use crate::parse::{offset_of, offset_of_word};

/// Why an expression or a query cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExprError {
    /// One sentence.
    pub message: String,
    /// Byte offset in the SQL text, where known.
    pub offset: Option<usize>,
    /// What to do: the nearest name, what is possible instead.
    pub help: Option<String>,
    /// Stable, kebab-case: `syntax`, `unknown-column`, `unknown-function`, `type-mismatch`, `not-boolean`, …
    pub code: &'static str,
}

impl ExprError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), offset: None, help: None, code }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, offset: Option<usize>) -> Self {
        self.offset = offset;
        self
    }

    /// Says in our words what DataFusion says of `sql` over the columns of `input`.
    pub(crate) fn planning(error: &DataFusionError, sql: &str, input: &Schema) -> Self {
        match error.find_root() {
            DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
                SchemaError::FieldNotFound { field, .. } => unknown_column(field.name(), sql, input),
                other => ExprError::new("ambiguous-column", first_line(&other.to_string())),
            },
            DataFusionError::SQL(parser, _) => syntax(&parser.to_string(), sql),
            DataFusionError::NotImplemented(text) => {
                ExprError::new("unsupported", format!("not supported here: {}", first_line(text)))
            }
            DataFusionError::ArrowError(arrow, _) => {
                ExprError::new("invalid-constant", first_line(&arrow.to_string()))
                    .help("a constant in the expression does not fit its type")
            }
            DataFusionError::ResourcesExhausted(text) => {
                ExprError::new("memory-exhausted", first_line(text)).help("give the query more memory")
            }
            other => {
                let text = other.strip_backtrace();
                let text = text.strip_prefix("Error during planning: ").unwrap_or(&text);
                if text.starts_with("there is no table") {
                    return ExprError::new("unknown-table", first_line(text));
                }
                if text.contains("unique expression names") {
                    return ExprError::new(
                        "duplicate-column",
                        "two columns of the result have the same name",
                    )
                    .help("give one of them another name with AS");
                }
                let lower = text.to_lowercase();
                let types = ["coerc", "infer common", "type", "signature", "cast"];
                let code = if types.iter().any(|word| lower.contains(word)) {
                    "type-mismatch"
                } else {
                    "invalid-expression"
                };
                ExprError::new(code, first_line(text))
            }
        }
    }
}

impl From<ExprError> for conveyor_model::Error {
    fn from(error: ExprError) -> Self {
        let message = match error.offset {
            Some(offset) => format!("{} (at byte {offset} of the expression)", error.message),
            None => error.message,
        };
        let made = conveyor_model::Error::bad_input(error.code, message);
        match error.help {
            Some(help) => made.help(help),
            None => made,
        }
    }
}

/// The candidate nearest to `name` by edit distance, if one is near enough to be a misspelling; the case of letters
/// does not count.
///
/// ```
/// assert_eq!(conveyor_expr::nearest("dep_dealy", ["dest", "dep_delay"]), Some("dep_delay"));
/// assert_eq!(conveyor_expr::nearest("fare", ["dest", "dep_delay"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let most = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

pub(crate) fn unknown_column(name: &str, sql: &str, input: &Schema) -> ExprError {
    let names = || input.fields().iter().map(|f| f.name().as_str());
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if input.fields().is_empty() => "there are no columns here".to_owned(),
        None => {
            let shown: Vec<_> = names().take(12).collect();
            let more = if input.fields().len() > shown.len() { ", …" } else { "" };
            format!("the columns are {}{more}", shown.join(", "))
        }
    };
    ExprError::new("unknown-column", format!("there is no column `{name}`"))
        .at(offset_of_word(sql, name))
        .help(help)
}

fn syntax(message: &str, sql: &str) -> ExprError {
    let text = message.trim_start_matches("sql parser error: ").trim_start_matches("SQL error: ");
    let place = text.find(" at Line: ").and_then(|at| {
        let mut numbers = text[at..].split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
        Some((at, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    match place {
        Some((at, line, column)) => {
            ExprError::new("syntax", first_line(&text[..at])).at(offset_of(sql, line, column))
        }
        None if text.contains("recursion limit") => {
            ExprError::new("too-deep", "the expression is nested too deeply")
                .help("nest at most about 20 levels")
        }
        None => ExprError::new("syntax", first_line(text)).at(text.contains("EOF").then_some(sql.len())),
    }
}

/// DataFusion's messages may go on with candidate lists and notes; the first line is the sentence.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_a_misspelling_or_nothing() {
        assert_eq!(nearest("Orgin", ["origin", "dest"]), Some("origin"));
        assert_eq!(nearest("a", ["b", "cc"]), Some("b"));
        assert_eq!(nearest("zzz", ["origin", "dest"]), None);
        assert_eq!(nearest("", []), None);
    }
}
