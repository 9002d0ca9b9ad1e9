//! One schema for rows of several origins: columns by name, missing ones null, types widened where nothing is lost.

use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef, TimeUnit};
use conveyor_model::step::{CastColumn, NamedExpr, Op};

use super::output::column;
use super::rows::Rows;
use crate::diagnostic::{At, Diagnostics};
use crate::types::type_name;

/// Rows with the name of where they come from.
pub(crate) struct Origin {
    pub(crate) name: String,
    pub(crate) rows: Rows,
}

/// The common rows, and for each origin the steps that make its rows such.
pub(crate) fn unite(
    origins: &[Origin],
    at: &At,
    diags: &mut Diagnostics,
    notes: &mut Vec<String>,
) -> (Rows, Vec<Vec<Op>>) {
    let none = || vec![Vec::new(); origins.len()];
    let Some(first) = origins.first() else { return (Rows::unknown(), none()) };
    if origins.iter().all(|o| o.rows.schema == first.rows.schema) {
        let mut rows = first.rows.clone();
        for origin in origins {
            rows.known &= origin.rows.known;
            rows.doubtful.extend(origin.rows.doubtful.iter().cloned());
        }
        return (rows, none());
    }
    let mut common: Vec<(String, DataType, &str)> = Vec::new();
    let mut rows = Rows { known: origins.iter().all(|o| o.rows.known), ..first.rows.clone() };
    for origin in origins {
        rows.doubtful.extend(origin.rows.doubtful.iter().cloned());
        for field in origin.rows.schema.fields() {
            let Some(have) = common.iter_mut().find(|(name, ..)| name == field.name()) else {
                common.push((field.name().clone(), field.data_type().clone(), &origin.name));
                continue;
            };
            match wider(&have.1, field.data_type()) {
                Some((wide, exact)) => {
                    if !exact {
                        let message = format!(
                            "`{}` is {} in `{}` and {} in `{}`; as {} whole numbers above 2^53 lose their last digits",
                            field.name(),
                            type_name(&have.1),
                            have.2,
                            type_name(field.data_type()),
                            origin.name,
                            type_name(&wide)
                        );
                        diags.warning(
                            "lossy-union",
                            at,
                            message,
                            "declare the same type in both schemas".to_owned(),
                        );
                    }
                    have.1 = wide;
                }
                None => {
                    let message = format!(
                        "`{}` is {} in `{}` and {} in `{}`",
                        field.name(),
                        type_name(&have.1),
                        have.2,
                        type_name(field.data_type()),
                        origin.name
                    );
                    let help = "cast one of them before they meet, or declare the same type in both schemas";
                    diags.error_help("schema-conflict", at, message, help.to_owned());
                    rows.doubtful.insert(field.name().clone());
                }
            }
        }
    }
    disjoint(origins, &common, at, diags);
    common.retain(|(name, ..)| !rows.doubtful.contains(name));
    let fields: Vec<_> = common.iter().map(|(name, kind, _)| column(name, kind.clone())).collect();
    rows.schema = Arc::new(Schema::new(fields));
    let adapt = origins.iter().map(|o| adapt(o, &rows.schema, notes)).collect();
    (rows, adapt)
}

/// Origins that have nothing in common are a mistake far more often than a wish.
fn disjoint(origins: &[Origin], common: &[(String, DataType, &str)], at: &At, diags: &mut Diagnostics) {
    let has = |o: &Origin, name: &str| o.rows.schema.field_with_name(name).is_ok();
    let sure: Vec<_> = origins.iter().filter(|o| o.rows.is_sure()).collect();
    if sure.len() < 2 || common.iter().any(|(name, ..)| sure.iter().all(|o| has(o, name))) {
        return;
    }
    let names: Vec<_> = sure.iter().map(|o| format!("`{}`", o.name)).collect();
    let message = format!("the rows of {} have no column in common", names.join(", "));
    let help = "bring them to common columns with `select`, or keep them apart with `from`";
    diags.error_help("schema-conflict", at, message, help.to_owned());
}

/// Steps from the rows of one origin to the common schema.
fn adapt(origin: &Origin, common: &SchemaRef, notes: &mut Vec<String>) -> Vec<Op> {
    let mut ops = Vec::new();
    let have = &origin.rows.schema;
    let casts: Vec<_> = common
        .fields()
        .iter()
        .filter(|f| have.field_with_name(f.name()).is_ok_and(|h| h.data_type() != f.data_type()))
        .map(|f| CastColumn { name: f.name().clone(), to: f.data_type().clone() })
        .collect();
    for cast in &casts {
        notes.push(format!("`{}` of `{}` is widened to {}", cast.name, origin.name, type_name(&cast.to)));
    }
    if !casts.is_empty() {
        ops.push(Op::Cast { columns: casts });
    }
    let missing: Vec<_> =
        common.fields().iter().filter(|f| have.field_with_name(f.name()).is_err()).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|f| format!("`{}`", f.name())).collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        notes.push(format!("{} {verb} null in rows of `{}`", names.join(", "), origin.name));

        let null = |kind: &DataType| format!("arrow_cast(NULL, '{kind}')");
        let nulls = missing.iter().map(|f| NamedExpr { name: f.name().clone(), expr: null(f.data_type()) });
        ops.push(Op::Compute { columns: nulls.collect() });
    }
    // The order of columns must be the same too.
    let now = have.fields().iter().chain(missing).map(|f| f.name());
    if !now.eq(common.fields().iter().map(|f| f.name())) {
        let columns = common.fields().iter().map(|f| (f.name().clone(), f.name().clone()));
        ops.push(Op::Project { columns: columns.collect() });
    }
    ops
}

/// A type that holds all values of both, and whether it holds them exactly.
fn wider(a: &DataType, b: &DataType) -> Option<(DataType, bool)> {
    if a == b {
        return Some((a.clone(), true));
    }
    if a == &DataType::Null || b == &DataType::Null {
        return Some((if a == &DataType::Null { b.clone() } else { a.clone() }, true));
    }
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        return Some((common_integer(a, b)?, true));
    }
    match (a, b) {
        (DataType::Float32, DataType::Float64) | (DataType::Float64, DataType::Float32) => {
            Some((DataType::Float64, true))
        }
        (float, int) | (int, float) if float.is_floating() && int.is_integer() => {
            let bits = integer(int).map_or(64, |(bits, _)| bits);
            Some((DataType::Float64, bits <= 32))
        }
        (DataType::Date32, time @ DataType::Timestamp(TimeUnit::Microsecond, _))
        | (time @ DataType::Timestamp(TimeUnit::Microsecond, _), DataType::Date32) => {
            Some((time.clone(), true))
        }
        _ => None,
    }
}

/// Bits, and whether it is signed.
fn integer(data_type: &DataType) -> Option<(u32, bool)> {
    Some(match data_type {
        DataType::Int8 => (8, true),
        DataType::Int16 => (16, true),
        DataType::Int32 => (32, true),
        DataType::Int64 => (64, true),
        DataType::UInt8 => (8, false),
        DataType::UInt16 => (16, false),
        DataType::UInt32 => (32, false),
        DataType::UInt64 => (64, false),
        _ => return None,
    })
}

fn common_integer(a: (u32, bool), b: (u32, bool)) -> Option<DataType> {
    let signed = a.1 || b.1;
    // An unsigned type needs one more bit in a signed one.
    let bits = |(bits, s): (u32, bool)| if signed && !s { bits * 2 } else { bits };
    Some(match (bits(a).max(bits(b)), signed) {
        (8, true) => DataType::Int8,
        (16, true) => DataType::Int16,
        (32, true) => DataType::Int32,
        (64, true) => DataType::Int64,
        (8, false) => DataType::UInt8,
        (16, false) => DataType::UInt16,
        (32, false) => DataType::UInt32,
        (64, false) => DataType::UInt64,
        _ => return None,
    })
}
