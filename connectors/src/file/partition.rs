//! Rows into folders by the values of some columns: `origin=JFK/year=2013`, as Hive, Spark and DuckDB read them.

use std::collections::HashMap;
use std::fmt::Write;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use conveyor_model::{Error, Result};

/// What stands for null, and as Hive has it for empty text too, in a folder's name.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Escapes what a folder's name may not hold, or what a reader would take apart.
pub(crate) fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        let plain =
            c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '@' | '+' | ',' | '~' | '(' | ')');
        if plain {
            out.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                write!(out, "%{byte:02X}").expect("a string takes all that is written to it");
            }
        }
    }
}

/// The folders of a batch's rows, each with the indices of its rows, in order of first sight.
///
/// # Errors
/// If a column's values cannot be shown as text.
pub(crate) fn group(names: &[&str], columns: &[ArrayRef]) -> Result<Vec<(String, UInt32Array)>> {
    let options = FormatOptions::default();
    let unprintable =
        |e| Error::runtime("partition-failed", "a partition column cannot be shown as text").because(e);
    let formatters = columns.iter().map(|c| ArrayFormatter::try_new(c, &options).map_err(unprintable));
    let formatters = formatters.collect::<Result<Vec<_>>>()?;
    let rows = columns.first().map_or(0, Array::len);
    let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut folder = String::new();
    let mut value = String::new();
    for row in 0..rows {
        folder.clear();
        for ((name, column), formatter) in names.iter().zip(columns).zip(&formatters) {
            if !folder.is_empty() {
                folder.push('/');
            }
            escape(name, &mut folder);
            folder.push('=');
            if column.is_null(row) {
                folder.push_str(NULL);
                continue;
            }
            value.clear();
            formatter.value(row).write(&mut value).map_err(unprintable)?;
            if value.is_empty() {
                folder.push_str(NULL);
            } else if value == NULL {
                // Text that happens to be the mark is no null.
                folder.push_str("%5F");
                escape(&value[1..], &mut folder);
            } else {
                escape(&value, &mut folder);
            }
        }
        let index = match known.get(&folder) {
            Some(&index) => index,
            None => {
                known.insert(folder.clone(), groups.len());
                groups.push((folder.clone(), Vec::new()));
                groups.len() - 1
            }
        };
        groups[index].1.push(u32::try_from(row).expect("a batch has fewer rows than 2^32"));
    }
    Ok(groups.into_iter().map(|(folder, rows)| (folder, UInt32Array::from(rows))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn values_become_folders_that_nothing_can_leave() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![
            Some("../x"),
            None,
            Some("a b"),
            Some("../x"),
            Some(""),
            Some(NULL),
        ]));
        let year: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 1, 1, 2, 2]));
        let groups = group(&["t", "y"], &[text, year]).unwrap();
        let groups: Vec<_> = groups.iter().map(|(f, r)| (f.as_str(), r.values().to_vec())).collect();
        assert_eq!(
            groups,
            [
                ("t=..%2Fx/y=1", vec![0, 3]),
                ("t=__HIVE_DEFAULT_PARTITION__/y=2", vec![1, 4]),
                ("t=a b/y=1", vec![2]),
                ("t=%5F_HIVE_DEFAULT_PARTITION__/y=2", vec![5]),
            ]
        );
    }
}
