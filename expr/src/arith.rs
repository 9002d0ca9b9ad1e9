//! Integer arithmetic that names the rows it fails on, with the same results as arrow's checked kernels.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray, PrimitiveBuilder,
};
use arrow::datatypes::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_schema::{ArrowError, DataType};
use conveyor_model::dead_letter::RowError;
use datafusion::logical_expr::Operator;

use crate::checked::Checked;

/// Whether [`integers`] knows the operator.
pub(crate) fn is_arithmetic(op: Operator) -> bool {
    use Operator::{Divide, Minus, Modulo, Multiply, Plus};
    matches!(op, Plus | Minus | Multiply | Divide | Modulo)
}

/// `left op right` for two arrays of one integer type; `None` for other types.
pub(crate) fn integers(
    op: Operator,
    left: &ArrayRef,
    right: &ArrayRef,
    column: Option<&Arc<str>>,
) -> Option<Checked> {
    if left.data_type() != right.data_type() {
        return None;
    }
    macro_rules! of {
        ($type:ty) => {
            checked(op, left.as_primitive::<$type>(), right.as_primitive::<$type>(), column)
        };
    }
    Some(match left.data_type() {
        DataType::Int8 => of!(Int8Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::UInt8 => of!(UInt8Type),
        DataType::UInt16 => of!(UInt16Type),
        DataType::UInt32 => of!(UInt32Type),
        DataType::UInt64 => of!(UInt64Type),
        _ => return None,
    })
}

fn checked<T: ArrowPrimitiveType>(
    op: Operator,
    left: &PrimitiveArray<T>,
    right: &PrimitiveArray<T>,
    column: Option<&Arc<str>>,
) -> Checked {
    let mut values = PrimitiveBuilder::<T>::with_capacity(left.len());
    let mut failures = Vec::new();
    for row in 0..left.len() {
        if left.is_null(row) || right.is_null(row) {
            values.append_null();
            continue;
        }
        let (l, r) = (left.value(row), right.value(row));
        match one(op, l, r) {
            Ok(value) => values.append_value(value),
            Err(error) => {
                values.append_null();
                let row = u32::try_from(row).expect("batches have fewer than 2^32 rows");
                failures.push((row, row_error(&error, op, &l, &r, column)));
            }
        }
    }
    Checked { values: Arc::new(values.finish()), failures }
}

fn one<N: ArrowNativeTypeOp>(op: Operator, left: N, right: N) -> Result<N, ArrowError> {
    match op {
        Operator::Plus => left.add_checked(right),
        Operator::Minus => left.sub_checked(right),
        Operator::Multiply => left.mul_checked(right),
        Operator::Divide => left.div_checked(right),
        // The least integer modulo -1 is 0, as arrow's kernel has it.
        _ if right.is_zero() => Err(ArrowError::DivideByZero),
        _ => Ok(left.mod_wrapping(right)),
    }
}

fn row_error<N: std::fmt::Debug>(
    error: &ArrowError,
    op: Operator,
    left: &N,
    right: &N,
    column: Option<&Arc<str>>,
) -> RowError {
    let made = match error {
        ArrowError::DivideByZero => {
            RowError::new("division-by-zero", format!("division by zero in {left:?} {op} {right:?}"))
        }
        _ => RowError::new("overflow", format!("{left:?} {op} {right:?} does not fit its type")),
    };
    RowError { column: column.cloned(), ..made }
}
