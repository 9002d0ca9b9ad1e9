//! Inference from NDJSON.

use arrow::datatypes::FieldRef;
use conveyor_model::{Error, Result};
use serde_json::Value;

use super::super::text_time::timestamp;
use super::{Common, Inferred, Members, declare, notes, whole};

/// The schema of NDJSON: the union of the keys, in the order in which they were first seen.
///
/// # Errors
/// If there is no record to learn from and nothing is declared.
pub(in super::super) fn ndjson(sample: &[u8], complete: bool, declared: &[FieldRef]) -> Result<Inferred> {
    let mut members = Members::default();
    let (mut records, mut skipped) = (0, 0);
    for line in whole(sample, complete).split(|b| *b == b'\n') {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(Value::Object(object)) => {
                records += 1;
                object.iter().for_each(|(name, value)| members.add(name, common(value)));
            }
            _ => skipped += 1,
        }
    }
    if records == 0 && (skipped > 0 || declared.is_empty()) {
        let message = match skipped {
            0 => "there is no record to learn the columns from".to_string(),
            _ => format!("none of the first {skipped} lines is a JSON object"),
        };
        return Err(Error::bad_input("schema-unknown", message)
            .help("check the format, or declare the columns under `schema`"));
    }
    let schema = declare(members.fields(), declared, true)?;
    Ok(Inferred { schema, notes: notes(records, skipped) })
}

fn common(value: &Value) -> Common {
    match value {
        Value::Null => Common::Nothing,
        Value::Bool(_) => Common::Bool,
        Value::Number(n) if n.is_i64() => Common::Int,
        Value::Number(_) => Common::Float,
        // Without a zone it is not RFC 3339, and may mean another hour.
        Value::String(text) if is_rfc3339(text.as_bytes()) => Common::Timestamp,
        Value::String(_) => Common::Text,
        Value::Array(items) => {
            Common::List(Box::new(items.iter().map(common).fold(Common::Nothing, Common::and)))
        }
        Value::Object(object) => {
            let mut members = Members::default();
            object.iter().for_each(|(name, value)| members.add(name, common(value)));
            Common::Struct(members)
        }
    }
}

fn is_rfc3339(text: &[u8]) -> bool {
    let zone = text.get(19..).is_some_and(|rest| rest.iter().any(|b| matches!(b, b'Z' | b'z' | b'+' | b'-')));
    zone && matches!(text[10], b'T' | b't') && timestamp(text).is_some()
}
