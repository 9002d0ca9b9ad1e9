//! Laws of evaluation: what a row gives depends on that row alone, and only what is evaluated can fail.

use crate::common::{any_int, any_rows, batch, condition_over, outcomes};
use conveyor_expr::Expr;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batch_boundaries_do_not_matter(sql in any_int(), rows in any_rows(), cut in 0usize..40) {
        let rows = batch(&rows);
        let Ok(expr) = Expr::compile(&sql, &rows.schema()) else { return Ok(()) };
        let whole = outcomes(&expr.evaluate(&rows));
        let cut = cut.min(rows.num_rows());
        let mut halves = outcomes(&expr.evaluate(&rows.slice(0, cut)));
        halves.extend(outcomes(&expr.evaluate(&rows.slice(cut, rows.num_rows() - cut))));
        prop_assert_eq!(&whole, &halves, "{}", sql);
        let single = (0..rows.num_rows()).flat_map(|row| outcomes(&expr.evaluate(&rows.slice(row, 1))));
        prop_assert_eq!(&whole, &single.collect::<Vec<_>>(), "{}", sql);
    }

    #[test]
    fn conditions_do_not_depend_on_batches(sql in condition_over(any_int().boxed()), rows in any_rows()) {
        let rows = batch(&rows);
        let Ok(expr) = Expr::compile_boolean(&sql, &rows.schema()) else { return Ok(()) };
        let whole = outcomes(&expr.evaluate(&rows));
        let single = (0..rows.num_rows()).flat_map(|row| outcomes(&expr.evaluate(&rows.slice(row, 1))));
        prop_assert_eq!(&whole, &single.collect::<Vec<_>>(), "{}", sql);
    }

    #[test]
    fn a_branch_that_is_not_taken_does_not_fail(
        condition in condition_over(prop::sample::select(vec!["a", "b", "2", "length(t)"]).prop_map(str::to_owned).boxed()),
        taken in any_int(), other in any_int(), rows in any_rows(),
    ) {
        let rows = batch(&rows);
        let run = |sql: &str| Expr::compile(sql, &rows.schema()).ok().map(|e| outcomes(&e.evaluate(&rows)));
        let case = format!("CASE WHEN {condition} THEN {taken} ELSE {other} END");
        let all = (run(&condition), run(&taken), run(&other), run(&case));
        let (Some(condition), Some(taken), Some(other), Some(case)) = all else { return Ok(()) };
        for row in 0..rows.num_rows() {
            let expected = match &condition[row] {
                Err(error) => Err(error.clone()),
                Ok(Some(yes)) if yes == "true" => taken[row].clone(),
                Ok(_) => other[row].clone(),
            };
            prop_assert_eq!(&case[row], &expected);
        }
    }

    #[test]
    fn and_or_and_coalesce_stop_early(
        left in condition_over(any_int().boxed()),
        // Nothing that stands in `left` too: the simplifier may say `(x AND y) OR x` as `x`.
        right in prop::sample::select(vec!["f <= 2.5", "b / a >= 7", "CAST(t AS TINYINT) < 19", "t = 'q'"]),
        first in any_int(), second in any_int(), rows in any_rows(),
    ) {
        let rows = batch(&rows);
        let run = |sql: String| Expr::compile(&sql, &rows.schema()).ok().map(|e| outcomes(&e.evaluate(&rows)));
        let (l, r) = (run(left.clone()), run(right.to_owned()));
        if let (Some(l), Some(r), Some(and), Some(or)) =
            (l, r, run(format!("{left} AND ({right})")), run(format!("({left}) OR ({right})")))
        {
            for row in 0..rows.num_rows() {
                let text = |v: &str| Ok(Some(v.to_owned()));
                if l[row].is_err() {
                    prop_assert_eq!(&and[row], &l[row]);
                    prop_assert_eq!(&or[row], &l[row]);
                }
                if l[row] == text("false") {
                    prop_assert_eq!(&and[row], &text("false"));
                    prop_assert_eq!(&or[row], &r[row]);
                }
                if l[row] == text("true") {
                    prop_assert_eq!(&or[row], &text("true"));
                    prop_assert_eq!(&and[row], &r[row]);
                }
            }
        }
        let both = (run(first.clone()), run(second.clone()), run(format!("coalesce({first}, {second})")));
        if let (Some(first), Some(second), Some(joined)) = both {
            for row in 0..rows.num_rows() {
                let expected = if first[row] == Ok(None) { &second[row] } else { &first[row] };
                prop_assert_eq!(&joined[row], expected);
            }
        }
    }

    #[test]
    fn pushdown_changes_nothing(
        parts in prop::collection::vec(prop_oneof![
            2 => prop::sample::select(vec![
                "a > 1", "0 >= b", "t IN ('x', '1')", "t = ''", "ok", "NOT ok", "a IS NOT NULL", "t IS NULL",
                "b BETWEEN -1 AND 2", "f > 1.5", "a = 1 OR a = 2", "a IN (1, 2, 3, 4, 5)", "a <> 0",
            ]).prop_map(str::to_owned),
            1 => condition_over(any_int().boxed()),
        ], 1..5),
        rows in any_rows(),
    ) {
        let rows = batch(&rows);
        let sql = parts.iter().map(|p| format!("({p})")).collect::<Vec<_>>().join(" AND ");
        let Ok(whole) = Expr::compile_boolean(&sql, &rows.schema()) else { return Ok(()) };
        let (predicate, residual) = whole.pushdown();
        let rest = residual.as_ref().map(|sql| Expr::compile_boolean(sql, &rows.schema()).expect("it compiles"));
        let whole = outcomes(&whole.evaluate(&rows));
        let rest = rest.map(|rest| outcomes(&rest.evaluate(&rows)));
        for row in 0..rows.num_rows() {
            let passes = |outcome: &Result<Option<String>, String>| match outcome {
                Ok(value) => Ok(value.as_deref() == Some("true")),
                Err(error) => Err(error.clone()),
            };
            let expected = if holds(&predicate, &rows.slice(row, 1)) {
                rest.as_ref().map_or(Ok(true), |rest| passes(&rest[row]))
            } else {
                Ok(false)
            };
            prop_assert_eq!(passes(&whole[row]), expected, "{} -> {} | {:?}", sql, predicate, residual);
        }
    }
}

/// An independent reading of predicates, for one row.
fn holds(predicate: &Predicate, row: &arrow::array::RecordBatch) -> bool {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, Int64Type};
    let value = |column: &str| {
        let array = row.column_by_name(column).expect("it is there");
        (!array.is_null(0)).then(|| match column {
            "t" => Literal::Text(array.as_string_view().value(0).to_owned()),
            "f" => Literal::Float(array.as_primitive::<Float64Type>().value(0)),
            "ok" => Literal::Bool(array.as_boolean().value(0)),
            _ => Literal::Int(array.as_primitive::<Int64Type>().value(0)),
        })
    };
    let order = |l: &Literal, r: &Literal| match (l, r) {
        (Literal::Text(l), Literal::Text(r)) => l.cmp(r),
        (Literal::Float(l), Literal::Float(r)) => l.total_cmp(r),
        (Literal::Bool(l), Literal::Bool(r)) => l.cmp(r),
        (Literal::Int(l), Literal::Int(r)) => l.cmp(r),
        _ => panic!("a constant has its column's type: {l} {r}"),
    };
    predicate.all.iter().all(|condition| {
        let found = value(condition.column());
        match condition {
            Condition::IsNull { negated, .. } => found.is_none() != *negated,
            Condition::In { values, .. } => {
                found.is_some_and(|f| values.iter().any(|v| order(&f, v).is_eq()))
            }
            Condition::Compare { op, value, .. } => found.is_some_and(|f| {
                let order = order(&f, value);
                match op {
                    Comparison::Eq => order.is_eq(),
                    Comparison::NotEq => order.is_ne(),
                    Comparison::Lt => order.is_lt(),
                    Comparison::LtEq => order.is_le(),
                    Comparison::Gt => order.is_gt(),
                    Comparison::GtEq => order.is_ge(),
                }
            }),
        }
    })
}
