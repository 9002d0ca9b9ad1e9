//! A step as written to a step as planned: names checked against the rows that come in, expressions typed.

use std::collections::BTreeMap;

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use conveyor_model::step::{
    CastColumn, Dedupe, Flatten, LookupResult, LookupStep, MaskColumn, NamedExpr, Op, Rule,
};

use super::output::output;
use super::rows::Rows;
use crate::diagnostic::{At, Diagnostics, Located, did_you_mean};
use crate::manifest::defs::{Body, DedupeBody, LookupBody, Named};
use crate::types::type_name;

/// What lowering looks at besides the step itself.
pub(crate) struct Context<'a> {
    pub(crate) diags: &'a mut Diagnostics,
    /// Schemas of the lookups that could be discovered.
    pub(crate) tables: &'a BTreeMap<String, SchemaRef>,
    /// Event-time columns of the sources that the step's rows come from.
    pub(crate) event_times: Vec<Option<String>>,
}

/// The planned step, or `None` when its rows just go on (a split) or it has a mistake; and the rows after it.
pub(crate) fn lower(body: &Body, at: &At, rows: &Rows, cx: &mut Context<'_>) -> (Option<Op>, Rows) {
    let before = cx.diags.errors();
    let mut after = rows.clone();
    let op = op(body, at, rows, &mut after, cx);
    let clean = cx.diags.errors() == before;
    let Some(op) = op else { return (None, after) };
    let table = match &op {
        Op::Lookup(lookup) => cx.tables.get(&lookup.table),
        _ => None,
    };
    match output(&op, &rows.schema, table) {
        Ok(schema) => {
            let mut out = after.with(schema);
            if let Op::Project { .. } = op {
                out.doubtful = after.doubtful;
            }
            (Some(op), out)
        }
        Err(wrong) => {
            if clean && rows.is_sure() {
                cx.diags.error(wrong.code, at, wrong.message);
            }
            (None, after)
        }
    }
}

fn op(body: &Body, at: &At, rows: &Rows, after: &mut Rows, cx: &mut Context<'_>) -> Option<Op> {
    Some(match body {
        Body::Filter(sql) => {
            rows.condition(sql, cx.diags)?;
            Op::Filter { expr: sql.value.clone() }
        }
        Body::Compute(columns) => Op::Compute { columns: compute(columns, rows, after, cx) },
        Body::Select(picks) => project(picks.iter().map(|(new, old)| (new.clone(), old)), rows, after, cx),
        Body::Drop(columns) => drop_columns(columns, rows, after, cx),
        Body::Rename(pairs) => rename(pairs, rows, after, cx),
        Body::Cast(columns) => cast(columns, rows, after, cx),
        Body::Mask(columns, key) => {
            let mut masks = Vec::new();
            for (name, method) in columns {
                if rows.column(name, cx.diags).is_some() {
                    masks.push(MaskColumn { name: name.value.clone(), method: method.clone() });
                }
            }
            Op::Mask { columns: masks, key: key.clone() }
        }
        Body::Parse(parse, at) => {
            let column = Located { value: parse.column.clone(), at: at.clone() };
            let kind = rows.column(&column, cx.diags);
            if kind.is_none() {
                after.doubtful.extend(parse.fields.iter().map(|f| f.name().clone()));
            }
            kind?;
            Op::Parse(parse.clone())
        }
        Body::Flatten(flatten, places) => flatten_step(flatten, places, rows, after, cx)?,
        Body::Validate(rules, on_fail) => {
            let mut good = Vec::new();
            for (name, sql) in rules {
                if rows.condition(sql, cx.diags).is_some() {
                    good.push(Rule { name: name.clone(), expr: sql.value.clone() });
                }
            }
            Op::Validate { rules: good, on_fail: *on_fail }
        }
        Body::Lookup(body) => lookup(body, at, rows, after, cx)?,
        Body::Dedupe(body) => Op::Dedupe(dedupe(body, at, rows, cx)?),
        Body::RateLimit { rows_per_second, burst } => {
            Op::RateLimit { rows_per_second: *rows_per_second, burst: *burst }
        }
        Body::Sql(query) => {
            let select = conveyor_expr::Select::compile(&query.value, &rows.schema);
            let select = rows.report(select, query, cx.diags);
            if select.is_none() {
                *after = Rows::unknown();
            }
            select?;
            Op::Sql { query: query.value.clone() }
        }
        Body::Split(branches) => {
            for (_, condition) in branches {
                rows.condition(condition, cx.diags);
            }
            return None;
        }
        Body::Use(_) | Body::Broken => {
            *after = Rows::unknown();
            return None;
        }
    })
}

fn compute(
    columns: &[(Located<String>, Located<String>)],
    rows: &Rows,
    after: &mut Rows,
    cx: &mut Context<'_>,
) -> Vec<NamedExpr> {
    let mut good = Vec::new();
    for (name, sql) in columns {
        match rows.expr(sql, cx.diags) {
            Some(_) => {
                after.doubtful.remove(&name.value);
                good.push(NamedExpr { name: name.value.clone(), expr: sql.value.clone() });
            }
            None => {
                after.doubtful.insert(name.value.clone());
            }
        }
    }
    good
}

/// Columns in a new order and with new names; those that do not exist are reported and doubted.
fn project<'l>(
    picks: impl Iterator<Item = (String, &'l Located<String>)>,
    rows: &Rows,
    after: &mut Rows,
    cx: &mut Context<'_>,
) -> Op {
    let mut columns = Vec::new();
    after.doubtful.clear();
    for (new, old) in picks {
        match rows.column(old, cx.diags) {
            Some(_) => columns.push((new, old.value.clone())),
            None => {
                after.doubtful.insert(new);
            }
        }
    }
    Op::Project { columns }
}

fn drop_columns(columns: &[Located<String>], rows: &Rows, after: &mut Rows, cx: &mut Context<'_>) -> Op {
    for name in columns {
        rows.column(name, cx.diags);
        after.doubtful.remove(&name.value);
    }
    let dropped = |name: &str| columns.iter().any(|c| c.value == name);
    let kept = rows.schema.fields().iter().filter(|f| !dropped(f.name()));
    Op::Project { columns: kept.map(|f| (f.name().clone(), f.name().clone())).collect() }
}

fn rename(
    pairs: &[(Located<String>, Located<String>)],
    rows: &Rows,
    after: &mut Rows,
    cx: &mut Context<'_>,
) -> Op {
    for (old, new) in pairs {
        if rows.column(old, cx.diags).is_none() {
            after.doubtful.remove(&old.value);
            after.doubtful.insert(new.value.clone());
        }
    }
    let renamed =
        |name: &str| pairs.iter().find(|(old, _)| old.value == name).map(|(_, new)| new.value.clone());
    let columns = rows.schema.fields().iter().map(|f| {
        let name = f.name();
        (renamed(name).unwrap_or_else(|| name.clone()), name.clone())
    });
    Op::Project { columns: columns.collect() }
}

fn cast(columns: &[(Located<String>, DataType)], rows: &Rows, after: &mut Rows, cx: &mut Context<'_>) -> Op {
    let mut casts = Vec::new();
    for (name, to) in columns {
        let Some(from) = rows.column(name, cx.diags) else {
            after.doubtful.remove(&name.value);
            continue;
        };
        // The expression engine is asked, so that what is planned is what will run.
        let sql = format!("arrow_cast(\"{}\", '{to}')", name.value.replace('"', "\"\""));
        if from != *to
            && (to.is_nested() != from.is_nested()
                || conveyor_expr::Expr::compile(&sql, &rows.schema).is_err())
        {
            let message =
                format!("`{}` is {} and cannot be cast to {}", name.value, type_name(&from), type_name(to));
            cx.diags.error("type-mismatch", &name.at, message);
            continue;
        }
        casts.push(CastColumn { name: name.value.clone(), to: to.clone() });
    }
    Op::Cast { columns: casts }
}

fn flatten_step(
    flatten: &Flatten,
    places: &[At],
    rows: &Rows,
    after: &mut Rows,
    cx: &mut Context<'_>,
) -> Option<Op> {
    let names: Vec<&String> = match flatten {
        Flatten::Structs { columns, .. } => columns.iter().collect(),
        Flatten::Explode { column } => vec![column],
    };
    let structs = matches!(flatten, Flatten::Structs { .. });
    let mut good = true;
    for (name, at) in names.into_iter().zip(places) {
        let name = Located { value: name.clone(), at: at.clone() };
        match rows.column(&name, cx.diags) {
            Some(DataType::Struct(_)) if structs => {}
            Some(DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) if !structs => {}
            Some(other) => {
                let wanted = if structs { "a struct" } else { "a list" };
                let message = format!("`{}` is {}, not {wanted}", name.value, type_name(&other));
                cx.diags.error("type-mismatch", at, message);
                good = false;
            }
            None => good = false,
        }
    }
    if !good {
        *after = Rows::unknown();
        return None;
    }
    Some(Op::Flatten(flatten.clone()))
}

fn lookup(body: &LookupBody, at: &At, rows: &Rows, after: &mut Rows, cx: &mut Context<'_>) -> Option<Op> {
    let Named::Name(table) = &body.table else { return None };
    let Some(schema) = cx.tables.get(&table.value) else {
        for (row, _) in &body.on {
            rows.column(row, cx.diags);
        }
        match &body.select {
            Some(select) => after.doubtful.extend(select.iter().map(|(_, new)| new.clone())),
            None => *after = Rows::unknown(),
        }
        return None;
    };
    let before = cx.diags.errors();
    let mut on = Vec::new();
    for (row, key) in &body.on {
        let theirs = table_column(&table.value, schema, key, None, cx);
        let ours = rows.column(row, cx.diags);
        if let (Some(ours), Some(theirs)) = (&ours, &theirs)
            && !comparable(ours, theirs)
        {
            let message = format!(
                "`{}` is {} and the lookup's `{}` is {}: they are never equal",
                row.value,
                type_name(ours),
                key.value,
                type_name(theirs)
            );
            cx.diags.error_help(
                "type-mismatch",
                &row.at,
                message,
                "cast one of them, or declare the type in `schema`".to_owned(),
            );
        }
        on.push((row.value.clone(), key.value.clone()));
    }
    if on.is_empty() {
        cx.diags.error("missing-key", at, "`on` names no column");
    }
    let select: Vec<(String, String)> = match &body.select {
        Some(select) => {
            for (from, new) in select {
                table_column(&table.value, schema, from, Some(new), cx);
            }
            select.iter().map(|(from, new)| (new.clone(), from.value.clone())).collect()
        }
        None => {
            let rest = schema.fields().iter().filter(|f| !on.iter().any(|(_, key)| key == f.name()));
            let taken = rest.clone().find(|f| rows.schema.field_with_name(f.name()).is_ok());
            if let (Some(field), LookupResult::Merge) = (taken, &body.result) {
                let message =
                    format!("the lookup's `{0}` replaces the column `{0}` of the rows", field.name());
                let help = "say in `select` which columns to take, or keep them apart with `result: prefix`";
                cx.diags.warning("column-replaced", at, message, help.to_owned());
            }
            rest.map(|f| (f.name().clone(), f.name().clone())).collect()
        }
    };
    if cx.diags.errors() > before {
        after.doubtful.extend(select.iter().map(|(new, _)| new.clone()));
        return None;
    }
    Some(Op::Lookup(LookupStep {
        table: table.value.clone(),
        on,
        select,
        on_miss: body.on_miss,
        result: body.result.clone(),
    }))
}

/// A column of the lookup's table. `new` is the name that it is to get.
fn table_column(
    table: &str,
    schema: &SchemaRef,
    name: &Located<String>,
    new: Option<&String>,
    cx: &mut Context<'_>,
) -> Option<DataType> {
    if let Ok(field) = schema.field_with_name(&name.value) {
        return Some(field.data_type().clone());
    }
    let message = format!("the lookup `{table}` has no column `{}`", name.value);
    let turned = new.filter(|new| **new != name.value && schema.field_with_name(new).is_ok());
    let help = match turned {
        Some(new) => {
            Some(format!("`select` is {{table's column: new name}}: write {{{new}: {}}}", name.value))
        }
        None => did_you_mean(&name.value, schema.fields().iter().map(|f| f.name().as_str())),
    };
    cx.diags.error_help("unknown-column", &name.at, message, help);
    None
}

/// Whether values of the two types can be equal keys.
fn comparable(a: &DataType, b: &DataType) -> bool {
    a == b || a.is_integer() && b.is_integer() || a.is_string() && b.is_string()
}

fn dedupe(body: &DedupeBody, at: &At, rows: &Rows, cx: &mut Context<'_>) -> Option<Dedupe> {
    for key in &body.keys {
        rows.column(key, cx.diags);
    }
    if body.keys.is_empty() {
        cx.diags.error("missing-key", at, "`key` names no column");
    }
    let event_time = match &body.event_time {
        Some(column) => column.clone(),
        None => {
            let mut columns: Vec<_> = cx.event_times.iter().flatten().collect();
            columns.sort();
            columns.dedup();
            let [column] = columns.as_slice() else {
                let message = match columns.len() {
                    0 => "`dedupe` needs an event time, and the source has none",
                    _ => "`dedupe` needs an event time, and the sources have different ones",
                };
                let help = "add `eventTime: {column: ...}` to the source, or `eventTime: column` to the step";
                cx.diags.error_help("missing-event-time", at, message, help.to_owned());
                return None;
            };
            Located { value: (*column).clone(), at: at.clone() }
        }
    };
    match rows.column(&event_time, cx.diags)? {
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {}
        other => {
            let message =
                format!("the event time `{}` is {}, not timestamp", event_time.value, type_name(&other));
            let help = format!("cast it first: `cast: {{{}: timestamp}}`", event_time.value);
            cx.diags.error_help("type-mismatch", &event_time.at, message, help);
            return None;
        }
    }
    if cx.event_times.iter().any(Option::is_none) {
        let help = "add `eventTime: {column: ...}` to the source".to_owned();
        cx.diags.warning(
            "no-watermark",
            at,
            "a source without an event time never lets `dedupe` forget its keys",
            help,
        );
    }
    Some(Dedupe {
        keys: body.keys.iter().map(|k| k.value.clone()).collect(),
        event_time: event_time.value,
        within_ms: body.within_ms,
        max_keys: body.max_keys,
    })
}
