//! Full read-only SQL over a few streamed tables, in bounded memory.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use conveyor_model::{Error, Kind};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::{self, BoxStream, StreamExt};

use crate::error::ExprError;

/// Rows as they come.
type Rows = BoxStream<'static, Result<RecordBatch, Error>>;

/// Runs one query over `tables`, each a name, its schema and its rows, and streams the result with its schema.
///
/// Sorts, joins and aggregates take at most `memory_limit_bytes` and spill to temporary files where they can. A table
/// is a stream and can be scanned once in a query. Names keep their case, as everywhere in this crate.
///
/// # Errors
/// If the text is not one query that only reads, or does not fit the tables. While streaming: what a table's stream
/// gave, `memory-exhausted`, or `query-failed` for a value that an expression cannot take.
pub async fn query(
    sql: &str,
    tables: Vec<(String, SchemaRef, Rows)>,
    memory_limit_bytes: usize,
) -> Result<(SchemaRef, Rows), ExprError> {
    let columns: Vec<_> = tables.iter().flat_map(|(_, schema, _)| schema.fields().iter().cloned()).collect();
    let columns = Schema::new(columns);
    let planning = |e: DataFusionError| ExprError::planning(&e, sql, &columns);

    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let runtime =
        RuntimeEnvBuilder::new().with_memory_limit(memory_limit_bytes, 1.0).build_arc().map_err(planning)?;
    let context = SessionContext::new_with_config_rt(config, runtime);
    for (name, schema, rows) in tables {
        let once =
            Arc::new(Once { name: name.clone(), schema: Arc::clone(&schema), rows: Mutex::new(Some(rows)) });
        let table = StreamingTable::try_new(schema, vec![once]).map_err(planning)?;
        let quoted = datafusion::common::TableReference::bare(name);
        context.register_table(quoted, Arc::new(table)).map_err(planning)?;
    }
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = context.sql_with_options(sql, read_only).await.map_err(|error| {
        let made = planning(error);
        if made.message.contains("not supported: ") || made.message.contains("not allowed") {
            return ExprError::new("read-only", made.message)
                .help("only queries that read are possible here");
        }
        made
    })?;
    let stream = frame.execute_stream().await.map_err(planning)?;
    let schema = stream.schema();
    Ok((schema, stream.map(|rows| rows.map_err(running)).boxed()))
}

/// The error of a running query; one of our own that came through DataFusion comes out as it was.
fn running(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(cause) => match cause.downcast::<Error>() {
            Ok(own) => *own,
            Err(other) => Error::runtime("query-failed", "the query failed").because(other),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => running(*inner),
        other if matches!(other.find_root(), DataFusionError::ResourcesExhausted(_)) => {
            Error::new(Kind::Exhausted, "memory-exhausted", "the query needs more memory than it may take")
                .because(other)
                .help("read less: add a condition, or raise the limit")
        }
        other => Error::runtime("query-failed", "the query failed").because(other),
    }
}

/// A table whose rows come from a stream, once.
struct Once {
    name: String,
    schema: SchemaRef,
    rows: Mutex<Option<Rows>>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}", self.name)
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().ok().and_then(|mut rows| rows.take());
        let name = self.name.clone();
        let rows = rows.unwrap_or_else(|| {
            let twice = Error::bad_input("table-read-twice", format!("the query reads table `{name}` twice"))
                .help("a table is a stream here: read it once, with CASE or window functions instead of a self-join");
            stream::once(async move { Err(twice) }).boxed()
        });
        let rows = rows.map(|batch| batch.map_err(|e| DataFusionError::External(Box::new(e))));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}
