//! Inference from CSV.

use std::collections::HashSet;

use arrow::datatypes::FieldRef;
use conveyor_model::{Error, Result};

use super::super::csv::{CsvOptions, Fields, record_end, unquote};
use super::super::text_number::{float, integer, number_end};
use super::super::text_time::{date, timestamp};
use super::{Common, Inferred, Members, declare, notes, whole};

/// The values of a record, if its quotes are right: their text, and whether they are null.
fn values(csv: &CsvOptions, line: &[u8]) -> Option<Vec<(Vec<u8>, bool)>> {
    let mut values = Vec::new();
    let mut fields = Fields::new(csv, line, 0, line.len());
    while let Some(field) = fields.next() {
        let field = field.ok()?;
        let raw = &line[field.start..field.end];
        let mut text = Vec::with_capacity(raw.len());
        if field.escaped {
            unquote(csv, raw, &mut text);
        } else {
            text.extend_from_slice(raw);
        }
        let null = !field.quoted && csv.null_values.iter().any(|n| n.as_bytes() == text);
        values.push((text, null));
    }
    Some(values)
}

/// Names of the columns by the header line; a column without a name is called by its number.
///
/// # Errors
/// `BadInput` if the header is not UTF-8, its quotes are wrong, or two columns have the same name.
pub(in super::super) fn header_names(csv: &CsvOptions, line: &[u8]) -> Result<Vec<String>> {
    let broken =
        |why: String| Error::bad_input("csv-header", why).help("mend the header, or set `header: false`");
    let values = values(csv, line).ok_or_else(|| broken("the quotes of the header are wrong".into()))?;
    let mut seen = HashSet::new();
    let mut names = Vec::with_capacity(values.len());
    for (at, (text, _)) in values.into_iter().enumerate() {
        let name = match String::from_utf8(text) {
            Ok(name) if name.is_empty() => format!("column{}", at + 1),
            Ok(name) => name,
            Err(_) => return Err(broken(format!("the name of column {} is not UTF-8", at + 1))),
        };
        if !seen.insert(name.clone()) {
            return Err(broken(format!("two columns are named `{name}`")));
        }
        names.push(name);
    }
    Ok(names)
}

/// The schema of CSV.
///
/// # Errors
/// If there is no header, it is wrong, or a declared column is not there.
pub(in super::super) fn csv(
    csv: &CsvOptions,
    sample: &[u8],
    complete: bool,
    declared: &[FieldRef],
) -> Result<Inferred> {
    let mut rest = whole(sample, complete);
    let mut columns: Option<(Vec<String>, Vec<Common>)> = None;
    let (mut records, mut skipped) = (0, 0);
    while !rest.is_empty() {
        let (line, next) = match record_end(csv, rest) {
            Some(end) => (&rest[..end], end + 1),
            // A record that the sample cuts says nothing.
            None if complete => (rest, rest.len()),
            None => break,
        };
        rest = &rest[next..];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || csv.comment == Some(line[0]) {
            continue;
        }
        if columns.is_none() && csv.header {
            let names = header_names(csv, line)?;
            let types = vec![Common::Nothing; names.len()];
            columns = Some((names, types));
            continue;
        }
        let Some(values) = values(csv, line) else {
            skipped += 1;
            continue;
        };
        let numbered = || (1..=values.len()).map(|n| format!("column{n}")).collect();
        let (_, types) = columns.get_or_insert_with(|| (numbered(), vec![Common::Nothing; values.len()]));
        if types.len() != values.len() {
            skipped += 1;
            continue;
        }
        records += 1;
        for (known, (text, null)) in types.iter_mut().zip(values) {
            if !null {
                *known = std::mem::replace(known, Common::Nothing).and(common(text.trim_ascii()));
            }
        }
    }
    let Some((names, types)) = columns else {
        return Err(Error::bad_input("schema-unknown", "there is no record to learn the columns from")
            .help("check that the file is not empty, or that its first record is not too long"));
    };
    let mut members = Members::default();
    names.iter().zip(types).for_each(|(name, common)| members.add(name, common));
    let schema = declare(members.fields(), declared, false)?;
    Ok(Inferred { schema, notes: notes(records, skipped) })
}

fn common(value: &[u8]) -> Common {
    let is_number = number_end(value, 0) == Some(value.len());
    match value {
        [] => Common::Nothing,
        _ if is_number && integer(value, 0).is_some() => Common::Int,
        _ if is_number && std::str::from_utf8(value).is_ok_and(|t| t.parse::<i64>().is_ok()) => Common::Int,
        _ if is_number && float(value, 0).is_some() => Common::Float,
        _ if value.eq_ignore_ascii_case(b"true") || value.eq_ignore_ascii_case(b"false") => Common::Bool,
        _ if date(value).is_some() => Common::Date,
        _ if timestamp(value).is_some() => Common::Timestamp,
        _ => Common::Text,
    }
}
