//! The schema that a step produces. Written once: used when names are checked and again after columns are left out.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use conveyor_model::step::{Flatten, LookupResult, LookupStep, MaskMethod, Op, Parse};

/// Deepest struct that `flatten` lifts.
const MAX_DEPTH: usize = 64;

/// What went wrong: the offending column where there is one, a code and a sentence.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

fn wrong<T>(code: &'static str, message: String) -> Result<T, Wrong> {
    Err(Wrong { code, message })
}

/// A column that may be null: rows of other origins, misses and masks put nulls anywhere, so no column promises more.
pub(crate) fn column(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// A schema in the planner's form: every column may be null, no metadata.
pub(crate) fn normal(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| column(f.name(), f.data_type().clone()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Replaces the column of this name in place, or appends it.
fn put(fields: &mut Vec<FieldRef>, field: FieldRef) {
    match fields.iter_mut().find(|f| f.name() == field.name()) {
        Some(place) => *place = field,
        None => fields.push(field),
    }
}

/// The output schema of `op`; `table` is the schema of a lookup's table.
pub(crate) fn output(op: &Op, input: &SchemaRef, table: Option<&SchemaRef>) -> Result<SchemaRef, Wrong> {
    let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
    let type_of = |name: &str| match input.field_with_name(name) {
        Ok(field) => Ok(field.data_type().clone()),
        Err(_) => wrong("unknown-column", format!("there is no column `{name}`")),
    };
    match op {
        Op::Filter { .. }
        | Op::Validate { .. }
        | Op::Dedupe(_)
        | Op::RateLimit { .. }
        | Op::MergeByTime { .. } => {
            return Ok(input.clone());
        }
        Op::Compute { columns } => {
            for named in columns {
                let expr = conveyor_expr::Expr::compile(&named.expr, input);
                let expr = expr.map_err(|e| Wrong { code: e.code, message: e.message })?;
                put(&mut fields, column(&named.name, expr.data_type().clone()));
            }
        }
        Op::Project { columns } => {
            fields.clear();
            for (new, old) in columns {
                if fields.iter().any(|f| f.name() == new) {
                    return wrong("duplicate-column", format!("two columns are called `{new}`"));
                }
                fields.push(column(new, type_of(old)?));
            }
        }
        Op::Cast { columns } => {
            for cast in columns {
                type_of(&cast.name)?;
                put(&mut fields, column(&cast.name, cast.to.clone()));
            }
        }
        Op::Mask { columns, .. } => {
            for mask in columns {
                let kind = masked(&mask.method, type_of(&mask.name)?);
                put(&mut fields, column(&mask.name, kind));
            }
        }
        Op::Parse(parse) => parsed(parse, type_of(&parse.column)?, &mut fields)?,
        Op::Flatten(flatten) => return flattened(flatten, input),
        Op::Lookup(lookup) => match table {
            Some(table) => enrich(lookup, &mut fields, table)?,
            None => return wrong("unknown-lookup", format!("there is no lookup `{}`", lookup.table)),
        },
        Op::Sql { query } => {
            let select = conveyor_expr::Select::compile(query, input);
            let select = select.map_err(|e| Wrong { code: e.code, message: e.message })?;
            return Ok(normal(&select.schema()));
        }
    }
    if fields.is_empty() {
        return wrong("no-columns", "no column is left".into());
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn masked(method: &MaskMethod, kind: DataType) -> DataType {
    match method {
        MaskMethod::Redact { .. } | MaskMethod::Nullify => kind,
        MaskMethod::Hash | MaskMethod::Partial { .. } | MaskMethod::Tokenize => DataType::Utf8View,
    }
}

fn parsed(parse: &Parse, kind: DataType, fields: &mut Vec<FieldRef>) -> Result<(), Wrong> {
    if kind != DataType::Utf8View {
        let name = crate::types::type_name(&kind);
        return wrong("type-mismatch", format!("`parse` takes text, and `{}` is {name}", parse.column));
    }
    for field in &parse.fields {
        put(fields, column(field.name(), field.data_type().clone()));
    }
    if !parse.keep && !parse.fields.iter().any(|f| f.name() == &parse.column) {
        fields.retain(|f| f.name() != &parse.column);
    }
    Ok(())
}

fn flattened(flatten: &Flatten, input: &SchemaRef) -> Result<SchemaRef, Wrong> {
    let mut fields: Vec<FieldRef> = Vec::new();
    match flatten {
        Flatten::Structs { columns, separator } => {
            for field in input.fields() {
                let wanted = columns.is_empty() || columns.contains(field.name());
                match field.data_type() {
                    DataType::Struct(_) if wanted => lift(field.name(), field, separator, &mut fields, 0)?,
                    _ => fields.push(field.clone()),
                }
            }
        }
        Flatten::Explode { column: list } => {
            for field in input.fields() {
                if field.name() != list {
                    fields.push(field.clone());
                    continue;
                }
                match field.data_type() {
                    DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                        fields.push(column(list, item.data_type().clone()));
                    }
                    other => {
                        let name = crate::types::type_name(other);
                        return wrong(
                            "type-mismatch",
                            format!("`explode` takes a list, and `{list}` is {name}"),
                        );
                    }
                }
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    match fields.iter().find(|f| !seen.insert(f.name().clone())) {
        Some(twice) => wrong("duplicate-column", format!("two columns would be called `{}`", twice.name())),
        None => Ok(Arc::new(Schema::new(fields))),
    }
}

fn lift(
    name: &str,
    field: &Field,
    separator: &str,
    out: &mut Vec<FieldRef>,
    depth: usize,
) -> Result<(), Wrong> {
    match field.data_type() {
        DataType::Struct(children) if depth < MAX_DEPTH => {
            for child in children {
                lift(&format!("{name}{separator}{}", child.name()), child, separator, out, depth + 1)?;
            }
        }
        DataType::Struct(_) => return wrong("type-mismatch", format!("`{name}` is nested too deep")),
        other => out.push(column(name, other.clone())),
    }
    Ok(())
}

fn enrich(lookup: &LookupStep, fields: &mut Vec<FieldRef>, table: &SchemaRef) -> Result<(), Wrong> {
    let mut taken = Vec::new();
    for (new, from) in &lookup.select {
        let Ok(field) = table.field_with_name(from) else {
            return wrong("unknown-column", format!("the lookup `{}` has no column `{from}`", lookup.table));
        };
        let name = match &lookup.result {
            LookupResult::Prefix(prefix) => format!("{prefix}{new}"),
            _ => new.clone(),
        };
        if taken.iter().any(|f: &FieldRef| f.name() == &name) {
            return wrong("duplicate-column", format!("two looked-up columns are called `{name}`"));
        }
        taken.push(column(&name, field.data_type().clone()));
    }
    match &lookup.result {
        LookupResult::Nest(name) => put(fields, column(name, DataType::Struct(taken.into()))),
        _ => taken.into_iter().for_each(|f| put(fields, f)),
    }
    Ok(())
}
