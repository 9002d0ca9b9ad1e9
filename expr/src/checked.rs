//! The second pass: the same expression, evaluated so that every row either has a value or says why not.
//!
//! The tree mirrors the physical expression. Each node runs its own kernel over its children's arrays, strictly at
//! first; a kernel that fails is asked again in a way that names the rows (a safe cast, checked arithmetic, or slices
//! that are halved), and those rows take no further part. Branching nodes evaluate a branch only for the rows that
//! take it. So each error is found where it arises, and no row is evaluated by itself unless a kernel is opaque.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::{and_kleene, concat, or_kleene, take, take_record_batch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use conveyor_model::dead_letter::RowError;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NegativeExpr, NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::arith::{integers, is_arithmetic};
use crate::bisect::{bisect, run, sentence};
use crate::bounded::{TooMuch, refused};
use crate::cast::lost;
use crate::compile::only_column;
use crate::expr::Evaluated;

/// Values of all rows, null where a row failed, and the failures in ascending order.
pub(crate) struct Checked {
    pub(crate) values: ArrayRef,
    pub(crate) failures: Vec<(u32, RowError)>,
}

impl Checked {
    /// In the form that callers see.
    pub(crate) fn finish(self, data_type: &DataType) -> Evaluated {
        let failures = self.failures.into_iter().map(|(row, error)| (row as usize, error)).collect();
        debug_assert_eq!(self.values.data_type(), data_type, "the two passes agree on the type");
        Evaluated { values: self.values, failures }
    }
}

/// One node of the mirrored tree.
pub(crate) enum Node {
    /// A column or a constant: cannot fail.
    Leaf { kernel: Arc<dyn PhysicalExpr>, data_type: DataType },
    /// A kernel over the values of its arguments.
    Call(Call),
    /// AND or OR.
    Logic(Logic),
    /// CASE, which COALESCE, NVL and NVL2 have become too.
    Case(Case),
}

pub(crate) struct Call {
    /// Over columns `0..args.len()` of `schema`.
    kernel: Arc<dyn PhysicalExpr>,
    args: Vec<Node>,
    schema: SchemaRef,
    data_type: DataType,
    rule: Rule,
    /// The column to blame.
    column: Option<Arc<str>>,
    /// What it is called in messages.
    name: String,
}

/// How failing rows are found.
enum Rule {
    /// By the nulls that this safe cast makes of values.
    Cast(Arc<dyn PhysicalExpr>),
    /// By checked arithmetic.
    Arithmetic(Operator),
    /// By bisection.
    Opaque,
}

pub(crate) struct Logic {
    and: bool,
    /// A part of a condition: rows for which `left` is null do not fail on `right`.
    condition: bool,
    left: Box<Node>,
    right: Box<Node>,
}

pub(crate) struct Case {
    base: Option<Box<Node>>,
    /// Compares the base with a WHEN value: columns 0 and 1.
    equal: Arc<dyn PhysicalExpr>,
    branches: Vec<(Node, Node)>,
    otherwise: Option<Box<Node>>,
    data_type: DataType,
}

impl Node {
    /// Mirrors an expression over `schema`. `condition`: it is a condition, see [`crate::Expr::compile_boolean`].
    pub(crate) fn new(expr: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, condition: bool) -> Node {
        let data_type = expr.data_type(schema).expect("the expression was typed over this schema");
        if expr.is::<Column>() || expr.is::<Literal>() {
            return Node::Leaf { kernel: Arc::clone(expr), data_type };
        }
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
            && matches!(binary.op(), Operator::And | Operator::Or)
        {
            let and = *binary.op() == Operator::And;
            let condition = condition && and;
            let side = |side| Box::new(Node::new(side, schema, condition));
            return Node::Logic(Logic {
                and,
                condition,
                left: side(binary.left()),
                right: side(binary.right()),
            });
        }
        if let Some(case) = expr.downcast_ref::<CaseExpr>() {
            return Node::Case(Case::new(case, schema, data_type));
        }
        Node::Call(Call::new(expr, schema, data_type))
    }

    /// Evaluates on all rows.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Checked, TooMuch> {
        match self {
            Node::Leaf { kernel, data_type } => {
                let values = run(kernel, rows, data_type).expect("columns and constants do not fail");
                Ok(Checked { values, failures: Vec::new() })
            }
            Node::Call(call) => call.evaluate(rows),
            Node::Logic(logic) => logic.evaluate(rows),
            Node::Case(case) => case.evaluate(rows),
        }
    }

    /// Evaluates on some rows, ascending; the failures carry the numbers of `rows`.
    fn evaluate_some(&self, rows: &RecordBatch, some: &[u32]) -> Result<Checked, TooMuch> {
        if some.len() == rows.num_rows() {
            return self.evaluate(rows);
        }
        let picked =
            take_record_batch(rows, &UInt32Array::from(some.to_vec())).expect("row numbers are within");
        let mut checked = self.evaluate(&picked)?;
        for (row, _) in &mut checked.failures {
            *row = some[*row as usize];
        }
        Ok(checked)
    }
}

impl Call {
    fn new(expr: &Arc<dyn PhysicalExpr>, schema: &SchemaRef, data_type: DataType) -> Self {
        let type_of = |e: &Arc<dyn PhysicalExpr>| e.data_type(schema).expect("typed over this schema");
        let (mut args, mut fields, mut children) = (Vec::new(), Vec::new(), Vec::new());
        let arithmetic = expr.downcast_ref::<BinaryExpr>().filter(|b| is_arithmetic(*b.op()));
        let transparent = is_transparent(expr);
        for child in expr.children() {
            // Constants stay in place: kernels are faster with them, and some functions insist.
            if !transparent || (child.is::<Literal>() && arithmetic.is_none()) {
                children.push(Arc::clone(child));
                continue;
            }
            let name = format!("c{}", args.len());
            children.push(Arc::new(Column::new(&name, args.len())));
            fields.push(Field::new(name, type_of(child), true));
            args.push(Node::new(child, schema, false));
        }
        let (kernel, schema) = if transparent {
            let kernel = Arc::clone(expr).with_new_children(children).expect("as many children as before");
            (kernel, Arc::new(Schema::new(fields)))
        } else {
            (Arc::clone(expr), Arc::clone(schema))
        };
        let (rule, blamed) = match (expr.downcast_ref::<CastExpr>(), arithmetic) {
            (Some(cast), _) if !args.is_empty() && !data_type.is_nested() => {
                let argument: Arc<dyn PhysicalExpr> = Arc::new(Column::new("c0", 0));
                (Rule::Cast(Arc::new(TryCastExpr::new(argument, cast.cast_type().clone()))), cast.expr())
            }
            (_, Some(binary)) => {
                let divides = matches!(binary.op(), Operator::Divide | Operator::Modulo);
                let divisor = divides && only_column(binary.right()).is_some();
                (Rule::Arithmetic(*binary.op()), if divisor { binary.right() } else { expr })
            }
            _ => (Rule::Opaque, expr),
        };
        let column = only_column(blamed);
        Call { kernel, args, schema, data_type, rule, column, name: called(expr) }
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<Checked, TooMuch> {
        if self.args.is_empty() {
            return self.apply(rows);
        }
        let (mut arrays, mut failures) = (Vec::with_capacity(self.args.len()), Vec::new());
        for arg in &self.args {
            let checked = arg.evaluate(rows)?;
            arrays.push(checked.values);
            failures = merge(failures, checked.failures);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let arguments = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .expect("arguments have the types that the call was made for");
        if failures.is_empty() {
            return self.apply(&arguments);
        }
        let good = without(rows.num_rows(), &failures);
        let picked =
            take_record_batch(&arguments, &UInt32Array::from(good.clone())).expect("row numbers are within");
        let checked = self.apply(&picked)?;
        let values = scatter(&checked.values, &good, rows.num_rows());
        let here = checked.failures.into_iter().map(|(row, error)| (good[row as usize], error)).collect();
        Ok(Checked { values, failures: merge(failures, here) })
    }

    /// Runs the kernel on arguments that did not fail themselves.
    fn apply(&self, arguments: &RecordBatch) -> Result<Checked, TooMuch> {
        if let Ok(values) = run(&self.kernel, arguments, &self.data_type) {
            return Ok(Checked { values, failures: Vec::new() });
        }
        let found = match &self.rule {
            Rule::Cast(safe) => run(safe, arguments, &self.data_type)
                .ok()
                .map(|values| lost(arguments.column(0), values, self.column.as_ref())),
            Rule::Arithmetic(op) => {
                integers(*op, arguments.column(0), arguments.column(1), self.column.as_ref())
            }
            Rule::Opaque => None,
        };
        match found {
            Some(checked) if !checked.failures.is_empty() => Ok(checked),
            _ => self.search(arguments),
        }
    }

    fn search(&self, arguments: &RecordBatch) -> Result<Checked, TooMuch> {
        let (values, errors) = bisect(&self.kernel, arguments, &self.data_type)?;
        let code = match &self.rule {
            Rule::Cast(_) => "cast-failed",
            Rule::Arithmetic(_) | Rule::Opaque => "expression-failed",
        };
        let failures = errors.into_iter().map(|(row, error)| {
            let code = if refused(&error).is_some() { "value-too-large" } else { code };
            let error = RowError::new(code, format!("{} failed: {}", self.name, sentence(&error)));
            (row, RowError { column: self.column.clone(), ..error })
        });
        Ok(Checked { values, failures: failures.collect() })
    }
}

impl Logic {
    fn evaluate(&self, rows: &RecordBatch) -> Result<Checked, TooMuch> {
        let left = self.left.evaluate(rows)?;
        let values = left.values.as_boolean();
        let failed: Vec<u32> = left.failures.iter().map(|(row, _)| *row).collect();
        let open: Vec<u32> = (0..rows.num_rows())
            .filter(|&row| values.is_null(row) || values.value(row) == self.and)
            .map(|row| u32::try_from(row).expect("batches have fewer than 2^32 rows"))
            .filter(|row| failed.binary_search(row).is_err())
            .collect();
        let right = self.right.evaluate_some(rows, &open)?;
        let full = scatter(&right.values, &open, rows.num_rows());
        let joined = if self.and {
            and_kleene(values, full.as_boolean())
        } else {
            or_kleene(values, full.as_boolean())
        };
        let mut failures = right.failures;
        if self.condition {
            failures.retain(|(row, _)| values.is_valid(*row as usize));
        }
        let values = joined.expect("both sides have one value a row");
        // A failed row is null: for AND and OR null and true, or null and false, could still have given a value.
        let failures = merge(left.failures, failures);
        Ok(Checked { values: blank(Arc::new(values), &failures), failures })
    }
}

impl Case {
    fn new(case: &CaseExpr, schema: &SchemaRef, data_type: DataType) -> Self {
        let node = |e: &Arc<dyn PhysicalExpr>| Node::new(e, schema, false);
        let equal =
            BinaryExpr::new(Arc::new(Column::new("c0", 0)), Operator::Eq, Arc::new(Column::new("c1", 1)));
        Case {
            base: case.expr().map(|e| Box::new(node(e))),
            equal: Arc::new(equal),
            branches: case.when_then_expr().iter().map(|(when, then)| (node(when), node(then))).collect(),
            otherwise: case.else_expr().map(|e| Box::new(node(e))),
            data_type,
        }
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<Checked, TooMuch> {
        let base = self.base.as_ref().map(|base| base.evaluate(rows)).transpose()?;
        let (base, mut failures) = match base {
            Some(checked) => (Some(checked.values), checked.failures),
            None => (None, Vec::new()),
        };
        let mut open = without(rows.num_rows(), &failures);
        let mut unmatched = Vec::new();
        if let Some(base) = &base {
            // Null equals nothing: such a row goes straight to ELSE, and no WHEN is evaluated for it.
            (unmatched, open) = open.into_iter().partition(|row| base.is_null(*row as usize));
        }
        let mut parts = Parts::new(rows.num_rows(), &self.data_type);
        for (when, then) in &self.branches {
            if open.is_empty() {
                break;
            }
            let tested = when.evaluate_some(rows, &open)?;
            let hit = match &base {
                Some(base) => self.matches(base, &open, tested.values),
                None => tested.values.as_boolean().clone(),
            };
            let failed: Vec<u32> = tested.failures.iter().map(|(row, _)| *row).collect();
            let is_hit = |place: usize| hit.is_valid(place) && hit.value(place);
            let taken: Vec<u32> =
                open.iter().enumerate().filter(|(place, _)| is_hit(*place)).map(|(_, row)| *row).collect();
            let rest = open.iter().enumerate().filter(|(place, _)| !is_hit(*place)).map(|(_, row)| *row);
            open = rest.filter(|row| failed.binary_search(row).is_err()).collect();
            failures = merge(failures, tested.failures);
            if !taken.is_empty() {
                failures = merge(failures, parts.add(then, rows, &taken)?);
            }
        }
        open.extend(unmatched);
        open.sort_unstable();
        if let Some(otherwise) = &self.otherwise
            && !open.is_empty()
        {
            failures = merge(failures, parts.add(otherwise, rows, &open)?);
        }
        Ok(Checked { values: parts.join(), failures })
    }

    /// Whether the base equals the WHEN values, for the rows `open`; a failed WHEN value is null and equals nothing.
    fn matches(&self, base: &ArrayRef, open: &[u32], when: ArrayRef) -> BooleanArray {
        let base = take(base, &UInt32Array::from(open.to_vec()), None).expect("row numbers are within");
        let fields = vec![
            Field::new("c0", base.data_type().clone(), true),
            Field::new("c1", when.data_type().clone(), true),
        ];
        let pairs = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![base, when])
            .expect("two columns of one length");
        let equal =
            run(&self.equal, &pairs, &DataType::Boolean).expect("planning made the two types comparable");
        equal.as_boolean().clone()
    }
}

/// Values of disjoint groups of rows, put together at the end.
struct Parts {
    arrays: Vec<ArrayRef>,
    /// For each row its place in the joined arrays.
    places: Vec<Option<u32>>,
    filled: u32,
    data_type: DataType,
}

impl Parts {
    fn new(rows: usize, data_type: &DataType) -> Self {
        Self { arrays: Vec::new(), places: vec![None; rows], filled: 0, data_type: data_type.clone() }
    }

    fn add(
        &mut self,
        node: &Node,
        rows: &RecordBatch,
        some: &[u32],
    ) -> Result<Vec<(u32, RowError)>, TooMuch> {
        let checked = node.evaluate_some(rows, some)?;
        let values = if checked.values.data_type() == &self.data_type {
            checked.values
        } else {
            arrow::compute::cast(&checked.values, &self.data_type)
                .expect("planning gave all branches one type")
        };
        for row in some {
            self.places[*row as usize] = Some(self.filled);
            self.filled += 1;
        }
        self.arrays.push(values);
        Ok(checked.failures)
    }

    fn join(self) -> ArrayRef {
        if self.arrays.is_empty() {
            return new_null_array(&self.data_type, self.places.len());
        }
        let arrays: Vec<_> = self.arrays.iter().map(AsRef::as_ref).collect();
        let all = concat(&arrays).expect("branches have one type");
        take(&all, &UInt32Array::from(self.places), None).expect("places are within")
    }
}

/// Whether the children are plain arguments, all evaluated for each row. A kernel that we do not know (one with a lambda,
/// say) is taken whole, with its children.
fn is_transparent(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is::<BinaryExpr>()
        || expr.is::<CastExpr>()
        || expr.is::<TryCastExpr>()
        || expr.is::<ScalarFunctionExpr>()
        || expr.is::<NotExpr>()
        || expr.is::<IsNullExpr>()
        || expr.is::<IsNotNullExpr>()
        || expr.is::<NegativeExpr>()
        || expr.is::<LikeExpr>()
        || expr.is::<InListExpr>()
}

/// What a person calls the kernel.
fn called(expr: &Arc<dyn PhysicalExpr>) -> String {
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return if function.name() == "||" { "`||`".to_owned() } else { format!("{}()", function.name()) };
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return format!("`{}`", binary.op());
    }
    if expr.is::<CastExpr>() {
        return "CAST".to_owned();
    }
    "the expression".to_owned()
}

/// Joins failures; in a row that failed twice the `first` reason stays.
fn merge(first: Vec<(u32, RowError)>, second: Vec<(u32, RowError)>) -> Vec<(u32, RowError)> {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut all = first;
    all.extend(second);
    // The sort is stable, so the first reason stands first.
    all.sort_by_key(|(row, _)| *row);
    all.dedup_by_key(|(row, _)| *row);
    all
}

/// The rows that did not fail.
fn without(rows: usize, failures: &[(u32, RowError)]) -> Vec<u32> {
    let rows = u32::try_from(rows).expect("batches have fewer than 2^32 rows");
    let mut failed = failures.iter().map(|(row, _)| *row).peekable();
    (0..rows).filter(|row| failed.next_if_eq(row).is_none()).collect()
}

/// Puts the values of `some` rows at their places among `rows`; the others are null.
fn scatter(values: &ArrayRef, some: &[u32], rows: usize) -> ArrayRef {
    if some.len() == rows {
        return Arc::clone(values);
    }
    let mut places: Vec<Option<u32>> = vec![None; rows];
    for (place, row) in (0u32..).zip(some) {
        places[*row as usize] = Some(place);
    }
    take(values, &UInt32Array::from(places), None).expect("places are within")
}

/// The same values, null in the failed rows.
fn blank(values: ArrayRef, failures: &[(u32, RowError)]) -> ArrayRef {
    if failures.is_empty() {
        return values;
    }
    let good = without(values.len(), failures);
    let picked = take(&values, &UInt32Array::from(good.clone()), None).expect("row numbers are within");
    scatter(&picked, &good, values.len())
}
