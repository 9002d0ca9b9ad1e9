//! What callers see: messages, casts, SELECT, queries.

use std::sync::Arc;

use crate::common::{Row, batch, outcomes};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListBuilder, RecordBatch, StringViewArray, StringViewBuilder,
};
use arrow::util::pretty::pretty_format_batches;
use arrow_schema::{DataType, TimeUnit};
use conveyor_expr::{Evaluated, Expr, Select, cast, query};
use expect_test::{Expect, expect};
use futures::{StreamExt, TryStreamExt, executor::block_on, stream};

fn rows() -> RecordBatch {
    let row = |t: &str, a, b| -> Row { (Some(t.to_owned()), Some(a), Some(b), Some(1.5), Some(a > 1)) };
    batch(&[
        row("1", 1, 0),
        row("x", 2, 2),
        row("", i64::MAX, 1),
        row("4", i64::MIN, -1),
        (None, None, None, None, None),
    ])
}

fn shown(evaluated: &Evaluated) -> String {
    let lines = outcomes(evaluated).into_iter().map(|outcome| match outcome {
        Ok(Some(value)) => value,
        Ok(None) => "null".to_owned(),
        Err(error) => format!("! {error}"),
    });
    lines.map(|line| line + "\n").collect()
}

fn check(sql: &str, expected: Expect) {
    let rows = rows();
    expected.assert_eq(&match Expr::compile(sql, &rows.schema()) {
        Ok(expr) => shown(&expr.evaluate(&rows)),
        Err(error) => format!("{:?}", error),
    });
}

#[test]
fn failing_rows_say_why() {
    check(
        "CAST(t AS BIGINT) + 1",
        expect![[r#"
        2
        ! cast-failed 'x' is not a valid int64 Some("t")
        ! cast-failed '' is not a valid int64 Some("t")
        5
        null
    "#]],
    );
    check(
        "a + b",
        expect![[r#"
        1
        4
        ! overflow 9223372036854775807 + 1 does not fit its type None
        ! overflow -9223372036854775808 + -1 does not fit its type None
        null
    "#]],
    );
    check(
        "a / b",
        expect![[r#"
        ! division-by-zero division by zero in 1 / 0 Some("b")
        1
        9223372036854775807
        ! overflow -9223372036854775808 / -1 does not fit its type Some("b")
        null
    "#]],
    );
    check(
        "-a",
        expect![[r#"
        -1
        -2
        -9223372036854775807
        ! overflow 0 - -9223372036854775808 does not fit its type Some("a")
        null
    "#]],
    );
}

#[test]
fn failing_rows_of_functions_say_why() {
    check(
        "CASE WHEN b = 0 THEN -1 ELSE a / b END",
        expect![[r#"
        -1
        1
        9223372036854775807
        ! overflow -9223372036854775808 / -1 does not fit its type Some("b")
        null
    "#]],
    );
    check(
        "make_date(2024, b, 1)",
        expect![[r#"
        ! expression-failed make_date() failed: Month value '0' is out of range Some("b")
        2024-02-01
        2024-01-01
        ! expression-failed make_date() failed: Month value '-1' is out of range Some("b")
        null
    "#]],
    );
    check(
        "t || '-' || t",
        expect![[r#"
        1-1
        x-x
        -
        4-4
        null
    "#]],
    );
}

#[test]
fn planning_errors_say_what_to_do() {
    for (sql, expected) in [
        (
            "1 + aa",
            expect![[
                r#"ExprError { message: "there is no column `aa`", offset: Some(4), help: Some("did you mean `a`?"), code: "unknown-column" }"#
            ]],
        ),
        (
            "uper(t)",
            expect![[
                r#"ExprError { message: "there is no function `uper`", offset: Some(0), help: Some("did you mean `upper`?"), code: "unknown-function" }"#
            ]],
        ),
        (
            "sum(a)",
            expect![[
                r#"ExprError { message: "`sum` looks at many rows, an expression at one", offset: Some(0), help: Some("aggregates and window functions are no part of row expressions"), code: "aggregate" }"#
            ]],
        ),
        (
            "now()",
            expect![[
                r#"ExprError { message: "`now` would give another result when the row is read again", offset: Some(0), help: Some("results must be the same after a restart and in a replay: take the value from the data"), code: "not-deterministic" }"#
            ]],
        ),
        (
            "a +",
            expect![[
                r#"ExprError { message: "Expected: an expression, found: EOF", offset: Some(3), help: None, code: "syntax" }"#
            ]],
        ),
        (
            "a + ok",
            expect![[
                r#"ExprError { message: "Cannot coerce arithmetic expression Int64 + Boolean to valid types", offset: None, help: None, code: "type-mismatch" }"#
            ]],
        ),
        (
            "(SELECT 1)",
            expect![[
                r#"ExprError { message: "an expression looks at one row and cannot hold a query", offset: Some(1), help: Some("use a lookup for other tables"), code: "subquery" }"#
            ]],
        ),
        (
            "a AS x",
            expect![[
                r#"ExprError { message: "`AS x` has no place in an expression", offset: Some(5), help: Some("the column's name stands before the expression"), code: "syntax" }"#
            ]],
        ),
    ] {
        check(sql, expected);
    }
    let overflow = Expr::compile("a + (9223372036854775807 + 1)", &rows().schema()).err();
    assert_eq!(overflow.map(|e| e.code), Some("invalid-constant"));
    let not_boolean = Expr::compile_boolean("a", &rows().schema()).err().expect("an integer is no condition");
    assert_eq!(not_boolean.code, "not-boolean");
}

#[test]
fn types_are_canonical() {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for (sql, expected) in [
        ("upper(t)", DataType::Utf8View),
        ("'x'", DataType::Utf8View),
        ("t || 'x'", DataType::Utf8View),
        ("NULL", DataType::Utf8View),
        ("CAST(t AS TIMESTAMP)", instant.clone()),
        ("to_timestamp(t)", instant),
        ("CAST(t AS DATE)", DataType::Date32),
        ("f / 2", DataType::Float64),
        ("a * 2", DataType::Int64),
    ] {
        let expr = Expr::compile(sql, &rows().schema()).expect("it compiles");
        assert_eq!(expr.data_type(), &expected, "{sql}");
        assert_eq!(expr.evaluate(&rows()).values.data_type(), &expected, "{sql}");
    }
    let column = Expr::compile("a", &rows().schema()).expect("it compiles");
    assert_eq!(column.as_column(), Some("a"));
    assert!(Expr::compile("A", &rows().schema()).is_err(), "names are case sensitive");
}

#[test]
fn casts_are_strict() {
    let long = "9".repeat(300);
    let text: ArrayRef = Arc::new(StringViewArray::from(vec![Some("7"), Some("x"), None, Some(&long)]));
    let made = cast(&text, &DataType::Int64, "n");
    assert_eq!(made.values.as_primitive::<arrow::datatypes::Int64Type>().value(0), 7);
    assert!(made.values.is_null(2));
    assert_eq!(made.failures.len(), 2);
    assert_eq!(made.failures[0].1.message, "'x' is not a valid int64");
    assert_eq!(made.failures[0].1.column.as_deref(), Some("n"));
    assert!(made.failures[1].1.message.len() < 140, "a long value is cut");
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 300]));
    assert_eq!(cast(&wide, &DataType::Int8, "n").failures.len(), 1);
    assert!(cast(&wide, &DataType::Utf8View, "n").failures.is_empty());
}

#[test]
fn select_projects_filters_and_unnests() {
    let rows = rows();
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in 0..rows.num_rows() {
        (0..row % 3).for_each(|n| lists.values().append_value(format!("v{n}")));
        lists.append(row != 4);
    }
    let list: ArrayRef = Arc::new(lists.finish());
    let columns =
        [("t", Arc::clone(rows.column(0)), true), ("a", Arc::clone(rows.column(1)), true), ("l", list, true)];
    let rows = RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length");
    let run = |sql| {
        Select::compile(sql, &rows.schema())
            .expect("it compiles")
            .evaluate(&rows)
            .expect("it runs")
            .expect("it is little")
    };

    let all = run("SELECT * EXCEPT (l), t AS copy FROM input WHERE a > 0");
    assert_eq!((all.rows.num_rows(), all.filtered, all.failures.len()), (3, 2, 0));
    assert_eq!(all.from.values(), &[0, 1, 2]);

    let exploded = run("SELECT CAST(t AS INT) + 1, UNNEST(l) AS x FROM input");
    let failed: Vec<_> = exploded.failures.iter().map(|(row, _)| *row).collect();
    assert_eq!((failed, exploded.filtered), (vec![1, 2], 3), "rows 0, 3 and 4 have no elements");
    assert_eq!(exploded.rows.num_rows(), 0);
    let exploded = run("SELECT a, unnest(l) AS x FROM input");
    assert_eq!((exploded.from.values().to_vec(), exploded.filtered), (vec![1, 2, 2], 3));
    assert_eq!(exploded.rows.column(1).as_string_view().value(2), "v1");

    for (sql, code) in [
        ("SELECT a FROM input ORDER BY a", "not-stateless"),
        ("SELECT sum(a) FROM input", "aggregate"),
        ("SELECT a FROM other", "unknown-table"),
        ("SELECT a, a FROM input", "duplicate-column"),
        ("SELECT a FROM input i JOIN input j ON true", "not-stateless"),
        ("SELECT a FROM input; DROP TABLE input", "not-a-select"),
        ("DELETE FROM input", "not-a-select"),
    ] {
        assert_eq!(Select::compile(sql, &rows.schema()).err().map(|e| e.code), Some(code), "{sql}");
    }
}

#[test]
fn queries_read_and_do_nothing_else() {
    let run = |sql: &'static str| {
        let table = stream::iter([Ok(rows()), Ok(rows())]).boxed();
        block_on(async {
            let (_, stream) = query(sql, vec![("dlq".into(), rows().schema(), table)], 64 << 20).await?;
            let batches: Result<Vec<_>, _> = stream.try_collect().await;
            Ok::<_, conveyor_expr::ExprError>(
                batches.map(|b| pretty_format_batches(&b).expect("it prints").to_string()),
            )
        })
    };
    let counted =
        run("SELECT ok, count(*) AS n, min(a) AS least FROM dlq GROUP BY ok ORDER BY n DESC, ok NULLS LAST");
    expect![[r#"
        +-------+---+----------------------+
        | ok    | n | least                |
        +-------+---+----------------------+
        | false | 4 | -9223372036854775808 |
        | true  | 4 | 2                    |
        |       | 2 |                      |
        +-------+---+----------------------+"#]]
    .assert_eq(&counted.expect("it is planned").expect("it runs"));
    for sql in [
        "DROP TABLE dlq",
        "INSERT INTO dlq VALUES (1)",
        "COPY dlq TO 'x.csv'",
        "SET a = 1",
        "CREATE TABLE x AS SELECT 1",
    ] {
        assert!(run(sql).is_err(), "{sql}");
    }
    assert_eq!(run("SELECT q FROM dlq").err().map(|e| e.code), Some("unknown-column"));
    let twice = run("SELECT 1 FROM dlq x JOIN dlq y ON x.a = y.a").expect("it is planned");
    assert_eq!(twice.err().map(|e| e.code()), Some("table-read-twice"));
}
