//! The columns of a dead-letter file.
//!
//! | column | type | what |
//! |---|---|---|
//! | `pipeline_id` | text | `namespace/name` |
//! | `plan_version` | int64 | version of the plan that ran |
//! | `epoch` | int64, nullable | epoch; null in a file that was full before the epoch's number was known: its name has it |
//! | `incarnation` | int64 | start of the pipeline |
//! | `operator_id`, `operator_name` | text | the step that failed |
//! | `source`, `split` | text | where the row was read |
//! | `position` | int64 | byte offset or row number in the split |
//! | `row_index` | int64 | number of the row within its record |
//! | `code`, `message` | text | why it failed |
//! | `column_name` | text, nullable | the column to blame |
//! | `raw` | binary, nullable | the original bytes, where the row never became typed |
//! | `row_json` | text, nullable | the typed row as a JSON object, nulls written out |
//! | `row_schema` | text, nullable | its Arrow schema as JSON, so that a replay can type it again |
//! | `event_time` | timestamp µs UTC, nullable | event time |
//! | `failed_at` | timestamp µs UTC | when it failed |
//! | `attempts` | int64 | how often it was tried |
//!
//! A row's identity is (`source`, `split`, `position`, `row_index`), and a dead letter's is that and `operator_id`.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Version of the files' form, in their key-value metadata under [`FORMAT_KEY`].
pub const FORMAT: &str = "1";
/// Key of the version.
pub const FORMAT_KEY: &str = "conveyor.dead-letters.format";

/// `namespace/name`.
pub const PIPELINE_ID: &str = "pipeline_id";
/// Plan version.
pub const PLAN_VERSION: &str = "plan_version";
/// Epoch.
pub const EPOCH: &str = "epoch";
/// Incarnation.
pub const INCARNATION: &str = "incarnation";
/// Stable id of the step.
pub const OPERATOR_ID: &str = "operator_id";
/// Name of the step.
pub const OPERATOR_NAME: &str = "operator_name";
/// Source.
pub const SOURCE: &str = "source";
/// Split.
pub const SPLIT: &str = "split";
/// Position of the record in its split.
pub const POSITION: &str = "position";
/// Number of the row within its record.
pub const ROW_INDEX: &str = "row_index";
/// Stable error code.
pub const CODE: &str = "code";
/// Message.
pub const MESSAGE: &str = "message";
/// Column to blame.
pub const COLUMN_NAME: &str = "column_name";
/// Original bytes.
pub const RAW: &str = "raw";
/// Typed row as JSON.
pub const ROW_JSON: &str = "row_json";
/// Arrow schema of the typed row as JSON.
pub const ROW_SCHEMA: &str = "row_schema";
/// Event time.
pub const EVENT_TIME: &str = "event_time";
/// Time of failure.
pub const FAILED_AT: &str = "failed_at";
/// Tries.
pub const ATTEMPTS: &str = "attempts";

/// Type of the two times.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8View, nullable);
    let int = |name, nullable| Field::new(name, DataType::Int64, nullable);
    Arc::new(Schema::new(vec![
        text(PIPELINE_ID, false),
        int(PLAN_VERSION, false),
        int(EPOCH, true),
        int(INCARNATION, false),
        text(OPERATOR_ID, false),
        text(OPERATOR_NAME, false),
        text(SOURCE, false),
        text(SPLIT, false),
        int(POSITION, false),
        int(ROW_INDEX, false),
        text(CODE, false),
        text(MESSAGE, false),
        text(COLUMN_NAME, true),
        Field::new(RAW, DataType::Binary, true),
        text(ROW_JSON, true),
        text(ROW_SCHEMA, true),
        Field::new(EVENT_TIME, timestamp(), true),
        Field::new(FAILED_AT, timestamp(), false),
        int(ATTEMPTS, false),
    ]))
});

/// The schema of batches that a reader gives.
pub fn schema() -> SchemaRef {
    SCHEMA.clone()
}
