//! The targets: everything that reads what a stranger wrote.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use conveyor_connectors::registry;
use conveyor_expr::{Expr, Select};
use conveyor_planner::{Document, parse};

use crate::files;

/// How deep an input went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Refused at the door: a header, a syntax error.
    Refused,
    /// Past the header or the syntax.
    Opened,
    /// Some rows came out.
    Rows,
    /// Taken as a whole.
    Whole,
}

/// What came of an input.
pub(crate) struct Answer {
    /// How deep it went.
    pub(crate) depth: Depth,
    /// Why not deeper.
    pub(crate) error: Option<String>,
}

impl From<Depth> for Answer {
    fn from(depth: Depth) -> Self {
        Answer { depth, error: None }
    }
}

/// What takes an input.
pub(crate) type Run = Box<dyn Fn(&[u8]) -> Answer>;

/// One target.
pub(crate) struct Target {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// Inputs to start from; never empty.
    pub(crate) corpus: Vec<Vec<u8>>,
    /// Whether parts of an input are found by offsets.
    pub(crate) binary: bool,
    /// Takes an input; must neither panic nor hang. Errors are answers.
    pub(crate) run: Run,
}

/// All targets.
///
/// # Errors
/// When a corpus cannot be made.
pub(crate) fn all() -> Result<Vec<Target>> {
    let mut targets = vec![manifest(), expression()];
    targets.extend(files::targets()?);
    Ok(targets)
}

fn manifest() -> Target {
    let corpus = ["flights", "logs-ndjson", "orders", "nexmark"]
        .map(|name| conveyor_tests::workspace::root().join("examples").join(name).join("pipeline.yaml"))
        .into_iter()
        .filter_map(|path| std::fs::read(path).ok())
        .collect();
    let registry = registry();
    let run = move |input: &[u8]| {
        let text = String::from_utf8_lossy(input).into_owned();
        let parsed = parse(&[Document { name: "fuzz.yaml".into(), text }], &registry);
        // Rendering walks back into the text, with positions that the parser made.
        for diagnostic in &parsed.diagnostics {
            assert!(!diagnostic.to_string().is_empty());
        }
        match parsed.diagnostics.iter().any(|d| d.code.starts_with("yaml")) {
            true => Depth::Refused,
            false if parsed.diagnostics.is_empty() => Depth::Whole,
            false => Depth::Opened,
        }
        .into()
    };
    Target { name: "manifest", corpus, binary: false, run: Box::new(run) }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", DataType::Float64, true),
        Field::new("s", DataType::Utf8View, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
    ]))
}

fn rows() -> RecordBatch {
    let schema = columns();
    let times = arrow::array::TimestampMicrosecondArray::from(vec![Some(0), None, Some(i64::MAX)])
        .with_timezone("UTC");
    let all: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])),
        Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])),
        Arc::new(StringViewArray::from(vec![Some("7"), Some("x"), None])),
        Arc::new(times),
    ];
    RecordBatch::try_new(schema, all).expect("the columns fit the schema")
}

fn expression() -> Target {
    let corpus = [
        "a > 15 AND s IN ('JFK', 'EWR')",
        "CASE WHEN b < 60 THEN 'short' ELSE upper(substr(s, 1, 3)) END",
        "CAST(s AS BIGINT) + coalesce(a, 0) % 3",
        "date_trunc('hour', t) + INTERVAL '1 day'",
        "regexp_replace(s, '(a|b)+', 'x') || '-' || a",
        "SELECT a, b * 2 AS c FROM input WHERE s IS NOT NULL",
    ]
    .map(|sql| sql.as_bytes().to_vec());
    let (schema, rows) = (columns(), rows());
    let run = move |input: &[u8]| {
        let sql = String::from_utf8_lossy(input);
        let mut depth = Depth::Refused;
        if let Ok(expr) = Expr::compile(&sql, &schema) {
            assert_eq!(expr.evaluate(&rows).values.len(), rows.num_rows());
            depth = Depth::Whole;
        }
        if let Ok(select) = Select::compile(&sql, &schema) {
            // An error is an answer.
            depth = if select.evaluate(&rows).is_ok() { Depth::Whole } else { Depth::Opened };
        }
        depth.into()
    };
    Target { name: "expression", corpus: corpus.to_vec(), binary: false, run: Box::new(run) }
}
