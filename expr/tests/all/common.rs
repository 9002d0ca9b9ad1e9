//! Rows and random expressions over them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::util::display::array_value_to_string;
use conveyor_expr::Evaluated;
use proptest::prelude::*;

/// One row: text, two integers, a float, a flag.
pub(crate) type Row = (Option<String>, Option<i64>, Option<i64>, Option<f64>, Option<bool>);

/// The rows as columns `t`, `a`, `b`, `f`, `ok`.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let t: ArrayRef = Arc::new(rows.iter().map(|r| r.0.clone()).collect::<StringViewArray>());
    let a: ArrayRef = Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>());
    let b: ArrayRef = Arc::new(rows.iter().map(|r| r.2).collect::<Int64Array>());
    let f: ArrayRef = Arc::new(rows.iter().map(|r| r.3).collect::<Float64Array>());
    let ok: ArrayRef = Arc::new(rows.iter().map(|r| r.4).collect::<BooleanArray>());
    let columns = [("t", t, true), ("a", a, true), ("b", b, true), ("f", f, true), ("ok", ok, true)];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Rows in which much goes wrong: junk text, zeros, extremes, nulls.
pub(crate) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop_oneof![
        4 => (-20i64..20).prop_map(|n| Some(n.to_string())),
        2 => prop::sample::select(vec!["", "x", "1.5", "true", "2024-01-01", "99999999999999999999"])
            .prop_map(|s| Some(s.to_owned())),
        1 => Just(None),
    ];
    let int = || {
        prop_oneof![
            6 => (-3i64..4).prop_map(Some),
            1 => prop::sample::select(vec![i64::MIN, i64::MAX, i64::MAX - 1]).prop_map(Some),
            1 => Just(None),
        ]
    };
    let float = prop_oneof![
        4 => (-4.0f64..4.0).prop_map(Some),
        1 => prop::sample::select(vec![0.0, f64::NAN, f64::INFINITY, 1e300]).prop_map(Some),
        1 => Just(None),
    ];
    prop::collection::vec((text, int(), int(), float, any::<Option<bool>>()), 1..40)
}

/// An integer expression.
pub(crate) fn any_int() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "a",
        "b",
        "2",
        "0",
        "CAST(t AS BIGINT)",
        "CAST(f AS BIGINT)",
        "length(t)",
        "NULL::BIGINT",
        "date_part('year', CAST(t AS DATE))",
        "CAST(CAST(a AS SMALLINT) AS BIGINT)",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(3, 16, 3, |inner| {
        let condition = condition_over(inner.clone());
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["+", "-", "*", "/", "%"]), inner.clone())
                .prop_map(|(l, op, r)| format!("({l} {op} {r})")),
            (condition, inner.clone(), inner.clone())
                .prop_map(|(c, l, r)| format!("(CASE WHEN {c} THEN {l} ELSE {r} END)")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(x, w, l)| format!("(CASE {x} WHEN {w} THEN {l} WHEN 1 THEN b END)")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("coalesce({l}, {r})")),
            (inner.clone(), inner).prop_map(|(l, r)| format!("nullif({l}, {r})")),
        ]
    })
}

/// A condition over integer expressions.
pub(crate) fn condition_over(
    int: impl Strategy<Value = String> + Clone + 'static,
) -> impl Strategy<Value = String> + Clone {
    let compare = (int.clone(), prop::sample::select(vec!["=", "<>", "<", ">="]), int.clone())
        .prop_map(|(l, op, r)| format!("{l} {op} {r}"));
    let leaf = prop_oneof![
        3 => compare,
        1 => Just("ok".to_owned()),
        1 => Just("f > 1.0".to_owned()),
        1 => Just("t IN ('x', '1', '')".to_owned()),
        1 => Just("CAST(t AS BOOLEAN)".to_owned()),
        1 => int.prop_map(|i| format!("{i} IS NULL")),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l} AND {r})")),
            (inner.clone(), inner.clone()).prop_map(|(l, r)| format!("({l} OR {r})")),
            inner.prop_map(|c| format!("(NOT {c})")),
        ]
    })
    .boxed()
}

/// What came out for each row: its value as text, or its error.
pub(crate) fn outcomes(evaluated: &Evaluated) -> Vec<Result<Option<String>, String>> {
    let values = &evaluated.values;
    let mut all: Vec<_> = (0..values.len())
        .map(|row| {
            Ok(values.is_valid(row).then(|| array_value_to_string(values, row).expect("it can be shown")))
        })
        .collect();
    for (row, error) in &evaluated.failures {
        assert!(values.is_null(*row), "a failed row is null");
        all[*row] = Err(format!("{} {} {:?}", error.code, error.message, error.column));
    }
    let rows: Vec<_> = evaluated.failures.iter().map(|(row, _)| *row).collect();
    assert!(rows.is_sorted_by(|x, y| x < y), "failures ascend, one a row");
    all
}
