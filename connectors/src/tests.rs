//! The connectors of this crate in the conformance suite, and what the suite does not know.

mod avro;
mod columnar;
mod files;
mod lookups;
mod sinks;
mod sources;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use conveyor_model::plan::Mode;
use conveyor_model::predicate::{Comparison, Condition, Literal, Predicate};
use conveyor_model::source::{DiscoverRequest, Read, Source, SourceConnector, SourceContext};
use conveyor_model::{Error, PipelineId, Positions, Result};
use serde_json::Value;

use crate::conformance::{TestClock, show};
use crate::file::FileSourceConnector;

/// Rows `from .. from + len` of a table with an integer, a text and a float column with nulls.
fn rows(from: i64, len: i64) -> RecordBatch {
    let ids = from..from + len;
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8View, true),
        Field::new("amount", DataType::Float64, true),
    ]);
    let names = ids.clone().map(|i| Some(format!("name {}", i % 7)));
    let amounts = ids.clone().map(|i| (i % 5 != 0).then_some(i as f64 + 0.5));
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(StringViewArray::from_iter(names)),
        Arc::new(Float64Array::from_iter(amounts)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn predicates() -> Vec<Predicate> {
    let compare = |column: &str, op, value| Condition::Compare { column: column.into(), op, value };
    vec![
        Predicate { all: vec![compare("id", Comparison::GtEq, Literal::Int(40))] },
        Predicate {
            all: vec![
                compare("name", Comparison::Eq, Literal::Text("name 3".into())),
                compare("amount", Comparison::Lt, Literal::Float(80.0)),
            ],
        },
        Predicate { all: vec![compare("id", Comparison::Lt, Literal::Int(-1))] },
        Predicate { all: vec![Condition::IsNull { column: "amount".into(), negated: false }] },
    ]
}

/// Opens a file source on all columns.
async fn open(config: &Value, mode: Mode, restore: Positions) -> Result<Box<dyn Source>> {
    let connector = FileSourceConnector::default();
    let request = DiscoverRequest { name: "s".into(), config: config.clone(), declared: Vec::new(), mode };
    let found = connector.discover(&request).await?;
    let context = SourceContext {
        pipeline: PipelineId::new("default", "case"),
        name: "s".into(),
        config: config.clone(),
        projection: found.schema.fields().iter().map(|f| f.name().clone()).collect(),
        full_schema: found.schema,
        predicate: Predicate::default(),
        mode,
        ordered: false,
        subtask: 0,
        parallelism: 1,
        batch_rows: 10,
        restore,
        clock: Arc::new(TestClock::default()),
    };
    connector.open(context).await
}

/// Reads a source to its end, or to an error.
async fn drain(source: &mut dyn Source) -> (Vec<String>, Option<Error>) {
    let mut seen = Vec::new();
    loop {
        match source.read().await {
            Ok(Read::Rows(rows)) => seen.extend(show(rows.batch.rows())),
            Ok(Read::Idle) => {}
            Ok(Read::End) => return (seen, None),
            Err(e) => return (seen, Some(e)),
        }
    }
}

/// All rows that a path names, as text; none if nothing is there.
async fn read_path(config: &Value) -> Vec<String> {
    match open(config, Mode::Job, Positions::new()).await {
        Ok(mut source) => {
            let (rows, error) = drain(&mut *source).await;
            assert!(error.is_none(), "{error:?}");
            rows
        }
        Err(e) if ["no-files", "file-not-found"].contains(&e.code()) => Vec::new(),
        Err(e) => panic!("{e}"),
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
