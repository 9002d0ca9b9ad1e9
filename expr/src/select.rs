//! A stateless `SELECT` over one table called `input`: projection, WHERE, and UNNEST of one list.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use conveyor_model::credit::column_cost;
use conveyor_model::dead_letter::RowError;
use datafusion::logical_expr::{Expr as Logical, LogicalPlan};
use datafusion::sql::planner::SqlToRel;
use datafusion::sql::sqlparser::ast::{
    Expr as Tree, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, Query, SelectItem,
    SetExpr, Statement, TableFactor,
};

use crate::bounded::MAX_TOGETHER;
use crate::compile::check;
use crate::error::ExprError;
use crate::expr::Expr;
use crate::functions::{Functions, parser_options};
use crate::parse;
use crate::size::sizes;

/// Name of the list column before it is unnested; no column of the data may be called so.
const LIST: &str = "__unnest";

/// A compiled stateless SELECT.
#[derive(Clone)]
pub struct Select {
    condition: Option<Expr>,
    outputs: Vec<Expr>,
    /// Which output is a list to be unnested.
    unnest: Option<usize>,
    schema: SchemaRef,
    columns: BTreeSet<String>,
}

/// What a SELECT gives for a batch. Input rows = distinct rows in `from` + failures + filtered.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The output rows.
    pub rows: RecordBatch,
    /// For each output row its input row, ascending; UNNEST repeats an index.
    pub from: UInt32Array,
    /// Input rows that failed, ascending, each once.
    pub failures: Vec<(usize, RowError)>,
    /// Input rows that WHERE dropped, or whose list is null or empty.
    pub filtered: usize,
}

impl Select {
    /// Types `SELECT … FROM input [WHERE …]` over the columns of `input`.
    ///
    /// # Errors
    /// If the query is anything more (joins, GROUP BY, aggregates, ORDER BY, LIMIT, DISTINCT, WITH, subqueries), or an
    /// expression in it does not compile.
    pub fn compile(query: &str, input: &SchemaRef) -> Result<Select, ExprError> {
        parse::planning(|| Self::plan(query, input))
    }

    fn plan(text: &str, input: &SchemaRef) -> Result<Select, ExprError> {
        let mut query = parse::select(text)?;
        let unnest_name = prepare(&mut query, text)?;
        let functions = Functions::new(input);
        let plan = SqlToRel::new_with_options(&functions, parser_options())
            .sql_statement_to_plan(Statement::Query(query))
            .map_err(|e| {
                functions.unknown_function(text).unwrap_or_else(|| ExprError::planning(&e, text, input))
            })?;
        let LogicalPlan::Projection(projection) = plan else { return Err(refused("this form of query")) };
        let condition = match projection.input.as_ref() {
            LogicalPlan::Filter(filter) => {
                let predicate = check(filter.predicate.clone(), text)?;
                Some(Expr::typed(predicate, text, input, true)?)
            }
            LogicalPlan::TableScan(_) | LogicalPlan::SubqueryAlias(_) => None,
            _ => return Err(refused("this form of query")),
        };
        let (mut outputs, mut fields, mut unnest) = (Vec::new(), Vec::<FieldRef>::new(), None);
        for item in &projection.expr {
            let name = item.schema_name().to_string();
            let (name, inner) = match item {
                Logical::Alias(alias) => (alias.name.clone(), alias.expr.as_ref().clone()),
                Logical::Column(column) => (column.name.clone(), item.clone()),
                other => (name, other.clone()),
            };
            let output = Expr::typed(check(inner, text)?, text, input, false)?;
            let field = match &unnest_name {
                Some(shown) if name == LIST => {
                    unnest = Some(outputs.len());
                    Field::new(shown, element(output.data_type())?, true)
                }
                _ => Field::new(name, output.data_type().clone(), output.nullable()),
            };
            fields.push(Arc::new(field));
            outputs.push(output);
        }
        unique(&fields)?;
        let used = outputs.iter().chain(&condition);
        let columns = used.flat_map(|expr| expr.columns().iter().cloned()).collect();
        Ok(Select { condition, outputs, unnest, schema: Arc::new(Schema::new(fields)), columns })
    }

    /// Columns and types of the output.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Input columns that it uses.
    pub fn columns(&self) -> &BTreeSet<String> {
        &self.columns
    }

    /// Runs it on a batch of the schema that it was compiled against.
    ///
    /// WHERE is tested first; an output column that fails fails the row, the leftmost one naming the error. `None` if
    /// the result is too large to stand in memory at once: half the rows may do, and one row alone always does.
    ///
    /// # Errors
    /// If the result would have more than 2^32 rows.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<Option<Selected>, conveyor_model::Error> {
        let mut state = self.filter(rows)?;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.outputs.len());
        let mut bad: Vec<(usize, RowError)> = Vec::new();
        let mut made = 0;
        for output in &self.outputs {
            let Ok(evaluated) = output.evaluate_at_once(&state.rows) else { return Ok(None) };
            if output.as_column().is_none() {
                made += column_cost(&evaluated.values);
            }
            if rows.num_rows() > 1 && made > MAX_TOGETHER {
                return Ok(None);
            }
            bad.extend(evaluated.failures);
            columns.push(evaluated.values);
        }
        if !bad.is_empty() {
            state.fail(bad, &mut columns)?;
        }
        if let Some(place) = self.unnest {
            if rows.num_rows() > 1 && exploded(place, &columns).map_err(internal)? > MAX_TOGETHER {
                return Ok(None);
            }
            state.explode(place, &mut columns)?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(state.from.len()));
        let rows = RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(internal)?;
        let State { from, failures, filtered, .. } = state;
        Ok(Some(Selected { rows, from: from.into(), failures, filtered }))
    }

    /// The rows that WHERE lets through.
    fn filter(&self, rows: &RecordBatch) -> Result<State, conveyor_model::Error> {
        let count = u32::try_from(rows.num_rows()).map_err(|_| too_many())?;
        let mut from: Vec<u32> = (0..count).collect();
        let Some(condition) = &self.condition else {
            return Ok(State { rows: rows.clone(), from, failures: Vec::new(), filtered: 0 });
        };
        let tested = condition.evaluate(rows);
        let keep = tested.values.as_boolean();
        from.retain(|&row| keep.is_valid(row as usize) && keep.value(row as usize));
        let filtered = rows.num_rows() - tested.failures.len() - from.len();
        let rows = filter_record_batch(rows, keep).map_err(internal)?;
        Ok(State { rows, from, failures: tested.failures, filtered })
    }
}

/// A batch on its way through a SELECT.
struct State {
    /// Input rows still under way.
    rows: RecordBatch,
    /// Their numbers in the input, or those of the output rows.
    from: Vec<u32>,
    failures: Vec<(usize, RowError)>,
    filtered: usize,
}

impl State {
    /// Takes out the rows of which an output column failed.
    fn fail(
        &mut self,
        mut bad: Vec<(usize, RowError)>,
        columns: &mut [ArrayRef],
    ) -> Result<(), conveyor_model::Error> {
        // The sort is stable, so the leftmost column's error stands first.
        bad.sort_by_key(|(row, _)| *row);
        bad.dedup_by_key(|(row, _)| *row);
        let mut failed = bad.iter().map(|(row, _)| *row).peekable();
        let good: Vec<u32> = (0u32..)
            .take(self.from.len())
            .filter(|row| failed.next_if_eq(&(*row as usize)).is_none())
            .collect();
        let places = UInt32Array::from(good);
        for column in columns {
            *column = take(column, &places, None).map_err(internal)?;
        }
        self.failures.extend(bad.into_iter().map(|(row, error)| (self.from[row] as usize, error)));
        self.failures.sort_by_key(|(row, _)| *row);
        self.from = places.values().iter().map(|row| self.from[*row as usize]).collect();
        Ok(())
    }

    /// Makes one row of each element of the list column at `place`.
    fn explode(&mut self, place: usize, columns: &mut [ArrayRef]) -> Result<(), conveyor_model::Error> {
        let list =
            arrow::compute::cast(&columns[place], &large(columns[place].data_type())).map_err(internal)?;
        let list = list.as_list::<i64>();
        let (mut repeat, mut elements, mut kept) = (Vec::new(), Vec::new(), 0);
        for row in 0..list.len() {
            let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
            if list.is_null(row) || start == end {
                continue;
            }
            kept += 1;
            let row = u32::try_from(row).map_err(|_| too_many())?;
            for element in start..end {
                repeat.push(row);
                elements.push(u32::try_from(element).map_err(|_| too_many())?);
            }
        }
        let values = take(list.values(), &UInt32Array::from(elements), None).map_err(internal)?;
        let repeat = UInt32Array::from(repeat);
        for (at, column) in columns.iter_mut().enumerate() {
            *column = if at == place {
                Arc::clone(&values)
            } else {
                take(column, &repeat, None).map_err(internal)?
            };
        }
        self.filtered += self.from.len() - kept;
        self.from = repeat.values().iter().map(|row| self.from[*row as usize]).collect();
        Ok(())
    }
}

/// Bytes of the columns once the list at `place` has become rows.
fn exploded(place: usize, columns: &[ArrayRef]) -> Result<u64, arrow_schema::ArrowError> {
    let list = arrow::compute::cast(&columns[place], &large(columns[place].data_type()))?;
    // Views are copied without what they point to.
    let copied = |column: &ArrayRef| !matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    let others = columns.iter().enumerate().filter(|(at, column)| *at != place && copied(column));
    let sizes: Vec<_> = others.map(|(_, column)| sizes(column)).collect();
    let views = 16 * columns.len() as u64;
    let row = |(row, length): (usize, usize)| {
        let bytes: u64 = sizes.iter().map(|column| column.at(row)).sum();
        (length as u64).saturating_mul(bytes + views)
    };
    Ok(list.as_list::<i64>().offsets().lengths().enumerate().map(row).fold(0, u64::saturating_add))
}

/// Refuses what is no stateless SELECT, names what has no name, and marks the list to unnest: its name is returned.
fn prepare(query: &mut Query, text: &str) -> Result<Option<String>, ExprError> {
    let clauses = [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT"),
        (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        (query.settings.is_some() || query.format_clause.is_some(), "SETTINGS and FORMAT"),
        (!query.pipe_operators.is_empty(), "|>"),
    ];
    let select = match (clauses.into_iter().find(|(there, _)| *there), query.body.as_mut()) {
        (Some((_, clause)), _) => return Err(refused(clause)),
        (None, SetExpr::Select(select)) => select,
        (None, _) => return Err(refused("UNION, VALUES and the like")),
    };
    let grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
    let clauses = [
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (grouped, "GROUP BY"),
        (select.having.is_some(), "HAVING"),
        (select.qualify.is_some() || !select.named_window.is_empty(), "WINDOW"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (select.prewhere.is_some(), "PREWHERE"),
        (
            !select.sort_by.is_empty() || !select.cluster_by.is_empty() || !select.distribute_by.is_empty(),
            "SORT BY",
        ),
    ];
    if let Some((_, clause)) = clauses.into_iter().find(|(there, _)| *there) {
        return Err(refused(clause));
    }
    let one_table = match select.from.as_slice() {
        [table] => table.joins.is_empty() && matches!(&table.relation, TableFactor::Table { args: None, .. }),
        _ => false,
    };
    if !one_table {
        return Err(refused("anything but FROM input").at(text.find("FROM")));
    }
    let mut unnest = None;
    for item in &mut select.projection {
        let (tree, alias) = match item {
            SelectItem::UnnamedExpr(tree) => (tree, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            _ => continue,
        };
        if let Some(list) = unnested(tree) {
            let name = alias.unwrap_or_else(|| column_of(&list).unwrap_or_else(|| "unnest".to_owned()));
            if unnest.replace(name).is_some() {
                return Err(refused("more than one UNNEST"));
            }
            *item = SelectItem::ExprWithAlias { expr: list, alias: Ident::new(LIST) };
        } else if alias.is_none() && column_of(tree).is_none() {
            let name = Ident::with_quote('"', tree.to_string());
            *item = SelectItem::ExprWithAlias { expr: tree.clone(), alias: name };
        }
    }
    Ok(unnest)
}

/// The argument of `UNNEST(…)`.
fn unnested(tree: &Tree) -> Option<Tree> {
    let Tree::Function(call) = tree else { return None };
    if !call.name.to_string().eq_ignore_ascii_case("unnest") {
        return None;
    }
    let FunctionArguments::List(arguments) = &call.args else { return None };
    match arguments.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(list))] => Some(list.clone()),
        _ => None,
    }
}

/// The name of a bare column.
fn column_of(tree: &Tree) -> Option<String> {
    match tree {
        Tree::Identifier(name) => Some(name.value.clone()),
        Tree::CompoundIdentifier(path) => path.last().map(|name| name.value.clone()),
        _ => None,
    }
}

fn element(list: &DataType) -> Result<DataType, ExprError> {
    match list {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => Ok(field.data_type().clone()),
        other => Err(ExprError::new("type-mismatch", format!("UNNEST takes a list, this is {other}"))),
    }
}

/// The same list with 64-bit offsets: one form for all kinds of list.
fn large(list: &DataType) -> DataType {
    match list {
        DataType::List(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _) => DataType::LargeList(Arc::clone(field)),
        other => other.clone(),
    }
}

fn unique(fields: &[FieldRef]) -> Result<(), ExprError> {
    let mut seen = BTreeSet::new();
    match fields.iter().find(|field| !seen.insert(field.name())) {
        Some(twice) => {
            Err(ExprError::new("duplicate-column", format!("two columns are called `{}`", twice.name()))
                .help("give one of them another name with AS"))
        }
        None => Ok(()),
    }
}

fn refused(what: &str) -> ExprError {
    ExprError::new("not-stateless", format!("{what} is not possible in a `sql` step"))
        .help("a `sql` step looks at one row at a time: SELECT … FROM input WHERE …")
}

fn too_many() -> conveyor_model::Error {
    conveyor_model::Error::new(
        conveyor_model::Kind::Exhausted,
        "too-many-rows",
        "a batch would have 2^32 rows or more",
    )
    .help("make batches or lists smaller")
}

fn internal(error: arrow_schema::ArrowError) -> conveyor_model::Error {
    conveyor_model::Error::runtime("select-failed", "the rows of a SELECT cannot be put together")
        .because(error)
}
