//! Keeps evaluation within bounds of memory: before a function makes its values, their bytes are counted.
//!
//! A value of more than [`MAX_VALUE`] fails its row. Values that together come to more than [`MAX_TOGETHER`] in one
//! evaluation are made for fewer rows at a time: the evaluation stops with [`TooMuch`] and is asked again for a part of
//! the rows. A row that is alone and still needs more fails. So what comes out for a row depends on that row alone.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr as Logical, ExprSchemable, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::error::ExprError;
use crate::growth::{self, GROWING};
use crate::size::Sizes;

/// Most bytes of one value that a function makes.
pub(crate) const MAX_VALUE: u64 = 8 << 20;
/// Most bytes of all values that the functions of an expression make in one go.
pub(crate) const MAX_TOGETHER: u64 = 64 << 20;
/// Most bytes of a constant that is computed once instead of for each row.
const MAX_CONSTANT: u64 = 64 << 10;
/// Most bytes of a constant in a lambda, which is copied for each element.
const MAX_IN_LAMBDA: u64 = 100;

/// More values at once than memory is given for: fewer rows may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// Why a function did not make its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// One value is too large, or a row that is alone needs too much.
    Value(String),
    /// All rows together need too much.
    Together,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Value(text) => f.write_str(text),
            Refused::Together => f.write_str("the values of all rows together are too large"),
        }
    }
}

impl std::error::Error for Refused {}

/// What the evaluation under way on this thread may still take.
#[derive(Clone, Copy)]
struct Budget {
    spent: u64,
    /// One row alone, which cannot be parted further.
    alone: bool,
    /// Constants are computed, for all rows to come.
    constants: bool,
}

thread_local! {
    static BUDGET: Cell<Budget> = const { Cell::new(Budget { spent: 0, alone: true, constants: false }) };
}

/// Begins the evaluation of an expression on so many rows.
pub(crate) fn begin(rows: usize) {
    BUDGET.set(Budget { spent: 0, alone: rows <= 1, constants: false });
}

/// Runs what computes constants: only small ones are kept.
pub(crate) fn constants<T>(simplify: impl FnOnce() -> T) -> T {
    BUDGET.set(Budget { spent: 0, alone: true, constants: true });
    let made = simplify();
    begin(1);
    made
}

/// Tries an evaluation; one that fails has spent nothing, as its values are gone.
pub(crate) fn attempt<T, E>(
    evaluate: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let before = BUDGET.get();
    let made = evaluate();
    if made.is_err() {
        BUDGET.set(before);
    }
    made
}

/// Whether an error says so, and what.
pub(crate) fn refused(error: &DataFusionError) -> Option<Refused> {
    let mut cause: &dyn std::error::Error = error;
    loop {
        if let Some(refused) = cause.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        cause = cause.source()?;
    }
}

/// Counts what a call would make, and refuses it if that is too much.
fn spend(name: &str, call: &ScalarFunctionArgs) -> Result<()> {
    let mut budget = BUDGET.get();
    let one = if budget.constants { MAX_CONSTANT } else { MAX_VALUE };
    let bytes = growth::output(name, call)?;
    let refuse = |refused| Err(DataFusionError::External(Box::new(refused)));
    if let Some(largest) = bytes.iter().copied().max().filter(|bytes| *bytes > one) {
        let text = match largest {
            u64::MAX => format!("its value would have more than {one} bytes"),
            _ => format!("its value would have about {largest} bytes, more than {one}"),
        };
        return refuse(Refused::Value(text));
    }
    budget.spent = bytes.iter().fold(budget.spent, |sum, bytes| sum.saturating_add(*bytes));
    if budget.spent > MAX_TOGETHER {
        return refuse(if budget.alone {
            Refused::Value(format!("the values made for the row come to more than {MAX_TOGETHER} bytes"))
        } else {
            Refused::Together
        });
    }
    BUDGET.set(budget);
    Ok(())
}

/// A function that counts before it runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl Bounded {
    fn wrap(inner: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
        let known = GROWING.contains(&inner.name()) && !inner.inner().is::<Bounded>();
        known.then(|| Arc::new(ScalarUDF::new_from_impl(Bounded { inner: Arc::clone(inner) })))
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Logical]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn simplify(&self, args: Vec<Logical>, _info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        // The function's own way would join constants without counting.
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        spend(self.inner.name(), &call)?;
        self.inner.invoke_with_args(call)
    }
}

/// `||` on text as a function, so that it is counted like one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenate {
    signature: Signature,
}

impl ScalarUDFImpl for Concatenate {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        BinaryTypeCoercer::new(&arguments[0], &Operator::StringConcat, &arguments[1]).get_result_type()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = call.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { call.number_rows };
        let mut columns = Vec::with_capacity(2);
        for arg in call.args {
            columns.push(arg.into_array(rows)?);
        }
        let field = |(i, column): (usize, &arrow::array::ArrayRef)| {
            Field::new(format!("c{i}"), column.data_type().clone(), true)
        };
        let schema: SchemaRef =
            Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
        let column = |i: usize| Arc::new(Column::new(&format!("c{i}"), i));
        let joined = BinaryExpr::new(column(0), Operator::StringConcat, column(1))
            .evaluate(&RecordBatch::try_new(schema, columns)?)?
            .into_array(rows)?;
        Ok(if constant {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&joined, 0)?)
        } else {
            ColumnarValue::Array(joined)
        })
    }
}

/// Puts the bounded functions in the place of the others.
pub(crate) fn bound(logical: Logical, schema: &DFSchema) -> Result<Logical> {
    let replace = |node: Logical| match node {
        Logical::ScalarFunction(mut call) => match Bounded::wrap(&call.func) {
            Some(bounded) => {
                call.func = bounded;
                Ok(Transformed::yes(Logical::ScalarFunction(call)))
            }
            None => Ok(Transformed::no(Logical::ScalarFunction(call))),
        },
        Logical::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            let text = |side: &Logical| side.get_type(schema).is_ok_and(|found| found.is_string());
            if !text(&binary.left) || !text(&binary.right) {
                return Ok(Transformed::no(Logical::BinaryExpr(binary)));
            }
            let join = Concatenate { signature: Signature::any(2, Volatility::Immutable) };
            let join = Arc::new(ScalarUDF::new_from_impl(join));
            let func = Bounded::wrap(&join).unwrap_or(join);
            let call = ScalarFunction::new_udf(func, vec![*binary.left, *binary.right]);
            Ok(Transformed::yes(Logical::ScalarFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    };
    logical.transform_up(replace).data()
}

/// The same for what simplification has made anew.
pub(crate) fn bound_physical(
    physical: Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>> {
    let replace = |node: Arc<dyn PhysicalExpr>| {
        let Some(call) = node.downcast_ref::<ScalarFunctionExpr>() else { return Ok(Transformed::no(node)) };
        let Some(bounded) = Bounded::wrap(&Arc::new(call.fun().clone())) else {
            return Ok(Transformed::no(node));
        };
        let call = ScalarFunctionExpr::new(
            call.name(),
            bounded,
            call.args().to_vec(),
            call.return_field(schema)?,
            Arc::new(call.config_options().clone()),
        );
        Ok(Transformed::yes(Arc::new(call) as Arc<dyn PhysicalExpr>))
    };
    physical.transform_up(replace).data()
}

/// Refuses what no row could keep within bounds: types of enormous fixed width, long constants in a lambda.
pub(crate) fn check(logical: &Logical) -> std::result::Result<(), ExprError> {
    let mut found = None;
    let walked = logical.apply(|node| {
        match node {
            Logical::Cast(cast) if width(cast.field.data_type()) > MAX_CONSTANT => {
                found = Some(format!("a value of {} is too large", cast.field.data_type()));
            }
            Logical::TryCast(cast) if width(cast.field.data_type()) > MAX_CONSTANT => {
                found = Some(format!("a value of {} is too large", cast.field.data_type()));
            }
            Logical::Literal(value, _) if width(&value.data_type()) > MAX_CONSTANT => {
                found = Some(format!("a value of {} is too large", value.data_type()));
            }
            Logical::Lambda(lambda) => {
                let long = |node: &Logical| match node {
                    Logical::Literal(value, _) => value
                        .to_array()
                        .and_then(|value| Sizes::of(&ColumnarValue::Array(value)))
                        .is_ok_and(|sizes| sizes.at(0) > MAX_IN_LAMBDA),
                    _ => false,
                };
                if lambda.body.exists(|node| Ok(long(node)))? {
                    found = Some(format!("a constant in a lambda has more than {MAX_IN_LAMBDA} bytes"));
                }
            }
            _ => {}
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (found, walked) {
        (Some(text), _) => Err(ExprError::new("value-too-large", text)),
        (None, Err(error)) => Err(ExprError::new("internal", error.strip_backtrace())),
        (None, Ok(_)) => Ok(()),
    }
}

/// Bytes that every value of a type takes, null or not.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or_default(),
        DataType::FixedSizeList(field, length) => {
            u64::try_from(*length).unwrap_or_default().saturating_mul(width(field.data_type()).max(1))
        }
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        DataType::List(field) | DataType::LargeList(field) => width(field.data_type()),
        other => other.primitive_width().unwrap_or_default() as u64,
    }
}

/// Bytes of the largest constant, which stands in memory once a row.
pub(crate) fn largest_constant(physical: &Arc<dyn PhysicalExpr>) -> u64 {
    let own = physical.downcast_ref::<Literal>().map_or(0, |literal| {
        let sizes = Sizes::of(&ColumnarValue::Scalar(literal.value().clone()));
        sizes.map_or(0, |sizes| sizes.at(0))
    });
    physical.children().into_iter().map(largest_constant).fold(own, u64::max)
}
