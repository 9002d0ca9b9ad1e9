//! How large a function's values will be, told from its arguments alone: for the functions whose result can be much
//! larger than what they are given.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::functions::regex::regexp_count;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use crate::size::Sizes;

/// Functions that can make much of little, by themselves or one inside another.
pub(crate) const GROWING: &[&str] = &[
    "||",
    "array_append",
    "array_concat",
    "array_prepend",
    "array_repeat",
    "array_replace",
    "array_replace_all",
    "array_replace_n",
    "array_resize",
    "array_to_string",
    "array_union",
    "arrays_zip",
    "concat",
    "concat_ws",
    "encode",
    "generate_series",
    "lpad",
    "make_array",
    "map",
    "named_struct",
    "overlay",
    "range",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "rpad",
    "string_to_array",
    "struct",
    "to_char",
    "translate",
];

/// Most bytes of one value of the function `name`, row by row. Where it can be told only roughly, rather more than
/// less.
pub(crate) fn output(name: &str, call: &ScalarFunctionArgs) -> Result<Vec<u64>> {
    let sizes = call.args.iter().map(Sizes::of).collect::<Result<Vec<_>>>()?;
    let at = |arg: usize, row: usize| sizes.get(arg).map_or(0, |sizes| sizes.at(row));
    let text = |arg| Argument::new(call, arg, &DataType::Utf8View);
    let rows = 0..call.number_rows;
    Ok(match name {
        "lpad" | "rpad" => {
            let (length, fill) = (Argument::new(call, 1, &DataType::Int64)?, text(2)?);
            let width = |row| if fill.text(row).is_none_or(str::is_ascii) { 1 } else { 4 };
            let new = |row| length.count(row).saturating_mul(width(row));
            rows.map(|row| new(row).saturating_add(at(0, row))).collect()
        }
        "range" | "generate_series" => series(call)?,
        "replace" => {
            let (text, from) = (text(0)?, text(1)?);
            rows.map(|row| match (text.text(row), from.text(row)) {
                (Some(text), Some(from)) if at(2, row) > from.len() as u64 => {
                    let more = at(2, row) - from.len() as u64;
                    at(0, row).saturating_add(more.saturating_mul(text.matches(from).count() as u64))
                }
                _ => at(0, row),
            })
            .collect()
        }
        "string_to_array" => {
            let (text, cut) = (text(0)?, text(1)?);
            rows.map(|row| match (text.text(row), cut.text(row)) {
                (Some(text), Some(cut)) if !cut.is_empty() => {
                    at(0, row) + 16 * (text.matches(cut).count() as u64 + 1)
                }
                (Some(text), None) => at(0, row) + 16 * (text.chars().count() as u64),
                _ => at(0, row) + 16,
            })
            .collect()
        }
        "regexp_replace" => replaced(call, &sizes)?,
        "regexp_match" => {
            let pattern = text(1)?;
            let groups = |row| pattern.text(row).map_or(0, |p| p.matches('(').count() as u64) + 1;
            rows.map(|row| groups(row).saturating_mul(at(0, row).saturating_add(16))).collect()
        }
        "encode" => rows.map(|row| 2 * at(0, row) + 4).collect(),
        "translate" => rows.map(|row| 4 * at(0, row)).collect(),
        "to_char" => rows.map(|row| at(1, row).saturating_mul(16).saturating_add(64)).collect(),
        _ => by_sizes(name, call, &sizes)?,
    })
}

/// The functions for which the sizes of the arguments and a count say it.
fn by_sizes(name: &str, call: &ScalarFunctionArgs, sizes: &[Sizes]) -> Result<Vec<u64>> {
    let at = |arg: usize, row: usize| sizes.get(arg).map_or(0, |sizes| sizes.at(row));
    let sum = |from: usize, row: usize| {
        sizes.iter().skip(from).fold(0u64, |sum, sizes| sum.saturating_add(sizes.at(row)))
    };
    let rows = 0..call.number_rows;
    Ok(match name {
        "repeat" | "array_repeat" => {
            let least = u64::from(name == "array_repeat") * 8;
            let times = Argument::new(call, 1, &DataType::Int64)?;
            rows.map(|row| at(0, row).max(least).saturating_mul(times.count(row))).collect()
        }
        "array_resize" => {
            let length = Argument::new(call, 1, &DataType::Int64)?;
            let new = |row| length.count(row).saturating_mul(at(2, row).max(8));
            rows.map(|row| new(row).saturating_add(at(0, row))).collect()
        }
        "concat_ws" => {
            let gaps = (sizes.len() as u64).saturating_sub(2);
            rows.map(|row| sum(1, row).saturating_add(gaps.saturating_mul(at(0, row)))).collect()
        }
        "array_to_string" => rows
            .map(|row| {
                let gaps = (at(0, row) / 8).saturating_mul(at(1, row).saturating_add(at(2, row)));
                gaps.saturating_add(3 * at(0, row))
            })
            .collect(),
        "array_replace" => rows.map(|row| at(0, row).saturating_add(at(2, row))).collect(),
        "array_replace_all" | "array_replace_n" => {
            rows.map(|row| (at(0, row) / 8).saturating_mul(at(2, row)).saturating_add(at(0, row))).collect()
        }
        "arrays_zip" => {
            let longest = |row| sizes.iter().map(|sizes| sizes.at(row)).max().unwrap_or_default();
            rows.map(|row| longest(row).saturating_mul(sizes.len() as u64).saturating_add(sum(0, row)))
                .collect()
        }
        _ => rows.map(|row| sum(0, row)).collect(),
    })
}

/// An argument's values, of one row if it is a constant.
struct Argument {
    values: Option<ArrayRef>,
    same: bool,
}

impl Argument {
    fn new(call: &ScalarFunctionArgs, arg: usize, data_type: &DataType) -> Result<Self> {
        let (values, same) = match call.args.get(arg) {
            None => return Ok(Self { values: None, same: false }),
            Some(ColumnarValue::Array(array)) => (cast(array, data_type)?, false),
            Some(ColumnarValue::Scalar(scalar)) => (cast(&scalar.to_array()?, data_type)?, true),
        };
        Ok(Self { values: Some(values), same })
    }

    /// The values and the place of a row's, unless that is null.
    fn at(&self, row: usize) -> Option<(&ArrayRef, usize)> {
        let row = if self.same { 0 } else { row };
        self.values.as_ref().filter(|values| values.is_valid(row)).map(|values| (values, row))
    }

    fn text(&self, row: usize) -> Option<&str> {
        self.at(row).map(|(values, row)| values.as_string_view().value(row))
    }

    fn integer(&self, row: usize) -> Option<i64> {
        self.at(row).map(|(values, row)| values.as_primitive::<Int64Type>().value(row))
    }

    /// A count: nothing and less than nothing is 0.
    fn count(&self, row: usize) -> u64 {
        self.integer(row).and_then(|count| u64::try_from(count).ok()).unwrap_or_default()
    }

    fn interval(&self, row: usize) -> Option<IntervalMonthDayNano> {
        self.at(row).map(|(values, row)| values.as_primitive::<IntervalMonthDayNanoType>().value(row))
    }
}

/// `range` and `generate_series`: the number of steps, and of bytes.
fn series(call: &ScalarFunctionArgs) -> Result<Vec<u64>> {
    match call.args.first().map(ColumnarValue::data_type) {
        Some(DataType::Date32 | DataType::Date64) => {
            dated(call, &DataType::Date32, &DataType::Int32, 86_400_000_000_000)
        }
        Some(DataType::Timestamp(..)) => {
            dated(call, &DataType::Timestamp(TimeUnit::Nanosecond, None), &DataType::Int64, 1)
        }
        _ => counted(call),
    }
}

/// A series of integers.
fn counted(call: &ScalarFunctionArgs) -> Result<Vec<u64>> {
    let value = |arg| Argument::new(call, arg, &DataType::Int64);
    let (from, to, by) = match call.args.len() {
        1 => (None, value(0)?, None),
        2 => (Some(value(0)?), value(1)?, None),
        _ => (Some(value(0)?), value(1)?, Some(value(2)?)),
    };
    let steps = |row| {
        let from = from.as_ref().map_or(Some(0), |from| from.integer(row))?;
        let by = by.as_ref().map_or(Some(1), |by| by.integer(row))?;
        Some(steps(i128::from(to.integer(row)?) - i128::from(from), i128::from(by)))
    };
    Ok((0..call.number_rows).map(|row| steps(row).unwrap_or_default().saturating_mul(8)).collect())
}

/// A series of dates or moments, held as `number`s of `unit` nanoseconds.
fn dated(call: &ScalarFunctionArgs, point: &DataType, number: &DataType, unit: i128) -> Result<Vec<u64>> {
    let moment = |arg| {
        let mut found = Argument::new(call, arg, point)?;
        let numbers = found.values.map(|values| cast(&cast(&values, number)?, &DataType::Int64));
        found.values = numbers.transpose()?;
        Ok::<_, DataFusionError>(found)
    };
    let by = Argument::new(call, 2, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let (from, to) = (moment(0)?, moment(1)?);
    let steps = |row| {
        let span = (i128::from(to.integer(row)?) - i128::from(from.integer(row)?)) * unit;
        let by = by.interval(row)?;
        let signs = [i64::from(by.months), i64::from(by.days), by.nanoseconds];
        if signs.iter().any(|part| *part > 0) && signs.iter().any(|part| *part < 0) {
            // Forth and back: it may never arrive.
            return Some(u64::MAX);
        }
        // The shortest months and days there are.
        let (month, day) = (28 * 82_800_000_000_000, 82_800_000_000_000);
        let by = i128::from(by.months) * month + i128::from(by.days) * day + i128::from(by.nanoseconds);
        Some(steps(span, by))
    };
    Ok((0..call.number_rows).map(|row| steps(row).unwrap_or_default().saturating_mul(8)).collect())
}

/// Steps of this length from one end of a span to the other, both included.
fn steps(span: i128, by: i128) -> u64 {
    if by == 0 || (span > 0) != (by > 0) && span != 0 {
        return 0;
    }
    u64::try_from(span / by).unwrap_or(u64::MAX).saturating_add(1)
}

/// `regexp_replace`: what is there and what every match adds. Matches are counted only where one for each character
/// would be too many.
fn replaced(call: &ScalarFunctionArgs, sizes: &[Sizes]) -> Result<Vec<u64>> {
    const COUNTED: u64 = 1 << 20;
    let text = |arg| Argument::new(call, arg, &DataType::Utf8View);
    let (text, pattern, by, flags) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let mut all = Vec::with_capacity(call.number_rows);
    for row in 0..call.number_rows {
        let (Some(text), Some(pattern), Some(by)) = (text.text(row), pattern.text(row), by.text(row)) else {
            all.push(0);
            continue;
        };
        let (length, flags) = (sizes[0].at(row), flags.text(row).unwrap_or_default());
        let groups = by.matches(['$', '\\']).count() as u64;
        let of = |matches: u64| {
            let copied = length.saturating_mul(groups + 1);
            matches.saturating_mul(by.len() as u64).saturating_add(copied)
        };
        let most = of(if flags.contains('g') { length + 1 } else { 1 });
        all.push(if most > COUNTED && flags.contains('g') {
            of(matches(call, text, pattern, &flags.replace('g', ""))?)
        } else {
            most
        });
    }
    Ok(all)
}

fn matches(call: &ScalarFunctionArgs, text: &str, pattern: &str, flags: &str) -> Result<u64> {
    let word = |text: &str| ColumnarValue::Scalar(ScalarValue::Utf8View(Some(text.to_owned())));
    let mut args = vec![word(text), word(pattern), ColumnarValue::Scalar(ScalarValue::Int64(Some(1)))];
    if !flags.is_empty() {
        args.push(word(flags));
    }
    let field = |arg: &ColumnarValue| Arc::new(Field::new("arg", arg.data_type(), true));
    let counted = regexp_count().invoke_with_args(ScalarFunctionArgs {
        arg_fields: args.iter().map(field).collect(),
        args,
        number_rows: 1,
        return_field: Arc::new(Field::new("count", DataType::Int64, true)),
        config_options: Arc::clone(&call.config_options),
    })?;
    let counted = counted.into_array(1)?;
    Ok(counted.as_primitive::<Int64Type>().iter().flatten().next().map_or(0, i64::unsigned_abs))
}
