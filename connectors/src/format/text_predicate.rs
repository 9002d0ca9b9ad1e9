//! Pushed-down conditions, made ready for cells.
//!
//! Numbers compare as Arrow's kernels compare them (floats in their total order), text by its bytes.

use std::cmp::Ordering;

use arrow::datatypes::TimeUnit;
use conveyor_model::predicate::{Comparison, Condition, Literal};
use conveyor_model::{Error, Result};

use super::text_column::{Cell, Kind, Span};
use super::text_scan::unescape;
use super::text_time::from_unit;

/// A constant in the form of its column's cells.
#[derive(Debug, Clone)]
enum Constant {
    Bool(bool),
    Int(i64),
    Wide(i128),
    Float(f64),
    Text(Box<[u8]>),
    /// Nanoseconds, for every unit.
    Instant(i128, TimeUnit),
}

/// One condition.
#[derive(Debug, Clone)]
enum Test {
    Compare(Comparison, Constant),
    In(Vec<Constant>),
    Null(bool),
}

/// The conditions on one column.
#[derive(Debug, Clone, Default)]
pub(super) struct Tests(Vec<Test>);

fn nanos((seconds, nanos): (i64, u32)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanos)
}

impl Constant {
    fn new(literal: &Literal, kind: Kind, column: &str) -> Result<Self> {
        Ok(match (kind, literal) {
            (Kind::Bool, Literal::Bool(v)) => Constant::Bool(*v),
            (Kind::Int(..), Literal::Int(v)) => Constant::Int(*v),
            (Kind::Date, Literal::Date(v)) => Constant::Int(i64::from(*v)),
            (Kind::Unsigned, Literal::Int(v)) => Constant::Wide(i128::from(*v)),
            (Kind::Float, Literal::Float(v)) => Constant::Float(*v),
            (Kind::Float, Literal::Int(v)) => Constant::Float(*v as f64),
            (Kind::Text, Literal::Text(v)) => Constant::Text(v.as_bytes().into()),
            (Kind::Timestamp(unit), Literal::TimestampUs(v)) => match unit {
                TimeUnit::Microsecond => Constant::Int(*v),
                _ => Constant::Instant(i128::from(*v) * 1_000, unit),
            },
            _ => {
                let name = kind.name();
                let message = format!("the condition on column `{column}` compares {name} with {literal}");
                return Err(Error::bad_input("predicate-type", message)
                    .help("compare it with a constant of its type"));
            }
        })
    }

    /// How the cell compares; `None` if the two have nothing in common.
    #[inline(always)]
    fn order(&self, cell: &Cell, text: &[u8]) -> Option<Ordering> {
        Some(match (self, cell) {
            (Constant::Int(c), Cell::Int(v)) => v.cmp(c),
            (Constant::Float(c), Cell::Float(v)) => v.total_cmp(c),
            (Constant::Text(c), Cell::Text(_) | Cell::Escaped(_)) => text.cmp(c),
            (Constant::Bool(c), Cell::Bool(v)) => v.cmp(c),
            (Constant::Wide(c), Cell::Wide(v)) => v.cmp(c),
            (Constant::Instant(c, unit), Cell::Int(v)) => nanos(from_unit(*v, *unit)).cmp(c),
            _ => return None,
        })
    }
}

impl Test {
    #[inline(always)]
    fn holds(&self, cell: &Cell, text: &[u8]) -> bool {
        match self {
            Test::Compare(op, constant) => match (constant.order(cell, text), op) {
                (None, _) => false,
                (Some(order), Comparison::Eq) => order.is_eq(),
                (Some(order), Comparison::NotEq) => order.is_ne(),
                (Some(order), Comparison::Lt) => order.is_lt(),
                (Some(order), Comparison::LtEq) => order.is_le(),
                (Some(order), Comparison::Gt) => order.is_gt(),
                (Some(order), Comparison::GtEq) => order.is_ge(),
            },
            Test::In(constants) => constants.iter().any(|c| c.order(cell, text) == Some(Ordering::Equal)),
            Test::Null(negated) => matches!(cell, Cell::Null | Cell::Missing) != *negated,
        }
    }
}

impl Tests {
    /// Adds a condition on a column of this kind.
    ///
    /// # Errors
    /// If it compares the column with a constant of another type.
    pub(super) fn add(&mut self, condition: &Condition, kind: Kind) -> Result<()> {
        self.0.push(match condition {
            Condition::Compare { column, op, value } => {
                Test::Compare(*op, Constant::new(value, kind, column)?)
            }
            Condition::In { column, values } => {
                let constants: Result<_> = values.iter().map(|v| Constant::new(v, kind, column)).collect();
                Test::In(constants?)
            }
            Condition::IsNull { negated, .. } => Test::Null(*negated),
        });
        Ok(())
    }

    /// Whether there are none.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all conditions are true for a cell; `None` if the cell holds no value of its column.
    #[inline(always)]
    pub(super) fn hold(&self, cell: &Cell, input: &[u8]) -> Option<bool> {
        let text = match cell {
            Cell::Bad(_) => return None,
            Cell::Text(span) => span.of(input),
            Cell::Escaped(span) => return self.hold_escaped(span.of(input)),
            _ => &[],
        };
        Some(self.0.iter().all(|t| t.holds(cell, text)))
    }

    /// Whether all conditions are true for a text.
    pub(super) fn hold_text(&self, text: &[u8]) -> bool {
        let cell = Cell::Text(Span::new(0, text.len(), false));
        self.0.iter().all(|t| t.holds(&cell, text))
    }

    fn hold_escaped(&self, raw: &[u8]) -> Option<bool> {
        let mut text = Vec::with_capacity(raw.len());
        unescape(raw, &mut text).ok()?;
        Some(self.hold_text(&text))
    }
}
