//! Predicates of viewers: SQL over the columns of an edge.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use conveyor_expr::Expr;
use conveyor_flight::{Filter, Filters};
use conveyor_model::{Error, Result};

/// Longest predicate, in bytes.
const MOST_SQL: usize = 16 << 10;

/// Compiles predicates in the dialect of manifests.
pub(crate) struct SqlFilters;

impl Filters for SqlFilters {
    fn compile(&self, schema: &SchemaRef, predicate: &str) -> Result<Filter> {
        if predicate.len() > MOST_SQL {
            let what = format!("the predicate has {} bytes; {MOST_SQL} are the most", predicate.len());
            return Err(Error::bad_input("predicate-too-long", what));
        }
        let expr = Expr::compile_boolean(predicate, schema).map_err(|e| {
            let mut error = Error::bad_input(e.code, format!("the predicate cannot be used: {}", e.message));
            if let Some(offset) = e.offset {
                let before = predicate.get(..offset).unwrap_or(predicate);
                error = error.at_position(before.chars().count() + 1);
            }
            match e.help {
                Some(help) => error.help(help),
                None => error,
            }
        })?;
        Ok(Arc::new(move |rows| {
            // A row for which it fails is none for which it holds.
            let holds = expr.evaluate(rows).values;
            filter_record_batch(rows, holds.as_boolean()).map_err(|e| {
                Error::runtime("predicate-failed", "rows cannot be picked for a viewer").because(e)
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn rows() -> RecordBatch {
        let numbers = Int64Array::from(vec![Some(1), None, Some(0), Some(4)]);
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)]).unwrap()
    }

    #[test]
    fn rows_for_which_it_is_null_or_fails_are_left_out() {
        let filter = SqlFilters.compile(&rows().schema(), "4 / n > 0").unwrap();
        let kept = filter(&rows()).unwrap();
        assert_eq!(kept.column(0).as_primitive::<Int64Type>().values(), &[1, 4]);
    }

    #[test]
    fn mistakes_have_a_code_a_place_and_a_hint() {
        let error = SqlFilters.compile(&rows().schema(), "n > 1 AND nn = 2").err().unwrap();
        assert_eq!(error.code(), "unknown-column");
        let text = error.to_string();
        assert!(text.contains("position 11") && text.contains("did you mean `n`"), "{text}");
        for (sql, code) in
            [("n +", "syntax"), ("n + 1", "not-boolean"), (&"n".repeat(20_000), "predicate-too-long")]
        {
            let error = SqlFilters.compile(&rows().schema(), sql).err().unwrap();
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
