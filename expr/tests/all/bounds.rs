//! Values that are too large fail their rows; what is too much at once is made in parts.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use conveyor_expr::{Expr, Select, TooMuch};

/// Columns `t` (text), `n` (a length, by default small) and `d`.
fn rows(lengths: &[i64]) -> RecordBatch {
    let t: StringViewArray = lengths.iter().map(|_| Some("ab")).collect();
    let n = Int64Array::from(lengths.to_vec());
    RecordBatch::try_from_iter([("t", Arc::new(t) as _), ("n", Arc::new(n) as _)]).expect("two columns")
}

/// Each makes much of `n`, which is small in all rows but the second.
const BY_LENGTH: &[&str] = &[
    "repeat(t, n)",
    "lpad(t, n * 2)",
    "rpad(t, n, 'é')",
    "range(0, n)",
    "range(n)",
    "range(n, 0, -1)",
    "generate_series(1, n, 1)",
    "generate_series(n, 1, -1)",
    "array_repeat(t, n)",
    "array_resize([n], n, 0)",
    "replace(repeat('a', n / 1000), 'a', repeat('b', 4000))",
    "regexp_replace(repeat('a', n / 1000), 'a', repeat('b', 4000), 'g')",
    "repeat(t, n / 4) || repeat(t, n / 4) || repeat(t, n / 4) || repeat(t, n / 4) || repeat(t, n / 4)",
    "concat(repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4))",
    "concat_ws(repeat('-', n / 2), t, t, t, t, t, t)",
    "array_to_string(range(n / 10), repeat('-', 100))",
    "array_to_string(array_repeat(1, n / 100), repeat('-', 1000))",
    "encode(arrow_cast(repeat(t, n / 2), 'Binary'), 'hex')",
    "[repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4)]",
    "array_concat(range(n / 10), range(n / 10), range(n / 10), range(n / 10))",
    "array_replace_all(array_repeat('a', n / 1000), 'a', repeat('b', 4000))",
    "string_to_array(repeat('a,', n / 6), ',')",
    "struct(repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4), repeat(t, n / 4))",
    "generate_series(DATE '2020-01-01', CAST(arrow_cast(18262 + n, 'Int32') AS DATE), INTERVAL '1 day')",
    "regexp_match(repeat('a', n / 8), '((((((((((((((((((a*))))))))))))))))))')",
    "range(TIMESTAMP '2020-01-01T00:00:00', arrow_cast(1577836800000000000 + n * 1000, 'Timestamp(Nanosecond, None)'), INTERVAL '1 microsecond')",
];

#[test]
fn a_value_that_is_too_large_fails_its_row_alone() {
    let rows = rows(&[16, 5_000_000, 0]);
    let mut wrong = Vec::new();
    for sql in BY_LENGTH {
        let expr = Expr::compile(sql, &rows.schema()).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let evaluated = expr.evaluate(&rows);
        let failed: Vec<_> = evaluated.failures.iter().map(|(row, e)| (*row, &*e.code)).collect();
        if failed != [(1, "value-too-large")] {
            wrong.push(format!("{sql}: {:?}", evaluated.failures));
        }
        let kept = evaluated.values.to_data().get_slice_memory_size().expect("its size");
        assert!(kept < 4 << 20, "{sql}: {kept} bytes");
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn constants_are_not_made_larger_than_rows_may_have_them() {
    let rows = rows(&[1, 2]);
    for sql in [
        "repeat('x', 1000000000)",
        "range(0, 100000000)",
        "lpad('x', 2000000000, 'y')",
        "repeat(repeat('x', 100000), 100000)",
        "array_repeat(range(1000), 1000000)",
        "generate_series(DATE '2020-01-01', DATE '2019-01-01', INTERVAL '1 month -31 days')",
    ] {
        let expr = Expr::compile(sql, &rows.schema()).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        let evaluated = expr.evaluate(&rows);
        let failed: Vec<_> = evaluated.failures.iter().map(|(row, e)| (*row, &*e.code)).collect();
        assert_eq!(failed, [(0, "value-too-large"), (1, "value-too-large")], "{sql}");
    }
    let filter = Expr::compile_boolean("repeat('x', 1000000000) = 'a'", &rows.schema()).expect("typed");
    assert_eq!(filter.evaluate(&rows).failures.len(), 2);
    let wide = Expr::compile("arrow_cast(NULL, 'FixedSizeBinary(2000000000)')", &rows.schema());
    assert_eq!(wide.err().map(|e| e.code), Some("value-too-large"));
}

#[test]
fn what_is_too_much_at_once_is_made_in_parts_and_stays_the_same() {
    let lengths: Vec<i64> = (0..300).map(|n| 1_000_000 + n).collect();
    let all = rows(&lengths);
    let text = Expr::compile("repeat('x', n)", &all.schema()).expect("typed");
    assert_eq!(text.evaluate_at_once(&all).err(), Some(TooMuch), "300 MB");
    assert!(text.evaluate_at_once(&all.slice(7, 1)).is_ok());
    let made = Expr::compile("length(repeat('x', n))", &all.schema()).expect("typed");
    let made = made.evaluate(&all);
    assert!(made.failures.is_empty());
    let found: Vec<i64> = match made.values.as_primitive_opt::<Int64Type>() {
        Some(values) => values.values().to_vec(),
        None => made
            .values
            .as_primitive::<arrow::datatypes::Int32Type>()
            .values()
            .iter()
            .map(|v| i64::from(*v))
            .collect(),
    };
    assert_eq!(found, lengths);
    // Rows that fail for another reason are found in parts as well.
    let other = Expr::compile("CAST(n AS TINYINT) + length(repeat('x', n))", &all.schema()).expect("typed");
    assert_eq!(other.evaluate(&all).failures.len(), 300);
    // A long constant counts once a row.
    let constant = Expr::compile("repeat('x', 60000)", &all.schema()).expect("typed");
    assert!(constant.evaluate_at_once(&all.slice(0, 200)).is_ok());
    let many = rows(&vec![1; 2000]);
    assert_eq!(constant.evaluate_at_once(&many).err(), Some(TooMuch));
}

#[test]
fn a_select_says_that_it_is_too_much() {
    let all = rows(&vec![100_000; 200]);
    let list = Select::compile("SELECT range(n) AS r FROM input", &all.schema()).expect("typed");
    assert!(list.evaluate(&all).expect("no error").is_none());
    let few = list.evaluate(&all.slice(0, 2)).expect("no error").expect("it fits");
    assert_eq!(few.rows.column(0).as_list::<i32>().values().len(), 200_000);
    let sum = Select::compile("SELECT [t, t] AS l, unnest(range(n)) AS r FROM input", &all.schema())
        .expect("typed");
    assert!(sum.evaluate(&all.slice(0, 20)).expect("no error").is_none());
}

#[test]
fn ordinary_values_are_as_they_were() {
    let rows = rows(&[3]);
    for (sql, expected) in [
        ("t || '-' || t", "ab-ab"),
        ("concat(t, 'x', NULL, 'y')", "abxy"),
        ("lpad(t, 4, '*')", "**ab"),
        ("replace(t, 'a', 'xyz')", "xyzb"),
        ("regexp_replace('aBc', '(b|d)', 'Ab\\1a', 'i')", "aAbBac"),
        ("array_to_string(range(n), ',')", "0,1,2"),
        ("concat_ws('-', t, NULL, t)", "ab-ab"),
        (
            "array_to_string(generate_series(DATE '2020-01-01', DATE '2020-01-03', INTERVAL '1 day'), ' ')",
            "2020-01-01 2020-01-02 2020-01-03",
        ),
        ("'x' || NULL", "-"),
    ] {
        let evaluated =
            Expr::compile(sql, &rows.schema()).unwrap_or_else(|e| panic!("{sql}: {e:?}")).evaluate(&rows);
        assert!(evaluated.failures.is_empty(), "{sql}: {:?}", evaluated.failures);
        let found = evaluated.values.as_string_view();
        let found = if found.is_null(0) { "-" } else { found.value(0) };
        assert_eq!(found, expected, "{sql}");
    }
}
