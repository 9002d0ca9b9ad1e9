//! From the columns that a client has to those that a manifest declares: by name, and only where no value changes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use conveyor_model::{Error, Result};

/// The rows with the declared columns, in their order and with their types.
///
/// # Errors
/// `BadInput` if a column is missing, not declared, twice there, or of a type whose values cannot be kept.
pub(super) fn fit(declared: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    if rows.schema_ref() == declared {
        return Ok(rows.clone());
    }
    let given = rows.schema_ref();
    for field in given.fields() {
        if declared.index_of(field.name()).is_err() {
            return Err(wrong(
                "unknown-column",
                format!("the source has no column `{}`", field.name()),
                declared,
            ));
        }
        if given.fields().iter().filter(|f| f.name() == field.name()).count() > 1 {
            return Err(wrong(
                "column-twice",
                format!("the column `{}` is there twice", field.name()),
                declared,
            ));
        }
    }
    let columns = declared.fields().iter().map(|field| {
        let column = rows.column_by_name(field.name()).ok_or_else(|| {
            wrong("missing-column", format!("the column `{}` is missing", field.name()), declared)
        })?;
        let column = convert(column, field.data_type())
            .map_err(|why| wrong("column-type", format!("the column `{}`: {why}", field.name()), declared))?;
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(wrong(
                "null-value",
                format!("the column `{}` must not be null", field.name()),
                declared,
            ));
        }
        Ok(column)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(declared.clone(), columns, &options)
        .map_err(|e| wrong("column-type", e.to_string(), declared))
}

fn wrong(code: &'static str, what: String, declared: &Schema) -> Error {
    let columns: Vec<_> =
        declared.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
    Error::bad_input(code, what).help(format!("the columns are {}", columns.join(", ")))
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let from = column.data_type();
    if from == to {
        return Ok(column.clone());
    }
    if !keeps(from, to) {
        return Err(format!("{from} cannot become {to} without a change of values"));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = |array: &dyn Array, to| cast_with_options(array, to, &options).map_err(|e| e.to_string());
    let converted = cast(column, to)?;
    // Nanoseconds are the one form that has more digits than there is room for.
    if matches!(from, DataType::Timestamp(TimeUnit::Nanosecond, _)) && *cast(&converted, from)? != **column {
        return Err("a time has nanoseconds; microseconds are kept".to_owned());
    }
    Ok(converted)
}

/// Whether every value of a type has its like in another.
fn keeps(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let bytes = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    match (from, to) {
        (a, b) if a == b => true,
        (T::Null, _) => true,
        (T::Dictionary(_, values), to) => keeps(values, to),
        (a, b) if text(a) && text(b) => true,
        (a, T::Binary | T::LargeBinary | T::BinaryView) if bytes(a) => true,
        (T::Float16 | T::Float32, T::Float32 | T::Float64) => true,
        (T::Timestamp(_, a), T::Timestamp(TimeUnit::Microsecond, b)) => a.is_some() == b.is_some(),
        (T::Time32(_), T::Time64(_)) => true,
        (T::List(a) | T::LargeList(a) | T::FixedSizeList(a, _), T::List(b) | T::LargeList(b)) => {
            keeps(a.data_type(), b.data_type())
        }
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && keeps(a.data_type(), b.data_type()))
        }
        (a, b) if a.is_integer() && b.is_integer() => wider(a, b),
        _ => false,
    }
}

fn wider(from: &DataType, to: &DataType) -> bool {
    let width = |t: &DataType| t.primitive_width().unwrap_or(0);
    let signed = DataType::is_signed_integer;
    match (signed(from), signed(to)) {
        (a, b) if a == b => width(from) <= width(to),
        (false, true) => width(from) < width(to),
        _ => false,
    }
}

/// Only some of the columns, in this order.
///
/// # Errors
/// If one of them is not there: the plan is not that of this source.
pub(super) fn pick(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |name: &String| {
        rows.column_by_name(name)
            .cloned()
            .ok_or_else(|| Error::bad_input("column-unknown", format!("the source has no column `{name}`")))
    };
    let columns = schema.fields().iter().map(|f| column(f.name())).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|e| Error::runtime("column-type", "the rows do not have the declared columns").because(e))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        AsArray, DictionaryArray, Int32Array, Int64Array, NullArray, StringArray, TimestampMillisecondArray,
        TimestampNanosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type, TimestampMicrosecondType};

    use super::*;

    fn declared() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8View, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        ]))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn columns_are_found_by_name_and_keep_their_values() {
        let words: DictionaryArray<Int32Type> = ["x", "y"].into_iter().collect();
        let times = TimestampMillisecondArray::from(vec![1, 2]).with_timezone("Europe/Berlin");
        let rows = batch(vec![
            ("at", Arc::new(times) as _),
            ("t", Arc::new(words) as _),
            ("n", Arc::new(Int32Array::from(vec![7, 8])) as _),
        ]);
        let fitted = fit(&declared(), &rows).unwrap();
        assert_eq!(fitted.schema(), declared());
        assert_eq!(fitted.column(0).as_primitive::<Int64Type>().values(), &[7, 8]);
        assert_eq!(fitted.column(1).as_string_view().value(1), "y");
        assert_eq!(fitted.column(2).as_primitive::<TimestampMicrosecondType>().values(), &[1000, 2000]);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        let n = || ("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef);
        let t = || ("t", Arc::new(StringArray::from(vec!["a"])) as ArrayRef);
        let at = |ns: i64| {
            ("at", Arc::new(TimestampNanosecondArray::from(vec![ns]).with_timezone("UTC")) as ArrayRef)
        };
        fit(&declared(), &batch(vec![n(), t(), at(5_000)])).unwrap();
        fit(&declared(), &batch(vec![n(), ("t", Arc::new(NullArray::new(1)) as _), at(0)])).unwrap();
        let naive = ("at", Arc::new(TimestampMillisecondArray::from(vec![1])) as ArrayRef);
        for (rows, code, word) in [
            (vec![n(), t()], "missing-column", "`at`"),
            (vec![n(), t(), at(0), ("more", n().1)], "unknown-column", "`more`"),
            (vec![n(), t(), at(1)], "column-type", "nanoseconds"),
            (vec![n(), t(), naive], "column-type", "`at`"),
            (vec![("n", t().1), t(), at(0)], "column-type", "`n`"),
        ] {
            let error = fit(&declared(), &batch(rows)).unwrap_err();
            assert_eq!(error.code(), code, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
