//! From syntax tree to physical expression: typed, coerced, simplified, over exactly the columns it uses.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Cast, Expr as Logical, ExprSchemable, Operator, lit};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::{self, BinaryExpr, Literal, NegativeExpr};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use crate::bounded;
use crate::error::ExprError;
use crate::functions::{CONFIG, Functions, check_stable, parser_options};

/// An expression ready to run.
pub(crate) struct Compiled {
    /// Typed and simplified, over the whole input.
    pub(crate) logical: Logical,
    /// Over `columns` alone, in the order of `schema`.
    pub(crate) physical: Arc<dyn PhysicalExpr>,
    /// The columns used, a projection of the input.
    pub(crate) schema: SchemaRef,
    /// Their places in the input.
    pub(crate) indices: Vec<usize>,
    pub(crate) columns: BTreeSet<String>,
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
    /// Bytes of the largest constant.
    pub(crate) constant: u64,
}

/// Types a syntax tree over the columns of `input`.
pub(crate) fn logical(tree: ast::Expr, sql: &str, input: &SchemaRef) -> Result<Logical, ExprError> {
    let functions = Functions::new(input);
    let planned = df_schema(input, sql).and_then(|schema| {
        SqlToRel::new_with_options(&functions, parser_options())
            .sql_to_expr(tree, &schema, &mut PlannerContext::new())
            .map_err(|e| {
                functions.unknown_function(sql).unwrap_or_else(|| ExprError::planning(&e, sql, input))
            })
    });
    check(planned?, sql)
}

/// Refuses what is no expression over one row.
pub(crate) fn check(logical: Logical, sql: &str) -> Result<Logical, ExprError> {
    let mut refused = None;
    let walked = logical.apply(|node| {
        let found = match node {
            Logical::ScalarFunction(call) => check_stable(&call.func, sql).err(),
            Logical::AggregateFunction(_) | Logical::WindowFunction(_) | Logical::GroupingSet(_) => Some(
                ExprError::new("aggregate", "aggregates and window functions are no part of row expressions"),
            ),
            Logical::ScalarSubquery(_)
            | Logical::Exists(_)
            | Logical::InSubquery(_)
            | Logical::SetComparison(_) => {
                Some(ExprError::new("subquery", "an expression looks at one row and cannot hold a query"))
            }
            Logical::Unnest(_) => Some(
                ExprError::new("unnest", "UNNEST makes many rows of one and is no part of a row expression")
                    .help("use a `flatten` step, or UNNEST as a whole column of a `sql` step"),
            ),
            Logical::Placeholder(p) => {
                Some(ExprError::new("placeholder", format!("the placeholder `{}` has no value here", p.id)))
            }
            Logical::ScalarVariable(..) | Logical::OuterReferenceColumn(..) => {
                Some(ExprError::new("unsupported", "variables are not supported"))
            }
            _ => None,
        };
        refused = found;
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (refused, walked) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(ExprError::planning(&error, sql, &arrow_schema::Schema::empty())),
        (None, Ok(_)) => Ok(logical),
    }
}

/// Coerces, simplifies and makes a checked expression physical.
pub(crate) fn finish(
    logical: Logical,
    sql: &str,
    input: &SchemaRef,
    boolean: bool,
) -> Result<Compiled, ExprError> {
    let plan_error = |e: DataFusionError| ExprError::planning(&e, sql, input);
    // All that follows looks at the columns that are used, however many there are.
    let named = logical.column_refs().into_iter().map(|c| c.name.clone()).collect();
    let (places, narrow) = used(input, &named).map_err(plan_error)?;
    let whole = Arc::new(df_schema(&narrow, sql)?);
    let context =
        SimplifyContext::builder().with_schema(Arc::clone(&whole)).with_config_options(Arc::clone(&CONFIG));
    let simplifier = ExprSimplifier::new(context.build());
    let logical = unqualified(logical).map_err(plan_error)?;
    let logical = simplifier.coerce(logical, &whole).map_err(plan_error)?;
    let logical = bounded::bound(logical, &whole).map_err(plan_error)?;
    bounded::check(&logical)?;
    let logical = fold_integers(logical).map_err(plan_error)?;
    let logical = canonical(logical, &whole, boolean).map_err(plan_error)?;
    let simplify =
        || if boolean { simplify_parts(logical, &simplifier) } else { simplifier.simplify(logical) };
    let logical = bounded::constants(simplify).map_err(plan_error)?;
    // Some functions are casts only now.
    bounded::check(&logical)?;

    let found = logical.get_type(&whole).map_err(plan_error)?;
    if boolean && found != DataType::Boolean {
        return Err(ExprError::new(
            "not-boolean",
            format!("a condition must be true or false, this is {found}"),
        )
        .help("compare it with something"));
    }
    let columns: BTreeSet<String> = logical.column_refs().into_iter().map(|c| c.name.clone()).collect();
    let (indices, schema) = used(&narrow, &columns).map_err(plan_error)?;
    let indices = indices.into_iter().map(|place| places[place]).collect();
    let typed = df_schema(&schema, sql)?;
    let physical =
        create_physical_expr(&logical, &typed, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .and_then(|physical| overflow_fails(physical, &schema))
            .and_then(|physical| bounded::bound_physical(physical, &schema))
            .map_err(plan_error)?;
    let data_type = physical.data_type(&schema).map_err(plan_error)?;
    let nullable = physical.nullable(&schema).map_err(plan_error)?;
    let constant = bounded::largest_constant(&physical);
    Ok(Compiled { logical, physical, schema, indices, columns, data_type, nullable, constant })
}

/// The columns of these names: their places, and a schema of them alone, in the same order.
fn used(input: &SchemaRef, names: &BTreeSet<String>) -> Result<(Vec<usize>, SchemaRef), DataFusionError> {
    let mut places = Vec::with_capacity(names.len());
    for (place, field) in input.fields().iter().enumerate() {
        if !names.is_empty() && names.contains(field.name()) {
            places.push(place);
        }
    }
    let schema = Arc::new(input.project(&places)?);
    Ok((places, schema))
}

/// Simplifies each part of a condition by itself. Seen together, one part could make another vanish with its failures
/// (`ok AND (x OR ok)`), and what a source is given would no longer say the same as the whole.
fn simplify_parts(condition: Logical, simplifier: &ExprSimplifier) -> Result<Logical, DataFusionError> {
    let mut parts = Vec::new();
    for part in split_conjunction_owned(condition) {
        let part = simplifier.simplify(part)?;
        if part != lit(true) {
            parts.push(part);
        }
    }
    Ok(conjunction(parts).unwrap_or_else(|| lit(true)))
}

fn df_schema(schema: &SchemaRef, sql: &str) -> Result<DFSchema, ExprError> {
    DFSchema::try_from(Arc::clone(schema)).map_err(|e| ExprError::planning(&e, sql, schema))
}

/// A SELECT names its columns `input.x`.
fn unqualified(logical: Logical) -> Result<Logical, DataFusionError> {
    let strip = |node| {
        Ok(match node {
            Logical::Column(c) if c.relation.is_some() => {
                Transformed::yes(Logical::Column(Column::new_unqualified(c.name)))
            }
            other => Transformed::no(other),
        })
    };
    logical.transform_up(strip).data()
}

/// Computes integer constants with the checks that rows get: the simplifier would wrap around in silence.
fn fold_integers(logical: Logical) -> Result<Logical, DataFusionError> {
    let empty: SchemaRef = Arc::new(arrow_schema::Schema::empty());
    let no_columns = DFSchema::empty();
    let fold = |node: Logical| {
        let Logical::BinaryExpr(binary) = &node else { return Ok(Transformed::no(node)) };
        let checked = matches!(binary.op, Operator::Plus | Operator::Minus | Operator::Multiply);
        let constant = |e: &Logical| matches!(e, Logical::Literal(v, _) if v.data_type().is_integer());
        if !checked || !constant(&binary.left) || !constant(&binary.right) {
            return Ok(Transformed::no(node));
        }
        let context = PhysicalPlanningContext::default();
        let physical = create_physical_expr(&node, &no_columns, &ExecutionProps::new(), &context)?;
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let one_row = RecordBatch::try_new_with_options(Arc::clone(&empty), Vec::new(), &one_row)?;
        let value = overflow_fails(physical, &empty)?.evaluate(&one_row)?.into_array(1)?;
        Ok(Transformed::yes(lit(ScalarValue::try_from_array(&value, 0)?)))
    };
    logical.transform_up(fold).data()
}

/// The type that plans use for what comes out.
fn canonical(logical: Logical, schema: &DFSchema, boolean: bool) -> Result<Logical, DataFusionError> {
    let wanted = match logical.get_type(schema)? {
        DataType::Null if boolean => DataType::Boolean,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &*zone == "UTC" => return Ok(logical),
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => return Ok(logical),
    };
    Ok(Logical::Cast(Cast::new(Box::new(logical), wanted)))
}

/// Makes integer arithmetic fail on overflow, where DataFusion by itself wraps around.
fn overflow_fails(
    physical: Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let check = |node: Arc<dyn PhysicalExpr>| {
        let data_type = node.data_type(schema)?;
        if !data_type.is_integer() {
            return Ok(Transformed::no(node));
        }
        let checked = |left, op, right| {
            let checked = BinaryExpr::new(left, op, right).with_fail_on_overflow(true);
            Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
        };
        if let Some(negative) = node.downcast_ref::<NegativeExpr>() {
            let zero = Arc::new(Literal::new(ScalarValue::new_zero(&data_type)?));
            return checked(zero, Operator::Minus, Arc::clone(negative.arg()));
        }
        match node.downcast_ref::<BinaryExpr>() {
            Some(binary) if matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply) => {
                checked(Arc::clone(binary.left()), *binary.op(), Arc::clone(binary.right()))
            }
            _ => Ok(Transformed::no(node)),
        }
    };
    physical.transform_up(check).data()
}

/// The one column of `schema` that an expression reads, if it is exactly one.
pub(crate) fn only_column(physical: &Arc<dyn PhysicalExpr>) -> Option<Arc<str>> {
    let mut columns = datafusion::physical_expr::utils::collect_columns(physical).into_iter();
    let first: expressions::Column = columns.next()?;
    columns.next().is_none().then(|| first.name().into())
}
