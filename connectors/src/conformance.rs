//! The suite that every connector has to pass. It panics with what went wrong, as tests do, and is public so that
//! connectors of third parties can be run through it (cargo feature `conformance`).
//!
//! ```
//! use std::sync::Arc;
//!
//! use conveyor_connectors::conformance::{SourceCase, check_source};
//! use conveyor_connectors::generator::Generator;
//! use serde_json::json;
//!
//! // A test of yours would be a `#[tokio::test]`, and the connector your own.
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
//! # runtime.block_on(async {
//! let case = SourceCase::new(Arc::new(Generator), json!({"rows": 100}));
//! check_source(&case.expect_rows(100)).await;
//! # });
//! ```
//!
//! `docs/connectors.md` says what is asked of a connector.

mod sink;
mod source;

use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use conveyor_model::Clock;

pub use sink::{SinkCase, check_sink};
pub use source::{SourceCase, check_source};

/// A clock for tests: real monotonic time, and a wall clock that starts at the same moment in every run.
#[derive(Debug)]
pub struct TestClock(Instant);

impl Default for TestClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that tests hand in")]
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TestClock {
    fn wall_us(&self) -> i64 {
        1_767_225_600_000_000 + i64::try_from(self.0.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Rows as text, one a row, `column=value` joined by `|`.
///
/// # Panics
/// If a column cannot be shown.
pub fn show(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let schema = rows.schema();
    let columns: Vec<_> = rows
        .columns()
        .iter()
        .map(|c| ArrayFormatter::try_new(c, &options).expect("every column can be shown"))
        .collect();
    let row = |i: usize| {
        let values =
            schema.fields().iter().zip(&columns).map(|(f, c)| format!("{}={}", f.name(), c.value(i)));
        values.collect::<Vec<_>>().join("|")
    };
    (0..rows.num_rows()).map(row).collect()
}
