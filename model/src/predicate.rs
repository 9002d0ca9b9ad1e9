//! Predicates simple enough to be pushed into a source: a conjunction of comparisons with literals.
//!
//! They cannot fail and need no expression engine. A source that takes one applies it exactly (a row for which it is
//! not true is not delivered, and is counted as pruned), or uses it only to skip what cannot match, and says which.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A constant in a predicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// Boolean.
    Bool(bool),
    /// Any signed or unsigned integer column's value that fits.
    Int(i64),
    /// Floating point.
    Float(f64),
    /// Text.
    Text(String),
    /// Microseconds since 1970-01-01T00:00:00Z.
    TimestampUs(i64),
    /// Days since 1970-01-01.
    Date(i32),
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Bool(v) => v.fmt(f),
            Literal::Int(v) => v.fmt(f),
            Literal::Float(v) => write!(f, "{v:?}"),
            Literal::Text(v) => write!(f, "'{}'", v.replace('\'', "''")),
            Literal::TimestampUs(v) => write!(f, "timestamp {}", crate::Watermark(*v)),
            Literal::Date(v) => write!(f, "date {v}"),
        }
    }
}

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// One condition on one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// `column op value`; null is not true.
    Compare {
        /// Column name.
        column: String,
        /// Operator.
        op: Comparison,
        /// Right-hand side, of the column's type.
        value: Literal,
    },
    /// `column IN (values)`.
    In {
        /// Column name.
        column: String,
        /// The values.
        values: Vec<Literal>,
    },
    /// `column IS NULL` or `IS NOT NULL`.
    IsNull {
        /// Column name.
        column: String,
        /// `IS NOT NULL`.
        negated: bool,
    },
}

impl Condition {
    /// The column that it looks at.
    pub fn column(&self) -> &str {
        match self {
            Condition::Compare { column, .. }
            | Condition::In { column, .. }
            | Condition::IsNull { column, .. } => column,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Compare { column, op, value } => {
                let op = match op {
                    Comparison::Eq => "=",
                    Comparison::NotEq => "<>",
                    Comparison::Lt => "<",
                    Comparison::LtEq => "<=",
                    Comparison::Gt => ">",
                    Comparison::GtEq => ">=",
                };
                write!(f, "{column} {op} {value}")
            }
            Condition::In { column, values } => {
                let values: Vec<_> = values.iter().map(Literal::to_string).collect();
                write!(f, "{column} IN ({})", values.join(", "))
            }
            Condition::IsNull { column, negated } => {
                write!(f, "{column} IS {}NULL", if *negated { "NOT " } else { "" })
            }
        }
    }
}

/// Conditions that must all be true. Empty means every row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Predicate {
    /// The conditions, joined by AND.
    pub all: Vec<Condition>,
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.all.iter().map(Condition::to_string).collect();
        f.write_str(&all.join(" AND "))
    }
}
