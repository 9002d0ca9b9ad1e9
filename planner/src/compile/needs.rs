//! Which columns each vertex must hand on: found from the sinks backwards.

use std::collections::BTreeSet;

use arrow_schema::{DataType, Schema, SchemaRef};
use conveyor_expr::{Expr, Select};
use conveyor_model::step::{Flatten, LookupResult, LookupStep, Op};

use super::flow::{Kind, Vertex};

/// All columns of each vertex's rows: a row that fails later is kept with all that it has.
pub(crate) fn everything(flow: &[Vertex]) -> Vec<BTreeSet<String>> {
    flow.iter().map(|v| v.schema.fields().iter().map(|f| f.name().clone()).collect()).collect()
}

/// Columns of each vertex's rows that are needed after it (for a sink: that it writes).
pub(crate) fn needed(flow: &[Vertex], event_time: impl Fn(usize) -> Option<String>) -> Vec<BTreeSet<String>> {
    let mut needed: Vec<BTreeSet<String>> = vec![BTreeSet::new(); flow.len()];
    for v in (0..flow.len()).rev() {
        let vertex = &flow[v];
        match vertex.kind {
            Kind::Sink(_) => needed[v].extend(vertex.schema.fields().iter().map(|f| f.name().clone())),
            Kind::Source(source) => needed[v].extend(event_time(source)),
            _ => {}
        }
        at_least_one(&mut needed[v], &vertex.schema);
        for port in &vertex.inputs {
            let input = &flow[port.from].schema;
            let mut columns = before(&vertex.kind, &needed[v], input);
            if let Some(when) = &port.when {
                columns.extend(columns_of(when, input));
            }
            at_least_one(&mut columns, input);
            needed[port.from].extend(columns);
        }
    }
    needed
}

/// Rows without columns cannot be counted.
fn at_least_one(columns: &mut BTreeSet<String>, schema: &Schema) {
    if columns.is_empty()
        && let Some(first) = schema.fields().first()
    {
        columns.insert(first.name().clone());
    }
}

/// Columns that a vertex takes when `after` is needed of its own rows.
pub(crate) fn before(kind: &Kind, after: &BTreeSet<String>, input: &SchemaRef) -> BTreeSet<String> {
    let mut columns = match kind {
        Kind::Op(op) => before_op(op, after, input),
        _ => after.clone(),
    };
    columns.retain(|c| input.field_with_name(c).is_ok());
    columns
}

fn before_op(op: &Op, after: &BTreeSet<String>, input: &SchemaRef) -> BTreeSet<String> {
    let mut columns = after.clone();
    match op {
        Op::Filter { expr } => columns.extend(columns_of(expr, input)),
        Op::Compute { columns: computed } => {
            columns.retain(|c| !computed.iter().any(|n| &n.name == c));
            // All of them run, needed or not: a row for which one fails is a dead letter either way.
            computed.iter().for_each(|n| columns.extend(columns_of(&n.expr, input)));
        }
        Op::Project { columns: picks } => {
            columns =
                picks.iter().filter(|(new, _)| after.contains(new)).map(|(_, old)| old.clone()).collect();
        }
        Op::Cast { columns: casts } => columns.extend(casts.iter().map(|c| c.name.clone())),
        // A mask cannot fail, so that a masked column which nobody needs is not read.
        Op::Mask { .. } | Op::RateLimit { .. } => {}
        Op::Parse(parse) => {
            columns.retain(|c| !parse.fields.iter().any(|f| f.name() == c));
            columns.insert(parse.column.clone());
        }
        Op::Flatten(Flatten::Structs { columns: structs, .. }) => {
            let nested = input.fields().iter().filter(|f| matches!(f.data_type(), DataType::Struct(_)));
            columns.extend(
                nested.map(|f| f.name().clone()).filter(|n| structs.is_empty() || structs.contains(n)),
            );
        }
        Op::Flatten(Flatten::Explode { column }) => {
            columns.insert(column.clone());
        }
        Op::Validate { rules, .. } => rules.iter().for_each(|r| columns.extend(columns_of(&r.expr, input))),
        Op::Lookup(lookup) => {
            columns.retain(|c| !produces(lookup, c));
            columns.extend(lookup.on.iter().map(|(row, _)| row.clone()));
        }
        Op::Dedupe(dedupe) => {
            columns.extend(dedupe.keys.iter().cloned());
            columns.insert(dedupe.event_time.clone());
        }
        Op::Sql { query } => match Select::compile(query, input) {
            Ok(select) => columns = select.columns().clone(),
            Err(_) => columns = input.fields().iter().map(|f| f.name().clone()).collect(),
        },
        Op::MergeByTime { column, .. } => {
            columns.insert(column.clone());
        }
    }
    columns
}

fn produces(lookup: &LookupStep, column: &str) -> bool {
    match &lookup.result {
        LookupResult::Merge => lookup.select.iter().any(|(new, _)| new == column),
        LookupResult::Prefix(prefix) => {
            lookup.select.iter().any(|(new, _)| format!("{prefix}{new}") == column)
        }
        LookupResult::Nest(name) => name == column,
    }
}

/// The step without the parts that nobody needs and that cannot fail.
pub(crate) fn narrowed(op: &Op, after: &BTreeSet<String>) -> Op {
    match op {
        Op::Project { columns } => {
            let kept: Vec<_> = columns.iter().filter(|(new, _)| after.contains(new)).cloned().collect();
            Op::Project { columns: if kept.is_empty() { columns[..1].to_vec() } else { kept } }
        }
        Op::Mask { columns, key } => Op::Mask {
            columns: columns.iter().filter(|c| after.contains(&c.name)).cloned().collect(),
            key: key.clone(),
        },
        Op::Lookup(lookup) if !matches!(lookup.result, LookupResult::Nest(_)) => {
            let wanted = |new: &String| match &lookup.result {
                LookupResult::Prefix(prefix) => after.contains(&format!("{prefix}{new}")),
                _ => after.contains(new),
            };
            let select = lookup.select.iter().filter(|(new, _)| wanted(new)).cloned().collect();
            Op::Lookup(LookupStep { select, ..lookup.clone() })
        }
        other => other.clone(),
    }
}

/// The columns that an expression uses; all of them should it not compile, which typing has ruled out.
fn columns_of(sql: &str, input: &SchemaRef) -> BTreeSet<String> {
    match Expr::compile(sql, input) {
        Ok(expr) => expr.columns().clone(),
        Err(_) => input.fields().iter().map(|f| f.name().clone()).collect(),
    }
}
