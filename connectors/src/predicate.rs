//! A pushed predicate on typed rows.
//!
//! Comparison is on the column's own type: a literal that does not fit it (300 against an 8-bit column) is compared by
//! value, never cast into it. Null is not true.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, Scalar,
    StringViewArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::kernels::cmp;
use arrow::compute::{CastOptions, and, cast_with_options, is_not_null, is_null, or};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use conveyor_model::{Error, Result};

/// Which rows the predicate is true for; never null.
///
/// # Errors
/// `BadInput` if a column is missing or its type cannot be compared with the literal.
pub fn evaluate(predicate: &Predicate, rows: &RecordBatch) -> Result<BooleanArray> {
    let mut all: Option<BooleanArray> = None;
    for condition in &predicate.all {
        let name = condition.column();
        let column = rows.column_by_name(name).ok_or_else(|| {
            Error::bad_input(
                "column-unknown",
                format!("a pushed condition names the unknown column `{name}`"),
            )
        })?;
        let mask = test(condition, column).map_err(|e| {
            Error::bad_input(
                "predicate-type",
                format!("the condition `{condition}` cannot be applied to its column"),
            )
            .because(e)
        })?;
        all = Some(match all {
            Some(all) => {
                and(&all, &mask).map_err(|e| Error::runtime("predicate-failed", "masks differ").because(e))?
            }
            None => mask,
        });
    }
    Ok(all.unwrap_or_else(|| BooleanArray::from(vec![true; rows.num_rows()])))
}

fn test(condition: &Condition, column: &ArrayRef) -> Result<BooleanArray, ArrowError> {
    let mask = match condition {
        Condition::Compare { op, value, .. } => compare(column, *op, value)?,
        Condition::In { values, .. } => {
            let none = BooleanArray::from(vec![false; column.len()]);
            values.iter().try_fold(none, |any, value| or(&any, &compare(column, Comparison::Eq, value)?))?
        }
        Condition::IsNull { negated: false, .. } => is_null(column)?,
        Condition::IsNull { negated: true, .. } => is_not_null(column)?,
    };
    Ok(without_nulls(mask))
}

fn without_nulls(mask: BooleanArray) -> BooleanArray {
    match mask.nulls() {
        Some(nulls) => BooleanArray::new(mask.values() & nulls.inner(), None),
        None => mask,
    }
}

/// `column op value`, null where the column is.
///
/// # Errors
/// If the two cannot be compared.
pub(crate) fn compare(
    column: &dyn Array,
    op: Comparison,
    value: &Literal,
) -> Result<BooleanArray, ArrowError> {
    let (column, literal) = comparable(column, value)?;
    let literal = Scalar::new(literal);
    match op {
        Comparison::Eq => cmp::eq(&column, &literal),
        Comparison::NotEq => cmp::neq(&column, &literal),
        Comparison::Lt => cmp::lt(&column, &literal),
        Comparison::LtEq => cmp::lt_eq(&column, &literal),
        Comparison::Gt => cmp::gt(&column, &literal),
        Comparison::GtEq => cmp::gt_eq(&column, &literal),
    }
}

/// Column and literal in a type that holds both without loss.
fn comparable(column: &dyn Array, value: &Literal) -> Result<(ArrayRef, ArrayRef), ArrowError> {
    let kind = column.data_type();
    let (wide, literal): (DataType, ArrayRef) = match value {
        Literal::Bool(v) => (DataType::Boolean, Arc::new(BooleanArray::from(vec![*v]))),
        Literal::Int(v) if kind == &DataType::UInt64 => match u64::try_from(*v) {
            Ok(v) => (DataType::UInt64, Arc::new(UInt64Array::from(vec![v]))),
            // A negative number is below all of the column.
            Err(_) => (DataType::Float64, Arc::new(Float64Array::from(vec![*v as f64]))),
        },
        Literal::Int(v) if kind.is_integer() => (DataType::Int64, Arc::new(Int64Array::from(vec![*v]))),
        Literal::Int(v) if kind.is_floating() => {
            (DataType::Float64, Arc::new(Float64Array::from(vec![*v as f64])))
        }
        Literal::Int(v) => {
            let one = Int64Array::from(vec![*v]);
            (kind.clone(), cast_with_options(&one, kind, &strict())?)
        }
        Literal::Float(v) => (DataType::Float64, Arc::new(Float64Array::from(vec![*v]))),
        Literal::Text(v) => (DataType::Utf8View, Arc::new(StringViewArray::from(vec![v.as_str()]))),
        Literal::TimestampUs(v) => {
            let one = TimestampMicrosecondArray::from(vec![*v]).with_timezone("UTC");
            (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), Arc::new(one))
        }
        Literal::Date(v) => (DataType::Date32, Arc::new(Date32Array::from(vec![*v]))),
    };
    let column = cast_with_options(column, &wide, &strict())?;
    Ok((column, literal))
}

fn strict() -> CastOptions<'static> {
    CastOptions { safe: false, ..CastOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int8Array;

    fn mask(condition: Condition, rows: &RecordBatch) -> Vec<bool> {
        let mask = evaluate(&Predicate { all: vec![condition] }, rows).unwrap();
        assert_eq!(mask.null_count(), 0);
        mask.values().iter().collect()
    }

    fn compare_with(column: &str, op: Comparison, value: Literal) -> Condition {
        Condition::Compare { column: column.into(), op, value }
    }

    #[test]
    fn null_is_not_true_and_literals_are_not_squeezed_into_the_column() {
        let small = Int8Array::from(vec![Some(1), None, Some(-3)]);
        let rows = RecordBatch::try_from_iter([("a", Arc::new(small) as ArrayRef)]).unwrap();
        assert_eq!(mask(compare_with("a", Comparison::Lt, Literal::Int(300)), &rows), [true, false, true]);
        assert_eq!(mask(compare_with("a", Comparison::NotEq, Literal::Int(1)), &rows), [false, false, true]);
        let is_null = Condition::IsNull { column: "a".into(), negated: false };
        assert_eq!(mask(is_null, &rows), [false, true, false]);
        let among = Condition::In { column: "a".into(), values: vec![Literal::Int(1), Literal::Int(300)] };
        assert_eq!(mask(among, &rows), [true, false, false]);
    }

    #[test]
    fn conditions_are_joined_by_and() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y", "z"]));
        let float: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5, 3.5]));
        let rows = RecordBatch::try_from_iter([("t", text), ("f", float)]).unwrap();
        let all = Predicate {
            all: vec![
                compare_with("t", Comparison::GtEq, Literal::Text("y".into())),
                compare_with("f", Comparison::Lt, Literal::Int(3)),
            ],
        };
        let mask = evaluate(&all, &rows).unwrap();
        assert_eq!(mask.values().iter().collect::<Vec<_>>(), [false, true, false]);
    }
}
