//! One expression: compiled once, evaluated on batch after batch.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::concat;
use arrow_schema::{DataType, SchemaRef};
use conveyor_model::dead_letter::RowError;
use conveyor_model::predicate::Predicate;
use datafusion::logical_expr::Expr as Logical;

use crate::bisect::run;
use crate::bounded::{self, MAX_TOGETHER, Refused, TooMuch};
use crate::checked::Node;
use crate::compile::{Compiled, finish, logical};
use crate::error::ExprError;
use crate::{parse, pushdown};

/// A SQL expression over the columns of one schema. Cheap to clone.
#[derive(Clone)]
pub struct Expr {
    inner: Arc<Inner>,
}

struct Inner {
    sql: String,
    input: SchemaRef,
    boolean: bool,
    compiled: Compiled,
    /// Finds failing rows; made when the first row fails.
    checked: OnceLock<Node>,
}

/// What an expression gives for the rows of a batch.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// One value a row, of the expression's type; null where the row failed.
    pub values: ArrayRef,
    /// The rows that failed, ascending, each once.
    pub failures: Vec<(usize, RowError)>,
}

impl Expr {
    /// Types one SQL expression over the columns of `input`.
    ///
    /// The type is canonical: text is `Utf8View`, a point in time `Timestamp(Microsecond, "UTC")`.
    ///
    /// # Errors
    /// If the text is not exactly one expression, names a column or function that does not exist, mixes types that do
    /// not go together, or is not determined by one row (aggregates, queries, `random()`, `now()`).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use arrow_schema::{DataType, Field, Schema};
    /// use conveyor_expr::Expr;
    ///
    /// let input = Arc::new(Schema::new(vec![Field::new("distance", DataType::Int64, true)]));
    /// let miles = Expr::compile("distance / 60.0", &input).expect("it is typed");
    /// assert_eq!(miles.data_type(), &DataType::Float64);
    ///
    /// let error = Expr::compile("1 + distanse", &input).err().expect("misspelt");
    /// assert_eq!((error.code, error.offset), ("unknown-column", Some(4)));
    /// assert_eq!(error.help.as_deref(), Some("did you mean `distance`?"));
    /// ```
    pub fn compile(sql: &str, input: &SchemaRef) -> Result<Expr, ExprError> {
        parse::planning(|| Self::plan(sql, input, false))
    }

    /// As [`Expr::compile`], for a condition.
    ///
    /// A condition `a AND b AND c` is tested from left to right, and a row that is not true for one part (false or
    /// null) cannot fail on a later one: this is what makes it safe to test the first parts elsewhere, see
    /// [`Expr::pushdown`].
    ///
    /// # Errors
    /// As for [`Expr::compile`], and if the expression is not boolean.
    pub fn compile_boolean(sql: &str, input: &SchemaRef) -> Result<Expr, ExprError> {
        parse::planning(|| Self::plan(sql, input, true))
    }

    /// Compiles on the present stack.
    pub(crate) fn plan(sql: &str, input: &SchemaRef, boolean: bool) -> Result<Expr, ExprError> {
        let logical = logical(parse::expression(sql)?, sql, input)?;
        Self::typed(logical, sql, input, boolean)
    }

    /// Compiles what is typed already.
    pub(crate) fn typed(
        logical: Logical,
        sql: &str,
        input: &SchemaRef,
        boolean: bool,
    ) -> Result<Expr, ExprError> {
        let compiled = finish(logical, sql, input, boolean)?;
        let (sql, input) = (sql.to_owned(), Arc::clone(input));
        Ok(Expr { inner: Arc::new(Inner { sql, input, boolean, compiled, checked: OnceLock::new() }) })
    }

    /// Type of the values.
    pub fn data_type(&self) -> &DataType {
        &self.inner.compiled.data_type
    }

    /// Whether a value may be null in a row that does not fail.
    pub fn nullable(&self) -> bool {
        self.inner.compiled.nullable
    }

    /// Input columns that it uses.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.inner.compiled.columns
    }

    /// The column, if the expression is a column and nothing else.
    pub fn as_column(&self) -> Option<&str> {
        match &self.inner.compiled.logical {
            Logical::Column(column) => Some(&column.name),
            _ => None,
        }
    }

    pub(crate) fn logical(&self) -> &Logical {
        &self.inner.compiled.logical
    }

    pub(crate) fn sql(&self) -> &str {
        &self.inner.sql
    }

    pub(crate) fn input(&self) -> &SchemaRef {
        &self.inner.input
    }

    pub(crate) fn compiled(&self) -> &Compiled {
        &self.inner.compiled
    }

    /// The value for each row, and the rows that failed with the reason.
    ///
    /// The vectorized kernels run on the whole batch; only if they fail, a second pass finds the failing rows. What
    /// comes out for a row depends on that row alone. A branch of CASE, COALESCE, AND or OR that a row does not take
    /// cannot make it fail; among several errors in a row the leftmost, innermost one is told.
    ///
    /// # Panics
    /// If `rows` has not the schema that the expression was compiled against.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use arrow::array::{Array, ArrayRef, RecordBatch, StringViewArray};
    /// use conveyor_expr::Expr;
    ///
    /// let delay: ArrayRef = Arc::new(StringViewArray::from(vec!["12", "late", "7"]));
    /// let rows = RecordBatch::try_from_iter([("delay", delay)]).expect("one column");
    /// let expr = Expr::compile("CAST(delay AS BIGINT) + 1", &rows.schema()).expect("it is typed");
    /// let result = expr.evaluate(&rows);
    /// assert_eq!(result.values.len(), 3);
    /// assert_eq!(result.failures[0].0, 1);
    /// assert_eq!(result.failures[0].1.code, "cast-failed");
    /// ```
    pub fn evaluate(&self, rows: &RecordBatch) -> Evaluated {
        self.evaluate_at_once(rows).unwrap_or_else(|TooMuch| {
            let half = rows.num_rows() / 2;
            let first = self.evaluate(&rows.slice(0, half));
            let second = self.evaluate(&rows.slice(half, rows.num_rows() - half));
            let values = concat(&[first.values.as_ref(), second.values.as_ref()]);
            let later = second.failures.into_iter().map(|(row, error)| (row + half, error));
            Evaluated {
                values: values.expect("values of one expression have one type"),
                failures: first.failures.into_iter().chain(later).collect(),
            }
        })
    }

    /// As [`Expr::evaluate`], but only if all values can be made at once: what the functions in it make on the way has
    /// a limit. For those who can take the rows in parts, so that the values of all of them never stand side by side.
    ///
    /// # Errors
    /// If it is too much; half the rows may do. One row alone never is: it fails instead.
    ///
    /// # Panics
    /// As [`Expr::evaluate`].
    pub fn evaluate_at_once(&self, rows: &RecordBatch) -> Result<Evaluated, TooMuch> {
        let compiled = &self.inner.compiled;
        let alone = rows.num_rows() <= 1;
        if !alone && compiled.constant.saturating_mul(rows.num_rows() as u64) > MAX_TOGETHER {
            return Err(TooMuch);
        }
        let columns = compiled.indices.iter().map(|&i| Arc::clone(rows.column(i))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let used = RecordBatch::try_new_with_options(Arc::clone(&compiled.schema), columns, &options)
            .expect("the batch has the schema that the expression was compiled against");
        bounded::begin(rows.num_rows());
        match run(&compiled.physical, &used, &compiled.data_type) {
            Ok(values) => Ok(Evaluated { values, failures: Vec::new() }),
            Err(error) if bounded::refused(&error) == Some(Refused::Together) => Err(TooMuch),
            Err(_) => {
                let node = self
                    .inner
                    .checked
                    .get_or_init(|| Node::new(&compiled.physical, &compiled.schema, self.inner.boolean));
                bounded::begin(rows.num_rows());
                Ok(node.evaluate(&used)?.finish(&compiled.data_type))
            }
        }
    }

    /// Splits a condition into what a source can test and the rest, as SQL.
    ///
    /// A row passes the whole condition if and only if it passes both. Only parts that cannot fail are taken out, and
    /// none that stands behind a part that can: the rows that fail stay the same.
    pub fn pushdown(&self) -> (Predicate, Option<String>) {
        pushdown::split(self)
    }
}
