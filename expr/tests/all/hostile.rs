//! Hostile text: an error, never a panic, a stack overflow or a hang.

use std::sync::Arc;

use crate::common::batch;
use conveyor_expr::{Expr, Select};
use proptest::prelude::*;

const WORDS: &[&str] = &[
    "a",
    "t",
    "ok",
    "1",
    "0.5",
    "'x'",
    "(",
    ")",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "::",
    "INT",
    "AND",
    "OR",
    "NOT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "IN",
    ",",
    "IS",
    "NULL",
    "LIKE",
    "BETWEEN",
    "CAST",
    "AS",
    "[",
    "]",
    "{",
    "}",
    ":",
    "upper",
    "coalesce",
    "unnest",
    "interval",
    "'1 day'",
    "date",
    "->",
    "=",
    "<",
    "array",
    "struct",
    "extract",
    "from",
    "input",
    "select",
    "where",
    "*",
    "EXCEPT",
    ".",
    "\"",
    "'",
    "$1",
    "@v",
    "substr",
    "repeat",
    "make_date",
    "arrow_cast",
    "date_bin",
    "regexp_replace",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_compiles_or_says_why(sql in "\\PC{0,60}") {
        let schema = batch(&[]).schema();
        for error in [Expr::compile(&sql, &schema).err(), Select::compile(&sql, &schema).err()].into_iter().flatten() {
            prop_assert!(!error.message.is_empty());
            prop_assert!(error.offset.is_none_or(|at| sql.is_char_boundary(at)), "{:?} in {:?}", error, sql);
            prop_assert_ne!(error.code, "internal", "{}", sql);
        }
    }

    #[test]
    fn word_soup_compiles_and_runs_or_says_why(words in prop::collection::vec(prop::sample::select(WORDS), 1..14)) {
        let sql = words.join(" ");
        let rows = batch(&[(Some("x".into()), Some(1), Some(0), Some(0.5), None)]);
        if let Ok(expr) = Expr::compile(&sql, &rows.schema()) {
            prop_assert_eq!(expr.evaluate(&rows).values.len(), 1);
        }
        if let Ok(select) = Select::compile(&format!("select {sql} from input"), &rows.schema()) {
            prop_assert!(select.evaluate(&rows).is_ok());
        }
    }
}

#[test]
fn deep_and_long_text_is_refused_in_time() {
    let schema = batch(&[]).schema();
    let deep = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let all = [
        deep("(", "a", ")", 30_000),
        deep("NOT ", "ok", "", 10_000),
        deep("-", "a", "", 30_000),
        deep("- ", "a", "", 30_000),
        deep("upper(", "t", ")", 9_000),
        deep("CASE WHEN ok THEN ", "1", " END", 2_000),
        deep("[", "1", "]", 20_000),
        deep("{'a': ", "1", "}", 5_000),
        format!("a{}", "+a".repeat(30_000)),
        format!("t{}", "||t".repeat(20_000)),
        format!("ok{}", " AND ok".repeat(9_000)),
        format!("a{}", "::int".repeat(10_000)),
        format!("a{}", "[1]".repeat(20_000)),
        format!("CAST(a AS {}", "ARRAY<".repeat(10_000)),
        format!("a{}", " IS NULL".repeat(8_000)),
        "x".repeat(70_000),
    ];
    for sql in all {
        assert!(Expr::compile(&sql, &schema).is_err(), "{}", &sql[..40]);
        assert!(Select::compile(&format!("SELECT {sql} FROM input"), &schema).is_err());
    }
}

#[test]
fn what_the_limits_allow_runs() {
    let rows = batch(&[(Some("x".into()), Some(1), Some(0), Some(0.5), Some(true))]);
    let chains = [
        format!("a{}", " + b".repeat(250)),
        format!("t{}", " || t".repeat(250)),
        (0..80).map(|n| format!("a * {n} = 7")).collect::<Vec<_>>().join(" OR "),
        format!("a IN ({})", (0..10_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")),
        format!("{}a{}", "abs(".repeat(10), ")".repeat(10)),
        format!("{}a{}", "(".repeat(12), ")".repeat(12)),
        format!("a{} + CAST(t AS BIGINT)", " + b".repeat(240)),
    ];
    for sql in chains {
        let expr = Expr::compile(&sql, &rows.schema()).unwrap_or_else(|e| panic!("{}: {e:?}", &sql[..30]));
        assert_eq!(expr.evaluate(&rows).values.len(), 1);
        let other = Arc::new(rows.clone());
        assert_eq!(expr.clone().evaluate(&other).values.len(), 1);
    }
}
